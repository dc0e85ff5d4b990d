package storage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/storage"
)

const region = "eu-central-1"

// One double serves every test: behind it is a process that takes a second to start.
// A test has the buckets of a data plane of its own.
var double *awsdouble.Double

// TestMain lets the test binary be the program that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_STORAGE") != "" {
		if err := program(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if out, err := exec.Command("../../test/python/setup.sh").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "run 'make setup': %s\n", out)
		return 1
	}
	moto, err := filepath.Abs("../../.cache/venv/bin/moto_server")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	double, err = awsdouble.Start(context.Background(), awsdouble.Options{Region: region, Moto: moto})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	if err := double.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// program makes or removes the metadata bucket of the data plane in DATA_PLANE; the
// other goes by the same code, and would double the calls after which to kill.
func program() error {
	set, err := storage.Generate(storage.Config{
		DataPlane: os.Getenv("DATA_PLANE"), Partition: "aws", Account: "123456789012", Region: os.Getenv("AWS_REGION"),
		TLSOnly: true, DeleteData: true,
	})
	if err != nil {
		return err
	}
	client := newClient(os.Getenv("AWS_ENDPOINT_URL"), os.Getenv("AWS_REGION"), os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), "")
	r := step.Runner{Steps: storage.Steps(client, set)[:1]}
	plan, err := r.Plan(context.Background(), step.Goal(os.Getenv("GOAL")))
	if err != nil {
		return err
	}
	return r.Apply(context.Background(), plan)
}

func newClient(endpoint, region, key, secret, session string) *s3.Client {
	return s3.New(s3.Options{
		Region: region, BaseEndpoint: &endpoint, UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, session),
	})
}

// customer is the administrator of the customer's account, stranger that of another.
func customer() *s3.Client { return clientOf(double.Accounts().Customer) }
func stranger() *s3.Client { return clientOf(double.Accounts().Stranger) }

func clientOf(a awsdouble.Account) *s3.Client {
	return newClient(double.URL(), region, a.Credentials.AccessKeyID, a.Credentials.SecretAccessKey, a.Credentials.SessionToken)
}

var planes atomic.Int64

// newPlane is a name that no other test has.
func newPlane() string { return fmt.Sprintf("p%d", planes.Add(1)) }

func generate(t *testing.T, plane string, change ...func(*storage.Config)) *storage.Set {
	t.Helper()
	cfg := storage.Config{DataPlane: plane, Partition: "aws", Account: double.Accounts().Customer.ID, Region: region, TLSOnly: true}
	for _, c := range change {
		c(&cfg)
	}
	set, err := storage.Generate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func plan(t *testing.T, r step.Runner, goal step.Goal) step.Plan {
	t.Helper()
	p, err := r.Plan(t.Context(), goal)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func apply(t *testing.T, api storage.S3, set *storage.Set, goal step.Goal) {
	t.Helper()
	r := step.Runner{Steps: storage.Steps(api, set)}
	if err := r.Apply(t.Context(), plan(t, r, goal)); err != nil {
		t.Fatal(err)
	}
}

// first is the plan of the metadata bucket.
func first(t *testing.T, api storage.S3, set *storage.Set, goal step.Goal) step.Planned {
	t.Helper()
	for _, s := range plan(t, step.Runner{Steps: storage.Steps(api, set)}, goal).Steps {
		if s.Name == "bucket "+set.Metadata {
			return s
		}
	}
	t.Fatal("got no step for the metadata bucket, want one")
	return step.Planned{}
}

// settingsOf is all that a bucket has, as text.
func settingsOf(ctx context.Context, api *s3.Client, bucket string) (string, error) {
	var b strings.Builder
	add := func(name string, v any, err error) {
		fmt.Fprintf(&b, "%s: %s %v\n", name, text(v), errorCode(err))
	}
	in := &bucket
	location, err := api.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: in})
	if errorCode(err) == "NoSuchBucket" {
		return "none\n", nil
	}
	add("location", location, err)
	tags, err := api.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: in})
	add("tags", tags, err)
	block, err := api.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: in})
	add("public access block", block, err)
	owner, err := api.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: in})
	add("ownership", owner, err)
	encryption, err := api.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: in})
	add("encryption", encryption, err)
	versioning, err := api.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: in})
	add("versioning", versioning, err)
	lifecycle, err := api.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: in})
	add("lifecycle", lifecycle, err)
	cors, err := api.GetBucketCors(ctx, &s3.GetBucketCorsInput{Bucket: in})
	add("cors", cors, err)
	policy, err := api.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: in})
	add("policy", policy, err)
	return b.String(), nil
}

func errorCode(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
