package podlogs

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
)

// onePod is a cluster with one pod in it.
type onePod struct {
	client.Client
	pod *corev1.Pod
}

func (o *onePod) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	o.pod.DeepCopyInto(into.(*corev1.Pod))
	return nil
}

func (o *onePod) Patch(_ context.Context, changed client.Object, _ client.Patch, _ ...client.PatchOption) error {
	o.pod = changed.DeepCopyObject().(*corev1.Pod)
	return nil
}

// key of storage, and no role.
func key(variable string) string {
	if strings.HasPrefix(variable, "AWS_ROLE") || strings.HasSuffix(variable, "_FILE") {
		return ""
	}
	return "key"
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a line\n") })
	refuses := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	breaks := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half of")
	})
	for _, test := range []struct {
		name          string
		node, storage http.Handler
		since         time.Duration // its end
		mark          string
		again         bool
	}{
		{"it keeps a log", ok, ok, time.Second, Kept, false},
		{"it is patient with a node that does not give one", refuses, ok, time.Minute, "", true},
		{"it gives up a log that a node does not give", refuses, ok, time.Hour, Lost, false},
		{"it gives up a log that a node does not give to its end", breaks, ok, time.Hour, Lost, false},
		{"it waits for a bucket, however long that is away", ok, refuses, time.Hour, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			node, storage := httptest.NewServer(test.node), httptest.NewServer(test.storage)
			t.Cleanup(node.Close)
			t.Cleanup(storage.Close)
			logs, err := kubernetes.NewForConfig(&rest.Config{Host: node.URL})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			cluster := &onePod{pod: &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", Labels: map[string]string{v1alpha1.LabelManaged: "true"}},
				Status: corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{
					Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-test.since))}}}}},
			}}
			r := &Reconciler{
				Client: cluster, Logs: logs, Bucket: "metadata", Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
				Store: bucket.New(config.Storage{Endpoint: storage.URL, Region: "r"}, key),
			}
			r.begin()
			_, err = r.Reconcile(t.Context(), reconcile.Request{})
			if (err != nil) != test.again {
				t.Errorf("got the error %v, want one: %v", err, test.again)
			}
			if mark := cluster.pod.Annotations[Annotation]; mark != test.mark {
				t.Errorf("got it marked %q, want %q", mark, test.mark)
			}
		})
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }
	for _, test := range []struct{ name, log, want string }{
		{"it keeps a log that is short enough", "0123456789", "0123456789"},
		{"it says where it cut one", "0123456789x", "0123456789\n2026-05-04T03:02:01Z The log was longer than 256 MiB and ends here.\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(test.log), iotest.OneByteReader(strings.NewReader(test.log)), iotest.DataErrReader(strings.NewReader(test.log))} {
				got, err := io.ReadAll(&bounded{r: r, left: 10, now: now})
				if err != nil || string(got) != test.want {
					t.Errorf("got %q, %v, want %q", got, err, test.want)
				}
			}
		})
	}
}
