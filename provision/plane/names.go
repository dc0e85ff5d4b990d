package plane

import (
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
