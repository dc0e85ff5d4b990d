package cli_test

import (
	"bytes"
	"os/exec"
	"sync"
	"testing"
)

// Two operators who apply the same file at once make one data plane: one works, the
// other waits and then finds nothing to do.
func TestTwoOperators(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	worlds := newPlaneWorlds(t, biplane)
	file := dataPlaneFile(t)
	applied := func(operators int) string {
		t.Helper()
		world, err := worlds.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer world.Close()
		var working sync.WaitGroup
		for range operators {
			working.Go(func() {
				cmd := exec.CommandContext(t.Context(), biplane, "dataplane", "apply", file, "--profile", "vendor", "--yes", "--quiet")
				cmd.Env = world.Env
				var said bytes.Buffer
				cmd.Stdout, cmd.Stderr = &said, &said
				if err := cmd.Run(); err != nil {
					t.Errorf("%v: %s", err, &said)
				}
			})
		}
		working.Wait()
		state, err := world.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	if one, three := applied(1), applied(3); one != three {
		t.Errorf("three operators at once made another account than one:\n%s\nwant\n%s", three, one)
	}
}
