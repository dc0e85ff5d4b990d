package actions_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/limits"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

func TestEnqueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("it makes a root and what it runs", func(t *testing.T) {
		spec := &task.RunSpec{Queue: "q", Envs: &task.Envs{Values: []*core.KeyValuePair{{Key: "A", Value: "1"}}}}
		w.run("made", spec)
		a := w.get("made", "a0")
		encoded, _ := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
		a.Spec.Template = check(t, w, a)
		want := v1alpha1.TaskActionSpec{
			Organization: organization, Project: w.project, Domain: w.domain, Run: "made", Action: "a0", Group: "batch", Type: v1alpha1.TypeTask,
			InputURI: w.base("made") + "/a0/inputs.pb", RunOutputBase: w.base("made"), Template: a.Spec.Template,
			TaskProject: w.project, TaskDomain: w.domain, TaskName: "env.main", TaskVersion: "v1", TaskType: "python", ShortName: "main", Environment: "env",
			CacheKey: "key", Queue: "fast", RunSpec: encoded, EnqueuedAt: a.Spec.EnqueuedAt,
		}
		if since := a.CreatedAt().Sub(a.CreationTimestamp.Time); since.Abs() > time.Minute { // that is a second, of a moment later
			t.Errorf("got it enqueued %s after it was created, want it at the same time", since)
		}
		if got := fmt.Sprintf("%+v", a.Spec); got != fmt.Sprintf("%+v", want) {
			t.Errorf("got %s, want %+v", got, want)
		}
		if len(a.OwnerReferences) != 0 || len(a.Finalizers) != 1 || a.Finalizers[0] != v1alpha1.FinalizerRecorded {
			t.Errorf("got owners %v and finalizers %v, want no owner and the finalizer", a.OwnerReferences, a.Finalizers)
		}
	})

	t.Run("it makes a child, which takes from its parent what it may not choose", func(t *testing.T) {
		w := w.in(t)
		w.run("kin", nil)
		action := w.taskAction("kin", "a0", "c1")
		action.ActionId.Run.Org = ""
		action.RunOutputBase = "s3://elsewhere"
		if _, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: action}); err != nil {
			t.Fatal(err)
		}
		parent, child := w.get("kin", "a0"), w.get("kin", "c1")
		if child.Spec.Organization != organization || child.Spec.RunOutputBase != w.base("kin") || child.Spec.Parent != "a0" {
			t.Errorf("got %+v, want the parent's organisation and folder", child.Spec)
		}
		if owner := metav1.GetControllerOf(child); owner == nil || owner.UID != parent.UID {
			t.Errorf("got owner %v, want %s", owner, parent.UID)
		}
		if child.Labels[v1alpha1.LabelParent] != "a0" || child.Labels[v1alpha1.LabelExecutionID] != "kin" {
			t.Errorf("got labels %v, want parent and run", child.Labels)
		}
		if child.Spec.Template != parent.Spec.Template {
			t.Errorf("got two templates for one task: %s, %s", parent.Spec.Template, child.Spec.Template)
		}
	})

	t.Run("it says that an action is there already", func(t *testing.T) {
		w := w.in(t)
		w.run("twice", nil)
		w.child("twice", "a0", "c1")
		w.child("twice", "a0", "c2")
		again := w.taskAction("twice", "a0", "c1")
		other := w.taskAction("twice", "a0", "c1")
		other.GetTask().Spec = taskSpec("env.other")
		below := w.taskAction("twice", "c2", "c1")
		trace := w.taskAction("twice", "a0", "c1")
		trace.Spec = &flyteactions.Action_Trace{Trace: &workflow.TraceAction{Name: "t"}}
		for name, c := range map[string]struct {
			action *flyteactions.Action
			want   connect.Code
		}{
			"the same":       {again, connect.CodeAlreadyExists},
			"of another try": {other, connect.CodeAlreadyExists},
			"another parent": {below, connect.CodeInvalidArgument},
			"another type":   {trace, connect.CodeInvalidArgument},
			"the root again": {w.taskAction("twice", "", "a0"), connect.CodeAlreadyExists},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: c.action})
				wantCode(t, err, c.want)
			})
		}
	})

	t.Run("it tells apart two actions whose objects would have one name", func(t *testing.T) {
		w := w.in(t)
		w.run("x", nil)
		w.run("x-y", nil)
		w.child("x", "a0", "y-c1")
		_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction("x-y", "a0", "c1")})
		wantCode(t, err, connect.CodeInvalidArgument)
		_, err = w.operator.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("x-y", "c1")})
		wantCode(t, err, connect.CodeNotFound)
	})

	t.Run("it refuses what is not as it should be", func(t *testing.T) {
		w := w.in(t)
		w.run("bad", nil)
		for name, c := range map[string]struct {
			change func(*flyteactions.Action)
			want   connect.Code
		}{
			"a run of 31 characters":     {func(a *flyteactions.Action) { a.ActionId.Run.Name = "r" + strings.Repeat("1", 30) }, connect.CodeInvalidArgument},
			"an action of 31 characters": {func(a *flyteactions.Action) { a.ActionId.Name = strings.Repeat("1", 31) }, connect.CodeInvalidArgument},
			"a path for a name":          {func(a *flyteactions.Action) { a.ActionId.Name = "../a0" }, connect.CodeInvalidArgument},
			"a domain with a hyphen":     {func(a *flyteactions.Action) { a.ActionId.Run.Domain = "a-b" }, connect.CodeInvalidArgument},
			"no project":                 {func(a *flyteactions.Action) { a.ActionId.Run.Project = "" }, connect.CodeInvalidArgument},
			"no id":                      {func(a *flyteactions.Action) { a.ActionId = nil }, connect.CodeInvalidArgument},
			"another organisation":       {func(a *flyteactions.Action) { a.ActionId.Run.Org = "other" }, connect.CodeInvalidArgument},
			"no spec":                    {func(a *flyteactions.Action) { a.Spec = nil }, connect.CodeInvalidArgument},
			"no template":                {func(a *flyteactions.Action) { a.GetTask().Spec = nil }, connect.CodeInvalidArgument},
			"no input":                   {func(a *flyteactions.Action) { a.InputUri = "" }, connect.CodeInvalidArgument},
			"an input that is no object": {func(a *flyteactions.Action) { a.InputUri = "file:///etc/passwd" }, connect.CodeInvalidArgument},
			"an input above its folder":  {func(a *flyteactions.Action) { a.InputUri = "s3://metadata/p/../../q/inputs.pb" }, connect.CodeInvalidArgument},
			"a path for a parent":        {func(a *flyteactions.Action) { a.ParentActionName = proto.String("../a0") }, connect.CodeInvalidArgument},
			"a path for a project":       {func(a *flyteactions.Action) { a.ActionId.Run.Project = "../" + a.ActionId.Run.Project }, connect.CodeInvalidArgument},
			"a path for a run":           {func(a *flyteactions.Action) { a.ActionId.Run.Name = "bad/../made" }, connect.CodeInvalidArgument},
			"a name that ends its line":  {func(a *flyteactions.Action) { a.ActionId.Name = "c1\n" }, connect.CodeInvalidArgument},
			"a trace's output above its folder": {func(a *flyteactions.Action) {
				a.Spec = &flyteactions.Action_Trace{Trace: &workflow.TraceAction{Name: "t", Outputs: &task.OutputReferences{OutputUri: "s3://metadata/p/../x"}}}
			}, connect.CodeInvalidArgument},
			"a condition with a webhook": {func(a *flyteactions.Action) {
				a.Spec = &flyteactions.Action_Condition{Condition: &workflow.ConditionAction{
					Name: "c", Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: core.SimpleType_BOOLEAN}}, Webhook: &workflow.ConditionWebhook{Url: "https://example.com"}}}
			}, connect.CodeInvalidArgument},
			"a group of 257 bytes":       {func(a *flyteactions.Action) { a.Group = strings.Repeat("g", 257) }, connect.CodeInvalidArgument},
			"a child without parent":     {func(a *flyteactions.Action) { a.ParentActionName = nil }, connect.CodeInvalidArgument},
			"a root with a parent":       {func(a *flyteactions.Action) { a.ActionId.Name = "a0" }, connect.CodeInvalidArgument},
			"a parent that is not there": {func(a *flyteactions.Action) { a.ParentActionName = proto.String("none") }, connect.CodeAborted},
			"a run that is not there":    {func(a *flyteactions.Action) { a.ActionId.Run.Name = "none" }, connect.CodeAborted},
			"a condition of no plain type": {func(a *flyteactions.Action) {
				a.Spec = &flyteactions.Action_Condition{Condition: &workflow.ConditionAction{Name: "c"}}
			}, connect.CodeInvalidArgument},
		} {
			t.Run(name, func(t *testing.T) {
				action := w.taskAction("bad", "a0", "c1")
				c.change(action)
				_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: action})
				wantCode(t, err, c.want)
			})
		}
		for name, size := range map[string]int{"a template of just over a megabyte": limits.TaskSpecBytes, "a template of 5 MB": 5 << 20} {
			t.Run(name, func(t *testing.T) {
				action := w.taskAction("bad", "a0", "c1")
				action.GetTask().Spec.TaskTemplate.GetContainer().Image = strings.Repeat("i", size)
				_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: action})
				wantCode(t, err, connect.CodeInvalidArgument)
				if err != nil && (len(err.Error()) > 400 || !strings.Contains(err.Error(), "1048576")) {
					t.Errorf("got %.500s, want one sentence with the limit", err)
				}
			})
		}
		t.Run("and makes nothing", func(t *testing.T) {
			var left v1alpha1.TaskActionList
			if err := cluster.Client.List(t.Context(), &left, client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.LabelRun: "bad"}); err != nil || len(left.Items) != 1 {
				t.Errorf("got %d actions, %v, want the root alone", len(left.Items), err)
			}
		})
	})

	t.Run("it begins nothing where something has ended", func(t *testing.T) {
		for name, end := range map[string]func(w *world, run string){
			"its parent has":         func(w *world, run string) { w.phase(run, "c1", v1alpha1.Succeeded) },
			"its parent is aborted":  func(w *world, run string) { w.abort(run, "c1") },
			"its root has":           func(w *world, run string) { w.phase(run, "a0", v1alpha1.Failed) },
			"its root is aborted":    func(w *world, run string) { w.abort(run, "a0") },
			"its parent never began": func(w *world, run string) {},
		} {
			t.Run(name, func(t *testing.T) {
				w := w.in(t)
				run := "end" + fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:8]
				w.run(run, nil)
				w.child(run, "a0", "c1")
				end(w, run)
				parent, want := "c1", connect.CodeAborted
				if name == "its parent never began" {
					parent = "c9"
				}
				w.eventually(func() bool {
					_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction(run, parent, "g1")})
					return connect.CodeOf(err) == want
				}, "a grandchild to be refused")
			})
		}
	})

	t.Run("it waits for a workspace and leaves an archived one alone", func(t *testing.T) {
		w := w.in(t)
		elsewhere := w.taskAction("r1", "", "a0")
		elsewhere.ActionId.Run.Project = "nowhere"
		_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: elsewhere})
		wantCode(t, err, connect.CodeUnavailable)

		archived := newWorld(t)
		workspace := &v1alpha1.Workspace{}
		if err := cluster.Client.Get(t.Context(), types.NamespacedName{Name: archived.namespace}, workspace); err != nil {
			t.Fatal(err)
		}
		archived.run("before", nil)
		workspace.Spec.Suspended = true
		if err := cluster.Client.Update(t.Context(), workspace); err != nil {
			t.Fatal(err)
		}
		n := 0
		w.eventually(func() bool {
			n++
			_, err := archived.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: archived.taskAction(fmt.Sprintf("r%d", n), "", "a0")})
			return connect.CodeOf(err) == connect.CodeFailedPrecondition
		}, "a run to be refused")
		archived.child("before", "a0", "c1")
	})

	t.Run("it says why a workspace has no namespace", func(t *testing.T) {
		w := newWorld(t)
		workspace := &v1alpha1.Workspace{}
		if err := cluster.Client.Get(t.Context(), types.NamespacedName{Name: w.namespace}, workspace); err != nil {
			t.Fatal(err)
		}
		workspace.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonForeignNamespace,
			Message: "the namespace is somebody else's", LastTransitionTime: metav1.Now()}}
		if err := cluster.Client.Status().Update(t.Context(), workspace); err != nil {
			t.Fatal(err)
		}
		n := 0
		w.eventually(func() bool {
			n++
			_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction(fmt.Sprintf("r%d", n), "", "a0")})
			return connect.CodeOf(err) == connect.CodeFailedPrecondition && strings.Contains(err.Error(), "the namespace is somebody else's")
		}, "a run to be refused")
	})

	t.Run("it takes recovered outputs where there are some", func(t *testing.T) {
		w := w.in(t)
		w.run("source", nil)
		for _, action := range []string{"done", "failed", "forced"} {
			w.child("source", "a0", action)
		}
		for action, phase := range map[string]v1alpha1.Phase{"done": v1alpha1.Succeeded, "failed": v1alpha1.Failed, "forced": v1alpha1.Succeeded} {
			w.status("source", action, func(s *v1alpha1.TaskActionStatus) { s.Phase, s.OutputURI = phase, "s3://old/"+action })
		}
		w.eventually(func() bool { // until the cache has heard of all of it
			_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction("source", "forced", "probe")})
			return connect.CodeOf(err) == connect.CodeAborted
		}, "the states to be known")
		w.run("again", &task.RunSpec{
			Relation: &common.Relation{RelationType: common.RelationType_RELATION_TYPE_RECOVER, RelatedTo: w.id("source", "a0").Run},
			Recover:  &task.Recover{ForceRerunActions: []string{"forced"}},
		})
		for action, want := range map[string]*v1alpha1.ActionReference{
			"done":   {Run: "source", Action: "done", OutputURI: "s3://old/done"},
			"failed": nil,
			"forced": nil,
			"gone":   {Run: "source", Action: "gone"},
		} {
			w.child("again", "a0", action)
			if got := w.get("again", action).Spec.RecoveredFrom; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: got %+v, want %+v", action, got, want)
			}
		}
	})

	t.Run("it takes the value of a condition, and no trace, of a run that is recovered", func(t *testing.T) {
		w := w.in(t)
		yes, err := proto.Marshal(&core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{
			Primitive: &core.Primitive{Value: &core.Primitive_Boolean{Boolean: true}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		w.run("asked", nil)
		w.run("asksagain", &task.RunSpec{
			Relation: &common.Relation{RelationType: common.RelationType_RELATION_TYPE_RECOVER, RelatedTo: w.id("asked", "a0").Run},
			Recover:  &task.Recover{ForceRerunActions: []string{"forced"}},
		})
		condition := func(run, name string) *flyteactions.Action {
			action := w.taskAction(run, "a0", name)
			action.Spec = &flyteactions.Action_Condition{Condition: &workflow.ConditionAction{
				Name: name, Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: core.SimpleType_BOOLEAN}}}}
			return action
		}
		trace := func(run string, phase common.ActionPhase) *flyteactions.Action {
			action := w.taskAction(run, "a0", "trace")
			action.Spec = &flyteactions.Action_Trace{Trace: &workflow.TraceAction{Name: "t", Phase: phase}}
			return action
		}
		enqueue := func(action *flyteactions.Action, want connect.Code) {
			t.Helper()
			_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: action})
			wantCode(t, err, want)
		}
		for _, name := range []string{"signalled", "forced", "waits"} {
			enqueue(condition("asked", name), 0)
		}
		enqueue(trace("asked", common.ActionPhase_ACTION_PHASE_SUCCEEDED), 0)
		for _, name := range []string{"signalled", "forced", "trace"} {
			w.status("asked", name, func(s *v1alpha1.TaskActionStatus) { s.Phase, s.Value = v1alpha1.Succeeded, yes })
		}
		n := 0
		w.eventually(func() bool { // until the cache has heard of all of it
			n++
			action := condition("asksagain", fmt.Sprintf("probe%d", n))
			action.RecoveredFrom = w.id("asked", "trace")
			enqueue(action, 0)
			from := w.get("asksagain", fmt.Sprintf("probe%d", n)).Spec.RecoveredFrom
			return from != nil && bytes.Equal(from.Value, yes)
		}, "the states to be known")
		enqueue(trace("asksagain", common.ActionPhase_ACTION_PHASE_SUCCEEDED), 0)
		for _, name := range []string{"signalled", "forced", "waits"} {
			enqueue(condition("asksagain", name), 0)
		}
		for name, want := range map[string]*v1alpha1.ActionReference{
			"signalled": {Run: "asked", Action: "signalled", Value: yes}, "forced": nil, "waits": nil, "trace": nil,
		} {
			if got := w.get("asksagain", name).Spec.RecoveredFrom; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
		}
	})

	t.Run("it takes a trace again that had failed, and no other", func(t *testing.T) {
		w := w.in(t)
		w.run("traces", nil)
		phaseOf := func() common.ActionPhase {
			trace := &workflow.TraceAction{}
			if err := proto.Unmarshal(w.get("traces", "trace").Spec.Trace, trace); err != nil {
				t.Fatal(err)
			}
			return trace.Phase
		}
		for i, step := range []struct {
			sent, want common.ActionPhase
			code       connect.Code
		}{
			{common.ActionPhase_ACTION_PHASE_FAILED, common.ActionPhase_ACTION_PHASE_FAILED, 0},
			{common.ActionPhase_ACTION_PHASE_SUCCEEDED, common.ActionPhase_ACTION_PHASE_SUCCEEDED, connect.CodeAlreadyExists},
			{common.ActionPhase_ACTION_PHASE_FAILED, common.ActionPhase_ACTION_PHASE_SUCCEEDED, connect.CodeAlreadyExists},
		} {
			action := w.taskAction("traces", "a0", "trace")
			action.Spec = &flyteactions.Action_Trace{Trace: &workflow.TraceAction{Name: "t", Phase: step.sent}}
			_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: action})
			wantCode(t, err, step.code)
			if got := phaseOf(); got != step.want {
				t.Errorf("got %s in step %d, want %s", got, i, step.want)
			}
			w.phase("traces", "trace", v1alpha1.Phase(strings.TrimPrefix(step.want.String(), "ACTION_PHASE_"))) // as the reconciler does
		}
	})

	t.Run("it makes a thousand children at once, each once", func(t *testing.T) {
		w := w.in(t)
		w.run("many", nil)
		pod := w.pod("many", "a0", 1, true)
		begin := time.Now()
		var worst atomic.Int64
		todo := make(chan string)
		var workers sync.WaitGroup
		for range 20 { // as many as the SDK has
			workers.Go(func() {
				for action := range todo {
					begin := time.Now()
					_, err := pod.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction("many", "a0", action)})
					if err != nil && connect.CodeOf(err) != connect.CodeAlreadyExists {
						t.Errorf("child %s: %v", action, err)
					}
					for took, most := int64(time.Since(begin)), worst.Load(); took > most && !worst.CompareAndSwap(most, took); most = worst.Load() {
					}
				}
			})
		}
		for n := range 1000 {
			todo <- fmt.Sprintf("c%d", n)
			if n%10 == 0 { // an answer was lost, and the client asks again
				todo <- fmt.Sprintf("c%d", n)
			}
		}
		close(todo)
		workers.Wait()
		t.Logf("1100 calls of one parent took %v together, the slowest %v", time.Since(begin).Round(time.Millisecond), time.Duration(worst.Load()).Round(time.Millisecond))
		var made v1alpha1.TaskActionList
		if err := cluster.Client.List(t.Context(), &made, client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.LabelRun: "many"}); err != nil {
			t.Fatal(err)
		}
		if len(made.Items) != 1001 {
			t.Errorf("got %d actions, want 1001", len(made.Items))
		}
	})
}

// check returns the digest that names a template, after looking whether it does.
func check(t *testing.T, w *world, a *v1alpha1.TaskAction) string {
	t.Helper()
	template := &v1alpha1.TaskTemplate{}
	if err := cluster.Client.Get(t.Context(), types.NamespacedName{Namespace: w.namespace, Name: a.Spec.Template}, template); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(template.Spec)
	if got := hex.EncodeToString(digest[:]); got != template.Name {
		t.Errorf("got a template %s with digest %s", template.Name, got)
	}
	spec := &task.TaskSpec{}
	if err := proto.Unmarshal(template.Spec, spec); err != nil {
		t.Fatal(err)
	}
	if id := spec.TaskTemplate.Id; id.Org != organization || id.Project != w.project || id.Domain != w.domain {
		t.Errorf("got the task's id %v, want the run's workspace filled in", id)
	}
	return template.Name
}

func (w *world) abort(run, action string) {
	w.t.Helper()
	if _, err := w.operator.Abort(w.t.Context(), &flyteactions.AbortRequest{ActionId: w.id(run, action), Reason: proto.String("enough")}); err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits for the cache to have heard of what was just written.
func (w *world) eventually(is func() bool, what string) {
	w.t.Helper()
	for end := time.Now().Add(deadline); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("got no %s within %v", what, deadline)
		}
	}
}
