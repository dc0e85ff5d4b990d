package endpoint

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

const (
	proofTitle         = "record that proves the private name"
	verificationTitle  = "proof of the private name"
	privateNameTitle   = "private name in the vendor's network"
	privateRecordTitle = "record of the private name"
	proofTTL           = 300 // seconds
)

// proves reports whether the record of the proof is made here.
func (m *maker) proves() bool { return m.want.Vendor != nil && m.want.Vendor.PublicZone != "" }

// findRecord finds one record of a zone of the vendor's; nil when there is none.
func (m *maker) findRecord(ctx context.Context, zone, name string, kind types.RRType) (*types.ResourceRecordSet, error) {
	out, err := m.Own.Route53.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &zone, StartRecordName: &name, StartRecordType: kind, MaxItems: aws.Int32(1)})
	if err != nil {
		return nil, err
	}
	for _, r := range out.ResourceRecordSets {
		if strings.TrimSuffix(aws.ToString(r.Name), ".") == strings.TrimSuffix(name, ".") && r.Type == kind {
			return &r, nil
		}
	}
	return nil, nil
}

func (m *maker) changeRecord(ctx context.Context, zone string, action types.ChangeAction, record *types.ResourceRecordSet) error {
	_, err := m.Own.Route53.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &zone,
		ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{Action: action, ResourceRecordSet: record}}}})
	return own(err)
}

// proof is the record by which AWS sees that the vendor owns the name.
func (m *maker) proof() *resource.Resource {
	zone := m.want.Vendor.PublicZone
	record := func() (*types.ResourceRecordSet, error) {
		label, err := m.needed("proof label", "the endpoint service with the name's proof")
		if err != nil {
			return nil, err
		}
		return &types.ResourceRecordSet{Name: aws.String(m.proofName(*label)), Type: types.RRTypeTxt, TTL: aws.Int64(proofTTL),
			ResourceRecords: []types.ResourceRecord{{Value: aws.String(`"` + m.id("proof value") + `"`)}}}, nil
	}
	put := func(ctx context.Context) error {
		r, err := record()
		if err != nil {
			return err
		}
		return m.changeRecord(ctx, zone, types.ChangeActionUpsert, r)
	}
	return m.byVendor(&resource.Resource{
		Plane: m.Plane, Title: proofTitle, Requires: []string{offerTitle}, Component: component, LogicalID: "proof",
		About:   step.Description{Service: "route53", Creates: []string{"route53:ChangeResourceRecordSets"}, Updates: []string{"route53:ChangeResourceRecordSets"}, Removes: []string{"route53:ChangeResourceRecordSets"}, Cost: "nothing", ToMake: 2 * time.Second, ToRemove: 2 * time.Second},
		Purpose: []string{"a TXT record in zone " + zone + ", with the vendor's own credentials"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			want, err := record()
			if err != nil {
				return nil, nil // there is no endpoint service to prove a name of
			}
			got, err := m.findRecord(ctx, zone, *want.Name, types.RRTypeTxt)
			if err != nil || got == nil {
				return nil, err
			}
			s := &resource.State{Ours: true, Value: got} // nobody else has a record of that random label
			if goal == step.Present {
				s.Differ = resource.Differ("value", values(want), values(got), put)
			}
			return s, nil
		},
		Create: func(ctx context.Context, _ map[string]string) error { return put(ctx) },
		Delete: func(ctx context.Context, s *resource.State) error {
			return m.changeRecord(ctx, zone, types.ChangeActionDelete, s.Value.(*types.ResourceRecordSet))
		},
	})
}

func (m *maker) proofName(label string) string { return label + "." + m.want.PrivateDNSName }

func values(r *types.ResourceRecordSet) string {
	var list []string
	for _, one := range r.ResourceRecords {
		list = append(list, aws.ToString(one.Value))
	}
	return resource.Joined(list)
}

// verification has AWS look for that record until it finds it. Where somebody else makes
// the record, nothing waits for it: AWS is asked once, and again at each run.
type verification struct {
	*maker
}

// askAgain is how long after a failure AWS is asked again.
const askAgain = 30 * time.Second

func (v *verification) Name() string { return verificationTitle }
func (v *verification) Needs() []string {
	if v.proves() {
		return []string{offerTitle, proofTitle}
	}
	return []string{offerTitle}
}

func (v *verification) Describe() step.Description {
	return step.Description{Service: "ec2", Creates: []string{"ec2:StartVpcEndpointServicePrivateDnsVerification"}, Updates: []string{"ec2:StartVpcEndpointServicePrivateDnsVerification"}, Cost: "nothing",
		ToMake: 2 * time.Minute, Patience: 30 * time.Minute}
}

// state is verified, pendingVerification or failed; "" where there is no endpoint service.
func (v *verification) state(ctx context.Context) (string, error) {
	c, err := v.findOffer(ctx)
	if err != nil {
		return "", err
	}
	v.tellOffer(c)
	return v.id("proof state"), nil
}

func (v *verification) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	f := &foundName{verification: v, goal: goal}
	if goal == step.Absent || v.id("not granted") != "" {
		return f, nil
	}
	var err error
	f.state, err = v.state(ctx)
	return f, err
}

func (v *verification) start(ctx context.Context) error {
	service, err := v.needed("offer", "the endpoint service")
	if err != nil {
		return err
	}
	_, err = v.AWS.EC2.StartVpcEndpointServicePrivateDnsVerification(ctx, &ec2.StartVpcEndpointServicePrivateDnsVerificationInput{ServiceId: service})
	return fault.Passing(err)
}

// Check polls, and asks AWS again when it has not found the record: a name server may
// take longer to show it than AWS looks.
func (v *verification) Check(ctx context.Context) error {
	state, err := v.state(ctx)
	switch {
	case err != nil:
		return err
	case state == string(ec2types.DnsNameStateVerified) || !v.proves():
		return nil
	case state == string(ec2types.DnsNameStateFailed):
		if err := v.again(ctx); err != nil {
			return err
		}
		return fmt.Errorf("AWS has not found the record of %s yet, and is asked again: %w", v.want.PrivateDNSName, step.ErrNotYet)
	}
	return fmt.Errorf("the name %s is %s: %w", v.want.PrivateDNSName, state, step.ErrNotYet)
}

func (v *verification) again(ctx context.Context) error {
	if err := v.Clock.Sleep(ctx, askAgain); err != nil {
		return err
	}
	return v.start(ctx)
}

// Drift is a name that is not proven.
func (v *verification) Drift(ctx context.Context) ([]step.Drift, error) {
	state, err := v.state(ctx)
	if err != nil || state == string(ec2types.DnsNameStateVerified) {
		return nil, err
	}
	return []step.Drift{{Resource: v.want.PrivateDNSName, Field: "proof", Want: string(ec2types.DnsNameStateVerified), Got: resource.OrNone(state)}}, nil
}

// foundName is what a look at the name saw.
type foundName struct {
	*verification
	goal  step.Goal
	state string
}

func (f *foundName) Plan() step.Change {
	switch {
	case f.goal == step.Absent:
		return step.Change{Action: step.None} // it ends with the endpoint service
	case f.state == "":
		return step.Change{Action: step.Create, Details: []string{"AWS looks for the record of " + f.want.PrivateDNSName + ", and again until it finds it"}}
	case f.state == string(ec2types.DnsNameStateVerified):
		return step.Change{Action: step.Keep}
	}
	details := []string{"the name is " + f.state + ": have AWS look for the record again"}
	if !f.proves() {
		details = append(details, fmt.Sprintf("the owner of the name makes a TXT record %s with the value %q", f.proofName(f.id("proof label")), f.id("proof value")))
	}
	return step.Change{Action: step.Finish, Details: details}
}

func (f *foundName) Make(ctx context.Context) error { return f.start(ctx) }
func (f *foundName) Remove(context.Context) error   { return nil }

// privateName has the name lead to the vendor's endpoint in the vendor's network, by AWS
// itself.
func (m *maker) privateName() *resource.Resource {
	return m.byVendor(&resource.Resource{
		Plane: m.Plane, Title: privateNameTitle, Requires: []string{connectionTitle, verificationTitle}, Component: component, LogicalID: "private-name",
		About:   step.Description{Service: "ec2", Creates: []string{"ec2:ModifyVpcEndpoint"}, Cost: "nothing", ToMake: 30 * time.Second},
		Purpose: []string{m.want.PrivateDNSName + " leads to the endpoint in the vendor's network"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			e, _, err := m.findVendorEndpoint(ctx)
			if err != nil || e == nil || goal == step.Absent {
				return nil, err
			}
			proven := m.id("proof state") == string(ec2types.DnsNameStateVerified)
			if !aws.ToBool(e.PrivateDnsEnabled) && (proven || m.proves()) {
				return nil, nil
			}
			return &resource.State{Ours: true}, nil // or somebody else is to prove the name first
		},
		Create: func(ctx context.Context, _ map[string]string) error {
			id, err := m.needed("vendor endpoint", "the endpoint in the vendor's network")
			if err != nil {
				return err
			}
			_, err = m.Own.EC2.ModifyVpcEndpoint(ctx, &ec2.ModifyVpcEndpointInput{VpcEndpointId: id, PrivateDnsEnabled: aws.Bool(true)})
			return err
		},
	})
}

// privateRecord does so in a private zone of the vendor's, which several networks may use.
func (m *maker) privateRecord() *resource.Resource {
	zone, name := m.want.Vendor.PrivateZone, m.want.PrivateDNSName
	var mu sync.Mutex
	var to *types.AliasTarget // the endpoint's own name
	target := func() *types.AliasTarget {
		mu.Lock()
		defer mu.Unlock()
		return to
	}
	record := func() (*types.ResourceRecordSet, error) {
		if target() == nil {
			return nil, fmt.Errorf("the endpoint in the vendor's network has no name yet: %w", step.ErrConflict)
		}
		return &types.ResourceRecordSet{Name: &name, Type: types.RRTypeA, AliasTarget: target()}, nil
	}
	put := func(ctx context.Context) error {
		r, err := record()
		if err != nil {
			return err
		}
		return m.changeRecord(ctx, zone, types.ChangeActionUpsert, r)
	}
	return m.byVendor(&resource.Resource{
		Plane: m.Plane, Title: privateRecordTitle, Requires: []string{vendorEndpointTitle, connectionTitle}, Component: component, LogicalID: "private-record",
		About:   step.Description{Service: "route53", Creates: []string{"route53:ChangeResourceRecordSets"}, Updates: []string{"route53:ChangeResourceRecordSets"}, Removes: []string{"route53:ChangeResourceRecordSets"}, Cost: "nothing", ToMake: 2 * time.Second, ToRemove: 2 * time.Second},
		Purpose: []string{name + " leads to the endpoint, by zone " + zone},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			e, _, err := m.findVendorEndpoint(ctx)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			to = nil
			if e != nil && len(e.DnsEntries) > 0 {
				to = &types.AliasTarget{DNSName: e.DnsEntries[0].DnsName, HostedZoneId: e.DnsEntries[0].HostedZoneId}
			}
			mu.Unlock()
			got, err := m.findRecord(ctx, zone, name, types.RRTypeA)
			if err != nil || got == nil {
				return nil, err
			}
			have := values(got)
			if got.AliasTarget != nil {
				have = strings.ToLower(strings.TrimSuffix(aws.ToString(got.AliasTarget.DNSName), "."))
			}
			// Records have no tags. One that leads to an endpoint is ours, whichever that was.
			s := &resource.State{Ours: strings.Contains(have, "vpce-"), Value: got}
			if want := target(); goal == step.Present && want != nil {
				s.Differ = resource.Differ("target", strings.ToLower(strings.TrimSuffix(aws.ToString(want.DNSName), ".")), have, put)
			}
			return s, nil
		},
		Create: func(ctx context.Context, _ map[string]string) error { return put(ctx) },
		Delete: func(ctx context.Context, s *resource.State) error {
			return m.changeRecord(ctx, zone, types.ChangeActionDelete, s.Value.(*types.ResourceRecordSet))
		},
	})
}
