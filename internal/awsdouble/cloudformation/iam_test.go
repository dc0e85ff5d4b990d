package cloudformation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/internal/awsidentity"
)

// account is an account of an identity service, with what was made of a stack.
type account struct {
	t        *testing.T
	identity *awsidentity.Service
	cloud    Identity
	admin    Caller
	bound    *Bound
	made     map[string]Physical
	current  map[string]map[string]any // properties, by logical ID
}

func newAccount(t *testing.T) *account {
	t.Helper()
	s, err := awsidentity.Open(awsidentity.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	key, err := s.CreateAccount(env.Account, awsidentity.AccountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &account{
		t: t, identity: s, cloud: Identity{s}, admin: Caller{Account: env.Account, ARN: key.ARN, AccessKeyID: key.AccessKeyID},
		made: map[string]Physical{}, current: map[string]map[string]any{},
	}
}

// byHand is a client of somebody who is at the account beside CloudFormation.
func (a *account) byHand() *iam.Client { return a.cloud.IAM(a.admin) }

// caller is a role's session that may do what document says.
func (a *account) caller(name, document string) Caller {
	a.t.Helper()
	arn, err := a.identity.SeedRole(env.Account, awsidentity.Role{Name: name, Inline: map[string]string{"p": document}})
	if err != nil {
		a.t.Fatal(err)
	}
	key, err := a.identity.Session(arn, "test", time.Hour)
	if err != nil {
		a.t.Fatal(err)
	}
	return Caller{Account: env.Account, ARN: key.ARN, AccessKeyID: key.AccessKeyID}
}

func (a *account) request(id string) *request {
	a.t.Helper()
	properties, err := a.bound.Properties(id, a.made)
	if err != nil {
		a.t.Fatal(err)
	}
	i := slices.IndexFunc(a.bound.Resources(), func(r BoundResource) bool { return r.LogicalID == id })
	return &request{
		cloud: a.cloud, caller: a.admin, env: a.bound.env, token: "token-1", logicalID: id, typ: a.bound.Resources()[i].Type,
		properties: properties, previous: a.current[id], physical: a.made[id],
	}
}

// apply makes or updates all of a template's resources, as a stack would.
func (a *account) apply(template string) error {
	a.t.Helper()
	with := env
	with.Tags = []Tag{{"stack", "mine"}}
	parsed, err := Parse(template)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.bound, err = parsed.Bind(nil, with); err != nil {
		a.t.Fatal(err)
	}
	for _, one := range a.bound.Resources() {
		r := a.request(one.LogicalID)
		do := create
		if r.previous != nil {
			do = update
		}
		made, err := do(context.Background(), r)
		if made.ID != "" {
			a.made[one.LogicalID], a.current[one.LogicalID] = made, r.properties
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *account) mustApply(template string) {
	a.t.Helper()
	if err := a.apply(template); err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) remove(id string) error { return remove(context.Background(), a.request(id)) }

func (a *account) drift(id string) Drift {
	a.t.Helper()
	d, err := driftOf(context.Background(), a.request(id))
	if err != nil {
		a.t.Fatal(err)
	}
	return d
}

const trust = `{Version: 2012-10-17, Statement: [{Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: "sts:AssumeRole"}]}`

func allowing(action string) string {
	return `{Version: 2012-10-17, Statement: [{Effect: Allow, Action: "` + action + `", Resource: "*"}]}`
}

// every has each type of resource of IAM.
const every = `
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: union-ai-admin
      Path: /union/
      Description: for the data plane
      MaxSessionDuration: 7200
      PermissionsBoundary: !Sub "arn:${AWS::Partition}:iam::aws:policy/AdministratorAccess"
      AssumeRolePolicyDocument: ` + trust + `
      ManagedPolicyArns: [!Ref Managed]
      Policies: [{PolicyName: own, PolicyDocument: {Version: 2012-10-17, Statement: [{Sid: A, Effect: Allow, Action: "s3:GetObject", Resource: "*"}]}}]
      Tags: [{Key: a, Value: "1"}]
  Generated:
    Type: AWS::IAM::Role
    Properties: {AssumeRolePolicyDocument: ` + trust + `}
  Managed:
    Type: AWS::IAM::ManagedPolicy
    Properties: {ManagedPolicyName: union-compute, Path: /union/, Description: d, PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: ["ec2:RunInstances", "ec2:CreateTags"], Resource: "*"}]}}
  Attached:
    Type: AWS::IAM::ManagedPolicy
    Properties: {Roles: [!Ref Generated], Users: [administrator], PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: "ec2:RunInstances", Resource: "*"}]}}
  Inline:
    Type: AWS::IAM::Policy
    Properties: {PolicyName: inline, Roles: [!Ref Generated], Users: [administrator], PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: "eks:ListClusters", Resource: "*"}]}}
  OfRole:
    Type: AWS::IAM::RolePolicy
    Properties: {PolicyName: of-role, RoleName: !Ref Generated, PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: "eks:ListClusters", Resource: "*"}]}}
  Profile:
    Type: AWS::IAM::InstanceProfile
    Properties: {Roles: [!Ref Generated]}
  Linked:
    Type: AWS::IAM::ServiceLinkedRole
    Properties: {AWSServiceName: spot.amazonaws.com}
  Provider:
    Type: AWS::IAM::OIDCProvider
    Properties: {Url: "https://oidc.example.com/id", ClientIdList: [sts.amazonaws.com], Tags: [{Key: a, Value: b}]}
`

func TestEveryTypeIsMadeReadAndDeleted(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.mustApply(every)
	out, err := a.byHand().GetRole(context.Background(), &iam.GetRoleInput{RoleName: new("union-ai-admin")})
	if err != nil {
		t.Fatal(err)
	}
	role := a.made["Role"]
	if role.ID != "union-ai-admin" || role.Attributes["Arn"] != "arn:aws:iam::111122223333:role/union/union-ai-admin" || role.Attributes["RoleId"] != *out.Role.RoleId {
		t.Errorf("got the role %v", role)
	}
	if got, want := asJSON(tagList(out.Role.Tags)), `[{"Key":"a","Value":"1"},{"Key":"stack","Value":"mine"}]`; got != want || *out.Role.MaxSessionDuration != 7200 {
		t.Errorf("got tags %s, %d seconds, want %s, 7200", got, *out.Role.MaxSessionDuration, want)
	}
	if got, want := a.made["Managed"].ID, "arn:aws:iam::111122223333:policy/union/union-compute"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if name := a.made["Generated"].ID; !regexp.MustCompile(`^Stack-Generated-[0-9A-Za-z]{12}$`).MatchString(name) {
		t.Errorf("got the generated name %s", name)
	}
	for _, one := range a.bound.Resources() {
		want := "IN_SYNC"
		if one.LogicalID == "Linked" {
			want = "NOT_CHECKED"
		}
		if d := a.drift(one.LogicalID); d.Status != want {
			t.Errorf("%s: got %+v, want %s", one.LogicalID, d, want)
		}
	}
	a.mustApply(every) // which changes nothing
	for _, one := range slices.Backward(a.bound.Resources()) {
		if err := a.remove(one.LogicalID); err != nil {
			t.Errorf("%s: %v", one.LogicalID, err)
		}
		if err := a.remove(one.LogicalID); err != nil {
			t.Errorf("%s, once more: %v", one.LogicalID, err)
		}
		if d := a.drift(one.LogicalID); d.Status != "DELETED" && d.Status != "NOT_CHECKED" {
			t.Errorf("%s: got %s after it was deleted", one.LogicalID, d.Status)
		}
	}
}

func TestCallsAreMadeAsTheCallerOfTheStack(t *testing.T) {
	t.Parallel()
	const template = "Resources: {Role: {Type: AWS::IAM::Role, Properties: {RoleName: made, AssumeRolePolicyDocument: " + trust + ", Tags: [{Key: a, Value: b}]}}}"
	for name, c := range map[string]struct{ policy, want string }{
		"who may by CloudFormation only": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:CalledVia":"cloudformation.amazonaws.com"},"Bool":{"aws:ViaAWSService":"true"}}}]}`, ""},
		"who may not by a service":       {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*","Condition":{"Bool":{"aws:ViaAWSService":"false"}}}]}`, "is not authorized to perform: iam:CreateRole on resource: arn:aws:iam::111122223333:role/made because no identity-based policy allows the iam:CreateRole action (Service: Iam, Status Code: 403, Request ID: "},
		"who may not look":               {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:CreateRole","iam:TagRole"],"Resource":"*"}]}`, "is not authorized to perform: iam:GetRole"},
		"who may not tag":                {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:CreateRole","Resource":"*"}]}`, "is not authorized to perform: iam:TagRole"},
	} {
		t.Run("it decides for one "+name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			a.admin = a.caller("caller", c.policy)
			err := a.apply(template)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "HandlerErrorCode: AccessDenied)")):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	t.Run("it refuses a key that is gone", func(t *testing.T) {
		t.Parallel()
		a := newAccount(t)
		a.admin.AccessKeyID = "AKIAGONE"
		if err := a.apply(template); err == nil || !strings.Contains(err.Error(), "HandlerErrorCode: InvalidCredentials)") {
			t.Errorf("got %v, want InvalidCredentials", err)
		}
	})
}

func TestErrorsAreWordedAsInEvents(t *testing.T) {
	t.Parallel()
	large := `{Version: 2012-10-17, Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: "arn:aws:s3:::` + strings.Repeat("x", 10_240) + `"}]}`
	const id = `[0-9a-f-]{36}`
	for name, c := range map[string]struct {
		template, want string
		made           bool // something is there to be rolled back
	}{
		"a name that is taken":          {"Resources: {R: {Type: AWS::IAM::Role, Properties: {RoleName: taken, AssumeRolePolicyDocument: " + trust + "}}}", `^Resource handler returned message: "Role with name taken already exists\. \(Service: Iam, Status Code: 409, Request ID: ` + id + `\)" \(RequestToken: token-1, HandlerErrorCode: AlreadyExists\)$`, false},
		"a large policy of a role":      {"Resources: {R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: " + trust + ", Policies: [{PolicyName: p, PolicyDocument: " + large + "}]}}}", `"Maximum policy size of 10240 bytes exceeded for role \S+ \(Service: Iam, Status Code: 409, Request ID: ` + id + `\)" \(RequestToken: token-1, HandlerErrorCode: ServiceLimitExceeded\)`, true},
		"a large policy beside it":      {"Resources: {R: {Type: AWS::IAM::Policy, Properties: {PolicyName: p, Roles: [taken], PolicyDocument: " + large + "}}}", `^Maximum policy size of 10240 bytes exceeded for role taken \(Service: AmazonIdentityManagement; Status Code: 409; Error Code: LimitExceeded; Request ID: ` + id + `; Proxy: null\)$`, false},
		"a bad document":                {"Resources: {R: {Type: AWS::IAM::ManagedPolicy, Properties: {PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow}]}}}}", `Status Code: 400, Request ID: ` + id + `\)" \(RequestToken: token-1, HandlerErrorCode: InvalidRequest\)`, false},
		"a role that is not there":      {"Resources: {R: {Type: AWS::IAM::RolePolicy, Properties: {RoleName: none, PolicyName: p, PolicyDocument: " + allowing("s3:GetObject") + "}}}", `HandlerErrorCode: NotFound\)`, false},
		"a tag of AWS's own":            {"Resources: {R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: " + trust + ", Tags: [{Key: 'aws:cloudformation:stack-name', Value: a}]}}}", `HandlerErrorCode: InvalidRequest\)`, false},
		"a property that is not there":  {"Resources: {R: {Type: AWS::IAM::Role, Properties: {RoleNam: a}}}", `^Properties validation failed for resource R with message:\n#: required key \[AssumeRolePolicyDocument\] not found\n#: extraneous key \[RoleNam\] is not permitted$`, false},
		"a property of another form":    {"Resources: {R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: " + trust + ", RoleName: [a], MaxSessionDuration: hour}}}", `#/MaxSessionDuration: expected type: Integer, found: String\n#/RoleName: expected type: String, found: JSONArray$`, false},
		"a policy of nobody":            {"Resources: {R: {Type: AWS::IAM::Policy, Properties: {PolicyName: p, PolicyDocument: " + allowing("s3:GetObject") + "}}}", `^At least one of \[Groups,Roles,Users\] must be non-empty\.$`, false},
		"a group":                       {"Resources: {R: {Type: AWS::IAM::ManagedPolicy, Properties: {Groups: [a], PolicyDocument: " + allowing("s3:GetObject") + "}}}", `^Resource handler returned message: "The group with name a cannot be found\. \(Service: Iam, Status Code: 404, .*HandlerErrorCode: NotFound\)$`, true},
		"an inline policy with no name": {"Resources: {R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: " + trust + ", Policies: [{PolicyDocument: {}}]}}}", `required keys \[PolicyDocument, PolicyName\] not found.*HandlerErrorCode: InvalidRequest\)`, false},
	} {
		t.Run("it tells of "+name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			if _, err := a.identity.SeedRole(env.Account, awsidentity.Role{Name: "taken"}); err != nil {
				t.Fatal(err)
			}
			err := a.apply(c.template)
			var reason *StatusReason
			if !errors.As(err, &reason) || !regexp.MustCompile(c.want).MatchString(reason.Text) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if _, made := a.made["R"]; made != c.made {
				t.Errorf("got %t for what is left to roll back, want %t", made, c.made)
			}
			if c.made {
				if err := a.remove("R"); err != nil {
					t.Errorf("rolling back: %v", err)
				}
			}
		})
	}
}

func TestUpdateChangesWhatDiffers(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.mustApply(every)
	next := strings.NewReplacer(
		"Description: for the data plane", "", "MaxSessionDuration: 7200", "",
		`PermissionsBoundary: !Sub "arn:${AWS::Partition}:iam::aws:policy/AdministratorAccess"`, "",
		"ManagedPolicyArns: [!Ref Managed]", `ManagedPolicyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess", !Ref Attached]`,
		"PolicyName: own", "PolicyName: other", `{Key: a, Value: "1"}`, `{Key: b, Value: "2"}`, "ec2.amazonaws.com", "ecs.amazonaws.com",
		"PolicyName: inline, Roles: [!Ref Generated], Users: [administrator]", "PolicyName: inline2, Roles: [!Ref Generated]",
		"Roles: [!Ref Generated], Users: [administrator], PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: \"ec2:RunInstances\"", "Users: [administrator], PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Allow, Action: \"ec2:StopInstances\"",
		"Properties: {Roles: [!Ref Generated]}", "Properties: {Roles: [!Ref Role]}", "ClientIdList: [sts.amazonaws.com]", "ClientIdList: [a, b]",
	).Replace(every)
	a.mustApply(next)
	for _, one := range a.bound.Resources() {
		if d := a.drift(one.LogicalID); d.Status != "IN_SYNC" && one.LogicalID != "Linked" {
			t.Errorf("%s: got %+v, want IN_SYNC", one.LogicalID, d)
		}
	}
	out, err := a.byHand().GetRole(context.Background(), &iam.GetRoleInput{RoleName: new("union-ai-admin")})
	if err != nil {
		t.Fatal(err)
	}
	if r := out.Role; r.Description != nil && *r.Description != "" || *r.MaxSessionDuration != 3600 || r.PermissionsBoundary != nil || len(r.Tags) != 2 {
		t.Errorf("got %+v, want what the template left out to be gone", r)
	}
	names, err := a.byHand().ListRolePolicies(context.Background(), &iam.ListRolePoliciesInput{RoleName: new("union-ai-admin")})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"other"}; !slices.Equal(names.PolicyNames, want) {
		t.Errorf("got inline policies %v, want %v", names.PolicyNames, want)
	}
	for _, one := range slices.Backward(a.bound.Resources()) {
		if err := a.remove(one.LogicalID); err != nil {
			t.Errorf("%s: %v", one.LogicalID, err)
		}
	}
}

func TestAPolicyHasFiveVersionsAtMost(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	for i := range 8 {
		a.mustApply("Resources: {P: {Type: AWS::IAM::ManagedPolicy, Properties: {ManagedPolicyName: p, PolicyDocument: " + allowing(fmt.Sprintf("s3:Get%d", i)) + "}}}")
		if i == 5 {
			// v6 is in force, v2 to v5 are there; by hand v2 is put in force again.
			arn := a.made["P"].ID
			if _, err := a.byHand().SetDefaultPolicyVersion(context.Background(), &iam.SetDefaultPolicyVersionInput{PolicyArn: &arn, VersionId: new("v2")}); err != nil {
				t.Fatal(err)
			}
			if d := a.drift("P"); d.Status != "MODIFIED" || d.Differences[0].PropertyPath != "/PolicyDocument/Statement/0/Action" {
				t.Errorf("got %+v, want the document to differ", d)
			}
		}
	}
	arn := a.made["P"].ID
	out, err := a.byHand().ListPolicyVersions(context.Background(), &iam.ListPolicyVersionsInput{PolicyArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range out.Versions {
		got = append(got, fmt.Sprint(*v.VersionId, v.IsDefaultVersion))
	}
	// v3 made room for v7, as v2 was in force; then v2 was the oldest for v8.
	if want := []string{"v8true", "v7false", "v6false", "v5false", "v4false"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if a.made["P"].Attributes["DefaultVersionId"] != "v8" {
		t.Errorf("got %v, want v8", a.made["P"].Attributes)
	}
	if err := a.remove("P"); err != nil {
		t.Error(err)
	}
}

func TestDriftTellsEachProperty(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a := newAccount(t)
	a.mustApply(every)
	hand, role := a.byHand(), new("union-ai-admin")
	for _, err := range []error{
		second(hand.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: role, Description: new("by hand")})),
		second(hand.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: role, PolicyArn: new(a.made["Managed"].ID)})),
		second(hand.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: role, PolicyArn: new("arn:aws:iam::aws:policy/ReadOnlyAccess")})),
		second(hand.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: role, PolicyName: new("own"), PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Sid":"New","Effect":"Deny","Action":"s3:*","Resource":"*"},{"Sid":"A","Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}]}`)})),
		second(hand.TagRole(ctx, &iam.TagRoleInput{RoleName: role, Tags: tagsOf(map[string]any{"Tags": []any{map[string]any{"Key": "a", "Value": "3"}}})})),
		second(hand.UntagRole(ctx, &iam.UntagRoleInput{RoleName: role, TagKeys: []string{"stack"}})),
		second(hand.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: new("administrator"), PolicyName: new("inline")})),
		second(hand.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: new(a.made["Profile"].ID), RoleName: new(a.made["Generated"].ID)})),
		second(hand.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: new(a.made["Generated"].ID), PolicyName: new("foreign"), PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}`)})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d := a.drift("Role")
	want := []Difference{
		{"/Description", "for the data plane", "by hand", "NOT_EQUAL"},
		{"/ManagedPolicyArns/0", a.made["Managed"].ID, "null", "REMOVE"},
		{"/ManagedPolicyArns/1", "null", "arn:aws:iam::aws:policy/ReadOnlyAccess", "ADD"},
		{"/Policies/0/PolicyDocument/Statement/0/Resource", "*", "arn:aws:s3:::b/*", "NOT_EQUAL"},
		{"/Policies/0/PolicyDocument/Statement/1", "null", `{"Action":"s3:*","Effect":"Deny","Resource":"*","Sid":"New"}`, "ADD"},
		{"/Tags/0/Value", "1", "3", "NOT_EQUAL"},
		{"/Tags/1", `{"Key":"stack","Value":"mine"}`, "null", "REMOVE"},
	}
	if d.Status != "MODIFIED" || !reflect.DeepEqual(d.Differences, want) {
		t.Errorf("got %s\n%v\nwant MODIFIED\n%v", d.Status, d.Differences, want)
	}
	if d := a.drift("Inline"); d.Status != "MODIFIED" || d.Differences[0] != (Difference{"/Users", `["administrator"]`, "null", "REMOVE"}) {
		t.Errorf("got %+v", d)
	}
	if d := a.drift("Profile"); d.Status != "MODIFIED" || d.Differences[0].PropertyPath != "/Roles/0" || d.Differences[0].Type != "REMOVE" {
		t.Errorf("got %+v", d)
	}
	if d := a.drift("Generated"); d.Status != "IN_SYNC" {
		t.Errorf("got %+v, want what the template does not set to be no drift", d)
	}
	if err := a.remove("Role"); err == nil || !strings.Contains(err.Error(), `"Cannot delete entity, must detach all policies first. (Service: Iam, Status Code: 409, `) || !strings.Contains(err.Error(), "HandlerErrorCode: InvalidRequest)") {
		t.Errorf("got %v, want IAM's DeleteConflict", err)
	}
	if d := a.drift("Managed"); d.Status != "IN_SYNC" {
		t.Errorf("got %+v, want IN_SYNC", d)
	}
}

func second[T any](_ T, err error) error { return err }

func TestWhatIsReplaced(t *testing.T) {
	t.Parallel()
	base := map[string]any{"RoleName": "a", "Path": "/", "Description": "b", "MaxSessionDuration": "3600"}
	with := func(key string, value any) map[string]any {
		out := map[string]any{}
		for k, v := range base {
			out[k] = v
		}
		out[key] = value
		return out
	}
	for name, c := range map[string]struct {
		next               map[string]any
		changed, replacing []string
		custom             string
	}{
		"nothing":                         {next: with("Path", "/")},
		"a number that is a text":         {next: with("MaxSessionDuration", json.Number("3600"))},
		"the description":                 {next: with("Description", "c"), changed: []string{"Description"}},
		"the path under the same name":    {next: with("Path", "/x/"), changed: []string{"Path"}, replacing: []string{"Path"}, custom: "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename a and update the stack again."},
		"the name":                        {next: with("RoleName", "b"), changed: []string{"RoleName"}, replacing: []string{"RoleName"}},
		"a property that was not there":   {next: with("PermissionsBoundary", "arn"), changed: []string{"PermissionsBoundary"}},
		"the description of a role's own": {next: with("Description", nil), changed: []string{"Description"}},
	} {
		t.Run("it tells of "+name, func(t *testing.T) {
			t.Parallel()
			changed, replacing := roleKind.changed(base, c.next)
			if !slices.Equal(changed, c.changed) || !slices.Equal(replacing, c.replacing) {
				t.Errorf("got %v, %v, want %v, %v", changed, replacing, c.changed, c.replacing)
			}
			if replacing == nil {
				return
			}
			err := roleKind.mayReplace("a", base, c.next)
			if got := fmt.Sprint(err); (err != nil || c.custom != "") && got != c.custom {
				t.Errorf("got %q, want %q", got, c.custom)
			}
		})
	}
}

func TestGeneratedNamesFit(t *testing.T) {
	t.Parallel()
	r := &request{env: Env{StackName: strings.Repeat("s", 128), StackID: "1"}, logicalID: strings.Repeat("l", 255), token: "t"}
	one := r.generatedName(64)
	if len(one) != 64 || one != r.generatedName(64) {
		t.Errorf("got %q (%d), want 64 characters, alike each time", one, len(one))
	}
	r.token = "u"
	if one == r.generatedName(64) {
		t.Errorf("got the same name in another operation")
	}
}

func TestAReasonKeepsTheErrorOfAWS(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	err := a.apply("Resources: {R: {Type: AWS::IAM::RolePolicy, Properties: {RoleName: none, PolicyName: p, PolicyDocument: " + allowing("s3:GetObject") + "}}}")
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "NoSuchEntity" {
		t.Errorf("got %v, want NoSuchEntity within", err)
	}
}
