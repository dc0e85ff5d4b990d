package storage

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// empty deletes every version, every mark of a deletion, and every upload that was
// not finished; each of them keeps a bucket from being deleted. A page is asked for
// from the start again once it is deleted, so nothing depends on how a store pages
// through what is vanishing.
func (f *foundBucket) empty(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := f.s3.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &f.bucket, ExpectedBucketOwner: f.account(), MaxKeys: aws.Int32(1000)})
		if err != nil {
			return err
		}
		var batch []types.ObjectIdentifier
		for _, v := range page.Versions {
			batch = append(batch, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
		}
		for _, m := range page.DeleteMarkers {
			batch = append(batch, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
		}
		if len(batch) == 0 {
			break
		}
		out, err := f.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &f.bucket, ExpectedBucketOwner: f.account(), Delete: &types.Delete{Objects: batch, Quiet: aws.Bool(true)}})
		if err != nil {
			return err
		}
		if len(out.Errors) > 0 {
			e := out.Errors[0]
			return fmt.Errorf("%w: %s: %s: %s", errUndeleted, aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message))
		}
	}
	for {
		page, err := f.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &f.bucket, ExpectedBucketOwner: f.account()})
		if err != nil {
			return err
		}
		if len(page.Uploads) == 0 {
			return nil
		}
		for _, u := range page.Uploads {
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err := f.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &f.bucket, ExpectedBucketOwner: f.account(), Key: u.Key, UploadId: u.UploadId})
			if err != nil && code(err) != "NoSuchUpload" {
				return err
			}
		}
	}
}
