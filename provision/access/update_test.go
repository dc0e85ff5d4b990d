package access_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	tagging "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// digestOf is what the tag union:document says of a document.
func digestOf(t *testing.T, document string) string {
	t.Helper()
	d, err := iampolicy.Parse("", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(iampolicy.Canonical(d).Text())
	return hex.EncodeToString(sum[:8])
}

func (a *account) policyARN(name string) string {
	return "arn:aws:iam::" + customerID + ":policy/union/" + name
}

func (a *account) document(t *testing.T, arn string) string {
	t.Helper()
	p, err := a.GetPolicy(t.Context(), &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.GetPolicyVersion(t.Context(), &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: p.Policy.DefaultVersionId})
	if err != nil {
		t.Fatal(err)
	}
	text, err := url.PathUnescape(*v.PolicyVersion.Document)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// edit puts another document in force, as a person does in the console.
func (a *account) edit(t *testing.T, arn, document string) {
	t.Helper()
	if _, err := a.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{PolicyArn: &arn, PolicyDocument: &document, SetAsDefault: true}); err != nil {
		t.Fatal(err)
	}
}

// older makes of a policy what an older version of Biplane would have written.
func (a *account) older(t *testing.T, arn, document string) {
	t.Helper()
	a.edit(t, arn, document)
	_, err := a.TagPolicy(t.Context(), &iam.TagPolicyInput{PolicyArn: &arn, Tags: []types.Tag{{Key: aws.String("union:document"), Value: aws.String(digestOf(t, document))}}})
	if err != nil {
		t.Fatal(err)
	}
}

// without leaves a statement out of a document, and with adds one.
func without(t *testing.T, document string, i int) string {
	return restated(t, document, func(all []any) []any { return slices.Delete(all, i, i+1) })
}

func with(t *testing.T, document, statement string) string {
	return restated(t, document, func(all []any) []any {
		var one any
		if err := json.Unmarshal([]byte(statement), &one); err != nil {
			t.Fatal(err)
		}
		return append(all, one)
	})
}

func restated(t *testing.T, document string, change func([]any) []any) string {
	t.Helper()
	var d struct {
		Version   string
		Statement []any
	}
	if err := json.Unmarshal([]byte(document), &d); err != nil {
		t.Fatal(err)
	}
	d.Statement = change(d.Statement)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// updateTo plans the update of what api has granted to a set.
func updateTo(t *testing.T, api access.IAM, set *access.Set, choice access.Choice) (*access.Update, step.Runner, step.Plan) {
	t.Helper()
	granted, err := access.ReadGranted(t.Context(), api, "aws", customerID, vendor.Default())
	if err != nil || granted == nil {
		t.Fatalf("got %v and %v, want what was granted", granted, err)
	}
	u, err := access.NewUpdate(t.Context(), api, access.UpdateOptions{Granted: granted, Wanted: set, Vendor: vendor.Default(), Edits: choice, Patience: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r := step.Runner{Steps: u.Steps(), Patience: 20 * time.Second}
	return u, r, plan(t, r, step.Present)
}

// updated updates and verifies.
func updated(t *testing.T, a *account, set *access.Set, choice access.Choice) *access.Update {
	t.Helper()
	u, r, p := updateTo(t, a, set, choice)
	if err := r.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := u.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	return u
}

// texts are rights with where they are.
func texts(rights []access.Right) []string {
	var all []string
	for _, r := range rights {
		all = append(all, r.Role+" "+r.In+" "+r.String())
	}
	return all
}

const bucketStatement = `{"Effect":"Allow","Action":"s3:GetBucketPolicy","Resource":"arn:aws:s3:::union-*"}`

func TestAnOlderGrantIsUpdated(t *testing.T) {
	t.Parallel()
	a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
	grant(t, a, set)
	untouched := a.state(t)
	network, iamPolicy := a.policyARN("UnionIAMPolicy-provision-network"), a.policyARN("UnionIAMPolicy-provision-iam")
	a.older(t, network, without(t, a.document(t, network), 0))
	a.older(t, iamPolicy, with(t, a.document(t, iamPolicy), bucketStatement))
	_, err := a.TagRole(t.Context(), &iam.TagRoleInput{RoleName: aws.String("union-ai-admin"), Tags: []types.Tag{{Key: aws.String("union:policy-version"), Value: aws.String("0.9.0")}}})
	if err != nil {
		t.Fatal(err)
	}

	u := updated(t, a, set, "")
	if len(u.Edits) != 0 {
		t.Errorf("got edits %v, want none: both documents carry a digest", u.Edits)
	}
	if len(u.Widens) == 0 || u.Widens[0].In != "UnionIAMPolicy-provision-network" {
		t.Errorf("got widens %v, want what the older policy lacked", texts(u.Widens))
	}
	if got := texts(u.Narrows); len(got) != 1 || got[0] != "union-ai-admin UnionIAMPolicy-provision-iam narrows: s3:GetBucketPolicy on arn:aws:s3:::union-* (Read)" {
		t.Errorf("got narrows %v, want s3:GetBucketPolicy", got)
	}
	if got := a.state(t); got != untouched {
		t.Errorf("got another account than one that was granted now:\n%s", got)
	}
	if _, _, p := updateTo(t, a, set, ""); p.Writes() {
		t.Errorf("got %s, want nothing to do", p.Summary())
	}
}

// state is what the account has, but for ids, times and versions that are not in force.
func (a *account) state(t *testing.T) string {
	t.Helper()
	out, err := a.GetAccountAuthorizationDetails(t.Context(), &iam.GetAccountAuthorizationDetailsInput{Filter: []types.EntityType{types.EntityTypeRole, types.EntityTypeLocalManagedPolicy}})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	tags := func(of []types.Tag) string {
		var all []string
		for _, tag := range of {
			all = append(all, *tag.Key+"="+*tag.Value)
		}
		slices.Sort(all)
		return strings.Join(all, ",")
	}
	for _, r := range out.RoleDetailList {
		var parts []string
		for _, p := range r.AttachedManagedPolicies {
			parts = append(parts, *p.PolicyArn)
		}
		for _, p := range r.RolePolicyList {
			parts = append(parts, *p.PolicyName+*p.PolicyDocument)
		}
		slices.Sort(parts)
		boundary := ""
		if r.PermissionsBoundary != nil {
			boundary = *r.PermissionsBoundary.PermissionsBoundaryArn
		}
		role, err := a.GetRole(t.Context(), &iam.GetRoleInput{RoleName: r.RoleName})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(*r.Arn, *r.AssumeRolePolicyDocument, boundary, *role.Role.MaxSessionDuration, tags(r.Tags), parts))
	}
	for _, p := range out.Policies {
		got, err := a.GetPolicy(t.Context(), &iam.GetPolicyInput{PolicyArn: p.Arn})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(*p.Arn, a.document(t, *p.Arn), tags(got.Policy.Tags)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestAPolicyOfFiveVersionsLosesItsOldest(t *testing.T) {
	t.Parallel()
	a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
	grant(t, a, set)
	arn := a.policyARN("UnionIAMPolicy-provision-data")
	wanted := a.document(t, arn)
	for i := range 4 {
		a.older(t, arn, with(t, wanted, strings.Replace(bucketStatement, "union-", fmt.Sprintf("union-%d", i), 1)))
	}
	if _, err := a.SetDefaultPolicyVersion(t.Context(), &iam.SetDefaultPolicyVersionInput{PolicyArn: &arn, VersionId: aws.String("v3")}); err != nil {
		t.Fatal(err)
	}
	a.tagPolicy(t, arn, digestOf(t, a.document(t, arn)))
	_, _, p := updateTo(t, a, set, "")
	var details string
	for _, s := range p.With(step.Update) {
		details += strings.Join(s.Details, "; ")
	}
	if !strings.Contains(details, "v1, the oldest that is not in force, is deleted") {
		t.Errorf("got %q, want the version that goes named", details)
	}
	updated(t, a, set, "")
	out, err := a.ListPolicyVersions(t.Context(), &iam.ListPolicyVersionsInput{PolicyArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, v := range out.Versions {
		ids = append(ids, *v.VersionId)
	}
	slices.Sort(ids)
	if got := strings.Join(ids, " "); got != "v2 v3 v4 v5 v6" || a.document(t, arn) != wanted {
		t.Errorf("got versions %s, want v2 to v6, the last with the wanted document", got)
	}
}

func (a *account) tagPolicy(t *testing.T, arn, digests string) {
	t.Helper()
	_, err := a.TagPolicy(t.Context(), &iam.TagPolicyInput{PolicyArn: &arn, Tags: []types.Tag{{Key: aws.String("union:document"), Value: &digests}}})
	if err != nil {
		t.Fatal(err)
	}
}

// edits makes every kind of edit by hand that there is.
func edits(t *testing.T, a *account) {
	t.Helper()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := a.policyARN("UnionIAMPolicy-provision-data")
	a.edit(t, data, with(t, a.document(t, data), bucketStatement))
	boundary := a.policyARN("UnionIAMPolicy-boundary")
	a.edit(t, boundary, with(t, a.document(t, boundary), bucketStatement))
	observe, provision := aws.String("union-ai-admin-observe"), aws.String("union-ai-admin")
	must(a.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: observe, PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + customerID + `:root"},"Action":"sts:AssumeRole"}]}`)}))
	must(a.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: observe, PolicyName: aws.String("mine"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` + bucketStatement + `]}`)}))
	must(a.UpdateRole(t.Context(), &iam.UpdateRoleInput{RoleName: observe, MaxSessionDuration: aws.Int32(7200)}))
	own, err := a.CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: aws.String("own"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` + bucketStatement + `]}`)})
	must(own, err)
	must(a.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: provision, PolicyArn: own.Policy.Arn}))
	must(a.PutRolePermissionsBoundary(t.Context(), &iam.PutRolePermissionsBoundaryInput{RoleName: provision, PermissionsBoundary: own.Policy.Arn}))
	must(a.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("unionai-access-eu-central-1-ecs-task-role"), PolicyName: aws.String("AllowSSMMessageChannels"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` + bucketStatement + `]}`)}))
}

func TestEditsByHand(t *testing.T) {
	t.Parallel()
	t.Run("they are refused until somebody chooses", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		edits(t, a)
		before := a.state(t)
		u, r, p := updateTo(t, a, set, "")
		var what []string
		for _, e := range u.Edits {
			what = append(what, e.String())
		}
		want := []string{
			"policy UnionIAMPolicy-boundary", "policy UnionIAMPolicy-provision-data of role union-ai-admin",
			"permissions boundary of role union-ai-admin", "policy arn:aws:iam::111122223333:policy/own of role union-ai-admin",
			"trust policy of role union-ai-admin-observe", "length of sessions of role union-ai-admin-observe", "inline policy mine of role union-ai-admin-observe",
			"inline policy AllowSSMMessageChannels of role unionai-access-eu-central-1-ecs-task-role",
		}
		if !slices.Equal(what, want) {
			t.Errorf("got %q, want %q", what, want)
		}
		if got := actions(p); !strings.HasSuffix(got, "refuse 5") {
			t.Errorf("got %s, want five steps refused", got)
		}
		var refused *step.RefusedError
		if err := r.Apply(t.Context(), p); !errors.As(err, &refused) {
			t.Errorf("got %v, want a refusal", err)
		}
		if a.state(t) != before {
			t.Error("got a changed account, want it untouched")
		}
	})
	t.Run("they are put back", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		want := a.state(t)
		edits(t, a)
		updated(t, a, set, access.Restore)
		arn := "arn:aws:iam::" + customerID + ":policy/own"
		if _, err := a.DeletePolicy(t.Context(), &iam.DeletePolicyInput{PolicyArn: &arn}); err != nil {
			t.Errorf("got %v, want the customer's policy detached and still there", err)
		}
		if got := a.state(t); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("they stay", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		edits(t, a)
		before := a.state(t)
		network := a.policyARN("UnionIAMPolicy-provision-network")
		a.older(t, network, without(t, a.document(t, network), 0))
		updated(t, a, set, access.Keep)
		if got := a.state(t); got != before {
			t.Errorf("got\n%s\nwant what was edited as it was, and the rest as wanted:\n%s", got, before)
		}
		if u, _, _ := updateTo(t, a, set, ""); len(u.Edits) == 0 {
			t.Error("got no edits the next time, want them shown again")
		}
	})
}

func TestWhatIsNoEdit(t *testing.T) {
	t.Parallel()
	a := newAccount(t, awsidentity.Options{})
	set := generate(t, nil)
	grant(t, a, set)
	t.Run("a grant of before there were digests", func(t *testing.T) {
		arn := a.policyARN("UnionIAMPolicy-operate-read")
		a.edit(t, arn, with(t, a.document(t, arn), bucketStatement))
		if _, err := a.UntagPolicy(t.Context(), &iam.UntagPolicyInput{PolicyArn: &arn, TagKeys: []string{"union:document"}}); err != nil {
			t.Fatal(err)
		}
		if u := updated(t, a, set, ""); len(u.Edits) != 0 || len(u.Narrows) != 1 {
			t.Errorf("got edits %v and narrows %v, want the difference alone", u.Edits, u.Narrows)
		}
	})
	t.Run("a run that was killed between mark and version", func(t *testing.T) {
		arn := a.policyARN("UnionIAMPolicy-operate-read")
		wanted := a.document(t, arn)
		old := with(t, wanted, bucketStatement)
		a.edit(t, arn, old)
		a.tagPolicy(t, arn, digestOf(t, wanted)+" "+digestOf(t, old))
		if u := updated(t, a, set, ""); len(u.Edits) != 0 {
			t.Errorf("got edits %v, want none", u.Edits)
		}
	})
	t.Run("a rotation, whose two values stay", func(t *testing.T) {
		rotating := generate(t, func(o *access.Options) { o.PreviousExternalID, o.ExternalID = externalID, "another-external-id" })
		for _, r := range rotating.Roles {
			if _, err := a.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: &r.Name, PolicyDocument: aws.String(string(r.Trust.Document))}); err != nil {
				t.Fatal(err)
			}
		}
		before := a.state(t)
		granted, err := access.ReadGranted(t.Context(), a, "aws", customerID, vendor.Default())
		if err != nil {
			t.Fatal(err)
		}
		kept, err := access.Generate(granted.Options(customerID, vendor.Default()))
		if err != nil {
			t.Fatal(err)
		}
		u := updated(t, a, kept, "")
		if len(u.Edits)+len(u.Widens)+len(u.Narrows) != 0 || a.state(t) != before {
			t.Errorf("got edits %v, widens %v, narrows %v, want nothing", u.Edits, u.Widens, u.Narrows)
		}
	})
}

// refusing refuses the nth write, and lets the others through.
type refusing struct {
	n, writes int
	names     []string
}

func (r *refusing) middleware(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("refusing", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		name := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", in.Parameters), "*iam."), "Input")
		if strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") {
			return next.HandleInitialize(ctx, in)
		}
		r.writes++
		r.names = append(r.names, name)
		if r.writes == r.n {
			return middleware.InitializeOutput{}, middleware.Metadata{}, &smithy.GenericAPIError{Code: "AccessDenied", Message: "with an explicit deny in a service control policy"}
		}
		return next.HandleInitialize(ctx, in)
	}), middleware.Before)
}

func (a *account) refusing(r *refusing) *iam.Client {
	o := a.Options().Copy()
	o.APIOptions = append(o.APIOptions, r.middleware)
	return iam.New(o)
}

// Every write of an update that makes, changes and removes is refused once.
func TestWhatFailsIsTakenBack(t *testing.T) {
	t.Parallel()
	a := newAccount(t, awsidentity.Options{})
	compat := func(endpoint bool) *access.Set {
		return generate(t, func(o *access.Options) { o.Profile, o.PrivateEndpoint = access.Compat, endpoint })
	}
	grant(t, a, compat(true))
	// Trust, boundary and an inline policy are others, too.
	_, err := a.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("union-ai-admin"), PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + vendorID + `:root"},"Action":"sts:AssumeRole","Condition":{"StringLike":{"sts:ExternalId":"` + externalID + `"}}}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("union-ai-admin"), PolicyName: aws.String("old"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` + bucketStatement + `]}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.PutRolePermissionsBoundary(t.Context(), &iam.PutRolePermissionsBoundaryInput{RoleName: aws.String("union-ai-admin"), PermissionsBoundary: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")}); err != nil {
		t.Fatal(err)
	}
	before := a.state(t)
	wanted := compat(false)
	for n := 1; ; n++ {
		r := &refusing{n: n}
		u, run, p := updateTo(t, a.refusing(r), wanted, access.Restore)
		err := run.Apply(t.Context(), p)
		if err == nil {
			if n < 20 {
				t.Fatalf("got %d writes, want an update of more", n)
			}
			break
		}
		r.n = 0
		if err := u.Undo(t.Context()); err != nil {
			t.Fatalf("after %v: %v", r.names, err)
		}
		if got := a.state(t); got != before {
			t.Fatalf("write %d, %s, was refused, and what was taken back is another account:\n%s\nwant\n%s", n, r.names[n-1], got, before)
		}
	}
}

// allowed are the calls of the table that a role may make now.
func (a *account) allowed(t *testing.T, role string, names operations.Names) map[string]bool {
	t.Helper()
	var p iampolicy.Policies
	out, err := a.ListAttachedRolePolicies(t.Context(), &iam.ListAttachedRolePoliciesInput{RoleName: &role})
	if err != nil {
		t.Fatal(err)
	}
	for _, attached := range out.AttachedPolicies {
		d, err := iampolicy.Parse(*attached.PolicyName, []byte(a.document(t, *attached.PolicyArn)))
		if err != nil {
			t.Fatal(err)
		}
		p.Identity = append(p.Identity, d)
	}
	e, err := iampolicy.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, op := range operations.Operations() {
		for _, g := range op.Grants {
			for _, action := range g.Actions {
				for _, resource := range g.Resources {
					r := &iampolicy.Request{Action: action, Resource: names.Example(resource), Context: iampolicy.Context{},
						Principal: iampolicy.Principal{Type: iampolicy.AWS, Account: customerID, ARN: "arn:aws:sts::" + customerID + ":assumed-role/" + role + "/x"}}
					if e.Decide(r) == iampolicy.Allowed {
						allowed[action+" "+r.Resource] = true
					}
				}
			}
		}
	}
	return allowed
}

// Compat's policies are packed anew when the private endpoint comes, so that rights move
// between all of them.
func TestARoleNeverHasLessThanBeforeAndAfter(t *testing.T) {
	t.Parallel()
	a := newAccount(t, awsidentity.Options{})
	compat := func(endpoint bool) *access.Set {
		return generate(t, func(o *access.Options) { o.Profile, o.PrivateEndpoint = access.Compat, endpoint })
	}
	grant(t, a, compat(false))
	names := operations.CompatNames(operations.Place{Partition: "aws", DNSSuffix: "amazonaws.com", Region: region, Account: customerID}, vendor.Default())
	for _, endpoint := range []bool{true, false} {
		before := a.allowed(t, "union-ai-admin", names)
		var moments []map[string]bool
		o := a.Options().Copy()
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("watching", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				out, metadata, err := next.HandleInitialize(ctx, in)
				switch in.Parameters.(type) {
				case *iam.CreatePolicyVersionInput, *iam.DetachRolePolicyInput, *iam.AttachRolePolicyInput:
					moments = append(moments, a.allowed(t, "union-ai-admin", names))
				}
				return out, metadata, err
			}), middleware.Before)
		})
		u, r, p := updateTo(t, iam.New(o), compat(endpoint), "")
		r.Parallel = 1
		if err := r.Apply(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if err := u.Verify(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := a.allowed(t, "union-ai-admin", names)
		for i, now := range moments {
			for call := range before {
				if after[call] && !now[call] {
					t.Errorf("private endpoint %v, after change %d of %d: got no %s, which it has before and after", endpoint, i+1, len(moments), call)
				}
			}
		}
		if got := a.names(t); slices.ContainsFunc(got, func(n string) bool { return strings.HasSuffix(n, "-before") }) {
			t.Errorf("got %v, want no policy left that was there in the meantime", got)
		}
	}
}

// tags is a tagging service that knows a thing of each of these components.
type tags struct{ components []string }

func (f tags) GetResources(_ context.Context, in *resourcegroupstaggingapi.GetResourcesInput, _ ...func(*resourcegroupstaggingapi.Options)) (*resourcegroupstaggingapi.GetResourcesOutput, error) {
	out := &resourcegroupstaggingapi.GetResourcesOutput{}
	for _, filter := range in.TagFilters {
		if *filter.Key == "union:component" && slices.Contains(f.components, filter.Values[0]) {
			out.ResourceTagMappingList = append(out.ResourceTagMappingList, tagging.ResourceTagMapping{})
		}
	}
	return out, nil
}

func TestWhatADataPlaneNeeds(t *testing.T) {
	t.Parallel()
	a := newAccount(t, awsidentity.Options{})
	set := generate(t, nil)
	grant(t, a, set)
	needed := func(wanted *access.Set, of tags) []access.Need {
		t.Helper()
		u, _, _ := updateTo(t, a, wanted, access.Restore)
		needs, err := u.Needed(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		return needs
	}
	narrower := generate(t, nil)
	for i, p := range narrower.Roles[1].Policies {
		if p.Name == "UnionIAMPolicy-operate-cluster" {
			narrower.Roles[1].Policies[i].Document = []byte(strings.Replace(string(p.Document), `"eks:UpdateClusterVersion"`, `"eks:ListUpdates"`, 1))
		}
	}
	withoutEndpoint := generate(t, func(o *access.Options) { o.PrivateEndpoint = false })
	if got := needed(narrower, tags{}); len(got) != 0 {
		t.Errorf("got %v, want nothing needed where there is no data plane", got)
	}

	_, err := a.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("union-demo-cluster"), Path: aws.String("/union/"), PermissionsBoundary: aws.String(a.policyARN("UnionIAMPolicy-boundary")),
		AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"eks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`),
		Tags: []types.Tag{
			{Key: aws.String("union:managed-by"), Value: aws.String("biplane")}, {Key: aws.String("union:component"), Value: aws.String("cluster")}, {Key: aws.String("union:data-plane-id"), Value: aws.String("demo")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := needed(narrower, tags{})
	if len(got) != 1 || !strings.HasPrefix(got[0].String(), "data plane demo needs eks:UpdateClusterVersion on arn:aws:eks:eu-central-1:111122223333:cluster/union-demo, with which role union-ai-admin-operate ") {
		t.Errorf("got %v, want the call named", got)
	}
	if got := needed(withoutEndpoint, tags{}); len(got) != 0 {
		t.Errorf("got %v, want nothing needed while no private endpoint stands", got)
	}
	if got := needed(withoutEndpoint, tags{[]string{"endpoint"}}); len(got) == 0 {
		t.Error("got nothing, want what a private endpoint that stands needs")
	}
	other := vendor.Default()
	other.Prefix = "biplane-"
	renamed := generate(t, func(o *access.Options) { o.Vendor, o.PrivateEndpoint = other, false })
	if got := needed(renamed, tags{}); len(got) == 0 || !strings.Contains(got[0].Resource, "union-demo") && !strings.Contains(fmt.Sprint(got), "cluster/union-demo") {
		t.Errorf("got %v, want what the data plane needs by its own prefix", got)
	}
}

func TestAnotherPathIsRefused(t *testing.T) {
	t.Parallel()
	a := newAccount(t, awsidentity.Options{})
	compat := generate(t, func(o *access.Options) { o.Profile, o.PrivateEndpoint = access.Compat, false })
	grant(t, a, compat)
	granted, err := access.ReadGranted(t.Context(), a, "aws", customerID, vendor.Default())
	if err != nil {
		t.Fatal(err)
	}
	_, err = access.NewUpdate(t.Context(), a, access.UpdateOptions{Granted: granted, Wanted: generate(t, nil), Vendor: vendor.Default()})
	var refused *usererr.Error
	if !errors.As(err, &refused) || refused.Kind != usererr.Refused || !strings.Contains(refused.Error(), "arn:aws:iam::111122223333:role/union/union-ai-admin") {
		t.Errorf("got %v, want a refusal that names both ARNs", err)
	}
}
