package template

import (
	"net/url"
	"regexp"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// LinkRegions are those for which the published page has a link, in its order.
var LinkRegions = []string{"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-west-2", "eu-central-1"}

// Link is what a quick-create link opens: CloudFormation's page with everything filled
// in, for a person to look at and to press "Create stack".
type Link struct {
	Region      access.Region
	TemplateURL string // in S3, see CheckURL
	StackName   string
	RoleName    string
	ExternalID  string // empty leaves it to be typed
	AnnounceURL string // empty: the stack tells nobody
}

// consoles are the hosts of AWS's console, by partition; a region's is below one.
var consoles = map[string]string{
	"aws":        "console.aws.amazon.com",
	"aws-us-gov": "console.amazonaws-us-gov.com",
	"aws-cn":     "console.amazonaws.cn",
}

// String is the link. Names in it are case sensitive. What follows # stays in the
// browser, so the region is named before it twice, in the host and in the query.
func (l Link) String() string {
	link := "https://" + l.Region.Name + "." + consoles[l.Region.Partition] + "/cloudformation/home?region=" + l.Region.Name +
		"#/stacks/quickcreate?templateURL=" + url.QueryEscape(l.TemplateURL) +
		"&stackName=" + url.QueryEscape(l.StackName) +
		"&param_" + RoleNameParameter + "=" + url.QueryEscape(l.RoleName)
	if l.ExternalID != "" {
		link += "&param_" + ExternalIDParameter + "=" + url.QueryEscape(l.ExternalID)
	}
	if l.AnnounceURL != "" {
		link += "&param_" + AnnounceURLParameter + "=" + url.QueryEscape(l.AnnounceURL)
	}
	return link
}

// PublishedURL is where the vendor publishes the template t.
func (t *Template) PublishedURL(v *vendor.Profile) string {
	name := "access-" + string(t.Metadata.Profile)
	if t.Metadata.PrivateEndpoint {
		name += "-private-endpoint"
	}
	if t.Metadata.DeletePermissions {
		name += "-delete-permissions"
	}
	return v.TemplateURL + "v" + t.Metadata.PolicyVersion + "/" + name + ".template.json"
}

// An object in S3, as CloudFormation takes its address: with the bucket in the host, or
// before the key.
var (
	bucketInHost = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+[a-z0-9]\.s3(\.dualstack)?([.-]([a-z0-9-]+))?\.amazonaws\.com(\.cn)?$`)
	bucketInPath = regexp.MustCompile(`^s3(\.dualstack)?([.-]([a-z0-9-]+))?\.amazonaws\.com(\.cn)?$`)
)

// CheckURL refuses an address from which CloudFormation takes no template, in the
// region's partition. Its errors are *usererr.Error.
func CheckURL(address string, region access.Region) error {
	refuse := func(why string) *usererr.Error {
		return usererr.New(usererr.Invalid, "the template's address %q cannot be used: %s", address, why)
	}
	const form = "https://BUCKET.s3.REGION.amazonaws.com/KEY"
	u, err := url.Parse(address)
	if err != nil {
		return usererr.New(usererr.Invalid, "the template's address cannot be read").WithHint("give one of the form " + form).Because(err)
	}
	switch u.Scheme {
	case "https":
	case "s3":
		return refuse("CloudFormation takes the https address of an object, not its S3 URI").
			WithHint("give https://%s.s3.amazonaws.com%s", u.Host, u.EscapedPath())
	default:
		return refuse("CloudFormation takes a template from S3 alone, by https").WithHint("give one of the form " + form)
	}
	host, least := bucketInPath.FindStringSubmatch(u.Host), 2 // names in the path
	if host == nil {
		host, least = bucketInHost.FindStringSubmatch(u.Host), 1
	}
	query := u.Query()
	query.Del("versionId")
	switch {
	case u.User != nil:
		return refuse("it has a user's name in it").WithHint("give one of the form " + form)
	case host == nil || strings.HasPrefix(host[3], "website"):
		return refuse("its host is not one of S3").WithHint("give one of the form " + form)
	case len(strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' })) < least || strings.HasSuffix(u.Path, "/"):
		return refuse("it names no object").WithHint("give one of the form " + form)
	case len(query) > 0 || u.Fragment != "":
		return refuse("there may be a versionId behind the object's name, and nothing else").
			WithHint("leave the rest out: who gets the link gets a signature in it, too")
	}
	partition := "aws"
	if host[4] != "" {
		partition = "aws-cn"
	} else if in, ok := access.LookUpRegion(host[3]); ok {
		partition = in.Partition
	}
	if partition != region.Partition {
		return refuse("its bucket is in the partition "+partition+", and the region "+region.Name+" in "+region.Partition).
			WithHint("put the template into a bucket of a region of %s, and give its address with --template-url", region.Partition)
	}
	return nil
}
