package awsidentity

import (
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"biplane.dev/biplane/provision/iampolicy"
)

// webIdentity is what a token says, once it is believed.
type webIdentity struct {
	provider *provider
	subject  string
	audience string // the one that the provider knows
	keys     map[string][]string
}

// assumeRoleWithWebIdentity is called without a signature; the token is the
// proof. The keys it is checked with are those handed to SetKeys.
func (c *call) assumeRoleWithWebIdentity() (any, error) {
	a, err := c.assumption()
	if err != nil {
		return nil, err
	}
	token, err := c.stsText("WebIdentityToken", 4, 20000, nil)
	if err != nil {
		return nil, err
	}
	refused := errDenied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
	visible := c.s.visible(c.view.tx)
	r, accountID, err := roleByARN(visible, a.roleARN)
	if absent(err) {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	who, err := c.s.verifyToken(visible, accountID, token)
	if err != nil {
		return nil, err
	}

	trust, err := trustOf(visible, r)
	if err != nil {
		return nil, err
	}
	e, err := iampolicy.Compile(iampolicy.Policies{Resource: trust})
	if err != nil {
		return nil, err
	}
	req := request("sts:AssumeRoleWithWebIdentity", r.ARN, iampolicy.Context{})
	req.Principal = iampolicy.Principal{Type: iampolicy.Federated, ARN: who.provider.ARN}
	req.ResourceAccount = accountID
	for key, values := range who.keys {
		req.Context.Set(key, values...)
	}
	req.Context.Set("sts:RoleSessionName", a.sessionName)
	req.Context.Set("aws:FederatedProvider", who.provider.ARN)
	req.Context.Set("aws:SecureTransport", "true")
	timeKeys(req.Context, visible.now)
	if e.Decide(&req) != iampolicy.Allowed {
		return nil, refused
	}

	if a.seconds > r.MaxSession {
		return nil, errInvalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	if err := c.sessionPolicies(&a, accountID, nil); err != nil {
		return nil, err
	}
	one := &session{
		Account: accountID, Role: r.Name, RoleID: r.ID, Name: a.sessionName, Policy: a.policy, PolicyARNs: a.policyARNs,
		Provider: who.provider.ARN, Keys: who.keys,
	}
	if err := c.issue(one, a.seconds); err != nil {
		return nil, err
	}
	return struct {
		Credentials                 xmlCredentials
		SubjectFromWebIdentityToken string
		AssumedRoleUser             xmlAssumed
		PackedPolicySize            *int `xml:",omitempty"`
		Provider                    string
		Audience                    string
	}{showCredentials(one), who.subject, assumed(r, one), packedSize(a), who.provider.ARN, who.audience}, nil
}

func errToken(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "InvalidIdentityToken", format, args...)
}

// unknownKeyError refuses a token because there is no key to check it with.
type unknownKeyError struct{ issuer string }

func (e *unknownKeyError) Error() string { return e.Unwrap().Error() }

func (e *unknownKeyError) Unwrap() error {
	return errToken("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements")
}

// verifyToken believes a token that is signed by a key of its issuer, for an
// audience that the account's provider has, at this time. No algorithm but
// these is accepted: "none" and the symmetric ones, where the public key would
// serve as the secret, are not among them.
func (s *Service) verifyToken(v *view, accountID, token string) (*webIdentity, error) {
	algorithms := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return nil, errToken("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	// The issuer is read before the signature is checked, to find the key.
	var unverified jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unverified); err != nil {
		return nil, errToken("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	address, isHTTPS := strings.CutPrefix(unverified.Issuer, "https://")
	var found *provider
	if isHTTPS {
		err = each(v, accountID, providers, func(_ string, p *provider) error {
			if p.URL == strings.TrimSuffix(address, "/") {
				found = p
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, errToken("No OpenIDConnect provider found in your account for %s", printable(unverified.Issuer))
	}
	key := s.key(unverified.Issuer, parsed.Headers[0])
	if key == nil {
		return nil, &unknownKeyError{unverified.Issuer}
	}
	claims := struct {
		jwt.Claims
		AuthorizedParty string   `json:"azp"`
		Methods         []string `json:"amr"`
	}{}
	if err := parsed.Claims(key, &claims); err != nil {
		return nil, errToken("The signature of the ID Token provided could not be verified")
	}

	now := v.now
	switch {
	case claims.Subject == "":
		return nil, errToken("Missing a required claim: sub")
	case claims.Expiry == nil:
		return nil, errToken("Missing a required claim: exp")
	case claims.IssuedAt == nil:
		return nil, errToken("Missing a required claim: iat")
	case !now.Before(claims.Expiry.Time()):
		return nil, refuse(http.StatusBadRequest, "ExpiredTokenException", "Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), claims.Expiry.Time().Unix())
	case claims.NotBefore != nil && now.Add(tokenSkew).Before(claims.NotBefore.Time()), now.Add(tokenSkew).Before(claims.IssuedAt.Time()):
		return nil, errToken("The ID Token provided is not valid yet")
	}
	audiences := []string(claims.Audience)
	if claims.AuthorizedParty != "" {
		audiences = []string{claims.AuthorizedParty}
	}
	who := &webIdentity{provider: found, subject: claims.Subject}
	for _, one := range audiences {
		for _, client := range found.ClientIDs {
			if one == client {
				who.audience = one
			}
		}
	}
	if who.audience == "" {
		return nil, errToken("Incorrect token audience")
	}
	who.keys = map[string][]string{
		found.URL + ":sub": {claims.Subject},
		found.URL + ":aud": {who.audience},
	}
	if claims.AuthorizedParty != "" {
		who.keys[found.URL+":oaud"] = claims.Audience
	}
	if len(claims.Methods) > 0 {
		who.keys[found.URL+":amr"] = claims.Methods
	}
	return who, nil
}

// tokenSkew is how far an issuer's clock may be ahead. An expired token is
// expired all the same.
const tokenSkew = 5 * time.Minute

// key finds the public key that a token's header names: by kid, or the only one
// where the header names none; of the algorithm that the key is for.
func (s *Service) key(issuer string, header jose.Header) any {
	s.keysLock.RLock()
	defer s.keysLock.RUnlock()
	set := s.keySets[strings.TrimSuffix(issuer, "/")]
	candidates := set.Keys
	if header.KeyID != "" {
		candidates = set.Key(header.KeyID)
	}
	if len(candidates) != 1 {
		return nil
	}
	one := candidates[0]
	if one.Algorithm != "" && one.Algorithm != header.Algorithm || !one.Valid() {
		return nil
	}
	return one.Public().Key
}
