package awsidentity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE"

func signToken(t *testing.T, algorithm jose.SignatureAlgorithm, kid string, key any, claims map[string]any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestWebIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	provider, err := admin.CreateOpenIDConnectProvider(background, &iam.CreateOpenIDConnectProviderInput{Url: aws.String(issuer), ClientIDList: []string{"sts.amazonaws.com"}})
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.SetKeys(issuer, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{KeyID: "rsa", Algorithm: "RS256", Use: "sig", Key: &rsaKey.PublicKey}, {KeyID: "ec", Algorithm: "ES256", Use: "sig", Key: &ecKey.PublicKey},
	}})
	short := strings.TrimPrefix(issuer, "https://")
	role, err := w.SeedRole(customer, Role{Name: "userflyterole", Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Principal":{"Federated":"` + *provider.OpenIDConnectProviderArn + `"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{
		"StringEquals":{"` + short + `:aud":"sts.amazonaws.com"},"StringLike":{"` + short + `:sub":"system:serviceaccount:flyte-*:default"}}}]}`})
	if err != nil {
		t.Fatal(err)
	}
	notFederated, err := w.SeedRole(customer, Role{Name: "other", Trust: trust("arn:aws:iam::"+customer+":root", "")})
	if err != nil {
		t.Fatal(err)
	}
	now := w.clock.now()
	claims := func(change ...any) map[string]any {
		out := map[string]any{
			"iss": issuer, "aud": []string{"sts.amazonaws.com"}, "sub": "system:serviceaccount:flyte-dev:default",
			"exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
		}
		for i := 0; i < len(change); i += 2 {
			if change[i+1] == nil {
				delete(out, change[i].(string))
			} else {
				out[change[i].(string)] = change[i+1]
			}
		}
		return out
	}
	unsecured := func(c map[string]any) string {
		part := func(v any) string {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return base64.RawURLEncoding.EncodeToString(b)
		}
		return part(map[string]string{"alg": "none", "typ": "JWT", "kid": "rsa"}) + "." + part(c) + "."
	}
	good := signToken(t, jose.RS256, "rsa", rsaKey, claims())
	tampered := func() string {
		parts := strings.Split(good, ".")
		body, _ := json.Marshal(claims("sub", "system:serviceaccount:flyte-prod:default"))
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString(body) + "." + parts[2]
	}
	publicKeyAsSecret := []byte(strings.Repeat("public", 12))

	// The SDK signs nothing here, as its users in pods do not.
	client := sts.New(sts.Options{Region: "eu-central-1", BaseEndpoint: &w.url, Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1})
	for _, test := range []struct {
		name  string
		role  string
		token string
		code  string
		text  string
	}{
		{"lets a pod in", role, good, "", ""},
		{"lets a pod in whose token is signed with ES256", role, signToken(t, jose.ES256, "ec", ecKey, claims()), "", ""},
		{"takes an audience that is no list", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("aud", "sts.amazonaws.com")), "", ""},
		{"refuses an expired token", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("exp", now.Add(-time.Second).Unix())), "ExpiredTokenException", "Token expired"},
		{"refuses a token of tomorrow", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("nbf", now.Add(24*time.Hour).Unix())), "InvalidIdentityToken", "not valid yet"},
		{"refuses a token without an end", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("exp", nil)), "InvalidIdentityToken", "exp"},
		{"refuses a token without a subject", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("sub", nil)), "InvalidIdentityToken", "sub"},
		{"refuses another audience", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("aud", []string{"kubernetes"})), "InvalidIdentityToken", "Incorrect token audience"},
		{"refuses another issuer", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("iss", "https://evil.example")), "InvalidIdentityToken", "No OpenIDConnect provider found"},
		{"refuses an issuer by http", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("iss", "http://"+short)), "InvalidIdentityToken", "No OpenIDConnect provider found"},
		{"refuses the algorithm none", role, unsecured(claims()), "InvalidIdentityToken", "not a valid JWT"},
		{"refuses a symmetric algorithm", role, signToken(t, jose.HS256, "rsa", publicKeyAsSecret, claims()), "InvalidIdentityToken", "not a valid JWT"},
		{"refuses a key that nobody knows", role, signToken(t, jose.RS256, "unknown", otherKey, claims()), "InvalidIdentityToken", "Couldn't retrieve verification key"},
		{"refuses another key under a known name", role, signToken(t, jose.RS256, "rsa", otherKey, claims()), "InvalidIdentityToken", "could not be verified"},
		{"refuses a known key with another algorithm", role, signToken(t, jose.RS512, "rsa", rsaKey, claims()), "InvalidIdentityToken", "Couldn't retrieve verification key"},
		{"refuses claims that were changed", role, tampered(), "InvalidIdentityToken", "could not be verified"},
		{"refuses another subject", role, signToken(t, jose.RS256, "rsa", rsaKey, claims("sub", "system:serviceaccount:kube-system:default")), "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{"refuses a role that trusts no provider", notFederated, good, "AccessDenied", ""},
		{"refuses a role that is not there", strings.Replace(role, "userflyterole", "no-such", 1), good, "AccessDenied", ""},
		{"refuses what is no token", role, "hello", "InvalidIdentityToken", "not a valid JWT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := client.AssumeRoleWithWebIdentity(background, &sts.AssumeRoleWithWebIdentityInput{
				RoleArn: &test.role, RoleSessionName: aws.String("pod"), WebIdentityToken: &test.token,
			})
			expect(t, err, test.code, test.text)
			if test.code != "" || err != nil {
				return
			}
			if got := *out.SubjectFromWebIdentityToken; got != "system:serviceaccount:flyte-dev:default" {
				t.Errorf("got subject %s, want the pod's", got)
			}
			me, err := w.sts(Credentials{AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken}).GetCallerIdentity(background, nil)
			if err != nil || !strings.HasSuffix(*me.Arn, ":assumed-role/userflyterole/pod") {
				t.Errorf("got %v (%v), want the role's session", me, err)
			}
		})
	}
	t.Run("refuses every token once the provider is gone", func(t *testing.T) {
		if _, err := admin.DeleteOpenIDConnectProvider(background, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: provider.OpenIDConnectProviderArn}); err != nil {
			t.Fatal(err)
		}
		_, err := client.AssumeRoleWithWebIdentity(background, &sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: aws.String("pod"), WebIdentityToken: &good})
		expect(t, err, "InvalidIdentityToken", "No OpenIDConnect provider found")
	})
}

func TestProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	for _, test := range []struct {
		name, url, code string
	}{
		{"takes https", "https://a.example/id/1", ""},
		{"refuses the same once more", "https://a.example/id/1", "EntityAlreadyExists"},
		{"refuses a port", "https://a.example:8443/id/1", "ValidationError"},
		{"refuses http", "http://a.example/id/1", "ValidationError"},
		{"refuses a query", "https://a.example/?x=1", "ValidationError"},
		{"refuses what is no URL", "a.example", "ValidationError"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := admin.CreateOpenIDConnectProvider(background, &iam.CreateOpenIDConnectProviderInput{Url: &test.url, ThumbprintList: []string{strings.Repeat("a", 40)}})
			expect(t, err, test.code, "")
		})
	}
	arn := aws.String("arn:aws:iam::111122223333:oidc-provider/a.example/id/1")
	if _, err := admin.AddClientIDToOpenIDConnectProvider(background, &iam.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, ClientID: aws.String("sts.amazonaws.com")}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UpdateOpenIDConnectProviderThumbprint(background, &iam.UpdateOpenIDConnectProviderThumbprintInput{OpenIDConnectProviderArn: arn, ThumbprintList: []string{strings.Repeat("b", 40)}}); err != nil {
		t.Fatal(err)
	}
	got, err := admin.GetOpenIDConnectProvider(background, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn})
	if err != nil || got.ClientIDList[0] != "sts.amazonaws.com" || got.ThumbprintList[0] != strings.Repeat("b", 40) || *got.Url != "a.example/id/1" {
		t.Errorf("got %+v (%v), want client, thumbprint and URL without scheme", got, err)
	}
	list, err := admin.ListOpenIDConnectProviders(background, nil)
	if err != nil || len(list.OpenIDConnectProviderList) != 1 {
		t.Errorf("got %v (%v), want one", list, err)
	}
}
