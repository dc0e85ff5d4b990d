package resource

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/plane"
)

// Template is the form of a thing in a CloudFormation template. A step has one, or
// several where CloudFormation has several things for what it keeps.
type Template struct {
	Name       string // logical name: SubnetPublic1
	Type       string // AWS::EC2::Subnet
	Properties map[string]any
	// Keeps is for data: it stays when the stack is deleted.
	Keeps bool
}

// LogicalName is a logical id as CloudFormation has it: subnet-public-1 is SubnetPublic1.
func LogicalName(id string) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(id, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// Ref, Attribute and Text are CloudFormation's functions; the things are named by their
// logical ids.
func Ref(id string) any { return map[string]any{"Ref": LogicalName(id)} }

// Attribute is an attribute of a thing: its Arn.
func Attribute(id, name string) any {
	return map[string]any{"Fn::GetAtt": []any{LogicalName(id), name}}
}

// TagList are tags as most of CloudFormation has them.
func TagList(tags map[string]string) []any {
	var list []any
	for _, key := range ownership.Keys(tags) {
		list = append(list, map[string]any{"Key": key, "Value": tags[key]})
	}
	return list
}

// JSON is a document as a value.
func JSON(text string) any {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		panic("resource: a document of our own cannot be read: " + err.Error())
	}
	return value
}

// Templates are those of a role.
func (r Role) Templates(p *plane.Plane) []Template {
	keeper := &roleKeeper{Plane: p, Role: r}
	properties := map[string]any{
		"RoleName": r.Name, "Path": p.RolePath(), "Description": r.Purpose, "AssumeRolePolicyDocument": JSON(keeper.trust()),
		"Tags": TagList(p.Tags(r.Component, r.LogicalID)),
	}
	var attached, inline []any
	for _, name := range r.Attached {
		attached = append(attached, keeper.policyARN(name))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Inline)) {
		inline = append(inline, map[string]any{"PolicyName": name, "PolicyDocument": JSON(r.Inline[name])})
	}
	if attached != nil {
		properties["ManagedPolicyArns"] = attached
	}
	if inline != nil {
		properties["Policies"] = inline
	}
	if boundary := p.Boundary(); boundary != "" {
		properties["PermissionsBoundary"] = boundary
	}
	out := []Template{{Name: LogicalName(r.LogicalID), Type: "AWS::IAM::Role", Properties: properties}}
	if r.Profile {
		out = append(out, Template{Name: LogicalName(r.LogicalID + "-profile"), Type: "AWS::IAM::InstanceProfile", Properties: map[string]any{
			"InstanceProfileName": r.Name, "Path": p.RolePath(), "Roles": []any{Ref(r.LogicalID)}}})
	}
	return out
}
