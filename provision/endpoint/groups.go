package endpoint

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

const (
	balancerGroupTitle = "security group of the load balancer"
	jumperGroupTitle   = "security group of the jumpers"
	wayInTitle         = "way of the jumpers into the cluster"
)

// privateRanges are where a consumer's addresses can be from, which is what a load
// balancer behind PrivateLink sees.
var privateRanges = []string{"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"}

// rule is one port of TCP, from or to one place.
type rule struct {
	port  int32
	place string // a range, a group or a prefix list
}

func (r rule) permission() types.IpPermission {
	p := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(r.port), ToPort: aws.Int32(r.port)}
	switch {
	case strings.HasPrefix(r.place, "sg-"):
		p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: aws.String(r.place)}}
	case strings.HasPrefix(r.place, "pl-"):
		p.PrefixListIds = []types.PrefixListId{{PrefixListId: aws.String(r.place)}}
	default:
		p.IpRanges = []types.IpRange{{CidrIp: aws.String(r.place)}}
	}
	return p
}

// ports are rules of several ports for several places.
func ports(places []string, ports ...int32) []rule {
	var rules []rule
	for _, place := range places {
		for _, port := range ports {
			rules = append(rules, rule{port, place})
		}
	}
	return rules
}

// each splits permissions into those of one place each, by a text that says all of them.
func each(permissions []types.IpPermission) map[string]types.IpPermission {
	out := map[string]types.IpPermission{}
	for _, p := range permissions {
		what := "everything"
		if aws.ToString(p.IpProtocol) != "-1" {
			what = fmt.Sprintf("%s %d", aws.ToString(p.IpProtocol), aws.ToInt32(p.FromPort))
			if aws.ToInt32(p.ToPort) != aws.ToInt32(p.FromPort) {
				what += fmt.Sprintf("-%d", aws.ToInt32(p.ToPort))
			}
		}
		one := func(place *string, set func(*types.IpPermission)) {
			q := types.IpPermission{IpProtocol: p.IpProtocol, FromPort: p.FromPort, ToPort: p.ToPort}
			set(&q)
			out[what+" "+aws.ToString(place)] = q
		}
		for _, r := range p.IpRanges {
			one(r.CidrIp, func(q *types.IpPermission) { q.IpRanges = []types.IpRange{{CidrIp: r.CidrIp}} })
		}
		for _, r := range p.Ipv6Ranges {
			one(r.CidrIpv6, func(q *types.IpPermission) { q.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: r.CidrIpv6}} })
		}
		for _, r := range p.PrefixListIds {
			one(r.PrefixListId, func(q *types.IpPermission) {
				q.PrefixListIds = []types.PrefixListId{{PrefixListId: r.PrefixListId}}
			})
		}
		for _, r := range p.UserIdGroupPairs {
			one(r.GroupId, func(q *types.IpPermission) {
				q.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: r.GroupId, UserId: r.UserId}}
			})
		}
	}
	return out
}

// direction is one half of a group's rules.
type direction struct {
	field     string
	has       []types.IpPermission
	authorize func(context.Context, []types.IpPermission) error
	revoke    func(context.Context, []types.IpPermission) error
}

func inward(api *ec2.Client, g types.SecurityGroup) direction {
	return direction{"admittance", g.IpPermissions,
		func(ctx context.Context, p []types.IpPermission) error {
			_, err := api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: p})
			return err
		},
		func(ctx context.Context, p []types.IpPermission) error {
			_, err := api.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: p})
			return err
		}}
}

func outward(api *ec2.Client, g types.SecurityGroup) direction {
	return direction{"way out", g.IpPermissionsEgress,
		func(ctx context.Context, p []types.IpPermission) error {
			_, err := api.AuthorizeSecurityGroupEgress(ctx, &ec2.AuthorizeSecurityGroupEgressInput{GroupId: g.GroupId, IpPermissions: p})
			return err
		},
		func(ctx context.Context, p []types.IpPermission) error {
			_, err := api.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: g.GroupId, IpPermissions: p})
			return err
		}}
}

// compare says how a half of the rules differs from those that are wanted: it has these
// and no others.
func (d direction) compare(want []rule) []resource.Difference {
	var differ []resource.Difference
	have := each(d.has)
	wanted := map[string]bool{}
	for _, r := range want {
		text := fmt.Sprintf("tcp %d %s", r.port, r.place)
		if wanted[text] {
			continue
		}
		wanted[text] = true
		if _, there := have[text]; there {
			continue
		}
		differ = append(differ, resource.Difference{Field: d.field, Want: text, Put: func(ctx context.Context) error {
			err := d.authorize(ctx, []types.IpPermission{r.permission()})
			if fault.Code(err) == "InvalidPermission.Duplicate" {
				return nil
			}
			return err
		}})
	}
	for _, text := range slices.Sorted(maps.Keys(have)) {
		if wanted[text] {
			continue
		}
		differ = append(differ, resource.Difference{Field: d.field, Want: "no other", Have: text, Put: func(ctx context.Context) error {
			err := d.revoke(ctx, []types.IpPermission{have[text]})
			if fault.Code(err) == "InvalidPermission.NotFound" {
				return nil
			}
			return err
		}})
	}
	return differ
}

// group is a security group of this package, in one of the two accounts.
type group struct {
	title, logicalID, description, purpose string
	api                                    func() *ec2.Client
	vpc                                    func() (string, error)
	requires                               []string
	rules                                  func(context.Context, types.SecurityGroup) ([]resource.Difference, error)
}

func (m *maker) group(g group) *resource.Resource {
	name := Name(m.Plane) + "-" + g.logicalID
	return &resource.Resource{
		Plane: m.Plane, Title: g.title, Requires: g.requires, Component: component, LogicalID: g.logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress", "ec2:AuthorizeSecurityGroupEgress", "ec2:RevokeSecurityGroupEgress"},
			Updates: []string{"ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress", "ec2:AuthorizeSecurityGroupEgress", "ec2:RevokeSecurityGroupEgress"},
			Removes: []string{"ec2:DeleteSecurityGroup"}, Cost: "nothing", ToMake: 3 * time.Second, ToRemove: 2 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{g.purpose},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := g.api().DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: m.filters(g.logicalID)})
			if err != nil || len(out.SecurityGroups) == 0 {
				return nil, err
			}
			got := out.SecurityGroups[0]
			s := &resource.State{Tags: resource.EC2TagMap(got.Tags), Value: aws.ToString(got.GroupId)}
			if goal == step.Present {
				s.Differ, err = g.rules(ctx, got)
			}
			return s, err
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := g.vpc()
			if err != nil {
				return err
			}
			_, err = g.api().CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: &vpc, GroupName: &name, Description: &g.description,
				TagSpecifications: resource.EC2Tagged(types.ResourceTypeSecurityGroup, tags)})
			if fault.Code(err) == "InvalidGroup.Duplicate" {
				return fmt.Errorf("%w: %w", step.ErrConflict, err) // made a moment ago, and not to be seen yet
			}
			return err
		},
		Tag: func(ctx context.Context, tags map[string]string) error {
			delete(tags, m.Vendor.ManagedByKey()) // written by the call that makes a thing, and by no other
			var list []types.Tag
			for _, key := range ownership.Keys(tags) {
				list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
			}
			_, err := g.api().CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{m.id(g.logicalID)}, Tags: list})
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			_, err := g.api().DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(s.Value.(string))})
			return err
		},
		Tell: m.tell(g.logicalID),
	}
}

func (m *maker) customerEC2() *ec2.Client     { return m.AWS.EC2 }
func (m *maker) customerVPC() (string, error) { return m.fact(plane.VPC) }
func (m *maker) networkRanges() []string      { return m.All(plane.VPCCIDRs) }
func (m *maker) vendorEC2() *ec2.Client       { return m.Own.EC2 }
func (m *maker) vendorVPC() (string, error)   { return m.want.Vendor.VPC, nil }
func (m *maker) balancerGroup() *resource.Resource {
	return m.group(group{
		title: balancerGroupTitle, logicalID: "balancer", description: "HTTPS of the vendor to the load balancer", requires: m.after.Network,
		purpose: "port 443 from the vendor's network, and out to the jumpers alone",
		api:     m.customerEC2, vpc: m.customerVPC,
		rules: func(ctx context.Context, g types.SecurityGroup) ([]resource.Difference, error) {
			from, err := m.vendorRanges(ctx)
			if err != nil {
				return nil, err
			}
			return slices.Concat(inward(m.AWS.EC2, g).compare(ports(from, 443)),
				outward(m.AWS.EC2, g).compare(ports(m.networkRanges(), jumperPort, readyPort))), nil
		},
	})
}

// jumperGroup lets the jumpers reach what is in the network (the API server, AWS's
// endpoints, where logs go) and where their image lies: with ECR's own, layers come from
// S3, by a gateway whose addresses are a prefix list; any other registry can be anywhere.
func (m *maker) jumperGroup() *resource.Resource {
	return m.group(group{
		title: jumperGroupTitle, logicalID: "jumper", description: "the jumpers of the private endpoint", requires: needs(m.after.Network, balancerGroupTitle, m.after.Cluster),
		purpose: "from the load balancer alone, and out by HTTPS to the cluster, AWS's endpoints and the image",
		api:     m.customerEC2, vpc: m.customerVPC,
		rules: func(ctx context.Context, g types.SecurityGroup) ([]resource.Difference, error) {
			balancer := m.id("balancer")
			if balancer == "" {
				return nil, nil // it is made first
			}
			out := ports(m.networkRanges(), 443)
			if !strings.Contains(m.image(), ".dkr.ecr.") {
				out = append(out, rule{443, "0.0.0.0/0"})
			} else {
				lists, err := m.AWS.EC2.DescribeManagedPrefixLists(ctx, &ec2.DescribeManagedPrefixListsInput{
					Filters: []types.Filter{{Name: aws.String("prefix-list-name"), Values: []string{"com.amazonaws." + m.Place.Region + ".s3"}}}})
				if fault.Denied(err) {
					// The published grants do not tell which addresses S3 has.
					lists, err = &ec2.DescribeManagedPrefixListsOutput{}, nil
					out = append(out, rule{443, "0.0.0.0/0"})
				}
				if err != nil {
					return nil, err
				}
				for _, l := range lists.PrefixLists {
					out = append(out, rule{443, aws.ToString(l.PrefixListId)})
				}
			}
			return slices.Concat(inward(m.AWS.EC2, g).compare(ports([]string{balancer}, jumperPort, readyPort)), outward(m.AWS.EC2, g).compare(out)), nil
		},
	})
}

// wayIn is one rule of the group that EKS made for the cluster.
func (m *maker) wayIn() *resource.Resource {
	permission := func() ([]types.IpPermission, string, error) {
		cluster, err := m.fact(plane.ClusterSecurityGroup)
		if err != nil {
			return nil, "", err
		}
		jumper, err := m.needed("jumper", "the "+jumperGroupTitle)
		if err != nil {
			return nil, "", err
		}
		return []types.IpPermission{rule{443, *jumper}.permission()}, cluster, nil
	}
	return &resource.Resource{
		Plane: m.Plane, Title: wayInTitle, Requires: []string{jumperGroupTitle, m.after.Cluster}, Component: component, LogicalID: "way-in",
		About: step.Description{Service: "ec2", Creates: []string{"ec2:AuthorizeSecurityGroupIngress"}, Removes: []string{"ec2:RevokeSecurityGroupIngress"},
			Cost: "nothing", ToMake: 2 * time.Second, ToRemove: time.Second},
		Purpose: []string{"the cluster's own group admits port 443 from the jumpers"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			cluster, jumper := m.One(plane.ClusterSecurityGroup), m.id("jumper")
			if cluster == "" || jumper == "" {
				return nil, nil
			}
			out, err := m.AWS.EC2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{cluster}})
			if fault.Gone(err) || err == nil && len(out.SecurityGroups) == 0 {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			if _, there := each(out.SecurityGroups[0].IpPermissions)["tcp 443 "+jumper]; !there {
				return nil, nil
			}
			return &resource.State{Ours: true}, nil
		},
		Create: func(ctx context.Context, _ map[string]string) error {
			p, cluster, err := permission()
			if err != nil {
				return err
			}
			_, err = m.AWS.EC2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &cluster, IpPermissions: p})
			if fault.Code(err) == "InvalidPermission.Duplicate" {
				return nil
			}
			return err
		},
		Delete: func(ctx context.Context, _ *resource.State) error {
			p, cluster, err := permission()
			if err != nil {
				return err
			}
			_, err = m.AWS.EC2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &cluster, IpPermissions: p})
			if fault.Code(err) == "InvalidPermission.NotFound" {
				return nil
			}
			return err
		},
	}
}
