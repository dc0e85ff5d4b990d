package awsidentity

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// providerURL reads Url: https, a host, no port, no query. What IAM keeps is
// without the scheme.
func (c *call) providerURL() (string, error) {
	text := c.p.get("Url")
	if len(text) < 1 || len(text) > 255 {
		return "", errConstraint(text, "url", "Member must have length from 1 to 255")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", errInvalid("Invalid Open ID Connect Provider URL")
	case u.Scheme != "https":
		return "", errInvalid("Invalid Open ID Connect Provider URL: it must begin with https://")
	case u.Port() != "" || strings.HasSuffix(u.Host, ":"):
		return "", errInvalid("Invalid Open ID Connect Provider URL: it must not have a port number")
	}
	return strings.TrimSuffix(strings.TrimPrefix(text, "https://"), "/"), nil
}

func (c *call) provider() (*provider, error) {
	arn, err := c.arn("OpenIDConnectProviderArn")
	if err != nil {
		return nil, err
	}
	p, err := get[provider](c.view, c.account, providers, arn)
	if absent(err) {
		return nil, errNoSuch("OpenIDConnect Provider not found for arn %s", arn)
	}
	return p, err
}

func (c *call) saveProvider(p *provider) error {
	return put(c.view, c.account, providers, p.ARN, p)
}

var thumbprintClass = regexp.MustCompile(`^[0-9A-Fa-f]{40}$`)

func (c *call) thumbprints() ([]string, error) {
	list := c.p.list("ThumbprintList")
	if len(list) > maxThumbprints {
		return nil, refuse(http.StatusBadRequest, "InvalidInput", "Thumbprint list must contain fewer than %d entries.", maxThumbprints+1)
	}
	for _, one := range list {
		if !thumbprintClass.MatchString(one) {
			return nil, errConstraint(one, "thumbprintList", "Member must have length of 40 hexadecimal digits")
		}
	}
	return list, nil
}

func checkClientIDs(list []string) error {
	if len(list) > maxClientIDs {
		return errLimit("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: %d", maxClientIDs)
	}
	for _, one := range list {
		if len(one) < 1 || len(one) > 255 {
			return errConstraint(one, "clientID", "Member must have length from 1 to 255")
		}
	}
	return nil
}

func (c *call) createOpenIDConnectProvider() (any, error) {
	address, err := c.providerURL()
	if err != nil {
		return nil, err
	}
	clients := c.p.list("ClientIDList")
	if err := checkClientIDs(clients); err != nil {
		return nil, err
	}
	thumbprints, err := c.thumbprints()
	if err != nil {
		return nil, err
	}
	tags, err := c.newTags()
	if err != nil {
		return nil, err
	}
	arn := c.arnOf("oidc-provider/" + address)
	if _, err := get[provider](c.view, c.account, providers, arn); err == nil {
		return nil, errExists("Provider with url https://%s already exists.", address)
	} else if !absent(err) {
		return nil, err
	}
	if err := underQuota(c, providers, maxProviders, "OpenIdConnectProvidersPerAccount"); err != nil {
		return nil, err
	}
	p := &provider{ARN: arn, URL: address, ClientIDs: clients, Thumbprints: thumbprints, Created: c.now, Tags: tags}
	return struct {
		OpenIDConnectProviderArn string
		Tags                     *members[Tag]
	}{arn, optional(tags)}, c.saveProvider(p)
}

func (c *call) getOpenIDConnectProvider() (any, error) {
	p, err := c.provider()
	if err != nil {
		return nil, err
	}
	return struct {
		Url            string
		ClientIDList   members[string]
		ThumbprintList members[string]
		CreateDate     string
		Tags           *members[Tag]
	}{p.URL, members[string]{p.ClientIDs}, members[string]{p.Thumbprints}, stamp(p.Created), optional(p.Tags)}, nil
}

func (c *call) listOpenIDConnectProviders() (any, error) {
	type entry struct{ Arn string }
	var out members[entry]
	err := each(c.view, c.account, providers, func(_ string, p *provider) error {
		out.Member = append(out.Member, entry{p.ARN})
		return nil
	})
	return struct{ OpenIDConnectProviderList members[entry] }{out}, err
}

func (c *call) deleteOpenIDConnectProvider() (any, error) {
	arn, err := c.arn("OpenIDConnectProviderArn")
	if err != nil {
		return nil, err
	}
	return nil, put[provider](c.view, c.account, providers, arn, nil) // no error when there is none, as with AWS
}

func (c *call) updateOpenIDConnectProviderThumbprint() (any, error) {
	p, err := c.provider()
	if err != nil {
		return nil, err
	}
	if p.Thumbprints, err = c.thumbprints(); err != nil {
		return nil, err
	}
	return nil, c.saveProvider(p)
}

func (c *call) addClientIDToOpenIDConnectProvider() (any, error) {
	p, err := c.provider()
	if err != nil {
		return nil, err
	}
	if id := c.p.get("ClientID"); !slices.Contains(p.ClientIDs, id) {
		p.ClientIDs = append(p.ClientIDs, id)
	}
	if err := checkClientIDs(p.ClientIDs); err != nil {
		return nil, err
	}
	return nil, c.saveProvider(p)
}

func (c *call) removeClientIDFromOpenIDConnectProvider() (any, error) {
	p, err := c.provider()
	if err != nil {
		return nil, err
	}
	id := c.p.get("ClientID")
	p.ClientIDs = slices.DeleteFunc(p.ClientIDs, func(one string) bool { return one == id })
	return nil, c.saveProvider(p)
}
