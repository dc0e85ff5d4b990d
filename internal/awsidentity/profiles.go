package awsidentity

import (
	"strings"
)

type xmlProfile struct {
	Path                string
	InstanceProfileName string
	InstanceProfileId   string
	Arn                 string
	CreateDate          string
	Roles               members[xmlRole]
	Tags                *members[Tag]
}

func showProfile(v *view, accountID string, p *profile) (xmlProfile, error) {
	out := xmlProfile{Path: p.Path, InstanceProfileName: p.Name, InstanceProfileId: p.ID, Arn: p.ARN, CreateDate: stamp(p.Created), Tags: optional(p.Tags)}
	if p.Role == "" {
		return out, nil
	}
	r, err := get[role](v, accountID, roles, index(p.Role))
	if absent(err) {
		return out, nil // a reader may see the profile before its role
	}
	if err != nil {
		return out, err
	}
	one, err := showRole(v, r)
	out.Roles.Member = []xmlRole{one}
	return out, err
}

func (c *call) profile() (*profile, error) {
	name, err := c.name("InstanceProfileName", 128)
	if err != nil {
		return nil, err
	}
	p, err := get[profile](c.view, c.account, profiles, index(name))
	if absent(err) {
		return nil, errNoSuch("Instance Profile %s cannot be found.", name)
	}
	return p, err
}

func (c *call) saveProfile(p *profile) error {
	return put(c.view, c.account, profiles, index(p.Name), p)
}

func (c *call) createInstanceProfile() (any, error) {
	name, err := c.name("InstanceProfileName", 128)
	if err != nil {
		return nil, err
	}
	path, err := c.path()
	if err != nil {
		return nil, err
	}
	tags, err := c.newTags()
	if err != nil {
		return nil, err
	}
	if _, err := c.profile(); err == nil {
		return nil, errExists("Instance Profile %s already exists.", name)
	}
	if err := underQuota(c, profiles, maxProfiles, "InstanceProfilesPerAccount"); err != nil {
		return nil, err
	}
	id, err := newID(c.s.random, "AIPA")
	if err != nil {
		return nil, err
	}
	p := &profile{Name: name, ID: id, Path: path, ARN: c.arnOf("instance-profile" + path + name), Created: c.now, Tags: tags}
	if err := c.saveProfile(p); err != nil {
		return nil, err
	}
	return c.answerProfile(p)
}

func (c *call) answerProfile(p *profile) (any, error) {
	out, err := showProfile(c.view, c.account, p)
	return struct{ InstanceProfile xmlProfile }{out}, err
}

func (c *call) getInstanceProfile() (any, error) {
	p, err := c.profile()
	if err != nil {
		return nil, err
	}
	return c.answerProfile(p)
}

func (c *call) deleteInstanceProfile() (any, error) {
	p, err := c.profile()
	if err != nil {
		return nil, err
	}
	if p.Role != "" {
		return nil, errInUse("Cannot delete entity, must remove roles from instance profile first.")
	}
	return nil, put[profile](c.view, c.account, profiles, index(p.Name), nil)
}

func (c *call) listInstanceProfiles() (any, error) {
	prefix, err := c.pathPrefix()
	if err != nil {
		return nil, err
	}
	return c.listProfiles(func(p *profile) bool { return strings.HasPrefix(p.Path, prefix) })
}

func (c *call) listInstanceProfilesForRole() (any, error) {
	r, err := c.role()
	if err != nil {
		return nil, err
	}
	return c.listProfiles(func(p *profile) bool { return index(p.Role) == index(r.Name) })
}

func (c *call) listProfiles(wanted func(*profile) bool) (any, error) {
	var found []*profile
	err := each(c.view, c.account, profiles, func(_ string, p *profile) error {
		if wanted(p) {
			found = append(found, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found, end, err := cut(c, found, func(p *profile) string { return index(p.Name) })
	if err != nil {
		return nil, err
	}
	var out members[xmlProfile]
	for _, p := range found {
		one, err := showProfile(c.view, c.account, p)
		if err != nil {
			return nil, err
		}
		one.Tags = nil
		out.Member = append(out.Member, one)
	}
	return struct {
		InstanceProfiles members[xmlProfile]
		page
	}{out, end}, nil
}

func (c *call) addRoleToInstanceProfile() (any, error) {
	p, err := c.profile()
	if err != nil {
		return nil, err
	}
	r, err := c.changeable()
	if err != nil {
		return nil, err
	}
	if p.Role != "" {
		return nil, errLimit("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
	}
	p.Role = r.Name
	return nil, c.saveProfile(p)
}

func (c *call) removeRoleFromInstanceProfile() (any, error) {
	p, err := c.profile()
	if err != nil {
		return nil, err
	}
	name, err := c.roleName()
	if err != nil {
		return nil, err
	}
	if p.Role == "" || index(p.Role) != index(name) {
		return nil, errNoSuch("Role %s in Instance Profile %s cannot be found.", name, p.Name)
	}
	p.Role = ""
	return nil, c.saveProfile(p)
}
