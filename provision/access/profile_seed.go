package access

import (
	"bytes"
	"embed"
	"encoding/json"
	"strings"
	"unicode"

	"biplane.dev/biplane/provision/vendor"
)

// published holds the documents of the published set-up page, as they stand
// there, down to the order of their words: sizes are compared with them.
//
//go:embed published/*.json
var published embed.FS

// The published documents.
const (
	publishedMain           = "published/UnionIAMPolicy.json"
	publishedEndpoint       = "published/private-endpoint.json"
	publishedExecutionTrust = "published/ecs-execution-role-trust.json"
	publishedTaskRole       = "published/ecs-task-role.json"
	publishedTaskTrust      = "published/ecs-task-role-trust.json"
)

// seed is the published way: one role that trusts the vendor's account, with
// its policies inline. It is for comparison, IAM refuses the main policy.
func (t *target) seed() (*Set, error) {
	admin := Role{
		Name:     t.Vendor.RoleName,
		Path:     "/",
		Purpose:  "everything that the vendor does in the account, as published",
		Trust:    t.trustSeed(),
		Policies: []Policy{newPolicy(t.Vendor.PolicyName+"Manual", "inline", t.publishedText(publishedMain))},
	}
	set := &Set{Profile: Seed, Partition: t.region.Partition, Account: t.Account, Region: t.Region}
	if !t.PrivateEndpoint {
		set.Roles = []Role{admin}
		return set, nil
	}
	admin.Policies = append(admin.Policies,
		newPolicy(t.Vendor.PolicyName+"PrivateEndpoint", "inline", t.publishedText(publishedEndpoint)))
	set.Roles = append([]Role{admin}, t.ecsRoles(false)...)
	return set, nil
}

// ecsRoles are the two roles of the private endpoint's tasks, as published.
// With sourceAccount, their trust refuses the tasks of other accounts.
func (t *target) ecsRoles(sourceAccount bool) []Role {
	executionTrust, taskTrust := t.publishedTrust(publishedExecutionTrust), t.publishedTrust(publishedTaskTrust)
	if sourceAccount {
		executionTrust, taskTrust = t.trustECS(true), t.trustECS(true)
	}
	return []Role{
		{
			Name: t.ecsExecutionRole(), Path: "/",
			Purpose:  "lets the container service start the private endpoint's tasks: pull the image, write the log",
			Trust:    executionTrust,
			Attached: []string{"arn:" + t.region.Partition + ":iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"},
			Policies: []Policy{},
		},
		{
			Name: t.ecsTaskRole(), Path: "/",
			Purpose:  "the private endpoint's tasks themselves: the channel of a support session, nothing else",
			Trust:    taskTrust,
			Policies: []Policy{newPolicy("AllowSSMMessageChannels", "inline", t.publishedText(publishedTaskRole))},
		},
	}
}

func (t *target) ecsExecutionRole() string { return executionRoleName(t.Vendor, t.Region) }

func (t *target) ecsTaskRole() string { return taskRoleName(t.Vendor, t.Region) }

func executionRoleName(v *vendor.Profile, region string) string {
	return v.EndpointPrefix + region + "-ecs-execution-role"
}

func taskRoleName(v *vendor.Profile, region string) string {
	return v.EndpointPrefix + region + "-ecs-task-role"
}

func (t *target) publishedTrust(name string) Trust {
	text := t.publishedText(name)
	return Trust{Size: size(text), Document: json.RawMessage(text)}
}

// publishedText substitutes what the page tells its reader to substitute, and
// the names of the vendor profile for those of the page, and drops the white
// space, which IAM doesn't count. Partition and names change nothing in the
// default profile's commercial regions.
func (t *target) publishedText(name string) []byte {
	text, err := published.ReadFile(name)
	if err != nil {
		panic(err) // the documents are part of the program
	}
	replaced := strings.NewReplacer(
		"${AWS::Region}", t.Region, "<<REGION>>", t.Region,
		"${AWS::AccountID}", t.Account, "<<ACCOUNT_ID>>", t.Account,
		"arn:aws:", "arn:"+t.region.Partition+":",
		"unionai-access-", t.Vendor.EndpointPrefix,
		"/ecs/unionai/proxy-", t.Vendor.ProxyLogGroup,
		":repository/union/", ":repository/"+t.Vendor.Repository,
		"opta-", t.Vendor.CompatPrefix,
		"union-", t.Vendor.Prefix,
		"Karpenter", t.Vendor.QueuePrefix,
		`"UnionImageBuilderRepoAdmin"`, `"`+t.sidWord()+`ImageBuilderRepoAdmin"`,
		`"UnionAdminAuthToken"`, `"`+t.sidWord()+`AdminAuthToken"`,
	).Replace(string(text))
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(replaced)); err != nil {
		panic(err) // a validated profile has no character that JSON would escape
	}
	return compact.Bytes()
}

// sidWord is the product's name as a statement id allows it.
func (t *target) sidWord() string {
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return r
	}, t.Vendor.Product)
}

func newPolicy(name, kind string, text []byte) Policy {
	return Policy{Name: name, Kind: kind, Size: size(text), Document: json.RawMessage(text)}
}
