package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/fault"
)

// journal is an IAM that remembers how to take back each write. It is in memory alone:
// what a kill leaves is finished by the next run and not taken back.
type journal struct {
	IAM
	mu   sync.Mutex
	undo []entry
}

// entry takes back one write.
type entry struct {
	what string
	do   func(context.Context) error
}

// wrote notes a write, unless AWS refused it to the caller: an answer that was lost counts
// as a write, and taking back what is not there is no error.
func (j *journal) wrote(err error, what string, undo func(context.Context) error) {
	if fault.Denied(err) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.undo = append(j.undo, entry{what, undo})
}

// Undo takes back everything that was written, the last first. It goes on after an error,
// and says in the end what could not be taken back.
func (u *Update) Undo(ctx context.Context) error {
	u.journal.mu.Lock()
	entries := u.journal.undo
	u.journal.undo = nil
	u.journal.mu.Unlock()
	var left []error
	for _, e := range slices.Backward(entries) {
		if err := fault.UnlessGone(e.do(ctx)); err != nil {
			left = append(left, fmt.Errorf("%s: %w", e.what, err))
		}
	}
	return errors.Join(left...)
}

// Wrote reports whether there is anything to take back.
func (u *Update) Wrote() bool {
	u.journal.mu.Lock()
	defer u.journal.mu.Unlock()
	return len(u.journal.undo) > 0
}

func (j *journal) CreatePolicy(ctx context.Context, in *iam.CreatePolicyInput, o ...func(*iam.Options)) (*iam.CreatePolicyOutput, error) {
	out, err := j.IAM.CreatePolicy(ctx, in, o...)
	if err != nil {
		return out, err // a policy that nothing carries gives nobody anything
	}
	j.wrote(nil, "policy "+*in.PolicyName, func(ctx context.Context) error {
		_, err := j.IAM.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: out.Policy.Arn})
		return err
	})
	return out, nil
}

func (j *journal) CreatePolicyVersion(ctx context.Context, in *iam.CreatePolicyVersionInput, o ...func(*iam.Options)) (*iam.CreatePolicyVersionOutput, error) {
	before, err := readVersions(ctx, j.IAM, *in.PolicyArn)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.CreatePolicyVersion(ctx, in, o...)
	j.wrote(err, *in.PolicyArn, func(ctx context.Context) error {
		for _, v := range before {
			if v.IsDefaultVersion {
				if _, err := j.IAM.SetDefaultPolicyVersion(ctx, &iam.SetDefaultPolicyVersionInput{PolicyArn: in.PolicyArn, VersionId: v.VersionId}); err != nil {
					return err
				}
			}
		}
		after, err := readVersions(ctx, j.IAM, *in.PolicyArn)
		if err != nil {
			return err
		}
		for _, v := range after {
			if slices.ContainsFunc(before, func(b types.PolicyVersion) bool { return aws.ToString(b.VersionId) == aws.ToString(v.VersionId) }) {
				continue
			}
			made, err := j.IAM.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: in.PolicyArn, VersionId: v.VersionId})
			if err != nil {
				return err
			}
			text, err := plain(made.PolicyVersion.Document)
			if err != nil {
				return err
			}
			if !sameText(text, []byte(*in.PolicyDocument)) {
				continue // somebody else's
			}
			if _, err := j.IAM.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: in.PolicyArn, VersionId: v.VersionId}); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (j *journal) TagPolicy(ctx context.Context, in *iam.TagPolicyInput, o ...func(*iam.Options)) (*iam.TagPolicyOutput, error) {
	before, err := j.IAM.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: in.PolicyArn})
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.TagPolicy(ctx, in, o...)
	j.wrote(err, "the tags of "+*in.PolicyArn, func(ctx context.Context) error {
		former, added := formerTags(before.Policy.Tags, in.Tags)
		if len(added) > 0 {
			if _, err := j.IAM.UntagPolicy(ctx, &iam.UntagPolicyInput{PolicyArn: in.PolicyArn, TagKeys: added}); err != nil {
				return err
			}
		}
		if len(former) == 0 {
			return nil
		}
		_, err := j.IAM.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: in.PolicyArn, Tags: former})
		return err
	})
	return out, err
}

// formerTags are the values that tags had before they were written, and the keys that
// were not there.
func formerTags(before, written []types.Tag) (former []types.Tag, added []string) {
	for _, w := range written {
		i := slices.IndexFunc(before, func(t types.Tag) bool { return aws.ToString(t.Key) == aws.ToString(w.Key) })
		if i < 0 {
			added = append(added, aws.ToString(w.Key))
			continue
		}
		former = append(former, before[i])
	}
	return former, added
}

func (j *journal) DeletePolicy(ctx context.Context, in *iam.DeletePolicyInput, o ...func(*iam.Options)) (*iam.DeletePolicyOutput, error) {
	policy, err := j.IAM.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: in.PolicyArn})
	if err != nil {
		return nil, err
	}
	version, err := j.IAM.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: in.PolicyArn, VersionId: policy.Policy.DefaultVersionId})
	if err != nil {
		return nil, err
	}
	document, err := plain(version.PolicyVersion.Document)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.DeletePolicy(ctx, in, o...)
	if err != nil {
		return out, err
	}
	j.wrote(nil, *in.PolicyArn, func(ctx context.Context) error {
		p := policy.Policy
		_, err := j.IAM.CreatePolicy(ctx, &iam.CreatePolicyInput{
			PolicyName: p.PolicyName, Path: p.Path, Description: p.Description, Tags: p.Tags, PolicyDocument: aws.String(string(document)),
		})
		return err
	})
	return out, nil
}

func (j *journal) CreateRole(ctx context.Context, in *iam.CreateRoleInput, o ...func(*iam.Options)) (*iam.CreateRoleOutput, error) {
	out, err := j.IAM.CreateRole(ctx, in, o...)
	if err != nil {
		return out, err
	}
	j.wrote(nil, "role "+*in.RoleName, func(ctx context.Context) error {
		_, err := j.IAM.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: in.RoleName})
		return err
	})
	return out, nil
}

func (j *journal) DeleteRole(ctx context.Context, in *iam.DeleteRoleInput, o ...func(*iam.Options)) (*iam.DeleteRoleOutput, error) {
	role, trust, err := j.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.DeleteRole(ctx, in, o...)
	if err != nil {
		return out, err
	}
	j.wrote(nil, "role "+*in.RoleName, func(ctx context.Context) error {
		again := &iam.CreateRoleInput{
			RoleName: role.RoleName, Path: role.Path, Description: role.Description, MaxSessionDuration: role.MaxSessionDuration, Tags: role.Tags,
			AssumeRolePolicyDocument: aws.String(string(trust)),
		}
		if b := role.PermissionsBoundary; b != nil {
			again.PermissionsBoundary = b.PermissionsBoundaryArn
		}
		_, err := j.IAM.CreateRole(ctx, again)
		return err
	})
	return out, nil
}

func (j *journal) role(ctx context.Context, name *string) (*types.Role, []byte, error) {
	out, err := j.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	if err != nil {
		return nil, nil, err
	}
	trust, err := plain(out.Role.AssumeRolePolicyDocument)
	return out.Role, trust, err
}

func (j *journal) TagRole(ctx context.Context, in *iam.TagRoleInput, o ...func(*iam.Options)) (*iam.TagRoleOutput, error) {
	before, _, err := j.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.TagRole(ctx, in, o...)
	j.wrote(err, "the tags of role "+*in.RoleName, func(ctx context.Context) error {
		former, added := formerTags(before.Tags, in.Tags)
		if len(added) > 0 {
			if _, err := j.IAM.UntagRole(ctx, &iam.UntagRoleInput{RoleName: in.RoleName, TagKeys: added}); err != nil {
				return err
			}
		}
		if len(former) == 0 {
			return nil
		}
		_, err := j.IAM.TagRole(ctx, &iam.TagRoleInput{RoleName: in.RoleName, Tags: former})
		return err
	})
	return out, err
}

func (j *journal) UpdateAssumeRolePolicy(ctx context.Context, in *iam.UpdateAssumeRolePolicyInput, o ...func(*iam.Options)) (*iam.UpdateAssumeRolePolicyOutput, error) {
	_, trust, err := j.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.UpdateAssumeRolePolicy(ctx, in, o...)
	j.wrote(err, "the trust of role "+*in.RoleName, func(ctx context.Context) error {
		_, err := j.IAM.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: in.RoleName, PolicyDocument: aws.String(string(trust))})
		return err
	})
	return out, err
}

func (j *journal) UpdateRole(ctx context.Context, in *iam.UpdateRoleInput, o ...func(*iam.Options)) (*iam.UpdateRoleOutput, error) {
	before, _, err := j.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.UpdateRole(ctx, in, o...)
	j.wrote(err, "the length of sessions of role "+*in.RoleName, func(ctx context.Context) error {
		_, err := j.IAM.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: in.RoleName, MaxSessionDuration: before.MaxSessionDuration, Description: before.Description})
		return err
	})
	return out, err
}

func (j *journal) PutRolePermissionsBoundary(ctx context.Context, in *iam.PutRolePermissionsBoundaryInput, o ...func(*iam.Options)) (*iam.PutRolePermissionsBoundaryOutput, error) {
	before, _, err := j.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.PutRolePermissionsBoundary(ctx, in, o...)
	j.wrote(err, "the boundary of role "+*in.RoleName, j.boundary(before))
	return out, err
}

func (j *journal) DeleteRolePermissionsBoundary(ctx context.Context, in *iam.DeleteRolePermissionsBoundaryInput, o ...func(*iam.Options)) (*iam.DeleteRolePermissionsBoundaryOutput, error) {
	before, _, err := j.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.DeleteRolePermissionsBoundary(ctx, in, o...)
	j.wrote(err, "the boundary of role "+*in.RoleName, j.boundary(before))
	return out, err
}

// boundary gives a role the boundary that it had.
func (j *journal) boundary(before *types.Role) func(context.Context) error {
	return func(ctx context.Context) error {
		if b := before.PermissionsBoundary; b != nil {
			_, err := j.IAM.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: before.RoleName, PermissionsBoundary: b.PermissionsBoundaryArn})
			return err
		}
		_, err := j.IAM.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: before.RoleName})
		return err
	}
}

func (j *journal) AttachRolePolicy(ctx context.Context, in *iam.AttachRolePolicyInput, o ...func(*iam.Options)) (*iam.AttachRolePolicyOutput, error) {
	out, err := j.IAM.AttachRolePolicy(ctx, in, o...)
	j.wrote(err, *in.PolicyArn+" on role "+*in.RoleName, func(ctx context.Context) error {
		_, err := j.IAM.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: in.RoleName, PolicyArn: in.PolicyArn})
		return err
	})
	return out, err
}

func (j *journal) DetachRolePolicy(ctx context.Context, in *iam.DetachRolePolicyInput, o ...func(*iam.Options)) (*iam.DetachRolePolicyOutput, error) {
	out, err := j.IAM.DetachRolePolicy(ctx, in, o...)
	j.wrote(err, *in.PolicyArn+" on role "+*in.RoleName, func(ctx context.Context) error {
		_, err := j.IAM.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: in.RoleName, PolicyArn: in.PolicyArn})
		return err
	})
	return out, err
}

func (j *journal) PutRolePolicy(ctx context.Context, in *iam.PutRolePolicyInput, o ...func(*iam.Options)) (*iam.PutRolePolicyOutput, error) {
	undo, err := j.inline(ctx, in.RoleName, in.PolicyName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.PutRolePolicy(ctx, in, o...)
	j.wrote(err, "inline policy "+*in.PolicyName+" of role "+*in.RoleName, undo)
	return out, err
}

func (j *journal) DeleteRolePolicy(ctx context.Context, in *iam.DeleteRolePolicyInput, o ...func(*iam.Options)) (*iam.DeleteRolePolicyOutput, error) {
	undo, err := j.inline(ctx, in.RoleName, in.PolicyName)
	if err != nil {
		return nil, err
	}
	out, err := j.IAM.DeleteRolePolicy(ctx, in, o...)
	j.wrote(err, "inline policy "+*in.PolicyName+" of role "+*in.RoleName, undo)
	return out, err
}

// inline puts an inline policy back to what it is now.
func (j *journal) inline(ctx context.Context, role, name *string) (func(context.Context) error, error) {
	out, err := j.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: role, PolicyName: name})
	if fault.NoSuchEntity(err) {
		return func(ctx context.Context) error {
			_, err := j.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: role, PolicyName: name})
			return err
		}, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := plain(out.PolicyDocument)
	return func(ctx context.Context) error {
		_, err := j.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: role, PolicyName: name, PolicyDocument: aws.String(string(text))})
		return err
	}, err
}
