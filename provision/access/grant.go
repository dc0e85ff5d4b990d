package access

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// GrantSteps returns what grant makes in the account of the set, and revoke
// removes: the boundary, the managed policies, and the roles with what hangs
// on them.
func GrantSteps(api IAM, set *Set, v *vendor.Profile) []step.Step {
	p := place{iam: api, partition: set.Partition, account: set.Account, vendor: v}
	var users []string
	for _, r := range set.Roles {
		users = append(users, r.Name)
	}

	var steps []step.Step
	seen := map[string]bool{}
	add := func(policy Policy, path, purpose string) {
		if !seen[policy.Name] { // two roles may share a policy
			seen[policy.Name] = true
			steps = append(steps, &policyStep{place: p, policy: policy, path: path, purpose: purpose, tags: p.policyTags(set, policy), users: users})
		}
	}
	if set.Boundary != nil {
		add(*set.Boundary, set.path(), boundaryPurpose)
	}
	for _, r := range set.Roles {
		for _, policy := range r.Policies {
			if policy.Kind == managed {
				add(policy, r.Path, policyPurpose(r))
			}
		}
	}
	for _, r := range set.Roles {
		s := newRoleStep(p, set, r)
		s.tags = append(s.tags, p.digestTag(r.digests()...))
		steps = append(steps, s)
	}
	return steps
}

// The descriptions of policies.
const boundaryPurpose = "the most that roles made by the vendor can do"

func policyPurpose(r Role) string { return "what role " + r.Name + " may do" }

func newRoleStep(p place, set *Set, r Role) *roleStep {
	s := &roleStep{place: p, role: r, tags: p.roleTags(set)}
	if set.Profile == Strict && r.Name == BreakGlassRole(p.vendor) {
		s.window = set.OpenWindow
	}
	return s
}

// path is where the set's roles and policies are.
func (s *Set) path() string {
	if len(s.Roles) == 0 {
		return "/"
	}
	return s.Roles[0].Path
}

// The limits that decide whether a set fits, as AWS publishes them; the keys
// are those of GetAccountSummary. Those of an account may be higher.
var publishedQuotas = map[string]int{
	"PolicySizeQuota":              iampolicy.ManagedLimit,
	"RolePolicySizeQuota":          iampolicy.InlineLimit,
	"AssumeRolePolicySizeQuota":    iampolicy.TrustLimit,
	"AttachedPoliciesPerRoleQuota": 10,
	"RolesQuota":                   1000,
	"PoliciesQuota":                1500,
}

// fixedQuotas are those that AWS raises for nobody.
var fixedQuotas = map[string]bool{"PolicySizeQuota": true, "RolePolicySizeQuota": true}

// CheckGrantable refuses a set that no account can hold, or that none should,
// before any is asked.
func CheckGrantable(set *Set) error {
	quotas := map[string]int{}
	for key := range publishedQuotas {
		quotas[key] = math.MaxInt
		if fixedQuotas[key] {
			quotas[key] = publishedQuotas[key]
		}
	}
	if err := checkQuotas(set, quotas); err != nil {
		return err
	}
	if set.Profile == Seed {
		return usererr.New(usererr.Refused, "the published documents are for comparison only: their trust asks for no external ID").
			WithHint("use --policy compat, which allows the same, or the default, --policy strict")
	}
	return nil
}

// ErrQuotasUnknown is what Preflight returns when the account keeps its limits
// to itself; the published ones were counted with.
var ErrQuotasUnknown = errors.New("the account's own limits cannot be read")

// Preflight refuses what would fail half-way: a set that the account's own
// limits don't admit. toMake is what the plan is going to create.
func Preflight(ctx context.Context, api IAM, set *Set, plan step.Plan) error {
	summary, err := api.GetAccountSummary(ctx, &iam.GetAccountSummaryInput{})
	var refused smithy.APIError
	if errors.As(err, &refused) && refused.ErrorCode() == "AccessDenied" {
		if err := checkQuotas(set, publishedQuotas); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", ErrQuotasUnknown, err)
	}
	if err != nil {
		return fmt.Errorf("reading the account's limits: %w", err)
	}

	quotas := map[string]int{}
	for key, published := range publishedQuotas {
		quotas[key] = published
		if own, ok := summary.SummaryMap[key]; ok {
			quotas[key] = int(own)
		}
	}
	if err := checkQuotas(set, quotas); err != nil {
		return err
	}

	roles, policies := 0, 0
	names := map[string]*int{}
	for _, r := range set.Roles {
		names[roleStepName(r.Name)] = &roles
	}
	for _, p := range set.Policies() {
		names[policyStepName(p.Name)] = &policies
	}
	for _, s := range append(plan.With(step.Create), plan.With(step.Replace)...) {
		if n := names[s.Name]; n != nil {
			*n++
		} else { // a stack, which makes them all
			roles, policies = roles+len(set.Roles), policies+len(set.Policies())
		}
	}
	for _, count := range []struct {
		what, has, quota string
		more             int
	}{
		{"roles", "Roles", "RolesQuota", roles},
		{"customer managed policies", "Policies", "PoliciesQuota", policies},
	} {
		has := int(summary.SummaryMap[count.has])
		if has+count.more > quotas[count.quota] {
			return usererr.New(usererr.Refused, "account %s has %d of %d %s, and %d more are needed",
				set.Account, has, quotas[count.quota], count.what, count.more).
				WithHint("delete some, or ask AWS to raise the quota %s", count.quota)
		}
	}
	return nil
}

// checkQuotas compares every document with the limit that IAM has for it.
func checkQuotas(set *Set, quotas map[string]int) error {
	over := func(what string, size int, key string) *usererr.Error {
		return usererr.New(usererr.Refused, "%s has %s characters, and IAM takes %s (%s)", what, thousands(size), thousands(quotas[key]), key)
	}
	const remedy = "use shorter names in the vendor profile, or --policy strict, which is split into more policies"
	if set.Boundary != nil && set.Boundary.Size > quotas["PolicySizeQuota"] {
		return over("policy "+set.Boundary.Name, set.Boundary.Size, "PolicySizeQuota").WithHint(remedy)
	}
	for _, r := range set.Roles {
		if n := r.Trust.Size; n > quotas["AssumeRolePolicySizeQuota"] {
			return over("the trust policy of role "+r.Name, n, "AssumeRolePolicySizeQuota").WithHint("ask AWS to raise the quota")
		}
		inlines, attached := 0, len(r.Attached)
		for _, p := range r.Policies {
			if p.Kind == inline {
				inlines += p.Size
				continue
			}
			attached++
			if p.Size > quotas["PolicySizeQuota"] {
				return over("policy "+p.Name, p.Size, "PolicySizeQuota").WithHint(remedy)
			}
		}
		if inlines > quotas["RolePolicySizeQuota"] {
			return over("the inline policy of role "+r.Name, inlines, "RolePolicySizeQuota").WithHint("use --policy compat, which allows the same in managed policies, or the default, --policy strict")
		}
		if attached > quotas["AttachedPoliciesPerRoleQuota"] {
			return usererr.New(usererr.Refused, "role %s needs %d managed policies, and the account allows %d on a role (AttachedPoliciesPerRoleQuota)",
				r.Name, attached, quotas["AttachedPoliciesPerRoleQuota"]).WithHint("ask AWS to raise the quota")
		}
	}
	return nil
}
