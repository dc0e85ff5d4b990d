package network

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
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

// limits are the codes by which EC2 says that an account has as many as it may, with the
// limit to raise.
var limits = map[string][2]string{
	"VpcLimitExceeded":             {"vpc", "L-F678F1CE"},
	"InternetGatewayLimitExceeded": {"vpc", "L-A4707A72"},
	"SubnetLimitExceeded":          {"vpc", "L-407747CB"},
	"AddressLimitExceeded":         {"ec2", "L-0263D0A3"},
	"NatGatewayLimitExceeded":      {"vpc", "L-FE5A380F"},
	"VpcEndpointLimitExceeded":     {"vpc", "L-29B6F2EB"},
	"RouteTableLimitExceeded":      {"vpc", "L-589F43AA"},
	"SecurityGroupLimitExceeded":   {"vpc", "L-E79EC296"},
}

// sayLimit puts the refusal of a limit into a sentence with a way out, and leaves every
// other error as it is.
func sayLimit(what string, err error) error {
	limit, ok := limits[fault.Code(err)]
	if !ok {
		return err
	}
	return usererr.New(usererr.Refused, "the account has as many as it may for one more %s: %s", what, fault.Text(err)).
		WithHint("remove what is unused, or run 'aws service-quotas request-service-quota-increase --service-code %s --quota-code %s --desired-value N', then the same command again", limit[0], limit[1]).
		Because(err)
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
