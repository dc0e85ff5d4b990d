package s3

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"

	"biplane.dev/biplane/provision/iampolicy"
)

// guarded is the store as versitygw's handlers see it.
type guarded struct {
	backend.Backend
	front *front
}

// GetBucketPolicy is what versitygw's own engine judges by, before it asks ours
// and for anonymous requests instead. It sees a policy that says nothing, or
// for an anonymous request our decisions on it. Only an operation that reads the
// policy, and that was allowed, gets the stored one.
func (g *guarded) GetBucketPolicy(ctx context.Context, bucket string) ([]byte, error) {
	request, ok := ctx.Value(factsKey{}).(*facts)
	account, _ := ctx.Value(string(utils.ContextKeyAccount)).(auth.Account)
	switch {
	case ok && request.policy && request.decided:
		return g.Backend.GetBucketPolicy(ctx, bucket)
	case ok && request.anonymous && account.Access == "":
		return g.front.anonymousPolicy(request, bucket)
	}
	// There is always a policy, so ACLs are never asked either.
	return []byte(`{"Version":"2012-10-17","Statement":[]}`), nil
}

// anonymousActions are those that versitygw lets a policy give to everybody. It
// reads no policy with an action that it does not know.
func anonymousActions() []auth.Action {
	return []auth.Action{
		auth.AbortMultipartUploadAction, auth.DeleteBucketAction, auth.DeleteBucketWebsiteAction, auth.DeleteObjectAction,
		auth.DeleteObjectTaggingAction, auth.DeleteObjectVersionAction, auth.GetBucketAclAction, auth.GetBucketCorsAction,
		auth.GetBucketLocationAction, auth.GetBucketObjectLockConfigurationAction, auth.GetBucketOwnershipControlsAction,
		auth.GetBucketPolicyStatusAction, auth.GetBucketTaggingAction, auth.GetBucketVersioningAction, auth.GetBucketWebsiteAction,
		auth.GetObjectAclAction, auth.GetObjectAction, auth.GetObjectAttributesAction, auth.GetObjectLegalHoldAction,
		auth.GetObjectRetentionAction, auth.GetObjectTaggingAction, auth.GetObjectVersionAction, auth.ListBucketAction,
		auth.ListBucketMultipartUploadsAction, auth.ListBucketVersionsAction, auth.ListMultipartUploadPartsAction,
		auth.PutBucketAclAction, auth.PutBucketCorsAction, auth.PutBucketObjectLockConfigurationAction, auth.PutBucketOwnershipControlsAction,
		auth.PutBucketTaggingAction, auth.PutBucketVersioningAction, auth.PutBucketWebsiteAction, auth.PutObjectAclAction,
		auth.PutObjectAction, auth.PutObjectLegalHoldAction, auth.PutObjectRetentionAction, auth.PutObjectTaggingAction, auth.RestoreObjectAction,
	}
}

// anonymousPolicy says in a bucket policy what our engine allows everybody to do
// with the bucket and the object of this request, and denies all else. Only in a
// bucket whose owner has turned ACLs on is there nothing said of what no policy
// speaks of: versitygw then asks the bucket's ACL.
func (f *front) anonymousPolicy(request *facts, bucket string) ([]byte, error) {
	type statement struct {
		Effect    string
		Principal string
		Action    []auth.Action
		Resource  []string
	}
	own := []string{bucketARN + bucket, bucketARN + bucket + "/*"} // of a form, the key is not known yet
	if request.key != "" && bucket == request.bucket {
		own = []string{bucketARN + bucket + "/" + request.key}
	}
	allow := statement{"Allow", "*", nil, own}
	deny := statement{"Deny", "*", nil, own}
	acls, err := f.hasACLs(bucket)
	if err != nil {
		return nil, err
	}
	for _, action := range anonymousActions() {
		decision, err := f.decide(request, f.question(request, string(action), own[0]))
		if err != nil {
			return nil, err
		}
		switch {
		case decision == iampolicy.Allowed:
			allow.Action = append(allow.Action, action)
		case !acls || decision == iampolicy.ExplicitDeny:
			deny.Action = append(deny.Action, action)
		}
	}
	if allow.Action == nil && !acls {
		deny.Action = []auth.Action{auth.AllActions}
	}
	out := []statement{} // an empty list where neither says anything
	for _, one := range []statement{deny, allow} {
		if one.Action != nil { // versitygw reads no statement without one
			out = append(out, one)
		}
	}
	return json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": out})
}

// hasACLs reports whether the bucket's owner has turned ACLs on: a new bucket
// has them off, and its ACL then grants nothing, whatever it was before.
func (f *front) hasACLs(bucket string) (bool, error) {
	ownership, err := f.store.GetBucketOwnershipControls(context.Background(), bucket)
	if isCode(err, "OwnershipControlsNotFoundError") || isCode(err, "NoSuchBucket") {
		return false, nil
	}
	return ownership != types.ObjectOwnershipBucketOwnerEnforced, err
}

// Whoever may not list a bucket is not told which keys it lacks.

func (g *guarded) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	out, err := g.Backend.GetObject(ctx, in)
	return out, g.front.notTold(ctx, *in.Bucket, err)
}

func (g *guarded) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	out, err := g.Backend.HeadObject(ctx, in)
	return out, g.front.notTold(ctx, *in.Bucket, err)
}

func (g *guarded) GetObjectAttributes(ctx context.Context, in *s3.GetObjectAttributesInput) (s3response.GetObjectAttributesResponse, error) {
	out, err := g.Backend.GetObjectAttributes(ctx, in)
	return out, g.front.notTold(ctx, *in.Bucket, err)
}

func (f *front) notTold(ctx context.Context, bucket string, err error) error {
	if !isCode(err, "NoSuchKey") {
		return err
	}
	request, ok := ctx.Value(factsKey{}).(*facts)
	if !ok || request.caller == nil && !request.anonymous {
		return err
	}
	decision, failed := f.decide(request, f.question(request, "s3:ListBucket", bucketARN+bucket))
	if failed != nil {
		return failed
	}
	if decision != iampolicy.Allowed {
		return s3err.GetAPIError(s3err.ErrAccessDenied)
	}
	return err
}
