package actions_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// TestRights has every sort of caller do everything to every sort of action, with
// tokens that the API server made for pods that it has.
func TestRights(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t), newWorld(t)
	for _, w := range []*world{w, elsewhere} {
		for _, run := range []string{"r1", "r2"} {
			w.run(run, nil)
			w.child(run, "a0", "c1")
			w.child(run, "a0", "c2")
			w.child(run, "c1", "g1")
		}
	}
	targets := map[string]*common.ActionIdentifier{
		"a0": w.id("r1", "a0"), "c1": w.id("r1", "c1"), "c2": w.id("r1", "c2"), "g1": w.id("r1", "g1"),
		"a0 of another run": w.id("r2", "a0"), "a0 of another workspace": elsewhere.id("r1", "a0"),
	}
	everything := "a0, c1, c2, g1, a0 of another run, a0 of another workspace"

	root, child := w.pod("r1", "a0", 1, true), w.pod("r1", "c1", 1, true)
	early := w.pod("r2", "a0", 1, false)
	replaced, second := w.pod("r2", "c1", 1, true), w.pod("r2", "c1", 2, true)
	lateAndReplaced := w.pod("r2", "c2", 1, false)
	w.pod("r2", "c2", 2, true)
	for name, c := range map[string]actionsconnect.ActionsServiceClient{"c1": second, "c2": lateAndReplaced} {
		w.eventually(func() bool { // until the cache has heard of the second attempt
			want := map[string]connect.Code{"c1": connect.CodeNotFound, "c2": connect.CodeAborted}[name]
			_, err := c.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("r2", "none")})
			return connect.CodeOf(err) == want
		}, "second attempt of "+name)
	}
	stranger := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "stranger"},
		Spec:       corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "main", Image: "image"}}},
	}
	w.create(stranger)
	gone := w.pod("r2", "g1", 1, false)
	if err := cluster.Client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "r2-g1-1"}}, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	cluster.Account(t, w.home, "proxy-system")
	cluster.Account(t, w.namespace, "operator-system")
	token := func(namespace, account, audience string, pod *corev1.Pod) actionsconnect.ActionsServiceClient {
		return w.client(cluster.Token(t, namespace, account, audience, pod))
	}

	callers := []struct {
		name                  string
		client                actionsconnect.ActionsServiceClient
		enqueue, watch, abort string // the actions that it may do this to
		otherwise             connect.Code
	}{
		{"the pod of the root", root, "a0", "a0", "c1, c2, g1", connect.CodePermissionDenied},
		{"the pod of a child", child, "c1", "c1", "g1", connect.CodePermissionDenied},
		{"a pod that no status names yet", early, "a0 of another run", "a0 of another run", "", connect.CodePermissionDenied},
		{"the pod of an attempt that was followed by another", replaced, "", "", "", connect.CodeAborted},
		{"such a pod that no status ever named", lateAndReplaced, "", "", "", connect.CodeAborted},
		{"a pod that is no action's", token(w.namespace, "default", v1alpha1.TokenAudience, stranger), "", "", "", connect.CodePermissionDenied},
		{"a pod that is gone", gone, "", "", "", connect.CodeUnauthenticated},
		{"an account without a pod", token(w.namespace, "default", v1alpha1.TokenAudience, nil), "", "", "", connect.CodePermissionDenied},
		{"another of our processes", token(w.home, "proxy-system", v1alpha1.TokenAudience, nil), "", "", "", connect.CodePermissionDenied},
		{"an account of the operator's name", token(w.namespace, "operator-system", v1alpha1.TokenAudience, nil), "", "", "", connect.CodePermissionDenied},
		{"a token for the API server", token(w.home, "operator-system", "", nil), "", "", "", connect.CodeUnauthenticated},
		{"a token for AWS", token(w.namespace, "default", "sts.amazonaws.com", nil), "", "", "", connect.CodeUnauthenticated},
		{"a token that has expired", w.client(w.signed(expired, true)), "", "", "", connect.CodeUnauthenticated},
		{"a token that somebody else signed", w.client(w.signed(valid, false)), "", "", "", connect.CodeUnauthenticated},
		{"a token that was changed", w.client(w.changed(w.home, w.home+"x")), "", "", "", connect.CodeUnauthenticated},
		{"a token that is none", w.client("a.b.c"), "", "", "", connect.CodeUnauthenticated},
		{"nobody", w.client(""), "", "", "", connect.CodeUnauthenticated},
		{"the operator", w.operator, everything, everything, everything, 0},
	}
	enqueued := 0
	// What is aborted takes no children any more, so that comes last.
	for _, call := range []struct {
		name string
		do   func(context.Context, actionsconnect.ActionsServiceClient, *common.ActionIdentifier) error
	}{
		{"enqueue", func(ctx context.Context, c actionsconnect.ActionsServiceClient, id *common.ActionIdentifier) error {
			enqueued++
			action := w.taskAction(id.Run.Name, id.Name, fmt.Sprintf("n%d", enqueued))
			action.ActionId.Run = id.Run
			_, err := c.Enqueue(ctx, &flyteactions.EnqueueRequest{Action: action})
			return err
		}},
		{"watch", func(ctx context.Context, c actionsconnect.ActionsServiceClient, id *common.ActionIdentifier) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := c.WatchForUpdates(ctx, &flyteactions.WatchForUpdatesRequest{Filter: &flyteactions.WatchForUpdatesRequest_ParentActionId{ParentActionId: id}})
			if err != nil {
				return err
			}
			defer stream.Close()
			if stream.Receive() {
				return nil
			}
			return stream.Err()
		}},
		{"abort", func(ctx context.Context, c actionsconnect.ActionsServiceClient, id *common.ActionIdentifier) error {
			_, err := c.Abort(ctx, &flyteactions.AbortRequest{ActionId: id})
			return err
		}},
	} {
		for _, caller := range callers {
			t.Run(caller.name+" and "+call.name, func(t *testing.T) {
				may := map[string]string{"enqueue": caller.enqueue, "watch": caller.watch, "abort": caller.abort}[call.name]
				for name, id := range targets {
					want := caller.otherwise
					if strings.Contains(", "+may+",", ", "+name+",") {
						want = 0
					}
					t.Run(name, func(t *testing.T) { wantCode(t, call.do(t.Context(), caller.client, id), want) })
				}
			})
		}
	}

	for _, caller := range callers[:len(callers)-1] {
		t.Run(caller.name+" and what only the operator may", func(t *testing.T) {
			_, err := caller.client.Enqueue(t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction("r9", "", "a0")})
			wantCode(t, err, caller.otherwise)
			_, err = caller.client.Signal(t.Context(), &flyteactions.SignalRequest{ActionId: w.id("r1", "g1"), Value: &core.Literal{}})
			wantCode(t, err, caller.otherwise)
		})
	}
	t.Run("it takes a token that the cluster signed and that has not expired", func(t *testing.T) {
		_, err := w.client(w.signed(valid, true)).Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("r1", "none")})
		wantCode(t, err, connect.CodeNotFound)
	})
	t.Run("it says nothing of what is not there but in the caller's own run", func(t *testing.T) {
		_, err := root.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("r1", "none")})
		wantCode(t, err, connect.CodeNotFound)
		_, err = root.Abort(t.Context(), &flyteactions.AbortRequest{ActionId: w.id("r3", "none")})
		wantCode(t, err, connect.CodePermissionDenied)
	})
	t.Run("Update is nobody's", func(t *testing.T) {
		_, err := w.operator.Update(t.Context(), &flyteactions.UpdateRequest{})
		wantCode(t, err, connect.CodeUnimplemented)
	})
}
