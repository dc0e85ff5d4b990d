package template

import (
	"strings"
	"testing"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/iampolicy"
)

// largest are the sizes of a set that IAM counts: of its largest managed policy, of all
// its policies together, and of the largest trust.
func largest(set *access.Set) (policy, sum, trust int) {
	policies := []access.Policy{}
	if set.Boundary != nil {
		policies = append(policies, *set.Boundary)
	}
	for _, r := range set.Roles {
		policies = append(policies, r.Policies...)
		trust = max(trust, r.Trust.Size)
	}
	for _, p := range policies {
		policy, sum = max(policy, p.Size), sum+p.Size
	}
	return policy, sum, trust
}

// Whatever name the role is given, in every region, each document stays in IAM's limits.
func TestEveryDocumentFitsInEveryRegion(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		body := made(t, v.Options).Bytes(JSON)
		o := v.Options
		o.ExternalID, o.PreviousExternalID = strings.Repeat("e", 24), strings.Repeat("p", 24)
		parameters := Parameters(o)
		parameters[RoleNameParameter] = strings.Repeat("r", roleNameLimit)
		for _, region := range access.Regions() {
			set, err := Resolve(body, parameters, account, region.Name)
			if err != nil {
				t.Fatal(err)
			}
			policy, _, trust := largest(set)
			if policy > iampolicy.ManagedLimit || trust > iampolicy.TrustLimit {
				t.Errorf("%s in %s: got a policy of %d and a trust of %d characters, want at most %d and %d",
					v.name, region.Name, policy, trust, iampolicy.ManagedLimit, iampolicy.TrustLimit)
			}
		}
	}
}

// The sizes that docs/access-template.md has: go test -run Sizes -v.
func TestSizes(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		made := made(t, v.Options)
		t.Logf("%s: %d bytes as JSON, %d as YAML", v.name, made.Size(JSON), made.Size(YAML))
		if compat := v.Profile == access.Compat; (made.Size(JSON) <= BodyLimit) != compat || made.Size(YAML) > URLLimit/4 {
			t.Errorf("%s: got %d bytes, want compat alone to be small enough to go without S3", v.name, made.Size(JSON))
		}
		o := v.Options
		o.ExternalID = externalID
		for _, region := range LinkRegions {
			set, err := Resolve(made.Bytes(JSON), Parameters(o), account, region)
			if err != nil {
				t.Fatal(err)
			}
			policy, sum, trust := largest(set)
			t.Logf("  %-12s largest policy %d, all policies %d, largest trust %d", region, policy, sum, trust)
		}
	}
}
