package access

import (
	"biplane.dev/biplane/provision/operations"
)

// rails is what a role may never do, whatever else it is or comes to be allowed.
func (t *target) rails(who operations.Roles) []byte {
	return document([]statement{t.denyOwn()})
}

// denyOwn keeps the access roles from each other, their policies and the boundary.
func (t *target) denyOwn() statement {
	iam := "arn:" + t.region.Partition + ":iam::" + t.Account + ":"
	return statement{Sid: "OwnAccess", Effect: "Deny",
		NotAction: []string{"iam:Get*", "iam:List*", "iam:SimulatePrincipalPolicy"},
		Resource: []string{
			iam + "role" + t.Vendor.Path + t.Vendor.RoleName + "*",
			iam + "policy" + t.Vendor.Path + t.Vendor.PolicyName + "*",
		}}
}
