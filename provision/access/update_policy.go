package access

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
)

// maxVersions is how many versions of a policy IAM keeps.
const maxVersions = 5

// policyUpdate makes a new version of a managed policy, or makes the policy.
type policyUpdate struct {
	*policyStep
	change  *policyChange
	needs   []string
	refusal []string // it was edited, and nobody has said what to do
	held    bool     // a stack made it
}

func (s *policyUpdate) Needs() []string { return s.needs }

// Check waits until the new document is in force for whoever reads it.
func (s *policyUpdate) Check(ctx context.Context) error {
	live, err := readPolicy(ctx, s.iam, s.arn())
	if err == nil && (live.document == nil || len(documentDifferences("", live.document, s.policy.Document)) > 0) {
		err = step.ErrNotYet
	}
	return err
}

// foundUpdate is the policy as it is.
type foundUpdate struct {
	*foundPolicy
	update   *policyUpdate
	document []byte
	versions []types.PolicyVersion // the oldest first; read where there will be another
}

func (s *policyUpdate) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	looked, err := s.policyStep.Look(ctx, goal)
	if err != nil {
		return nil, err
	}
	found := &foundUpdate{foundPolicy: looked.(*foundPolicy), update: s}
	if !found.there || len(found.differences) == 0 {
		return found, nil
	}
	live, err := readPolicy(ctx, s.iam, s.arn())
	if err != nil {
		return nil, err
	}
	found.document = live.document
	found.versions, err = readVersions(ctx, s.iam, s.arn())
	return found, err
}

// readVersions lists a policy's versions, the oldest first.
func readVersions(ctx context.Context, api IAM, arn string) ([]types.PolicyVersion, error) {
	var all []types.PolicyVersion
	pages := iam.NewListPolicyVersionsPaginator(api, &iam.ListPolicyVersionsInput{PolicyArn: &arn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Versions...)
	}
	slices.SortFunc(all, func(a, b types.PolicyVersion) int { return versionNumber(a) - versionNumber(b) })
	return all, nil
}

// versionNumber is 12 of v12; IAM gives no number twice.
func versionNumber(v types.PolicyVersion) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(aws.ToString(v.VersionId), "v"))
	return n
}

// oldest is the version that makes room, or "".
func (f *foundUpdate) oldest() string {
	if len(f.versions) < maxVersions {
		return ""
	}
	i := slices.IndexFunc(f.versions, func(v types.PolicyVersion) bool { return !v.IsDefaultVersion })
	return aws.ToString(f.versions[i].VersionId)
}

func (f *foundUpdate) Plan() step.Change {
	switch {
	case !f.there:
		change := f.foundPolicy.Plan()
		change.Details = append(change.Details, f.update.change.lines...)
		return change
	case f.update.held && f.update.refusal != nil:
		return step.Change{Action: step.Refuse, Details: f.update.refusal, Hint: editHint}
	case len(f.differences) == 0 && f.update.held:
		return step.Change{Action: step.Keep}
	case len(f.differences) == 0 || !f.ours(f.tags) && !f.update.held:
		return f.foundPolicy.Plan()
	case f.update.refusal != nil:
		return step.Change{Action: step.Refuse, Details: f.update.refusal, Hint: editHint}
	case !sameText(f.document, f.update.change.from):
		return step.Change{Action: step.Refuse, Details: []string{"somebody changed it after it was read"}, Hint: "run the same command again to see the new plan"}
	}
	change := step.Change{Action: step.Update, Details: slices.Clone(f.update.change.lines)}
	if version := f.oldest(); version != "" {
		change.Details = append(change.Details, versionsLine(version))
	}
	return change
}

// editHint is what can be done about edits.
const editHint = "give --drift keep to leave what was changed by hand as it is, or --drift restore to put it back"

// Make puts a new version in force. The tag names both documents while it does.
func (f *foundUpdate) Make(ctx context.Context) error {
	if f.Plan().Action != step.Update {
		return f.foundPolicy.Make(ctx)
	}
	arn := aws.String(f.arn())
	if version := f.oldest(); version != "" {
		_, err := f.iam.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: &version})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	if f.update.held {
		return f.createVersion(ctx)
	}
	both := f.digestTag(digest(f.policy.Document), f.lastWritten(f.tags, f.document))
	if missing := missingTags(f.tags, []types.Tag{both}); len(missing) > 0 {
		if _, err := f.iam.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: arn, Tags: missing}); err != nil {
			return fault.Passing(err)
		}
	}
	if err := f.createVersion(ctx); err != nil {
		return err
	}
	_, err := f.iam.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: arn, Tags: missingTags(append([]types.Tag{both}, withoutTag(f.tags, *both.Key)...), f.policyStep.tags)})
	return fault.Passing(err)
}

func (f *foundUpdate) createVersion(ctx context.Context) error {
	_, err := f.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{
		PolicyArn: aws.String(f.arn()), PolicyDocument: aws.String(string(f.policy.Document)), SetAsDefault: true,
	})
	var full *types.LimitExceededException
	if errors.As(err, &full) {
		return usererr.New(usererr.Refused, "policy %s has %d versions again: somebody else made one at the same time", f.policy.Name, maxVersions).
			WithHint("run the same command again, once nobody else changes it").Because(err)
	}
	return fault.Passing(err)
}

// lastWritten is the digest of the document that was written last. A run that was killed
// has left two, the new one first.
func (p place) lastWritten(tags []types.Tag, document []byte) string {
	written := p.written(tags)
	if len(written) == 0 {
		return digest(document)
	}
	return written[len(written)-1]
}

func withoutTag(tags []types.Tag, key string) []types.Tag {
	return slices.DeleteFunc(slices.Clone(tags), func(t types.Tag) bool { return aws.ToString(t.Key) == key })
}

// drop removes what is no longer wanted, as one of the steps of an update.
type drop struct {
	step.Step
	needs []string
	later bool // it is made and removed in the same run
	lines []string
}

func (d *drop) Needs() []string             { return d.needs }
func (d *drop) Check(context.Context) error { return nil }

// Name is another one than that of the step that makes it.
func (d *drop) Name() string {
	if d.later {
		return "end of " + d.Step.Name()
	}
	return d.Step.Name()
}

func (d *drop) Look(ctx context.Context, _ step.Goal) (step.Found, error) {
	found, err := d.Step.Look(ctx, step.Absent)
	if err != nil {
		return nil, err
	}
	return dropped{found, d}, nil
}

type dropped struct {
	step.Found
	drop *drop
}

func (d dropped) Plan() step.Change {
	change := d.Found.Plan()
	if change.Action == step.None && d.drop.later {
		return step.Change{Action: step.Remove, Details: []string{"once the others have changed"}}
	}
	change.Details = append(change.Details, d.drop.lines...)
	return change
}

func (d dropped) Make(ctx context.Context) error {
	if d.Found.Plan().Action != step.Remove {
		return nil
	}
	return d.Found.Remove(ctx)
}
