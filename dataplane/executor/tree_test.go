package executor

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	flytetask "biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/prune"
	"biplane.dev/biplane/dataplane/internal/record"
)

func running(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.Running }

func change(t *testing.T, a *v1alpha1.TaskAction, do func(*v1alpha1.TaskAction)) {
	t.Helper()
	now := &v1alpha1.TaskAction{}
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(a), now); err != nil {
		t.Fatal(err)
	}
	changed := now.DeepCopy()
	do(changed)
	if err := w.Client.Patch(t.Context(), changed, client.MergeFrom(now)); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, a *v1alpha1.TaskAction, phase v1alpha1.Phase) {
	t.Helper()
	if a.Status.Phase != phase {
		t.Errorf("got %s in phase %s, want %s: %+v", a.Name, a.Status.Phase, phase, a.Status)
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	t.Run("it ends everything below, and keeps what their pods had said", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("wait"))
		child := enqueue(t, run, "child", "a0", scripted("say here", "wait"))
		grandchild := enqueue(t, run, "grandchild", "child", scripted("wait"))
		waiting := enqueue(t, run, "condition", "grandchild", nil, condition(t, 0))
		until(t, grandchild, "running", running)
		until(t, child, "running", running)
		change(t, root, func(a *v1alpha1.TaskAction) {
			a.Spec.Abort = &v1alpha1.Abort{Reason: "enough", By: "somebody", At: metav1.Now()}
		})
		for _, a := range []*v1alpha1.TaskAction{root, child, grandchild, waiting} {
			a = ended(t, a)
			want(t, a, v1alpha1.Aborted)
			if a.Status.Message != "enough" {
				t.Errorf("got the message %q of %s, want the reason", a.Status.Message, a.Name)
			}
		}
		child = kept(t, child)
		if log := logOf(t, child, 1); !strings.Contains(log, " here\n") {
			t.Errorf("got the log %q, want what it said before", log)
		}
		gone(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: child.Status.Attempts[0].Pod}})
	})
	t.Run("it ends a part, and leaves the rest", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("wait"))
		child := enqueue(t, run, "child", "a0", scripted("wait"))
		below := enqueue(t, run, "below", "child", scripted("wait"))
		other := enqueue(t, run, "other", "a0", scripted("sleep 2s", "outputs"))
		until(t, below, "running", running)
		change(t, child, func(a *v1alpha1.TaskAction) { a.Spec.Abort = &v1alpha1.Abort{At: metav1.Now()} })
		want(t, ended(t, below), v1alpha1.Aborted)
		want(t, ended(t, child), v1alpha1.Aborted)
		want(t, ended(t, other), v1alpha1.Succeeded)
		if now := until(t, root, "there", func(*v1alpha1.TaskAction) bool { return true }); now.Status.Phase.Terminal() {
			t.Errorf("got the root in phase %s, want it running", now.Status.Phase)
		}
		change(t, root, func(a *v1alpha1.TaskAction) { a.Spec.Abort = &v1alpha1.Abort{At: metav1.Now()} })
	})
	t.Run("it reaches a deep tree that still grows", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("wait"), func(_ *v1alpha1.TaskAction, r *flytetask.RunSpec) { r.MaxActionConcurrency = 2 })
		all := []*v1alpha1.TaskAction{root}
		parent := "a0"
		for depth := range 60 {
			if depth == 20 {
				change(t, root, func(a *v1alpha1.TaskAction) { a.Spec.Abort = &v1alpha1.Abort{Reason: "enough", At: metav1.Now()} })
			}
			// The server refuses most of these; the worst is that it has not heard of the abort.
			name := fmt.Sprintf("d%d", depth)
			all = append(all, enqueue(t, run, name, parent, scripted("wait")), enqueue(t, run, name+"leaf", parent, nil, condition(t, 0)))
			parent = name
		}
		for _, a := range all {
			a = ended(t, a)
			want(t, a, v1alpha1.Aborted)
			if a.Status.Message != "enough" {
				t.Errorf("got the message %q of %s, want the reason", a.Status.Message, a.Name)
			}
		}
		for _, a := range all {
			kept(t, a)
		}
	})
	t.Run("it comes when the root has ended", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("sleep 2s", "outputs"))
		child := enqueue(t, run, "child", "a0", scripted("wait"))
		want(t, ended(t, root), v1alpha1.Succeeded)
		a := ended(t, child)
		want(t, a, v1alpha1.Aborted)
		if a.Status.Message != "its run has ended" {
			t.Errorf("got the message %q, want why", a.Status.Message)
		}
	})
}

func condition(t *testing.T, timeout time.Duration) func(*v1alpha1.TaskAction, *flytetask.RunSpec) {
	text, err := proto.Marshal(&workflow.ConditionAction{Name: "go on?", Timeout: durationpb.New(timeout)})
	if err != nil {
		t.Fatal(err)
	}
	return func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) {
		a.Spec.Type, a.Spec.Condition = v1alpha1.TypeCondition, text
	}
}

func TestCondition(t *testing.T) {
	t.Parallel()
	run := runName(t)
	root := enqueue(t, run, "a0", "", scripted("wait"))
	t.Cleanup(func() { w.Client.Delete(t.Context(), root) })
	t.Run("it waits for a signal", func(t *testing.T) {
		t.Parallel()
		a := enqueue(t, run, "signalled", "a0", nil, condition(t, 0))
		until(t, a, "paused", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.Paused })
		change(t, a, func(a *v1alpha1.TaskAction) { a.Spec.Signal = &v1alpha1.Signal{Value: []byte("v"), At: metav1.Now()} })
		want(t, ended(t, a), v1alpha1.Succeeded)
	})
	t.Run("it times out", func(t *testing.T) {
		t.Parallel()
		a := ended(t, enqueue(t, run, "late", "a0", nil, condition(t, 2*time.Second)))
		want(t, a, v1alpha1.TimedOut)
		if a.Status.Error == nil || a.Status.Error.Code != "ConditionTimedOut" {
			t.Errorf("got the error %+v, want ConditionTimedOut", a.Status.Error)
		}
	})
	t.Run("a trace has ended before it came", func(t *testing.T) {
		t.Parallel()
		text, err := proto.Marshal(&workflow.TraceAction{
			Name: "step", Phase: common.ActionPhase_ACTION_PHASE_SUCCEEDED,
			StartTime: timestamppb.New(time.Unix(1000, 0)), EndTime: timestamppb.New(time.Unix(1010, 0)),
			Outputs: &flytetask.OutputReferences{OutputUri: "s3://b/k/outputs.pb"},
		})
		if err != nil {
			t.Fatal(err)
		}
		a := ended(t, enqueue(t, run, "trace", "a0", nil, func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) {
			a.Spec.Type, a.Spec.Trace = v1alpha1.TypeTrace, text
		}))
		want(t, a, v1alpha1.Succeeded)
		if a.Status.OutputURI != "s3://b/k/outputs.pb" || a.Status.EndedAt.Unix() != 1010 {
			t.Errorf("got %+v, want the trace's own outputs and times", a.Status)
		}
	})
	t.Run("a trace that failed says why", func(t *testing.T) {
		t.Parallel()
		text, err := proto.Marshal(&workflow.TraceAction{Name: "step", Phase: common.ActionPhase_ACTION_PHASE_FAILED})
		if err != nil {
			t.Fatal(err)
		}
		trace := func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) {
			a.Spec.Type, a.Spec.Trace = v1alpha1.TypeTrace, text
		}
		if err := writeError(w.store, w.base(run)+"/failed", "ValueError", "RECOVERABLE", "USER"); err != nil {
			t.Fatal(err)
		}
		a := ended(t, enqueue(t, run, "failed", "a0", nil, trace))
		want(t, a, v1alpha1.Failed)
		if e := a.Status.Error; e == nil || e.Code != "ValueError" || !e.Recoverable || e.Message == "" {
			t.Errorf("got the error %+v, want what its parent wrote", e)
		}
		a = ended(t, enqueue(t, run, "silent", "a0", nil, trace))
		want(t, a, v1alpha1.Failed)
		if a.Status.Error != nil {
			t.Errorf("got the error %+v, want none where its parent wrote none", a.Status.Error)
		}
		again, err := proto.Marshal(&workflow.TraceAction{
			Name: "step", Phase: common.ActionPhase_ACTION_PHASE_SUCCEEDED, Outputs: &flytetask.OutputReferences{OutputUri: "s3://b/again/outputs.pb"}})
		if err != nil {
			t.Fatal(err)
		}
		kept(t, a)
		version := a.Status.Version
		change(t, a, func(a *v1alpha1.TaskAction) { a.Spec.Trace = again }) // as the server does
		a = until(t, a, "traced again", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.Succeeded })
		if a.Status.OutputURI != "s3://b/again/outputs.pb" || a.Status.Version <= version {
			t.Errorf("got %+v, want the outputs of the second time, told again", a.Status)
		}
		kept(t, a)
	})
}

func cached(spec *flytetask.TaskSpec, serial bool) *flytetask.TaskSpec {
	spec.TaskTemplate.Metadata.Discoverable, spec.TaskTemplate.Metadata.CacheSerializable = true, serial
	return spec
}

func key(value string) func(*v1alpha1.TaskAction, *flytetask.RunSpec) {
	return func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) { a.Spec.CacheKey = value }
}

func TestCache(t *testing.T) {
	t.Parallel()
	t.Run("it gives the outputs of the first to the second, unless told to overwrite", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		overwrite := func(_ *v1alpha1.TaskAction, r *flytetask.RunSpec) {
			r.CacheConfig = &flytetask.CacheConfig{OverwriteCache: true}
		}
		scoped := func(_ *v1alpha1.TaskAction, r *flytetask.RunSpec) {
			r.CacheConfig = &flytetask.CacheConfig{CacheLookupScope: flytetask.CacheLookupScope_CACHE_LOOKUP_SCOPE_PROJECT_DOMAIN}
		}
		nothing := func(*v1alpha1.TaskAction, *flytetask.RunSpec) {}
		var outputs string
		for i, step := range []struct {
			change func(*v1alpha1.TaskAction, *flytetask.RunSpec)
			status string
			hit    bool
		}{{nothing, "POPULATED", false}, {nothing, "HIT", true}, {overwrite, "POPULATED", false}, {nothing, "HIT", true}, {scoped, "POPULATED", false}, {scoped, "HIT", true}} {
			a := ended(t, enqueue(t, fmt.Sprintf("%s%d", run, i), "a0", "", cached(scripted("outputs"), false), key(run), step.change))
			want(t, a, v1alpha1.Succeeded)
			if a.Status.CacheStatus != step.status {
				t.Errorf("got the cache's word %s in step %d, want %s", a.Status.CacheStatus, i, step.status)
			}
			if step.hit && a.Status.OutputURI != outputs || !step.hit && a.Status.OutputURI == outputs {
				t.Errorf("got outputs in %s in step %d after %s", a.Status.OutputURI, i, outputs)
			}
			outputs = a.Status.OutputURI
		}
	})
	t.Run("it runs again when the outputs are gone", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		first := ended(t, enqueue(t, run+"x", "a0", "", cached(scripted("outputs"), false), key(run)))
		if _, err := w.store.DeleteOlder(t.Context(), first.Status.OutputURI+"/", time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for i, status := range []string{"POPULATED", "HIT"} {
			a := ended(t, enqueue(t, fmt.Sprintf("%s%d", run, i), "a0", "", cached(scripted("outputs"), false), key(run)))
			if a.Status.CacheStatus != status {
				t.Errorf("got the cache's word %s, want %s", a.Status.CacheStatus, status)
			}
		}
	})
	t.Run("it lets one at a time fill an entry", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("wait"))
		var all []*v1alpha1.TaskAction
		for i := range 5 {
			all = append(all, enqueue(t, run, fmt.Sprintf("c%d", i), "a0", cached(scripted("sleep 1s", "outputs"), true), key(run)))
		}
		ran := 0
		for _, a := range all {
			a = ended(t, a)
			want(t, a, v1alpha1.Succeeded)
			if a.Status.CacheStatus == "POPULATED" {
				ran++
			}
		}
		if ran != 1 {
			t.Errorf("got %d that ran, want 1", ran)
		}
		w.Client.Delete(t.Context(), root)
	})
}

// TestReplay has a run that recovers another, whose objects are there or gone.
func TestReplay(t *testing.T) {
	t.Parallel()
	value, err := proto.Marshal(&core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{
		Primitive: &core.Primitive{Value: &core.Primitive_StringValue{StringValue: "yes"}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	asks := func(kind core.SimpleType) func(*v1alpha1.TaskAction, *flytetask.RunSpec) {
		text, err := proto.Marshal(&workflow.ConditionAction{Name: "go on?", Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: kind}}})
		if err != nil {
			t.Fatal(err)
		}
		return func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) {
			a.Spec.Type, a.Spec.Condition = v1alpha1.TypeCondition, text
		}
	}
	traced := func(phase common.ActionPhase, output string) func(*v1alpha1.TaskAction, *flytetask.RunSpec) {
		text, err := proto.Marshal(&workflow.TraceAction{Name: "step", Phase: phase, Outputs: &flytetask.OutputReferences{OutputUri: output},
			StartTime: timestamppb.New(time.Unix(1000, 0)), EndTime: timestamppb.New(time.Unix(1010, 0))})
		if err != nil {
			t.Fatal(err)
		}
		return func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) {
			a.Spec.Type, a.Spec.Trace = v1alpha1.TypeTrace, text
		}
	}
	for name, removed := range map[string]bool{"it takes values and traces of a run that is there": false, "it takes values and traces of a run that is gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := runName(t)
			output := w.base(run) + "/step/outputs.pb"
			if err := w.store.Put(t.Context(), output, nil); err != nil {
				t.Fatal(err)
			}
			root := enqueue(t, run, "a0", "", scripted("wait"))
			source := []*v1alpha1.TaskAction{root}
			asked := enqueue(t, run, "asked", "a0", nil, asks(core.SimpleType_STRING))
			until(t, asked, "paused", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.Paused })
			change(t, asked, func(a *v1alpha1.TaskAction) { a.Spec.Signal = &v1alpha1.Signal{Value: value, At: metav1.Now()} })
			asked = ended(t, asked)
			if string(asked.Status.Value) != string(value) {
				t.Errorf("got the value %q, want the signal's", asked.Status.Value)
			}
			source = append(source, asked,
				enqueue(t, run, "step", "a0", nil, traced(common.ActionPhase_ACTION_PHASE_SUCCEEDED, output)),
				enqueue(t, run, "lost", "a0", nil, traced(common.ActionPhase_ACTION_PHASE_SUCCEEDED, w.base(run)+"/lost/outputs.pb")),
				enqueue(t, run, "forced", "a0", nil, traced(common.ActionPhase_ACTION_PHASE_SUCCEEDED, output)),
				enqueue(t, run, "odd", "a0", nil, traced(common.ActionPhase_ACTION_PHASE_SUCCEEDED, "nowhere")),
				enqueue(t, run, "bad", "a0", nil, traced(common.ActionPhase_ACTION_PHASE_FAILED, output)))
			change(t, root, func(a *v1alpha1.TaskAction) { a.Spec.Abort = &v1alpha1.Abort{At: metav1.Now()} })
			for _, a := range source {
				kept(t, a)
			}
			from := &v1alpha1.ActionReference{Run: run, Action: "asked", Value: value}
			if removed {
				from.Value = nil
				for _, a := range source {
					if err := w.Client.Delete(t.Context(), a); err != nil {
						t.Fatal(err)
					}
				}
				for _, a := range source {
					gone(t, a)
				}
			}
			again := run + "x"
			enqueue(t, again, "a0", "", scripted("wait"), func(_ *v1alpha1.TaskAction, r *flytetask.RunSpec) {
				r.Relation = &common.Relation{RelationType: common.RelationType_RELATION_TYPE_RECOVER, RelatedTo: &common.RunIdentifier{
					Org: "acme", Project: "flytesnacks", Domain: "development", Name: run}}
				r.Recover = &flytetask.Recover{ForceRerunActions: []string{"forced"}}
			})
			recovers := func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) { a.Spec.RecoveredFrom = from }
			a := ended(t, enqueue(t, again, "asked", "a0", nil, asks(core.SimpleType_STRING), recovers))
			want(t, a, v1alpha1.Recovered)
			if string(a.Status.Value) != string(value) {
				t.Errorf("got the value %q, want that of the source", a.Status.Value)
			}
			other := enqueue(t, again, "other", "a0", nil, asks(core.SimpleType_INTEGER), recovers) // of another type
			until(t, other, "paused", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.Paused })
			root = until(t, &v1alpha1.TaskAction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: again + "-a0"}}, "an attempt",
				func(a *v1alpha1.TaskAction) bool { return len(a.Status.Attempts) > 0 })
			var traces v1alpha1.TaskActionList
			if err := w.Client.List(t.Context(), &traces, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelRun: again, v1alpha1.LabelParent: "a0"}); err != nil {
				t.Fatal(err)
			}
			var names []string
			for i := range traces.Items {
				if trace := &traces.Items[i]; trace.Spec.Type == v1alpha1.TypeTrace {
					names = append(names, trace.Spec.Action)
					trace = ended(t, trace)
					want(t, trace, v1alpha1.Recovered)
					if trace.Status.OutputURI != output || trace.Status.EndedAt.Before(&trace.Status.StartedAt.MicroTime) || !metav1.IsControlledBy(trace, root) {
						t.Errorf("got %+v, want the source's outputs", trace.Status)
					}
				}
			}
			if fmt.Sprint(names) != "[step]" {
				t.Errorf("got the traces %v, want the one that succeeded, has outputs, and is not to be done again", names)
			}
			w.Client.Delete(t.Context(), root)
		})
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	run := runName(t)
	root := enqueue(t, run, "a0", "", scripted("wait"))
	t.Cleanup(func() { w.Client.Delete(t.Context(), root) })
	old := kept(t, enqueue(t, run+"old", "a0", "", scripted("outputs")))

	from := func(reference v1alpha1.ActionReference) func(*v1alpha1.TaskAction, *flytetask.RunSpec) {
		return func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) { a.Spec.RecoveredFrom = &reference }
	}
	for _, test := range []struct {
		name, action string
		from         v1alpha1.ActionReference
		phase        v1alpha1.Phase
	}{
		{"it takes the outputs that it is told of", "told", v1alpha1.ActionReference{Run: old.Spec.Run, Action: "a0", OutputURI: old.Status.OutputURI}, v1alpha1.Recovered},
		{"it takes those of the record of an action that is gone", "read", v1alpha1.ActionReference{Run: old.Spec.Run, Action: "a0"}, v1alpha1.Recovered},
		{"it runs where there is nothing to take", "absent", v1alpha1.ActionReference{Run: "absent", Action: "a0"}, v1alpha1.Succeeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := ended(t, enqueue(t, run, test.action, "a0", scripted("outputs"), from(test.from)))
			want(t, a, test.phase)
			if recovered := a.Status.OutputURI == old.Status.OutputURI; recovered != (test.phase == v1alpha1.Recovered) {
				t.Errorf("got outputs in %s, and the old ones are in %s", a.Status.OutputURI, old.Status.OutputURI)
			}
		})
	}
}

func TestRunning(t *testing.T) {
	t.Parallel()
	t.Run("an attempt that has a child runs, whatever its node says", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		podSpec, err := toStruct(map[string]any{
			"initContainers": []any{map[string]any{"name": "init", "image": image, "command": []any{program}, "args": []any{"-", "sleep 6s"}}},
			"containers":     []any{map[string]any{"name": "main", "image": image, "command": []any{program}, "args": []any{"{{.outputPrefix}}", "until 1", "outputs"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		spec := retries(scripted(), 1)
		spec.TaskTemplate.Target = &core.TaskTemplate_K8SPod{K8SPod: &core.K8SPod{PodSpec: podSpec, PrimaryContainerName: "main"}}
		root := enqueue(t, run, "a0", "", spec)
		until(t, root, "initialising", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.Initializing })
		enqueue(t, run, "child", "a0", nil, condition(t, 0), now)
		a := until(t, root, "running", running)
		if began := a.Status.Attempts[0].ContainerStartedAt; began != nil {
			t.Errorf("got its container begun at %s, want it not to have", began)
		}
		// The next attempt has no child of its own yet.
		a = until(t, root, "the next attempt, initialising", func(a *v1alpha1.TaskAction) bool {
			return len(a.Status.Attempts) > 1 && a.Status.Phase == v1alpha1.Initializing
		})
		want(t, ended(t, a), v1alpha1.Succeeded)
	})
}

// now is when the server would say that the action was enqueued.
func now(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) { a.Spec.EnqueuedAt = v1alpha1.At(time.Now()) }

func TestConcurrency(t *testing.T) {
	t.Parallel()
	t.Run("it runs no more at once than the run may, and lets parents wait", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("wait"), func(_ *v1alpha1.TaskAction, r *flytetask.RunSpec) { r.MaxActionConcurrency = 2 })
		until(t, root, "running", running)
		middle := enqueue(t, run, "middle", "a0", scripted("wait")) // a parent, too
		until(t, middle, "running", running)
		var all []*v1alpha1.TaskAction
		for i := range 6 {
			all = append(all, enqueue(t, run, fmt.Sprintf("c%d", i), "middle", scripted("sleep 500ms", "outputs")))
		}
		var spans [][2]time.Time
		for _, a := range all {
			a = ended(t, a)
			want(t, a, v1alpha1.Succeeded)
			spans = append(spans, [2]time.Time{a.Status.Attempts[0].StartedAt.Time, a.Status.Attempts[0].EndedAt.Time})
		}
		for _, span := range spans {
			at := 0
			for _, other := range spans {
				if !other[0].After(span[0]) && other[1].After(span[0]) {
					at++
				}
			}
			if at > 2 {
				t.Errorf("got %d at once, want at most 2: %v", at, spans)
			}
		}
		w.Client.Delete(t.Context(), root)
	})
}

func TestStaging(t *testing.T) {
	t.Parallel()
	const uploads = "/uploads/flytesnacks/development/ABC/"
	t.Run("it brings the code to where the program reads it", func(t *testing.T) {
		t.Parallel()
		name := "fast" + runName(t) + ".tar.gz"
		if err := w.store.Put(t.Context(), "s3://"+w.cfg.Storage.FastRegistrationBucket+uploads+name, []byte("code")); err != nil {
			t.Fatal(err)
		}
		uri := "s3://" + w.cfg.Storage.MetadataBucket + uploads + name
		spec := scripted("has "+uri, "outputs")
		spec.TaskTemplate.Metadata.CodeBundleUri = uri
		a := kept(t, enqueue(t, runName(t), "a0", "", spec))
		want(t, a, v1alpha1.Succeeded)
		if log := logOf(t, a, 1); !strings.Contains(log, "there: true") {
			t.Errorf("got the log %q, want the bundle there", log)
		}
	})
	t.Run("it fails when nobody uploaded the code", func(t *testing.T) {
		t.Parallel()
		spec := scripted("outputs")
		spec.TaskTemplate.Metadata.CodeBundleUri = "s3://" + w.cfg.Storage.MetadataBucket + uploads + "fastabsent.tar.gz"
		a := ended(t, enqueue(t, runName(t), "a0", "", spec))
		want(t, a, v1alpha1.Failed)
		if a.Status.Error == nil || a.Status.Error.Code != "CodeBundleNotFound" {
			t.Errorf("got the error %+v, want CodeBundleNotFound", a.Status.Error)
		}
	})
}

func TestDisruption(t *testing.T) {
	t.Parallel()
	t.Run("it begins another attempt when its pod is deleted", func(t *testing.T) {
		t.Parallel()
		a := enqueue(t, runName(t), "a0", "", scripted("hang", "outputs"))
		a = until(t, a, "running", running)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: a.Status.Attempts[0].Pod}}
		if err := w.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
		a = ended(t, a)
		want(t, a, v1alpha1.Succeeded)
		if len(a.Status.Attempts) != 2 || a.Status.SystemFailures != 1 || a.Status.UserFailures != 0 {
			t.Errorf("got %+v, want one failure of the system and a second attempt", a.Status)
		}
	})
	t.Run("it begins another attempt when its pod is evicted, by the system's budget", func(t *testing.T) {
		t.Parallel()
		a := enqueue(t, runName(t), "a0", "", scripted("hang", "outputs"))
		a = until(t, a, "running", running)
		clientset, err := kubernetes.NewForConfig(w.Config)
		if err != nil {
			t.Fatal(err)
		}
		err = clientset.PolicyV1().Evictions(namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: a.Status.Attempts[0].Pod}})
		if err != nil {
			t.Fatal(err)
		}
		a = ended(t, a)
		want(t, a, v1alpha1.Succeeded)
		if len(a.Status.Attempts) != 2 || a.Status.SystemFailures != 1 || a.Status.UserFailures != 0 {
			t.Errorf("got %+v, want one failure of the system and a second attempt", a.Status)
		}
		if e := a.Status.Attempts[0].Error; e == nil || e.Kind != v1alpha1.SystemError {
			t.Errorf("got the error %+v of the first attempt, want the system's", e)
		}
	})
	t.Run("it begins another attempt when its node is deleted, by the system's budget", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "lost-" + run}}
		if err := w.Client.Create(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		podSpec, err := toStruct(map[string]any{"nodeName": node.Name, "containers": []any{map[string]any{
			"name": "main", "image": image, "command": []any{program}, "args": []any{"{{.outputPrefix}}", "outputs"}}}})
		if err != nil {
			t.Fatal(err)
		}
		spec := scripted()
		spec.TaskTemplate.Target = &core.TaskTemplate_K8SPod{K8SPod: &core.K8SPod{PodSpec: podSpec}}
		a := enqueue(t, run, "a0", "", spec)
		until(t, a, "a pod on the node", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.Initializing })
		if err := w.Client.Delete(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		// Kubernetes itself takes a minute to collect what was on a node.
		second := func(a *v1alpha1.TaskAction) bool { return len(a.Status.Attempts) > 1 }
		a = untilWithin(t, 5*time.Minute, a, "a second attempt", second)
		if e := a.Status.Attempts[0].Error; a.Status.SystemFailures != 1 || a.Status.UserFailures != 0 || e == nil || e.Kind != v1alpha1.SystemError {
			t.Errorf("got %+v with the error %+v, want one failure of the system", a.Status, e)
		}
		w.Client.Delete(t.Context(), a)
	})
	t.Run("nobody but us says that its logs are kept", func(t *testing.T) {
		t.Parallel()
		a := kept(t, enqueue(t, runName(t), "a0", "", scripted("say here", "outputs"), func(_ *v1alpha1.TaskAction, r *flytetask.RunSpec) {
			r.Annotations = &flytetask.Annotations{Values: map[string]string{"biplane.dev/logs": "kept"}}
		}))
		if log := logOf(t, a, 1); !strings.Contains(log, " here\n") {
			t.Errorf("got the log %q, want it kept", log)
		}
	})
	t.Run("it is gone, and told, when a person deletes it", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		a := enqueue(t, run, "a0", "", scripted("wait"))
		child := enqueue(t, run, "child", "a0", scripted("wait"))
		until(t, child, "running", running)
		if err := w.Client.Delete(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		want(t, ended(t, a), v1alpha1.Aborted)
		want(t, ended(t, child), v1alpha1.Aborted)
		gone(t, a)
		kept, err := record.Read(t.Context(), w.store.S3, w.cfg.Storage.MetadataBucket, "flytesnacks/development/"+run+"/a0")
		if err != nil || kept.Status.Phase != v1alpha1.Aborted {
			t.Errorf("got the record %+v, %v, want it to say that it was aborted", kept, err)
		}
	})
	t.Run("it waits for a quota", func(t *testing.T) {
		t.Parallel()
		quota := &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cpu"},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"requests.example.com/gadget": resource.MustParse("0")}},
		}
		if err := w.Client.Create(t.Context(), quota); err != nil {
			t.Fatal(err)
		}
		// The controller has to have counted before the quota counts.
		for quota.Status.Hard == nil {
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(quota), quota); err != nil {
				t.Fatal(err)
			}
		}
		podSpec, err := toStruct(map[string]any{"containers": []any{map[string]any{
			"name": "main", "image": image, "command": []any{program}, "args": []any{"{{.outputPrefix}}", "outputs"},
			"resources": map[string]any{"requests": map[string]any{"example.com/gadget": "1"}, "limits": map[string]any{"example.com/gadget": "1"}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		spec := scripted()
		spec.TaskTemplate.Target = &core.TaskTemplate_K8SPod{K8SPod: &core.K8SPod{PodSpec: podSpec}}
		a := enqueue(t, runName(t), "a0", "", spec)
		a = until(t, a, "waiting", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase == v1alpha1.WaitingForResources })
		if !strings.Contains(a.Status.Message, "exceeded quota") {
			t.Errorf("got the message %q, want the quota's", a.Status.Message)
		}
		if err := w.Client.Delete(t.Context(), quota); err != nil {
			t.Fatal(err)
		}
		until(t, a, "a pod", func(a *v1alpha1.TaskAction) bool { return len(a.Status.Attempts) == 1 })
		w.Client.Delete(t.Context(), a)
	})
}

func TestSuspended(t *testing.T) {
	t.Run("it waits while its project is archived", func(t *testing.T) {
		workspace := &v1alpha1.Workspace{
			ObjectMeta: metav1.ObjectMeta{Name: namespace},
			Spec:       v1alpha1.WorkspaceSpec{Organization: "acme", Project: "flytesnacks", Domain: "development", Suspended: true},
		}
		if err := w.Client.Create(t.Context(), workspace); err != nil {
			t.Fatal(err)
		}
		run := runName(t)
		a := until(t, enqueue(t, run, "a0", "", scripted("outputs")), "waiting", func(a *v1alpha1.TaskAction) bool {
			return strings.Contains(a.Status.Message, "archived")
		})
		want(t, a, v1alpha1.Queued)
		workspace.Spec.Suspended = false
		if err := w.Client.Update(t.Context(), workspace); err != nil {
			t.Fatal(err)
		}
		want(t, ended(t, a), v1alpha1.Succeeded)
	})
}

func TestPrune(t *testing.T) {
	t.Run("it removes a run that has ended long ago, and is recorded", func(t *testing.T) {
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("sleep 1s", "outputs"))
		child := enqueue(t, run, "child", "a0", scripted("outputs"))
		lives := enqueue(t, run+"x", "a0", "", scripted("wait"))
		kept(t, child)
		kept(t, root)
		until(t, lives, "running", running)

		restart := func(keep time.Duration, told uint64) {
			t.Helper()
			if err := w.stopExecutor(); err != nil {
				t.Fatal(err)
			}
			w.cfg.Executor.KeepFinished = keep
			w.told = func() uint64 { return told }
			if err := w.startExecutor(); err != nil {
				t.Fatal(err)
			}
		}
		defer restart(w.cfg.Executor.KeepFinished, math.MaxUint64)
		restart(time.Second, 1)     // the control plane has recorded nothing
		time.Sleep(3 * time.Second) // so that it would have been removed
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(root), root); err != nil {
			t.Fatalf("got %v, want an action kept that is not recorded", err)
		}
		restart(time.Second, math.MaxUint64)
		gone(t, root)
		gone(t, child)
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(lives), lives); err != nil {
			t.Errorf("got %v, want a run kept that has not ended", err)
		}
		if err := w.Client.Delete(t.Context(), lives); err != nil {
			t.Fatal(err)
		}
		gone(t, lives)
	})
	t.Run("it removes a template that nothing runs, and was not enqueued with lately", func(t *testing.T) {
		waits := enqueue(t, runName(t), "a0", "", scripted("wait"))
		now := time.Now()
		template := func(name string, used time.Time) *v1alpha1.TaskTemplate {
			object := &v1alpha1.TaskTemplate{Spec: []byte(name), ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: name, Annotations: map[string]string{"biplane.dev/used": used.Format(time.RFC3339)}}}
			if err := w.Client.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			return object
		}
		old, lately := template("old", now), template("lately", now.Add(3*time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		pruner := &prune.Pruner{
			Client: w.Client, Live: w.Client, Store: w.store, Config: &config.Config{}, Log: slog.New(slog.DiscardHandler),
			Recorded: func(string) bool { return false }, Now: func() time.Time { return now.Add(4 * time.Hour) },
		}
		go func() { ended <- pruner.Run(ctx) }()
		gone(t, old)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		used := &v1alpha1.TaskTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: waits.Spec.Template}}
		for _, object := range []client.Object{lately, used} {
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
				t.Errorf("got %v of the template %s, want it kept", err, object.GetName())
			}
		}
		if err := w.Client.Delete(t.Context(), waits); err != nil {
			t.Fatal(err)
		}
	})
}
