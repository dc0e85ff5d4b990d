package access

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// RevokeSteps returns the steps of everything in the account that a grant may
// have made, whatever its profile, switches and region were: revoke must not
// depend on somebody remembering them. What carries a name of ours but not our
// tags is among them, and its plan is to leave it. left names what else is
// under the vendor's path: things that the vendor made later.
//
// held are the roles' names and the policies' ARNs that stacks hold, which remove them:
// there is no step for such a role, and one of a policy only says why it stays.
func RevokeSteps(ctx context.Context, api IAM, partition, account string, v *vendor.Profile, held []string) (steps []step.Step, left []string, err error) {
	p := place{iam: api, partition: partition, account: account, vendor: v}
	roles, err := allRoles(ctx, api)
	if err != nil {
		return nil, nil, err
	}
	policies, err := allPolicies(ctx, api)
	if err != nil {
		return nil, nil, err
	}
	known, err := grantable(partition, account, v, roles)
	if err != nil {
		return nil, nil, err
	}

	var users []string
	var roleSteps []step.Step
	for _, r := range roles {
		name, path := aws.ToString(r.RoleName), aws.ToString(r.Path)
		if slices.Contains(held, name) {
			users = append(users, name)
			continue
		}
		wanted, ok := known.role(name, path)
		if !ok {
			if path == v.Path {
				left = append(left, "role "+aws.ToString(r.Arn))
			}
			continue
		}
		users = append(users, name)
		roleSteps = append(roleSteps, &roleStep{place: p, role: wanted})
	}
	there := map[string]bool{}
	for _, have := range policies {
		name, path := aws.ToString(have.PolicyName), aws.ToString(have.Path)
		arn := aws.ToString(have.Arn)
		held := slices.Contains(held, arn)
		if !held && !known.policies[name] {
			if path == v.Path {
				left = append(left, "policy "+arn)
			}
			continue
		}
		there[name] = true
		if held {
			if strangers, err := UsedBy(ctx, api, arn, users); err != nil {
				return nil, nil, err
			} else if len(strangers) == 0 {
				continue // the stack removes it
			}
		}
		steps = append(steps, &policyStep{place: p, policy: Policy{Name: name}, path: path, users: users, held: held})
	}
	// A role needs only those of its policies that are there to be removed.
	for _, s := range roleSteps {
		s := s.(*roleStep)
		s.removeAfter = there
		steps = append(steps, s)
	}
	return steps, left, nil
}

// grants is every name that a grant may give, and what it would give it to.
type grants struct {
	roles    map[string][]Role // by name; the profiles differ in path and policies
	policies map[string]bool
}

// role returns the role of that name, preferably the one of that path.
func (g grants) role(name, path string) (Role, bool) {
	candidates := g.roles[name]
	if len(candidates) == 0 {
		return Role{}, false
	}
	i := slices.IndexFunc(candidates, func(r Role) bool { return r.Path == path })
	return candidates[max(i, 0)], true
}

// grantable generates the sets that may have been granted: both profiles, in
// full, in every region that a role of the account is named for.
func grantable(partition, account string, v *vendor.Profile, roles []types.Role) (grants, error) {
	g := grants{roles: map[string][]Role{}, policies: map[string]bool{}}
	for _, region := range regionsNamed(partition, v, roles) {
		for _, o := range []Options{
			{Profile: Strict, PrivateEndpoint: true, DeletePermissions: true},
			{Profile: Compat, PrivateEndpoint: true},
		} {
			o.Account, o.Region, o.Vendor = account, region, v
			set, err := Generate(o)
			if err != nil {
				return grants{}, err
			}
			if set.Boundary != nil {
				g.policies[set.Boundary.Name] = true
			}
			for _, r := range set.Roles {
				g.roles[r.Name] = append(g.roles[r.Name], r)
				for _, p := range r.Policies {
					if p.Kind == managed {
						g.policies[p.Name] = true
					}
				}
			}
		}
	}
	return g, nil
}

// regionsNamed are the regions of which the account has a private endpoint's
// role, and one more: all other names are the same everywhere.
func regionsNamed(partition string, v *vendor.Profile, roles []types.Role) []string {
	var named []string
	for _, region := range Regions() {
		if region.Partition != partition {
			continue
		}
		has := slices.ContainsFunc(roles, func(r types.Role) bool {
			return strings.HasPrefix(aws.ToString(r.RoleName), v.EndpointPrefix+region.Name+"-")
		})
		if has || len(named) == 0 {
			named = append(named, region.Name)
		}
	}
	return named
}

func allRoles(ctx context.Context, api IAM) ([]types.Role, error) {
	var all []types.Role
	pages := iam.NewListRolesPaginator(api, &iam.ListRolesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing roles: %w", err)
		}
		all = append(all, page.Roles...)
	}
	return all, nil
}

func allPolicies(ctx context.Context, api IAM) ([]types.Policy, error) {
	var all []types.Policy
	pages := iam.NewListPoliciesPaginator(api, &iam.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing policies: %w", err)
		}
		all = append(all, page.Policies...)
	}
	return all, nil
}
