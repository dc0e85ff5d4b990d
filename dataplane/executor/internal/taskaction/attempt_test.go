package taskaction

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	second := durationpb.New(time.Second)
	for _, test := range []struct {
		name   string
		policy *core.Backoff
		n      int32
		want   time.Duration
	}{
		{"it does not wait without a policy", nil, 5, 0},
		{"it waits as long every time without a factor", &core.Backoff{Base: second}, 5, time.Second},
		{"it waits longer each time", &core.Backoff{Base: second, Factor: proto.Float64(2)}, 3, 8 * time.Second},
		{"it waits no longer than its cap", &core.Backoff{Base: second, Factor: proto.Float64(2), Cap: durationpb.New(5 * time.Second)}, 3, 5 * time.Second},
		{"it waits no longer than a day", &core.Backoff{Base: second, Factor: proto.Float64(10)}, 300, 24 * time.Hour},
		{"it does not wait for less than nothing", &core.Backoff{Base: durationpb.New(-time.Second)}, 0, 0},
		{"it does not wait where the cap is less than nothing", &core.Backoff{Base: second, Cap: durationpb.New(-time.Second)}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := backoff(test.policy, test.n); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, message string }{
		{"it leaves a short message", "short"},
		{"it keeps both ends of a long one", "begin" + strings.Repeat("x", 5000) + "end"},
		{"it cuts between letters", "begin" + strings.Repeat("ä€", 3000) + "end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := cut(test.message)
			if len(got) > maxMessage || !utf8.ValidString(got) || !strings.HasPrefix(got, test.message[:5]) || !strings.HasSuffix(got, test.message[len(test.message)-3:]) {
				t.Errorf("got %d bytes %.20q…, want both ends in at most %d", len(got), got, maxMessage)
			}
		})
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	request := func(name string) reconcile.Request {
		return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
	}
	never := func(types.UID) bool { return false }
	always := func(types.UID) bool { return true }
	none := map[types.UID]bool{}

	t.Run("it lets in as many as there are places", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		for _, step := range []struct {
			who  types.UID
			want bool
		}{{"a", true}, {"b", true}, {"c", false}, {"a", true}} {
			if got := g.enter("k", step.who, request(string(step.who)), 2, none, never); got != step.want {
				t.Errorf("got %v for %s, want %v", got, step.who, step.want)
			}
		}
	})
	t.Run("it counts one once whom the objects show", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		g.enter("k", "a", request("a"), 2, none, never)
		if !g.enter("k", "b", request("b"), 2, map[types.UID]bool{"a": true}, never) {
			t.Errorf("got b out, want it in beside a")
		}
	})
	t.Run("it forgets those of whom the objects tell", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		g.enter("k", "a", request("a"), 1, none, never)
		if !g.enter("k", "b", request("b"), 1, none, always) {
			t.Errorf("got b out, want it in where a was")
		}
	})
	t.Run("it wakes those that waited longest, each once", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		g.enter("k", "a", request("a"), 1, none, never)
		for _, name := range []string{"1", "2", "1", "3", "4", "5"} {
			g.enter("k", types.UID(name), request(name), 1, none, never)
		}
		if got := g.wake("k"); len(got) != wakeAtOnce || got[0] != request("1") || got[1] != request("2") {
			t.Errorf("got %v, want the first ones", got)
		}
		if got := g.wake("k"); len(got) != 1 || got[0] != request("5") {
			t.Errorf("got %v, want the last", got)
		}
	})
	t.Run("it has a place again when one leaves", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		g.enter("k", "a", request("a"), 1, none, never)
		g.leave("k", "a")
		if !g.enter("k", "b", request("b"), 1, none, never) {
			t.Errorf("got b out, want it in")
		}
	})
}

func TestInterruptible(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		task     bool
		run      *wrapperspb.BoolValue
		failures int32
		want     bool
	}{
		{"it may be interrupted where its author says so", true, nil, 0, true},
		{"it may be interrupted where the run says so", false, wrapperspb.Bool(true), 0, true},
		{"it may not be where the run says so", true, wrapperspb.Bool(false), 0, false},
		{"it may be while the system has attempts left", true, nil, 2, true},
		{"it may not be in the last of the system's attempts", true, nil, 3, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &work{
				Reconciler: New(Options{Config: &config.Config{Executor: config.Executor{SystemRetries: 3}}}),
				status:     &v1alpha1.TaskActionStatus{SystemFailures: test.failures},
				run:        &task.RunSpec{Interruptible: test.run},
				spec: &task.TaskSpec{TaskTemplate: &core.TaskTemplate{Metadata: &core.TaskMetadata{
					InterruptibleValue: &core.TaskMetadata_Interruptible{Interruptible: test.task}}}},
			}
			if got := w.interruptible(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
