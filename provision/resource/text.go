package resource

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/ownership"
)

// EC2Tags are tags as EC2 takes them, in order.
func EC2Tags(tags map[string]string) []ec2types.Tag {
	var list []ec2types.Tag
	for _, key := range ownership.Keys(tags) {
		list = append(list, ec2types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

// EC2Tagged is what a call of EC2 that makes a thing says of its tags.
func EC2Tagged(kind ec2types.ResourceType, tags map[string]string) []ec2types.TagSpecification {
	return []ec2types.TagSpecification{{ResourceType: kind, Tags: EC2Tags(tags)}}
}

// EC2TagMap are tags as EC2 gives them, by key.
func EC2TagMap(tags []ec2types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

// Joined is a list as one text, for comparing settings whose order says nothing.
func Joined(list []string) string {
	return strings.Join(slices.Sorted(slices.Values(list)), ", ")
}

// SortedPairs are a map as one text, for comparing settings: "a=1, b=2".
func SortedPairs(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return strings.Join(out, ", ")
}

// OrNone is a setting in a sentence.
func OrNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// SameJSON reports whether two documents have the same values. One that is none has not.
func SameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
