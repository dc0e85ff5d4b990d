package network

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/ownership"
)

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

func tagList(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range ownership.Keys(tags) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

// tagged is what a call that makes a thing says of its tags.
func tagged(kind types.ResourceType, tags map[string]string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: tagList(tags)}}
}

// lower is a state of EC2's, which some calls write with a capital.
func lower[T ~string](state T) string { return strings.ToLower(string(state)) }

// unsuccessful is the error of a call that reports failures in its answer.
func unsuccessful(items []types.UnsuccessfulItem) error {
	for _, item := range items {
		if item.Error == nil || strings.HasSuffix(aws.ToString(item.Error.Code), "NotFound") {
			continue
		}
		return fmt.Errorf("%s: %s (%s)", aws.ToString(item.ResourceId), aws.ToString(item.Error.Message), aws.ToString(item.Error.Code))
	}
	return nil
}
