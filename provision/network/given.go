package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// givenStep makes sure of a network that is the customer's. It changes nothing of it; when
// a data plane is removed, it takes away the interfaces that the cluster left in it.
type givenStep struct {
	plane *plane.Plane
	want  *spec.NetworkThatIs
}

func (s *givenStep) Name() string    { return vpcTitle }
func (s *givenStep) Needs() []string { return nil }

func (s *givenStep) Describe() step.Description {
	return step.Description{Service: "ec2", Removes: []string{"ec2:DeleteNetworkInterface"}, Cost: "is the customer's", ToRemove: 5 * time.Second}
}

// Check has nothing to wait for: the network was made by somebody else.
func (s *givenStep) Check(context.Context) error { return nil }

type foundGiven struct {
	*givenStep
	goal   step.Goal
	report *Report
	left   []string // interfaces that the cluster left behind
}

func (s *givenStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	request := Request{Region: s.plane.Place.Region, Account: s.plane.Place.Account, VPC: s.want.VPC,
		PublicSubnets: s.want.PublicSubnets, PrivateSubnets: s.want.PrivateSubnets, PrivateEndpoint: s.plane.Spec.PrivateEndpoint.Enabled}
	if err := request.Valid(); err != nil {
		return nil, inFile(err)
	}
	found := &foundGiven{givenStep: s, goal: goal}
	if goal == step.Absent {
		return found, s.lookBehind(ctx, found)
	}
	report, err := Check(ctx, s.plane.AWS, request)
	if err != nil {
		return nil, err
	}
	found.report = report
	s.tell(report.facts)
	return found, nil
}

// inFile says of a sentence that it is about the file.
func inFile(err error) error {
	var said *usererr.Error
	if errors.As(err, &said) {
		return usererr.New(said.Kind, "spec.network.existing: %v", said).WithHint("%s", said.Hint)
	}
	return err
}

// tell tells the facts, in the order of the zones.
func (s *givenStep) tell(f *facts) {
	p := s.plane
	if f.vpc == nil {
		for _, fact := range []plane.Fact{plane.VPC, plane.VPCCIDRs, plane.Zones, plane.PublicSubnets, plane.PrivateSubnets, plane.PrivateCIDRs} {
			p.Know(fact)
		}
		return
	}
	byZone := func(ids []string) []string {
		ids = slices.Clone(ids)
		slices.SortFunc(ids, func(a, b string) int {
			return cmp.Or(cmp.Compare(f.zoneOf(a), f.zoneOf(b)), cmp.Compare(a, b))
		})
		return ids
	}
	private := byZone(f.PrivateSubnets)
	var cidrs []string
	for _, id := range private {
		cidrs = append(cidrs, aws.ToString(f.subnets[id].CidrBlock))
	}
	p.Know(plane.VPC, s.want.VPC)
	p.Know(plane.VPCCIDRs, ownRanges(*f.vpc)...)
	p.Know(plane.Zones, f.zonesOf(private)...)
	p.Know(plane.PublicSubnets, byZone(f.PublicSubnets)...)
	p.Know(plane.PrivateSubnets, private...)
	p.Know(plane.PrivateCIDRs, cidrs...)
}

// lookBehind finds what the cluster left behind. Whoever removes need not judge the
// network, and needs to know only what is in the file.
func (s *givenStep) lookBehind(ctx context.Context, found *foundGiven) error {
	p := s.plane
	p.Know(plane.VPC, s.want.VPC)
	p.Know(plane.PublicSubnets, s.want.PublicSubnets...)
	p.Know(plane.PrivateSubnets, s.want.PrivateSubnets...)
	left, err := every(ctx, ec2.NewDescribeNetworkInterfacesPaginator(p.AWS.EC2, &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{s.want.VPC}}, {Name: aws.String("tag:" + clusterTag), Values: []string{p.ClusterName()}}}}),
		func(o *ec2.DescribeNetworkInterfacesOutput) []types.NetworkInterface { return o.NetworkInterfaces })
	for _, i := range left {
		if leftBehind(i, p.ClusterName()) {
			found.left = append(found.left, aws.ToString(i.NetworkInterfaceId))
		}
	}
	return err
}

func (f *foundGiven) Plan() step.Change {
	if f.goal == step.Absent {
		if len(f.left) > 0 {
			return step.Change{Action: step.Remove, Details: []string{"the network stays, which is the customer's", "interfaces that the cluster left behind: " + strings.Join(f.left, ", ")}}
		}
		return step.Change{Action: step.Leave, Details: []string{"it is the customer's"}}
	}
	broken := f.report.With(Fail, Error)
	if len(broken) == 0 {
		var details []string
		if n := len(f.report.With(Fail, Warning)); n > 0 {
			details = append(details, fmt.Sprintf("%d warnings; see 'biplane network check --vpc %s'", n, f.want.VPC))
		}
		if n := len(f.report.With(CannotTell, Error)); n > 0 {
			details = append(details, fmt.Sprintf("%d checks could not tell", n))
		}
		return step.Change{Action: step.Keep, Details: details}
	}
	var details []string
	for _, one := range broken {
		where := one.Resource
		if one.Zone != "" {
			where += " in " + one.Zone
		}
		details = append(details, fmt.Sprintf("%s: %s", where, one.Message))
	}
	return step.Change{Action: step.Refuse, Details: details, Hint: broken[0].Remedy}
}

func (f *foundGiven) Make(context.Context) error { return nil }

func (f *foundGiven) Remove(ctx context.Context) error {
	for _, id := range f.left {
		if err := deleteInterface(ctx, f.plane.AWS.EC2, id); err != nil {
			return fault.Passing(err)
		}
	}
	return nil
}
