package awsidentity

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"biplane.dev/biplane/provision/iampolicy"
)

type xmlRole struct {
	Path                     string
	RoleName                 string
	RoleId                   string
	Arn                      string
	CreateDate               string
	AssumeRolePolicyDocument string       `xml:",omitempty"`
	Description              string       `xml:",omitempty"`
	MaxSessionDuration       int          `xml:",omitempty"`
	PermissionsBoundary      *xmlBoundary `xml:",omitempty"`
	Tags                     *members[Tag]
	RoleLastUsed             *struct{}
}

type xmlBoundary struct {
	PermissionsBoundaryType string
	PermissionsBoundaryArn  string
}

func boundaryOf(p *principal) *xmlBoundary {
	if p.Boundary == "" {
		return nil
	}
	return &xmlBoundary{"Policy", p.Boundary}
}

// showRole is the form of lists; showWholeRole that of GetRole and CreateRole.
func showRole(v *view, r *role) (xmlRole, error) {
	trust, err := shownTrust(v, r)
	return xmlRole{
		Path: r.Path, RoleName: r.Name, RoleId: r.ID, Arn: r.ARN, CreateDate: stamp(r.Created),
		AssumeRolePolicyDocument: encodeDocument(trust), Description: r.Description, MaxSessionDuration: r.MaxSession,
	}, err
}

func showWholeRole(v *view, r *role) (xmlRole, error) {
	out, err := showRole(v, r)
	out.PermissionsBoundary = boundaryOf(&r.principal)
	out.Tags = optional(r.Tags)
	out.RoleLastUsed = &struct{}{}
	return out, err
}

// shownTrust is a role's trust policy with the id of every principal that is
// gone in place of its ARN. IAM keeps a role or user in a trust policy by its
// id: one that is made again under the same name is somebody else.
func shownTrust(v *view, r *role) (string, error) {
	gone, err := goneFromTrust(v, r)
	text := r.Trust
	for arn, id := range gone {
		text = strings.ReplaceAll(text, strconv.Quote(arn), strconv.Quote(id))
	}
	return text, err
}

// goneFromTrust gives the ids of those that a trust policy names and that are
// no more, by their ARNs.
func goneFromTrust(v *view, r *role) (map[string]string, error) {
	gone := map[string]string{}
	for arn, id := range r.TrustIDs {
		now, err := principalID(v, arn)
		if err != nil && !absent(err) {
			return nil, err
		}
		if now != id {
			gone[arn] = id
		}
	}
	return gone, nil
}

// principalID finds the id of a role or user by its ARN, in any account.
func principalID(v *view, arn string) (string, error) {
	fields := strings.SplitN(arn, ":", 6)
	if len(fields) != 6 || fields[2] != "iam" {
		return "", errAbsent
	}
	kindOf, rest, _ := strings.Cut(fields[5], "/")
	switch kindOf {
	case "role":
		r, err := get[role](v, fields[4], roles, index(nameOf(rest)))
		if err != nil {
			return "", err
		}
		if r.ARN == arn {
			return r.ID, nil
		}
	case "user":
		u, err := get[user](v, fields[4], users, index(nameOf(rest)))
		if err != nil {
			return "", err
		}
		if u.ARN == arn {
			return u.ID, nil
		}
	}
	return "", errAbsent
}

var uniqueIDClass = regexp.MustCompile(`^A(ROA|IDA)[A-Z0-9]{12,}$`)

// namedPrincipal looks at one entry under "AWS" of a Principal element. id is
// what the ARN of a role or user stands for now, and empty for anything else
// that a policy may name. The error is errAbsent where AWS would not store it.
// An account that this service does not have is taken to have everybody.
func namedPrincipal(v *view, value string) (id string, err error) {
	fields := strings.SplitN(value, ":", 6)
	switch {
	case value == "*", accountClass.MatchString(value), uniqueIDClass.MatchString(value):
		return "", nil
	case len(fields) != 6 || fields[0] != "arn" || !accountClass.MatchString(fields[4]):
		return "", errAbsent
	case fields[5] == "root":
		return "", nil
	}
	acc, err := get[account](v, fields[4], accountsOf, fields[4])
	switch {
	case errors.Is(err, errAbsent):
		return "", nil
	case err != nil:
		return "", err
	case fields[1] != acc.Partition:
		return "", errAbsent
	case fields[2] == "sts":
		return "", nil // a session: its role may not be running it yet
	}
	return principalID(v, value)
}

// checkTrust checks a trust policy and finds the ids of those it names. A
// principal of an account that the service has must exist; of other accounts
// nothing is known.
func (c *call) checkTrust(text string, d *iampolicy.Document) (map[string]string, error) {
	n, err := size(text)
	if err != nil {
		return nil, err
	}
	if n > maxTrust {
		return nil, errLimit("Cannot exceed quota for ACLSizePerRole: %d", maxTrust)
	}
	ids := map[string]string{}
	for _, one := range d.Statements {
		for _, named := range []*iampolicy.Principals{one.Principal, one.NotPrincipal} {
			if named == nil {
				continue
			}
			for _, value := range named.AWS {
				id, err := namedPrincipal(c.view, value)
				if errors.Is(err, errAbsent) {
					return nil, errMalformed(`Invalid principal in policy: "AWS":"%s"`, printable(value))
				}
				if err != nil {
					return nil, err
				}
				if id == "" {
					continue
				}
				ids[value] = id
			}
		}
	}
	return ids, nil
}

// role reads the role that RoleName names.
func (c *call) role() (*role, error) {
	name, err := c.roleName()
	if err != nil {
		return nil, err
	}
	return c.roleNamed(name)
}

func (c *call) roleNamed(name string) (*role, error) {
	r, err := get[role](c.view, c.account, roles, index(name))
	if errors.Is(err, errAbsent) {
		return nil, errNoSuch("The role with name %s cannot be found.", name)
	}
	return r, err
}

// changeable is role, for what a service-linked role does not let change.
func (c *call) changeable() (*role, error) {
	r, err := c.role()
	if err == nil && r.Service != "" {
		return nil, refuse(400, "UnmodifiableEntity", "Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", r.Name)
	}
	return r, err
}

func (c *call) save(r *role) error { return put(c.view, c.account, roles, index(r.Name), r) }

func (c *call) createRole() (any, error) {
	name, err := c.roleName()
	if err != nil {
		return nil, err
	}
	path, err := c.path()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "/aws-service-role/") {
		return nil, errInvalid("The path /aws-service-role/ is reserved; service-linked roles are made with CreateServiceLinkedRole.")
	}
	return c.makeRole(name, path, "")
}

// makeRole is the rest of CreateRole and of CreateServiceLinkedRole.
func (c *call) makeRole(name, path, service string) (any, error) {
	description, err := c.description(1000)
	if err != nil {
		return nil, err
	}
	length, err := c.p.whole("MaxSessionDuration", 3600, 3600, 43200)
	if err != nil {
		return nil, err
	}
	tags, err := c.newTags()
	if err != nil {
		return nil, err
	}
	text, d, err := c.document("AssumeRolePolicyDocument", true)
	if err != nil {
		return nil, err
	}
	ids, err := c.checkTrust(text, d)
	if err != nil {
		return nil, err
	}
	boundary, err := c.boundary()
	if err != nil {
		return nil, err
	}
	if _, err := c.roleNamed(name); err == nil {
		return nil, errExists("Role with name %s already exists.", name)
	}
	if err := underQuota(c, roles, maxRoles, "RolesPerAccount"); err != nil {
		return nil, err
	}
	id, err := newID(c.s.random, "AROA")
	if err != nil {
		return nil, err
	}
	r := &role{
		principal: principal{
			Name: name, ID: id, Path: path, ARN: c.arnOf("role" + path + name),
			Created: c.now, Boundary: boundary, Tags: tags,
		},
		Trust: text, TrustIDs: ids, Description: description, MaxSession: length, Service: service,
	}
	if err := c.save(r); err != nil {
		return nil, err
	}
	out, err := showWholeRole(c.view, r)
	out.RoleLastUsed = nil
	return struct{ Role xmlRole }{out}, err
}

// arnOf is the ARN of an IAM object of the caller's account.
func (c *call) arnOf(rest string) string {
	return "arn:" + c.caller.Partition + ":iam::" + c.account + ":" + rest
}

// boundary reads PermissionsBoundary, which may be absent.
func (c *call) boundary() (string, error) {
	if !c.p.has("PermissionsBoundary") {
		return "", nil
	}
	arn, err := c.arn("PermissionsBoundary")
	if err != nil {
		return "", err
	}
	if _, err := c.s.managedPolicy(c.view, c.account, arn); errors.Is(err, errAbsent) {
		return "", errNoSuch("Scope ARN: %s does not exist or is not attachable.", arn)
	} else if err != nil {
		return "", err
	}
	return arn, nil
}

// underQuota refuses one more than the quota.
func underQuota(c *call, k kind, quota int, name string) error {
	n, err := count(c.view, c.account, k)
	if err == nil && n >= quota {
		return errLimit("Cannot exceed quota for %s: %d", name, quota)
	}
	return err
}

func (c *call) getRole() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	out, err := showWholeRole(c.view, r)
	return struct{ Role xmlRole }{out}, err
}

func (c *call) listRoles() (any, error) {
	prefix, err := c.pathPrefix()
	if err != nil {
		return nil, err
	}
	var found []*role
	err = each(c.view, c.account, roles, func(_ string, r *role) error {
		if strings.HasPrefix(r.Path, prefix) {
			found = append(found, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found, end, err := cut(c, found, func(r *role) string { return index(r.Name) })
	if err != nil {
		return nil, err
	}
	var out members[xmlRole]
	for _, r := range found {
		one, err := showRole(c.view, r)
		if err != nil {
			return nil, err
		}
		out.Member = append(out.Member, one)
	}
	return struct {
		Roles members[xmlRole]
		page
	}{out, end}, nil
}

func (c *call) deleteRole() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	switch {
	case len(r.Attached) > 0:
		return nil, errInUse("Cannot delete entity, must detach all policies first.")
	case len(r.Inline) > 0:
		return nil, errInUse("Cannot delete entity, must delete policies first.")
	}
	err = each(c.view, c.account, profiles, func(_ string, p *profile) error {
		if index(p.Role) == index(r.Name) {
			return errInUse("Cannot delete entity, must remove roles from instance profile first.")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, put[role](c.view, c.account, roles, index(r.Name), nil)
}

func (c *call) updateRole() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	if c.p.has("Description") {
		if r.Description, err = c.description(1000); err != nil {
			return nil, err
		}
	}
	if r.MaxSession, err = c.p.whole("MaxSessionDuration", r.MaxSession, 3600, 43200); err != nil {
		return nil, err
	}
	return struct{}{}, c.save(r)
}

func (c *call) updateRoleDescription() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	if r.Description, err = c.description(1000); err != nil {
		return nil, err
	}
	if err := c.save(r); err != nil {
		return nil, err
	}
	out, err := showRole(c.view, r)
	return struct{ Role xmlRole }{out}, err
}

func (c *call) updateAssumeRolePolicy() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	text, d, err := c.document("PolicyDocument", true)
	if err != nil {
		return nil, err
	}
	// A principal that is gone stands in the shown text by its id, and may go on
	// standing there.
	ids, err := c.checkTrust(text, d)
	if err != nil {
		return nil, err
	}
	r.Trust, r.TrustIDs = text, ids
	return nil, c.save(r)
}

func (c *call) putRolePermissionsBoundary() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	if _, err := c.arn("PermissionsBoundary"); err != nil {
		return nil, err
	}
	if r.Boundary, err = c.boundary(); err != nil {
		return nil, err
	}
	return nil, c.save(r)
}

func (c *call) deleteRolePermissionsBoundary() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	if r.Boundary == "" {
		return nil, errNoSuch("The permissions boundary of role %s cannot be found.", r.Name)
	}
	r.Boundary = ""
	return nil, c.save(r)
}

// Inline policies: the same for roles and users but for the limit.

func (c *call) putRolePolicy() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	if err := c.putInline(&r.principal, "role", maxInlineRole); err != nil {
		return nil, err
	}
	return nil, c.save(r)
}

func (c *call) putInline(p *principal, kindOf string, quota int) error {
	name, err := c.policyName()
	if err != nil {
		return err
	}
	text, _, err := c.document("PolicyDocument", false)
	if err != nil {
		return err
	}
	p.setInline(name, text)
	total := 0
	for _, one := range p.Inline {
		n, err := size(one.Document)
		if err != nil {
			return err
		}
		total += n
	}
	if total > quota {
		return errLimit("Maximum policy size of %d bytes exceeded for %s %s", quota, kindOf, p.Name)
	}
	return nil
}

func (c *call) getRolePolicy() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	one, err := c.inlineOf(&r.principal, "role")
	if err != nil {
		return nil, err
	}
	return struct{ RoleName, PolicyName, PolicyDocument string }{r.Name, one.Name, encodeDocument(one.Document)}, nil
}

func (c *call) inlineOf(p *principal, kindOf string) (*inline, error) {
	name, err := c.policyName()
	if err != nil {
		return nil, err
	}
	if one := p.inline(name); one != nil {
		return one, nil
	}
	return nil, errNoSuch("The %s policy with name %s cannot be found.", kindOf, name)
}

func (c *call) listRolePolicies() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	return c.listInline(&r.principal)
}

func (c *call) listInline(p *principal) (any, error) {
	var names []string
	for _, one := range p.Inline {
		names = append(names, one.Name)
	}
	names, end, err := cut(c, names, func(s string) string { return s })
	if err != nil {
		return nil, err
	}
	return struct {
		PolicyNames members[string]
		page
	}{members[string]{names}, end}, nil
}

func (c *call) deleteRolePolicy() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	if err := c.deleteInline(&r.principal, "role"); err != nil {
		return nil, err
	}
	return nil, c.save(r)
}

func (c *call) deleteInline(p *principal, kindOf string) error {
	one, err := c.inlineOf(p, kindOf)
	if err != nil {
		return err
	}
	name := one.Name
	p.Inline = slices.DeleteFunc(p.Inline, func(i inline) bool { return i.Name == name })
	return nil
}

// Attached policies, likewise.

func (c *call) attachRolePolicy() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	if err := c.attach(&r.principal, maxAttachedRole, "PoliciesPerRole"); err != nil {
		return nil, err
	}
	return nil, c.save(r)
}

func (c *call) attach(p *principal, quota int, quotaName string) error {
	arn, err := c.arn("PolicyArn")
	if err != nil {
		return err
	}
	if _, err := c.s.managedPolicy(c.view, c.account, arn); errors.Is(err, errAbsent) {
		return errNoSuch("Policy %s does not exist or is not attachable.", arn)
	} else if err != nil {
		return err
	}
	if slices.Contains(p.Attached, arn) {
		return nil
	}
	if len(p.Attached) >= quota {
		return errLimit("Cannot exceed quota for %s: %d", quotaName, quota)
	}
	p.Attached = append(p.Attached, arn)
	return nil
}

func (c *call) detachRolePolicy() (any, error) {
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	if err := c.detach(&r.principal); err != nil {
		return nil, err
	}
	return nil, c.save(r)
}

func (c *call) detach(p *principal) error {
	arn, err := c.arn("PolicyArn")
	if err != nil {
		return err
	}
	i := slices.Index(p.Attached, arn)
	if i < 0 {
		return errNoSuch("Policy %s was not found.", arn)
	}
	p.Attached = slices.Delete(p.Attached, i, i+1)
	return nil
}

type xmlAttached struct{ PolicyName, PolicyArn string }

func (c *call) listAttachedRolePolicies() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	return c.listAttached(&r.principal)
}

func (c *call) listAttached(p *principal) (any, error) {
	prefix, err := c.pathPrefix()
	if err != nil {
		return nil, err
	}
	var found []xmlAttached
	for _, one := range attached(p) {
		_, path, _ := strings.Cut(one.PolicyArn, ":policy")
		if strings.HasPrefix(path, prefix) {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b xmlAttached) int { return strings.Compare(a.PolicyArn, b.PolicyArn) })
	found, end, err := cut(c, found, func(a xmlAttached) string { return a.PolicyArn })
	if err != nil {
		return nil, err
	}
	return struct {
		AttachedPolicies members[xmlAttached]
		page
	}{members[xmlAttached]{found}, end}, nil
}

func attached(p *principal) []xmlAttached {
	var out []xmlAttached
	for _, arn := range p.Attached {
		out = append(out, xmlAttached{nameOf(arn), arn})
	}
	return out
}

// Service-linked roles.

func (c *call) createServiceLinkedRole() (any, error) {
	service := c.p.get("AWSServiceName")
	if !serviceClass.MatchString(service) || len(service) > 128 {
		return nil, errInvalid("The specified value for AWSServiceName is invalid: '%s'. It must be a service principal such as eks.amazonaws.com.", printable(service))
	}
	name := linkedRoleName(service)
	if suffix := c.p.get("CustomSuffix"); suffix != "" {
		if !nameClass.MatchString(suffix) || len(suffix) > 64 {
			return nil, errInvalid("The specified value for customSuffix is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-")
		}
		name += "_" + suffix
	}
	if len(name) > 64 {
		return nil, errConstraint(name, "roleName", "Member must have length less than or equal to 64")
	}
	if _, err := c.roleNamed(name); err == nil {
		return nil, refuse(400, "InvalidInput", "Service role name %s has been taken in this account, please try a different suffix.", name)
	}
	inner := *c
	inner.p = maps.Clone(c.p)
	inner.p["AssumeRolePolicyDocument"] = fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":[%q]},"Action":["sts:AssumeRole"]}]}`, service)
	return inner.makeRole(name, "/aws-service-role/"+service+"/", service)
}

var serviceClass = regexp.MustCompile(`^[a-z0-9.-]+\.amazonaws\.com(\.cn)?$`)

// linkedRoleName is AWSServiceRoleFor and the service's name as AWS writes it.
func linkedRoleName(service string) string {
	known := map[string]string{
		"autoscaling.amazonaws.com":          "AutoScaling",
		"ecs.amazonaws.com":                  "ECS",
		"eks.amazonaws.com":                  "AmazonEKS",
		"eks-nodegroup.amazonaws.com":        "AmazonEKSNodegroup",
		"eks-fargate.amazonaws.com":          "AmazonEKSForFargate",
		"elasticloadbalancing.amazonaws.com": "ElasticLoadBalancing",
		"elasticache.amazonaws.com":          "ElastiCache",
		"rds.amazonaws.com":                  "RDS",
		"spot.amazonaws.com":                 "EC2Spot",
		"spotfleet.amazonaws.com":            "EC2SpotFleet",
		"support.amazonaws.com":              "Support",
		"trustedadvisor.amazonaws.com":       "TrustedAdvisor",
	}
	if name, ok := known[service]; ok {
		return "AWSServiceRoleFor" + name
	}
	first, _, _ := strings.Cut(service, ".")
	return "AWSServiceRoleFor" + strings.ToUpper(first[:1]) + first[1:]
}

func (c *call) deleteServiceLinkedRole() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	if r.Service == "" {
		return nil, refuse(400, "InvalidInput", "Role with name %s is not a service-linked role.", r.Name)
	}
	id, err := newRequestID(c.s.random)
	if err != nil {
		return nil, err
	}
	// AWS deletes some time later; here it is done at once.
	return struct{ DeletionTaskId string }{"task" + r.Path + r.Name + "/" + id}, put[role](c.view, c.account, roles, index(r.Name), nil)
}

func (c *call) getServiceLinkedRoleDeletionStatus() (any, error) {
	if !strings.HasPrefix(c.p.get("DeletionTaskId"), "task/aws-service-role/") {
		return nil, errNoSuch("The deletion task %s cannot be found.", printable(c.p.get("DeletionTaskId")))
	}
	return struct{ Status string }{"SUCCEEDED"}, nil
}

// duration is a number of seconds.
func duration(seconds int) time.Duration { return time.Duration(seconds) * time.Second }
