package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	flytetask "biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/record"
)

// scripted is a task whose program does steps.
func scripted(steps ...string) *flytetask.TaskSpec {
	return &flytetask.TaskSpec{ShortName: "scripted", TaskTemplate: &core.TaskTemplate{
		Id: &core.Identifier{Name: "env.scripted", Version: "v1"}, Type: "python", Metadata: &core.TaskMetadata{},
		Interface: &core.TypedInterface{Outputs: &core.VariableMap{Variables: []*core.VariableEntry{{Key: "o0"}}}},
		Target: &core.TaskTemplate_Container{Container: &core.Container{
			Image: image, Command: []string{program}, Args: append([]string{"{{.outputPrefix}}"}, steps...)}},
	}}
}

func retries(spec *flytetask.TaskSpec, n uint32) *flytetask.TaskSpec {
	spec.TaskTemplate.Metadata.Retries = &core.RetryStrategy{Retries: n}
	return spec
}

// enqueue makes an action as the server does. Without a parent it is a run's root.
func enqueue(t *testing.T, run, action, parent string, spec *flytetask.TaskSpec, changes ...func(*v1alpha1.TaskAction, *flytetask.RunSpec)) *v1alpha1.TaskAction {
	t.Helper()
	a := &v1alpha1.TaskAction{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.ActionName(run, action), Finalizers: []string{v1alpha1.FinalizerRecorded}},
		Spec: v1alpha1.TaskActionSpec{
			Organization: "acme", Project: "flytesnacks", Domain: "development", Run: run, Action: action, Parent: parent,
			InputURI: w.base(run) + "/" + action + "/inputs.pb", RunOutputBase: w.base(run), Type: v1alpha1.TypeTask,
			TaskProject: "flytesnacks", TaskDomain: "development", TaskName: "env.scripted", TaskVersion: "v1",
		},
	}
	if spec != nil {
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		a.Spec.Template = hex.EncodeToString(sum[:])
		template := &v1alpha1.TaskTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: a.Spec.Template}, Spec: text}
		if err := w.Client.Create(t.Context(), template); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	runSpec := &flytetask.RunSpec{RunStartTime: timestamppb.New(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC))}
	for _, change := range changes {
		change(a, runSpec)
	}
	if parent == "" {
		var err error
		if a.Spec.RunSpec, err = proto.Marshal(runSpec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Client.Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a
}

// until waits for an action to be as wanted.
func until(t *testing.T, a *v1alpha1.TaskAction, what string, is func(*v1alpha1.TaskAction) bool) *v1alpha1.TaskAction {
	t.Helper()
	return untilWithin(t, 4*time.Minute, a, what, is)
}

func untilWithin(t *testing.T, limit time.Duration, a *v1alpha1.TaskAction, what string, is func(*v1alpha1.TaskAction) bool) *v1alpha1.TaskAction {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	last := &v1alpha1.TaskAction{}
	for ctx.Err() == nil {
		events, err := w.watching.Watch(ctx, &v1alpha1.TaskActionList{}, client.InNamespace(a.Namespace), client.MatchingFields{"metadata.name": a.Name})
		if err != nil {
			t.Fatal(err)
		}
		for event := range events.ResultChan() {
			now, ok := event.Object.(*v1alpha1.TaskAction)
			if !ok || event.Type == watch.Deleted {
				continue
			}
			if last = now; is(now) {
				events.Stop()
				return now
			}
		}
	}
	t.Fatalf("got %+v, want %s", last.Status, what)
	return nil
}

func ended(t *testing.T, a *v1alpha1.TaskAction) *v1alpha1.TaskAction {
	t.Helper()
	return until(t, a, "the end", func(a *v1alpha1.TaskAction) bool { return a.Status.Phase.Terminal() })
}

// kept waits until logs and record are in the bucket.
func kept(t *testing.T, a *v1alpha1.TaskAction) *v1alpha1.TaskAction {
	t.Helper()
	return until(t, a, "its record kept", func(a *v1alpha1.TaskAction) bool {
		return slices.ContainsFunc(a.Status.Conditions, func(c metav1.Condition) bool { return c.Type == "Kept" })
	})
}

func logOf(t *testing.T, a *v1alpha1.TaskAction, attempt int) string {
	t.Helper()
	tried := a.Status.Attempts[attempt-1]
	uri := "s3://" + w.cfg.Storage.MetadataBucket + "/persisted-logs/flytesnacks/development/" + a.Spec.Run + "/" + a.Spec.Action + "/" +
		string(rune('0'+attempt)) + "/" + tried.Pod + "/" + tried.Container + ".log"
	content, err := w.store.Get(t.Context(), uri, 64<<20)
	if err != nil {
		t.Fatalf("reading %s: %v", uri, err)
	}
	return string(content)
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spec  *flytetask.TaskSpec
		phase v1alpha1.Phase
		code  string
		kind  v1alpha1.ErrorKind
		tries int
	}{
		{"it succeeds when its program wrote outputs", scripted("outputs"), v1alpha1.Succeeded, "", "", 1},
		{"it fails when a program that ended well wrote an error", scripted("error ValueError NON_RECOVERABLE USER"), v1alpha1.Failed, "ValueError", v1alpha1.UserError, 1},
		{"it is not retried after an error that no retry mends", retries(scripted("error ValueError NON_RECOVERABLE USER"), 3), v1alpha1.Failed, "ValueError", v1alpha1.UserError, 1},
		{"it is retried by the author's budget after a system's error that is written down", retries(scripted("error Io RECOVERABLE SYSTEM"), 1), v1alpha1.Failed, "RetriesExhausted|Io", v1alpha1.SystemError, 2},
		{"it fails when what its program wrote about its failure is too long", retries(scripted("longerror 11"), 1), v1alpha1.Failed, "RetriesExhausted|ErrorTooLong", v1alpha1.UserError, 2},
		{"it fails when its command names an input and there are none", scripted("outputs", "{{.inputs.x}}"), v1alpha1.Failed, "InputsNotFound", v1alpha1.UserError, 1},
		{"it succeeds at its second attempt", retries(scripted("until 1", "outputs"), 2), v1alpha1.Succeeded, "", "", 2},
		{"it fails after as many retries as it has", retries(scripted("exit 4"), 2), v1alpha1.Failed, "RetriesExhausted|NonZeroExitCode", v1alpha1.UserError, 3},
		{"it fails when the outputs it declares are missing", scripted("say nothing"), v1alpha1.Failed, "OutputsNotFound", v1alpha1.UserError, 1},
		{"it fails when its command is not there", func() *flytetask.TaskSpec {
			spec := scripted()
			spec.TaskTemplate.GetContainer().Command = []string{"/bin/absent"}
			return spec
		}(), v1alpha1.Failed, "ContainerCannotRun", v1alpha1.UserError, 1},
		{"it fails when its image cannot be had", func() *flytetask.TaskSpec {
			spec := scripted()
			spec.TaskTemplate.GetContainer().Image = "biplane.test/absent:1"
			return spec
		}(), v1alpha1.Failed, "ImagePullBackOff", v1alpha1.UserError, 1},
		{"it fails when its image has no possible name", func() *flytetask.TaskSpec {
			spec := scripted()
			spec.TaskTemplate.GetContainer().Image = "Not//A:Name:x"
			return spec
		}(), v1alpha1.Failed, "InvalidImageName", v1alpha1.UserError, 1},
		{"it fails when it takes more memory than it may", func() *flytetask.TaskSpec {
			spec := scripted("alloc 400")
			spec.TaskTemplate.GetContainer().Resources = &core.Resources{Limits: []*core.Resources_ResourceEntry{{Name: core.Resources_MEMORY, Value: "100Mi"}}}
			return spec
		}(), v1alpha1.Failed, "OOMKilled", v1alpha1.UserError, 1},
		{"it fails when the cluster refuses its pod for good", func() *flytetask.TaskSpec {
			spec := scripted("outputs")
			spec.TaskTemplate.Metadata.Metadata = &core.K8SObjectMetadata{Labels: map[string]string{"no label": "x"}}
			return spec
		}(), v1alpha1.Failed, "BadTaskSpecification", v1alpha1.UserError, 1},
		{"it fails for good when a Secret is missing", func() *flytetask.TaskSpec {
			spec := scripted()
			podSpec, err := toStruct(map[string]any{"containers": []any{map[string]any{"name": "main", "image": image, "command": []any{program},
				"env": []any{map[string]any{"name": "A", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "absent", "key": "a"}}}}}}})
			if err != nil {
				t.Fatal(err)
			}
			spec.TaskTemplate.Target = &core.TaskTemplate_K8SPod{K8SPod: &core.K8SPod{PodSpec: podSpec}}
			return retries(spec, 2)
		}(), v1alpha1.Failed, "CreateContainerConfigError", v1alpha1.UserError, 1},
		{"it is tried again by the system when its program was killed", scripted("killed", "outputs"), v1alpha1.Succeeded, "", "", 2},
		{"it fails when the system has tried often enough", scripted("exit 137"), v1alpha1.Failed, "MaxSystemFailuresExceeded", v1alpha1.SystemError, 4},
		{"it times out when an attempt runs too long", func() *flytetask.TaskSpec {
			spec := retries(scripted("wait"), 1)
			spec.TaskTemplate.Metadata.Timeout = durationpb.New(time.Second)
			return spec
		}(), v1alpha1.TimedOut, "RetriesExhausted|MAX_RUNTIME_EXCEEDED", v1alpha1.UserError, 2},
		{"it times out when it waits too long", func() *flytetask.TaskSpec {
			spec := scripted("outputs")
			spec.TaskTemplate.GetContainer().Resources = &core.Resources{Requests: []*core.Resources_ResourceEntry{{Name: core.Resources_CPU, Value: "10000"}}}
			spec.TaskTemplate.Metadata.Timeouts = &core.TimeoutStrategy{QueuedTimeout: durationpb.New(2 * time.Second)}
			return spec
		}(), v1alpha1.TimedOut, "QUEUED_TIMEOUT_EXCEEDED", v1alpha1.UserError, 1},
		{"it times out at its deadline, whatever retries it has", func() *flytetask.TaskSpec {
			spec := retries(scripted("sleep 800ms", "exit 1"), 100)
			spec.TaskTemplate.Metadata.Timeouts = &core.TimeoutStrategy{Deadline: durationpb.New(4 * time.Second)}
			return spec
		}(), v1alpha1.TimedOut, "DEADLINE_EXCEEDED", v1alpha1.UserError, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := ended(t, enqueue(t, runName(t), "a0", "", test.spec))
			if a.Status.Phase != test.phase {
				t.Errorf("got phase %s, want %s: %+v", a.Status.Phase, test.phase, a.Status)
			}
			got := v1alpha1.ActionError{}
			if a.Status.Error != nil {
				got = *a.Status.Error
			}
			if got.Code != test.code || got.Kind != test.kind {
				t.Errorf("got error %+v, want code %q, kind %q", got, test.code, test.kind)
			}
			if test.tries > 0 && len(a.Status.Attempts) != test.tries {
				t.Errorf("got %d attempts, want %d: %+v", len(a.Status.Attempts), test.tries, a.Status.Attempts)
			}
			folders := map[string]bool{}
			for _, attempt := range a.Status.Attempts {
				folders[attempt.OutputURI] = true
			}
			if len(folders) != len(a.Status.Attempts) {
				t.Errorf("got folders %v, want one for each attempt", folders)
			}
			if test.phase == v1alpha1.Succeeded && a.Status.OutputURI != a.Status.Attempts[test.tries-1].OutputURI {
				t.Errorf("got outputs in %q, want them in the folder of the last attempt", a.Status.OutputURI)
			}
		})
	}
}

func TestPod(t *testing.T) {
	t.Parallel()
	t.Run("it keeps the log of every attempt, while there are others", func(t *testing.T) {
		t.Parallel()
		a := kept(t, enqueue(t, runName(t), "a0", "", retries(scripted("say here", "until 1", "sleep 12s", "outputs"), 1)))
		for i, attempt := range a.Status.Attempts {
			if log := logOf(t, a, i+1); !attempt.LogsKept || !strings.Contains(log, " here\n") {
				t.Errorf("got logs kept: %v, and the log %q of attempt %d", attempt.LogsKept, log, i+1)
			}
		}
	})
	t.Run("it has its names, its token and its client's configuration", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		spec := scripted("args", "env ACTION_NAME RUN_NAME _U_ORG_NAME _U_RUN_BASE FLYTE_ATTEMPT_NUMBER _F_PN _U_USE_ACTIONS FROM_RUN",
			"cat /var/run/secrets/biplane.dev/serviceaccount/token", "cat /etc/biplane/client/config.yaml", "lines 1000", "outputs")
		container := spec.TaskTemplate.GetContainer()
		container.Args = append(container.Args, "say {{ .RunName }} {{$actionname}} {{.runStartTime}} {{.prevCheckpointPrefix}} {{.unknown}}")
		a := kept(t, enqueue(t, run, "a0", "", spec, func(_ *v1alpha1.TaskAction, r *flytetask.RunSpec) {
			r.Envs = &flytetask.Envs{Values: []*core.KeyValuePair{{Key: "FROM_RUN", Value: "yes"}, {Key: "RUN_NAME", Value: "no"}}}
		}))
		log := logOf(t, a, 1)
		for _, want := range []string{
			" ACTION_NAME=a0\n", " RUN_NAME=" + run + "\n", " _U_ORG_NAME=acme\n", " _U_RUN_BASE=" + w.base(run) + "\n", " FLYTE_ATTEMPT_NUMBER=0\n",
			" _F_PN=" + run + "-a0-0\n", " _U_USE_ACTIONS=1\n", " FROM_RUN=yes\n", "bytes in /etc/biplane/client/config.yaml",
			" " + run + ` a0 2026-05-04T03:02:01Z "" {{.unknown}}` + "\n", " line 999 ", " " + w.base(run) + "/a0/1|args|",
		} {
			if !strings.Contains(log, want) {
				t.Errorf("got a log without %q", want)
			}
		}
		if strings.Contains(log, " 0 bytes") {
			t.Errorf("got an empty file, want a token and a configuration")
		}
		if !a.Status.Attempts[0].LogsKept {
			t.Errorf("got %+v, want its logs kept", a.Status.Attempts[0])
		}
		gone(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: a.Status.Attempts[0].Pod}})
	})
	t.Run("it succeeds when its primary container does, and ends what still runs beside it", func(t *testing.T) {
		t.Parallel()
		podSpec, err := toStruct(map[string]any{"containers": []any{
			map[string]any{"name": "beside", "image": image, "command": []any{program}, "args": []any{"-", "say beside", "wait"}},
			map[string]any{"name": "main", "image": image, "command": []any{program}, "args": []any{"{{.outputPrefix}}", "outputs"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		spec := scripted()
		spec.TaskTemplate.Target = &core.TaskTemplate_K8SPod{K8SPod: &core.K8SPod{PodSpec: podSpec, PrimaryContainerName: "main"}}
		a := kept(t, enqueue(t, runName(t), "a0", "", spec))
		want(t, a, v1alpha1.Succeeded)
		gone(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: a.Status.Attempts[0].Pod}})
	})
	t.Run("what Kubernetes said of the pods of all attempts is in its record", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		kept(t, enqueue(t, run, "a0", "", retries(scripted("until 1", "outputs"), 1)))
		r, err := record.Read(t.Context(), w.store.S3, w.cfg.Storage.MetadataBucket, "flytesnacks/development/"+run+"/a0")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for i, e := range r.Events {
			seen[fmt.Sprint(e.Attempt, e.Reason)] = true
			if i > 0 && e.Attempt < r.Events[i-1].Attempt {
				t.Errorf("got an event of attempt %d behind one of attempt %d", e.Attempt, r.Events[i-1].Attempt)
			}
		}
		for _, reason := range []string{"1Scheduled", "2Scheduled"} { // a busy node tells its own events late
			if !seen[reason] {
				t.Errorf("got %v, want %s in it", seen, reason)
			}
		}
	})
	t.Run("its times are exact, from when it was enqueued to its end", func(t *testing.T) {
		t.Parallel()
		enqueued := time.Now().Add(-time.Minute)
		a := ended(t, enqueue(t, runName(t), "a0", "", scripted("outputs"), func(a *v1alpha1.TaskAction, _ *flytetask.RunSpec) { a.Spec.EnqueuedAt = v1alpha1.At(enqueued) }))
		if got := a.Status.StartedAt.Time; !got.Equal(enqueued.Truncate(time.Microsecond)) {
			t.Errorf("got it started at %s, want %s", got, enqueued)
		}
		if got, want := a.Status.EndedAt.Time, a.Status.Attempts[0].EndedAt.Time; !got.Equal(want) || got.Nanosecond() == 0 {
			t.Errorf("got it ended at %s, want %s, when its attempt did", got, want)
		}
	})
	t.Run("it reads an object whose times are of whole seconds, as they were once", func(t *testing.T) {
		t.Parallel()
		a := kept(t, enqueue(t, runName(t), "a0", "", scripted("outputs")))
		patch := client.RawPatch(types.MergePatchType, []byte(`{"status":{"startedAt":"2026-05-04T03:02:01Z","endedAt":"2026-05-04T03:02:05Z"}}`))
		if err := w.Client.Status().Patch(t.Context(), a, patch); err != nil {
			t.Fatal(err)
		}
		if got := a.Status.EndedAt.Sub(a.Status.StartedAt.Time); got != 4*time.Second {
			t.Errorf("got a duration of %s, want 4s", got)
		}
		another := ended(t, enqueue(t, runName(t)+"x", "a0", "", scripted("outputs"))) // so the executor's cache reads on
		want(t, another, v1alpha1.Succeeded)
	})
}

// gone waits until an object is no more.
func gone(t *testing.T, object client.Object) {
	t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for {
		err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object)
		if apierrors.IsNotFound(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %s still there, want it gone", object.GetName())
		}
		select {
		case <-t.Context().Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	t.Run("it ends a run that nobody can read", func(t *testing.T) {
		t.Parallel()
		run := runName(t)
		a := &v1alpha1.TaskAction{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.ActionName(run, "a0")},
			Spec: v1alpha1.TaskActionSpec{Organization: "acme", Project: "flytesnacks", Domain: "development", Run: run, Action: "a0",
				Type: v1alpha1.TypeTask, RunOutputBase: w.base(run), RunSpec: []byte("\xff"), Template: "absent"},
		}
		if err := w.Client.Create(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		a = ended(t, a)
		want(t, a, v1alpha1.Failed)
		if a.Status.Error == nil || a.Status.Error.Code != "BadDefinition" {
			t.Errorf("got the error %+v, want BadDefinition", a.Status.Error)
		}
	})
	t.Run("it ends a task whose definition is gone", func(t *testing.T) {
		t.Parallel()
		a := ended(t, enqueue(t, runName(t), "a0", "", nil))
		want(t, a, v1alpha1.Failed)
		if a.Status.Error == nil || a.Status.Error.Code != "TemplateNotFound" {
			t.Errorf("got the error %+v, want TemplateNotFound", a.Status.Error)
		}
	})
}
