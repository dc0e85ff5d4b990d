package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/provision/access/stack"
	"biplane.dev/biplane/provision/step/killtest"
	"biplane.dev/biplane/provision/vendor"
)

// TestKillStack kills grant and revoke by a stack, loses responses of theirs, and finishes
// them: compat, whose template goes in the call, and strict, whose template goes through a
// bucket for the moment. A bucket is never left.
func TestKillStack(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	for _, profile := range []struct {
		name   string
		flags  []string
		bucket bool
		sample int
		// Most of a run's calls look; with few of them it is interrupted, too.
		interrupted int
	}{
		{"compat", []string{"--policy", "compat"}, false, 16, 2},
		{"strict", []string{"--delete-permissions"}, true, 8, 0},
	} {
		grant := append([]string{"access", "grant", "--method", "cloudformation", "--external-id", externalID, "--yes", "--quiet"}, profile.flags...)
		t.Run("it finishes granting "+profile.name, func(t *testing.T) {
			t.Parallel()
			worlds := newStackWorlds(t, "", profile.bucket)
			killtest.Run(t, killtest.Program{Path: biplane, Args: grant, Sample: profile.sample, Interrupted: profile.interrupted, World: worlds.take})
		})
		t.Run("it finishes revoking "+profile.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "granted")
			before := newStackWorlds(t, dir, profile.bucket)
			before.prepare(t, dir, biplane, grant)
			killtest.Run(t, killtest.Program{Path: biplane, Args: []string{"access", "revoke", "--yes", "--quiet"}, Sample: profile.sample, Interrupted: profile.interrupted, World: before.take})
		})
	}
}

// stackWorlds are doubles with CloudFormation, and with S3 where a template goes by it.
type stackWorlds struct {
	from      string // a directory of a double to begin with; "" is an empty account
	trials    string
	emulators chan *awsdouble.Emulator // nil: no S3
}

func newStackWorlds(t *testing.T, from string, s3 bool) *stackWorlds {
	t.Helper()
	w := &stackWorlds{from: from, trials: t.TempDir()}
	if !s3 {
		return w
	}
	w.emulators = newEmulators(t)
	return w
}

// take makes one for a trial.
func (w *stackWorlds) take(ctx context.Context) (*killtest.World, error) {
	dir, err := os.MkdirTemp(w.trials, "trial")
	if err != nil {
		return nil, err
	}
	if w.from != "" {
		if err := os.CopyFS(dir, os.DirFS(w.from)); err != nil {
			return nil, err
		}
	}
	world, _, err := w.open(ctx, dir)
	return world, err
}

// open starts a double on a directory; the client is the customer's.
func (w *stackWorlds) open(ctx context.Context, dir string) (*killtest.World, *iam.Client, error) {
	options := awsdouble.Options{Dir: dir}
	if w.emulators != nil {
		options.Emulator = <-w.emulators
	}
	giveBack := func() {
		if w.emulators != nil {
			w.emulators <- options.Emulator
		}
	}
	double, err := awsdouble.Start(ctx, options)
	if err != nil {
		giveBack()
		return nil, nil, err
	}
	key := double.Accounts().Customer.Credentials
	cfg := aws.Config{Region: "eu-central-1", BaseEndpoint: aws.String(double.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")}
	return &killtest.World{
		Endpoint: double.URL(),
		Env:      append(double.Env(), "GOGC=off", "GOMAXPROCS=1", "XDG_STATE_HOME="+filepath.Join(dir, "state")),
		State:    func(ctx context.Context) (string, error) { return stackDetails(ctx, cfg, w.emulators != nil) },
		Close: func() {
			double.Stop()
			giveBack()
		},
	}, iam.NewFromConfig(cfg), nil
}

// prepare grants in a directory, and hangs on the provision role what keeps
// CloudFormation from deleting it.
func (w *stackWorlds) prepare(t *testing.T, dir, program string, grant []string) {
	t.Helper()
	world, client, err := w.open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	cmd := exec.CommandContext(t.Context(), program, grant...)
	cmd.Env = world.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("granting: %v: %s", err, out)
	}
	role := aws.String(vendor.Default().RoleName)
	if _, err := client.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: role, PolicyArn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")}); err != nil {
		t.Fatal(err)
	}
	const nothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`
	if _, err := client.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: role, PolicyName: aws.String("more"), PolicyDocument: aws.String(nothing)}); err != nil {
		t.Fatal(err)
	}
}

// stackDetails is the account's IAM with its stack and its buckets, without what differs
// between two runs anyway.
func stackDetails(ctx context.Context, cfg aws.Config, s3There bool) (string, error) {
	details, err := accountDetails(ctx, iam.NewFromConfig(cfg))
	if err != nil {
		return "", err
	}
	v := vendor.Default()
	client := cloudformation.NewFromConfig(cfg)
	there, err := stack.Read(ctx, client, v, v.StackName)
	if err != nil {
		return "", err
	}
	if there != nil {
		policy, err := client.GetStackPolicy(ctx, &cloudformation.GetStackPolicyInput{StackName: &v.StackName})
		if err != nil {
			return "", err
		}
		sets, err := client.ListChangeSets(ctx, &cloudformation.ListChangeSetsInput{StackName: &v.StackName})
		if err != nil {
			return "", err
		}
		waiting := 0
		for _, s := range sets.Summaries {
			if s.ExecutionStatus == "AVAILABLE" {
				waiting++
			}
		}
		text, err := json.MarshalIndent(map[string]any{
			"status": there.Status, "parameters": there.Parameters, "outputs": there.Outputs, "tags": there.Tags, "protected": there.Protected,
			"template": there.Body, "policy": policy.StackPolicyBody, "change sets that wait": waiting,
		}, "", " ")
		if err != nil {
			return "", err
		}
		details += string(text) + "\n"
	}
	if s3There {
		buckets, err := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).ListBuckets(ctx, &s3.ListBucketsInput{})
		if err != nil {
			return "", err
		}
		if len(buckets.Buckets) > 0 {
			return "", fmt.Errorf("got %d buckets left, want none", len(buckets.Buckets))
		}
	}
	return details, nil
}
