package awsdouble

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"biplane.dev/biplane/internal/awsidentity"
)

// TestMain lets the test binary be the program itself, so that tests can run it
// as a process and kill it.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_AWSDOUBLE") != "" {
		ctx, stop := signalContext()
		defer stop()
		os.Exit(Run(ctx, os.Args[1:], Streams{Out: os.Stdout, Err: os.Stderr}))
	}
	if os.Getenv("RUN_TASK") != "" { // of ECS: its arguments are --listen ADDRESS
		http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
		http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(1) })
		fmt.Println(http.ListenAndServe(os.Args[2], nil))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// setUp makes the Python environment, once for all tests.
var setUp = sync.OnceValues(func() (string, error) {
	output, err := exec.Command("../../test/python/setup.sh").CombinedOutput()
	if err != nil {
		return "", errors.New("run 'make setup': " + string(output))
	}
	return filepath.Abs("../../.cache/venv/bin")
})

// python returns the directory of the AWS CLI and of moto_server.
func python(t *testing.T) string {
	t.Helper()
	bin, err := setUp()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// start starts a double that stops with the test.
func start(t *testing.T, o Options) *Double {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	d, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return d
}

// startWithMoto is start with what stands behind.
func startWithMoto(t *testing.T, o Options) *Double {
	t.Helper()
	o.Moto = filepath.Join(python(t), "moto_server")
	return start(t, o)
}

// cli runs the AWS CLI against a double and returns what it printed.
func cli(t *testing.T, d *Double, args ...string) (stdout string, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(python(t), "aws"), args...)
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_MAX_ATTEMPTS=1", "AWS_PAGER="}, d.Env()...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		return out.String(), errors.New(strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// mustCLI is cli for what must work.
func mustCLI(t *testing.T, d *Double, args ...string) string {
	t.Helper()
	out, err := cli(t, d, args...)
	if err != nil {
		t.Fatalf("aws %s: got %v, want no error", strings.Join(args, " "), err)
	}
	return out
}

// send signs a request and sends it, and returns the status and the answer.
func send(t *testing.T, d *Double, key awsidentity.Credentials, service string, r *http.Request, body string) (int, string, error) {
	t.Helper()
	region := d.region
	if service == "iam" || service == "route53" {
		region = "us-east-1"
	}
	return sendFor(t, key, service, region, r, body)
}

func sendFor(t *testing.T, key awsidentity.Credentials, service, region string, r *http.Request, body string) (int, string, error) {
	t.Helper()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	hash := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(hash[:])
	if service == "s3" {
		r.Header.Set("X-Amz-Content-Sha256", digest)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
	err := signer.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.SessionToken},
		r, digest, service, region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// query calls a service of the Query protocols.
func query(t *testing.T, d *Double, key awsidentity.Credentials, service, action string, parameters ...string) (int, string, error) {
	t.Helper()
	form := url.Values{"Action": {action}}
	for i := 0; i+1 < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.URL()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(t, d, key, service, r, form.Encode())
}

// must is for calls that have to be answered with a status.
func must(t *testing.T, want int) func(int, string, error) string {
	return func(got int, text string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("got status %d, want %d: %s", got, want, text)
		}
		return text
	}
}

// roleSession makes a role of the customer's account with one inline policy and
// returns a session of it.
func roleSession(t *testing.T, d *Double, name, statements string) awsidentity.Credentials {
	t.Helper()
	arn, err := d.Identity().SeedRole(d.customer, awsidentity.Role{Name: name, Inline: map[string]string{
		"only": `{"Version":"2012-10-17","Statement":[` + statements + `]}`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := d.Identity().Session(arn, "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// testNetwork is a VPC of the customer's with a subnet in each of two zones.
type testNetwork struct {
	vpc     string
	subnets [2]string
}

// newNetworkFor makes one.
func newNetworkFor(t *testing.T, d *Double) testNetwork {
	t.Helper()
	admin := d.Accounts().Customer.Credentials
	var n testNetwork
	n.vpc = between(t, must(t, 200)(query(t, d, admin, "ec2", "CreateVpc", "CidrBlock", "10.0.0.0/16")), "<vpcId>", "<")
	for i, zone := range []string{"a", "b"} {
		n.subnets[i] = between(t, must(t, 200)(query(t, d, admin, "ec2", "CreateSubnet", "VpcId", n.vpc, "CidrBlock", fmt.Sprintf("10.0.%d.0/24", i),
			"AvailabilityZone", d.region+zone)), "<subnetId>", "<")
	}
	return n
}

// serviceRole makes a role of the customer's that a service may take.
func serviceRole(t *testing.T, d *Double, name, service string, policies ...string) (arn string) {
	t.Helper()
	role := awsidentity.Role{Name: name, Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + service + `"},"Action":"sts:AssumeRole"}]}`}
	for _, policy := range policies {
		role.Attached = append(role.Attached, "arn:aws:iam::aws:policy/"+policy)
	}
	arn, err := d.Identity().SeedRole(d.customer, role)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

// clusterRequest is the body that makes a cluster, with all that it needs.
func clusterRequest(t *testing.T, d *Double, name, role string) string {
	t.Helper()
	n := newNetworkFor(t, d)
	return fmt.Sprintf(`{"name":%q,"version":"1.34","roleArn":%q,"resourcesVpcConfig":{"subnetIds":[%q,%q]},"accessConfig":{"authenticationMode":"API"}}`,
		name, serviceRole(t, d, role, "eks.amazonaws.com", "AmazonEKSClusterPolicy"), n.subnets[0], n.subnets[1])
}

// between cuts out what stands between two texts.
func between(t *testing.T, text, before, after string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, before)
	found, _, ok2 := strings.Cut(rest, after)
	if !ok || !ok2 {
		t.Fatalf("got %s, want something between %s and %s", text, before, after)
	}
	return found
}
