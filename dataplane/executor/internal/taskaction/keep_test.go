package taskaction

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	events "k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
)

// cache is of actions, which may be older than those of the API server.
type cache struct {
	client.Client
	actions map[string]*v1alpha1.TaskAction
	stale   bool // the API server refuses to write what was read from it
}

func (c cache) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	found, ok := c.actions[key.Name]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	found.DeepCopyInto(object.(*v1alpha1.TaskAction))
	return nil
}

func (c cache) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

func (c cache) Status() client.SubResourceWriter { return statuses{cache: c} }

type statuses struct {
	client.SubResourceWriter
	cache
}

func (s statuses) Update(_ context.Context, object client.Object, _ ...client.SubResourceUpdateOption) error {
	if s.stale {
		return apierrors.NewConflict(schema.GroupResource{}, object.GetName(), nil)
	}
	s.actions[object.GetName()] = object.DeepCopyObject().(*v1alpha1.TaskAction)
	return nil
}

func TestRecordOfAnEnd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		stale   bool
		records int
	}{
		{"it is kept once the end is written", false, 1},
		{"it is not of an end that is refused, since another was written", true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			action := func(name, parent string, of v1alpha1.ActionType, phase v1alpha1.Phase) *v1alpha1.TaskAction {
				return &v1alpha1.TaskAction{
					ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: v1alpha1.ActionName("r", name)},
					Spec:       v1alpha1.TaskActionSpec{Run: "r", Action: name, Parent: parent, Type: of, RunOutputBase: "s3://metadata/p/d/r"},
					Status:     v1alpha1.TaskActionStatus{Phase: phase},
				}
			}
			// The run has ended a moment after somebody signalled the condition, of which
			// the cache has not heard.
			root, asked := action("a0", "", v1alpha1.TypeTask, v1alpha1.Failed), action("asked", "a0", v1alpha1.TypeCondition, v1alpha1.Paused)
			known := cache{actions: map[string]*v1alpha1.TaskAction{root.Name: root, asked.Name: asked}, stale: test.stale}
			var kept []string
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				if phase := known.actions[asked.Name].Status.Phase; phase != v1alpha1.Aborted {
					t.Errorf("got a record while the phase is written as %s, want it written first", phase)
				}
				kept = append(kept, r.Method+" "+r.URL.Path+" "+string(text))
			}))
			t.Cleanup(server.Close)
			metrics, err := NewMetrics(prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			r := New(Options{
				Client: known, Live: known, Config: &config.Config{}, Metrics: metrics, Now: time.Now, Log: slog.New(slog.DiscardHandler), Events: events.NewFakeRecorder(9),
				Store: &bucket.Store{S3: s3.New(s3.Options{
					Region: "eu-central-1", BaseEndpoint: aws.String(server.URL), UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("AKIA", "s", ""),
				})},
			})
			for range 3 {
				if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(asked)}); err != nil {
					t.Fatal(err)
				}
			}
			if len(kept) != test.records {
				t.Errorf("got %d records, want %d: %q", len(kept), test.records, kept)
			}
			for _, record := range kept {
				if !strings.HasPrefix(record, "PUT /metadata/p/d/r/asked/_biplane/record.json ") || !strings.Contains(record, `"ABORTED"`) {
					t.Errorf("got %s, want the record of the end", record)
				}
			}
			if got := meta.IsStatusConditionTrue(known.actions[asked.Name].Status.Conditions, ConditionKept); got != (test.records > 0) {
				t.Errorf("got the condition %s %v after %d records", ConditionKept, got, test.records)
			}
		})
	}
}
