package actions_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// watching is one stream, read by the test.
type watching struct {
	t      *testing.T
	stream *connect.ServerStreamForClient[flyteactions.WatchForUpdatesResponse]
	cancel context.CancelFunc
}

func (w *world) watch(client actionsconnect.ActionsServiceClient, run, parent string) *watching {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	w.t.Cleanup(cancel)
	stream, err := client.WatchForUpdates(ctx, &flyteactions.WatchForUpdatesRequest{
		Filter: &flyteactions.WatchForUpdatesRequest_ParentActionId{ParentActionId: w.id(run, parent)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return &watching{w.t, stream, cancel}
}

// next is the next update; nil for the sentinel.
func (w *watching) next() *workflow.ActionUpdate {
	w.t.Helper()
	if !w.stream.Receive() {
		w.t.Fatalf("got the end %v, want an update", w.stream.Err())
	}
	switch message := w.stream.Msg().GetMessage().(type) {
	case *flyteactions.WatchForUpdatesResponse_ActionUpdate:
		if message.ActionUpdate.GetActionId().GetName() == "" {
			w.t.Fatal("got an update without name")
		}
		return message.ActionUpdate
	case *flyteactions.WatchForUpdatesResponse_ControlMessage:
		if message.ControlMessage.GetSentinel() {
			return nil
		}
	}
	w.t.Fatalf("got %v, want an update or the sentinel", w.stream.Msg())
	return nil
}

// snapshot is what comes before the sentinel.
func (w *watching) snapshot() map[string]*workflow.ActionUpdate {
	w.t.Helper()
	all := map[string]*workflow.ActionUpdate{}
	for update := w.next(); update != nil; update = w.next() {
		all[update.ActionId.Name] = update
	}
	return all
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("it tells of every child there is, then the sentinel, then what changes", func(t *testing.T) {
		w := w.in(t)
		w.run("all", nil)
		pod := w.pod("all", "a0", 1, true)
		for _, name := range []string{"queued", "running", "succeeded", "failed", "retried", "aborted", "timedout", "recovered"} {
			w.child("all", "a0", name)
		}
		w.child("all", "running", "grandchild")
		trace := w.taskAction("all", "a0", "trace")
		trace.Spec = &flyteactions.Action_Trace{Trace: &workflow.TraceAction{
			Name: "step", Phase: common.ActionPhase_ACTION_PHASE_SUCCEEDED, Outputs: &task.OutputReferences{OutputUri: "s3://m/trace/outputs.pb"},
		}}
		condition := w.taskAction("all", "a0", "condition")
		condition.Spec = &flyteactions.Action_Condition{Condition: &workflow.ConditionAction{
			Name: "ok", Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: core.SimpleType_BOOLEAN}},
		}}
		for _, action := range []*flyteactions.Action{trace, condition} {
			if _, err := pod.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: action}); err != nil {
				t.Fatal(err)
			}
		}
		failure := &v1alpha1.ActionError{Code: "ValueError", Kind: v1alpha1.UserError, Message: "no such thing", Recoverable: true}
		w.phase("all", "running", v1alpha1.Running)
		w.status("all", "succeeded", func(s *v1alpha1.TaskActionStatus) { s.Phase, s.OutputURI = v1alpha1.Succeeded, "s3://m/succeeded/2" })
		w.status("all", "failed", func(s *v1alpha1.TaskActionStatus) {
			s.Phase, s.Error = v1alpha1.Failed, failure
			s.Attempts = []v1alpha1.Attempt{{Number: 3, Phase: v1alpha1.Failed, OutputURI: "s3://m/failed/3"}}
		})
		w.status("all", "retried", func(s *v1alpha1.TaskActionStatus) { s.Phase, s.Error = v1alpha1.Queued, failure })
		w.phase("all", "aborted", v1alpha1.Aborted)
		w.status("all", "timedout", func(s *v1alpha1.TaskActionStatus) {
			s.Phase, s.Error = v1alpha1.TimedOut, &v1alpha1.ActionError{Code: "Timeout", Kind: v1alpha1.SystemError, Message: "took too long"}
		})
		w.status("all", "recovered", func(s *v1alpha1.TaskActionStatus) { s.Phase, s.OutputURI = v1alpha1.Recovered, "s3://m/old/1" })
		w.status("all", "trace", func(s *v1alpha1.TaskActionStatus) {
			s.Phase, s.OutputURI = v1alpha1.Succeeded, "s3://m/trace/outputs.pb"
		})
		w.phase("all", "condition", v1alpha1.Paused)

		is := func(name string, phase common.ActionPhase) *workflow.ActionUpdate {
			return &workflow.ActionUpdate{ActionId: w.id("all", name), Phase: phase, OutputUri: w.base("all") + "/" + name + "/1"}
		}
		with := func(u *workflow.ActionUpdate, uri string, err *core.ExecutionError) *workflow.ActionUpdate {
			u.OutputUri, u.Error = uri, err
			return u
		}
		want := map[string]*workflow.ActionUpdate{
			"queued":    is("queued", common.ActionPhase_ACTION_PHASE_QUEUED),
			"running":   is("running", common.ActionPhase_ACTION_PHASE_RUNNING),
			"succeeded": with(is("succeeded", common.ActionPhase_ACTION_PHASE_SUCCEEDED), "s3://m/succeeded/2", nil),
			"failed": with(is("failed", common.ActionPhase_ACTION_PHASE_FAILED), "s3://m/failed/3", &core.ExecutionError{
				Code: "ValueError", Message: "no such thing", Kind: core.ExecutionError_USER, Recoverability: core.ContainerError_RECOVERABLE}),
			"retried":   is("retried", common.ActionPhase_ACTION_PHASE_QUEUED),
			"aborted":   is("aborted", common.ActionPhase_ACTION_PHASE_ABORTED),
			"timedout":  with(is("timedout", common.ActionPhase_ACTION_PHASE_TIMED_OUT), w.base("all")+"/timedout/1", &core.ExecutionError{Code: "Timeout", Message: "took too long", Kind: core.ExecutionError_SYSTEM}),
			"recovered": with(is("recovered", common.ActionPhase_ACTION_PHASE_RECOVERED), "s3://m/old/1", nil),
			"trace":     with(is("trace", common.ActionPhase_ACTION_PHASE_SUCCEEDED), "s3://m/trace/outputs.pb", nil),
			"condition": with(is("condition", common.ActionPhase_ACTION_PHASE_PAUSED), "", nil),
		}
		var got map[string]*workflow.ActionUpdate
		w.eventually(func() bool { // until the cache has heard of all of it
			s := w.watch(pod, "all", "a0")
			defer s.cancel()
			got = s.snapshot()
			return len(got) == len(want) && got["condition"].Phase == common.ActionPhase_ACTION_PHASE_PAUSED
		}, "snapshot of everything")
		for name := range want {
			if !proto.Equal(got[name], want[name]) {
				t.Errorf("%s: got %v, want %v", name, got[name], want[name])
			}
		}

		s := w.watch(pod, "all", "a0")
		s.snapshot()
		yes := &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{Primitive: &core.Primitive{Value: &core.Primitive_Boolean{Boolean: true}}}}}}
		if _, err := w.operator.Signal(t.Context(), &flyteactions.SignalRequest{ActionId: w.id("all", "condition"), ParentActionName: "a0", Value: yes}); err != nil {
			t.Fatal(err)
		}
		w.phase("all", "condition", v1alpha1.Succeeded)
		signalled := is("condition", common.ActionPhase_ACTION_PHASE_SUCCEEDED)
		signalled.OutputUri, signalled.Value = "", yes
		if got := s.next(); !proto.Equal(got, signalled) {
			t.Errorf("got %v, want %v", got, signalled)
		}
		begin := time.Now()
		w.child("all", "a0", "late")
		if got := s.next(); got.GetActionId().GetName() != "late" || got.GetPhase() != common.ActionPhase_ACTION_PHASE_QUEUED {
			t.Errorf("got %v, want the new child", got)
		}
		t.Logf("a new child took %v to be made and seen", time.Since(begin))
	})

	t.Run("it does not tell an attempt of a trace that failed in the one before and may yet succeed", func(t *testing.T) {
		w := w.in(t)
		w.run("shaky", nil)
		trace := func(name string, phase common.ActionPhase) *flyteactions.EnqueueRequest {
			action := w.taskAction("shaky", "a0", name)
			action.Spec = &flyteactions.Action_Trace{Trace: &workflow.TraceAction{Name: "step", Phase: phase}}
			return &flyteactions.EnqueueRequest{Action: action}
		}
		status := func(name string, phase v1alpha1.Phase, err *v1alpha1.ActionError) {
			generation := w.get("shaky", name).Generation
			w.status("shaky", name, func(s *v1alpha1.TaskActionStatus) { s.Phase, s.Error, s.ObservedGeneration = phase, err, generation })
		}
		attempt := func(number int) actionsconnect.ActionsServiceClient {
			pod := w.pod("shaky", "a0", number, true)
			w.status("shaky", "a0", func(s *v1alpha1.TaskActionStatus) {
				for i := range len(s.Attempts) - 1 {
					s.Attempts[i].Phase = v1alpha1.Failed
				}
				s.Attempts[number-1].StartedAt = v1alpha1.At(time.Now())
			})
			return pod
		}
		first := attempt(1)
		for _, name := range []string{"again", "final"} {
			if _, err := first.Enqueue(t.Context(), trace(name, common.ActionPhase_ACTION_PHASE_FAILED)); err != nil {
				t.Fatal(err)
			}
		}
		status("again", v1alpha1.Failed, &v1alpha1.ActionError{Code: "E", Kind: v1alpha1.UserError, Recoverable: true})
		status("final", v1alpha1.Failed, &v1alpha1.ActionError{Code: "E", Kind: v1alpha1.UserError})
		w.eventually(func() bool {
			got := w.watch(first, "shaky", "a0").snapshot()
			return got["again"].GetPhase() == common.ActionPhase_ACTION_PHASE_FAILED && got["final"].GetPhase() == common.ActionPhase_ACTION_PHASE_FAILED
		}, "both to be told to the attempt that ran them")

		second := attempt(2)
		var watching *watching
		w.eventually(func() bool { // until the cache knows when the attempt began
			watching = w.watch(second, "shaky", "a0")
			got := watching.snapshot()
			return len(got) == 1 && got["final"] != nil
		}, "the failure alone to be told that stays one")
		_, err := second.Enqueue(t.Context(), trace("again", common.ActionPhase_ACTION_PHASE_SUCCEEDED))
		wantCode(t, err, connect.CodeAlreadyExists)
		status("again", v1alpha1.Succeeded, nil)
		if got := watching.next(); got.GetActionId().GetName() != "again" || got.GetPhase() != common.ActionPhase_ACTION_PHASE_SUCCEEDED {
			t.Errorf("got %v, want its new end", got)
		}
	})
	t.Run("it tells the last state to whoever reads slowly, and none after a newer one", func(t *testing.T) {
		w := w.in(t)
		w.run("slow", nil)
		const children, changes = 30, 12
		for n := range children {
			w.child("slow", "a0", fmt.Sprintf("c%d", n))
		}
		// So little is taken ahead that the server has to wait for the reader.
		narrow := &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10}
		client := w.clientWith(narrow, cluster.Token(t, w.home, "operator-system", v1alpha1.TokenAudience, nil), connect.WithAcceptCompression("gzip", nil, nil))
		s := w.watch(client, "slow", "a0")
		s.snapshot()
		var writers sync.WaitGroup
		for n := range children {
			writers.Go(func() {
				for change := range changes {
					w.status("slow", fmt.Sprintf("c%d", n), func(s *v1alpha1.TaskActionStatus) {
						s.Phase, s.OutputURI = v1alpha1.Running, "s3://"+strings.Repeat("long/", 800)
						if change == changes-1 {
							s.Phase = v1alpha1.Succeeded
						}
					})
				}
			})
		}
		writers.Wait()
		ended, updates := map[string]bool{}, 0
		for ; len(ended) < children; updates++ {
			update := s.next()
			if ended[update.ActionId.Name] {
				t.Fatalf("got %v of %s after its end", update.Phase, update.ActionId.Name)
			}
			if update.Phase == common.ActionPhase_ACTION_PHASE_SUCCEEDED {
				ended[update.ActionId.Name] = true
			}
		}
		if updates >= children*changes {
			t.Errorf("got all of %d updates, want those of a slow reader put together", updates)
		}
		t.Logf("of %d changes %d were told", children*changes, updates)
	})

	t.Run("it loses nothing when the stream breaks again and again", func(t *testing.T) {
		w := w.in(t)
		w.run("broken", nil)
		pod := w.pod("broken", "a0", 1, true)
		const children = 30
		var writers sync.WaitGroup
		writers.Go(func() {
			for n := range children {
				w.child("broken", "a0", fmt.Sprintf("c%d", n))
				w.phase("broken", fmt.Sprintf("c%d", n), v1alpha1.Running)
				w.phase("broken", fmt.Sprintf("c%d", n), v1alpha1.Succeeded)
			}
		})
		ended := map[string]bool{}
		for end := time.Now().Add(deadline); len(ended) < children; {
			if time.Now().After(end) {
				t.Fatalf("got %d children that have ended, want %d", len(ended), children)
			}
			s := w.watch(pod, "broken", "a0")
			for range rand.IntN(20) + 1 {
				if update := s.next(); update.GetPhase() == common.ActionPhase_ACTION_PHASE_SUCCEEDED {
					ended[update.ActionId.Name] = true
				}
				if len(ended) == children {
					break
				}
			}
			s.cancel()
		}
		writers.Wait()
	})

	t.Run("it speaks gRPC and gRPC-Web as well", func(t *testing.T) {
		w := w.in(t)
		w.run("tongues", nil)
		w.child("tongues", "a0", "c1")
		token := cluster.Token(t, w.home, "operator-system", v1alpha1.TokenAudience, nil)
		for name, option := range map[string]connect.ClientOption{"gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb()} {
			client := w.client(token, option)
			w.eventually(func() bool {
				s := w.watch(client, "tongues", "a0")
				defer s.cancel()
				return len(s.snapshot()) == 1
			}, "child over "+name)
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run("r1", nil)
	pod := w.pod("r1", "a0", 1, true)
	s := w.watch(pod, "r1", "a0")
	s.snapshot()
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	if s.stream.Receive() {
		t.Fatalf("got %v, want the end", s.stream.Msg())
	}
	wantCode(t, s.stream.Err(), connect.CodeUnavailable)
	s.cancel()
	select {
	case <-stopped:
	case <-time.After(deadline):
		t.Errorf("got no end of the server within %v", deadline)
	}
}
