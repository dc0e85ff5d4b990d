package awsidentity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type xmlPolicy struct {
	PolicyName                    string
	PolicyId                      string
	Arn                           string
	Path                          string
	DefaultVersionId              string
	AttachmentCount               int
	PermissionsBoundaryUsageCount int
	IsAttachable                  bool
	Description                   string `xml:",omitempty"`
	CreateDate                    string
	UpdateDate                    string
	Tags                          *members[Tag]
}

type xmlPolicyVersion struct {
	Document         string `xml:",omitempty"`
	VersionId        string
	IsDefaultVersion bool
	CreateDate       string
}

func showPolicy(p *policy, uses map[string]use) xmlPolicy {
	return xmlPolicy{
		PolicyName: p.Name, PolicyId: p.ID, Arn: p.ARN, Path: p.Path, DefaultVersionId: p.Default,
		AttachmentCount: uses[p.ARN].attached, PermissionsBoundaryUsageCount: uses[p.ARN].boundary, IsAttachable: true,
		CreateDate: stamp(p.Created), UpdateDate: stamp(p.Updated),
	}
}

// showWholePolicy is the form of GetPolicy; lists leave out description and tags.
func showWholePolicy(p *policy, uses map[string]use) xmlPolicy {
	out := showPolicy(p, uses)
	out.Description = p.Description
	out.Tags = optional(p.Tags)
	return out
}

func showVersion(p *policy, v *policyVersion, document bool) xmlPolicyVersion {
	out := xmlPolicyVersion{VersionId: v.ID, IsDefaultVersion: v.ID == p.Default, CreateDate: stamp(v.Created)}
	if document {
		out.Document = encodeDocument(v.Document)
	}
	return out
}

// use counts the roles and users that a policy is attached to or bounds.
type use struct{ attached, boundary int }

func (c *call) uses() (map[string]use, error) {
	out := map[string]use{}
	count := func(p *principal) {
		for _, arn := range p.Attached {
			one := out[arn]
			one.attached++
			out[arn] = one
		}
		if p.Boundary != "" {
			one := out[p.Boundary]
			one.boundary++
			out[p.Boundary] = one
		}
	}
	return out, c.eachPrincipal(func(_ string, p *principal) error { count(p); return nil })
}

// eachPrincipal goes through the roles, then the users, of the account.
func (c *call) eachPrincipal(fn func(kindOf string, p *principal) error) error {
	err := each(c.view, c.account, roles, func(_ string, r *role) error { return fn("role", &r.principal) })
	if err != nil {
		return err
	}
	return each(c.view, c.account, users, func(_ string, u *user) error { return fn("user", &u.principal) })
}

// policy reads the policy that PolicyArn names, AWS's own too.
func (c *call) policy() (*policy, error) {
	arn, err := c.arn("PolicyArn")
	if err != nil {
		return nil, err
	}
	p, err := c.s.managedPolicy(c.view, c.account, arn)
	if absent(err) {
		return nil, errNoSuch("Policy %s was not found.", arn)
	}
	return p, err
}

// ownPolicy is policy, for what AWS lets a customer change.
func (c *call) ownPolicy() (*policy, error) {
	p, err := c.policy()
	if err == nil && strings.Contains(p.ARN, ":iam::aws:") {
		return nil, errDenied("Policy is outside your own account.")
	}
	return p, err
}

func (c *call) savePolicy(p *policy) error { return put(c.view, c.account, policies, index(p.Name), p) }

func (c *call) createPolicy() (any, error) {
	name, err := c.policyName()
	if err != nil {
		return nil, err
	}
	path, err := c.path()
	if err != nil {
		return nil, err
	}
	description, err := c.description(1000)
	if err != nil {
		return nil, err
	}
	tags, err := c.newTags()
	if err != nil {
		return nil, err
	}
	text, err := c.managedDocument()
	if err != nil {
		return nil, err
	}
	if have, err := get[policy](c.view, c.account, policies, index(name)); err == nil {
		return nil, errExists("A policy called %s already exists. Duplicate names are not allowed.", have.Name)
	} else if !absent(err) {
		return nil, err
	}
	if err := underQuota(c, policies, maxPolicies, "PoliciesPerAccount"); err != nil {
		return nil, err
	}
	id, err := newID(c.s.random, "ANPA")
	if err != nil {
		return nil, err
	}
	p := &policy{
		Name: name, ID: id, Path: path, ARN: c.arnOf("policy" + path + name), Description: description,
		Created: c.now, Updated: c.now, Default: "v1", Next: 2, Tags: tags,
		Versions: []policyVersion{{ID: "v1", Document: text, Created: c.now}},
	}
	out := showWholePolicy(p, nil)
	out.Description = description
	return struct{ Policy xmlPolicy }{out}, c.savePolicy(p)
}

func (c *call) managedDocument() (string, error) {
	text, _, err := c.document("PolicyDocument", false)
	if err != nil {
		return "", err
	}
	n, err := size(text)
	if err != nil {
		return "", err
	}
	if n > maxManaged {
		return "", errLimit("Cannot exceed quota for PolicySize: %d", maxManaged)
	}
	return text, nil
}

func (c *call) getPolicy() (any, error) {
	p, err := c.policy()
	if err != nil {
		return nil, err
	}
	uses, err := c.uses()
	return struct{ Policy xmlPolicy }{showWholePolicy(p, uses)}, err
}

func (c *call) listPolicies() (any, error) {
	prefix, err := c.pathPrefix()
	if err != nil {
		return nil, err
	}
	scope := c.p.get("Scope")
	switch scope {
	case "":
		scope = "All"
	case "All", "AWS", "Local":
	default:
		return nil, errConstraint(scope, "scope", "Member must satisfy enum value set: [All, AWS, Local]")
	}
	usage := c.p.get("PolicyUsageFilter")
	switch usage {
	case "", "PermissionsPolicy", "PermissionsBoundary":
	default:
		return nil, errConstraint(usage, "policyUsageFilter", "Member must satisfy enum value set: [PermissionsPolicy, PermissionsBoundary]")
	}
	uses, err := c.uses()
	if err != nil {
		return nil, err
	}
	found, err := c.policiesIn(scope)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(p *policy) bool {
		used := uses[p.ARN]
		switch {
		case !strings.HasPrefix(p.Path, prefix):
			return true
		case usage == "PermissionsPolicy" && used.attached == 0, usage == "PermissionsBoundary" && used.boundary == 0:
			return true
		}
		return c.p.get("OnlyAttached") == "true" && used.attached+used.boundary == 0
	})
	found, end, err := cut(c, found, func(p *policy) string { return p.ARN })
	if err != nil {
		return nil, err
	}
	var out members[xmlPolicy]
	for _, p := range found {
		out.Member = append(out.Member, showPolicy(p, uses))
	}
	return struct {
		Policies members[xmlPolicy]
		page
	}{out, end}, nil
}

// policiesIn lists managed policies by ARN.
func (c *call) policiesIn(scope string) ([]*policy, error) {
	var out []*policy
	if scope != "AWS" {
		err := each(c.view, c.account, policies, func(_ string, p *policy) error { out = append(out, p); return nil })
		if err != nil {
			return nil, err
		}
	}
	if scope != "Local" {
		for arn, one := range c.s.managed {
			own := *one
			own.ARN = strings.Replace(arn, "arn:aws:", "arn:"+c.caller.Partition+":", 1)
			out = append(out, &own)
		}
	}
	slices.SortFunc(out, func(a, b *policy) int { return strings.Compare(a.ARN, b.ARN) })
	return out, nil
}

func (c *call) deletePolicy() (any, error) {
	p, err := c.ownPolicy()
	if err != nil {
		return nil, err
	}
	uses, err := c.uses()
	if err != nil {
		return nil, err
	}
	switch used := uses[p.ARN]; {
	case used.attached > 0:
		return nil, errInUse("Cannot delete a policy attached to entities.")
	case used.boundary > 0:
		return nil, errInUse("Cannot delete a policy that is used as a permissions boundary.")
	case len(p.Versions) > 1:
		return nil, errInUse("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
	}
	return nil, put[policy](c.view, c.account, policies, index(p.Name), nil)
}

func (c *call) createPolicyVersion() (any, error) {
	p, err := c.ownPolicy()
	if err != nil {
		return nil, err
	}
	text, err := c.managedDocument()
	if err != nil {
		return nil, err
	}
	if len(p.Versions) >= maxVersions {
		return nil, errLimit("A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", maxVersions)
	}
	p.Versions = append(p.Versions, policyVersion{ID: "v" + strconv.Itoa(p.Next), Document: text, Created: c.now})
	p.Next++
	made := &p.Versions[len(p.Versions)-1]
	if c.p.get("SetAsDefault") == "true" {
		p.Default = made.ID
	}
	p.Updated = c.now
	return struct{ PolicyVersion xmlPolicyVersion }{showVersion(p, made, false)}, c.savePolicy(p)
}

// versionOf reads VersionId.
func (c *call) versionOf(p *policy) (*policyVersion, error) {
	id := c.p.get("VersionId")
	if n, err := strconv.Atoi(strings.TrimPrefix(id, "v")); err != nil || n < 1 || !strings.HasPrefix(id, "v") {
		return nil, errConstraint(id, "versionId", `Member must satisfy regular expression pattern: v[1-9][0-9]*(\.[A-Za-z0-9-]*)?`)
	}
	if v := p.version(id); v != nil {
		return v, nil
	}
	return nil, errNoSuch("Policy %s version %s does not exist or is not attachable.", p.ARN, id)
}

func (c *call) getPolicyVersion() (any, error) {
	p, err := c.policy()
	if err != nil {
		return nil, err
	}
	v, err := c.versionOf(p)
	if err != nil {
		return nil, err
	}
	return struct{ PolicyVersion xmlPolicyVersion }{showVersion(p, v, true)}, nil
}

func (c *call) listPolicyVersions() (any, error) {
	p, err := c.policy()
	if err != nil {
		return nil, err
	}
	// Newest first, as AWS lists them. The key of paging goes the other way.
	order := func(v policyVersion) string {
		n, _ := strconv.Atoi(v.ID[1:]) // made by createPolicyVersion
		return fmt.Sprintf("%010d", 1<<31-n)
	}
	versions := slices.Clone(p.Versions)
	slices.Reverse(versions)
	versions, end, err := cut(c, versions, order)
	if err != nil {
		return nil, err
	}
	var out members[xmlPolicyVersion]
	for i := range versions {
		out.Member = append(out.Member, showVersion(p, &versions[i], false))
	}
	return struct {
		Versions members[xmlPolicyVersion]
		page
	}{out, end}, nil
}

func (c *call) deletePolicyVersion() (any, error) {
	p, err := c.ownPolicy()
	if err != nil {
		return nil, err
	}
	v, err := c.versionOf(p)
	if err != nil {
		return nil, err
	}
	if v.ID == p.Default {
		return nil, errInUse("Cannot delete the default version of a policy.")
	}
	id := v.ID
	p.Versions = slices.DeleteFunc(p.Versions, func(v policyVersion) bool { return v.ID == id })
	return nil, c.savePolicy(p)
}

func (c *call) setDefaultPolicyVersion() (any, error) {
	p, err := c.ownPolicy()
	if err != nil {
		return nil, err
	}
	v, err := c.versionOf(p)
	if err != nil {
		return nil, err
	}
	p.Default, p.Updated = v.ID, c.now
	return nil, c.savePolicy(p)
}

func (c *call) listEntitiesForPolicy() (any, error) {
	p, err := c.policy()
	if err != nil {
		return nil, err
	}
	prefix, err := c.pathPrefix()
	if err != nil {
		return nil, err
	}
	type entity struct {
		kind, name, id string
	}
	filter, usage := c.p.get("EntityFilter"), c.p.get("PolicyUsageFilter")
	kinds := map[string]string{"Role": "role", "User": "user"}
	var found []entity
	err = c.eachPrincipal(func(kindOf string, one *principal) error {
		attached, bounded := slices.Contains(one.Attached, p.ARN), one.Boundary == p.ARN
		switch usage {
		case "PermissionsPolicy":
			bounded = false
		case "PermissionsBoundary":
			attached = false
		}
		if !attached && !bounded || !strings.HasPrefix(one.Path, prefix) {
			return nil
		}
		switch filter {
		case "", "LocalManagedPolicy", "AWSManagedPolicy":
		default:
			if kinds[filter] != kindOf {
				return nil
			}
		}
		found = append(found, entity{kindOf, one.Name, one.ID})
		return nil
	})
	if err != nil {
		return nil, err
	}
	found, end, err := cut(c, found, func(e entity) string { return e.kind + " " + index(e.name) })
	if err != nil {
		return nil, err
	}
	type xmlPolicyRole struct{ RoleName, RoleId string }
	type xmlPolicyUser struct{ UserName, UserId string }
	out := struct {
		PolicyGroups members[struct{}]
		PolicyRoles  members[xmlPolicyRole]
		PolicyUsers  members[xmlPolicyUser]
		page
	}{page: end}
	for _, e := range found {
		if e.kind == "role" {
			out.PolicyRoles.Member = append(out.PolicyRoles.Member, xmlPolicyRole{e.name, e.id})
		} else {
			out.PolicyUsers.Member = append(out.PolicyUsers.Member, xmlPolicyUser{e.name, e.id})
		}
	}
	return out, nil
}
