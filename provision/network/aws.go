package network

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/fault"
)

// anew makes a thing by a call with a client token, which create is given a part of, and
// which returns the thing's id. AWS answers a token for a day with what it made by it
// first, though that may be gone, and be shown no longer: then another token is taken.
// lives says whether it is there, or on its way.
func (m *maker) anew(ctx context.Context, create func(part string) (id string, err error), lives func(id string) (bool, error)) (string, error) {
	part := ""
	for {
		id, err := create(part)
		if err != nil {
			return "", err
		}
		// A new one may take a while to be seen.
		const tries, pause = 12, 5 * time.Second
		for try := range tries {
			if try > 0 {
				if err := m.Clock.Sleep(ctx, pause); err != nil {
					return "", err
				}
			}
			if there, err := lives(id); err != nil && !fault.Gone(err) {
				return "", err
			} else if there {
				return id, nil
			}
		}
		part = id
	}
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
