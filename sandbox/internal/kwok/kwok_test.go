package kwok

import (
	"net/http/httptest"
	"strings"
	"testing"

	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/utils/lifecycle"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		annotations any
		want        int
	}{
		{"is 0 for a pod without annotations", nil, 0},
		{"is 0 for a pod without this one", map[string]any{"other": "3"}, 0},
		{"is the annotation's", map[string]any{ExitCode: "137"}, 137},
		{"forgives a space", map[string]any{ExitCode: " 3\n"}, 3},
		{"is a failure for a word", map[string]any{ExitCode: "three"}, 1},
		{"is a failure for a number that no program can return", map[string]any{ExitCode: "256"}, 1},
		{"is a failure for a negative number", map[string]any{ExitCode: "-1"}, 1},
		{"is a failure for what would be more of the template", map[string]any{ExitCode: "0, reason: Hacked"}, 1},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			if got := exitCode(c.annotations); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

// Which stage a pod is led to next, by its state.
func TestStages(t *testing.T) {
	t.Parallel()
	all, err := stages()
	if err != nil {
		t.Fatal(err)
	}
	lives, err := lifecycle.NewLifecycle(all[internalversion.StageResourceRef{APIGroup: "v1", Kind: "Pod"}])
	if err != nil {
		t.Fatal(err)
	}
	pod := func(policy, phase string, deleted bool) map[string]any {
		metadata := map[string]any{"name": "p"}
		if deleted {
			metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
		}
		status := map[string]any{"phase": phase}
		if phase != "Pending" {
			status["podIP"] = "10.245.0.1"
		}
		return map[string]any{"metadata": metadata, "spec": map[string]any{"restartPolicy": policy}, "status": status}
	}
	for _, c := range []struct {
		name string
		pod  map[string]any
		want string
	}{
		{"starts a pod that is new", pod("Never", "Pending", false), "pod-ready"},
		{"ends one that is not to be started again", pod("Never", "Running", false), "pod-ends"},
		{"ends one that is only started again when it fails", pod("OnFailure", "Running", false), "pod-ends"},
		{"leaves a server running", pod("Always", "Running", false), ""},
		{"leaves one that has ended", pod("Never", "Succeeded", false), ""},
		{"deletes one that is to go", pod("Always", "Running", true), "pod-delete"},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			stage, err := lives.Match(t.Context(), nil, nil, c.pod)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if stage != nil {
				got = stage.Name()
			}
			if got != c.want {
				t.Errorf("got stage %q, want %q", got, c.want)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/containerLogs/ns/p/c": "it has no logs", "/exec/ns/p/c": "no command can be run in it", "/pods": "there is nothing to tell of it"} {
		answer := httptest.NewRecorder()
		refuse(answer, httptest.NewRequest("GET", path, nil))
		// With a colon and a space the API server would read it as YAML.
		if got := answer.Body.String(); answer.Code != 400 || !strings.Contains(got, want) || strings.Contains(got, ": ") {
			t.Errorf("%s: got %d %q, want 400, %q and no colon", path, answer.Code, got, want)
		}
	}
}
