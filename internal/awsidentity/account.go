package awsidentity

import (
	"regexp"
	"slices"
	"strings"
)

// getAccountSummary reports what there is and the account's quotas.
func (c *call) getAccountSummary() (any, error) {
	counts := map[string]int{
		"AccessKeysPerUserQuota":            maxKeysPerUser,
		"AccountAccessKeysPresent":          0,
		"AccountMFAEnabled":                 1,
		"AccountPasswordPresent":            1,
		"AccountSigningCertificatesPresent": 0,
		"AssumeRolePolicySizeQuota":         maxTrust,
		"AttachedPoliciesPerGroupQuota":     10,
		"AttachedPoliciesPerRoleQuota":      maxAttachedRole,
		"AttachedPoliciesPerUserQuota":      maxAttachedUser,
		"GlobalEndpointTokenVersion":        2,
		"GroupPolicySizeQuota":              5120,
		"Groups":                            0,
		"GroupsPerUserQuota":                10,
		"GroupsQuota":                       300,
		"InstanceProfiles":                  0,
		"InstanceProfilesQuota":             maxProfiles,
		"MFADevices":                        0,
		"MFADevicesInUse":                   0,
		"Policies":                          0,
		"PoliciesQuota":                     maxPolicies,
		"PolicySizeQuota":                   maxManaged,
		"PolicyVersionsInUse":               0,
		"PolicyVersionsInUseQuota":          10000,
		"Providers":                         0,
		"RolePolicySizeQuota":               maxInlineRole,
		"Roles":                             0,
		"RolesQuota":                        maxRoles,
		"ServerCertificates":                0,
		"ServerCertificatesQuota":           20,
		"SigningCertificatesPerUserQuota":   2,
		"UserPolicySizeQuota":               maxInlineUser,
		"Users":                             0,
		"UsersQuota":                        maxUsers,
		"VersionsPerPolicyQuota":            maxVersions,
	}
	for k, key := range map[kind]string{roles: "Roles", users: "Users", profiles: "InstanceProfiles", providers: "Providers", policies: "Policies"} {
		var err error
		if counts[key], err = count(c.view, c.account, k); err != nil {
			return nil, err
		}
	}
	err := each(c.view, c.account, policies, func(_ string, p *policy) error {
		counts["PolicyVersionsInUse"] += len(p.Versions)
		return nil
	})
	if err != nil {
		return nil, err
	}
	type entry struct {
		Key   string `xml:"key"`
		Value int    `xml:"value"`
	}
	var out struct {
		SummaryMap struct {
			Entry []entry `xml:"entry"`
		}
	}
	for key, value := range counts {
		out.SummaryMap.Entry = append(out.SummaryMap.Entry, entry{key, value})
	}
	slices.SortFunc(out.SummaryMap.Entry, func(a, b entry) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

type xmlInline struct{ PolicyName, PolicyDocument string }

type xmlRoleDetail struct {
	xmlRole
	InstanceProfileList     members[xmlProfile]
	RolePolicyList          members[xmlInline]
	AttachedManagedPolicies members[xmlAttached]
}

type xmlUserDetail struct {
	xmlUser
	UserPolicyList          members[xmlInline]
	GroupList               members[string]
	AttachedManagedPolicies members[xmlAttached]
}

type xmlPolicyDetail struct {
	xmlPolicy
	PolicyVersionList members[xmlPolicyVersion]
}

// detail is one entry of GetAccountAuthorizationDetails, of any of three kinds.
type detail struct {
	key    string
	user   *user
	role   *role
	policy *policy
}

func (c *call) getAccountAuthorizationDetails() (any, error) {
	filter := c.p.list("Filter")
	for _, one := range filter {
		switch one {
		case "User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy":
		default:
			return nil, errConstraint(one, "filter", "Member must satisfy enum value set: [User, Role, Group, LocalManagedPolicy, AWSManagedPolicy]")
		}
	}
	wanted := func(kindOf string) bool { return len(filter) == 0 || slices.Contains(filter, kindOf) }
	uses, err := c.uses()
	if err != nil {
		return nil, err
	}
	var all []detail
	if wanted("User") {
		err = each(c.view, c.account, users, func(key string, u *user) error {
			all = append(all, detail{key: "1 " + key, user: u})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if wanted("Role") {
		err = each(c.view, c.account, roles, func(key string, r *role) error {
			all = append(all, detail{key: "2 " + key, role: r})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	found, err := c.policiesIn("All")
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		isAWS := strings.Contains(p.ARN, ":iam::aws:")
		// Of AWS's own policies those that are in use.
		if isAWS && (!wanted("AWSManagedPolicy") || uses[p.ARN] == use{}) || !isAWS && !wanted("LocalManagedPolicy") {
			continue
		}
		all = append(all, detail{key: "3 " + p.ARN, policy: p})
	}
	all, end, err := cut(c, all, func(d detail) string { return d.key })
	if err != nil {
		return nil, err
	}

	var out struct {
		UserDetailList  members[xmlUserDetail]
		GroupDetailList members[struct{}]
		RoleDetailList  members[xmlRoleDetail]
		Policies        members[xmlPolicyDetail]
		page
	}
	out.page = end
	for _, one := range all {
		switch {
		case one.user != nil:
			out.UserDetailList.Member = append(out.UserDetailList.Member, xmlUserDetail{
				xmlUser: showWholeUser(one.user), UserPolicyList: showInline(&one.user.principal),
				AttachedManagedPolicies: members[xmlAttached]{attached(&one.user.principal)},
			})
		case one.role != nil:
			shown, err := c.roleDetail(one.role)
			if err != nil {
				return nil, err
			}
			out.RoleDetailList.Member = append(out.RoleDetailList.Member, shown)
		default:
			shown := xmlPolicyDetail{xmlPolicy: showPolicy(one.policy, uses)}
			for i := range one.policy.Versions {
				shown.PolicyVersionList.Member = append(shown.PolicyVersionList.Member, showVersion(one.policy, &one.policy.Versions[i], true))
			}
			out.Policies.Member = append(out.Policies.Member, shown)
		}
	}
	return out, nil
}

func (c *call) roleDetail(r *role) (xmlRoleDetail, error) {
	whole, err := showWholeRole(c.view, r)
	if err != nil {
		return xmlRoleDetail{}, err
	}
	whole.Description, whole.MaxSessionDuration = "", 0 // not part of a detail
	out := xmlRoleDetail{
		xmlRole: whole, RolePolicyList: showInline(&r.principal),
		AttachedManagedPolicies: members[xmlAttached]{attached(&r.principal)},
	}
	err = each(c.view, c.account, profiles, func(_ string, p *profile) error {
		if p.Role == "" || index(p.Role) != index(r.Name) {
			return nil
		}
		one, err := showProfile(c.view, c.account, p)
		out.InstanceProfileList.Member = append(out.InstanceProfileList.Member, one)
		return err
	})
	return out, err
}

func showInline(p *principal) members[xmlInline] {
	var out members[xmlInline]
	for _, one := range p.Inline {
		out.Member = append(out.Member, xmlInline{one.Name, encodeDocument(one.Document)})
	}
	return out
}

// Aliases: an account has one at most.

var aliasClass = regexp.MustCompile(`^[a-z0-9](([a-z0-9]|-){0,61}[a-z0-9])?$`)

func (c *call) listAccountAliases() (any, error) {
	acc, err := get[account](c.view, c.account, accountsOf, c.account)
	if err != nil {
		return nil, err
	}
	var out members[string]
	if acc.Alias != "" {
		out.Member = []string{acc.Alias}
	}
	return struct {
		AccountAliases members[string]
		page
	}{AccountAliases: out}, nil
}

func (c *call) alias() (string, error) {
	alias := c.p.get("AccountAlias")
	if len(alias) < 3 || !aliasClass.MatchString(alias) || strings.Contains(alias, "--") {
		return "", errInvalid("The specified value for accountAlias is invalid. It must have 3 to 63 lower-case letters, digits and single dashes, and neither begin nor end with a dash.")
	}
	return alias, nil
}

func (c *call) createAccountAlias() (any, error) {
	alias, err := c.alias()
	if err != nil {
		return nil, err
	}
	acc, err := get[account](c.view, c.account, accountsOf, c.account)
	if err != nil {
		return nil, err
	}
	acc.Alias = alias
	return nil, put(c.view, c.account, accountsOf, c.account, acc)
}

func (c *call) deleteAccountAlias() (any, error) {
	alias, err := c.alias()
	if err != nil {
		return nil, err
	}
	acc, err := get[account](c.view, c.account, accountsOf, c.account)
	if err != nil {
		return nil, err
	}
	if acc.Alias != alias {
		return nil, errNoSuch("The account alias with name %s cannot be found.", alias)
	}
	acc.Alias = ""
	return nil, put(c.view, c.account, accountsOf, c.account, acc)
}
