// Package provisiontest is an account in the double of AWS, open to the vendor by the
// strict or the compat grant, for tests of whatever provisions in it: what a test does
// there, it does by the roles, the documents and the guard of a real customer.
//
// It is for tests only. Start with Start, in a TestMain.
package provisiontest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// Region is where the account is worked in.
const Region = "eu-central-1"

// ExternalID is what the account's roles ask for.
const ExternalID = "5Zq0v3l1x8mTfKcW2hYbNg"

// Account is an account that the vendor may work in.
type Account struct {
	Double *awsdouble.Double
	Clock  clock.Clock
	Policy spec.Policy
}

// Start starts a double and grants the access. Stop it with Double.Stop.
func Start(ctx context.Context, o awsdouble.Options, policy spec.Policy) (*Account, error) {
	root := root()
	if out, err := exec.CommandContext(ctx, filepath.Join(root, "test/python/setup.sh")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run 'make setup': %s", out)
	}
	o.Region, o.Moto = Region, filepath.Join(root, ".cache/venv/bin/moto_server")
	double, err := awsdouble.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	a := &Account{Double: double, Clock: o.Clock, Policy: policy}
	if err := a.grant(ctx); err != nil {
		double.Stop()
		return nil, err
	}
	return a, nil
}

// root is the checkout, above the package that is tested: with -trimpath a program does
// not know where its sources are.
func root() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "."
}

// grant opens the account as its owner does.
func (a *Account) grant(ctx context.Context) error {
	set, err := access.Generate(access.Options{Profile: access.ProfileName(a.Policy), Account: a.ID(), Region: Region, ExternalID: ExternalID,
		DeletePermissions: a.Policy == spec.Strict, PrivateEndpoint: true})
	if err != nil {
		return err
	}
	r := step.Runner{Steps: access.GrantSteps(iam.NewFromConfig(a.Customer()), set, vendor.Default())}
	plan, err := r.Plan(ctx, step.Present)
	if err != nil {
		return err
	}
	return r.Apply(ctx, plan)
}

// ID is the account's number.
func (a *Account) ID() string { return a.Double.Accounts().Customer.ID }

// Customer is a configuration with the credentials of the account's administrator.
func (a *Account) Customer() aws.Config {
	c := a.Double.Accounts().Customer.Credentials
	return a.config(c.AccessKeyID, c.SecretAccessKey, "")
}

// Vendor is a configuration with the vendor's own credentials, as the control plane has.
func (a *Account) Vendor() aws.Config {
	c := a.Double.Accounts().Vendor.Credentials
	return a.config(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
}

func (a *Account) config(id, secret, token string) aws.Config {
	url := a.Double.URL()
	return aws.Config{
		Region: Region, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider(id, secret, token),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 10, time.Second })
		},
	}
}

var count atomic.Int64

// DataPlane is the smallest file of a data plane, with a name that no other test has.
func (a *Account) DataPlane() *spec.DataPlane {
	dp := &spec.DataPlane{APIVersion: spec.APIVersion, Kind: spec.Kind, Metadata: spec.Metadata{Name: fmt.Sprintf("t%d", count.Add(1))}}
	dp.Spec.Account, dp.Spec.Region = a.ID(), Region
	role := "arn:aws:iam::" + a.ID() + ":role"
	switch a.Policy {
	case spec.Compat:
		role += "/"
	default:
		role += vendor.Default().Path
	}
	dp.Spec.Access = spec.Access{RoleARN: role + vendor.Default().RoleName, ExternalID: ExternalID, Policy: a.Policy}
	dp.Spec.Network.Create = &spec.NetworkToMake{CIDR: "10.0.0.0/16", Zones: 3}
	dp.Spec.Cluster.Version = "1.34"
	dp.Defaults()
	return dp
}

// Open is a data plane in a session of one of the vendor's roles.
func (a *Account) Open(t *testing.T, dp *spec.DataPlane, as operations.Roles) *plane.Plane {
	t.Helper()
	p, err := plane.Open(t.Context(), plane.Options{DataPlane: dp, Vendors: a.Vendor(), As: as, Clock: a.Clock})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Runner runs steps as the command line does.
func (a *Account) Runner(steps []step.Step) step.Runner {
	return step.Runner{Steps: steps, Parallel: 32, PerService: 5, Patience: 2 * time.Minute, Clock: a.Clock}
}

// Reach brings steps to a goal and returns the plan that was carried out.
func (a *Account) Reach(t *testing.T, steps []step.Step, goal step.Goal) step.Plan {
	t.Helper()
	r := a.Runner(steps)
	plan := a.Plan(t, steps, goal)
	if err := r.Apply(t.Context(), plan); err != nil {
		t.Fatalf("%s: %v", goal, err)
	}
	return plan
}

// Plan looks.
func (a *Account) Plan(t *testing.T, steps []step.Step, goal step.Goal) step.Plan {
	t.Helper()
	plan, err := a.Runner(steps).Plan(t.Context(), goal)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}
