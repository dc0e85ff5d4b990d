package cli_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/provision/fault"
)

// TestRotateOfAStack has the vendor come in all the time while a stack's external ID is
// rotated. Of IAM's way, provision/access tests the same.
func TestRotateOfAStack(t *testing.T) {
	t.Parallel()
	t.Run("it shuts the vendor out at no moment", func(t *testing.T) {
		t.Parallel()
		const newID = "8Rk2mQ0sZ4vJtYpLxW9cAe"
		biplane := program(t)
		double, err := awsdouble.Start(t.Context(), awsdouble.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer double.Stop()
		run := func(args ...string) {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), biplane, append(args, "--yes", "--quiet")...)
			cmd.Env = append(double.Env(), "HOME="+t.TempDir())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", args, err, out)
			}
		}
		key := double.Accounts().Vendor.Credentials
		vendor := sts.New(sts.Options{
			Region: "eu-central-1", BaseEndpoint: ptr(double.URL()), Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, key.SessionToken),
		})
		assume := func(ctx context.Context, id string) error {
			_, err := vendor.AssumeRole(ctx, &sts.AssumeRoleInput{
				RoleArn: ptr("arn:aws:iam::" + double.Accounts().Customer.ID + ":role/union-ai-admin"), RoleSessionName: ptr("test"), ExternalId: &id,
			})
			return err
		}

		run("access", "grant", "--method", "cloudformation", "--policy", "compat", "--external-id", externalID)
		double.Identity().SetConsistencyDelay(300 * time.Millisecond)
		ctx, stop := context.WithCancel(t.Context())
		tried, ended := 0, make(chan error)
		go func() {
			for ctx.Err() == nil {
				if assume(ctx, externalID) != nil {
					if err := assume(ctx, newID); err != nil && ctx.Err() == nil {
						ended <- err
						return
					}
				}
				tried++
			}
			ended <- nil
		}()
		run("access", "rotate-external-id", "--external-id", newID)
		run("access", "rotate-external-id", "--finish")
		stop()
		if err := <-ended; err != nil || tried == 0 {
			t.Errorf("after %d sessions with one of the two: got %v, want no gap", tried, err)
		}
		// A stack is done when IAM has it, and what IAM has is seen a little later.
		double.Identity().SetConsistencyDelay(0)
		if err := assume(t.Context(), newID); err != nil {
			t.Errorf("with the new value: got %v, want a session", err)
		}
		if err := assume(t.Context(), externalID); !fault.Denied(err) {
			t.Errorf("with the old value: got %v, want it refused", err)
		}
	})
}
