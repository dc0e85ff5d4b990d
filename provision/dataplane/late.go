package dataplane

import (
	"context"
	"time"

	"biplane.dev/biplane/provision/step"
)

// late is a step of another package that is worked out when it is looked at, from what
// the steps that it needs have found by then.
type late struct {
	name  string
	needs []string
	about step.Description
	// known reports whether there is enough to find the thing by; nil: always.
	known func() bool
	now   func() (step.Step, error)
}

func (l *late) Name() string               { return l.name }
func (l *late) Needs() []string            { return l.needs }
func (l *late) Describe() step.Description { return l.about }

func (l *late) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	if l.known != nil && !l.known() {
		return unknown{goal}, nil
	}
	s, err := l.now()
	if err != nil {
		return nil, err
	}
	return s.Look(ctx, goal)
}

func (l *late) Check(ctx context.Context) error {
	s, err := l.now()
	if err != nil {
		return err
	}
	return s.Check(ctx)
}

// unknown is a thing that cannot be there, because what it belongs to is not.
type unknown struct{ goal step.Goal }

func (u unknown) Plan() step.Change {
	if u.goal == step.Absent {
		return step.Change{Action: step.None}
	}
	return step.Change{Action: step.Create}
}

// Make and Remove come after another look, when it is known.
func (unknown) Make(context.Context) error   { return step.ErrConflict }
func (unknown) Remove(context.Context) error { return nil }

// What is known of the steps of packages that the sandbox uses too, and that say
// nothing of AWS's time and prices themselves.
var (
	bucketDescription = step.Description{
		Service: "s3",
		Creates: []string{"s3:CreateBucket", "s3:PutBucketEncryption", "s3:PutBucketVersioning", "s3:PutPublicAccessBlock", "s3:PutBucketOwnershipControls",
			"s3:PutBucketCors", "s3:PutBucketLifecycleConfiguration"},
		Updates: []string{"s3:PutBucketTagging", "s3:PutBucketEncryption", "s3:PutBucketVersioning", "s3:PutPublicAccessBlock", "s3:PutBucketOwnershipControls",
			"s3:PutBucketCors", "s3:PutBucketLifecycleConfiguration"},
		Removes: []string{"s3:ListObjectVersions", "s3:DeleteObjects", "s3:ListMultipartUploads", "s3:AbortMultipartUpload", "s3:DeleteBucket"},
		Cost:    "0.023 USD a GB and month, and the requests", ToMake: 5 * time.Second, ToRemove: 10 * time.Second,
	}
	roleDescription = step.Description{
		Service: "iam", Creates: []string{"iam:CreateRole", "iam:PutRolePolicy"}, Updates: []string{"iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:TagRole"},
		Removes: []string{"iam:DeleteRolePolicy", "iam:DeleteRole"}, ToMake: 10 * time.Second, ToRemove: 2 * time.Second,
	}
	providerDescription = step.Description{
		Service: "iam", Creates: []string{"iam:CreateOpenIDConnectProvider"}, Removes: []string{"iam:DeleteOpenIDConnectProvider"}, ToMake: 2 * time.Second, ToRemove: time.Second,
	}
)
