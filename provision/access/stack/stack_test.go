package stack_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/stack"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

const (
	account    = "123456789012"
	region     = "eu-central-1"
	externalID = "5Zq0v3l1x8mTfKcW2hYbNg"
	name       = "UnionCloudAccess"
)

// world is a customer's account on a double of its own.
type world struct {
	stack.Place
	cfn *cloudformation.Client
	iam *iam.Client
	s3  *s3.Client
}

func newWorld(t *testing.T, o awsdouble.Options) *world {
	t.Helper()
	double, err := awsdouble.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { double.Stop() })
	key := double.Accounts().Customer.Credentials
	cfg := aws.Config{
		Region: region, BaseEndpoint: aws.String(double.URL()), Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, ""),
		APIOptions: append(aws.Config{}.APIOptions, operations.Guard(operations.Everyone)),
	}
	w := &world{cfn: cloudformation.NewFromConfig(cfg), iam: iam.NewFromConfig(cfg), s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })}
	w.Place = stack.Place{CloudFormation: w.cfn, IAM: w.iam, S3: w.s3, Partition: "aws", Account: account, Region: region, Vendor: vendor.Default()}
	return w
}

// withMoto has S3, too.
func withMoto(t *testing.T) awsdouble.Options {
	t.Helper()
	moto, err := filepath.Abs("../../../.cache/venv/bin/moto_server")
	if err != nil {
		t.Fatal(err)
	}
	return awsdouble.Options{Moto: moto}
}

func options(change func(*access.Options)) access.Options {
	o := access.Options{Profile: access.Compat, Account: account, Region: region, ExternalID: externalID, Vendor: vendor.Default()}
	if change != nil {
		change(&o)
	}
	return o
}

func strict(o *access.Options) { o.Profile, o.DeletePermissions = access.Strict, true }

// wanted is what a grant with o would have.
func wanted(t *testing.T, o access.Options) stack.Wanted {
	t.Helper()
	set, err := access.Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	made, err := template.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return stack.Wanted{Name: name, Set: set, Template: made.Bytes(template.JSON), Parameters: template.Parameters(o)}
}

func runner(steps ...step.Step) step.Runner { return step.Runner{Steps: steps} }

func (w *world) plan(t *testing.T, want stack.Wanted) (step.Runner, step.Plan) {
	t.Helper()
	steps, err := stack.GrantSteps(t.Context(), w.Place, want)
	if err != nil {
		t.Fatal(err)
	}
	r := runner(steps...)
	p, err := r.Plan(t.Context(), step.Present)
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

// apply plans and carries it out; the action is that of the stack.
func (w *world) apply(t *testing.T, want stack.Wanted) (step.Action, error) {
	t.Helper()
	r, p := w.plan(t, want)
	return p.Steps[0].Action, r.Apply(t.Context(), p)
}

func (w *world) grant(t *testing.T, want stack.Wanted) {
	t.Helper()
	if action, err := w.apply(t, want); err != nil {
		t.Fatalf("%s: %v", action, err)
	}
}

// refusal is why a plan is refused.
func (w *world) refusal(t *testing.T, want stack.Wanted) string {
	t.Helper()
	_, p := w.plan(t, want)
	var words []string
	for _, s := range p.With(step.Refuse) {
		words = append(words, s.Name+": "+strings.Join(s.Details, "; ")+" ("+s.Hint+")")
	}
	return strings.Join(words, "\n")
}

func (w *world) remove(t *testing.T) (step.Plan, error) {
	t.Helper()
	r := runner(stack.Removal(w.Place, name))
	p, err := r.Plan(t.Context(), step.Absent)
	if err != nil {
		t.Fatal(err)
	}
	return p, r.Apply(t.Context(), p)
}

func (w *world) read(t *testing.T) *stack.Stack {
	t.Helper()
	s, err := stack.Read(t.Context(), w.cfn, w.Vendor, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) status(t *testing.T) types.StackStatus {
	t.Helper()
	if s := w.read(t); s != nil {
		return s.Status
	}
	return ""
}

func (w *world) until(t *testing.T, want types.StackStatus) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if w.status(t) == want {
			return
		}
	}
	t.Fatalf("got %s, want it to become %s", w.status(t), want)
}

func ptr[T any](v T) *T { return &v }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// propose makes a change set as somebody else would.
func (w *world) propose(t *testing.T, set string, body []byte, parameters map[string]string) {
	t.Helper()
	in := &cloudformation.CreateChangeSetInput{StackName: ptr(name), ChangeSetName: &set, ChangeSetType: types.ChangeSetTypeCreate, TemplateBody: ptr(string(body)),
		Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}}
	for k, v := range parameters {
		in.Parameters = append(in.Parameters, types.Parameter{ParameterKey: ptr(k), ParameterValue: ptr(v)})
	}
	must[*cloudformation.CreateChangeSetOutput](t)(w.cfn.CreateChangeSet(t.Context(), in))
	err := cloudformation.NewChangeSetCreateCompleteWaiter(w.cfn, func(o *cloudformation.ChangeSetCreateCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 20*time.Millisecond
	}).
		Wait(t.Context(), &cloudformation.DescribeChangeSetInput{StackName: ptr(name), ChangeSetName: &set}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
}

// foreign is a template of somebody else's.
const foreign = `{"Resources":{"Role":{"Type":"AWS::IAM::Role","Properties":{"RoleName":"theirs","AssumeRolePolicyDocument":{"Version":"2012-10-17","Statement":[]}}}}}`

// create makes a stack in one call, as somebody else would.
func (w *world) create(t *testing.T, body []byte, parameters map[string]string) {
	t.Helper()
	in := &cloudformation.CreateStackInput{StackName: ptr(name), TemplateBody: ptr(string(body)), Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}}
	for k, v := range parameters {
		in.Parameters = append(in.Parameters, types.Parameter{ParameterKey: ptr(k), ParameterValue: ptr(v)})
	}
	must[*cloudformation.CreateStackOutput](t)(w.cfn.CreateStack(t.Context(), in))
}

const nobody = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}`

// occupy takes the provision role's name, so that CloudFormation fails.
func (w *world) occupy(t *testing.T) {
	t.Helper()
	must[*iam.CreateRoleOutput](t)(w.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: ptr(w.Vendor.RoleName), AssumeRolePolicyDocument: ptr(nobody)}))
}

func (w *world) vacate(t *testing.T) {
	t.Helper()
	must[*iam.DeleteRoleOutput](t)(w.iam.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: ptr(w.Vendor.RoleName)}))
}

// makeAnyway makes the stack whatever stands in its way.
func (w *world) makeAnyway(t *testing.T, want stack.Wanted) error {
	t.Helper()
	r := runner(stack.NewStep(w.Place, want))
	p, err := r.Plan(t.Context(), step.Present)
	if err != nil {
		t.Fatal(err)
	}
	return r.Apply(t.Context(), p)
}

func TestTheStackIsMadeAndKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awsdouble.Options{})
	want := wanted(t, options(nil))
	if action, err := w.apply(t, want); action != step.Create || err != nil {
		t.Fatalf("got %s, %v, want it made", action, err)
	}
	s := w.read(t)
	if s.Status != types.StackStatusCreateComplete || !s.Ours || !s.Protected || s.Outputs[template.RoleArnOutput] != want.Set.RoleARN(want.Set.Roles[0]) {
		t.Errorf("got %+v, want it made, protected, with the role's ARN", s)
	}
	policy := must[*cloudformation.GetStackPolicyOutput](t)(w.cfn.GetStackPolicy(t.Context(), &cloudformation.GetStackPolicyInput{StackName: ptr(name)}))
	if body := aws.ToString(policy.StackPolicyBody); !strings.Contains(body, "Update:Replace") || !strings.Contains(body, "AWS::IAM::Role") {
		t.Errorf("got the stack policy %q, want the roles kept", body)
	}
	if action, err := w.apply(t, want); action != step.Keep || err != nil {
		t.Errorf("got %s, %v the second time, want keep", action, err)
	}
}

func TestBothWaysGrantTheSame(t *testing.T) {
	t.Parallel()
	for _, profile := range []struct {
		name    string
		change  func(*access.Options)
		options func(*testing.T) awsdouble.Options
	}{
		{"compat", func(o *access.Options) { o.PrivateEndpoint = true }, func(*testing.T) awsdouble.Options { return awsdouble.Options{} }},
		{"strict", func(o *access.Options) { strict(o); o.PrivateEndpoint = true }, withMoto},
	} {
		t.Run(profile.name, func(t *testing.T) {
			t.Parallel()
			o := options(profile.change)
			byStack, byIAM := newWorld(t, profile.options(t)), newWorld(t, awsdouble.Options{})
			want := wanted(t, o)
			byStack.grant(t, want)
			r := runner(access.GrantSteps(byIAM.iam, want.Set, o.Vendor)...)
			p, err := r.Plan(t.Context(), step.Present)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Apply(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			for way, w := range map[string]*world{"stack": byStack, "IAM": byIAM} {
				if failed := w.compare(t, want.Set); len(failed) > 0 {
					t.Errorf("by %s: got %v, want what was generated", way, failed)
				}
			}
			// What is missing is named.
			lacking := *want.Set
			role := lacking.Roles[0]
			role.Policies = slices.Clone(role.Policies)
			document, dropped := withoutOneAction(t, role.Policies[0].Document)
			role.Policies[0].Document = document
			lacking.Roles = append([]access.Role{role}, lacking.Roles[1:]...)
			failed := strings.Join(byStack.compare(t, &lacking), "\n")
			if !strings.Contains(failed, dropped) || !strings.Contains(failed, role.Policies[0].Name) {
				t.Errorf("got %q, want %s of policy %s named", failed, dropped, role.Policies[0].Name)
			}
		})
	}
}

// compare names what in the account is not as the set.
func (w *world) compare(t *testing.T, set *access.Set) []string {
	t.Helper()
	report := must[*access.Report](t)((&access.Checker{Set: set, Vendor: w.Vendor, RoleARN: set.RoleARN(set.Roles[0])}).Documents(t.Context(), w.iam))
	var failed []string
	for _, row := range report.Rows {
		if row.Result != access.Pass {
			failed = append(failed, row.Check+" "+row.Target+": "+row.Why)
		}
	}
	return failed
}

// withoutOneAction is a document that lacks the last of its actions.
func withoutOneAction(t *testing.T, document []byte) ([]byte, string) {
	t.Helper()
	const key = `"Action":[`
	start := bytes.Index(document, []byte(key))
	if start < 0 {
		t.Fatalf("no list of actions in %s", document)
	}
	end := start + bytes.IndexByte(document[start:], ']')
	actions := strings.Split(string(document[start+len(key):end]), ",")
	if len(actions) < 2 {
		t.Fatalf("one action in %s", document)
	}
	last := len(actions) - 1
	return slices.Concat(document[:start], []byte(key+strings.Join(actions[:last], ",")), document[end:]), strings.Trim(actions[last], `"`)
}

func TestLookingAtAStackInAnyState(t *testing.T) {
	t.Parallel()
	other := options(func(o *access.Options) { o.ExternalID = "another-external-id" })
	for _, c := range []struct {
		name string
		have func(t *testing.T, w *world)
		want step.Action
	}{
		{"it goes on with its own change set", func(t *testing.T, w *world) {
			// A run that is interrupted once its change set is there.
			ctx, cancel := context.WithCancel(t.Context())
			r := runner(stack.NewStep(w.Place, wanted(t, options(nil))))
			r.Progress = func(e step.Event) {
				if e.Stage == step.Waiting {
					cancel()
				}
			}
			p := must[step.Plan](t)(r.Plan(ctx, step.Present))
			if err := r.Apply(ctx, p); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want it interrupted", err)
			}
		}, step.Finish},
		{"it drops a change set of ours for something else", func(t *testing.T, w *world) {
			w.propose(t, "earlier", wanted(t, other).Template, wanted(t, other).Parameters)
		}, step.Create},
		{"it uses a name that nothing is behind", func(t *testing.T, w *world) {
			w.propose(t, "gone", []byte(foreign), nil)
			must[*cloudformation.DeleteChangeSetOutput](t)(w.cfn.DeleteChangeSet(t.Context(), &cloudformation.DeleteChangeSetInput{StackName: ptr(name), ChangeSetName: ptr("gone")}))
		}, step.Create},
		{"it waits for what an earlier run began", func(t *testing.T, w *world) {
			w.create(t, wanted(t, options(nil)).Template, wanted(t, options(nil)).Parameters)
		}, step.Finish},
		{"it protects a stack that was launched by a link", func(t *testing.T, w *world) {
			w.create(t, wanted(t, options(nil)).Template, wanted(t, options(nil)).Parameters)
			w.until(t, types.StackStatusCreateComplete)
		}, step.Finish},
		{"it makes one anew whose creation was rolled back", func(t *testing.T, w *world) {
			w.occupy(t)
			w.create(t, wanted(t, options(nil)).Template, wanted(t, options(nil)).Parameters)
			w.until(t, types.StackStatusRollbackComplete)
			w.vacate(t)
		}, step.Replace},
		{"it makes one anew that is being deleted", func(t *testing.T, w *world) {
			w.create(t, wanted(t, options(nil)).Template, wanted(t, options(nil)).Parameters)
			w.until(t, types.StackStatusCreateComplete)
			must[*cloudformation.DeleteStackOutput](t)(w.cfn.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: ptr(name)}))
		}, step.Create},
		{"it makes one anew that could not be deleted", func(t *testing.T, w *world) {
			w.create(t, wanted(t, options(nil)).Template, wanted(t, options(nil)).Parameters)
			w.until(t, types.StackStatusCreateComplete)
			must[*iam.AttachRolePolicyOutput](t)(w.iam.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: ptr(w.Vendor.RoleName), PolicyArn: ptr("arn:aws:iam::aws:policy/ReadOnlyAccess")}))
			must[*cloudformation.DeleteStackOutput](t)(w.cfn.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: ptr(name)}))
			w.until(t, types.StackStatusDeleteFailed)
		}, step.Replace},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, awsdouble.Options{})
			c.have(t, w)
			want := wanted(t, options(nil))
			action, err := w.apply(t, want)
			// A clock that runs fast may have ended what was in progress.
			if action != c.want && !(c.want == step.Create && action == step.Create) || err != nil {
				t.Fatalf("got %s, %v, want %s", action, err, c.want)
			}
			if failed := w.compare(t, want.Set); w.status(t) != types.StackStatusCreateComplete || len(failed) > 0 {
				t.Errorf("got it in %s, with %v, want it made", w.status(t), failed)
			}
			if action, err := w.apply(t, want); action != step.Keep || err != nil {
				t.Errorf("got %s, %v the second time, want keep", action, err)
			}
		})
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		have func(t *testing.T, w *world)
		want []string
	}{
		{"it refuses a stack of somebody else's", func(t *testing.T, w *world) {
			w.create(t, []byte(foreign), nil)
		}, []string{"stack UnionCloudAccess: it was made by somebody else", "stackName"}},
		{"it refuses a change set of somebody else's", func(t *testing.T, w *world) {
			w.propose(t, "theirs", []byte(foreign), nil)
		}, []string{"change set theirs, which somebody else proposed"}},
		{"it refuses another external ID", func(t *testing.T, w *world) {
			w.grant(t, wanted(t, options(func(o *access.Options) { o.ExternalID = "another-external-id" })))
		}, []string{`its ExternalId is "another-external-id", wanted "` + externalID + `"`, "biplane access update"}},
		{"it refuses another switch, and names it", func(t *testing.T, w *world) {
			w.grant(t, wanted(t, options(func(o *access.Options) { o.PrivateEndpoint = true })))
		}, []string{"--private-endpoint true, wanted false"}},
		{"it refuses roles that were granted by IAM", func(t *testing.T, w *world) {
			want := wanted(t, options(nil))
			r := runner(access.GrantSteps(w.iam, want.Set, w.Vendor)...)
			if err := r.Apply(t.Context(), must[step.Plan](t)(r.Plan(t.Context(), step.Present))); err != nil {
				t.Fatal(err)
			}
		}, []string{"role union-ai-admin: it was granted by --method iam", "--method iam"}},
		{"it refuses a role of somebody else's", func(t *testing.T, w *world) { w.occupy(t) },
			[]string{"role union-ai-admin: it was made by somebody else", "rename or delete it"}},
		{"it refuses what was changed by hand", func(t *testing.T, w *world) {
			w.grant(t, wanted(t, options(nil)))
			must[*iam.AttachRolePolicyOutput](t)(w.iam.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: ptr(w.Vendor.RoleName), PolicyArn: ptr("arn:aws:iam::aws:policy/ReadOnlyAccess")}))
		}, []string{"changed by hand", "ReadOnlyAccess", "biplane access update"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, awsdouble.Options{})
			c.have(t, w)
			got := w.refusal(t, wanted(t, options(nil)))
			for _, words := range c.want {
				if !strings.Contains(got, words) {
					t.Errorf("got %q, want %q in it", got, words)
				}
			}
		})
	}
}

func TestACreationThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awsdouble.Options{})
	w.occupy(t)
	err := w.makeAnyway(t, wanted(t, options(nil)))
	var said *usererr.Error
	if !errors.As(err, &said) || !strings.Contains(said.Error(), "could not be made") || !strings.Contains(said.Error(), "AWS::IAM::Role ProvisionRole") || !strings.Contains(said.Hint, "run the same command again") {
		t.Fatalf("got %v, want the failed role named", err)
	}
	w.vacate(t)
	if action, err := w.apply(t, wanted(t, options(nil))); action != step.Replace || err != nil {
		t.Errorf("got %s, %v, want it made anew", action, err)
	}
}

func TestAStackIsChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awsdouble.Options{})
	before := options(func(o *access.Options) { o.PrivateEndpoint = true })
	w.grant(t, wanted(t, before))

	// Parameters alone, with the template that is in use; the others keep their values.
	rotating := stack.Wanted{Name: name, MayChange: true, Parameters: map[string]string{template.ExternalIDParameter: "another-external-id", template.PreviousExternalIDParameter: externalID}}
	if action, err := w.apply(t, stack.Wanted{Name: name, Set: wanted(t, before).Set, MayChange: true, Parameters: rotating.Parameters}); action != step.Update || err != nil {
		t.Fatalf("got %s, %v, want the parameters changed", action, err)
	}
	both := before
	both.ExternalID, both.PreviousExternalID = "another-external-id", externalID
	if failed := w.compare(t, wanted(t, both).Set); len(failed) > 0 {
		t.Errorf("got %v, want both values in the trust", failed)
	}

	// Fewer roles: the stack policy gives way for as long.
	fewer := both
	fewer.PrivateEndpoint = false
	want := wanted(t, fewer)
	want.MayChange = true
	if action, err := w.apply(t, want); action != step.Update || err != nil {
		t.Fatalf("got %s, %v, want the private endpoint's roles gone", action, err)
	}
	if failed := w.compare(t, want.Set); len(failed) > 0 {
		t.Errorf("got %v, want what is wanted", failed)
	}
	if action, err := w.apply(t, want); action != step.Keep || err != nil {
		t.Errorf("got %s, %v, want its protection as before", action, err)
	}

	// A template that means the same is no failure.
	same := want
	same.Template = bytes.Replace(want.Template, []byte("Opens this account to"), []byte("Opens the account to"), 1)
	if bytes.Equal(same.Template, want.Template) {
		t.Fatal("the template was not changed")
	}
	if action, err := w.apply(t, same); action != step.Update || err != nil {
		t.Errorf("got %s, %v, want a change set without changes to be good", action, err)
	}

	// A role of another name would be another role.
	renamed := want
	renamed.Parameters = map[string]string{template.RoleNameParameter: "another-name"}
	_, err := w.apply(t, renamed)
	if err == nil || !strings.Contains(err.Error(), "would make role union-ai-admin anew") {
		t.Errorf("got %v, want it refused", err)
	}
}

func TestALargeTemplateGoesThroughABucketForTheMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMoto(t))
	want := wanted(t, options(strict))
	bucket := "biplane-access-template-" + account + "-" + region
	plain := s3.NewFromConfig(aws.Config{Region: region, BaseEndpoint: w.s3.Options().BaseEndpoint, Credentials: w.s3.Options().Credentials}, func(o *s3.Options) { o.UsePathStyle = true })
	buckets := func() int {
		n := 0
		for _, b := range must[*s3.ListBucketsOutput](t)(plain.ListBuckets(t.Context(), &s3.ListBucketsInput{})).Buckets {
			if *b.Name == bucket {
				n++
			}
		}
		return n
	}
	if _, p := w.plan(t, want); !strings.Contains(strings.Join(p.Steps[0].Details, "\n"), bucket) {
		t.Errorf("got %v, want the bucket named", p.Steps[0].Details)
	}
	if buckets() != 0 {
		t.Error("got a bucket by planning, want none")
	}
	w.grant(t, want)
	if buckets() != 0 {
		t.Error("got a bucket that is left, want none")
	}
	// One that a run left is found and removed.
	in := &s3.CreateBucketInput{Bucket: &bucket}
	in.CreateBucketConfiguration = bucketOf(w.Vendor)
	must[*s3.CreateBucketOutput](t)(plain.CreateBucket(t.Context(), in))
	must[*s3.PutObjectOutput](t)(plain.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: ptr("left"), Body: strings.NewReader("{}")}))
	if action, err := w.apply(t, want); action != step.Finish || err != nil || buckets() != 0 {
		t.Errorf("got %s, %v and %d buckets, want it removed", action, err, buckets())
	}
}

func TestAPublishedTemplateHasToBeOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMoto(t))
	plain := s3.NewFromConfig(aws.Config{Region: region, BaseEndpoint: w.s3.Options().BaseEndpoint, Credentials: w.s3.Options().Credentials}, func(o *s3.Options) { o.UsePathStyle = true })
	must[*s3.CreateBucketOutput](t)(plain.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: ptr("published"), CreateBucketConfiguration: bucketOf(nil)}))
	want := wanted(t, options(strict))
	put := func(key string, body []byte) {
		must[*s3.PutObjectOutput](t)(plain.PutObject(t.Context(), &s3.PutObjectInput{Bucket: ptr("published"), Key: &key, Body: bytes.NewReader(body)}))
	}
	put("ours.json", want.Template)
	put("theirs.json", bytes.Replace(want.Template, []byte(`"Effect": "Deny"`), []byte(`"Effect": "Allow"`), 1))
	api := func(string) stack.S3 { return w.s3 }
	const at = "https://published.s3.eu-central-1.amazonaws.com/"
	for _, c := range []struct{ url, want string }{
		{at + "theirs.json", "has the SHA-256"},
		{at + "nothing.json", "cannot be read"},
		{"http://published.s3.eu-central-1.amazonaws.com/ours.json", "not the https URL"},
		{"https://example.com/ours.json", "not the https URL"},
		{"https://published.s3.eu-central-1.amazonaws.com.evil.example/ours.json", "not the https URL"},
		{at, "not the https URL"},
	} {
		if _, err := stack.Fetch(t.Context(), api, c.url, want.Template); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.url, err, c.want)
		}
	}
	for _, url := range []string{at + "ours.json", "https://s3.eu-central-1.amazonaws.com/published/ours.json"} {
		text, err := stack.Fetch(t.Context(), api, url, want.Template)
		if err != nil || !bytes.Equal(text, want.Template) {
			t.Errorf("%s: got %v, want the template", url, err)
		}
	}
	// Somebody writes another one between the comparison and AWS's reading.
	want.TemplateURL = at + "theirs.json"
	if _, err := w.apply(t, want); err == nil || !strings.Contains(err.Error(), "read another template") {
		t.Errorf("got %v, want another template found out", err)
	}
	if s := w.status(t); s != types.StackStatusReviewInProgress {
		t.Errorf("got %s, want nothing made", s)
	}
	want.TemplateURL = at + "nothing.json"
	if _, err := w.apply(t, want); err == nil || !strings.Contains(err.Error(), "cannot read the template at "+want.TemplateURL) {
		t.Errorf("got %v, want it said that it is gone", err)
	}
	want.TemplateURL = at + "ours.json"
	w.grant(t, want)
}

func TestAStackIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withMoto(t))
	want := wanted(t, options(strict))
	w.grant(t, want)
	role := ptr(w.Vendor.RoleName)
	boundary := ptr("arn:aws:iam::" + account + ":policy/union/" + want.Set.Boundary.Name)
	ctx := t.Context()
	// What was hung on its roles, and a role of the vendor's that still has the boundary.
	must[*iam.AttachRolePolicyOutput](t)(w.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: role, PolicyArn: ptr("arn:aws:iam::aws:policy/ReadOnlyAccess")}))
	must[*iam.PutRolePolicyOutput](t)(w.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: role, PolicyName: ptr("more"), PolicyDocument: ptr(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)}))
	must[*iam.CreateRoleOutput](t)(w.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: ptr("union-node"), AssumeRolePolicyDocument: ptr(nobody), PermissionsBoundary: boundary}))

	p, err := w.remove(t)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(p.Steps[0].Details, "\n")
	for _, words := range []string{"detach arn:aws:iam::aws:policy/ReadOnlyAccess from role union-ai-admin", "delete inline policy more", "leave " + *boundary + ": it is still used by role union-node"} {
		if !strings.Contains(said, words) {
			t.Errorf("got %q, want %q in it", said, words)
		}
	}
	if s := w.read(t); s != nil {
		t.Errorf("got it in %s, want it gone", s.Status)
	}
	revoke := func() (step.Plan, error) {
		steps, _, err := access.RevokeSteps(ctx, w.iam, "aws", account, w.Vendor, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := runner(steps...)
		p := must[step.Plan](t)(r.Plan(ctx, step.Absent))
		return p, r.Apply(ctx, p)
	}
	p, err = revoke()
	if left := p.With(step.Leave); err != nil || len(p.Steps) != 1 || len(left) != 1 || left[0].Details[0] != "it is still used by role union-node" {
		t.Errorf("got %+v, %v, want the boundary alone, in use", p, err)
	}
	// Once nobody uses it, a later revoke knows it for ours.
	must[*iam.DeleteRoleOutput](t)(w.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: ptr("union-node")}))
	if p, err = revoke(); err != nil || len(p.With(step.Remove)) != 1 {
		t.Errorf("got %+v, %v, want the boundary removed", p, err)
	}
}

func TestAStackOfSomebodyElseStays(t *testing.T) {
	t.Parallel()
	for _, have := range []func(w *world){
		func(w *world) { w.create(t, []byte(foreign), nil) },
		func(w *world) { w.propose(t, "theirs", []byte(foreign), nil) },
	} {
		w := newWorld(t, awsdouble.Options{})
		have(w)
		p, err := w.remove(t)
		if len(p.With(step.Leave)) != 1 || err != nil || w.status(t) == "" {
			t.Errorf("got %+v, %v, want it left alone", p, err)
		}
	}
}

func TestAHalfDeletedStackIsGoneOnWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awsdouble.Options{})
	w.grant(t, wanted(t, options(nil)))
	ctx := t.Context()
	must[*iam.AttachRolePolicyOutput](t)(w.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: ptr(w.Vendor.RoleName), PolicyArn: ptr("arn:aws:iam::aws:policy/ReadOnlyAccess")}))
	must[*cloudformation.UpdateTerminationProtectionOutput](t)(w.cfn.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{StackName: ptr(name), EnableTerminationProtection: ptr(false)}))
	must[*cloudformation.DeleteStackOutput](t)(w.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: ptr(name)}))
	w.until(t, types.StackStatusDeleteFailed)
	if _, err := w.remove(t); err != nil {
		t.Fatal(err)
	}
	if s := w.status(t); s != "" {
		t.Errorf("got it in %s, want it gone", s)
	}
}

// meddler is somebody who is at the stack between two calls of ours.
type meddler struct {
	stack.API
	execute func(ctx context.Context, in *cloudformation.ExecuteChangeSetInput)
	once    sync.Once
}

func (m *meddler) ExecuteChangeSet(ctx context.Context, in *cloudformation.ExecuteChangeSetInput, o ...func(*cloudformation.Options)) (*cloudformation.ExecuteChangeSetOutput, error) {
	m.once.Do(func() { m.execute(ctx, in) })
	return m.API.ExecuteChangeSet(ctx, in, o...)
}

func TestSomebodyElseWasFaster(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		execute func(t *testing.T, w *world) func(context.Context, *cloudformation.ExecuteChangeSetInput)
	}{
		{"it takes a change set that somebody else executed for its own", func(t *testing.T, w *world) func(context.Context, *cloudformation.ExecuteChangeSetInput) {
			return func(ctx context.Context, in *cloudformation.ExecuteChangeSetInput) {
				must[*cloudformation.ExecuteChangeSetOutput](t)(w.cfn.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{StackName: in.StackName, ChangeSetName: in.ChangeSetName}))
			}
		}},
		{"it proposes again what somebody else dropped", func(t *testing.T, w *world) func(context.Context, *cloudformation.ExecuteChangeSetInput) {
			return func(ctx context.Context, in *cloudformation.ExecuteChangeSetInput) {
				must[*cloudformation.DeleteChangeSetOutput](t)(w.cfn.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{StackName: in.StackName, ChangeSetName: in.ChangeSetName}))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, awsdouble.Options{})
			w.CloudFormation = &meddler{API: w.cfn, execute: c.execute(t, w)}
			want := wanted(t, options(nil))
			if action, err := w.apply(t, want); action != step.Create || err != nil {
				t.Fatalf("got %s, %v, want it made", action, err)
			}
			if failed := w.compare(t, want.Set); len(failed) > 0 || !w.read(t).Protected {
				t.Errorf("got %v, want it made and protected", failed)
			}
		})
	}
}

// stuck is a stack whose rollback failed, until it is continued.
type stuck struct {
	stack.API
	continued bool
}

func (s *stuck) DescribeStacks(ctx context.Context, in *cloudformation.DescribeStacksInput, o ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error) {
	out, err := s.API.DescribeStacks(ctx, in, o...)
	if err == nil && !s.continued {
		out.Stacks[0].StackStatus, out.Stacks[0].StackStatusReason = types.StackStatusUpdateRollbackFailed, ptr("a role could not be put back")
	}
	return out, err
}

func (s *stuck) ContinueUpdateRollback(context.Context, *cloudformation.ContinueUpdateRollbackInput, ...func(*cloudformation.Options)) (*cloudformation.ContinueUpdateRollbackOutput, error) {
	s.continued = true
	return &cloudformation.ContinueUpdateRollbackOutput{}, nil
}

func TestARollbackThatFailedIsContinued(t *testing.T) {
	t.Parallel()
	w := newWorld(t, awsdouble.Options{})
	want := wanted(t, options(nil))
	w.grant(t, want)
	api := &stuck{API: w.cfn}
	w.CloudFormation = api
	_, p := w.plan(t, want)
	if c := p.Steps[0]; c.Action != step.Update || !strings.Contains(c.Details[0], "a role could not be put back") {
		t.Errorf("got %+v, want its rollback continued", c)
	}
	if _, err := w.apply(t, want); err != nil || !api.continued {
		t.Errorf("got %v, continued %v, want it as wanted", err, api.continued)
	}
}
