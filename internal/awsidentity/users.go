package awsidentity

import (
	"strings"
)

type xmlUser struct {
	Path                string
	UserName            string
	UserId              string
	Arn                 string
	CreateDate          string
	PermissionsBoundary *xmlBoundary `xml:",omitempty"`
	Tags                *members[Tag]
}

func showUser(u *user) xmlUser {
	return xmlUser{Path: u.Path, UserName: u.Name, UserId: u.ID, Arn: u.ARN, CreateDate: stamp(u.Created)}
}

func showWholeUser(u *user) xmlUser {
	out := showUser(u)
	out.PermissionsBoundary, out.Tags = boundaryOf(&u.principal), optional(u.Tags)
	return out
}

func (c *call) user() (*user, error) {
	name, err := c.userName()
	if err != nil {
		return nil, err
	}
	return c.userNamed(name)
}

func (c *call) userNamed(name string) (*user, error) {
	u, err := get[user](c.view, c.account, users, index(name))
	if absent(err) {
		return nil, errNoSuch("The user with name %s cannot be found.", name)
	}
	return u, err
}

// userOrSelf is user, and the caller where the request names nobody.
func (c *call) userOrSelf() (*user, error) {
	if c.p.has("UserName") {
		return c.user()
	}
	if c.caller.UserName == "" {
		return nil, errInvalid("Must specify userName when calling with non-User credentials")
	}
	return c.userNamed(c.caller.UserName)
}

func (c *call) saveUser(u *user) error { return put(c.view, c.account, users, index(u.Name), u) }

func (c *call) createUser() (any, error) {
	name, err := c.userName()
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
	boundary, err := c.boundary()
	if err != nil {
		return nil, err
	}
	if _, err := c.userNamed(name); err == nil {
		return nil, errExists("User with name %s already exists.", name)
	}
	if err := underQuota(c, users, maxUsers, "UsersPerAccount"); err != nil {
		return nil, err
	}
	id, err := newID(c.s.random, "AIDA")
	if err != nil {
		return nil, err
	}
	u := &user{principal{Name: name, ID: id, Path: path, ARN: c.arnOf("user" + path + name), Created: c.now, Boundary: boundary, Tags: tags}}
	return struct{ User xmlUser }{showWholeUser(u)}, c.saveUser(u)
}

func (c *call) getUser() (any, error) {
	u, err := c.userOrSelf()
	if err != nil {
		return nil, err
	}
	return struct{ User xmlUser }{showWholeUser(u)}, nil
}

func (c *call) listUsers() (any, error) {
	prefix, err := c.pathPrefix()
	if err != nil {
		return nil, err
	}
	var found []*user
	err = each(c.view, c.account, users, func(_ string, u *user) error {
		if strings.HasPrefix(u.Path, prefix) {
			found = append(found, u)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found, end, err := cut(c, found, func(u *user) string { return index(u.Name) })
	if err != nil {
		return nil, err
	}
	var out members[xmlUser]
	for _, u := range found {
		out.Member = append(out.Member, showUser(u))
	}
	return struct {
		Users members[xmlUser]
		page
	}{out, end}, nil
}

func (c *call) deleteUser() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	keys, err := keysOfUser(c.view, u)
	switch {
	case err != nil:
		return nil, err
	case len(keys) > 0:
		return nil, errInUse("Cannot delete entity, must delete access keys first.")
	case len(u.Attached) > 0:
		return nil, errInUse("Cannot delete entity, must detach all policies first.")
	case len(u.Inline) > 0:
		return nil, errInUse("Cannot delete entity, must delete policies first.")
	}
	return nil, put[user](c.view, c.account, users, index(u.Name), nil)
}

func (c *call) putUserPermissionsBoundary() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	if _, err := c.arn("PermissionsBoundary"); err != nil {
		return nil, err
	}
	if u.Boundary, err = c.boundary(); err != nil {
		return nil, err
	}
	return nil, c.saveUser(u)
}

func (c *call) deleteUserPermissionsBoundary() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	if u.Boundary == "" {
		return nil, errNoSuch("The permissions boundary of user %s cannot be found.", u.Name)
	}
	u.Boundary = ""
	return nil, c.saveUser(u)
}

// Policies.

func (c *call) putUserPolicy() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	if err := c.putInline(&u.principal, "user", maxInlineUser); err != nil {
		return nil, err
	}
	return nil, c.saveUser(u)
}

func (c *call) getUserPolicy() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	one, err := c.inlineOf(&u.principal, "user")
	if err != nil {
		return nil, err
	}
	return struct{ UserName, PolicyName, PolicyDocument string }{u.Name, one.Name, encodeDocument(one.Document)}, nil
}

func (c *call) listUserPolicies() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	return c.listInline(&u.principal)
}

func (c *call) deleteUserPolicy() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	if err := c.deleteInline(&u.principal, "user"); err != nil {
		return nil, err
	}
	return nil, c.saveUser(u)
}

func (c *call) attachUserPolicy() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	if err := c.attach(&u.principal, maxAttachedUser, "PoliciesPerUser"); err != nil {
		return nil, err
	}
	return nil, c.saveUser(u)
}

func (c *call) detachUserPolicy() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	if err := c.detach(&u.principal); err != nil {
		return nil, err
	}
	return nil, c.saveUser(u)
}

func (c *call) listAttachedUserPolicies() (any, error) {
	u, err := c.user()
	if err != nil {
		return nil, err
	}
	return c.listAttached(&u.principal)
}

// Access keys.

type xmlAccessKey struct {
	UserName        string
	AccessKeyId     string
	Status          string
	SecretAccessKey string `xml:",omitempty"`
	CreateDate      string
}

func (c *call) createAccessKey() (any, error) {
	u, err := c.userOrSelf()
	if err != nil {
		return nil, err
	}
	keys, err := keysOfUser(c.view, u)
	if err != nil {
		return nil, err
	}
	if len(keys) >= maxKeysPerUser {
		return nil, errLimit("Cannot exceed quota for AccessKeysPerUser: %d", maxKeysPerUser)
	}
	key, err := makeKey(c.s, c.view, c.account, u)
	if err != nil {
		return nil, err
	}
	return struct{ AccessKey xmlAccessKey }{xmlAccessKey{u.Name, key.ID, key.Status, key.Secret, stamp(key.Created)}}, nil
}

func (c *call) listAccessKeys() (any, error) {
	u, err := c.userOrSelf()
	if err != nil {
		return nil, err
	}
	keys, err := keysOfUser(c.view, u)
	if err != nil {
		return nil, err
	}
	keys, end, err := cut(c, keys, func(key *accessKey) string { return key.ID })
	if err != nil {
		return nil, err
	}
	var out members[xmlAccessKey]
	for _, key := range keys {
		out.Member = append(out.Member, xmlAccessKey{u.Name, key.ID, key.Status, "", stamp(key.Created)})
	}
	return struct {
		AccessKeyMetadata members[xmlAccessKey]
		page
	}{out, end}, nil
}

// accessKeyOf reads AccessKeyId, a key of the user that the request is about.
func (c *call) accessKeyOf() (*accessKey, error) {
	u, err := c.userOrSelf()
	if err != nil {
		return nil, err
	}
	id := c.p.get("AccessKeyId")
	key, err := get[accessKey](c.view, "", accessKeys, id)
	if absent(err) || err == nil && key.UserID != u.ID {
		return nil, errNoSuch("The Access Key with id %s cannot be found.", printable(id))
	}
	return key, err
}

func (c *call) updateAccessKey() (any, error) {
	key, err := c.accessKeyOf()
	if err != nil {
		return nil, err
	}
	switch status := c.p.get("Status"); status {
	case "Active", "Inactive":
		key.Status = status
	default:
		return nil, errConstraint(status, "status", "Member must satisfy enum value set: [Active, Inactive]")
	}
	return nil, put(c.view, "", accessKeys, key.ID, key)
}

func (c *call) deleteAccessKey() (any, error) {
	key, err := c.accessKeyOf()
	if err != nil {
		return nil, err
	}
	return nil, put[accessKey](c.view, "", accessKeys, key.ID, nil)
}
