package plane

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/vendor"
)

// Options say for whom a data plane is opened.
type Options struct {
	DataPlane *spec.DataPlane
	Vendor    *vendor.Profile // vendor.Default() when nil
	// Vendors is the configuration with the vendor's own credentials. Its region is replaced.
	Vendors aws.Config
	// As is the one role to assume: Observe, Provision, Operate or Teardown. Under compat
	// there is only one role, whatever As is.
	As    operations.Roles
	Clock clock.Clock
}

// Open assumes the role, and makes sure that it is of the account that the file
// names. Errors that are not AWS's are *usererr.Error.
func Open(ctx context.Context, o Options) (*Plane, error) {
	p, err := New(o.DataPlane, o.Vendor, o.Clock)
	if err != nil {
		return nil, err
	}
	role, err := p.accessRole(o.As)
	if err != nil {
		return nil, err
	}
	cfg := o.Vendors.Copy()
	cfg.Region = p.Spec.Region
	assume := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role, func(a *stscreds.AssumeRoleOptions) {
		a.ExternalID = aws.String(p.Spec.Access.ExternalID)
		a.RoleSessionName = "biplane-" + p.Name
	})
	cfg.Credentials = aws.NewCredentialsCache(assume)
	p.signer = sts.NewFromConfig(cfg)
	if !p.compat() {
		// One more guard in front of the one that is there: what this role may do, and not what anybody may.
		cfg.APIOptions = append(cfg.APIOptions[:len(cfg.APIOptions):len(cfg.APIOptions)], operations.Guard(o.As))
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, err
	}
	p.AWS = NewClients(cfg)
	own := o.Vendors.Copy()
	own.Region = p.Spec.Region
	if side := p.Spec.PrivateEndpoint.Vendor; side != nil && side.Region != "" {
		own.Region = side.Region
	}
	own.APIOptions = append(own.APIOptions[:len(own.APIOptions):len(own.APIOptions)], operations.Guard(operations.VendorAccount))
	p.Own = NewVendorClients(own)
	return p, nil
}

// New is a data plane without a session, for what asks AWS nothing.
func New(dp *spec.DataPlane, v *vendor.Profile, c clock.Clock) (*Plane, error) {
	if v == nil {
		v = vendor.Default()
	}
	region, ok := access.LookUpRegion(dp.Spec.Region)
	if !ok {
		return nil, usererr.New(usererr.Invalid, "spec.region: there is no AWS region %q", dp.Spec.Region).
			WithHint("write a region such as eu-central-1")
	}
	return &Plane{
		Spec: dp.Spec, Name: dp.Metadata.Name, Vendor: v, Clock: c,
		Place: operations.Place{Partition: region.Partition, DNSSuffix: region.DNSSuffix, Region: region.Name, Account: dp.Spec.Account},
		Owner: ownership.Owner{Vendor: v, DataPlane: dp.Metadata.Name, Org: dp.Spec.Org},
	}, nil
}

// accessRole is the ARN of the role to assume: the one in the file is the provision
// role's, and the others are named after it.
func (p *Plane) accessRole(as operations.Roles) (string, error) {
	arn := p.Spec.Access.RoleARN
	prefix := "arn:" + p.Place.Partition + ":iam::" + p.Place.Account + ":role/"
	if !strings.HasPrefix(arn, prefix) {
		return "", usererr.New(usererr.Invalid, "spec.access.roleArn is %q, which is no role of account %s", arn, p.Place.Account).
			WithHint("write the ARN that 'biplane access grant' printed, or correct spec.account and spec.region")
	}
	if p.compat() {
		return arn, nil
	}
	suffix, ok := access.RoleSuffix(as)
	if !ok {
		panic("plane: no one role is " + as.String())
	}
	return arn + suffix, nil
}
