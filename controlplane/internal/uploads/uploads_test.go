package uploads_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/controlplane/internal/issuer"
	"biplane.dev/biplane/controlplane/internal/uploads"
	"biplane.dev/biplane/internal/awsidentity"
)

const (
	account = "111122223333"
	subject = "system:serviceaccount:union:flyteadmin"
)

// world is an identity service with flyteadmin's role, whose trust names the
// issuer that the signer has.
type world struct {
	signer *uploads.Signer
	plane  *tunnelv1.DataPlane
	asked  atomic.Int32 // calls to STS
	now    atomic.Pointer[time.Time]
}

func newWorld(t *testing.T, trusted string) *world {
	t.Helper()
	w := &world{}
	start := time.Now()
	w.now.Store(&start)
	clock := func() time.Time { return *w.now.Load() }
	service, err := awsidentity.Open(awsidentity.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		service.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		server.Close()
		service.Close()
	})
	admin, err := service.CreateAccount(account, awsidentity.AccountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client := iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(admin.AccessKeyID, admin.SecretAccessKey, "")})
	if _, err := client.CreateOpenIDConnectProvider(t.Context(), &iam.CreateOpenIDConnectProviderInput{
		Url: aws.String("https://issuer.example"), ClientIDList: []string{"sts.amazonaws.com"},
	}); err != nil {
		t.Fatal(err)
	}
	role, err := client.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("flyteadmin"),
		AssumeRolePolicyDocument: aws.String(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
			"Principal":{"Federated":"arn:aws:iam::%s:oidc-provider/issuer.example"},"Action":"sts:AssumeRoleWithWebIdentity",
			"Condition":{"StringEquals":{"issuer.example:aud":"sts.amazonaws.com","issuer.example:sub":%q}}}]}`, account, trusted)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.asked.Store(0)
	tokens, err := issuer.Open("https://issuer.example", subject, filepath.Join(t.TempDir(), "issuer.key"))
	if err != nil {
		t.Fatal(err)
	}
	service.SetKeys("https://issuer.example", tokens.Keys())
	w.signer = uploads.New(tokens, clock, server.Client(), []string{server.URL, "http://127.0.0.1:1"})
	w.plane = &tunnelv1.DataPlane{
		Region: "eu-central-1", MetadataBucket: "meta", FastRegistrationBucket: "fast",
		S3Endpoint: "http://127.0.0.1:9000", StsEndpoint: server.URL, UploadRoleArn: aws.ToString(role.Role.Arn),
	}
	return w
}

func (w *world) pass(d time.Duration) {
	later := w.now.Load().Add(d)
	w.now.Store(&later)
}

// A token is good for every account that trusts its issuer, and a data plane is
// one customer's.
func TestTokenIsShownToNoOtherSTS(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *world, collector string){
		"of a data plane":                 func(w *world, collector string) { w.plane.StsEndpoint = collector },
		"that is one of ours with a path": func(w *world, _ string) { w.plane.StsEndpoint += "/x" },
		"in a region that is part of a URL": func(w *world, collector string) {
			w.plane.StsEndpoint, w.plane.Region = "", "x."+strings.TrimPrefix(collector, "http://")+"/#"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, subject)
			var shown atomic.Int32
			collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { shown.Add(1) }))
			defer collector.Close()
			spoil(w, collector.URL)
			_, err := w.signer.Sign(t.Context(), "east", w.plane, uploads.Put{Bucket: "meta", Key: "k"})
			if connect.CodeOf(err) != connect.CodeFailedPrecondition {
				t.Errorf("got %v, want it refused", err)
			}
			if shown.Load()+w.asked.Load() > 0 {
				t.Error("got a token shown, want it kept")
			}
		})
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	sum := md5.Sum([]byte("contents"))
	put := uploads.Put{Bucket: "meta", Key: "uploads/p/development/x/file name.txt", MD5: sum[:]}

	t.Run("signs a put of the one key with the MD5 that was told", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, subject)
		signed, err := w.signer.Sign(t.Context(), "east", w.plane, put)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(signed.URL)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := u.Host+u.Path, "127.0.0.1:9000/meta/uploads/p/development/x/file name.txt"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		query := u.Query()
		if got, want := query.Get("X-Amz-Expires"), "900"; got != want {
			t.Errorf("got a life of %q seconds, want %q", got, want)
		}
		if got := query.Get("X-Amz-SignedHeaders"); !strings.Contains(got, "content-md5") || strings.Contains(got, "content-type") {
			t.Errorf("got signed headers %q, want the MD5 and no type", got)
		}
		for name := range query {
			if strings.Contains(strings.ToLower(name), "checksum") {
				t.Errorf("got %s in the URL, want no checksum that a client had to send", name)
			}
		}
		if got, want := signed.Headers["Content-MD5"], base64.StdEncoding.EncodeToString(sum[:]); got != want || len(signed.Headers) != 1 {
			t.Errorf("got headers %v, want Content-MD5 %s alone", signed.Headers, want)
		}
	})
	t.Run("asks STS once, and again before a URL could outlive the session", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, subject)
		for range 3 {
			if _, err := w.signer.Sign(t.Context(), "east", w.plane, put); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := w.asked.Load(), int32(1); got != want {
			t.Errorf("got %d calls, want %d", got, want)
		}
		w.pass(41 * time.Minute)
		if _, err := w.signer.Sign(t.Context(), "east", w.plane, put); err != nil {
			t.Fatal(err)
		}
		if got, want := w.asked.Load(), int32(2); got != want {
			t.Errorf("got %d calls after 41 minutes, want %d", got, want)
		}
	})
	t.Run("lets a client ask for less time, not for more", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, subject)
		for asked, want := range map[time.Duration]string{time.Minute: "60", 24 * time.Hour: "900"} {
			put := put
			put.Expires = asked
			signed, err := w.signer.Sign(t.Context(), "east", w.plane, put)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(signed.URL, "X-Amz-Expires="+want+"&") {
				t.Errorf("got %s for %v, want %s seconds", signed.URL, asked, want)
			}
		}
	})
	t.Run("uses the bucket's own host on AWS", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, subject)
		w.plane.S3Endpoint = ""
		signed, err := w.signer.Sign(t.Context(), "east", w.plane, put)
		if err != nil {
			t.Fatal(err)
		}
		if want := "https://meta.s3.eu-central-1.amazonaws.com/uploads/"; !strings.HasPrefix(signed.URL, want) {
			t.Errorf("got %s, want %s…", signed.URL, want)
		}
	})
	t.Run("says that the role does not trust it", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "system:serviceaccount:union:somebody-else")
		_, err := w.signer.Sign(t.Context(), "east", w.plane, put)
		if got, want := connect.CodeOf(err), connect.CodeFailedPrecondition; got != want || !strings.Contains(err.Error(), "trust") {
			t.Errorf("got %v, want %v about the trust", err, want)
		}
	})
	t.Run("says that STS cannot be reached", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, subject)
		w.plane.StsEndpoint = "http://127.0.0.1:1"
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := w.signer.Sign(ctx, "east", w.plane, put)
		if got, want := connect.CodeOf(err), connect.CodeUnavailable; got != want {
			t.Errorf("got %v (%v), want %v", got, err, want)
		}
	})
	t.Run("refuses without an issuer, and without a role", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, subject)
		if _, err := uploads.New(nil, time.Now, nil, nil).Sign(t.Context(), "east", w.plane, put); connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("got %v, want FAILED_PRECONDITION", err)
		}
		w.plane.UploadRoleArn = ""
		if _, err := w.signer.Sign(t.Context(), "east", w.plane, put); connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("got %v, want FAILED_PRECONDITION", err)
		}
	})
}

func TestLocate(t *testing.T) {
	t.Parallel()
	sum := md5.Sum(nil)
	for name, c := range map[string]struct {
		root, filename string
		sum            []byte
		want           string // "" is a refusal
		fast           bool
	}{
		"puts a file into a folder of its MD5":     {filename: "a.txt", sum: sum[:], want: "uploads/p/development/2QOYZWMPACZAJ2MABGMOZ6CCPY/a.txt"},
		"puts a bundle beside":                     {filename: "fast0123.tar.gz", sum: sum[:], want: "uploads/p/development/2QOYZWMPACZAJ2MABGMOZ6CCPY/fast0123.tar.gz", fast: true},
		"knows the bundle of a notebook":           {filename: "code_bundle.pkl.gz", root: "r", want: "uploads/p/development/r/code_bundle.pkl.gz", fast: true},
		"takes a root with folders":                {root: "tracked-runs/r/a/1", filename: "in/puts.pb", want: "uploads/p/development/tracked-runs/r/a/1/in/puts.pb"},
		"refuses to leave by the root":             {root: "../../other/development/x", filename: "a"},
		"refuses to leave by the file's name":      {root: "r", filename: "../../../etc"},
		"refuses an absolute name":                 {root: "r", filename: "/a"},
		"refuses a dot":                            {root: "r", filename: "a/./b"},
		"refuses an empty name":                    {root: "r"},
		"refuses a line break":                     {root: "r", filename: "a\nb"},
		"refuses a backslash":                      {root: "r", filename: `..\a`},
		"refuses what is not UTF-8":                {root: "r", filename: "a\xff"},
		"refuses an MD5 of another length":         {filename: "a", sum: []byte{1, 2}},
		"refuses a name that no file system takes": {root: "r", filename: strings.Repeat("a", 256)},
		"refuses a key that S3 does not take":      {root: strings.Repeat("a/", 600), filename: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := uploads.Locate("p", "development", c.root, c.filename, c.sum)
			if c.want == "" {
				if connect.CodeOf(err) != connect.CodeInvalidArgument {
					t.Errorf("got %v, %v, want INVALID_ARGUMENT", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Key != c.want || got.FastRegistration != c.fast {
				t.Errorf("got %+v, want %s, %v", got, c.want, c.fast)
			}
		})
	}
	t.Run("gives each upload without MD5 a folder of its own", func(t *testing.T) {
		t.Parallel()
		first, err := uploads.Locate("p", "development", "", "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		second, err := uploads.Locate("p", "development", "", "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		if first.Key == second.Key {
			t.Errorf("got %s twice, want two", first.Key)
		}
	})
}

func TestCheckInputsKey(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		"uploads/o/p/development/offloaded-inputs/abc/inputs.pb":                true,
		"uploads/o/other/development/offloaded-inputs/abc/inputs.pb":            false,
		"uploads/other/p/development/offloaded-inputs/abc/inputs.pb":            false,
		"uploads/o/p/development/offloaded-inputs/../../production/x":           false,
		"uploads/o/p/development/offloaded-inputs/":                             false,
		"uploads/p/development/abc/a.txt":                                       false,
		"uploads/o/p/development/offloaded-inputs/" + strings.Repeat("a", 2000): false,
	} {
		if err := uploads.CheckInputsKey("o", "p", "development", key); (err == nil) != good {
			t.Errorf("got %v for %.80s, want %v", err, key, good)
		}
	}
}
