package access

import (
	"context"

	"biplane.dev/biplane/provision/vendor"
)

// Granted is what an account has granted, as its roles say.
type Granted struct {
	Profile       ProfileName
	Region        string
	PolicyVersion string // empty: granted before there were versions
	Stack         string // the CloudFormation stack that made the roles; empty: made by IAM directly

	ExternalID         string // what the provision role's trust asks for; empty: for none
	PreviousExternalID string // during a rotation: the value that still is valid beside it

	PrivateEndpoint   bool
	DeletePermissions bool
}

// ReadGranted finds out what was granted; nil is nothing. It reads the roles alone,
// not what they allow: compare that with the Set of Options.
func ReadGranted(ctx context.Context, api IAM, partition, account string, v *vendor.Profile) (*Granted, error) {
	provision, err := readRoleItself(ctx, api, v.RoleName)
	if err != nil || provision == nil {
		return nil, err
	}
	p := place{iam: api, partition: partition, account: account, vendor: v}
	if !p.ours(provision.tags) {
		return nil, nil
	}
	tag := func(key string) string { return tagValue(provision.tags, v.TagPrefix+key) }
	g := &Granted{
		Profile: ProfileName(tag(profileTag)), Region: tag(regionTag), PolicyVersion: tag(versionTag), Stack: tag(StackTag),
	}
	if ids := externalIDsOf(provision.trust); len(ids) > 0 {
		g.ExternalID = ids[len(ids)-1]
		if len(ids) > 1 {
			g.PreviousExternalID = ids[0]
		}
	}
	for _, other := range []struct {
		name  string
		there *bool
	}{
		{v.RoleName + "-teardown", &g.DeletePermissions},
		{taskRoleName(v, g.Region), &g.PrivateEndpoint},
	} {
		role, err := readRoleItself(ctx, api, other.name)
		if err != nil {
			return nil, err
		}
		*other.there = role != nil && p.ours(role.tags)
	}
	return g, nil
}

// Options are those with which the same would be granted again.
func (g *Granted) Options(account string, v *vendor.Profile) Options {
	return Options{
		Profile: g.Profile, Account: account, Region: g.Region, Vendor: v,
		ExternalID: g.ExternalID, PreviousExternalID: g.PreviousExternalID,
		PrivateEndpoint: g.PrivateEndpoint, DeletePermissions: g.DeletePermissions,
	}
}
