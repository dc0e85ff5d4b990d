package cluster

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// entry lets one role into the cluster.
type entry struct {
	role   string // ARN
	policy string // EKS's own: AmazonEKSClusterAdminPolicy; "" for nodes, whose rights follow from the type
	kind   string // STANDARD, EC2_LINUX
	why    string
	// maybe is for a role that the customer may not have granted: then nobody is let in.
	maybe bool
}

// letIn is who is let in: the vendor's roles, each with what its work needs, and the
// autoscaler's nodes. EKS makes the entry of a node group's role itself.
func (c *cluster) letIn() []entry {
	admin, view := "AmazonEKSClusterAdminPolicy", "AmazonEKSViewPolicy" // AmazonEKSAdminViewPolicy would show secrets, too
	base := c.Spec.Access.RoleARN
	var entries []entry
	if c.Spec.Access.Policy != spec.Compat { // else the creator of the cluster is let in as such
		entries = append(entries,
			entry{role: base, policy: admin, kind: "STANDARD", why: "installs the chart of the data plane"},
			entry{role: base + "-operate", policy: admin, kind: "STANDARD", why: "upgrades what is installed"},
			entry{role: base + "-observe", policy: view, kind: "STANDARD", why: "looks, secrets excepted"},
			entry{role: base + "-teardown", policy: admin, kind: "STANDARD", why: "takes out what would keep the cluster from being removed", maybe: true})
	}
	if c.Spec.Cluster.Karpenter {
		entries = append(entries, entry{role: c.RoleARN(c.autoscaledNodes()), kind: "EC2_LINUX", why: "nodes of the autoscaler join"})
	}
	return entries
}

func (e entry) title() string { return "access of " + e.role[strings.LastIndexByte(e.role, '/')+1:] }

func (c *cluster) entries() []*resource.Resource {
	var out []*resource.Resource
	for _, e := range c.letIn() {
		out = append(out, c.entry(e))
	}
	return out
}

func (c *cluster) entry(e entry) *resource.Resource {
	name := c.ClusterName()
	policy := "arn:" + c.Place.Partition + ":eks::aws:cluster-access-policy/" + e.policy
	requires := []string{StepName(c.Plane)}
	if e.policy == "" {
		requires = append(requires, resource.RoleTitle(c.autoscaledNodes()))
	}
	creates := []string{"eks:CreateAccessEntry"}
	if e.policy != "" {
		creates = append(creates, "eks:AssociateAccessPolicy")
	}
	return &resource.Resource{
		Plane: c.Plane, Title: e.title(), Requires: requires, Component: component, LogicalID: "access-" + e.role[strings.LastIndexByte(e.role, '/')+1:],
		About: step.Description{Service: "eks", Creates: creates, Updates: []string{"eks:AssociateAccessPolicy"}, Removes: []string{"eks:DeleteAccessEntry"},
			ToMake: 2 * time.Second, ToRemove: time.Second},
		Purpose: []string{e.why},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			if goal == step.Absent || c.One(plane.ClusterVersion) == "" {
				return nil, nil // it ends with the cluster; or there is no cluster
			}
			if e.maybe {
				role := e.role[strings.LastIndexByte(e.role, '/')+1:]
				_, err := c.AWS.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &role})
				if fault.NoSuchEntity(err) || fault.Denied(err) {
					return &resource.State{Ours: true}, nil // there is nobody to let in
				}
				if err != nil {
					return nil, err
				}
			}
			out, err := c.AWS.EKS.DescribeAccessEntry(ctx, &eks.DescribeAccessEntryInput{ClusterName: &name, PrincipalArn: &e.role})
			if fault.Gone(err) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			s := &resource.State{Tags: out.AccessEntry.Tags}
			s.Differ = append(s.Differ, resource.Differ("type", e.kind, aws.ToString(out.AccessEntry.Type), nil)...)
			if e.policy == "" {
				return s, nil
			}
			has, err := c.AWS.EKS.ListAssociatedAccessPolicies(ctx, &eks.ListAssociatedAccessPoliciesInput{ClusterName: &name, PrincipalArn: &e.role})
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(has.AssociatedAccessPolicies, func(p types.AssociatedAccessPolicy) bool { return aws.ToString(p.PolicyArn) == policy }) {
				s.Differ = append(s.Differ, resource.Difference{Field: "rights", Want: e.policy, Put: func(ctx context.Context) error {
					_, err := c.AWS.EKS.AssociateAccessPolicy(ctx, &eks.AssociateAccessPolicyInput{ClusterName: &name, PrincipalArn: &e.role,
						PolicyArn: &policy, AccessScope: &types.AccessScope{Type: types.AccessScopeTypeCluster}})
					return err
				}})
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			_, err := c.AWS.EKS.CreateAccessEntry(ctx, &eks.CreateAccessEntryInput{ClusterName: &name, PrincipalArn: &e.role, Type: &e.kind, Tags: tags})
			return err
		},
		Delete: nil, // it ends with the cluster; a remover needs it until then
	}
}
