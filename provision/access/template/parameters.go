package template

import (
	"encoding/json"
	"fmt"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/announce"
	"biplane.dev/biplane/provision/vendor"
)

// The parameters of the template.
const (
	RoleNameParameter           = "CrossAccountRoleName"
	ExternalIDParameter         = "ExternalId"
	PreviousExternalIDParameter = "PreviousExternalId"
)

// Parameters are the values with which a stack grants what access.Generate makes of o.
func Parameters(o access.Options) map[string]string {
	if o.Vendor == nil {
		o.Vendor = vendor.Default()
	}
	return map[string]string{
		RoleNameParameter:           o.Vendor.RoleName,
		ExternalIDParameter:         o.ExternalID,
		PreviousExternalIDParameter: o.PreviousExternalID,
	}
}

// roleNameLimit leaves room for the longest that an access role adds to its name.
const roleNameLimit = 52

// parameters have no NoEcho: an external ID is no secret to AWS, and a link could not
// carry one that is not echoed.
func parameters(v *vendor.Profile) object {
	return object{
		{Key: RoleNameParameter, Value: object{
			{Key: "Type", Value: "String"},
			{Key: "Description", Value: "Name of the role that the vendor assumes; the others add to it."},
			{Key: "Default", Value: v.RoleName},
			{Key: "AllowedPattern", Value: fmt.Sprintf("[A-Za-z0-9_+=,.@-]{1,%d}", roleNameLimit)},
			{Key: "ConstraintDescription", Value: fmt.Sprintf("must have 1 to %d of A-Z a-z 0-9 _ + = , . @ -", roleNameLimit)},
		}},
		{Key: ExternalIDParameter, Value: object{
			{Key: "Type", Value: "String"},
			{Key: "Description", Value: "The external ID that the vendor gave you. It is not a secret, but nobody else may choose it."},
			{Key: "MinLength", Value: 8},
			{Key: "MaxLength", Value: 24},
			{Key: "AllowedPattern", Value: "[A-Za-z0-9_+=,.@:/-]*"},
			{Key: "ConstraintDescription", Value: "must have 8 to 24 of A-Z a-z 0-9 _ + = , . @ : / -"},
		}},
		{Key: PreviousExternalIDParameter, Value: object{
			{Key: "Type", Value: "String"},
			{Key: "Description", Value: "Empty, but while the external ID is changed: the one before, which stays valid beside it."},
			{Key: "Default", Value: ""},
			{Key: "AllowedPattern", Value: "([A-Za-z0-9_+=,.@:/-]{8,24})?"},
			{Key: "ConstraintDescription", Value: "must be empty or have 8 to 24 of A-Z a-z 0-9 _ + = , . @ : / -"},
		}},
		{Key: AnnounceURLParameter, Value: object{
			{Key: "Type", Value: "String"},
			{Key: "Description", Value: "Empty, or where a function of this stack tells the vendor the ARN of the role, so that you need not."},
			{Key: "Default", Value: ""},
			{Key: "MaxLength", Value: 1024},
			{Key: "AllowedPattern", Value: "(" + announce.URLPattern + ")?"},
			{Key: "ConstraintDescription", Value: "must be empty or an address like https://vendor.example.com/announcements"},
		}},
	}
}

// The conditions of the template.
const (
	rotating = "Rotating" // two external IDs are valid
	china    = "China"    // where services have second names
)

// conditions are those that resources ask for.
func conditions(resources object) object {
	equals := func(a, b any) object { return object{{Key: "Fn::Equals", Value: list{a, b}}} }
	all := object{
		{Key: rotating, Value: object{{Key: "Fn::Not", Value: list{equals(ref(PreviousExternalIDParameter), "")}}}},
		{Key: announces, Value: object{{Key: "Fn::Not", Value: list{equals(ref(AnnounceURLParameter), "")}}}},
		{Key: china, Value: equals(ref("AWS::Partition"), "aws-cn")},
	}
	used := object{}
	for _, c := range all {
		if uses(resources, c.Key.(string)) {
			used = append(used, c)
		}
	}
	return used
}

// uses reports whether value asks for a condition.
func uses(value any, condition string) bool {
	switch v := value.(type) {
	case object:
		for _, m := range v {
			if args, ok := m.Value.(list); ok && m.Key == "Fn::If" && args[0] == condition || m.Key == "Condition" && m.Value == condition || uses(m.Value, condition) {
				return true
			}
		}
	case list:
		for _, item := range v {
			if uses(item, condition) {
				return true
			}
		}
	}
	return false
}

// vendorAccounts maps a partition to the vendor's account there; nil where all three
// are one number. A partition without an account has none here either, so that a
// stack in it fails instead of trusting a stranger.
func vendorAccounts(v *vendor.Profile) object {
	if oneVendorAccount(v) {
		return nil
	}
	accounts := object{}
	for _, partition := range []string{"aws", "aws-cn", "aws-us-gov"} {
		if account, ok := v.Accounts[partition]; ok {
			accounts = append(accounts, member{Key: partition, Value: object{{Key: "Account", Value: account}}})
		}
	}
	return object{{Key: "Vendor", Value: accounts}}
}

func oneVendorAccount(v *vendor.Profile) bool {
	aws := v.Accounts["aws"]
	return aws != "" && aws == v.Accounts["aws-us-gov"] && aws == v.Accounts["aws-cn"]
}

// The outputs of the template that it always has. There is one for the ARN of each
// other role beside them, and none for the external ID: who may read a stack need not
// know it.
const (
	RoleArnOutput       = "RoleArn"
	PolicyVersionOutput = "PolicyVersion"
)

func outputs(roles []string) object {
	all := object{}
	for _, id := range roles {
		key := id + "Arn"
		if id == ProvisionRole {
			key = RoleArnOutput
		}
		all = append(all, member{Key: key, Value: object{{Key: "Value", Value: object{{Key: "Fn::GetAtt", Value: list{id, "Arn"}}}}}})
	}
	return append(all,
		member{Key: PolicyVersionOutput, Value: object{{Key: "Value", Value: access.PolicyVersion}}},
		member{Key: AnnouncedOutput, Value: object{{Key: "Condition", Value: announces}, {Key: "Value", Value: object{{Key: "Fn::GetAtt", Value: list{announcement, "Status"}}}}}},
	)
}

// metadataKey is under which Metadata stands in a template.
const metadataKey = "Biplane"

// Metadata says which template one is. A stack that was launched by a link has no tags
// of ours: by this it is known.
type Metadata struct {
	Component         string // "access"
	Profile           access.ProfileName
	PolicyVersion     string
	PrivateEndpoint   bool
	DeletePermissions bool
}

const component = "access"

func metadata(o access.Options) Metadata {
	return Metadata{
		Component: component, Profile: o.Profile, PolicyVersion: access.PolicyVersion,
		PrivateEndpoint: o.PrivateEndpoint, DeletePermissions: o.DeletePermissions,
	}
}

func (m Metadata) tree() object {
	return object{
		{Key: "Component", Value: m.Component},
		{Key: "Profile", Value: string(m.Profile)},
		{Key: "PolicyVersion", Value: m.PolicyVersion},
		{Key: "PrivateEndpoint", Value: m.PrivateEndpoint},
		{Key: "DeletePermissions", Value: m.DeletePermissions},
	}
}

// ParseMetadata reads the metadata of a template, as GetTemplateSummary gives it; false
// where the template is not one of ours.
func ParseMetadata(text string) (Metadata, bool) {
	var all map[string]json.RawMessage
	var m Metadata
	if json.Unmarshal([]byte(text), &all) != nil || json.Unmarshal(all[metadataKey], &m) != nil {
		return Metadata{}, false
	}
	return m, m.Component == component
}
