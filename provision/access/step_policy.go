package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
)

// policyStep keeps one managed policy, the boundary included.
type policyStep struct {
	place
	policy  Policy
	path    string
	purpose string
	tags    []types.Tag
	// users are the roles of the set. What else uses the policy keeps it from
	// being removed.
	users []string
	held  bool // by a stack, which removes it
}

func policyStepName(policy string) string { return "policy " + policy }

func (s *policyStep) Name() string    { return policyStepName(s.policy.Name) }
func (s *policyStep) Needs() []string { return nil }
func (s *policyStep) arn() string     { return s.policyARN(s.path, s.policy.Name) }

// Check asks for nothing: a policy that IAM does not show everywhere yet cannot
// be attached, and the role's step tries that until it can.
func (s *policyStep) Check(context.Context) error { return nil }

// foundPolicy is the policy as it is.
type foundPolicy struct {
	*policyStep
	goal        step.Goal
	there       bool
	tags        []types.Tag
	differences []string // read for Present
	strangers   []string // read for Absent: who uses it beside the set's roles
}

func (s *policyStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found := &foundPolicy{policyStep: s, goal: goal}
	out, err := s.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: aws.String(s.arn())})
	if fault.NoSuchEntity(err) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	found.there, found.tags = true, out.Policy.Tags
	if goal == step.Absent {
		if aws.ToInt32(out.Policy.AttachmentCount)+aws.ToInt32(out.Policy.PermissionsBoundaryUsageCount) > 0 {
			found.strangers, err = s.strangersOf(ctx, s.arn())
		}
		return found, err
	}
	version, err := s.iam.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: aws.String(s.arn()), VersionId: out.Policy.DefaultVersionId})
	if fault.NoSuchEntity(err) {
		return &foundPolicy{policyStep: s, goal: goal}, nil // deleted between the two calls
	}
	if err != nil {
		return nil, err
	}
	have, err := plain(version.PolicyVersion.Document)
	if err != nil {
		return nil, err
	}
	found.differences = documentDifferences("the document", have, s.policy.Document)
	return found, nil
}

// strangersOf names those who use the policy and are not of the set.
func (s *policyStep) strangersOf(ctx context.Context, arn string) ([]string, error) {
	var strangers []string
	pages := iam.NewListEntitiesForPolicyPaginator(s.iam, &iam.ListEntitiesForPolicyInput{PolicyArn: &arn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if fault.NoSuchEntity(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, r := range page.PolicyRoles {
			if name := aws.ToString(r.RoleName); !slices.Contains(s.users, name) {
				strangers = append(strangers, "role "+name)
			}
		}
		for _, u := range page.PolicyUsers {
			strangers = append(strangers, "user "+aws.ToString(u.UserName))
		}
		for _, g := range page.PolicyGroups {
			strangers = append(strangers, "group "+aws.ToString(g.GroupName))
		}
	}
	slices.Sort(strangers)
	return slices.Compact(strangers), nil
}

func (f *foundPolicy) Plan() step.Change {
	if f.goal == step.Absent {
		return f.planRemoval()
	}
	missing := missingTags(f.tags, f.policyStep.tags)
	switch {
	case !f.there:
		return step.Change{Action: step.Create, Details: []string{
			fmt.Sprintf("%s, %s characters: %s", f.arn(), thousands(f.policy.Size), f.purpose),
		}}
	case len(f.differences) > 0:
		return f.refusal(f.tags, f.policyStep.tags, f.differences)
	case !f.ours(f.tags):
		return step.Change{Action: step.Adopt, Details: []string{"its document is the one wanted; it gets the tags " + tagText(missing)}}
	case len(missing) > 0:
		return step.Change{Action: step.Finish, Details: []string{"set tags " + tagText(missing)}}
	}
	return step.Change{Action: step.Keep}
}

func (f *foundPolicy) planRemoval() step.Change {
	switch {
	case !f.there:
		return step.Change{Action: step.None}
	case f.held && len(f.strangers) == 0:
		return step.Change{Action: step.None}
	case !f.held && !f.ours(f.tags):
		return step.Change{Action: step.Leave, Details: []string{notOurs(f.vendor.ManagedByKey())}}
	case len(f.strangers) > 0:
		return step.Change{Action: step.Leave, Details: []string{"it is still used by " + listed(f.strangers, 5)}}
	}
	return step.Change{Action: step.Remove, Details: []string{f.arn()}}
}

func (f *foundPolicy) Make(ctx context.Context) error {
	if f.there {
		_, err := f.iam.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: aws.String(f.arn()), Tags: missingTags(f.tags, f.policyStep.tags)})
		return fault.Passing(err)
	}
	_, err := f.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName:     aws.String(f.policy.Name),
		Path:           aws.String(f.path),
		PolicyDocument: aws.String(string(f.policy.Document)),
		Description:    aws.String(f.purpose),
		Tags:           f.policyStep.tags,
	})
	return fault.Passing(err)
}

// Remove deletes the policy. One with more versions than its default one, which
// grant does not make, has to lose them first.
func (f *foundPolicy) Remove(ctx context.Context) error {
	_, err := f.iam.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: aws.String(f.arn())})
	var inUse *types.DeleteConflictException
	if !errors.As(err, &inUse) {
		return fault.UnlessGone(err)
	}
	if err := f.removeVersions(ctx); err != nil {
		return fault.UnlessGone(err)
	}
	_, err = f.iam.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: aws.String(f.arn())})
	return fault.UnlessGone(err)
}

func (f *foundPolicy) removeVersions(ctx context.Context) error {
	pages := iam.NewListPolicyVersionsPaginator(f.iam, &iam.ListPolicyVersionsInput{PolicyArn: aws.String(f.arn())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, v := range page.Versions {
			if v.IsDefaultVersion {
				continue
			}
			_, err := f.iam.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: aws.String(f.arn()), VersionId: v.VersionId})
			if err := fault.UnlessGone(err); err != nil {
				return err
			}
		}
	}
	return nil
}
