package actions_test

import (
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

func TestAbort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	person := &common.EnrichedIdentity{Principal: &common.EnrichedIdentity_User{User: &common.User{Spec: &common.UserSpec{Email: "ann@acme.example"}}}}

	t.Run("it keeps why and by whom, of the first time", func(t *testing.T) {
		w := w.in(t)
		w.run("once", nil)
		for _, reason := range []string{"enough", "really"} {
			_, err := w.operator.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("once", "a0"), Reason: proto.String(reason), AbortedBy: person})
			wantCode(t, err, 0)
		}
		if got := w.get("once", "a0").Spec.Abort; got == nil || got.Reason != "enough" || got.By != "ann@acme.example" || got.At.IsZero() {
			t.Errorf("got %+v, want the first reason and the person", got)
		}
	})

	t.Run("it keeps no text that a pod gives", func(t *testing.T) {
		w := w.in(t)
		w.run("child", nil)
		w.child("child", "a0", "c1")
		pod := w.pod("child", "a0", 1, true)
		_, err := pod.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("child", "c1"), Reason: proto.String("balance is 12"), AbortedBy: person})
		wantCode(t, err, 0)
		if got := w.get("child", "c1").Spec.Abort; got == nil || got.By != "action a0" || strings.Contains(got.Reason, "12") {
			t.Errorf("got %+v, want the parent and no text of its", got)
		}
	})

	t.Run("it is not lost while the status is written all the time", func(t *testing.T) {
		w := w.in(t)
		w.run("busy", nil)
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					a := w.get("busy", "a0")
					a.Status.Version++
					_ = cluster.Client.Status().Update(t.Context(), a) // loses against the abort
				}
			}
		})
		_, err := w.operator.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("busy", "a0"), Reason: proto.String("enough")})
		close(stop)
		writer.Wait()
		wantCode(t, err, 0)
		if got := w.get("busy", "a0"); got.Spec.Abort == nil || got.Spec.Template == "" {
			t.Errorf("got %+v, want it aborted and else as it was", got.Spec)
		}
	})

	t.Run("it leaves alone what has ended", func(t *testing.T) {
		w := w.in(t)
		w.run("over", nil)
		w.phase("over", "a0", v1alpha1.Succeeded)
		w.eventually(func() bool {
			_, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction("over", "a0", "probe")})
			return connect.CodeOf(err) == connect.CodeAborted
		}, "end to be known")
		_, err := w.operator.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("over", "a0")})
		wantCode(t, err, 0)
		if got := w.get("over", "a0").Spec.Abort; got != nil {
			t.Errorf("got %+v, want no abort", got)
		}
	})

	t.Run("it does not know what is not there", func(t *testing.T) {
		_, err := w.operator.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("none", "a0")})
		wantCode(t, err, connect.CodeNotFound)
	})
}

func TestSignal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run("r1", nil)
	w.child("r1", "a0", "task")
	literal := func(p *core.Primitive) *core.Literal {
		return &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{Primitive: p}}}}
	}
	text := func(s string) *core.Literal {
		return literal(&core.Primitive{Value: &core.Primitive_StringValue{StringValue: s}})
	}
	values := map[core.SimpleType]*core.Literal{
		core.SimpleType_BOOLEAN: literal(&core.Primitive{Value: &core.Primitive_Boolean{Boolean: false}}),
		core.SimpleType_INTEGER: literal(&core.Primitive{Value: &core.Primitive_Integer{Integer: 0}}),
		core.SimpleType_FLOAT:   literal(&core.Primitive{Value: &core.Primitive_FloatValue{FloatValue: 0}}),
		core.SimpleType_STRING:  text("secret"),
	}
	condition := func(t *testing.T, name string, kind core.SimpleType, phase v1alpha1.Phase) {
		action := w.taskAction("r1", "a0", name)
		action.Spec = &flyteactions.Action_Condition{Condition: &workflow.ConditionAction{Name: "ok", Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: kind}}}}
		if _, err := w.operator.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: action}); err != nil {
			t.Fatal(err)
		}
		w.phase("r1", name, phase)
	}
	signal := func(t *testing.T, name string, value *core.Literal) error {
		_, err := w.operator.Signal(t.Context(), &flyteactions.SignalRequest{ActionId: w.id("r1", name), ParentActionName: "a0", Value: value})
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want no value in it", err)
		}
		return err
	}
	// The cache may not have heard of the phase, which is then FAILED_PRECONDITION.
	known := func(t *testing.T, name string, value *core.Literal, want connect.Code) {
		t.Helper()
		var err error
		w.in(t).eventually(func() bool {
			err = signal(t, name, value)
			return want == connect.CodeFailedPrecondition || connect.CodeOf(err) != connect.CodeFailedPrecondition
		}, "phase to be known")
		wantCode(t, err, want)
	}

	for want, value := range values {
		t.Run("it takes a "+want.String()+" where one is waited for, and nothing else", func(t *testing.T) {
			name := strings.ToLower(want.String())
			condition(t, name, want, v1alpha1.Paused)
			for kind, other := range values {
				if kind != want {
					known(t, name, other, connect.CodeInvalidArgument)
				}
			}
			known(t, name, &core.Literal{}, connect.CodeInvalidArgument)
			known(t, name, value, 0)
			known(t, name, value, 0)
			got := w.get("r1", name).Spec.Signal
			if got == nil {
				t.Fatal("got no signal")
			}
			kept := &core.Literal{}
			if err := proto.Unmarshal(got.Value, kept); err != nil || !proto.Equal(kept, value) {
				t.Errorf("got %v, %v, want %v", kept, err, value)
			}
		})
	}
	t.Run("it takes one value only", func(t *testing.T) {
		condition(t, "two", core.SimpleType_STRING, v1alpha1.Paused)
		known(t, "two", text("secret"), 0)
		known(t, "two", text("secret, too"), connect.CodeFailedPrecondition)
	})
	t.Run("it refuses what does not wait", func(t *testing.T) {
		condition(t, "over", core.SimpleType_STRING, v1alpha1.TimedOut)
		condition(t, "early", core.SimpleType_STRING, v1alpha1.Queued)
		known(t, "over", text("secret"), connect.CodeFailedPrecondition)
		known(t, "early", text("secret"), connect.CodeFailedPrecondition)
		known(t, "task", text("secret"), connect.CodeInvalidArgument)
		known(t, "none", text("secret"), connect.CodeNotFound)
	})
	t.Run("it refuses a value of more than 64 KiB", func(t *testing.T) {
		condition(t, "large", core.SimpleType_STRING, v1alpha1.Paused)
		known(t, "large", text(strings.Repeat("x", 65<<10)), connect.CodeInvalidArgument)
	})
}
