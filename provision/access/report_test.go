package access_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/organizations"
	orgtypes "github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// company is an organization of which a test says everything: its management account, and
// the policies on each of account, unit and root.
type company struct {
	management string
	policies   map[string]map[string]string // by target: name to text
	parents    map[string]string
	fails      error
}

func (c company) DescribeOrganization(context.Context, *organizations.DescribeOrganizationInput, ...func(*organizations.Options)) (*organizations.DescribeOrganizationOutput, error) {
	return &organizations.DescribeOrganizationOutput{Organization: &orgtypes.Organization{MasterAccountId: &c.management}}, c.fails
}

func (c company) ListParents(_ context.Context, in *organizations.ListParentsInput, _ ...func(*organizations.Options)) (*organizations.ListParentsOutput, error) {
	parent := c.parents[*in.ChildId]
	return &organizations.ListParentsOutput{Parents: []orgtypes.Parent{{Id: &parent}}}, nil
}

func (c company) ListPoliciesForTarget(_ context.Context, in *organizations.ListPoliciesForTargetInput, _ ...func(*organizations.Options)) (*organizations.ListPoliciesForTargetOutput, error) {
	out := &organizations.ListPoliciesForTargetOutput{}
	for name := range c.policies[*in.TargetId] {
		out.Policies = append(out.Policies, orgtypes.PolicySummary{Id: &name, Name: &name})
	}
	return out, nil
}

func (c company) DescribePolicy(_ context.Context, in *organizations.DescribePolicyInput, _ ...func(*organizations.Options)) (*organizations.DescribePolicyOutput, error) {
	for _, on := range c.policies {
		if text, there := on[*in.PolicyId]; there {
			return &organizations.DescribePolicyOutput{Policy: &orgtypes.Policy{Content: &text}}, nil
		}
	}
	return nil, &orgtypes.PolicyNotFoundException{}
}

func TestReport(t *testing.T) {
	t.Parallel()
	const full = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	a := newAccount(t, awsidentity.Options{})
	report := func(t *testing.T, c company) (*access.Forecast, error) {
		t.Helper()
		p := access.Prospect{
			Set: generate(t, func(o *access.Options) { o.ExternalID = "" }), Vendor: vendor.Default(), Caller: "arn:aws:iam::" + customerID + ":user/administrator",
			IAM: a, Organizations: c, Now: time.Now(),
		}
		return p.Run(t.Context())
	}
	row := func(t *testing.T, f *access.Forecast, check, target string) access.Row {
		t.Helper()
		for _, r := range f.Rows {
			if r.Check == check && r.Target == target {
				return r
			}
		}
		t.Fatalf("got no row %s of %s, want one", check, target)
		return access.Row{}
	}

	t.Run("it evaluates every level of an organization", func(t *testing.T) {
		f, err := report(t, company{management: "444455556666",
			parents: map[string]string{customerID: "ou-1", "ou-1": "r-1"},
			policies: map[string]map[string]string{
				customerID: {"Full": full},
				"ou-1": {"Unit": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
					{"Effect":"Deny","Action":"ec2:CreateVpc","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"` + region + `"}}}]}`},
				"r-1": {"Full": full},
			}})
		if err != nil {
			t.Fatal(err)
		}
		got := row(t, f, "organization", "role union-ai-admin")
		if got.Result != access.Fail || !strings.HasPrefix(got.Why, "1 of its ") || !strings.Contains(got.Why, "ec2:CreateVpc") || !strings.HasSuffix(got.Why, "by policy Unit") {
			t.Errorf("got %+v, want ec2:CreateVpc denied by the unit's policy", got)
		}
		if got := row(t, f, "organization", "role union-ai-admin-observe"); got.Result != access.Pass {
			t.Errorf("got %+v, want it to pass", got)
		}
	})
	t.Run("it finds a level that allows nothing of a service", func(t *testing.T) {
		f, err := report(t, company{management: "444455556666", parents: map[string]string{customerID: "r-1"}, policies: map[string]map[string]string{
			customerID: {"Full": full},
			"r-1":      {"Some": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}]}`},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := row(t, f, "calls of grant", "the caller"); got.Result != access.Fail || !strings.Contains(got.Why, "iam:CreatePolicy") {
			t.Errorf("got %+v, want the calls of grant denied", got)
		}
		if got := row(t, f, "service-linked role", "eks"); got.Result != access.Fail {
			t.Errorf("got %+v, want the role that nobody may make to fail", got)
		}
	})
	t.Run("it knows that nothing binds a management account", func(t *testing.T) {
		f, err := report(t, company{management: customerID})
		if err != nil {
			t.Fatal(err)
		}
		if got := row(t, f, "organization", customerID); got.Result != access.Pass || f.Summary.Fail != 0 {
			t.Errorf("got %+v and %+v, want it to pass", got, f.Summary)
		}
	})
	t.Run("it ends where an organization has no end", func(t *testing.T) {
		if _, err := report(t, company{management: "444455556666", parents: map[string]string{customerID: "ou-1", "ou-1": "ou-1"}}); err == nil {
			t.Error("got no error, want one")
		}
	})
	t.Run("it has no forecast where AWS cannot be reached", func(t *testing.T) {
		down := errors.New("connection refused")
		if _, err := report(t, company{fails: down}); !errors.Is(err, down) {
			t.Errorf("got %v, want %v", err, down)
		}
	})
}
