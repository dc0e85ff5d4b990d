package resource_test

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// A request to delete is sent again when its answer was lost, and is then refused where
// the right depends on the tags of what is no longer there.
func TestRemoveWhatIsGone(t *testing.T) {
	t.Parallel()
	denied := &smithy.GenericAPIError{Code: "AccessDeniedException"}
	for _, one := range []struct {
		name string
		left *resource.State // after the request
		want func(error) bool
	}{
		{"it is content when the thing is gone", nil, func(err error) bool { return err == nil }},
		{"it waits while the thing is leaving", &resource.State{Leaving: "it is DELETING"}, func(err error) bool { return errors.Is(err, step.ErrNotYet) }},
		{"it says what AWS says when the thing stays", &resource.State{}, fault.Denied},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			left := &resource.State{Ours: true}
			r := &resource.Resource{
				Title:  "thing",
				Find:   func(context.Context, step.Goal) (*resource.State, error) { return left, nil },
				Delete: func(context.Context, *resource.State) error { left = one.left; return denied },
			}
			found, err := r.Look(t.Context(), step.Absent)
			if err != nil {
				t.Fatal(err)
			}
			if err := found.Remove(t.Context()); !one.want(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}
