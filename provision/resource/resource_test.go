package resource_test

import (
	"context"
	"testing"

	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// A request to delete is sent again when its answer was lost, and is then refused where
// the right depends on the tags of what is no longer there.
func TestRemoveWhatIsGone(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		name    string
		left    *resource.State // after the first request
		deletes int
		denied  bool
	}{
		{"it is content when the thing is gone", nil, 1, false},
		{"it deletes again when only a part was gone", &resource.State{Ours: true}, 2, false},
		{"it says what AWS says when it is refused again", &resource.State{Ours: true}, 2, true},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			there, deletes := &resource.State{Ours: true}, 0
			r := &resource.Resource{
				Plane: &plane.Plane{}, Title: "thing",
				Find: func(context.Context, step.Goal) (*resource.State, error) { return there, nil },
				Delete: func(context.Context, *resource.State) error {
					if deletes++; deletes == 2 && !one.denied {
						there = nil
						return nil
					}
					there = one.left
					return &smithy.GenericAPIError{Code: "AccessDeniedException"}
				},
			}
			runner := step.Runner{Steps: []step.Step{r}}
			plan, err := runner.Plan(t.Context(), step.Absent)
			if err != nil {
				t.Fatal(err)
			}
			if err := runner.Apply(t.Context(), plan); fault.Denied(err) != one.denied || err != nil && !one.denied || deletes != one.deletes {
				t.Errorf("got %v after %d requests, want denied %v after %d", err, deletes, one.denied, one.deletes)
			}
		})
	}
}
