package taskaction

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
)

// answering is an API server that answers a create so.
type answering struct {
	client.Client
	err error
}

func (a answering) Create(context.Context, client.Object, ...client.CreateOption) error { return a.err }

func TestCreate(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	for _, test := range []struct {
		name    string
		answer  error
		phase   v1alpha1.Phase
		code    string
		retried bool // by the queue of reconciliations
	}{
		{"it has a pod", nil, v1alpha1.Queued, "", false},
		{"it waits for a quota", apierrors.NewForbidden(pods, "p", errors.New("exceeded quota: q, requested: cpu=1, used: cpu=9, limited: cpu=9")), v1alpha1.WaitingForResources, "", false},
		{"it waits where the API server is asked too much", apierrors.NewTooManyRequests("later", 1), v1alpha1.WaitingForResources, "", false},
		{"it fails for good where the pod is too large", apierrors.NewRequestEntityTooLargeError("limit is 3145728"), v1alpha1.Queued, "BadTaskSpecification", false},
		{"it fails for good where the pod is invalid", apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil), v1alpha1.Queued, "BadTaskSpecification", false},
		{"it fails for good where an admission says that the request is bad", apierrors.NewBadRequest("admission webhook denied the request: no such secret"), v1alpha1.Queued, "BadTaskSpecification", false},
		{"it is tried again where the API server fails", apierrors.NewInternalError(errors.New("etcd")), v1alpha1.Queued, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			metrics, err := NewMetrics(prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			w := &work{
				Reconciler: New(Options{Client: answering{err: test.answer}, Config: &config.Config{}, Metrics: metrics}),
				action:     &v1alpha1.TaskAction{}, status: &v1alpha1.TaskActionStatus{Phase: v1alpha1.Queued}, now: time.Now(),
			}
			pod, failure, err := w.create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}})
			if (pod != nil) != (test.answer == nil) || (err != nil) != test.retried {
				t.Errorf("got pod %v, error %v", pod, err)
			}
			code := ""
			if failure != nil {
				code = failure.Code
			}
			if code != test.code || w.status.Phase != test.phase {
				t.Errorf("got %q in phase %s, want %q in %s", code, w.status.Phase, test.code, test.phase)
			}
			if waits := w.status.Phase == v1alpha1.WaitingForResources; waits != !w.again.IsZero() || waits && w.status.Message == "" {
				t.Errorf("got it looked at again at %s and the message %q", w.again, w.status.Message)
			}
		})
	}
}
