package awsidentity

import (
	"errors"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// operation is one row of the table, made ready.
type operation struct {
	reads  bool
	issues bool                              // writes nothing but a session
	needs  func(c *call) []iampolicy.Request // all of them must be allowed
	do     func(c *call) (any, error)
}

// row says what an operation needs: the action of its own name on a resource,
// with condition keys, and what other actions must be allowed too.
type row struct {
	name string
	kind rowKind
	on   resource
	with []keysOf
	also []dependent
	do   func(c *call) (any, error)
}

type rowKind uint8

const (
	reads  rowKind = iota
	writes         // runs in a writing transaction
	free           // reads, and needs no permission
	// trusted writes a session, and decides by itself, because a role's trust
	// policy has a say.
	trusted
)

type (
	resource  func(c *call) (arn string, keys iampolicy.Context)
	keysOf    func(c *call, keys iampolicy.Context)
	dependent func(c *call, arn string, keys iampolicy.Context) (iampolicy.Request, bool)
)

// operations is the one table of what the service does.
func operations() map[string]operation {
	iam := []row{
		// Roles
		{"CreateRole", writes, newRole, k(boundaryGiven, requestTags), d(tagging("iam:TagRole")), (*call).createRole},
		{"GetRole", reads, aRole, k(boundaryThere), nil, (*call).getRole},
		{"ListRoles", reads, anything, nil, nil, (*call).listRoles},
		{"DeleteRole", writes, aRole, k(boundaryThere), nil, (*call).deleteRole},
		{"UpdateRole", writes, aRole, k(boundaryThere), nil, (*call).updateRole},
		{"UpdateRoleDescription", writes, aRole, k(boundaryThere), nil, (*call).updateRoleDescription},
		{"UpdateAssumeRolePolicy", writes, aRole, k(boundaryThere), nil, (*call).updateAssumeRolePolicy},
		{"TagRole", writes, aRole, k(requestTags), nil, taggedRole.add},
		{"UntagRole", writes, aRole, k(tagKeysGiven), nil, taggedRole.remove},
		{"ListRoleTags", reads, aRole, nil, nil, taggedRole.list},
		{"PutRolePermissionsBoundary", writes, aRole, k(boundaryGiven), nil, (*call).putRolePermissionsBoundary},
		{"DeleteRolePermissionsBoundary", writes, aRole, k(boundaryThere), nil, (*call).deleteRolePermissionsBoundary},
		{"PutRolePolicy", writes, aRole, k(boundaryThere), nil, (*call).putRolePolicy},
		{"GetRolePolicy", reads, aRole, nil, nil, (*call).getRolePolicy},
		{"ListRolePolicies", reads, aRole, nil, nil, (*call).listRolePolicies},
		{"DeleteRolePolicy", writes, aRole, k(boundaryThere), nil, (*call).deleteRolePolicy},
		{"AttachRolePolicy", writes, aRole, k(boundaryThere, policyGiven), nil, (*call).attachRolePolicy},
		{"DetachRolePolicy", writes, aRole, k(boundaryThere, policyGiven), nil, (*call).detachRolePolicy},
		{"ListAttachedRolePolicies", reads, aRole, nil, nil, (*call).listAttachedRolePolicies},
		{"CreateServiceLinkedRole", writes, newLinkedRole, k(serviceGiven), nil, (*call).createServiceLinkedRole},
		{"DeleteServiceLinkedRole", writes, aRole, k(serviceThere), nil, (*call).deleteServiceLinkedRole},
		{"GetServiceLinkedRoleDeletionStatus", reads, linkedRoleOfTask, nil, nil, (*call).getServiceLinkedRoleDeletionStatus},

		// Managed policies
		{"CreatePolicy", writes, newPolicy, k(requestTags), d(tagging("iam:TagPolicy")), (*call).createPolicy},
		{"GetPolicy", reads, aPolicy, nil, nil, (*call).getPolicy},
		{"ListPolicies", reads, anything, nil, nil, (*call).listPolicies},
		{"DeletePolicy", writes, aPolicy, nil, nil, (*call).deletePolicy},
		{"CreatePolicyVersion", writes, aPolicy, nil, nil, (*call).createPolicyVersion},
		{"GetPolicyVersion", reads, aPolicy, nil, nil, (*call).getPolicyVersion},
		{"ListPolicyVersions", reads, aPolicy, nil, nil, (*call).listPolicyVersions},
		{"DeletePolicyVersion", writes, aPolicy, nil, nil, (*call).deletePolicyVersion},
		{"SetDefaultPolicyVersion", writes, aPolicy, nil, nil, (*call).setDefaultPolicyVersion},
		{"TagPolicy", writes, aPolicy, k(requestTags), nil, taggedPolicy.add},
		{"UntagPolicy", writes, aPolicy, k(tagKeysGiven), nil, taggedPolicy.remove},
		{"ListPolicyTags", reads, aPolicy, nil, nil, taggedPolicy.list},
		{"ListEntitiesForPolicy", reads, aPolicy, nil, nil, (*call).listEntitiesForPolicy},

		// Instance profiles
		{"CreateInstanceProfile", writes, newProfile, k(requestTags), d(tagging("iam:TagInstanceProfile")), (*call).createInstanceProfile},
		{"GetInstanceProfile", reads, aProfile, nil, nil, (*call).getInstanceProfile},
		{"ListInstanceProfiles", reads, anything, nil, nil, (*call).listInstanceProfiles},
		{"ListInstanceProfilesForRole", reads, aRole, nil, nil, (*call).listInstanceProfilesForRole},
		{"DeleteInstanceProfile", writes, aProfile, nil, nil, (*call).deleteInstanceProfile},
		{"AddRoleToInstanceProfile", writes, aProfile, nil, d(passingRole("ec2.amazonaws.com")), (*call).addRoleToInstanceProfile},
		{"RemoveRoleFromInstanceProfile", writes, aProfile, nil, nil, (*call).removeRoleFromInstanceProfile},
		{"TagInstanceProfile", writes, aProfile, k(requestTags), nil, taggedProfile.add},
		{"UntagInstanceProfile", writes, aProfile, k(tagKeysGiven), nil, taggedProfile.remove},
		{"ListInstanceProfileTags", reads, aProfile, nil, nil, taggedProfile.list},

		// OpenID Connect providers
		{"CreateOpenIDConnectProvider", writes, newProvider, k(requestTags), d(tagging("iam:TagOpenIDConnectProvider")), (*call).createOpenIDConnectProvider},
		{"GetOpenIDConnectProvider", reads, aProvider, nil, nil, (*call).getOpenIDConnectProvider},
		{"ListOpenIDConnectProviders", reads, anything, nil, nil, (*call).listOpenIDConnectProviders},
		{"DeleteOpenIDConnectProvider", writes, aProvider, nil, nil, (*call).deleteOpenIDConnectProvider},
		{"UpdateOpenIDConnectProviderThumbprint", writes, aProvider, nil, nil, (*call).updateOpenIDConnectProviderThumbprint},
		{"AddClientIDToOpenIDConnectProvider", writes, aProvider, nil, nil, (*call).addClientIDToOpenIDConnectProvider},
		{"RemoveClientIDFromOpenIDConnectProvider", writes, aProvider, nil, nil, (*call).removeClientIDFromOpenIDConnectProvider},
		{"TagOpenIDConnectProvider", writes, aProvider, k(requestTags), nil, taggedProvider.add},
		{"UntagOpenIDConnectProvider", writes, aProvider, k(tagKeysGiven), nil, taggedProvider.remove},
		{"ListOpenIDConnectProviderTags", reads, aProvider, nil, nil, taggedProvider.list},

		// Users and their keys
		{"CreateUser", writes, newUser, k(boundaryGiven, requestTags), d(tagging("iam:TagUser")), (*call).createUser},
		{"GetUser", reads, aUser, nil, nil, (*call).getUser},
		{"ListUsers", reads, anything, nil, nil, (*call).listUsers},
		{"DeleteUser", writes, aUser, nil, nil, (*call).deleteUser},
		{"TagUser", writes, aUser, k(requestTags), nil, taggedUser.add},
		{"UntagUser", writes, aUser, k(tagKeysGiven), nil, taggedUser.remove},
		{"ListUserTags", reads, aUser, nil, nil, taggedUser.list},
		{"PutUserPermissionsBoundary", writes, aUser, k(boundaryGiven), nil, (*call).putUserPermissionsBoundary},
		{"DeleteUserPermissionsBoundary", writes, aUser, k(boundaryThere), nil, (*call).deleteUserPermissionsBoundary},
		{"PutUserPolicy", writes, aUser, k(boundaryThere), nil, (*call).putUserPolicy},
		{"GetUserPolicy", reads, aUser, nil, nil, (*call).getUserPolicy},
		{"ListUserPolicies", reads, aUser, nil, nil, (*call).listUserPolicies},
		{"DeleteUserPolicy", writes, aUser, k(boundaryThere), nil, (*call).deleteUserPolicy},
		{"AttachUserPolicy", writes, aUser, k(boundaryThere, policyGiven), nil, (*call).attachUserPolicy},
		{"DetachUserPolicy", writes, aUser, k(boundaryThere, policyGiven), nil, (*call).detachUserPolicy},
		{"ListAttachedUserPolicies", reads, aUser, nil, nil, (*call).listAttachedUserPolicies},
		{"CreateAccessKey", writes, aUser, nil, nil, (*call).createAccessKey},
		{"ListAccessKeys", reads, aUser, nil, nil, (*call).listAccessKeys},
		{"UpdateAccessKey", writes, aUser, nil, nil, (*call).updateAccessKey},
		{"DeleteAccessKey", writes, aUser, nil, nil, (*call).deleteAccessKey},

		// The account
		{"GetAccountSummary", reads, anything, nil, nil, (*call).getAccountSummary},
		{"GetAccountAuthorizationDetails", reads, anything, nil, nil, (*call).getAccountAuthorizationDetails},
		{"ListAccountAliases", reads, anything, nil, nil, (*call).listAccountAliases},
		{"CreateAccountAlias", writes, anything, nil, nil, (*call).createAccountAlias},
		{"DeleteAccountAlias", writes, anything, nil, nil, (*call).deleteAccountAlias},

		// The simulator
		{"SimulatePrincipalPolicy", reads, source, nil, nil, (*call).simulatePrincipalPolicy},
		{"SimulateCustomPolicy", reads, anything, nil, nil, (*call).simulateCustomPolicy},
		{"GetContextKeysForPrincipalPolicy", reads, source, nil, nil, (*call).getContextKeysForPrincipalPolicy},
		{"GetContextKeysForCustomPolicy", reads, anything, nil, nil, (*call).getContextKeysForCustomPolicy},
	}
	sts := []row{
		{"AssumeRole", trusted, nil, nil, nil, (*call).assumeRole},
		{"AssumeRoleWithWebIdentity", trusted, nil, nil, nil, (*call).assumeRoleWithWebIdentity},
		{"GetCallerIdentity", free, nil, nil, nil, (*call).getCallerIdentity},
		{"GetSessionToken", trusted, nil, nil, nil, (*call).getSessionToken},
		{"GetAccessKeyInfo", reads, anything, nil, nil, (*call).getAccessKeyInfo},
	}
	out := map[string]operation{}
	for service, rows := range map[string][]row{iamService: iam, stsService: sts} {
		for _, one := range rows {
			out[service+":"+one.name] = one.operation(service)
		}
	}
	return out
}

// unsignedOperation says that an operation of STS is called without a signature.
func unsignedOperation(name string) bool { return name == "AssumeRoleWithWebIdentity" }

func (o row) operation(service string) operation {
	made := operation{reads: o.kind == reads || o.kind == free, issues: o.kind == trusted, do: o.do}
	made.needs = func(c *call) []iampolicy.Request {
		if o.on == nil {
			return nil
		}
		arn, keys := o.on(c)
		if keys == nil {
			keys = iampolicy.Context{}
		}
		for _, add := range o.with {
			add(c, keys)
		}
		out := []iampolicy.Request{request(service+":"+o.name, arn, keys)}
		for _, more := range o.also {
			if one, needed := more(c, arn, keys); needed {
				out = append(out, one)
			}
		}
		return out
	}
	return made
}

func k(list ...keysOf) []keysOf       { return list }
func d(list ...dependent) []dependent { return list }

// Resources. An object that is not there is decided on as if it were in the
// root path; the operation then says that it is not there.

func anything(*call) (string, iampolicy.Context) { return "*", nil }

func newRole(c *call) (string, iampolicy.Context) {
	return c.arnOf("role" + rootPath(c.p.get("Path")) + c.p.get("RoleName")), nil
}

func aRole(c *call) (string, iampolicy.Context) {
	r, err := get[role](c.view, c.account, roles, index(c.p.get("RoleName")))
	if err != nil {
		return c.arnOf("role/" + c.p.get("RoleName")), nil
	}
	return r.ARN, resourceTags(r.Tags)
}

func newLinkedRole(c *call) (string, iampolicy.Context) {
	service := c.p.get("AWSServiceName")
	if service == "" {
		return c.arnOf("role/aws-service-role/"), nil
	}
	return c.arnOf("role/aws-service-role/" + service + "/" + linkedRoleName(service)), nil
}

func linkedRoleOfTask(c *call) (string, iampolicy.Context) {
	path := strings.TrimPrefix(c.p.get("DeletionTaskId"), "task")
	return c.arnOf("role" + path[:max(0, strings.LastIndexByte(path, '/'))]), nil
}

func newPolicy(c *call) (string, iampolicy.Context) {
	return c.arnOf("policy" + rootPath(c.p.get("Path")) + c.p.get("PolicyName")), nil
}

func aPolicy(c *call) (string, iampolicy.Context) {
	arn := c.p.get("PolicyArn")
	p, err := c.s.managedPolicy(c.view, c.account, arn)
	if err != nil {
		return arn, nil
	}
	return arn, resourceTags(p.Tags)
}

func newProfile(c *call) (string, iampolicy.Context) {
	return c.arnOf("instance-profile" + rootPath(c.p.get("Path")) + c.p.get("InstanceProfileName")), nil
}

func aProfile(c *call) (string, iampolicy.Context) {
	p, err := get[profile](c.view, c.account, profiles, index(c.p.get("InstanceProfileName")))
	if err != nil {
		return c.arnOf("instance-profile/" + c.p.get("InstanceProfileName")), nil
	}
	return p.ARN, resourceTags(p.Tags)
}

func newProvider(c *call) (string, iampolicy.Context) {
	return c.arnOf("oidc-provider/" + strings.TrimSuffix(strings.TrimPrefix(c.p.get("Url"), "https://"), "/")), nil
}

func aProvider(c *call) (string, iampolicy.Context) {
	arn := c.p.get("OpenIDConnectProviderArn")
	p, err := get[provider](c.view, c.account, providers, arn)
	if err != nil {
		return arn, nil
	}
	return arn, resourceTags(p.Tags)
}

func newUser(c *call) (string, iampolicy.Context) {
	return c.arnOf("user" + rootPath(c.p.get("Path")) + c.p.get("UserName")), nil
}

// aUser is the caller where no user is named.
func aUser(c *call) (string, iampolicy.Context) {
	name := c.p.get("UserName")
	if name == "" {
		name = c.caller.UserName
	}
	u, err := get[user](c.view, c.account, users, index(name))
	if err != nil {
		return c.arnOf("user/" + name), nil
	}
	return u.ARN, resourceTags(u.Tags)
}

func source(c *call) (string, iampolicy.Context) { return c.p.get("PolicySourceArn"), nil }

func rootPath(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// resourceTags are a resource's tags under both names that IAM has for them.
func resourceTags(tags []Tag) iampolicy.Context {
	keys := iampolicy.Context{}
	tagKeys(keys, "aws:ResourceTag/", tags)
	tagKeys(keys, "iam:ResourceTag/", tags)
	return keys
}

// Condition keys.

func boundaryGiven(c *call, keys iampolicy.Context) {
	if arn := c.p.get("PermissionsBoundary"); arn != "" {
		keys.Set("iam:PermissionsBoundary", arn)
	}
}

func boundaryThere(c *call, keys iampolicy.Context) {
	var p *principal
	if name := c.p.get("RoleName"); name != "" {
		if r, err := get[role](c.view, c.account, roles, index(name)); err == nil {
			p = &r.principal
		}
	} else if u, err := get[user](c.view, c.account, users, index(c.p.get("UserName"))); err == nil {
		p = &u.principal
	}
	if p != nil && p.Boundary != "" {
		keys.Set("iam:PermissionsBoundary", p.Boundary)
	}
}

func policyGiven(c *call, keys iampolicy.Context) {
	if arn := c.p.get("PolicyArn"); arn != "" {
		keys.Set("iam:PolicyARN", arn)
	}
}

func serviceGiven(c *call, keys iampolicy.Context) {
	keys.Set("iam:AWSServiceName", c.p.get("AWSServiceName"))
}

func serviceThere(c *call, keys iampolicy.Context) {
	if r, err := get[role](c.view, c.account, roles, index(c.p.get("RoleName"))); err == nil && r.Service != "" {
		keys.Set("iam:AWSServiceName", r.Service)
	}
}

func requestTags(c *call, keys iampolicy.Context) { setRequestTags(c.p.tags("Tags"), keys) }

func setRequestTags(tags []Tag, keys iampolicy.Context) {
	if len(tags) == 0 {
		return
	}
	tagKeys(keys, "aws:RequestTag/", tags)
	var names []string
	for _, tag := range tags {
		names = append(names, tag.Key)
	}
	keys.Set("aws:TagKeys", names...)
}

func tagKeysGiven(c *call, keys iampolicy.Context) {
	if names := c.p.list("TagKeys"); len(names) > 0 {
		keys.Set("aws:TagKeys", names...)
	}
}

// Dependent actions.

// tagging: whoever makes something with tags must be allowed to tag it.
func tagging(action string) dependent {
	return func(c *call, arn string, keys iampolicy.Context) (iampolicy.Request, bool) {
		return request(action, arn, keys), len(c.p.tags("Tags")) > 0
	}
}

// passingRole: whoever hands a role to a service must be allowed to pass it.
func passingRole(service string) dependent {
	return func(c *call, _ string, _ iampolicy.Context) (iampolicy.Request, bool) {
		arn, keys := aRole(c)
		if keys == nil {
			keys = iampolicy.Context{}
		}
		keys.Set("iam:PassedToService", service)
		return request("iam:PassRole", arn, keys), true
	}
}

// absent says that an error means only that an object is not there.
func absent(err error) bool { return errors.Is(err, errAbsent) }
