package s3_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"
)

func presignGet(ctx context.Context, signer *awss3.PresignClient, bucket, key string, options ...func(*awss3.PresignOptions)) (string, error) {
	out, err := signer.PresignGetObject(ctx, &awss3.GetObjectInput{Bucket: &bucket, Key: &key}, options...)
	if err != nil {
		return "", err
	}
	return out.URL, nil
}

// unsigned is a token with "alg": "none" and no signature, or with a signature
// by a key that is a secret and was no secret.
func unsigned(claims map[string]any) string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]string{"alg": "none", "typ": "JWT", "kid": "first"}) + "." + part(claims) + "."
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	arn := w.role(t, "tokens", trust("StringEquals", "union:executor"), "")
	prefix := w.role(t, "tokens-by-prefix", trust("StringLike", "flytesnacks-*:default"), "")
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(w.keys.public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := func() *token { return w.keys.token("union:executor") }
	now := time.Now()
	by := func(one *token, algorithm jose.SignatureAlgorithm, key any, id string) *token {
		one.algorithm, one.key, one.keyID = algorithm, key, id
		return one
	}
	tampered := func() string {
		parts := strings.Split(good().signed(t), ".")
		claims, _ := json.Marshal(good().with("sub", "system:serviceaccount:union:other").claims)
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString(claims) + "." + parts[2]
	}

	for _, c := range []struct {
		name, role, token, want string
	}{
		{"takes the token of the account that the role trusts", arn, good().signed(t), ""},
		{"takes a subject that is like the one of the trust", prefix, w.keys.token("flytesnacks-development:default").signed(t), ""},
		{"refuses another subject", arn, w.keys.token("union:proxy-system").signed(t), "AccessDenied"},
		{"refuses the same name in another namespace", arn, w.keys.token("other:executor").signed(t), "AccessDenied"},
		{"refuses a subject that is not like the one of the trust", prefix, w.keys.token("kube-system:default").signed(t), "AccessDenied"},
		{"refuses a role that is not there as one that does not trust", "arn:aws:iam::" + account + ":role/nobody", good().signed(t), "AccessDenied"},
		{"refuses another audience", arn, good().with("aud", []string{"https://kubernetes.default.svc"}).signed(t), "InvalidIdentityToken"},
		{"refuses another issuer", arn, good().with("iss", "https://oidc.eks.eu-central-1.amazonaws.com/id/FFFF").signed(t), "InvalidIdentityToken"},
		{"refuses an issuer that is not https", arn, good().with("iss", strings.Replace(issuer, "https", "http", 1)).signed(t), "InvalidIdentityToken"},
		{"refuses another key under a known name", arn, by(good(), jose.RS256, stranger, "first").signed(t), "InvalidIdentityToken"},
		{"refuses a key that nobody knows", arn, by(good(), jose.RS256, stranger, "unheard-of").signed(t), "InvalidIdentityToken"},
		{"refuses a key of another kind", arn, by(good(), jose.ES256, ecKey(t), "first").signed(t), "InvalidIdentityToken"},
		{"refuses a token without signature", arn, unsigned(good().claims), "InvalidIdentityToken"},
		{"refuses the public key as a shared secret", arn, by(good(), jose.HS256, public, "first").signed(t), "InvalidIdentityToken"},
		{"refuses an expired token", arn, good().with("iat", now.Add(-2*time.Hour).Unix()).with("nbf", now.Add(-2*time.Hour).Unix()).with("exp", now.Add(-time.Second).Unix()).signed(t), "ExpiredTokenException"},
		{"refuses a token that is not valid yet", arn, good().with("nbf", now.Add(time.Hour).Unix()).signed(t), "InvalidIdentityToken"},
		{"refuses a token from the future", arn, good().with("iat", now.Add(time.Hour).Unix()).signed(t), "InvalidIdentityToken"},
		{"refuses a token without an end", arn, good().with("exp", nil).signed(t), "InvalidIdentityToken"},
		{"refuses a token whose claims were changed", arn, tampered(), "InvalidIdentityToken"},
		{"refuses what is no token", arn, "not a token", "InvalidIdentityToken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := w.assume(c.role, c.token, "")
			wantCode(t, err, c.want)
		})
	}

	for _, c := range []struct{ name, method, query, body string }{
		{"takes parameters in the body", http.MethodPost, "", form("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", arn, "RoleSessionName", "x1", "WebIdentityToken", good().signed(t))},
		{"takes a POST with all parameters in the query and no body", http.MethodPost, form("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", arn, "RoleSessionName", "x1", "WebIdentityToken", good().signed(t)), ""},
		{"takes a GET", http.MethodGet, form("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", arn, "RoleSessionName", "x1", "WebIdentityToken", good().signed(t)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), c.method, w.sts+"/?"+c.query, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.body != "" {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			answer, err := w.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("got %s, want 200 OK", answer.Status)
			}
		})
	}
}

func TestKeysOfTheClusterRotate(t *testing.T) {
	w := ownWorld(t)
	arn := w.role(t, "rotates", trust("StringEquals", "union:executor"), "")
	if _, err := w.assume(arn, w.keys.token("union:executor").signed(t), ""); err != nil {
		t.Fatal(err)
	}
	key, err := w.keys.add("second")
	if err != nil {
		t.Fatal(err)
	}
	one := w.keys.token("union:executor")
	one.key, one.keyID = key, "second"
	// Fetched at most once a second, so this may have to wait for the next one.
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := w.assume(arn, one.signed(t), "")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v, want the key that the cluster signs with now to be known", err)
		}
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	bucket := w.bucket(t, "signatures")
	w.put(t, w.s3As(w.adminKey()), bucket, "there", "something")
	read := policy(`{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::signatures","arn:aws:s3:::signatures/*"]}`)
	arn := w.role(t, "signatures", trust("StringEquals", "union:executor"), read)
	session := w.session(t, arn, w.keys.token("union:executor").signed(t))
	other := w.session(t, arn, w.keys.token("union:executor").signed(t))
	held, err := session.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	others, err := other.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	with := func(id, secret, token string) aws.CredentialsProvider {
		return credentials.NewStaticCredentialsProvider(id, secret, token)
	}
	for _, c := range []struct {
		name string
		as   aws.CredentialsProvider
		want string
	}{
		{"takes a session", session, ""},
		{"refuses a wrong secret", with(held.AccessKeyID, "!"+held.SecretAccessKey[1:], held.SessionToken), "SignatureDoesNotMatch"},
		{"refuses a tampered session token", with(held.AccessKeyID, held.SecretAccessKey, held.SessionToken[:20]+"AAAA"+held.SessionToken[24:]), "InvalidToken"},
		{"refuses another session's token", with(held.AccessKeyID, held.SecretAccessKey, others.SessionToken), "InvalidToken"},
		{"refuses a session's key without its token", with(held.AccessKeyID, held.SecretAccessKey, ""), "InvalidAccessKeyId"},
		{"refuses a user's key with a token", with(w.admin.ID, w.admin.Secret, held.SessionToken), "InvalidToken"},
		{"refuses a key that nobody has", with("AKIANOBODYNOBODYNOBO", "secret", ""), "InvalidAccessKeyId"},
		{"refuses the owner's number as a key", with(account, "secret", ""), "InvalidAccessKeyId"},
		{"refuses the key of the socket", with("AKIAGATEWAY", "secret", ""), "InvalidAccessKeyId"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := w.s3As(c.as).GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("there")})
			wantCode(t, err, c.want)
			if _, err := w.stsAs(c.as).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); (err == nil) != (c.want == "") {
				t.Errorf("STS: got %v, want it as S3 has it (%q)", err, c.want)
			}
		})
	}

	// signedAt is a request as the SDK would have sent it then.
	signedAt := func(t *testing.T, when time.Time) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.s3+"/"+bucket+"/there", nil)
		if err != nil {
			t.Fatal(err)
		}
		const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		r.Header.Set("X-Amz-Content-Sha256", empty)
		if err := v4.NewSigner().SignHTTP(t.Context(), held, r, empty, "s3", region, when); err != nil {
			t.Fatal(err)
		}
		return r
	}
	presignedAt := func(t *testing.T, when time.Time, seconds string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.s3+"/"+bucket+"/there?X-Amz-Expires="+seconds, nil)
		if err != nil {
			t.Fatal(err)
		}
		address, _, err := v4.NewSigner().PresignHTTP(t.Context(), held, r, "UNSIGNED-PAYLOAD", "s3", region, when, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err != nil {
			t.Fatal(err)
		}
		return address
	}
	send := func(t *testing.T, r *http.Request) string {
		answer, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return ""
		}
		return codeIn(t, answer)
	}
	now := time.Now()
	for _, c := range []struct {
		name string
		when time.Time
		want string
	}{
		{"takes a clock that is ten minutes behind", now.Add(-10 * time.Minute), ""},
		{"takes a clock that is ten minutes ahead", now.Add(10 * time.Minute), ""},
		{"refuses a clock that is an hour behind", now.Add(-time.Hour), "RequestTimeTooSkewed"},
		{"refuses a clock that is an hour ahead", now.Add(time.Hour), "RequestTimeTooSkewed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := send(t, signedAt(t, c.when)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	for _, c := range []struct {
		name, address, want string
	}{
		{"takes a presigned URL in its time", presignedAt(t, now, "60"), ""},
		{"refuses a presigned URL after its expiry", presignedAt(t, now.Add(-2*time.Minute), "60"), "AccessDenied"},
		{"refuses a presigned URL for more than a week", presignedAt(t, now, "604801"), "AuthorizationQueryParametersError"},
		{"refuses a presigned URL for another key", strings.Replace(presignedAt(t, now, "60"), "/there?", "/other?", 1), "SignatureDoesNotMatch"},
		{"refuses a presigned URL with a longer life than signed", strings.Replace(presignedAt(t, now.Add(-2*time.Minute), "60"), "X-Amz-Expires=60", "X-Amz-Expires=600", 1), "SignatureDoesNotMatch"},
		{"refuses a presigned URL with a later date than signed", laterDate(t, presignedAt(t, now.Add(-2*time.Minute), "60"), now), "SignatureDoesNotMatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, _ := w.send(t, http.MethodGet, c.address, ""); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("says that a presigned URL has expired", func(t *testing.T) {
		t.Parallel()
		answer, err := w.client.Get(presignedAt(t, now.Add(-2*time.Minute), "60"))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text := bodyOf(t, answer); answer.StatusCode != http.StatusForbidden || !strings.Contains(text, "Request has expired") {
			t.Errorf("got %s: %s, want 403 and 'Request has expired'", answer.Status, text)
		}
	})
	t.Run("refuses a header and a query that both sign", func(t *testing.T) {
		t.Parallel()
		r := signedAt(t, now)
		presigned, err := url.Parse(presignedAt(t, now, "60"))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = presigned.RawQuery
		if got := send(t, r); got != "InvalidArgument" {
			t.Errorf("got %q, want InvalidArgument", got)
		}
	})
	t.Run("refuses what nobody signed", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/", "/" + bucket, "/" + bucket + "/there", "/" + bucket + "?policy"} {
			if got, status := w.send(t, http.MethodGet, w.s3+path, ""); status != http.StatusForbidden && status != http.StatusMethodNotAllowed {
				t.Errorf("GET %s: got %d %s, want a refusal", path, status, got)
			}
		}
		if got, _ := w.send(t, http.MethodPut, w.s3+"/"+bucket+"?policy", "{}"); got != "AccessDenied" {
			t.Errorf("PUT ?policy: got %s, want AccessDenied", got)
		}
	})
	t.Run("has no administration", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/create-user", "/list-users", "/list-buckets", "/change-bucket-owner?bucket=signatures&owner=me", "/delete-user?access=x"} {
			if got, status := w.send(t, http.MethodPatch, w.s3+path, ""); status != http.StatusMethodNotAllowed {
				t.Errorf("PATCH %s: got %d %s, want 405", path, status, got)
			}
		}
	})
}

func TestEndedSessions(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	bucket := w.bucket(t, "ended")
	w.put(t, w.s3As(w.adminKey()), bucket, "there", "something")
	admin := w.iamAs(w.adminKey())
	read := policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)
	arn := w.role(t, "ended", trust("StringEquals", "union:executor"), read)
	session := w.session(t, arn, w.keys.token("union:executor").signed(t))
	client := w.s3As(session)
	presigned, err := presignGet(t.Context(), awss3.NewPresignClient(client), bucket, "there")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := w.send(t, http.MethodGet, presigned, ""); got != "" {
		t.Fatalf("got %s from a presigned URL, want success", got)
	}
	for _, call := range []func() error{
		func() error {
			_, err := admin.DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String("ended"), PolicyName: aws.String("s3")})
			return err
		},
		func() error {
			_, err := admin.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("ended")})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	// The role is gone, and with it every session and all that they signed.
	if got, _ := w.send(t, http.MethodGet, presigned, ""); got != "InvalidAccessKeyId" {
		t.Errorf("a URL that a dead session presigned: got %q, want InvalidAccessKeyId", got)
	}
	_, err = client.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("there")})
	wantCode(t, err, "InvalidAccessKeyId")
}

func codeIn(t *testing.T, answer *http.Response) string {
	t.Helper()
	_, rest, _ := strings.Cut(bodyOf(t, answer), "<Code>")
	code, _, _ := strings.Cut(rest, "</Code>")
	return code
}

func bodyOf(t *testing.T, answer *http.Response) string {
	t.Helper()
	var b strings.Builder
	if _, err := copyAll(&b, answer.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func laterDate(t *testing.T, address string, now time.Time) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("X-Amz-Date", now.UTC().Format("20060102T150405Z"))
	u.RawQuery = q.Encode()
	return u.String()
}
