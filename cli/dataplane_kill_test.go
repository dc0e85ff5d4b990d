package cli_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/step/killtest"
)

// TestKillDataPlane kills apply, remove and upgrade of a whole data plane, loses responses
// of theirs, and finishes them: everything in the account is then as after a run that
// nobody troubled, nothing is there twice, and nothing is left over.
func TestKillDataPlane(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	worlds := newPlaneWorlds(t, biplane)
	file := dataPlaneFile(t)
	args := func(command string, more ...string) []string {
		return append([]string{"dataplane", command, file, "--profile", "vendor", "--yes", "--quiet"}, more...)
	}
	applied := func(ctx context.Context) (*killtest.World, error) {
		world, err := worlds.take(ctx)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, biplane, args("apply")...)
		cmd.Env = world.Env
		if out, err := cmd.CombinedOutput(); err != nil {
			world.Close()
			return nil, fmt.Errorf("making what is to be changed: %w: %s", err, out)
		}
		return world, nil
	}
	t.Run("it finishes making one", func(t *testing.T) {
		killtest.Run(t, killtest.Program{Path: biplane, Args: args("apply"), Sample: 8, World: worlds.take})
	})
	t.Run("it finishes removing one", func(t *testing.T) {
		killtest.Run(t, killtest.Program{Path: biplane, Args: args("remove"), Sample: 6, World: applied})
	})
	// Most of its calls look; it is interrupted, too.
	t.Run("it finishes bringing one to the next version", func(t *testing.T) {
		killtest.Run(t, killtest.Program{Path: biplane, Args: args("upgrade", "--kubernetes", "1.35"), Sample: 6, Interrupted: 2, World: applied})
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

// planeWorlds are doubles of all of AWS, each with an account that has granted the access.
// What takes longest to start of a double is kept from one trial to the next.
type planeWorlds struct {
	granted   string
	emulators chan *awsdouble.Emulator
}

func newPlaneWorlds(t *testing.T, biplane string) *planeWorlds {
	t.Helper()
	return &planeWorlds{
		granted:   grantedAccount(t, biplane, []string{"access", "grant", "--method", "iam", "--external-id", externalID, "--delete-permissions", "--yes", "--quiet"}),
		emulators: newEmulators(t),
	}
}

// newEmulators starts one for each trial that is made at once.
func newEmulators(t *testing.T) chan *awsdouble.Emulator {
	t.Helper()
	moto, err := filepath.Abs("../.cache/venv/bin/moto_server")
	if err != nil {
		t.Fatal(err)
	}
	emulators := make(chan *awsdouble.Emulator, killtest.Workers())
	for range cap(emulators) {
		emulator, err := awsdouble.NewEmulator(moto)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { emulator.Stop() })
		emulators <- emulator
	}
	return emulators
}

// take makes one.
func (w *planeWorlds) take(ctx context.Context) (*killtest.World, error) {
	dir, err := os.MkdirTemp(filepath.Dir(w.granted), "trial")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, os.DirFS(w.granted)); err != nil {
		return nil, err
	}
	emulator := <-w.emulators
	double, err := awsdouble.Start(ctx, awsdouble.Options{Dir: dir, Emulator: emulator, Clock: clock.Scaled(1000)})
	if err != nil {
		w.emulators <- emulator
		return nil, err
	}
	key := double.Accounts().Customer.Credentials
	customer := aws.Config{Region: provisiontest.Region, BaseEndpoint: aws.String(double.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")}
	return &killtest.World{
		Endpoint: double.URL(), Env: double.Env(),
		State: func(ctx context.Context) (string, error) { return provisiontest.Describe(ctx, customer) },
		Close: func() {
			double.Stop()
			w.emulators <- emulator
			os.RemoveAll(dir)
		},
	}, nil
}
