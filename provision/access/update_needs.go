package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	tagging "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/vendor"
)

// Need is a right that an update takes and that a data plane of the account needs.
type Need struct {
	DataPlane string `json:"dataPlane"`
	Role      string `json:"role"`
	Action    string `json:"action"`
	Resource  string `json:"resource"`
	Purpose   string `json:"purpose"` // of the call, by the table of operations
}

// String is a part of a sentence.
func (n Need) String() string {
	return fmt.Sprintf("data plane %s needs %s on %s, with which role %s %s", n.DataPlane, n.Action, n.Resource, n.Role, n.Purpose)
}

// Tagging finds things by their tags. *resourcegroupstaggingapi.Client is one.
type Tagging interface {
	GetResources(context.Context, *resourcegroupstaggingapi.GetResourcesInput, ...func(*resourcegroupstaggingapi.Options)) (*resourcegroupstaggingapi.GetResourcesOutput, error)
}

// dataPlane is one that is there, with the names that it was made with.
type dataPlane struct {
	name  string
	names *vendor.Profile
}

// Needed asks of each call of the table that the old documents allow whether the new ones
// do. What narrows is nobody's loss where there is no data plane. The teardown role,
// where it is taken away as a whole, is no loss either: a data plane runs without it.
func (u *Update) Needed(ctx context.Context, tags Tagging) ([]Need, error) {
	needs := []Need{}
	if len(u.Narrows) == 0 && len(u.Widens) == 0 {
		return needs, nil
	}
	planes, err := u.dataPlanes(ctx)
	if err != nil {
		return nil, err
	}
	stands := sync.OnceValues(func() (bool, error) { return u.endpointStands(ctx, tags) })
	for _, plane := range planes {
		o := u.granted.Options(u.account, plane.names)
		old, err := Generate(o)
		if err != nil {
			return nil, err
		}
		for _, role := range old.Roles {
			live := u.roles[role.Name]
			dropped := u.wantedRole(role.Name) == nil
			if live == nil || isForService(u.vendor, role) || dropped && role.Name == u.vendor.RoleName+"-teardown" {
				continue
			}
			lost, err := u.lostCalls(old, plane, role, live)
			if err != nil {
				return nil, err
			}
			forEndpoint, err := u.forEndpoint(o, old, role)
			if err != nil {
				return nil, err
			}
			for _, q := range lost {
				if forEndpoint(q) {
					needs, err := stands()
					if err != nil {
						return nil, err
					}
					if !needs {
						continue
					}
				}
				need := Need{plane.name, role.Name, q.request.Action, strings.ReplaceAll(q.request.Resource, "acme", plane.name), q.operation.Purpose}
				if !slices.Contains(needs, need) {
					needs = append(needs, need)
				}
			}
		}
	}
	return needs, nil
}

// forEndpoint reports of a call whether it goes with the private endpoint: it is made for
// one, or only the documents with one allow it.
func (u *Update) forEndpoint(o Options, with *Set, role Role) (func(question) bool, error) {
	endpoints := slices.ContainsFunc(u.wanted.Roles, func(r Role) bool { return isForService(u.vendor, r) })
	if !o.PrivateEndpoint || endpoints {
		return func(q question) bool { return q.operation.Phase == operations.PrivateEndpoint }, nil
	}
	o.PrivateEndpoint = false
	without, err := Generate(o)
	if err != nil {
		return nil, err
	}
	before, err := with.evaluator(role)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(without.Roles, func(r Role) bool { return r.Name == role.Name })
	after, err := without.evaluator(without.Roles[i])
	return func(q question) bool {
		return q.operation.Phase == operations.PrivateEndpoint || before.Decide(&q.request) == iampolicy.Allowed && after.Decide(&q.request) != iampolicy.Allowed
	}, err
}

// lostCalls are the questions to which a role's documents said yes and will say no.
func (u *Update) lostCalls(old *Set, plane dataPlane, role Role, live *liveRole) ([]question, error) {
	had := deployed{role: role, name: role.Name, arn: live.arn}
	documents, err := u.documentsOf(live)
	if err != nil {
		return nil, err
	}
	had.policies.Identity = documents
	before, err := iampolicy.Compile(had.policies)
	if err != nil {
		return nil, fmt.Errorf("reading the policies of role %s: %w", role.Name, err)
	}
	after, err := iampolicy.Compile(iampolicy.Policies{})
	for _, r := range u.Set.Roles {
		if r.Name == role.Name {
			after, err = u.Set.evaluator(r)
		}
	}
	if err != nil {
		return nil, err
	}
	var lost []question
	for _, q := range old.questions(plane.names, had) {
		if before.Decide(&q.request) == iampolicy.Allowed && after.Decide(&q.request) != iampolicy.Allowed {
			lost = append(lost, q)
		}
	}
	return lost, nil
}

// dataPlanes finds them by the role of their cluster, which each has: IAM alone knows it,
// in one place, whatever the region.
func (u *Update) dataPlanes(ctx context.Context) ([]dataPlane, error) {
	var planes []dataPlane
	pages := iam.NewListRolesPaginator(u.journal.IAM, &iam.ListRolesInput{PathPrefix: aws.String(u.wanted.path())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing roles: %w", err)
		}
		for _, r := range page.Roles {
			trust, err := plain(r.AssumeRolePolicyDocument)
			if err != nil || !strings.Contains(string(trust), `"eks.amazonaws.com`) {
				continue
			}
			role, err := readRoleItself(ctx, u.journal.IAM, aws.ToString(r.RoleName))
			if err != nil {
				return nil, err
			}
			name := ""
			if role != nil && tagValue(role.tags, u.vendor.ManagedByKey()) == vendor.ManagedByValue {
				name = tagValue(role.tags, u.vendor.TagPrefix+"data-plane-id")
			}
			prefix, found := strings.CutSuffix(aws.ToString(r.RoleName), name+"-cluster")
			if name == "" || !found {
				continue
			}
			// Of another vendor profile than this one, it has other names.
			names := *u.vendor
			names.Prefix, names.CompatPrefix = prefix, prefix
			if _, boundary, ok := strings.Cut(role.boundary, ":policy"+u.vendor.Path); ok {
				if base, ok := strings.CutSuffix(boundary, "-boundary"); ok {
					names.PolicyName = base
				}
			}
			planes = append(planes, dataPlane{name, &names})
		}
	}
	return planes, nil
}

// endpointStands reports whether a data plane of the region has a private endpoint.
// Where that cannot be read, it is taken for granted.
func (u *Update) endpointStands(ctx context.Context, tags Tagging) (bool, error) {
	out, err := tags.GetResources(ctx, &resourcegroupstaggingapi.GetResourcesInput{TagFilters: []tagging.TagFilter{
		{Key: aws.String(u.vendor.ManagedByKey()), Values: []string{vendor.ManagedByValue}},
		{Key: aws.String(u.vendor.TagPrefix + componentTag), Values: []string{"endpoint"}},
	}})
	if fault.Denied(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for private endpoints: %w", err)
	}
	return len(out.ResourceTagMappingList) > 0, nil
}
