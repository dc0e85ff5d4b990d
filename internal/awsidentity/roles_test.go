package awsidentity

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

const ec2Trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// sized is a policy document that IAM counts as n characters.
func sized(n int) string {
	const frame = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::%s"}]}`
	return fmt.Sprintf(frame, strings.Repeat("b", n-len(frame)+2))
}

func TestRoleLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])

	made, err := admin.CreateRole(background, &iam.CreateRoleInput{
		RoleName: aws.String("union-ai-admin"), Path: aws.String("/union/"), AssumeRolePolicyDocument: aws.String(ec2Trust),
		Description: aws.String("Access of Union"), Tags: []types.Tag{{Key: aws.String("union:managed-by"), Value: aws.String("biplane")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	role := made.Role
	if got, want := *role.Arn, "arn:aws:iam::111122223333:role/union/union-ai-admin"; got != want {
		t.Errorf("got ARN %s, want %s", got, want)
	}
	if got := *role.MaxSessionDuration; got != 3600 {
		t.Errorf("got MaxSessionDuration %d, want 3600", got)
	}
	_, err = admin.CreateRole(background, &iam.CreateRoleInput{RoleName: aws.String("Union-AI-Admin"), AssumeRolePolicyDocument: aws.String(ec2Trust)})
	expect(t, err, "EntityAlreadyExists", "Role with name Union-AI-Admin already exists.")

	got, err := admin.GetRole(background, &iam.GetRoleInput{RoleName: aws.String("union-ai-admin")})
	if err != nil {
		t.Fatal(err)
	}
	if raw := *got.Role.AssumeRolePolicyDocument; strings.ContainsAny(raw, `{"+ `) {
		t.Errorf("got document %s, want it encoded", raw)
	}
	if text, err := url.PathUnescape(*got.Role.AssumeRolePolicyDocument); err != nil || text != ec2Trust {
		t.Errorf("got document %s (%v), want %s", text, err, ec2Trust)
	}
	if len(got.Role.Tags) != 1 || *got.Role.Tags[0].Value != "biplane" {
		t.Errorf("got tags %v, want union:managed-by", got.Role.Tags)
	}

	// Inline, managed, boundary.
	policy, err := admin.CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("UnionIAMPolicy"), PolicyDocument: aws.String(allow("s3:*", "*"))})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		call func() error
		code string
		text string
	}{
		{"puts an inline policy", func() error {
			_, err := admin.PutRolePolicy(background, &iam.PutRolePolicyInput{RoleName: role.RoleName, PolicyName: aws.String("extra"), PolicyDocument: aws.String(allow("ec2:Describe*", "*"))})
			return err
		}, "", ""},
		{"attaches a policy", func() error {
			_, err := admin.AttachRolePolicy(background, &iam.AttachRolePolicyInput{RoleName: role.RoleName, PolicyArn: policy.Policy.Arn})
			return err
		}, "", ""},
		{"attaches a policy that is attached", func() error {
			_, err := admin.AttachRolePolicy(background, &iam.AttachRolePolicyInput{RoleName: role.RoleName, PolicyArn: policy.Policy.Arn})
			return err
		}, "", ""},
		{"refuses to attach what is not there", func() error {
			_, err := admin.AttachRolePolicy(background, &iam.AttachRolePolicyInput{RoleName: role.RoleName, PolicyArn: aws.String("arn:aws:iam::111122223333:policy/no-such")})
			return err
		}, "NoSuchEntity", "Policy arn:aws:iam::111122223333:policy/no-such does not exist or is not attachable."},
		{"sets a boundary", func() error {
			_, err := admin.PutRolePermissionsBoundary(background, &iam.PutRolePermissionsBoundaryInput{RoleName: role.RoleName, PermissionsBoundary: policy.Policy.Arn})
			return err
		}, "", ""},
		{"refuses to delete a role with an attached policy", func() error {
			_, err := admin.DeleteRole(background, &iam.DeleteRoleInput{RoleName: role.RoleName})
			return err
		}, "DeleteConflict", "must detach all policies first"},
		{"refuses to delete a policy that is attached", func() error {
			_, err := admin.DeletePolicy(background, &iam.DeletePolicyInput{PolicyArn: policy.Policy.Arn})
			return err
		}, "DeleteConflict", "attached to entities"},
		{"detaches", func() error {
			_, err := admin.DetachRolePolicy(background, &iam.DetachRolePolicyInput{RoleName: role.RoleName, PolicyArn: policy.Policy.Arn})
			return err
		}, "", ""},
		{"refuses to detach what is not attached", func() error {
			_, err := admin.DetachRolePolicy(background, &iam.DetachRolePolicyInput{RoleName: role.RoleName, PolicyArn: policy.Policy.Arn})
			return err
		}, "NoSuchEntity", "was not found"},
		{"refuses to delete a role with an inline policy", func() error {
			_, err := admin.DeleteRole(background, &iam.DeleteRoleInput{RoleName: role.RoleName})
			return err
		}, "DeleteConflict", "must delete policies first"},
		{"deletes the inline policy", func() error {
			_, err := admin.DeleteRolePolicy(background, &iam.DeleteRolePolicyInput{RoleName: role.RoleName, PolicyName: aws.String("extra")})
			return err
		}, "", ""},
		{"refuses to delete a boundary in use", func() error {
			_, err := admin.DeletePolicy(background, &iam.DeletePolicyInput{PolicyArn: policy.Policy.Arn})
			return err
		}, "DeleteConflict", "permissions boundary"},
		{"makes an instance profile", func() error {
			_, err := admin.CreateInstanceProfile(background, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String("nodes")})
			return err
		}, "", ""},
		{"adds the role to it", func() error {
			_, err := admin.AddRoleToInstanceProfile(background, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("nodes"), RoleName: role.RoleName})
			return err
		}, "", ""},
		{"refuses a second role", func() error {
			_, err := admin.AddRoleToInstanceProfile(background, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("nodes"), RoleName: role.RoleName})
			return err
		}, "LimitExceeded", ""},
		{"refuses to delete a role in an instance profile", func() error {
			_, err := admin.DeleteRole(background, &iam.DeleteRoleInput{RoleName: role.RoleName})
			return err
		}, "DeleteConflict", "must remove roles from instance profile first"},
		{"refuses to delete an instance profile with a role", func() error {
			_, err := admin.DeleteInstanceProfile(background, &iam.DeleteInstanceProfileInput{InstanceProfileName: aws.String("nodes")})
			return err
		}, "DeleteConflict", ""},
		{"lists the instance profiles of the role", func() error {
			out, err := admin.ListInstanceProfilesForRole(background, &iam.ListInstanceProfilesForRoleInput{RoleName: role.RoleName})
			if err == nil && (len(out.InstanceProfiles) != 1 || len(out.InstanceProfiles[0].Roles) != 1) {
				t.Errorf("got %v, want one profile with one role", out.InstanceProfiles)
			}
			return err
		}, "", ""},
		{"removes the role from it", func() error {
			_, err := admin.RemoveRoleFromInstanceProfile(background, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: aws.String("nodes"), RoleName: role.RoleName})
			return err
		}, "", ""},
		{"changes description and session length", func() error {
			_, err := admin.UpdateRole(background, &iam.UpdateRoleInput{RoleName: role.RoleName, Description: aws.String("other"), MaxSessionDuration: aws.Int32(7200)})
			return err
		}, "", ""},
		{"refuses a session length under an hour", func() error {
			_, err := admin.UpdateRole(background, &iam.UpdateRoleInput{RoleName: role.RoleName, MaxSessionDuration: aws.Int32(3599)})
			return err
		}, "ValidationError", "greater than or equal to 3600"},
		{"refuses a session length over twelve hours", func() error {
			_, err := admin.UpdateRole(background, &iam.UpdateRoleInput{RoleName: role.RoleName, MaxSessionDuration: aws.Int32(43201)})
			return err
		}, "ValidationError", "less than or equal to 43200"},
		{"tags", func() error {
			_, err := admin.TagRole(background, &iam.TagRoleInput{RoleName: role.RoleName, Tags: []types.Tag{{Key: aws.String("UNION:managed-by"), Value: aws.String("hand")}, {Key: aws.String("team"), Value: aws.String("")}}})
			return err
		}, "", ""},
		{"replaces a tag whose key is written in another case", func() error {
			out, err := admin.ListRoleTags(background, &iam.ListRoleTagsInput{RoleName: role.RoleName})
			if err == nil && len(out.Tags) != 2 {
				t.Errorf("got %d tags, want 2", len(out.Tags))
			}
			return err
		}, "", ""},
		{"untags", func() error {
			_, err := admin.UntagRole(background, &iam.UntagRoleInput{RoleName: role.RoleName, TagKeys: []string{"team", "absent"}})
			return err
		}, "", ""},
		{"drops the boundary", func() error {
			_, err := admin.DeleteRolePermissionsBoundary(background, &iam.DeleteRolePermissionsBoundaryInput{RoleName: role.RoleName})
			return err
		}, "", ""},
		{"deletes the role", func() error {
			_, err := admin.DeleteRole(background, &iam.DeleteRoleInput{RoleName: role.RoleName})
			return err
		}, "", ""},
		{"finds it no more", func() error {
			_, err := admin.GetRole(background, &iam.GetRoleInput{RoleName: role.RoleName})
			return err
		}, "NoSuchEntity", "The role with name union-ai-admin cannot be found."},
		{"deletes the policy", func() error {
			_, err := admin.DeletePolicy(background, &iam.DeletePolicyInput{PolicyArn: policy.Policy.Arn})
			return err
		}, "", ""},
	} {
		expect(t, step.call(), step.code, step.text)
		if t.Failed() {
			t.Fatalf("it %s: see above", step.name)
		}
	}
	again, err := admin.CreateRole(background, &iam.CreateRoleInput{RoleName: role.RoleName, AssumeRolePolicyDocument: aws.String(ec2Trust)})
	if err != nil {
		t.Fatal(err)
	}
	if *again.Role.RoleId == *role.RoleId {
		t.Error("got the old role's id for a new role, want another")
	}
}

func TestPolicyVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	made, err := admin.CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("p"), Path: aws.String("/union/"), PolicyDocument: aws.String(allow("s3:GetObject", "*")), Description: aws.String("d")})
	if err != nil {
		t.Fatal(err)
	}
	arn := made.Policy.Arn
	if *arn != "arn:aws:iam::111122223333:policy/union/p" {
		t.Errorf("got %s, want the path in the ARN", *arn)
	}
	for i := 2; i <= 5; i++ {
		if _, err := admin.CreatePolicyVersion(background, &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: aws.String(allow(fmt.Sprintf("s3:Get%d", i), "*")), SetAsDefault: i == 5}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = admin.CreatePolicyVersion(background, &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: aws.String(allow("s3:*", "*"))})
	expect(t, err, "LimitExceeded", "up to 5 versions")
	_, err = admin.DeletePolicyVersion(background, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v5")})
	expect(t, err, "DeleteConflict", "Cannot delete the default version of a policy.")
	_, err = admin.DeletePolicy(background, &iam.DeletePolicyInput{PolicyArn: arn})
	expect(t, err, "DeleteConflict", "more than one version")
	if _, err = admin.DeletePolicyVersion(background, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v1")}); err != nil {
		t.Fatal(err)
	}
	six, err := admin.CreatePolicyVersion(background, &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: aws.String(allow("s3:*", "*"))})
	if err != nil || *six.PolicyVersion.VersionId != "v6" || six.PolicyVersion.IsDefaultVersion {
		t.Errorf("got %v (%v), want v6, not default", six, err)
	}
	if _, err := admin.SetDefaultPolicyVersion(background, &iam.SetDefaultPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v2")}); err != nil {
		t.Fatal(err)
	}
	got, err := admin.GetPolicy(background, &iam.GetPolicyInput{PolicyArn: arn})
	if err != nil || *got.Policy.DefaultVersionId != "v2" || *got.Policy.Description != "d" {
		t.Errorf("got %+v (%v), want default v2", got, err)
	}
	version, err := admin.GetPolicyVersion(background, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v2")})
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := url.PathUnescape(*version.PolicyVersion.Document); text != allow("s3:Get2", "*") {
		t.Errorf("got %s, want the second document", text)
	}
	var ids []string
	pages := iam.NewListPolicyVersionsPaginator(admin, &iam.ListPolicyVersionsInput{PolicyArn: arn, MaxItems: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(background)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			ids = append(ids, *v.VersionId)
		}
	}
	if got := strings.Join(ids, " "); got != "v6 v5 v4 v3 v2" {
		t.Errorf("got versions %s, want v6 v5 v4 v3 v2", got)
	}
	_, err = admin.GetPolicyVersion(background, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v1")})
	expect(t, err, "NoSuchEntity", "v1")
	_, err = admin.CreatePolicyVersion(background, &iam.CreatePolicyVersionInput{PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess"), PolicyDocument: aws.String(allow("s3:*", "*"))})
	expect(t, err, "AccessDenied", "")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	role := func(name string) *string {
		t.Helper()
		if _, err := admin.CreateRole(background, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(ec2Trust)}); err != nil {
			t.Fatal(err)
		}
		return &name
	}
	inline := func(role *string, name string, n int) error {
		_, err := admin.PutRolePolicy(background, &iam.PutRolePolicyInput{RoleName: role, PolicyName: &name, PolicyDocument: aws.String(sized(n))})
		return err
	}
	create := func(name, document string) error {
		_, err := admin.CreateRole(background, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &document})
		return err
	}
	policy := func(name, document string) error {
		_, err := admin.CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
		return err
	}
	bigTrust := func(n int) string {
		base := trust("arn:aws:iam::"+vendor+":root", "")
		return strings.Replace(base, `"Effect"`, `"Sid":"`+strings.Repeat("s", n-len(base)-len(`"Sid":"",`))+`","Effect"`, 1)
	}

	t.Run("takes 10,240 of inline policy in all and no more", func(t *testing.T) {
		r := role("inline")
		expect(t, inline(r, "a", 10240), "", "")
		expect(t, inline(r, "b", 200), "LimitExceeded", "Maximum policy size of 10240 bytes exceeded for role inline")
		expect(t, inline(r, "a", 10241), "LimitExceeded", "Maximum policy size of 10240 bytes exceeded for role inline")
		expect(t, inline(r, "a", 10040), "", "")
		expect(t, inline(r, "b", 200), "", "")
	})
	t.Run("does not count white space", func(t *testing.T) {
		spaced := strings.ReplaceAll(sized(6144), `,"`, ",\n\t    \"")
		expect(t, policy("spaced", spaced), "", "")
	})
	t.Run("takes a managed policy of 6,144 and no more", func(t *testing.T) {
		expect(t, policy("fits", sized(6144)), "", "")
		expect(t, policy("exceeds", sized(6145)), "LimitExceeded", "Cannot exceed quota for PolicySize: 6144")
	})
	t.Run("takes a trust policy of 2,048 and no more", func(t *testing.T) {
		expect(t, create("trust-fits", bigTrust(2048)), "", "")
		expect(t, create("trust-exceeds", bigTrust(2049)), "LimitExceeded", "Cannot exceed quota for ACLSizePerRole: 2048")
	})
	t.Run("takes ten attached policies and no more", func(t *testing.T) {
		r := role("attached")
		for i := range 11 {
			if err := policy(fmt.Sprintf("attach-%d", i), allow("s3:*", "*")); err != nil {
				t.Fatal(err)
			}
			_, err := admin.AttachRolePolicy(background, &iam.AttachRolePolicyInput{RoleName: r, PolicyArn: aws.String(fmt.Sprintf("arn:aws:iam::%s:policy/attach-%d", customer, i))})
			if i < 10 {
				expect(t, err, "", "")
			} else {
				expect(t, err, "LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10")
			}
		}
	})
	t.Run("takes fifty tags and no more", func(t *testing.T) {
		r := role("tagged")
		tags := func(from, to int) (out []types.Tag) {
			for i := from; i < to; i++ {
				out = append(out, types.Tag{Key: aws.String(fmt.Sprintf("k%d", i)), Value: aws.String("v")})
			}
			return out
		}
		_, err := admin.TagRole(background, &iam.TagRoleInput{RoleName: r, Tags: tags(0, 50)})
		expect(t, err, "", "")
		_, err = admin.TagRole(background, &iam.TagRoleInput{RoleName: r, Tags: tags(50, 51)})
		expect(t, err, "LimitExceeded", "")
		_, err = admin.TagRole(background, &iam.TagRoleInput{RoleName: r, Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("v")}}})
		expect(t, err, "InvalidInput", "reserved")
		_, err = admin.TagRole(background, &iam.TagRoleInput{RoleName: r, Tags: []types.Tag{{Key: aws.String(strings.Repeat("k", 129)), Value: aws.String("v")}}})
		expect(t, err, "ValidationError", "128")
		_, err = admin.TagRole(background, &iam.TagRoleInput{RoleName: r, Tags: []types.Tag{{Key: aws.String("k0"), Value: aws.String(strings.Repeat("v", 257))}}})
		expect(t, err, "ValidationError", "256")
		_, err = admin.TagRole(background, &iam.TagRoleInput{RoleName: r, Tags: []types.Tag{{Key: aws.String("k0"), Value: aws.String("a;b")}}})
		expect(t, err, "ValidationError", "regular expression")
	})
	for _, test := range []struct {
		name     string
		role     string
		document string
		code     string
		text     string
	}{
		{"takes a name of 64", strings.Repeat("r", 64), ec2Trust, "", ""},
		{"refuses a name of 65", strings.Repeat("r", 65), ec2Trust, "ValidationError", "less than or equal to 64"},
		{"refuses a name with a space", "a b", ec2Trust, "ValidationError", "must contain only alphanumeric characters"},
		{"refuses a trust policy that is no JSON", "x", `{"Version":`, "MalformedPolicyDocument", ""},
		{"refuses a trust policy without a principal", "x", allow("sts:AssumeRole", "*"), "MalformedPolicyDocument", ""},
		{"refuses a trust policy with a resource", "x", strings.Replace(ec2Trust, `"Action"`, `"Resource":"*","Action"`, 1), "MalformedPolicyDocument", "Has prohibited field Resource"},
		{"refuses a trust policy about other actions", "x", strings.Replace(ec2Trust, "sts:AssumeRole", "s3:GetObject", 1), "MalformedPolicyDocument", "STS AssumeRole"},
		{"refuses a principal that a known account has not", "x", trust("arn:aws:iam::"+vendor+":role/no-such", ""), "MalformedPolicyDocument", `Invalid principal in policy: "AWS":"arn:aws:iam::479331373192:role/no-such"`},
		{"takes a principal of an account it does not know", "unknown-account", trust("arn:aws:iam::444455556666:role/anything", ""), "", ""},
		{"takes an account number", "account-number", trust(vendor, "12"), "", ""},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, create(test.role, test.document), test.code, test.text) })
	}
	for _, test := range []struct {
		name     string
		document string
	}{
		{"refuses a policy with a principal", ec2Trust},
		{"refuses a policy without a resource", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*"}]}`},
		{"refuses a misspelt element", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Actions":"s3:*","Resource":"*"}]}`},
		{"refuses an unknown operator", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringEqual":{"aws:username":"x"}}}]}`},
		{"refuses an action without a service", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"GetObject","Resource":"*"}]}`},
		{"refuses a resource that is no ARN", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"bucket"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, policy("malformed", test.document), "MalformedPolicyDocument", "") })
	}
	t.Run("refuses a path without an end", func(t *testing.T) {
		_, err := admin.CreateRole(background, &iam.CreateRoleInput{RoleName: aws.String("x"), Path: aws.String("/union"), AssumeRolePolicyDocument: aws.String(ec2Trust)})
		expect(t, err, "ValidationError", "path")
	})
	t.Run("reports its quotas", func(t *testing.T) {
		out, err := admin.GetAccountSummary(background, nil)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]int32{"RolePolicySizeQuota": 10240, "PolicySizeQuota": 6144, "AssumeRolePolicySizeQuota": 2048,
			"AttachedPoliciesPerRoleQuota": 10, "VersionsPerPolicyQuota": 5, "RolesQuota": 1000, "PoliciesQuota": 1500, "InstanceProfilesQuota": 1000, "Users": 1} {
			if got := out.SummaryMap[key]; got != want {
				t.Errorf("got %s %d, want %d", key, got, want)
			}
		}
	})
}

func TestPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	for i := range 25 {
		path := "/a/"
		if i%5 == 0 {
			path = "/b/"
		}
		if _, err := w.SeedRole(customer, Role{Name: fmt.Sprintf("role-%02d", i), Path: path, Trust: ec2Trust}); err != nil {
			t.Fatal(err)
		}
	}
	names := func(prefix string, size int32) (out []string, pages int) {
		t.Helper()
		p := iam.NewListRolesPaginator(admin, &iam.ListRolesInput{PathPrefix: &prefix, MaxItems: &size})
		for p.HasMorePages() {
			page, err := p.NextPage(background)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, r := range page.Roles {
				out = append(out, *r.RoleName)
			}
		}
		return out, pages
	}
	if got, pages := names("/", 7); len(got) != 25 || pages != 4 || got[24] != "role-24" {
		t.Errorf("got %d roles in %d pages (%v), want 25 in 4", len(got), pages, got)
	}
	if got, _ := names("/b/", 2); strings.Join(got, " ") != "role-00 role-05 role-10 role-15 role-20" {
		t.Errorf("got %v, want those of /b/", got)
	}
	_, err := admin.ListRoles(background, &iam.ListRolesInput{Marker: aws.String("forged")})
	expect(t, err, "ValidationError", "Invalid Marker")
	_, err = admin.ListRoles(background, &iam.ListRolesInput{MaxItems: aws.Int32(1001)})
	expect(t, err, "ValidationError", "maxItems")

	var roles, users, policies int
	details := iam.NewGetAccountAuthorizationDetailsPaginator(admin, &iam.GetAccountAuthorizationDetailsInput{MaxItems: aws.Int32(10)})
	for details.HasMorePages() {
		page, err := details.NextPage(background)
		if err != nil {
			t.Fatal(err)
		}
		roles, users, policies = roles+len(page.RoleDetailList), users+len(page.UserDetailList), policies+len(page.Policies)
	}
	if roles != 25 || users != 1 || policies != 1 {
		t.Errorf("got %d roles, %d users, %d policies; want 25, 1 and AdministratorAccess", roles, users, policies)
	}
	only, err := admin.GetAccountAuthorizationDetails(background, &iam.GetAccountAuthorizationDetailsInput{Filter: []types.EntityType{types.EntityTypeUser}})
	if err != nil || len(only.RoleDetailList) != 0 || len(only.UserDetailList) != 1 {
		t.Errorf("got %v (%v), want the user only", only, err)
	}
	local, err := admin.ListPolicies(background, &iam.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal})
	if err != nil || len(local.Policies) != 0 {
		t.Errorf("got %v (%v), want none of its own", local, err)
	}
	attached, err := admin.ListPolicies(background, &iam.ListPoliciesInput{OnlyAttached: true})
	if err != nil || len(attached.Policies) != 1 || *attached.Policies[0].AttachmentCount != 1 {
		t.Errorf("got %v (%v), want AdministratorAccess", attached, err)
	}
	for _, arn := range []string{
		"arn:aws:iam::aws:policy/AmazonEKSClusterPolicy", "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy", "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy",
		"arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly", "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly", "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
		"arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy", "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy", "arn:aws:iam::aws:policy/ReadOnlyAccess",
	} {
		version, err := admin.GetPolicyVersion(background, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: aws.String("v1")})
		if err != nil {
			t.Errorf("got %v for %s, want it to exist", err, arn)
			continue
		}
		text, _ := url.PathUnescape(*version.PolicyVersion.Document)
		if _, err := checkDocument(text, false); err != nil || !json.Valid([]byte(text)) {
			t.Errorf("got document %s of %s (%v), want a valid one", text, arn, err)
		}
	}
}

func TestServiceLinkedRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	admin := w.iam(w.admins[customer])
	made, err := admin.CreateServiceLinkedRole(background, &iam.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("eks.amazonaws.com")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *made.Role.Arn, "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err = admin.CreateServiceLinkedRole(background, &iam.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("eks.amazonaws.com")})
	expect(t, err, "InvalidInput", "has been taken in this account")
	_, err = admin.DeleteRole(background, &iam.DeleteRoleInput{RoleName: made.Role.RoleName})
	expect(t, err, "UnmodifiableEntity", "")
	task, err := admin.DeleteServiceLinkedRole(background, &iam.DeleteServiceLinkedRoleInput{RoleName: made.Role.RoleName})
	if err != nil {
		t.Fatal(err)
	}
	status, err := admin.GetServiceLinkedRoleDeletionStatus(background, &iam.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: task.DeletionTaskId})
	if err != nil || status.Status != types.DeletionTaskStatusTypeSucceeded {
		t.Errorf("got %v (%v), want SUCCEEDED", status, err)
	}
	_, err = admin.CreateServiceLinkedRole(background, &iam.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("eks")})
	expect(t, err, "ValidationError", "eks.amazonaws.com")
}

func TestTwoAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	for _, id := range []string{customer, vendor} {
		made, err := w.iam(w.admins[id]).CreateRole(background, &iam.CreateRoleInput{RoleName: aws.String("same"), AssumeRolePolicyDocument: aws.String(ec2Trust), Description: &id})
		if err != nil {
			t.Fatal(err)
		}
		if want := "arn:aws:iam::" + id + ":role/same"; *made.Role.Arn != want {
			t.Errorf("got %s, want %s", *made.Role.Arn, want)
		}
	}
	if _, err := w.iam(w.admins[customer]).DeleteRole(background, &iam.DeleteRoleInput{RoleName: aws.String("same")}); err != nil {
		t.Fatal(err)
	}
	got, err := w.iam(w.admins[vendor]).GetRole(background, &iam.GetRoleInput{RoleName: aws.String("same")})
	if err != nil || *got.Role.Description != vendor {
		t.Errorf("got %v (%v), want the vendor's role untouched", got, err)
	}
	_, err = w.iam(w.admins[stranger]).GetPolicy(background, &iam.GetPolicyInput{PolicyArn: aws.String("arn:aws:iam::" + customer + ":policy/x")})
	expect(t, err, "NoSuchEntity", "")
}

func TestAccountQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	for i := range maxProviders {
		_, err := w.iam(w.admins[customer]).CreateOpenIDConnectProvider(background, &iam.CreateOpenIDConnectProviderInput{Url: aws.String(fmt.Sprintf("https://a.example/%d", i))})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.iam(w.admins[customer]).CreateOpenIDConnectProvider(background, &iam.CreateOpenIDConnectProviderInput{Url: aws.String("https://a.example/more")})
	expect(t, err, "LimitExceeded", "Cannot exceed quota for OpenIdConnectProvidersPerAccount: 100")
	for i := range maxRoles {
		if _, err := w.SeedRole(vendor, Role{Name: fmt.Sprintf("r%d", i), Trust: ec2Trust}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.iam(w.admins[vendor]).CreateRole(background, &iam.CreateRoleInput{RoleName: aws.String("more"), AssumeRolePolicyDocument: aws.String(ec2Trust)})
	expect(t, err, "LimitExceeded", "Cannot exceed quota for RolesPerAccount: 1000")
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{})
	for _, test := range []struct{ id, partition, region string }{
		{"111111111111", "aws-us-gov", "us-gov-west-1"},
		{"222222222222", "aws-cn", "cn-north-1"},
	} {
		t.Run("it keeps IAM of "+test.partition, func(t *testing.T) {
			admin, err := w.CreateAccount(test.id, AccountOptions{Partition: test.partition})
			if err != nil {
				t.Fatal(err)
			}
			if want := "arn:" + test.partition + ":iam::" + test.id + ":user/administrator"; admin.ARN != want {
				t.Errorf("got %s, want %s", admin.ARN, want)
			}
			client := iam.New(iam.Options{Region: test.region, BaseEndpoint: &w.url, Credentials: provide(admin), RetryMaxAttempts: 1})
			made, err := client.CreateRole(background, &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(trust("arn:"+test.partition+":iam::"+test.id+":root", ""))})
			if err != nil {
				t.Fatal(err)
			}
			if want := "arn:" + test.partition + ":iam::" + test.id + ":role/r"; *made.Role.Arn != want {
				t.Errorf("got %s, want %s", *made.Role.Arn, want)
			}
			attach := func(arn string) error {
				_, err := client.AttachRolePolicy(background, &iam.AttachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: &arn})
				return err
			}
			expect(t, attach("arn:"+test.partition+":iam::aws:policy/AmazonEKSClusterPolicy"), "", "")
			expect(t, attach("arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"), "NoSuchEntity", "not attachable")
		})
	}
}
