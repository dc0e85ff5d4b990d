package stack_test

import (
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"biplane.dev/biplane/provision/vendor"
)

// bucketOf is the configuration of a bucket of v's grant; nil is somebody else's.
func bucketOf(v *vendor.Profile) *types.CreateBucketConfiguration {
	c := &types.CreateBucketConfiguration{LocationConstraint: region}
	if v != nil {
		c.Tags = []types.Tag{{Key: ptr(v.ManagedByKey()), Value: ptr(vendor.ManagedByValue)}}
	}
	return c
}
