package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// clusterTag marks the network interfaces that a cluster's own network driver makes.
const clusterTag = "cluster.k8s.amazonaws.com/name"

// deleteSubnet removes a subnet, and before it the interfaces that the cluster's network
// driver left in it. Interfaces of others end with what they belong to: a load balancer, an
// endpoint, a NAT gateway.
func (m *maker) deleteSubnet(ctx context.Context, id string) error {
	left, err := m.interfaces(ctx, []string{id})
	if err != nil {
		return err
	}
	var stay []string
	for _, i := range left {
		name := aws.ToString(i.NetworkInterfaceId)
		if m.leftBehind(i) {
			if err := deleteInterface(ctx, m.AWS.EC2, name); err != nil {
				return err
			}
			continue
		}
		stay = append(stay, fmt.Sprintf("%s (%s)", name, or(aws.ToString(i.Description), lower(i.Status))))
	}
	_, err = m.AWS.EC2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &id})
	if fault.Code(err) == "DependencyViolation" && len(stay) > 0 {
		slices.Sort(stay)
		return fmt.Errorf("%w: in subnet %s there are still %s: %w", step.ErrConflict, id, strings.Join(stay, ", "), err)
	}
	return err
}

// interfaces are those in some subnets.
func (m *maker) interfaces(ctx context.Context, subnets []string) ([]types.NetworkInterface, error) {
	return every(ctx, ec2.NewDescribeNetworkInterfacesPaginator(m.AWS.EC2, &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{{Name: aws.String("subnet-id"), Values: subnets}}}),
		func(o *ec2.DescribeNetworkInterfacesOutput) []types.NetworkInterface { return o.NetworkInterfaces })
}

// leftBehind reports whether an interface is one of this cluster's that nothing holds.
func (m *maker) leftBehind(i types.NetworkInterface) bool { return leftBehind(i, m.ClusterName()) }

func leftBehind(i types.NetworkInterface, cluster string) bool {
	return i.Status == types.NetworkInterfaceStatusAvailable && resource.EC2TagMap(i.TagSet)[clusterTag] == cluster
}

func deleteInterface(ctx context.Context, api *ec2.Client, id string) error {
	_, err := api.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id})
	if fault.Gone(err) {
		return nil
	}
	return err
}

// sweepGroups removes the security groups that the cluster's load balancers left behind.
// One that another one's rules refer to stays until that has gone: so all are tried, and
// the first refusal has the caller come again.
func (m *maker) sweepGroups(ctx context.Context, vpc string) error {
	groups, err := every(ctx, ec2.NewDescribeSecurityGroupsPaginator(m.AWS.EC2, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{vpc}}, {Name: aws.String("tag:elbv2.k8s.aws/cluster"), Values: []string{m.ClusterName()}}}}),
		func(o *ec2.DescribeSecurityGroupsOutput) []types.SecurityGroup { return o.SecurityGroups })
	if err != nil {
		return err
	}
	var first error
	for _, g := range groups {
		if _, err := m.AWS.EC2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: g.GroupId}); err != nil && !fault.Gone(err) && first == nil {
			first = err
		}
	}
	return first
}

// unlisted reports whether the guard refused a call, since the role does not make it.
func unlisted(err error) bool {
	var refused *operations.UnlistedCallError
	return errors.As(err, &refused)
}
