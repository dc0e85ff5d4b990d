package cli_test

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/step/killtest"
)

var everyKill = flag.Bool("every-kill", false, "kill apply and remove of a data plane after each of their calls, and not after a sample of them: this takes hours")

// sampled kills after one call in so many; which ones is the same in each run.
const sampled = 60

// TestKillDataPlane kills apply, remove and upgrade of a whole data plane, with the
// response delivered and lost, and finishes them: everything in the account is then as after a
// run that nobody killed, nothing is there twice, and nothing is left over.
func TestKillDataPlane(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	granted := grantedAccount(t, biplane, []string{"access", "grant", "--method", "iam", "--external-id", externalID, "--delete-permissions", "--yes", "--quiet"})
	file := dataPlaneFile(t)
	apply := []string{"dataplane", "apply", file, "--profile", "vendor", "--yes", "--quiet"}
	pick := func(n int) bool {
		h := fnv.New32a()
		fmt.Fprint(h, n)
		return *everyKill || h.Sum32()%sampled == 0
	}
	applied := func(ctx context.Context) (*killtest.World, error) {
		world, err := planeWorld(ctx, granted)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, biplane, apply...)
		cmd.Env = world.Env
		if out, err := cmd.CombinedOutput(); err != nil {
			world.Close()
			return nil, fmt.Errorf("making what is to be changed: %w: %s", err, out)
		}
		return world, nil
	}
	t.Run("it finishes making one", func(t *testing.T) {
		killtest.Run(t, killtest.Program{
			Path: biplane, Args: apply, Reads: onlyLooks, Pick: pick,
			World: func(ctx context.Context) (*killtest.World, error) { return planeWorld(ctx, granted) },
		})
	})
	t.Run("it finishes removing one", func(t *testing.T) {
		killtest.Run(t, killtest.Program{
			Path: biplane, Args: []string{"dataplane", "remove", file, "--profile", "vendor", "--yes", "--quiet"}, Reads: onlyLooks, Pick: pick, World: applied,
		})
	})
	// Most of its calls look; it is interrupted, too.
	t.Run("it finishes bringing one to the next version", func(t *testing.T) {
		killtest.Run(t, killtest.Program{
			Path: biplane, Args: []string{"dataplane", "upgrade", file, "--kubernetes", "1.35", "--profile", "vendor", "--yes", "--quiet"}, Reads: onlyLooks, Pick: pick, Interrupted: 2, World: applied,
		})
	})
}

// dataPlaneFile is a small data plane, for trials of which there are many.
func dataPlaneFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dataplane.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: biplane.dev/v1alpha1
kind: DataPlane
metadata: {name: demo}
spec:
  account: "123456789012"
  region: eu-central-1
  access: {roleArn: "arn:aws:iam::123456789012:role/union/union-ai-admin", externalId: "`+externalID+`", policy: strict}
  network: {create: {cidr: 10.0.0.0/16, zones: 2, nat: single, endpoints: gateway-only, flowLogDays: 0}}
  cluster: {version: "1.34", endpoint: public}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// onlyLooks reports whether a call changes nothing, by its name or its method.
func onlyLooks(call string) bool {
	for _, prefix := range []string{"Get", "List", "Describe", "AssumeRole", "GET ", "HEAD "} {
		if strings.HasPrefix(call, prefix) {
			return true
		}
	}
	return false
}

// planeWorld is a double of all of AWS, with an account that has granted the access.
func planeWorld(ctx context.Context, granted string) (*killtest.World, error) {
	dir, err := os.MkdirTemp(filepath.Dir(granted), "trial")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, os.DirFS(granted)); err != nil {
		return nil, err
	}
	moto, err := filepath.Abs("../.cache/venv/bin/moto_server")
	if err != nil {
		return nil, err
	}
	double, err := awsdouble.Start(ctx, awsdouble.Options{Dir: dir, Moto: moto, Clock: clock.Scaled(1000)})
	if err != nil {
		return nil, err
	}
	key := double.Accounts().Customer.Credentials
	customer := aws.Config{Region: provisiontest.Region, BaseEndpoint: aws.String(double.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")}
	return &killtest.World{
		Endpoint: double.URL(), Env: double.Env(),
		State: func(ctx context.Context) (string, error) { return provisiontest.Describe(ctx, customer) },
		Close: func() { double.Stop() },
	}, nil
}
