package template

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"biplane.dev/biplane/internal/ordered"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// The logical ids that others ask for.
const (
	ProvisionRole  = "ProvisionRole" // the role that the vendor assumes; under compat the only one
	boundaryPolicy = "BoundaryPolicy"
)

// RoleIDs are the logical ids of the set's roles, by role name.
func RoleIDs(set *access.Set, v *vendor.Profile) map[string]string {
	ids := map[string]string{}
	for _, r := range set.Roles {
		ids[r.Name] = roleID(set, r, v)
	}
	return ids
}

func roleID(set *access.Set, r access.Role, v *vendor.Profile) string {
	if r.Name == v.RoleName {
		return ProvisionRole
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(r.Name, v.RoleName), v.EndpointPrefix+set.Region)
	return strings.TrimSuffix(words(rest), "Role") + "Role"
}

// policyID is Policy1 under compat, whose policies have numbers.
func policyID(p access.Policy, v *vendor.Profile) string {
	id := words(strings.TrimPrefix(p.Name, v.PolicyName))
	if strings.TrimLeft(id, "0123456789") == "" {
		return "Policy" + id
	}
	return id + "Policy"
}

// words are the words of a name, as a logical id is written.
func words(name string) string {
	var id strings.Builder
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String()
}

// resources are what the set consists of: the boundary, and each role behind its
// policies. They refer to each other, so that CloudFormation finds the order.
func resources(set *access.Set, v *vendor.Profile) (all object, roles []string, err error) {
	add := func(id, kind string, properties object) {
		all = append(all, member{Key: id, Value: object{{Key: "Type", Value: kind}, {Key: "Properties", Value: properties}}})
	}
	managed := func(p access.Policy, id, path string) error {
		document, err := ordered.Decode(p.Document)
		// No description: to change one is to replace the policy, and CloudFormation
		// replaces nothing that has a name of its own.
		add(id, "AWS::IAM::ManagedPolicy", object{
			{Key: "ManagedPolicyName", Value: p.Name}, {Key: "Path", Value: path}, {Key: "PolicyDocument", Value: document},
		})
		return err
	}
	if set.Boundary != nil {
		if err := managed(*set.Boundary, boundaryPolicy, set.Roles[0].Path); err != nil {
			return nil, nil, err
		}
		// It has an account of ?*, which is whatever has one. cfn-lint knows * alone.
		all[0].Value = append(all[0].Value.(object), member{Key: "Metadata", Value: object{{Key: "cfn-lint", Value: object{{Key: "config", Value: object{{Key: "ignore_checks", Value: list{"W1031"}}}}}}}})
	}
	for _, r := range set.Roles {
		trust, err := ordered.Decode(r.Trust.Document)
		if err != nil {
			return nil, nil, err
		}
		attached, inline := list{}, list{}
		for _, arn := range r.Attached {
			attached = append(attached, arn)
		}
		for _, p := range r.Policies {
			if p.Kind == "managed" {
				id := policyID(p, v)
				if err := managed(p, id, r.Path); err != nil {
					return nil, nil, err
				}
				attached = append(attached, ref(id))
				continue
			}
			document, err := ordered.Decode(p.Document)
			if err != nil {
				return nil, nil, err
			}
			inline = append(inline, object{{Key: "PolicyName", Value: p.Name}, {Key: "PolicyDocument", Value: document}})
		}
		properties := object{
			{Key: "RoleName", Value: r.Name},
			{Key: "Path", Value: r.Path},
			{Key: "Description", Value: r.Purpose},
			{Key: "MaxSessionDuration", Value: access.SessionSeconds},
			{Key: "AssumeRolePolicyDocument", Value: trust},
		}
		if r.Boundary != nil {
			properties = append(properties, member{Key: "PermissionsBoundary", Value: ref(boundaryPolicy)})
		}
		if len(attached) > 0 {
			properties = append(properties, member{Key: "ManagedPolicyArns", Value: attached})
		}
		if len(inline) > 0 {
			properties = append(properties, member{Key: "Policies", Value: inline})
		}
		id := roleID(set, r, v)
		add(id, "AWS::IAM::Role", append(properties, member{Key: "Tags", Value: tags(set, v)}))
		roles = append(roles, id)
	}
	return all, roles, nil
}

// tags mark a role as grant does, and with the stack that made it.
func tags(set *access.Set, v *vendor.Profile) list {
	tag := func(key string, value any) object {
		return object{{Key: "Key", Value: key}, {Key: "Value", Value: value}}
	}
	all := list{}
	given := set.Tags(v)
	for _, key := range slices.Sorted(maps.Keys(given)) {
		all = append(all, tag(key, given[key]))
	}
	return append(all, tag(v.TagPrefix+access.StackTag, ref("AWS::StackName")))
}

func ref(name string) object { return object{{Key: "Ref", Value: name}} }
