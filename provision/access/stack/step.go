package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/step"
)

// Wanted is a stack as it should be.
type Wanted struct {
	Name string
	// Set is what the template makes with these parameters. nil compares no documents, for
	// who changes parameters of a stack that is there.
	Set *access.Set
	// Template is the template's text; nil is the one that is in use.
	Template []byte
	// TemplateURL is where it is published, if that is where AWS is to read it.
	TemplateURL string
	// Parameters are those that are wanted. The others keep their value, or have the
	// template's default.
	Parameters map[string]string
	// MayChange says that a stack which is there may be changed. Else one that differs is
	// refused.
	MayChange bool
}

// NewStep is the step that keeps the stack. To remove one, Removal needs only its name.
func NewStep(p Place, w Wanted) step.Step {
	return &stackStep{Place: p, wanted: w, removal: &removal{Place: p, name: w.Name}, unchanged: map[string]bool{}}
}

// StepName is the name of a stack's step.
func StepName(stack string) string { return "stack " + stack }

type stackStep struct {
	Place
	wanted  Wanted
	removal *removal // of one that can only be deleted

	// What this run did. What an earlier one did is seen in the stack.
	doing     step.Action     // what it proposed a change set for; "" before
	executed  string          // the change set that was executed: a failure is its
	unchanged map[string]bool // change sets of which AWS said that they change nothing
}

func (s *stackStep) Name() string    { return StepName(s.wanted.Name) }
func (s *stackStep) Needs() []string { return nil }

func (s *stackStep) Check(ctx context.Context) error { return step.Settled(ctx, s) }

// Describe says that a stack takes minutes.
func (s *stackStep) Describe() step.Description {
	return step.Description{
		Service: "cloudformation",
		Creates: []string{"cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet", "cloudformation:SetStackPolicy", "cloudformation:UpdateTerminationProtection"},
		Updates: []string{"cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet"},
		Removes: []string{"cloudformation:UpdateTerminationProtection", "cloudformation:DeleteStack"},
		ToMake:  2 * time.Minute, ToUpdate: 2 * time.Minute, ToRemove: time.Minute, Patience: 30 * time.Minute,
	}
}

// found is the stack as it was when it was looked at; stack is nil when there is none.
type found struct {
	*stackStep
	stack  *Stack
	sets   []changeSet // in REVIEW_IN_PROGRESS: all of them
	differ []string    // in what it is not as wanted
	edited []string    // what somebody changed by hand since
	bare   []string    // which protection it lacks
	bucket bool        // a bucket of an earlier run is there
}

func (s *stackStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	if goal == step.Absent {
		return s.removal.Look(ctx, goal)
	}
	stack, err := Read(ctx, s.CloudFormation, s.Vendor, s.wanted.Name)
	if err != nil {
		return nil, err
	}
	if s.executed != "" && (stack == nil || failed(stack.Status)) {
		return nil, s.failure(ctx, stack)
	}
	f := &found{stackStep: s, stack: stack}
	if (stack == nil || !busy(stack.Status)) && s.throughBucket() {
		if f.bucket, err = s.bucketIsThere(ctx); err != nil {
			return nil, err
		}
	}
	switch {
	case stack == nil:
	case stack.Status == types.StackStatusReviewInProgress:
		f.sets, err = s.changeSets(ctx, stack)
	case !stack.Ours:
	case !dead(stack.Status):
		f.differ = s.differences(stack)
		if settled(stack.Status) && len(f.differ) == 0 {
			if f.bare, err = s.unprotected(ctx, stack); err == nil && s.wanted.Set != nil && !s.wanted.MayChange {
				f.edited, err = s.editedByHand(ctx)
			}
		}
	}
	return f, err
}

// differences says in what the stack is not as wanted.
func (s *stackStep) differences(stack *Stack) []string {
	if s.unchanged[s.changeSetName(stack)] {
		return nil
	}
	var lines []string
	if s.wanted.Template != nil && !sameTemplate([]byte(stack.Body), s.wanted.Template) {
		lines = append(lines, s.templateDifference(stack))
	}
	for _, key := range slices.Sorted(maps.Keys(s.wanted.Parameters)) {
		if have, want := stack.Parameters[key], s.wanted.Parameters[key]; have != want {
			lines = append(lines, fmt.Sprintf("its %s is %q, wanted %q", key, have, want))
		}
	}
	return lines
}

// templateDifference says in what another template is another, where it says so itself.
func (s *stackStep) templateDifference(stack *Stack) string {
	want := about(string(s.wanted.Template))
	if stack.About == nil || want == nil {
		return "its template is another one"
	}
	var words []string
	for _, d := range []struct{ what, have, want string }{
		{"--policy", string(stack.About.Profile), string(want.Profile)},
		{"--private-endpoint", fmt.Sprint(stack.About.PrivateEndpoint), fmt.Sprint(want.PrivateEndpoint)},
		{"--delete-permissions", fmt.Sprint(stack.About.DeletePermissions), fmt.Sprint(want.DeletePermissions)},
		{"version", stack.About.PolicyVersion, want.PolicyVersion},
	} {
		if d.have != d.want {
			words = append(words, fmt.Sprintf("%s %s, wanted %s", d.what, d.have, d.want))
		}
	}
	if len(words) == 0 {
		return "its template is another one"
	}
	return "its template is of " + strings.Join(words, "; ")
}

// editedByHand says in what the roles and policies are not as the template made them.
func (s *stackStep) editedByHand(ctx context.Context) ([]string, error) {
	set := s.wanted.Set
	checker := access.Checker{Set: set, Vendor: s.Vendor, RoleARN: set.RoleARN(set.Roles[0])}
	report, err := checker.Documents(ctx, s.IAM)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, row := range report.Rows {
		if row.Result == access.Fail {
			lines = append(lines, fmt.Sprintf("%s %s: %s", row.Check, row.Target, row.Why))
		}
	}
	return lines, nil
}

func (f *found) Plan() step.Change {
	s := f.stack
	switch {
	case s == nil:
		return step.Change{Action: step.Create, Details: f.purpose()}
	case s.Status == types.StackStatusReviewInProgress:
		return f.planReview()
	case !s.Ours:
		return step.Change{Action: step.Refuse, Details: []string{"it was made by somebody else: its template does not say that it is of Biplane"},
			Hint: "delete it if it is yours, or choose another stackName in a file for --vendor-profile"}
	case s.Status == types.StackStatusDeleteInProgress:
		return step.Change{Action: step.Create, Details: append([]string{"again, once it is gone: it is being deleted"}, f.purpose()...), Waits: string(s.Status)}
	case dead(s.Status) || s.Status == types.StackStatusRollbackInProgress:
		return step.Change{Action: step.Replace, Details: append([]string{fmt.Sprintf("it is in %s, which no change set gets it out of: it is deleted and made again", s.Status)}, f.purpose()...)}
	case s.Status == types.StackStatusUpdateFailed:
		return step.Change{Action: step.Refuse, Details: []string{"it is in UPDATE_FAILED: somebody changes it without rollback"},
			Hint: fmt.Sprintf("run 'aws cloudformation rollback-stack --stack-name %s --region %s', then the same command again", s.Name, f.Region)}
	case len(f.differ) > 0 && !f.wanted.MayChange:
		return step.Change{Action: step.Refuse, Details: f.differ,
			Hint: "run 'biplane access update' to change what was granted, or give the flags that it was granted with"}
	case s.Status == types.StackStatusUpdateRollbackFailed:
		return step.Change{Action: step.Update, Details: append([]string{"go on with its rollback, which failed: " + s.StatusReason}, f.differ...)}
	case busy(s.Status):
		return step.Change{Action: f.going(), Details: append([]string{"wait until it is ready: it is in " + string(s.Status)}, f.differ...), Waits: string(s.Status)}
	case len(f.differ) > 0:
		return step.Change{Action: step.Update, Details: append(f.differ, f.wayIn())}
	case len(f.edited) > 0:
		return step.Change{Action: step.Refuse, Details: append([]string{"what it made was changed by hand since"}, f.edited...),
			Hint: "run 'biplane access update', which shows it and puts it back"}
	case len(f.bare) > 0 || f.bucket:
		return step.Change{Action: step.Finish, Details: append(f.bare, leftover(f.bucket, f.bucketName())...)}
	}
	return step.Change{Action: step.Keep}
}

// going is what is gone on with: what this run is doing, or what an earlier one began.
func (s *stackStep) going() step.Action {
	if s.doing != "" {
		return s.doing
	}
	return step.Finish
}

// planReview is about a stack that consists of change sets only.
func (f *found) planReview() step.Change {
	details := f.purpose()
	for _, set := range f.sets {
		switch {
		case set.name == f.changeSetName(f.stack):
			return step.Change{Action: f.going(), Details: append([]string{"go on with the change set " + set.name}, details...)}
		case !set.ours:
			return step.Change{Action: step.Refuse, Details: []string{fmt.Sprintf("it consists of the change set %s, which somebody else proposed", set.name)},
				Hint: fmt.Sprintf("execute or delete it ('aws cloudformation delete-stack --stack-name %s --region %s'), or choose another stackName in a file for --vendor-profile", f.stack.Name, f.Region)}
		default:
			details = append(details, fmt.Sprintf("drop the change set %s, which is for something else", set.name))
		}
	}
	return step.Change{Action: step.Create, Details: details}
}

// purpose is what the stack will hold.
func (s *stackStep) purpose() []string {
	var lines []string
	if set := s.wanted.Set; set != nil {
		lines = append(lines, fmt.Sprintf("%s, from a template of %s bytes", counted(len(set.Roles), len(set.Policies())), thousands(len(s.wanted.Template))))
		for _, r := range set.Roles {
			lines = append(lines, fmt.Sprintf("role %s: %s", r.Name, r.Purpose))
		}
		lines = append(lines, access.TrustLines(set.Roles[0].Trust.Document)...)
		for _, p := range set.Policies() {
			lines = append(lines, fmt.Sprintf("policy %s, %s characters", p.Name, thousands(p.Size)))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.wanted.Parameters)) {
		if value := s.wanted.Parameters[key]; value != "" {
			lines = append(lines, "parameter "+key+": "+value)
		}
	}
	return append(lines, s.wayIn())
}

// counted is "1 role and 2 managed policies".
func counted(roles, policies int) string {
	text := fmt.Sprintf("%d roles", roles)
	if roles == 1 {
		text = "1 role"
	}
	if policies == 1 {
		return text + " and 1 managed policy"
	}
	return fmt.Sprintf("%s and %d managed policies", text, policies)
}

// Make goes one call further, and says what is waited for then: the Runner looks again.
func (f *found) Make(ctx context.Context) error {
	s := f.stack
	switch {
	case s == nil || s.Status == types.StackStatusReviewInProgress:
		return f.propose(ctx, types.ChangeSetTypeCreate)
	case dead(s.Status):
		return f.discard(ctx)
	case s.Status == types.StackStatusUpdateRollbackFailed:
		return f.continueRollback(ctx)
	case busy(s.Status):
		return notYet("%s", f.howFar(ctx, s))
	case len(f.differ) > 0:
		return f.propose(ctx, types.ChangeSetTypeUpdate)
	}
	if err := f.protect(ctx); err != nil {
		return passing(err)
	}
	if f.bucket {
		return f.dropBucket(ctx)
	}
	return nil
}

// Remove has nothing to do: what is looked at to be removed is a remains.
func (f *found) Remove(context.Context) error { return nil }

// What a state means.
func busy(s types.StackStatus) bool {
	return strings.HasSuffix(string(s), "_IN_PROGRESS") && s != types.StackStatusReviewInProgress
}

// settled is a stack that is there and can be changed.
func settled(s types.StackStatus) bool {
	return slices.Contains([]types.StackStatus{types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete,
		types.StackStatusImportComplete, types.StackStatusImportRollbackComplete}, s)
}

// dead is a stack that can only be deleted.
func dead(s types.StackStatus) bool {
	return slices.Contains([]types.StackStatus{types.StackStatusCreateFailed, types.StackStatusRollbackComplete, types.StackStatusRollbackFailed, types.StackStatusDeleteFailed}, s)
}

// failed is how a change set that was executed ends when it was not for the good.
func failed(s types.StackStatus) bool {
	return dead(s) || slices.Contains([]types.StackStatus{types.StackStatusUpdateFailed, types.StackStatusUpdateRollbackComplete, types.StackStatusUpdateRollbackFailed}, s)
}

func notYet(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), step.ErrNotYet)
}

// sameJSON reports whether two texts are the same JSON.
func sameJSON(a, b string) bool {
	var one, other any
	if json.Unmarshal([]byte(a), &one) != nil || json.Unmarshal([]byte(b), &other) != nil {
		return false
	}
	x, _ := json.Marshal(one)
	y, _ := json.Marshal(other)
	return string(x) == string(y)
}
