package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/resource"
)

// EKS says of nodes that do not join that they do not, and nothing more. It has one of
// four reasons (Amazon EKS User Guide, Troubleshoot problems with Amazon EKS clusters
// and nodes): what the nodes may, who is let into the cluster, the way to AWS with the
// names on it, and whom the API server listens to. All can be looked at from outside.

// obstacle is one reason, and what puts it right where apply does not.
type obstacle struct{ cause, remedy string }

// whyNotJoined looks for what keeps a group's nodes from joining. What may not be looked
// at is passed over.
func (c *cluster) whyNotJoined(ctx context.Context, g *types.Nodegroup) ([]obstacle, error) {
	got, err := c.AWS.EKS.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: g.ClusterName})
	if err != nil || got.Cluster.ResourcesVpcConfig == nil {
		return nil, err
	}
	var out []obstacle
	for _, look := range []func(context.Context, *types.Nodegroup, *types.VpcConfigResponse) ([]obstacle, error){c.lackOfRights, c.lackOfEntry, c.lackOfWay, c.lackOfDoor} {
		found, err := look(ctx, g, got.Cluster.ResourcesVpcConfig)
		var unlisted *operations.UnlistedCallError
		if fault.Denied(err) || errors.As(err, &unlisted) {
			continue
		}
		if err != nil {
			return out, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// lackOfRights looks at the role of the nodes.
func (c *cluster) lackOfRights(ctx context.Context, g *types.Nodegroup, _ *types.VpcConfigResponse) ([]obstacle, error) {
	role := aws.ToString(g.NodeRole)
	name := role[strings.LastIndexByte(role, '/')+1:]
	has, err := c.AWS.IAM.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	if fault.NoSuchEntity(err) {
		return []obstacle{{cause: "the role " + name + " of the nodes is gone"}}, nil
	}
	if err != nil {
		return nil, err
	}
	attached := map[string]bool{}
	for _, p := range has.AttachedPolicies {
		attached[aws.ToString(p.PolicyName)] = true
	}
	var lacking []string
	for _, policy := range onNodes {
		if !attached[policy] {
			lacking = append(lacking, policy)
		}
	}
	if len(lacking) == 0 {
		return nil, nil
	}
	return []obstacle{{cause: fmt.Sprintf("the role %s of the nodes lacks the policy %s", name, strings.Join(lacking, ", "))}}, nil
}

// lackOfEntry looks at who is let in.
func (c *cluster) lackOfEntry(ctx context.Context, g *types.Nodegroup, _ *types.VpcConfigResponse) ([]obstacle, error) {
	out, err := c.AWS.EKS.DescribeAccessEntry(ctx, &eks.DescribeAccessEntryInput{ClusterName: g.ClusterName, PrincipalArn: g.NodeRole})
	switch {
	case fault.Gone(err):
		return []obstacle{{cause: fmt.Sprintf("the cluster has no access entry for the nodes' role %s: somebody took it away", aws.ToString(g.NodeRole))}}, nil
	case err != nil:
		return nil, err
	case aws.ToString(out.AccessEntry.Type) != "EC2_LINUX":
		return []obstacle{{
			cause:  fmt.Sprintf("the access entry of the nodes' role %s has the type %s, and not EC2_LINUX", aws.ToString(g.NodeRole), aws.ToString(out.AccessEntry.Type)),
			remedy: fmt.Sprintf("run 'aws eks delete-access-entry --cluster-name %s --principal-arn %s --region %s'", aws.ToString(g.ClusterName), aws.ToString(g.NodeRole), c.Place.Region),
		}}, nil
	}
	return nil, nil
}

// lackOfWay has the network checked: names, name server, routes, gateways, access lists.
func (c *cluster) lackOfWay(ctx context.Context, g *types.Nodegroup, in *types.VpcConfigResponse) ([]obstacle, error) {
	report, err := network.Check(ctx, c.AWS, network.Request{Region: c.Place.Region, Account: c.Place.Account, VPC: aws.ToString(in.VpcId), PrivateSubnets: g.Subnets, PrivateEndpoint: true})
	if err != nil {
		return nil, err
	}
	var out []obstacle
	for _, f := range report.With(network.Fail, network.Error) {
		if !slices.Contains([]int{5, 6, 7, 14, 15, 18}, f.ID) || slices.ContainsFunc(out, func(o obstacle) bool { return strings.HasSuffix(o.cause, f.Message) }) {
			continue
		}
		o := obstacle{cause: f.Resource + ": " + f.Message}
		if c.Spec.Network.Create == nil || f.ID == 6 { // what Biplane made, apply puts right
			o.remedy = "run '" + f.Remedy + "'"
		}
		out = append(out, o)
	}
	return out, nil
}

// lackOfDoor looks at whom the API server listens to.
func (c *cluster) lackOfDoor(ctx context.Context, _ *types.Nodegroup, door *types.VpcConfigResponse) ([]obstacle, error) {
	if door.EndpointPrivateAccess {
		return nil, nil
	}
	gateways, err := c.AWS.EC2.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{Filter: []ec2types.Filter{{Name: aws.String("vpc-id"), Values: []string{aws.ToString(door.VpcId)}}}})
	if err != nil {
		return nil, err
	}
	for _, gateway := range gateways.NatGateways {
		for _, address := range gateway.NatGatewayAddresses {
			ip, err := netip.ParseAddr(aws.ToString(address.PublicIp))
			if err == nil && !slices.ContainsFunc(door.PublicAccessCidrs, func(text string) bool {
				cidr, err := netip.ParsePrefix(text)
				return err == nil && cidr.Contains(ip)
			}) {
				return []obstacle{{cause: fmt.Sprintf("the cluster's endpoint is public alone, for %s, and the nodes come from %s: its private access was switched off", resource.Joined(door.PublicAccessCidrs), ip)}}, nil
			}
		}
	}
	return nil, nil
}

// diagnosis is what EKS says of a group in trouble, with the reason behind it, and what to
// do about that.
func (c *cluster) diagnosis(ctx context.Context, g *types.Nodegroup) (text, remedy string, err error) {
	if g.Health == nil {
		return "", "", nil
	}
	var b strings.Builder
	var remedies []string
	for _, issue := range g.Health.Issues {
		fmt.Fprintf(&b, "; %s: %s", issue.Code, strings.TrimSuffix(aws.ToString(issue.Message), "."))
		switch issue.Code {
		case types.NodegroupIssueCodeNodeCreationFailure, types.NodegroupIssueCodeAccessDenied, types.NodegroupIssueCodeClusterUnreachable:
			found, err := c.whyNotJoined(ctx, g)
			var said *usererr.Error
			if err != nil && !errors.As(err, &said) {
				return "", "", err
			}
			for _, o := range found {
				b.WriteString("; the reason: " + o.cause)
				if o.remedy != "" && !slices.Contains(remedies, o.remedy) {
					remedies = append(remedies, o.remedy)
				}
			}
			if len(found) == 0 {
				b.WriteString("; the role, the access entry, the network and the endpoint are as they should be")
				if len(issue.ResourceIds) > 0 {
					remedies = append(remedies, fmt.Sprintf("read what an instance said: 'aws ec2 get-console-output --latest --instance-id %s --region %s'", issue.ResourceIds[0], c.Place.Region))
				}
			}
		case types.NodegroupIssueCodeAsgInstanceLaunchFailures:
			remedies = append(remedies, "wait, or write other instanceTypes or more zones in the file: there is no capacity, or the account's quota is used up")
		default:
			if why := usual[issue.Code]; why != "" {
				b.WriteString(" (" + why + ")")
			}
		}
	}
	return b.String(), strings.Join(remedies, "; "), nil
}

// usual is what is behind the issues that say what they are.
var usual = map[types.NodegroupIssueCode]string{
	types.NodegroupIssueCodeEc2SubnetInvalidConfiguration: "the subnets do not fit",
	types.NodegroupIssueCodeInsufficientFreeAddresses:     "the private subnets have no free address left",
	types.NodegroupIssueCodeInstanceLimitExceeded:         "the account's quota of instances is used up",
	types.NodegroupIssueCodeIamNodeRoleNotFound:           "the role of the nodes is gone",
	types.NodegroupIssueCodeEc2LaunchTemplateNotFound:     "the node template is gone",
	types.NodegroupIssueCodeIamInstanceProfileNotFound:    "EKS's instance profile of the nodes is gone",
}
