package awsdouble

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsdouble/typical"
	"biplane.dev/biplane/internal/awsidentity"
)

// objects is an S3 as far as these tests ask it: it keeps what it is given, and
// what it was asked.
type objects struct {
	lock  sync.Mutex
	kept  map[string]string
	asked []string
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.lock.Lock()
	defer o.lock.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	o.asked = append(o.asked, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Amz-Content-Sha256")+" "+r.Header.Get("Content-Encoding"))
	switch {
	case !strings.Contains(r.Header.Get("Authorization"), "Credential=SANDBOX/"):
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Query().Has("publicAccessBlock"):
		w.WriteHeader(http.StatusNotImplemented)
	case r.URL.Path == "/":
		fmt.Fprint(w, "<ListAllMyBucketsResult><Buckets><Bucket><Name>theirs</Name></Bucket></Buckets></ListAllMyBucketsResult>")
	case r.Method == http.MethodPut:
		o.kept[r.URL.RequestURI()] = string(body)
	default:
		fmt.Fprint(w, o.kept[r.URL.RequestURI()])
	}
}

// A sandbox behind the customer's account has its buckets, gets its roles, and is
// its clusters' API server.
func TestSandboxBehindTheAccount(t *testing.T) {
	t.Parallel()
	store := &objects{kept: map[string]string{}}
	s3 := httptest.NewServer(store)
	defer s3.Close()
	identity, err := awsidentity.Open(awsidentity.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer identity.Close()
	admin, err := identity.CreateAccount("123456789012", awsidentity.AccountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	iam := httptest.NewServer(identity)
	defer iam.Close()

	a := newAccount(t)
	a.d.world.backed = &backed{account: a.d.customer, region: a.d.region, s3: s3.URL, iam: iam.URL, client: http.DefaultClient, admin: admin,
		cluster: eks.Backing{Endpoint: "https://127.0.0.1:6443", CA: []byte("PEM"), Issuer: "https://oidc.example.com/id/A"}}
	a.d.goBy(a.clock)
	behind := &insider{service: identity, keys: map[string]awsidentity.Credentials{"123456789012": admin}, region: "us-east-1", now: time.Now}

	t.Run("gets the roles and policies that are written, of this account alone", func(t *testing.T) {
		call := func(key awsidentity.Credentials, operation string, parameters ...string) {
			t.Helper()
			must(t, 200)(query(t, a.d, key, "iam", operation, append(parameters, "Version", "2010-05-08")...))
		}
		call(a.key, "CreateRole", "RoleName", "pod", "AssumeRolePolicyDocument", trustOfEverybody)
		call(a.key, "PutRolePolicy", "RoleName", "pod", "PolicyName", "p", "PolicyDocument", narrowPolicy)
		call(a.d.Accounts().Stranger.Credentials, "CreateRole", "RoleName", "foreign", "AssumeRolePolicyDocument", trustOfEverybody)
		call(a.key, "CreateUser", "UserName", "somebody")
		if !behind.has("123456789012", "GetRolePolicy", "RoleName", "pod", "PolicyName", "p") {
			t.Error("got no policy of the role in the sandbox, want it there")
		}
		if behind.has("123456789012", "GetRole", "RoleName", "foreign") || behind.has("123456789012", "GetUser", "UserName", "somebody") {
			t.Error("got the role of a stranger, or a user, in the sandbox, want neither")
		}
		call(a.key, "DeleteRolePolicy", "RoleName", "pod", "PolicyName", "p")
		call(a.key, "DeleteRole", "RoleName", "pod")
		if behind.has("123456789012", "GetRole", "RoleName", "pod") {
			t.Error("got a role that was deleted in the sandbox, want it gone")
		}
	})
	t.Run("has the buckets, once it was decided here", func(t *testing.T) {
		a.d.world.backed.admin = awsidentity.Credentials{AccessKeyID: "SANDBOX", SecretAccessKey: "x"}
		file := filepath.Join(t.TempDir(), "object")
		if err := os.WriteFile(file, []byte("hello\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		mustCLI(t, a.d, "s3", "cp", file, "s3://theirs/a/object")
		if got := mustCLI(t, a.d, "s3api", "get-bucket-tagging", "--bucket", "theirs"); got != "" {
			t.Errorf("got %s, want nothing", got)
		}
		if got := store.kept["/theirs/a/object"]; got != "hello\n" {
			t.Errorf("got %q in the sandbox, want the object's bytes alone", got)
		}
		mustCLI(t, a.d, "s3api", "put-public-access-block", "--bucket", "theirs", "--public-access-block-configuration", "BlockPublicAcls=true")
		if got := mustCLI(t, a.d, "s3api", "get-public-access-block", "--bucket", "theirs", "--query", "PublicAccessBlockConfiguration.BlockPublicAcls"); got != "true" {
			t.Errorf("got %s, want a setting that the sandbox lacks kept", got)
		}
		if _, err := cli(t, a.d, "--profile", "stranger", "s3", "cp", "s3://theirs/a/object", "-"); err == nil {
			t.Error("got no error, want a stranger refused")
		}
		for _, asked := range store.asked {
			if strings.Contains(asked, "STREAMING") || strings.Contains(asked, "aws-chunked") {
				t.Errorf("got asked %s, want no signature of another", asked)
			}
		}
	})
	t.Run("is the API server of its clusters", func(t *testing.T) {
		a.eks(http.MethodPost, "/clusters", clusterRequest(t, a.d, "demo", "cluster"))
		a.clock.pass(typical.CreateCluster)
		answer, _ := a.eks(http.MethodGet, "/clusters/demo", "")
		text, err := json.Marshal(answer["cluster"])
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"endpoint":"https://127.0.0.1:6443"`, `"issuer":"https://oidc.example.com/id/A"`, `"data":"UEVN"`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("got %s, want %s", text, want)
			}
		}
	})
}

func TestChunks(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct{ body, want, fails string }{
		"reads signed chunks":            {"5;chunk-signature=ab\r\nhello\r\n1;chunk-signature=cd\r\n!\r\n0;chunk-signature=ef\r\n\r\n", "hello!", ""},
		"reads a trailer":                {"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n", "hello", ""},
		"fails at a chunk that is short": {"5\r\nhel", "hel", "unexpected EOF"},
		"fails without an end":           {"5\r\nhello\r\n", "hello", "unexpected EOF"},
		"fails at what is no size":       {"x\r\nhello\r\n", "", "has no size"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := io.ReadAll(&chunks{from: bufio.NewReader(strings.NewReader(one.body))})
			if string(got) != one.want || (err == nil) != (one.fails == "") || err != nil && !strings.Contains(err.Error(), one.fails) {
				t.Errorf("got %q and %v, want %q and …%s…", got, err, one.want, one.fails)
			}
		})
	}
}

func TestSandboxThatIsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Start(t.Context(), Options{Sandbox: dir})
	if err == nil || !strings.Contains(err.Error(), "is no sandbox's folder") {
		t.Errorf("got %v, want the folder refused", err)
	}
}
