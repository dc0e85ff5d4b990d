package awsidentity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/provision/iampolicy"
)

// as makes a role of the customer's with one policy and returns its session.
func (w *world) as(name, document string) Credentials {
	w.t.Helper()
	arn, err := w.SeedRole(customer, Role{Name: name, Inline: map[string]string{"p": document}})
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := w.Session(arn, name, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// TestAuthorization shows that IAM's own operations are decided by policies.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	const me = "arn:aws:sts::111122223333:assumed-role/"
	boundary := "arn:aws:iam::111122223333:policy/union/UnionBoundary"
	if _, err := w.iam(w.admins[customer]).CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("UnionBoundary"), Path: aws.String("/union/"), PolicyDocument: aws.String(allow("s3:*", "*"))}); err != nil {
		t.Fatal(err)
	}
	provision := w.iam(w.as("provision", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iam:CreateRole","Resource":"arn:aws:iam::111122223333:role/union/*","Condition":{"StringEquals":{"iam:PermissionsBoundary":"`+boundary+`"}}},
		{"Effect":"Allow","Action":"iam:TagRole","Resource":"arn:aws:iam::111122223333:role/union/*","Condition":{"StringEquals":{"aws:RequestTag/union:managed-by":"biplane"},"ForAllValues:StringEquals":{"aws:TagKeys":["union:managed-by"]}}},
		{"Effect":"Allow","Action":"iam:AttachRolePolicy","Resource":"arn:aws:iam::111122223333:role/union/*","Condition":{"ArnEquals":{"iam:PolicyARN":"arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"}}},
		{"Effect":"Allow","Action":"iam:DeleteRole","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/union:managed-by":"biplane"}}},
		{"Effect":"Allow","Action":"iam:CreateServiceLinkedRole","Resource":"*","Condition":{"StringEquals":{"iam:AWSServiceName":"eks.amazonaws.com"}}},
		{"Effect":"Allow","Action":["iam:CreateInstanceProfile","iam:AddRoleToInstanceProfile","iam:Get*"],"Resource":"*"},
		{"Effect":"Deny","Action":"iam:GetRole","Resource":"arn:aws:iam::111122223333:role/secret"}]}`))
	create := func(name, path, bound string, tags ...types.Tag) error {
		in := &iam.CreateRoleInput{RoleName: &name, Path: &path, AssumeRolePolicyDocument: aws.String(ec2Trust), Tags: tags}
		if bound != "" {
			in.PermissionsBoundary = &bound
		}
		_, err := provision.CreateRole(background, in)
		return err
	}
	tag := types.Tag{Key: aws.String("union:managed-by"), Value: aws.String("biplane")}
	extra := types.Tag{Key: aws.String("x"), Value: aws.String("y")}
	denied := "User: " + me + "provision/provision is not authorized to perform: "

	for _, test := range []struct {
		name string
		call func() error
		code string
		text string
	}{
		{"allows a role within path, boundary and tag", func() error { return create("node", "/union/", boundary, tag) }, "", ""},
		{"refuses a role in another path", func() error { return create("node2", "/", boundary, tag) }, "AccessDenied",
			denied + "iam:CreateRole on resource: arn:aws:iam::111122223333:role/node2 because no identity-based policy allows the iam:CreateRole action"},
		{"refuses a role without the boundary", func() error { return create("node3", "/union/", "", tag) }, "AccessDenied", denied + "iam:CreateRole on resource: arn:aws:iam::111122223333:role/union/node3"},
		{"refuses a role with another boundary", func() error { return create("node3", "/union/", "arn:aws:iam::aws:policy/AdministratorAccess", tag) }, "AccessDenied", "iam:CreateRole"},
		{"needs iam:TagRole for tags", func() error { return create("node4", "/union/", boundary, extra) }, "AccessDenied", denied + "iam:TagRole on resource: arn:aws:iam::111122223333:role/union/node4"},
		{"refuses a tag too many", func() error { return create("node4", "/union/", boundary, tag, extra) }, "AccessDenied", "iam:TagRole"},
		{"allows the policy that is listed", func() error {
			_, err := provision.AttachRolePolicy(background, &iam.AttachRolePolicyInput{RoleName: aws.String("node"), PolicyArn: aws.String("arn:aws:iam::aws:policy/AmazonEKSClusterPolicy")})
			return err
		}, "", ""},
		{"refuses a policy that is not listed", func() error {
			_, err := provision.AttachRolePolicy(background, &iam.AttachRolePolicyInput{RoleName: aws.String("node"), PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")})
			return err
		}, "AccessDenied", "iam:AttachRolePolicy on resource: arn:aws:iam::111122223333:role/union/node"},
		{"refuses to delete what is not tagged", func() error {
			_, err := provision.DeleteRole(background, &iam.DeleteRoleInput{RoleName: aws.String("provision")})
			return err
		}, "AccessDenied", "iam:DeleteRole"},
		{"lets a tagged role be deleted, if it were not for its policy", func() error {
			_, err := provision.DeleteRole(background, &iam.DeleteRoleInput{RoleName: aws.String("node")})
			return err
		}, "DeleteConflict", ""},
		{"says what an explicit deny is", func() error {
			_, err := provision.GetRole(background, &iam.GetRoleInput{RoleName: aws.String("secret")})
			return err
		}, "AccessDenied", denied + "iam:GetRole on resource: arn:aws:iam::111122223333:role/secret with an explicit deny in an identity-based policy"},
		{"says that a role is not there to whom may know", func() error {
			_, err := provision.GetRole(background, &iam.GetRoleInput{RoleName: aws.String("absent")})
			return err
		}, "NoSuchEntity", ""},
		{"allows the listed service-linked role", func() error {
			_, err := provision.CreateServiceLinkedRole(background, &iam.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("eks.amazonaws.com")})
			return err
		}, "", ""},
		{"refuses another service-linked role", func() error {
			_, err := provision.CreateServiceLinkedRole(background, &iam.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("ecs.amazonaws.com")})
			return err
		}, "AccessDenied", "iam:CreateServiceLinkedRole"},
		{"allows an instance profile", func() error {
			_, err := provision.CreateInstanceProfile(background, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String("nodes")})
			return err
		}, "", ""},
		{"needs iam:PassRole to put a role into it", func() error {
			_, err := provision.AddRoleToInstanceProfile(background, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("nodes"), RoleName: aws.String("node")})
			return err
		}, "AccessDenied", "iam:PassRole on resource: arn:aws:iam::111122223333:role/union/node"},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, test.call(), test.code, test.text) })
	}
	t.Run("leaves nothing of a refused call", func(t *testing.T) {
		for _, name := range []string{"node2", "node3", "node4"} {
			_, err := w.iam(w.admins[customer]).GetRole(background, &iam.GetRoleInput{RoleName: &name})
			expect(t, err, "NoSuchEntity", "")
		}
	})
}

func TestBoundaryAndSessionPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	bound, err := admin.CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("bound"), PolicyDocument: aws.String(allow("iam:List*,iam:GetRole", "*"))})
	if err != nil {
		t.Fatal(err)
	}
	narrow, err := admin.CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("narrow"), PolicyDocument: aws.String(allow("iam:ListUsers", "*"))})
	if err != nil {
		t.Fatal(err)
	}
	role, err := admin.CreateRole(background, &iam.CreateRoleInput{RoleName: aws.String("bounded"), PermissionsBoundary: bound.Policy.Arn,
		AssumeRolePolicyDocument: aws.String(trust("arn:aws:iam::"+customer+":root", ""))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.PutRolePolicy(background, &iam.PutRolePolicyInput{RoleName: aws.String("bounded"), PolicyName: aws.String("all"), PolicyDocument: aws.String(allow("iam:*", "*"))}); err != nil {
		t.Fatal(err)
	}
	assume := func(in sts.AssumeRoleInput) (*sts.AssumeRoleOutput, *iam.Client) {
		t.Helper()
		in.RoleArn, in.RoleSessionName = role.Role.Arn, aws.String("s1")
		out, err := w.sts(w.admins[customer]).AssumeRole(background, &in)
		if err != nil {
			t.Fatal(err)
		}
		return out, w.iam(assumedCredentials(out))
	}
	_, whole := assume(sts.AssumeRoleInput{})
	inlined, byText := assume(sts.AssumeRoleInput{Policy: aws.String(allow("iam:ListRoles,iam:GetUser", "*"))})
	_, byARN := assume(sts.AssumeRoleInput{PolicyArns: stsPolicies(*narrow.Policy.Arn)})
	//lint:ignore SA1019 the older of two fields, which every client reads
	packed := inlined.PackedPolicySize
	if packed == nil || *packed < 1 {
		t.Errorf("got PackedPolicySize %v, want a percentage", packed)
	}
	roles := func(c *iam.Client) error { _, err := c.ListRoles(background, nil); return err }
	users := func(c *iam.Client) error { _, err := c.ListUsers(background, nil); return err }
	summary := func(c *iam.Client) error { _, err := c.GetAccountSummary(background, nil); return err }

	for _, test := range []struct {
		name   string
		client *iam.Client
		call   func(*iam.Client) error
		code   string
		text   string
	}{
		{"allows what role and boundary allow", whole, roles, "", ""},
		{"refuses what the boundary does not allow", whole, summary, "AccessDenied", "because no permissions boundary allows the iam:GetAccountSummary action"},
		{"allows what the session policy allows too", byText, roles, "", ""},
		{"refuses what the session policy does not allow", byText, users, "AccessDenied", "because no session policy allows the iam:ListUsers action"},
		{"lets a session policy add nothing", byText, func(c *iam.Client) error {
			_, err := c.GetUser(background, &iam.GetUserInput{UserName: aws.String("administrator")})
			return err
		}, "AccessDenied", "because no permissions boundary"},
		{"narrows by a managed session policy", byARN, users, "", ""},
		{"refuses the rest under a managed session policy", byARN, roles, "AccessDenied", "because no session policy"},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, test.call(test.client), test.code, test.text) })
	}
	t.Run("allows nothing once the managed session policy is gone", func(t *testing.T) {
		if _, err := admin.DeletePolicy(background, &iam.DeletePolicyInput{PolicyArn: narrow.Policy.Arn}); err != nil {
			t.Fatal(err)
		}
		expect(t, users(byARN), "AccessDenied", "because no session policy")
	})
	for name, in := range map[string]sts.AssumeRoleInput{
		"refuses a session policy over 2,048":           {Policy: aws.String(sized(2049))},
		"refuses a session policy that is no policy":    {Policy: aws.String(`{}`)},
		"refuses a managed policy that is not there":    {PolicyArns: stsPolicies("arn:aws:iam::111122223333:policy/no-such")},
		"refuses more than twelve hours":                {DurationSeconds: aws.Int32(43201)},
		"refuses more than the role's session length":   {DurationSeconds: aws.Int32(3601)},
		"refuses a source identity of one character":    {SourceIdentity: aws.String("x")},
		"refuses a transitive key that is not a tag":    {TransitiveTagKeys: []string{"team"}},
		"refuses tags that the trust does not provide":  {Tags: stsTags("team", "data")},
		"refuses a source identity that is not trusted": {SourceIdentity: aws.String("jane")},
	} {
		t.Run(name, func(t *testing.T) {
			in.RoleArn, in.RoleSessionName = role.Role.Arn, aws.String("s1")
			if _, err := w.sts(w.admins[customer]).AssumeRole(background, &in); err == nil {
				t.Error("got a session, want a refusal")
			}
		})
	}
}

func TestSessionTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	open := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"],
		"Condition":{"StringLike":{"aws:RequestTag/team":"*"}}}]}`
	first, err := w.SeedRole(customer, Role{Name: "first", Trust: open, Inline: map[string]string{"p": allow("sts:*", "*")}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.SeedRole(customer, Role{Name: "second", Trust: open, Inline: map[string]string{
		"p": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ListRoles","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"data","aws:SourceIdentity":"jane"}}}]}`}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.sts(w.admins[customer]).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &first, RoleSessionName: aws.String("s1"), Tags: stsTags("team", "data"), TransitiveTagKeys: []string{"team"}, SourceIdentity: aws.String("jane")})
	if err != nil {
		t.Fatal(err)
	}
	chained, err := w.sts(assumedCredentials(out)).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &second, RoleSessionName: aws.String("s2")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.iam(assumedCredentials(chained)).ListRoles(background, nil); err != nil {
		t.Errorf("got %v, want tag and source identity passed on", err)
	}
	_, err = w.sts(assumedCredentials(out)).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &second, RoleSessionName: aws.String("s2"), SourceIdentity: aws.String("joe")})
	expect(t, err, "AccessDenied", "")
	_, err = w.sts(assumedCredentials(out)).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &second, RoleSessionName: aws.String("s2"), Tags: stsTags("team", "other")})
	expect(t, err, "InvalidParameterValue", "transitive")
}

// TestTrustNamesAnID shows that a role made again under its old name is a
// stranger to those who trusted the old one.
func TestTrustNamesAnID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	old := w.vendorSession("biplane-controlplane")
	role, err := w.SeedRole(customer, Role{Name: "target", Trust: trust("arn:aws:iam::"+vendor+":role/biplane-controlplane", "abc")})
	if err != nil {
		t.Fatal(err)
	}
	escaped, err := w.SeedRole(customer, Role{Name: "escaped", Trust: trust(`arn:aws:iam::`+vendor+`:role\/biplane-controlplane`, "abc")})
	if err != nil {
		t.Fatal(err)
	}
	assume := func(c Credentials, role string) error {
		_, err := w.sts(c).AssumeRole(background, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("s1"), ExternalId: aws.String("abc")})
		return err
	}
	expect(t, assume(old, role), "", "")
	expect(t, assume(old, escaped), "", "")
	vendorAdmin := w.iam(w.admins[vendor])
	if _, err := vendorAdmin.DeleteRolePolicy(background, &iam.DeleteRolePolicyInput{RoleName: aws.String("biplane-controlplane"), PolicyName: aws.String("assume")}); err != nil {
		t.Fatal(err)
	}
	if _, err := vendorAdmin.DeleteRole(background, &iam.DeleteRoleInput{RoleName: aws.String("biplane-controlplane")}); err != nil {
		t.Fatal(err)
	}
	again := w.vendorSession("biplane-controlplane")
	expect(t, assume(again, role), "AccessDenied", "")
	expect(t, assume(again, escaped), "AccessDenied", "")
	shown, err := w.iam(w.admins[customer]).GetRole(background, &iam.GetRoleInput{RoleName: aws.String("target")})
	if err != nil || !strings.Contains(*shown.Role.AssumeRolePolicyDocument, "AROA") {
		t.Errorf("got %v (%v), want the old role's id in the trust policy", shown, err)
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	bound, err := admin.CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("bound"), PolicyDocument: aws.String(allow("s3:*", "*"))})
	if err != nil {
		t.Fatal(err)
	}
	arn, err := w.SeedRole(customer, Role{Name: "sim", Inline: map[string]string{"p": `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": ["s3:GetObject", "ec2:RunInstances"], "Resource": "*"},
    {
      "Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b/*",
      "Condition": {"StringEquals": {"aws:RequestedRegion": "eu-central-1"}}
    },
    {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::secret/*"}
  ]
}`}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.PutRolePermissionsBoundary(background, &iam.PutRolePermissionsBoundaryInput{RoleName: aws.String("sim"), PermissionsBoundary: bound.Policy.Arn}); err != nil {
		t.Fatal(err)
	}
	in := &iam.SimulatePrincipalPolicyInput{PolicySourceArn: &arn, MaxItems: aws.Int32(3),
		ActionNames: []string{"s3:GetObject", "s3:PutObject", "ec2:RunInstances"}, ResourceArns: []string{"arn:aws:s3:::b/x", "arn:aws:s3:::secret/x", "*"}}
	var results []types.EvaluationResult
	simulate := func() {
		t.Helper()
		results = nil
		pages := iam.NewSimulatePrincipalPolicyPaginator(admin, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(background)
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, page.EvaluationResults...)
		}
	}
	simulate()
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%s %s %s", *r.EvalActionName, *r.EvalResourceName, r.EvalDecision))
	}
	want := `s3:GetObject arn:aws:s3:::b/x allowed
s3:GetObject arn:aws:s3:::secret/x explicitDeny
s3:GetObject * allowed
s3:PutObject arn:aws:s3:::b/x implicitDeny
s3:PutObject arn:aws:s3:::secret/x implicitDeny
s3:PutObject * implicitDeny
ec2:RunInstances arn:aws:s3:::b/x implicitDeny
ec2:RunInstances arn:aws:s3:::secret/x implicitDeny
ec2:RunInstances * implicitDeny`
	if strings.Join(got, "\n") != want {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if missing := results[3].MissingContextValues; len(missing) != 1 || missing[0] != "aws:RequestedRegion" {
		t.Errorf("got missing %v, want aws:RequestedRegion", missing)
	}
	if d := results[8].PermissionsBoundaryDecisionDetail; d == nil || d.AllowedByPermissionsBoundary {
		t.Errorf("got boundary detail %v, want not allowed by it", d)
	}
	deny := results[1].MatchedStatements
	if len(deny) != 1 || *deny[0].SourcePolicyId != "role_sim_p" || deny[0].StartPosition.Line != 9 || deny[0].StartPosition.Column != 5 || deny[0].EndPosition.Line != 9 {
		t.Errorf("got %+v, want role_sim_p from line 9, column 5", deny)
	}
	in.ContextEntries = []types.ContextEntry{{ContextKeyName: aws.String("aws:requestedregion"), ContextKeyType: types.ContextKeyTypeEnumString, ContextKeyValues: []string{"eu-central-1"}}}
	simulate()
	put := results[3]
	if put.EvalDecision != types.PolicyEvaluationDecisionTypeAllowed || len(put.MissingContextValues) != 0 {
		t.Errorf("got %s missing %v, want allowed with the region given", put.EvalDecision, put.MissingContextValues)
	}
	for _, s := range put.MatchedStatements {
		if *s.SourcePolicyId == "role_sim_p" && (s.StartPosition.Line != 5 || s.EndPosition.Line != 8 || s.EndPosition.Column != 6) {
			t.Errorf("got position %+v to %+v, want lines 5 to 8, column 6", s.StartPosition, s.EndPosition)
		}
	}
	keys, err := admin.GetContextKeysForPrincipalPolicy(background, &iam.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: &arn})
	if err != nil || strings.Join(keys.ContextKeyNames, " ") != "aws:RequestedRegion" {
		t.Errorf("got keys %v (%v), want aws:RequestedRegion", keys, err)
	}

	custom, err := admin.SimulateCustomPolicy(background, &iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("iam:PassRole", "arn:aws:iam::111122223333:role/x")},
		ActionNames: []string{"iam:PassRole"}, ResourceArns: []string{"arn:aws:iam::111122223333:role/x", "*"}})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := custom.EvaluationResults[0].EvalDecision, custom.EvaluationResults[1].EvalDecision; a != "allowed" || b != "implicitDeny" {
		t.Errorf("got %s and %s, want allowed on the role and implicitDeny on *", a, b)
	}
	_, err = admin.SimulateCustomPolicy(background, &iam.SimulateCustomPolicyInput{PolicyInputList: []string{"{"}, ActionNames: []string{"s3:GetObject"}})
	expect(t, err, "InvalidInput", "PolicyInputList.1")
	_, err = admin.SimulatePrincipalPolicy(background, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: aws.String("arn:aws:iam::111122223333:role/no-such"), ActionNames: []string{"s3:GetObject"}})
	expect(t, err, "NoSuchEntity", "")
}

func BenchmarkDecide(b *testing.B) {
	s, err := Open(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CreateAccount(customer, AccountOptions{}); err != nil {
		b.Fatal(err)
	}
	arn, err := s.SeedRole(customer, Role{Name: "r", Inline: map[string]string{"a": sized(5000), "b": allow("s3:GetObject", "arn:aws:s3:::data/*")}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Session(arn, "s1", time.Hour); err != nil {
		b.Fatal(err)
	}
	caller := &Caller{AccessKeyID: "ASIA", Type: RoleCaller, Account: customer, Partition: "aws", RoleName: "r", PrincipalARN: arn, ARN: arn, keys: iampolicy.Context{}}
	b.ReportAllocs()
	for b.Loop() {
		got, err := s.Decide(caller, iampolicy.Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::data/x"}, nil)
		if err != nil || got != iampolicy.Allowed {
			b.Fatalf("got %v (%v), want allowed", got, err)
		}
	}
}

// TestResourceAccount shows that a policy may name the account of the resource.
func TestResourceAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	key := w.as("own", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","iam:GetRole"],"Resource":"*",
		"Condition":{"StringEquals":{"aws:ResourceAccount":"`+customer+`"}}}]}`)
	caller := &Caller{AccessKeyID: key.AccessKeyID, Type: RoleCaller, Account: customer, Partition: "aws", RoleName: "own", PrincipalARN: "arn:aws:iam::" + customer + ":role/own", ARN: "arn:aws:sts::" + customer + ":assumed-role/own/own", keys: iampolicy.Context{}}
	for _, c := range []struct {
		name string
		req  iampolicy.Request
		want iampolicy.Decision
	}{
		{"it takes a bucket for the caller's own unless told otherwise", request("s3:GetObject", "arn:aws:s3:::b/k", iampolicy.Context{}), iampolicy.Allowed},
		{"it believes the asker who owns a bucket", iampolicy.Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k", ResourceAccount: "999988887777"}, iampolicy.ImplicitDeny},
		{"it reads the account of an ARN", request("iam:GetRole", "arn:aws:iam::999988887777:role/r", iampolicy.Context{}), iampolicy.ImplicitDeny},
		{"it believes the key where it is given", request("s3:GetObject", "arn:aws:s3:::b/k", iampolicy.Context{"aws:resourceaccount": {"999988887777"}}), iampolicy.ImplicitDeny},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := w.Decide(caller, c.req, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
