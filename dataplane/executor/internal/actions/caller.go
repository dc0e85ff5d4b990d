package actions

import (
	"context"
	"errors"
	"strconv"
	"time"

	"connectrpc.com/connect"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/authn"
)

// operatorAccount brings what the control plane says.
const operatorAccount = "operator-system"

// caller is who may do something here: the operator everything, and the pod of an
// action what concerns the children of that action.
type caller struct {
	own   *v1alpha1.TaskAction // nil for the operator
	began time.Time            // when the attempt did whose pod calls
}

func (c caller) operator() bool { return c.own == nil }

// name is kept with what the caller did.
func (c caller) name() string {
	if c.operator() {
		return "operator"
	}
	return "action " + c.own.Spec.Action
}

// caller says on whose behalf the call is. PERMISSION_DENIED for who is nobody
// here; ABORTED for the pod of an attempt that another has followed, since that is what
// makes Flyte's SDK give up and not try a hundred times.
func (s *Server) caller(ctx context.Context) (caller, error) {
	who, ok := authn.From(ctx)
	if !ok {
		return caller{}, refuse(connect.CodeUnauthenticated, "nobody says who calls: send the token of a service account")
	}
	if who.Namespace == s.Namespace && who.ServiceAccount == operatorAccount {
		return caller{}, nil
	}
	if who.PodUID == "" {
		return caller{}, refuse(connect.CodePermissionDenied,
			"the service account %s may not call ActionsService: only pods of actions may, with the token that is mounted in them", who.Name())
	}
	return s.ownAction(ctx, who)
}

// ownAction finds the action whose pod calls.
func (s *Server) ownAction(ctx context.Context, who authn.Caller) (caller, error) {
	var actions v1alpha1.TaskActionList
	err := s.Cache.List(ctx, &actions, client.InNamespace(who.Namespace), client.MatchingFields{byPod: who.PodUID}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return caller{}, s.failed(ctx, "looking for the action of a pod", err)
	}
	if len(actions.Items) == 1 {
		own := &actions.Items[0]
		last := lastAttempt(own)
		if last.PodUID != who.PodUID {
			return caller{}, replaced(own, last)
		}
		return caller{own, began(last)}, nil
	}
	// A pod may call before the status names it: it is then the pod that says whose
	// it is. Who can make pods with our labels is the executor, or could act as it.
	pod := &metav1.PartialObjectMetadata{}
	pod.SetGroupVersionKind(podKind)
	switch err := s.Client.Get(ctx, types.NamespacedName{Namespace: who.Namespace, Name: who.Pod}, pod); {
	case apierrors.IsNotFound(err), err == nil && string(pod.UID) != who.PodUID:
		return caller{}, refuse(connect.CodePermissionDenied, "the pod %s/%s is gone, so it may not call ActionsService any more", who.Namespace, who.Pod)
	case err != nil:
		return caller{}, s.failed(ctx, "reading the pod that calls", err)
	}
	stranger := refuse(connect.CodePermissionDenied, "the pod %s/%s is no action's, so it may not call ActionsService", who.Namespace, who.Pod)
	run, action := pod.Labels[v1alpha1.LabelRun], pod.Labels[v1alpha1.LabelAction]
	attempt, err := strconv.ParseInt(pod.Labels[v1alpha1.LabelAttempt], 10, 32)
	if run == "" || action == "" || err != nil || pod.Labels[v1alpha1.LabelManaged] != "true" {
		return caller{}, stranger
	}
	own, err := s.find(ctx, reference{who.Namespace, run, action})
	if errors.Is(err, errUnknown) {
		return caller{}, stranger
	}
	if err != nil {
		return caller{}, err
	}
	last := lastAttempt(own)
	switch {
	case last.Number > int32(attempt), last.Number == int32(attempt) && last.PodUID != "" && last.PodUID != who.PodUID:
		return caller{}, replaced(own, last)
	case last.Number < int32(attempt):
		return caller{own, time.Now()}, nil // it has just begun, and the status will say so
	}
	return caller{own, began(last)}, nil
}

func began(attempt v1alpha1.Attempt) time.Time {
	if attempt.StartedAt == nil {
		return time.Time{}
	}
	return attempt.StartedAt.Time
}

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

func lastAttempt(a *v1alpha1.TaskAction) v1alpha1.Attempt {
	if len(a.Status.Attempts) == 0 {
		return v1alpha1.Attempt{}
	}
	return a.Status.Attempts[len(a.Status.Attempts)-1]
}

func replaced(a *v1alpha1.TaskAction, last v1alpha1.Attempt) error {
	return refuse(connect.CodeAborted, "attempt %d of action %s goes on in another pod, so this one is to end", last.Number, referenceTo(a))
}
