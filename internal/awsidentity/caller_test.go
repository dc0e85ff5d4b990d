package awsidentity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/provision/iampolicy"
)

// raw sends a request as it is and returns status and body.
func (w *world) raw(r *http.Request) (int, string) {
	w.t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

type signing struct {
	credentials Credentials
	service     string
	region      string
	query       string
	form        string
	at          time.Time
	afterwards  func(*http.Request)
}

// post signs a form and sends it.
func (w *world) post(s signing) (int, string) {
	w.t.Helper()
	if s.service == "" {
		s.service = "sts"
	}
	if s.region == "" {
		s.region = "us-east-1"
	}
	if s.at.IsZero() {
		s.at = w.clock.now()
	}
	target := w.url + "/"
	if s.query != "" {
		target += "?" + s.query
	}
	r, err := http.NewRequest(http.MethodPost, target, strings.NewReader(s.form))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	hash := sha256.Sum256([]byte(s.form))
	if s.credentials.AccessKeyID != "" {
		err = v4.NewSigner().SignHTTP(background, aws.Credentials{
			AccessKeyID: s.credentials.AccessKeyID, SecretAccessKey: s.credentials.SecretAccessKey, SessionToken: s.credentials.SessionToken,
		}, r, hex.EncodeToString(hash[:]), s.service, s.region, s.at)
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if s.afterwards != nil {
		s.afterwards(r)
	}
	return w.raw(r)
}

// TestBreakIn tries to be somebody without being it.
func TestBreakIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.admins[customer]
	session, other := w.vendorSession("one"), w.vendorSession("two")
	const whoami = "Action=GetCallerIdentity&Version=2011-06-15"

	user := func(name string) Credentials {
		t.Helper()
		client := w.iam(admin)
		if _, err := client.CreateUser(background, &iam.CreateUserInput{UserName: &name}); err != nil {
			t.Fatal(err)
		}
		key, err := client.CreateAccessKey(background, &iam.CreateAccessKeyInput{UserName: &name})
		if err != nil {
			t.Fatal(err)
		}
		return Credentials{AccessKeyID: *key.AccessKey.AccessKeyId, SecretAccessKey: *key.AccessKey.SecretAccessKey}
	}
	inactive, gone := user("inactive"), user("gone")
	if _, err := w.iam(admin).UpdateAccessKey(background, &iam.UpdateAccessKeyInput{UserName: aws.String("inactive"), AccessKeyId: &inactive.AccessKeyID, Status: "Inactive"}); err != nil {
		t.Fatal(err)
	}
	_, err := w.iam(admin).DeleteUser(background, &iam.DeleteUserInput{UserName: aws.String("gone")})
	expect(t, err, "DeleteConflict", "must delete access keys first")
	if _, err := w.iam(admin).DeleteAccessKey(background, &iam.DeleteAccessKeyInput{UserName: aws.String("gone"), AccessKeyId: &gone.AccessKeyID}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.iam(admin).DeleteUser(background, &iam.DeleteUserInput{UserName: aws.String("gone")}); err != nil {
		t.Fatal(err)
	}
	with := func(c Credentials, change func(*Credentials)) Credentials { change(&c); return c }

	for _, test := range []struct {
		name   string
		send   signing
		status int
		code   string
	}{
		{"lets a signed request in", signing{credentials: admin, form: whoami}, 200, "<Account>111122223333</Account>"},
		{"reads parameters from a POST's query too", signing{credentials: admin, query: whoami}, 200, "<Account>111122223333</Account>"},
		{"refuses an unsigned request", signing{form: whoami}, 403, "MissingAuthenticationToken"},
		{"refuses an unsigned request to IAM", signing{form: "Action=ListRoles&Version=2010-05-08"}, 403, "MissingAuthenticationToken"},
		{"refuses an unsigned AssumeRole", signing{form: "Action=AssumeRole&Version=2011-06-15"}, 403, "MissingAuthenticationToken"},
		{"refuses a key that nobody has", signing{credentials: Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "x"}, form: whoami}, 403, "InvalidClientTokenId"},
		{"refuses a wrong secret", signing{credentials: with(admin, func(c *Credentials) { c.SecretAccessKey = "x" }), form: whoami}, 403, "SignatureDoesNotMatch"},
		{"refuses a key with somebody's token", signing{credentials: with(admin, func(c *Credentials) { c.SessionToken = session.SessionToken }), form: whoami}, 403, "InvalidClientTokenId"},
		{"refuses a session without its token", signing{credentials: with(session, func(c *Credentials) { c.SessionToken = "" }), form: whoami}, 403, "InvalidClientTokenId"},
		{"refuses a session with another's token", signing{credentials: with(session, func(c *Credentials) { c.SessionToken = other.SessionToken }), form: whoami}, 403, "InvalidClientTokenId"},
		{"refuses an inactive key", signing{credentials: inactive, form: whoami}, 403, "InvalidClientTokenId"},
		{"refuses the key of a deleted user", signing{credentials: gone, form: whoami}, 403, "InvalidClientTokenId"},
		{"refuses a request of yesterday", signing{credentials: admin, form: whoami, at: w.clock.now().Add(-24 * time.Hour)}, 403, "Signature expired"},
		{"refuses a request of tomorrow", signing{credentials: admin, form: whoami, at: w.clock.now().Add(24 * time.Hour)}, 403, "Signature not yet current"},
		{"takes IAM's requests signed for any region, as clients with an endpoint sign them", signing{credentials: admin, service: "iam", region: "eu-central-1", form: "Action=ListRoles&Version=2010-05-08"}, 200, "<ListRolesResult>"},
		{"refuses a signature for another service", signing{credentials: admin, service: "s3", form: whoami, afterwards: func(r *http.Request) {}}, 400, "x-amz-content-sha256"},
		{"refuses a signature for EC2", signing{credentials: admin, service: "ec2", form: whoami}, 403, "scoped to correct service"},
		{"refuses a body changed after signing", signing{credentials: admin, form: whoami, afterwards: func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(whoami, "Caller", "Killer", 1)))
		}}, 403, "SignatureDoesNotMatch"},
		{"refuses a query added after signing", signing{credentials: admin, form: whoami, afterwards: func(r *http.Request) { r.URL.RawQuery = "RoleName=x" }}, 403, "SignatureDoesNotMatch"},
		{"refuses a host changed after signing", signing{credentials: admin, form: whoami, afterwards: func(r *http.Request) { r.Host = "sts.amazonaws.com" }}, 403, "SignatureDoesNotMatch"},
		{"refuses a date changed after signing", signing{credentials: admin, form: whoami, afterwards: func(r *http.Request) {
			r.Header.Set("X-Amz-Date", w.clock.now().UTC().Add(time.Minute).Format("20060102T150405Z"))
		}}, 403, "SignatureDoesNotMatch"},
		{"refuses a parameter that is there twice", signing{credentials: admin, query: "ExternalId=a1", form: whoami + "&ExternalId=b2"}, 400, "InvalidParameterCombination"},
		{"refuses an operation that it has not, by name", signing{credentials: admin, service: "iam", form: "Action=CreateGroup&Version=2010-05-08"}, 400, "Could not find operation CreateGroup for version 2010-05-08"},
		{"refuses an operation of the other service", signing{credentials: admin, service: "iam", form: whoami}, 400, "InvalidAction"},
		{"refuses a request without an action", signing{credentials: admin, form: "Version=2011-06-15"}, 400, "MissingAction"},
		{"escapes what it answers", signing{credentials: admin, service: "iam", form: "Version=2010-05-08&Action=" + url.QueryEscape("<Evil>&\x01")}, 400, "&lt;Evil&gt;&amp;"},
		{"refuses a body over a mebibyte", signing{credentials: admin, form: whoami + "&x=" + strings.Repeat("x", 1<<20)}, 413, "RequestEntityTooLarge"},
		{"refuses an unsigned body over a mebibyte", signing{form: "x=" + strings.Repeat("x", 1<<20)}, 413, "RequestEntityTooLarge"},
		{"refuses thousands of parameters", signing{credentials: admin, form: whoami + strings.Repeat("&a=b", 6000)}, 400, "MalformedQueryString"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := w.post(test.send)
			if status != test.status || !strings.Contains(body, test.code) {
				t.Errorf("got %d %s, want %d with %s", status, body, test.status, test.code)
			}
		})
	}
	t.Run("answers a presigned GET", func(t *testing.T) {
		r, err := http.NewRequest(http.MethodGet, w.url+"/?"+whoami+"&X-Amz-Expires=60", nil)
		if err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256(nil)
		link, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey, SessionToken: session.SessionToken},
			r, hex.EncodeToString(hash[:]), "sts", "us-east-1", w.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		r, _ = http.NewRequest(http.MethodGet, link, nil)
		if status, body := w.raw(r); status != 200 || !strings.Contains(body, session.ARN) {
			t.Errorf("got %d %s, want 200 with %s", status, body, session.ARN)
		}
	})
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	arn, err := w.SeedRole(customer, Role{Name: "short", Trust: trust("arn:aws:iam::"+customer+":root", "")})
	if err != nil {
		t.Fatal(err)
	}
	assume := func() Credentials {
		t.Helper()
		out, err := w.sts(w.admins[customer]).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("s1"), DurationSeconds: aws.Int32(900)})
		if err != nil {
			t.Fatal(err)
		}
		return assumedCredentials(out)
	}
	const whoami = "Action=GetCallerIdentity&Version=2011-06-15"
	old := assume()
	w.clock.advance(901 * time.Second)
	if status, body := w.post(signing{credentials: old, form: whoami}); status != 403 || !strings.Contains(body, "<Code>ExpiredToken</Code>") {
		t.Errorf("got %d %s, want ExpiredToken", status, body)
	}
	w.clock.advance(-901 * time.Second)
	fresh := assume()
	if _, err := w.iam(w.admins[customer]).DeleteRole(background, &iam.DeleteRoleInput{RoleName: aws.String("short")}); err != nil {
		t.Fatal(err)
	}
	if status, body := w.post(signing{credentials: fresh, form: whoami}); status != 403 || !strings.Contains(body, "InvalidClientTokenId") {
		t.Errorf("got %d %s, want InvalidClientTokenId after the role is gone", status, body)
	}
	if _, err := w.SeedRole(customer, Role{Name: "short", Trust: trust("arn:aws:iam::"+customer+":root", "")}); err != nil {
		t.Fatal(err)
	}
	if status, body := w.post(signing{credentials: fresh, form: whoami}); status != 403 {
		t.Errorf("got %d %s, want a new role of the same name to be another", status, body)
	}
}

// TestDecide shows that an asker cannot give a caller another's keys.
func TestDecide(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	arn, err := w.SeedRole(customer, Role{Name: "reader", Inline: map[string]string{"p": `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::own/${aws:PrincipalTag/team}/*"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::own","Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/reader"}}},
		{"Effect":"Allow","Action":"s3:PutObject","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/admin"}}}]}`}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.Session(arn, "s1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, "http://s3.local/own?list-type=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	if err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(background, aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken},
		r, "UNSIGNED-PAYLOAD", "s3", "eu-central-1", w.clock.now()); err != nil {
		t.Fatal(err)
	}
	caller, err := w.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	if caller.Service != "s3" || caller.Region != "eu-central-1" || caller.Signature.Presigned {
		t.Errorf("got scope %s %s, want s3 in eu-central-1 by header", caller.Service, caller.Region)
	}
	forged := iampolicy.Context{}
	forged.Set("aws:PrincipalTag/team", "data")
	forged.Set("aws:principalarn", "arn:aws:iam::111122223333:role/admin")
	for _, test := range []struct {
		name, action, resource string
		want                   iampolicy.Decision
	}{
		{"allows by the role's ARN", "s3:ListBucket", "arn:aws:s3:::own", iampolicy.Allowed},
		{"does not take a principal tag from the asker", "s3:GetObject", "arn:aws:s3:::own/data/x", iampolicy.ImplicitDeny},
		{"does not take a principal ARN from the asker", "s3:PutObject", "arn:aws:s3:::own/x", iampolicy.ImplicitDeny},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := w.Decide(caller, iampolicy.Request{Action: test.action, Resource: test.resource, Context: forged}, nil)
			if err != nil || got != test.want {
				t.Errorf("got %v (%v), want %v", got, err, test.want)
			}
		})
	}
	err = w.Authorize(caller, []iampolicy.Request{{Action: "s3:DeleteObject", Resource: "arn:aws:s3:::own/x"}}, nil)
	if err == nil || err.Error() != "AccessDenied: User: arn:aws:sts::111122223333:assumed-role/reader/s1 is not authorized to perform: s3:DeleteObject on resource: arn:aws:s3:::own/x because no identity-based policy allows the s3:DeleteObject action" {
		t.Errorf("got %v, want AWS's sentence", err)
	}
	bucket, err := iampolicy.Parse("bucket policy", []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/reader"},"Action":"s3:DeleteObject","Resource":"arn:aws:s3:::own/*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Authorize(caller, []iampolicy.Request{{Action: "s3:DeleteObject", Resource: "arn:aws:s3:::own/x"}}, bucket); err != nil {
		t.Errorf("got %v, want the bucket's policy to allow", err)
	}
	why, err := w.Explain(caller, iampolicy.Request{Action: "s3:ListBucket", Resource: "arn:aws:s3:::own"}, nil)
	if err != nil || len(why.Statements) != 1 || why.Statements[0].Document != "p" || why.Statements[0].Index != 1 {
		t.Errorf("got %+v (%v), want statement 1 of p", why, err)
	}
}

func TestAServiceActsOnBehalfOfAKey(t *testing.T) {
	t.Parallel()
	const service = "cloudformation.amazonaws.com"
	w := newWorld(t, Options{})
	arn, err := w.SeedRole(customer, Role{Name: "maker", Inline: map[string]string{
		"p": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*","Condition":{"StringEquals":{"aws:CalledViaLast":"` + service + `"}}}]}`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.Session(arn, "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c *Caller) string {
		r := httptest.NewRequest("POST", "/", strings.NewReader("Action=ListRoles&Version=2010-05-08"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		w.ServeAs(c, answer, r)
		return answer.Body.String()
	}
	c, err := w.OnBehalf(key.AccessKeyID, service)
	if err != nil {
		t.Fatal(err)
	}
	if c.ARN != key.ARN || c.Type != RoleCaller {
		t.Errorf("got %s %s, want the session %s", c.Type, c.ARN, key.ARN)
	}
	if got := ask(c); !strings.Contains(got, "<RoleName>maker</RoleName>") {
		t.Errorf("got %s, want the roles", got)
	}
	if _, err := w.iam(key).ListRoles(background, &iam.ListRolesInput{}); code(t, err) != "AccessDenied" {
		t.Errorf("got %v for the key itself, want AccessDenied", err)
	}

	w.clock.advance(2 * time.Hour)
	if _, err := w.OnBehalf(key.AccessKeyID, service); err == nil || !strings.Contains(err.Error(), "ExpiredToken") {
		t.Errorf("got %v for an old session, want ExpiredToken", err)
	}
	w.clock.advance(-2 * time.Hour) // signers go by the machine's clock
	admin := w.admins[customer]
	if _, err := w.iam(admin).UpdateAccessKey(background, &iam.UpdateAccessKeyInput{AccessKeyId: &admin.AccessKeyID, Status: "Inactive", UserName: aws.String("administrator")}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{admin.AccessKeyID, "AKIANONE", ""} {
		if _, err := w.OnBehalf(id, service); err == nil || !strings.Contains(err.Error(), "InvalidClientTokenId") {
			t.Errorf("got %v for the key %q, want InvalidClientTokenId", err, id)
		}
	}
}
