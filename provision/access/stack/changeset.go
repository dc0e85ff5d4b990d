package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// changeSet is one that a stack in REVIEW_IN_PROGRESS consists of.
type changeSet struct {
	name string
	id   string
	ours bool
}

// changeSets are those of a stack that has no template of its own yet.
func (p Place) changeSets(ctx context.Context, stack *Stack) ([]changeSet, error) {
	var sets []changeSet
	pages := cloudformation.NewListChangeSetsPaginator(p.CloudFormation, &cloudformation.ListChangeSetsInput{StackName: &stack.ID})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if absent(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, is := range page.Summaries {
			set := changeSet{name: aws.ToString(is.ChangeSetName), id: aws.ToString(is.ChangeSetId)}
			given, err := p.CloudFormation.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &stack.ID, ChangeSetName: &set.id, TemplateStage: types.TemplateStageOriginal})
			if err != nil && !absent(err) {
				return nil, err
			}
			set.ours = err == nil && about(aws.ToString(given.TemplateBody)) != nil
			sets = append(sets, set)
		}
	}
	return sets, nil
}

// changeSetName derives from what is wanted and what is there, so that a run whose answer
// was lost finds its change set again, and another wish has another one.
func (s *stackStep) changeSetName(stack *Stack) string {
	base := ""
	if stack != nil && stack.Status != types.StackStatusReviewInProgress {
		base = stack.ID + " " + stack.Updated.UTC().String()
	}
	parameters, _ := json.Marshal(s.wanted.Parameters) // a map's keys are sorted
	sum := sha256.Sum256(slices.Concat([]byte(base+"\n"), s.wanted.Template, []byte("\n"), parameters))
	return "biplane-" + hex.EncodeToString(sum[:8])
}

// propose brings about the change set that is wanted, reads it, and executes it: one of
// the three each time that it is looked at.
func (f *found) propose(ctx context.Context, kind types.ChangeSetType) error {
	name := f.changeSetName(f.stack)
	if f.doing = step.Update; kind == types.ChangeSetTypeCreate {
		f.doing = step.Create
	}
	for _, other := range f.sets {
		if other.name == name {
			continue
		}
		if _, err := f.CloudFormation.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{StackName: &f.stack.ID, ChangeSetName: &other.id}); err != nil {
			return passing(err)
		}
	}
	set, err := f.describeChangeSet(ctx, name)
	if err != nil {
		return err
	}
	if set == nil {
		if err := f.createChangeSet(ctx, name, kind); err != nil {
			return err
		}
		return notYet("change set %s is being computed", name)
	}
	switch set.Status {
	case types.ChangeSetStatusCreatePending, types.ChangeSetStatusCreateInProgress:
		return notYet("change set %s is being computed", name)
	case types.ChangeSetStatusDeletePending, types.ChangeSetStatusDeleteInProgress:
		return notYet("change set %s is being deleted", name)
	case types.ChangeSetStatusCreateComplete:
	default:
		return f.drop(ctx, name, set)
	}
	if f.bucket { // AWS has read the template
		if err := f.dropBucket(ctx); err != nil {
			return err
		}
	}
	if err := f.checkTemplate(ctx, set); err != nil {
		return err
	}
	removes, err := f.review(set)
	if err != nil {
		return err
	}
	switch set.ExecutionStatus {
	case types.ExecutionStatusAvailable:
	case types.ExecutionStatusObsolete:
		return f.drop(ctx, name, set)
	default:
		return notYet("change set %s is being executed", name)
	}
	if removes {
		// The stack policy keeps roles; these may go. It is put back once they are gone.
		if err := f.setPolicy(ctx, f.stack, relaxedPolicy); err != nil {
			return passing(err)
		}
	}
	f.executed = name
	_, err = f.CloudFormation.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{StackName: set.StackId, ChangeSetName: set.ChangeSetId, ClientRequestToken: &name})
	if err != nil {
		return passing(err)
	}
	return notYet("change set %s is being executed", name)
}

// drop deletes a change set that cannot be executed. That it would change nothing is no
// failure.
func (f *found) drop(ctx context.Context, name string, set *cloudformation.DescribeChangeSetOutput) error {
	if f.bucket {
		if err := f.dropBucket(ctx); err != nil {
			return err
		}
	}
	if _, err := f.CloudFormation.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{StackName: set.StackId, ChangeSetName: set.ChangeSetId}); err != nil {
		return passing(err)
	}
	switch {
	case changesNothing(set):
		f.unchanged[name] = true
		return notYet("change set %s changes nothing", name)
	case set.ExecutionStatus == types.ExecutionStatusObsolete:
		return notYet("change set %s is obsolete, because somebody changed the stack", name)
	}
	return usererr.New(usererr.Refused, "CloudFormation cannot make change set %s of stack %s: %s", name, f.wanted.Name, aws.ToString(set.StatusReason)).
		WithHint("nothing was changed; what it says is about the template or what is there already")
}

// describeChangeSet returns the change set with all of its changes; nil when there is none.
func (f *found) describeChangeSet(ctx context.Context, name string) (*cloudformation.DescribeChangeSetOutput, error) {
	if f.stack == nil {
		return nil, nil
	}
	var whole *cloudformation.DescribeChangeSetOutput
	pages := cloudformation.NewDescribeChangeSetPaginator(f.CloudFormation, &cloudformation.DescribeChangeSetInput{StackName: &f.stack.ID, ChangeSetName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if absent(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if whole == nil {
			whole = page
			continue
		}
		whole.Changes = append(whole.Changes, page.Changes...)
	}
	return whole, nil
}

func (f *found) createChangeSet(ctx context.Context, name string, kind types.ChangeSetType) error {
	in := &cloudformation.CreateChangeSetInput{
		StackName: &f.wanted.Name, ChangeSetName: &name, ChangeSetType: kind,
		Description:  aws.String("by biplane access"),
		Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}, // its roles have names
		Tags:         f.tags(),
	}
	parameters, err := f.parameters()
	if err != nil {
		return err
	}
	in.Parameters = parameters
	if err := f.giveTemplate(ctx, in); err != nil {
		return err
	}
	if _, err := f.CloudFormation.CreateChangeSet(ctx, in); err != nil {
		return f.refusedTemplate(err)
	}
	return nil
}

// parameters are those that are wanted, and of the others those that the stack has and the
// template still takes.
func (f *found) parameters() ([]types.Parameter, error) {
	var list []types.Parameter
	for _, key := range slices.Sorted(maps.Keys(f.wanted.Parameters)) {
		list = append(list, types.Parameter{ParameterKey: &key, ParameterValue: aws.String(f.wanted.Parameters[key])})
	}
	if f.stack == nil || f.stack.Status == types.StackStatusReviewInProgress {
		return list, nil
	}
	text := f.wanted.Template
	if text == nil {
		text = []byte(f.stack.Body)
	}
	takes, err := parametersOf(text)
	if err != nil {
		return nil, fmt.Errorf("reading the template of stack %s: %w", f.wanted.Name, err)
	}
	for _, key := range slices.Sorted(maps.Keys(f.stack.Parameters)) {
		_, wanted := f.wanted.Parameters[key]
		if _, still := takes[key]; still && !wanted {
			list = append(list, types.Parameter{ParameterKey: &key, UsePreviousValue: aws.Bool(true)})
		}
	}
	return list, nil
}

// tags mark the stack, and CloudFormation puts them on what it makes. A stack that was
// launched by a link has none, and gets them when it is changed; those of its owner stay.
func (f *found) tags() []types.Tag {
	all := map[string]string{}
	if f.stack != nil {
		maps.Copy(all, f.stack.Tags)
	}
	all[f.Vendor.ManagedByKey()] = vendor.ManagedByValue
	all[f.Vendor.TagPrefix+"component"] = component
	var tags []types.Tag
	for _, key := range slices.Sorted(maps.Keys(all)) {
		tags = append(tags, types.Tag{Key: &key, Value: aws.String(all[key])})
	}
	return tags
}

// checkTemplate refuses a change set of another template than was given. AWS read it where
// others may write, while it was there.
func (f *found) checkTemplate(ctx context.Context, set *cloudformation.DescribeChangeSetOutput) error {
	if f.wanted.Template == nil {
		return nil
	}
	read, err := f.CloudFormation.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: set.StackId, ChangeSetName: set.ChangeSetId, TemplateStage: types.TemplateStageOriginal})
	if err != nil {
		return passing(err)
	}
	if sameTemplate([]byte(aws.ToString(read.TemplateBody)), f.wanted.Template) {
		return nil
	}
	if _, err := f.CloudFormation.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{StackName: set.StackId, ChangeSetName: set.ChangeSetId}); err != nil {
		return passing(err)
	}
	return usererr.New(usererr.Refused, "CloudFormation read another template for stack %s than was given, with the SHA-256 %s where %s is wanted; nothing was changed",
		f.wanted.Name, sha([]byte(aws.ToString(read.TemplateBody))), sha(f.wanted.Template)).
		WithHint("somebody wrote to it meanwhile: find out who may, then run the same command again")
}

// review refuses a change set that would have the vendor lose access: a role that is made
// anew has another identity to IAM, and one of the set that goes is gone. It reports
// whether a role goes that is not of the set.
func (f *found) review(set *cloudformation.DescribeChangeSetOutput) (removes bool, err error) {
	for _, c := range set.Changes {
		change := c.ResourceChange
		if change == nil || aws.ToString(change.ResourceType) != roleType {
			continue
		}
		name := aws.ToString(change.PhysicalResourceId)
		switch {
		case change.Replacement == types.ReplacementTrue:
			return false, usererr.New(usererr.Refused, "the change set would make role %s anew, and the vendor would lose access by its old ARN; nothing was changed", name).
				WithHint("leave roleName and path of the vendor profile as they were; or 'biplane access revoke' and grant again")
		case change.Action == types.ChangeActionRemove:
			if f.wanted.Set == nil || slices.Contains(f.wanted.Set.RoleNames(), name) {
				return false, usererr.New(usererr.Refused, "the change set would remove role %s; nothing was changed", name).
					WithHint("give the flags that it was granted with")
			}
			removes = true
		}
	}
	return removes, nil
}

const (
	roleType   = "AWS::IAM::Role"
	policyType = "AWS::IAM::ManagedPolicy"
)

// continueRollback gets a stack out of a rollback that failed.
func (f *found) continueRollback(ctx context.Context) error {
	_, err := f.CloudFormation.ContinueUpdateRollback(ctx, &cloudformation.ContinueUpdateRollbackInput{StackName: &f.stack.ID})
	if err != nil {
		return passing(err)
	}
	return notYet("its rollback goes on")
}

// discard deletes a stack that can only be deleted.
func (f *found) discard(ctx context.Context) error {
	is, err := f.removal.Look(ctx, step.Absent)
	if err != nil || !is.Plan().Action.Writes() {
		return err
	}
	return is.Remove(ctx)
}
