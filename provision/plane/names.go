package plane

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"

	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
)

// compat reports whether things are named as the published grants have them.
func (p *Plane) compat() bool { return p.Spec.Access.Policy == spec.Compat }

// Prefix starts the names of the cluster and of what belongs to it, and is the
// cluster's name: union-demo, or opta-demo under compat.
func (p *Plane) Prefix() string {
	if p.compat() {
		return p.Vendor.CompatPrefix + p.Name
	}
	return p.Vendor.Prefix + p.Name
}

// ClusterName is the name of the EKS cluster.
func (p *Plane) ClusterName() string { return p.Prefix() }

// RolePath is the path of every role and policy that is made.
func (p *Plane) RolePath() string {
	if p.compat() {
		return "/"
	}
	return p.Vendor.Path
}

// Boundary is the ARN of the policy that caps every role that is made; "" under
// compat, which has none.
func (p *Plane) Boundary() string {
	if p.compat() {
		return ""
	}
	return operations.BoundaryARN(p.Place, p.Vendor)
}

// Tags are what is put on a thing in the call that makes it: the tags of ownership,
// those of the file, and Name for what AWS's console shows.
func (p *Plane) Tags(component, logicalID string) map[string]string {
	tags := map[string]string{"Name": p.Prefix() + "-" + logicalID}
	maps.Copy(tags, p.Spec.Tags)
	maps.Copy(tags, p.Owner.Tags(component, logicalID))
	return tags
}

// ARN is the ARN of a thing in the account and region.
func (p *Plane) ARN(service, resource string) string {
	return "arn:" + p.Place.Partition + ":" + service + ":" + p.Place.Region + ":" + p.Place.Account + ":" + resource
}

// RoleARN is the ARN of a role that is made.
func (p *Plane) RoleARN(name string) string {
	return "arn:" + p.Place.Partition + ":iam::" + p.Place.Account + ":role" + p.RolePath() + name
}

// Token is a client token that is the same at each run for the same thing, so that a
// call whose answer was lost makes nothing twice; with other parameters it is another.
func (p *Plane) Token(parts ...string) *string {
	sum := sha256.New()
	for _, part := range append([]string{p.Place.Account, p.Place.Region, p.Name}, parts...) {
		sum.Write([]byte(part))
		sum.Write([]byte{0})
	}
	text := hex.EncodeToString(sum.Sum(nil))[:32]
	return &text
}
