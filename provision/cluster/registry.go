package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

func (c *cluster) repositories() []*resource.Resource {
	var out []*resource.Resource
	for _, name := range c.Spec.Registry.Repositories {
		out = append(out, c.repository(c.Vendor.Repository+name))
	}
	return out
}

// repository holds images that the data plane builds.
func (c *cluster) repository(name string) *resource.Resource {
	lifecycle := c.lifecycle()
	putLifecycle := func(ctx context.Context) error {
		_, err := c.AWS.ECR.PutLifecyclePolicy(ctx, &ecr.PutLifecyclePolicyInput{RepositoryName: &name, LifecyclePolicyText: &lifecycle, RegistryId: &c.Place.Account})
		return err
	}
	return &resource.Resource{
		Plane: c.Plane, Title: "repository " + name, Requires: []string{KeyTitle}, Component: component, LogicalID: "repository-" + strings.ReplaceAll(name, "/", "-"),
		About: step.Description{Service: "ecr", Creates: []string{"ecr:CreateRepository", "ecr:PutLifecyclePolicy"},
			Updates: []string{"ecr:PutImageScanningConfiguration", "ecr:PutImageTagMutability", "ecr:PutLifecyclePolicy"},
			Removes: []string{"ecr:DescribeImages", "ecr:BatchDeleteImage", "ecr:DeleteRepository"},
			Cost:    "0.10 USD a GB and month", ToMake: 2 * time.Second, ToRemove: 2 * time.Second},
		Purpose: []string{"images that the data plane builds, scanned when they are pushed, their tags not moved", fmt.Sprintf("without a tag for %d days: dropped", c.Spec.Registry.UntaggedDays)},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := c.AWS.ECR.DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{name}, RegistryId: &c.Place.Account})
			if fault.Gone(err) || err == nil && len(out.Repositories) == 0 {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			got := out.Repositories[0]
			tags, err := c.AWS.ECR.ListTagsForResource(ctx, &ecr.ListTagsForResourceInput{ResourceArn: got.RepositoryArn})
			if err != nil {
				return nil, err
			}
			s := &resource.State{Tags: map[string]string{}}
			for _, t := range tags.Tags {
				s.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
			}
			if goal == step.Absent {
				return s, nil
			}
			if got.ImageScanningConfiguration == nil || !got.ImageScanningConfiguration.ScanOnPush {
				s.Differ = append(s.Differ, resource.Difference{Field: "scanning", Want: "on push", Have: "off", Put: func(ctx context.Context) error {
					_, err := c.AWS.ECR.PutImageScanningConfiguration(ctx, &ecr.PutImageScanningConfigurationInput{RepositoryName: &name, RegistryId: &c.Place.Account,
						ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: true}})
					return err
				}})
			}
			s.Differ = append(s.Differ, resource.Differ("tag mutability", string(types.ImageTagMutabilityImmutable), string(got.ImageTagMutability), func(ctx context.Context) error {
				_, err := c.AWS.ECR.PutImageTagMutability(ctx, &ecr.PutImageTagMutabilityInput{RepositoryName: &name, RegistryId: &c.Place.Account, ImageTagMutability: types.ImageTagMutabilityImmutable})
				return err
			})...)
			if e, key := got.EncryptionConfiguration, c.One(plane.EncryptionKey); key != "" && e != nil {
				s.Differ = append(s.Differ, resource.Differ("encryption key", key, aws.ToString(e.KmsKey), nil)...)
			}
			policy, err := c.AWS.ECR.GetLifecyclePolicy(ctx, &ecr.GetLifecyclePolicyInput{RepositoryName: &name, RegistryId: &c.Place.Account})
			switch {
			case fault.Gone(err):
				s.Differ = append(s.Differ, resource.Difference{Field: "lifecycle", Want: lifecycle, Put: putLifecycle})
			case err != nil:
				return nil, err
			case !resource.SameJSON(aws.ToString(policy.LifecyclePolicyText), lifecycle):
				s.Differ = append(s.Differ, resource.Difference{Field: "lifecycle", Want: lifecycle, Have: aws.ToString(policy.LifecyclePolicyText), Put: putLifecycle})
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			var list []types.Tag
			for _, key := range sorted(tags) {
				list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
			}
			_, err := c.AWS.ECR.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: &name, RegistryId: &c.Place.Account, Tags: list,
				ImageTagMutability: types.ImageTagMutabilityImmutable, ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: true},
				EncryptionConfiguration: &types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeKms, KmsKey: aws.String(c.One(plane.EncryptionKey))}})
			return err
		},
		Tag: func(ctx context.Context, tags map[string]string) error {
			var list []types.Tag
			for _, key := range sorted(tags) {
				list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
			}
			_, err := c.AWS.ECR.TagResource(ctx, &ecr.TagResourceInput{ResourceArn: aws.String(c.ARN("ecr", "repository/"+name)), Tags: list})
			return err
		},
		Stays: func() string {
			if c.DeleteData {
				return ""
			}
			return "it stays, with its images: nobody asked for data to be deleted"
		},
		Delete: func(ctx context.Context, _ *resource.State) error {
			if err := c.dropImages(ctx, name); err != nil {
				return err
			}
			_, err := c.AWS.ECR.DeleteRepository(ctx, &ecr.DeleteRepositoryInput{RepositoryName: &name, RegistryId: &c.Place.Account})
			return err
		},
	}
}

// lifecycle is what becomes of images in a repository, as ECR has it.
func (c *cluster) lifecycle() string {
	return fmt.Sprintf(`{"rules":[{"rulePriority":1,"description":"images without a tag","selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":%d},"action":{"type":"expire"}}]}`, c.Spec.Registry.UntaggedDays)
}

// dropImages empties a repository, a hundred images at a time, which is what a call takes.
func (c *cluster) dropImages(ctx context.Context, name string) error {
	pages := ecr.NewDescribeImagesPaginator(c.AWS.ECR, &ecr.DescribeImagesInput{RepositoryName: &name, RegistryId: &c.Place.Account, MaxResults: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		var ids []types.ImageIdentifier
		for _, image := range page.ImageDetails {
			ids = append(ids, types.ImageIdentifier{ImageDigest: image.ImageDigest})
		}
		if len(ids) == 0 {
			continue
		}
		if _, err := c.AWS.ECR.BatchDeleteImage(ctx, &ecr.BatchDeleteImageInput{RepositoryName: &name, RegistryId: &c.Place.Account, ImageIds: ids}); err != nil {
			return err
		}
	}
	return nil
}
