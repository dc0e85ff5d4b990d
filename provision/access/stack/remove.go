package stack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/step"
)

// Removal is the step that removes a stack of ours, with all that it made. Its goal is
// Absent.
func Removal(p Place, name string) step.Step { return &removal{Place: p, name: name} }

type removal struct {
	Place
	name     string
	attempts int // DeleteStack of this run
}

func (r *removal) Name() string                { return StepName(r.name) + " in " + r.Region }
func (r *removal) Needs() []string             { return nil }
func (r *removal) Check(context.Context) error { return nil }

// Describe says that a stack takes minutes.
func (r *removal) Describe() step.Description {
	return step.Description{Service: "cloudformation", Removes: []string{"cloudformation:UpdateTerminationProtection", "cloudformation:DeleteStack"},
		ToRemove: time.Minute, Patience: 30 * time.Minute}
}

// remains is a stack on its way out; stack is nil when it is gone.
type remains struct {
	*removal
	stack   *Stack
	foreign string // why it is not ours; "" when it is
	holds   Holds
	burdens []*access.Burden
	used    map[string][]string // by ARN of a policy that others use: who they are
	bucket  bool
}

// Holds is what a stack holds of IAM.
type Holds struct {
	Roles    []string
	Policies map[string]string // ARN by logical ID
	stuck    []string          // logical IDs of what could not be deleted
}

// Names are the roles' names and the policies' ARNs.
func (h Holds) Names() []string {
	names := slices.Clone(h.Roles)
	for _, arn := range h.Policies {
		names = append(names, arn)
	}
	slices.Sort(names)
	return names
}

// ReadHolds reads what a stack holds now.
func ReadHolds(ctx context.Context, api API, stack *Stack) (Holds, error) {
	h := Holds{Policies: map[string]string{}}
	out, err := api.DescribeStackResources(ctx, &cloudformation.DescribeStackResourcesInput{StackName: &stack.ID})
	if absent(err) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	for _, r := range out.StackResources {
		id := aws.ToString(r.PhysicalResourceId)
		if r.ResourceStatus == types.ResourceStatusDeleteComplete || r.ResourceStatus == types.ResourceStatusDeleteSkipped || id == "" {
			continue
		}
		switch aws.ToString(r.ResourceType) {
		case roleType:
			h.Roles = append(h.Roles, id)
		case policyType:
			h.Policies[aws.ToString(r.LogicalResourceId)] = id
		}
		if r.ResourceStatus == types.ResourceStatusDeleteFailed {
			h.stuck = append(h.stuck, aws.ToString(r.LogicalResourceId))
		}
	}
	return h, nil
}

func (r *removal) Look(ctx context.Context, _ step.Goal) (step.Found, error) {
	stack, err := Read(ctx, r.CloudFormation, r.Vendor, r.name)
	if err != nil {
		return nil, err
	}
	f := &remains{removal: r, stack: stack}
	if stack == nil {
		return f, nil
	}
	f.foreign, err = r.whose(ctx, stack)
	if err != nil || f.foreign != "" || busy(stack.Status) {
		return f, err
	}
	if stack.Status == types.StackStatusReviewInProgress || len(stack.Body) > template.BodyLimit {
		if f.bucket, err = r.bucketIsThere(ctx); err != nil {
			return nil, err
		}
	}
	if f.holds, err = ReadHolds(ctx, r.CloudFormation, stack); err != nil || len(f.holds.Names()) == 0 {
		return f, err
	}
	if f.burdens, err = access.Burdens(ctx, r.IAM, r.Partition, r.Account, r.Vendor, f.holds.Names()); err != nil {
		return nil, err
	}
	f.used = map[string][]string{}
	for _, arn := range f.holds.Policies {
		users, err := access.UsedBy(ctx, r.IAM, arn, f.holds.Roles)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 {
			f.used[arn] = users
		}
	}
	return f, nil
}

// whose says why a stack is not ours; "" when it is. One that has no template yet is ours
// when its change sets are; with none, it is a name and nothing else.
func (p Place) whose(ctx context.Context, stack *Stack) (string, error) {
	if stack.Ours {
		return "", nil
	}
	if stack.Status != types.StackStatusReviewInProgress {
		return "its template does not say that it is of Biplane, so somebody else made it", nil
	}
	sets, err := p.changeSets(ctx, stack)
	if err != nil {
		return "", err
	}
	for _, set := range sets {
		if !set.ours {
			return fmt.Sprintf("it consists of the change set %s, which somebody else proposed", set.name), nil
		}
	}
	return "", nil
}

func (f *remains) Plan() step.Change {
	switch {
	case f.stack == nil:
		return step.Change{Action: step.None}
	case f.foreign != "":
		return step.Change{Action: step.Leave, Details: []string{f.foreign}}
	}
	details := []string{f.stack.ID}
	if len(f.holds.Names()) > 0 {
		details = append(details, "with "+counted(len(f.holds.Roles), len(f.holds.Policies)))
	}
	for _, b := range f.burdens {
		details = append(details, b.Lines()...)
	}
	for _, arn := range slices.Sorted(maps.Keys(f.used)) {
		details = append(details, fmt.Sprintf("leave %s: it is still used by %s", arn, strings.Join(f.used[arn], ", ")))
	}
	if f.stack.Protected {
		details = append(details, "take its protection from being deleted off")
	}
	change := step.Change{Action: step.Remove, Details: append(details, leftover(f.bucket, f.bucketName())...)}
	if busy(f.stack.Status) {
		change.Waits = string(f.stack.Status)
	}
	return change
}

// Make has nothing to do: what is looked at to be made is a found.
func (f *remains) Make(context.Context) error { return nil }

// Remove goes one DeleteStack further, and says what is waited for then: the Runner looks
// again, until it is gone.
func (f *remains) Remove(ctx context.Context) error {
	if busy(f.stack.Status) {
		return notYet("%s", f.howFar(ctx, f.stack))
	}
	if f.stack.Status == types.StackStatusDeleteFailed && f.attempts >= maxAttempts {
		return usererr.New(usererr.Refused, "stack %s could not be deleted: %s", f.name, f.reasons(ctx, f.stack)).
			WithHint("correct that and run the same command again: it goes on with what is left")
	}
	if f.bucket {
		if err := f.dropBucket(ctx); err != nil {
			return err
		}
	}
	for _, b := range f.burdens {
		if err := b.Remove(ctx); err != nil {
			return err
		}
	}
	about := f.stack.About
	for _, arn := range slices.Sorted(maps.Keys(f.used)) {
		profile := access.ProfileName("")
		if about != nil {
			profile = about.Profile
		}
		if err := access.MarkPolicy(ctx, f.IAM, arn, profile, f.Region, f.Vendor); err != nil {
			return err
		}
	}
	if f.stack.Protected {
		if err := f.setProtection(ctx, f.stack, false); err != nil {
			return passing(err)
		}
	}
	in := &cloudformation.DeleteStackInput{StackName: &f.stack.ID}
	for _, logical := range f.holds.stuck {
		if f.used[f.holds.Policies[logical]] != nil {
			in.RetainResources = append(in.RetainResources, logical) // AWS takes this only once it has failed
		}
	}
	if _, err := f.CloudFormation.DeleteStack(ctx, in); err != nil {
		return passing(err)
	}
	f.attempts++
	return notYet("it is being deleted")
}

// maxAttempts is how often a run deletes: once, once without what others use, and once
// more, because what was taken from a role may be seen late.
const maxAttempts = 3
