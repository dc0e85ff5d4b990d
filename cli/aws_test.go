package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/internal/usererr"
)

// The environment of the process is what these tests are about, so they are not
// parallel.

func newAWSTest(t *testing.T) *app {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	a := &app{Streams: Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}}
	a.root() // sets the defaults
	return a
}

// call asks STS who we are, as every command that calls AWS does first.
func call(ctx context.Context, a *app) error {
	cfg, err := a.awsConfig(ctx)
	if err != nil {
		return err
	}
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	return awsSentence(err)
}

func wantSentence(t *testing.T, err error, sentence, hint string) {
	t.Helper()
	var said *usererr.Error
	if !errors.As(err, &said) {
		t.Fatalf("got %v, want a sentence for people", err)
	}
	if !strings.Contains(said.Error(), sentence) {
		t.Errorf("got %q, want it to say %q", said.Error(), sentence)
	}
	if !strings.Contains(said.Hint, hint) || said.Hint == "" {
		t.Errorf("got hint %q, want it to say %q", said.Hint, hint)
	}
	if status := said.Kind.ExitStatus(); status != 2 {
		t.Errorf("got exit status %d, want 2", status)
	}
}

func TestAWSConfig(t *testing.T) {
	for _, c := range []struct {
		name           string
		env            map[string]string
		flags          awsFlags
		sentence, hint string
	}{
		{name: "asks for a region", sentence: "no AWS region", hint: "--region"},
		{name: "refuses a region that does not exist", env: map[string]string{"AWS_REGION": "eu-centrall-1"},
			sentence: `no AWS region "eu-centrall-1"`, hint: "eu-central-1"},
		{name: "says that there are no credentials", flags: awsFlags{region: "eu-central-1"},
			sentence: "no AWS credentials", hint: "--profile"},
		{name: "says that a profile does not exist", flags: awsFlags{region: "eu-central-1", profile: "nobody"},
			sentence: `no AWS profile "nobody"`, hint: "list-profiles"},
		{name: "says that an endpoint is no URL", flags: awsFlags{region: "eu-central-1"}, env: map[string]string{"AWS_ENDPOINT_URL": "localhost:4566"},
			sentence: `endpoint "localhost:4566" is not a URL`, hint: "http://"},
		{name: "says that half of the credentials is missing", flags: awsFlags{region: "eu-central-1"},
			env: map[string]string{"AWS_ACCESS_KEY_ID": "AK"}, sentence: "no AWS credentials", hint: "AWS_SECRET_ACCESS_KEY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAWSTest(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			a.aws = c.flags
			_, err := a.awsConfig(t.Context())
			wantSentence(t, err, c.sentence, c.hint)
		})
	}

	t.Run("lets a profile that is named win over keys in the environment", func(t *testing.T) {
		a := newAWSTest(t)
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte("[profile customer]\nregion = eu-west-1\naws_access_key_id = named\naws_secret_access_key = x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("AWS_CONFIG_FILE", file)
		t.Setenv("AWS_ACCESS_KEY_ID", "environment")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
		a.aws.profile = "customer"
		cfg, err := a.awsConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := cfg.Credentials.Retrieve(t.Context())
		if err != nil || got.AccessKeyID != "named" || cfg.Region != "eu-west-1" {
			t.Errorf("got %q in %q, %v, want named in eu-west-1", got.AccessKeyID, cfg.Region, err)
		}
	})
}

func TestAWSSentence(t *testing.T) {
	failure := func(status int, code, message string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, message)
		}
	}
	for _, c := range []struct {
		name           string
		answer         http.HandlerFunc // nil: nobody listens
		sentence, hint string
	}{
		{"says that nothing answers", nil, "http://127.0.0.1:", "AWS_ENDPOINT_URL"},
		{"says that credentials have expired", failure(403, "ExpiredToken", "The security token included in the request is expired"),
			"have expired", "aws sso login"},
		{"says that AWS does not know the credentials", failure(403, "InvalidClientTokenId", "The security token included in the request is invalid."),
			"does not accept the credentials (InvalidClientTokenId: The security token included in the request is invalid)", "get-caller-identity"},
		{"says that the clock is wrong", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
			failure(403, "SignatureDoesNotMatch", "Signature not yet current: 20261130T080000Z is still later than 20261130T074500Z (20261130T074000Z + 5 min.)")(w, r)
		}, "the clock of this machine is 20m", "set the clock"},
		{"says that a call is not allowed, and AWS's reason", failure(403, "AccessDenied", "User: u is not authorized to perform: sts:GetCallerIdentity."),
			"STS GetCallerIdentity is not allowed: User: u is not authorized to perform: sts:GetCallerIdentity", "administrator"},
		{"says that AWS is throttling", failure(400, "Throttling", "Rate exceeded"), "throttling STS GetCallerIdentity", "wait a minute"},
		{"says that a region is not switched on", failure(403, "RegionDisabledException", "STS is not activated"), "not switched on", "--region"},
		{"says that AWS failed", failure(503, "ServiceUnavailable", "later"), "failed on AWS's side", "again"},
		{"says that something else answered", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>proxy</html>")
		}, "something that is not AWS", "proxy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAWSTest(t)
			endpoint := "http://" + unusedAddress(t)
			if c.answer != nil {
				server := httptest.NewServer(c.answer)
				defer server.Close()
				endpoint = server.URL
			}
			t.Setenv("AWS_ENDPOINT_URL", endpoint)
			t.Setenv("AWS_ACCESS_KEY_ID", "AK")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "SK-which-nobody-may-see")
			a.aws.region = "eu-central-1"
			err := call(t.Context(), a)
			wantSentence(t, err, c.sentence, c.hint)
			if strings.Contains(usererr.Chain(err), "nobody-may-see") {
				t.Errorf("got the secret key in %q, want it nowhere", usererr.Chain(err))
			}
		})
	}
	t.Run("leaves a cancelled call to who cancelled it", func(t *testing.T) {
		a := newAWSTest(t)
		t.Setenv("AWS_ACCESS_KEY_ID", "AK")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "SK")
		t.Setenv("AWS_ENDPOINT_URL", "http://"+unusedAddress(t))
		a.aws.region = "eu-central-1"
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx, a); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

// unusedAddress is one that nobody listens on.
func unusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// A machine may have something at the address of an instance's metadata that is
// none: that is no credentials, not a broken AWS.
func TestMetadataThatIsNoneIsNoCredentials(t *testing.T) {
	a := newAWSTest(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer server.Close()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	a.aws.region = "eu-central-1"
	wantSentence(t, call(t.Context(), a), "no AWS credentials that can be used", "--profile")
}

// The SDK would assume a profile's role at AWS itself.
func TestARoleOfAProfileIsAssumedAtTheChosenEndpoint(t *testing.T) {
	a := newAWSTest(t)
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.FormValue("Action")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`)
	}))
	defer server.Close()
	config := filepath.Join(t.TempDir(), "config")
	text := "[profile chained]\nrole_arn = arn:aws:iam::123456789012:role/admin\nsource_profile = base\n" +
		"[profile base]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = example\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", config)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	a.aws = awsFlags{region: "eu-central-1", profile: "chained"}
	wantSentence(t, call(t.Context(), a), "STS AssumeRole is not allowed", "credentials")
	if got := <-asked; got != "AssumeRole" {
		t.Errorf("got a call of %q at the endpoint, want AssumeRole", got)
	}
}
