package report_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/report"
	"biplane.dev/biplane/dataplane/internal/clustertest"
)

var cluster *clustertest.Cluster

func TestMain(m *testing.M) {
	crlog.SetLogger(logr.Discard())
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { cluster = c; return m.Run() }))
}

// deadline of whatever is waited for; nothing takes a tenth of it.
const deadline = time.Minute

// world is a workspace whose actions the test writes, as the reconciler does, and
// the control plane that is to know of them. What other tests write is reported
// there, too, since a reporter is for the whole cluster.
type world struct {
	t         *testing.T
	namespace string
	plane     *controlPlane
}

func newWorld(t *testing.T) *world {
	return &world{t: t, namespace: cluster.Namespace(t, "p"), plane: newControlPlane(t)}
}

// reporter is one that runs until it is stopped.
type reporter struct {
	*report.Reporter
	metrics *prometheus.Registry
	stop    func()
}

func (w *world) report(change func(client.WithWatch) client.WithWatch) *reporter {
	w.t.Helper()
	c, err := client.NewWithWatch(cluster.Config, client.Options{Scheme: cluster.Client.Scheme()})
	if err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		c = change(c)
	}
	r := &reporter{metrics: prometheus.NewRegistry()}
	r.Reporter, err = report.New(report.Options{
		Client: c, Link: w.plane.link(), Cluster: "east", Metrics: r.metrics, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			w.t.Errorf("the reporter: %v", err)
		}
	})
	r.stop = func() { cancel(); running.Wait() }
	w.t.Cleanup(r.stop)
	return r
}

// metric is a gauge's or counter's value.
func (r *reporter) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.Metric[0].GetGauge().GetValue() + family.Metric[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("got no metric %s", name)
	return 0
}

func (w *world) key(run, action string) string { return w.namespace + "/" + run + "-" + action }

func (w *world) create(run, parent, action string) {
	w.t.Helper()
	a := &v1alpha1.TaskAction{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: v1alpha1.ActionName(run, action)},
		Spec: v1alpha1.TaskActionSpec{
			Organization: "acme", Project: "p", Domain: strings.TrimPrefix(w.namespace, "p-"), Run: run, Parent: parent, Action: action,
			Type: v1alpha1.TypeTask, RunOutputBase: "s3://m/" + run, Template: w.template("env.main"),
		},
	}
	if err := cluster.Client.Create(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

// template makes one, unless it is there, and returns its digest.
func (w *world) template(name string) string {
	w.t.Helper()
	spec, err := proto.MarshalOptions{Deterministic: true}.Marshal(&task.TaskSpec{
		TaskTemplate: &core.TaskTemplate{Id: &core.Identifier{Name: name, Project: w.namespace, Version: "v1"}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	digest := sha256.Sum256(spec)
	t := &v1alpha1.TaskTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: hex.EncodeToString(digest[:])}, Spec: spec}
	if err := cluster.Client.Create(w.t.Context(), t); err != nil && !apierrors.IsAlreadyExists(err) {
		w.t.Fatal(err)
	}
	return t.Name
}

// phase writes one, and returns the object as it is then.
func (w *world) phase(run, action string, phase v1alpha1.Phase) *v1alpha1.TaskAction {
	w.t.Helper()
	a := &v1alpha1.TaskAction{}
	if err := cluster.Client.Get(w.t.Context(), types.NamespacedName{Namespace: w.namespace, Name: v1alpha1.ActionName(run, action)}, a); err != nil {
		w.t.Fatal(err)
	}
	a.Status.Phase = phase
	a.Status.Version++
	if err := cluster.Client.Status().Update(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// recorded says whether the control plane has an action in a phase.
func (w *world) recorded(run, action, phase string) bool {
	s := w.plane.states[w.key(run, action)]
	return s != nil && s.Phase == common.ActionPhase(common.ActionPhase_value["ACTION_PHASE_"+phase])
}

// ended says how many children of a run, c0 to cN, have.
func (w *world) ended(run string, children int) bool {
	for n := range children {
		if !w.recorded(run, fmt.Sprintf("c%d", n), "SUCCEEDED") {
			return false
		}
	}
	return true
}

// work lets children come, go by the phases, and end.
func (w *world) work(run string, children int, phases ...v1alpha1.Phase) {
	var workers sync.WaitGroup
	const at = 8
	for first := range at {
		workers.Go(func() {
			for n := first; n < children; n += at {
				name := fmt.Sprintf("c%d", n)
				w.create(run, "a0", name)
				for _, phase := range append(phases, v1alpha1.Succeeded) {
					w.phase(run, name, phase)
				}
			}
		})
	}
	workers.Wait()
}

func TestReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", "", "a0")
	w.work("r1", 520) // more than a page of a list
	r := w.report(nil)
	w.plane.wait(t, "record of all that was there before", func() bool { return w.ended("r1", 520) })
	w.plane.with(func() {
		for n := range 520 {
			if key := w.key("r1", fmt.Sprintf("c%d", n)); w.plane.told[key] != 1 {
				t.Errorf("%s: got it told %d times, want once, as it is", key, w.plane.told[key])
			}
		}
	})
	w.create("r2", "", "a0")
	w.work("r2", 30, v1alpha1.Queued, v1alpha1.Running)
	w.plane.wait(t, "record of all that came after", func() bool { return w.ended("r2", 30) })

	last := w.phase("r2", "a0", v1alpha1.Running)
	w.plane.wait(t, "record of the last change", func() bool { return w.recorded("r2", "a0", "RUNNING") })
	position, _ := strconv.ParseUint(last.ResourceVersion, 10, 64)
	for end := time.Now().Add(deadline); r.Acknowledged() < position; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("got %d acknowledged, want %d", r.Acknowledged(), position)
		}
	}
	if lists := r.metric(t, "biplane_executor_report_lists_total"); lists != 1 {
		t.Errorf("got %v lists, want one", lists)
	}
}

func TestControlPlaneAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plane.away = true
	r := w.report(nil)
	w.create("r1", "", "a0")
	w.plane.with(func() { w.plane.away = false })
	w.plane.wait(t, "root", func() bool { return w.recorded("r1", "a0", "QUEUED") })

	w.plane.with(func() { w.plane.away = true })
	w.work("r1", 30, v1alpha1.Running)
	if lag := r.metric(t, "biplane_executor_report_lag_seconds"); lag <= 0 {
		t.Errorf("got a lag of %v, want how long it waits", lag)
	}
	w.plane.with(func() { w.plane.away = false })
	w.plane.wait(t, "record of what was missed", func() bool { return w.ended("r1", 30) })
	w.plane.with(func() {
		if told := w.plane.told[w.key("r1", "c0")]; told != 1 {
			t.Errorf("got a child's states told %d times, want the last alone", told)
		}
	})
	if lists := r.metric(t, "biplane_executor_report_lists_total"); lists != 1 {
		t.Errorf("got %v lists, want one: nothing was in doubt", lists)
	}
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plane.before = func(*tunnelv1.ReportStatesRequest) error {
		if rand.IntN(4) == 0 {
			return errAway
		}
		return nil
	}
	w.plane.after = w.plane.before
	w.report(nil)
	w.create("r1", "", "a0")
	w.work("r1", 30, v1alpha1.Running)
	w.plane.wait(t, "record of everything", func() bool { return w.ended("r1", 30) })
}

func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", "", "a0")
	var working sync.WaitGroup
	working.Go(func() { w.work("r1", 60, v1alpha1.Queued, v1alpha1.Running) })
	for range 10 {
		r := w.report(nil)
		w.plane.mu.Lock()
		until := w.plane.batches + 1 + rand.IntN(3)
		w.plane.mu.Unlock()
		w.plane.wait(t, "batch", func() bool { return w.plane.batches >= until || w.ended("r1", 60) })
		r.stop()
	}
	w.report(nil)
	working.Wait()
	w.plane.wait(t, "record of everything", func() bool { return w.ended("r1", 60) })
}

// TestWatchEnds has the API server end watches in the ways that it does.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	type open func() (watch.Interface, error)
	expired := apierrors.NewResourceExpired("too old")
	for name, c := range map[string]struct {
		watch func(nth int, open open) (watch.Interface, error)
		lists float64
	}{
		"it goes on where a watch ended": {func(nth int, open open) (watch.Interface, error) {
			stream, err := open()
			if err != nil || nth > 5 {
				return stream, err
			}
			return cut(stream, 7, nil), nil
		}, 1},
		"it goes on where one was refused": {func(nth int, open open) (watch.Interface, error) {
			if nth < 3 {
				return nil, errors.New("refused")
			}
			return open()
		}, 1},
		"it lists again where the revision is gone": {func(nth int, open open) (watch.Interface, error) {
			if nth == 1 {
				return nil, expired
			}
			return open()
		}, 2},
		"it lists again where the watch says so": {func(nth int, open open) (watch.Interface, error) {
			stream, err := open()
			if err != nil || nth > 1 {
				return stream, err
			}
			return cut(stream, 7, &watch.Event{Type: watch.Error, Object: &expired.ErrStatus}), nil
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			nth, watched := 0, c.watch
			r := w.report(func(c client.WithWatch) client.WithWatch {
				return interceptor.NewClient(c, interceptor.Funcs{
					Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
						nth++
						return watched(nth, func() (watch.Interface, error) { return c.Watch(ctx, list, options...) })
					},
				})
			})
			w.create("r1", "", "a0")
			w.work("r1", 20, v1alpha1.Running)
			w.plane.wait(t, "record of everything", func() bool { return w.ended("r1", 20) })
			if lists := r.metric(t, "biplane_executor_report_lists_total"); lists != c.lists {
				t.Errorf("got %v lists, want %v", lists, c.lists)
			}
		})
	}
}

// cut ends a stream after so many events, with one more where there is one.
func cut(stream watch.Interface, after int, last *watch.Event) watch.Interface {
	events := make(chan watch.Event)
	proxy := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer stream.Stop()
		for n := 0; n <= after; n++ {
			event, ok := <-stream.ResultChan()
			if n == after && last != nil {
				event, ok = *last, true
			} else if n == after {
				return
			}
			if !ok {
				return
			}
			select {
			case events <- event:
			case <-proxy.StopChan():
				return
			}
		}
	}()
	return proxy
}

func TestEpochs(t *testing.T) {
	t.Parallel()
	system := &corev1.Namespace{}
	if err := cluster.Client.Get(t.Context(), types.NamespacedName{Name: "kube-system"}, system); err != nil {
		t.Fatal(err)
	}
	here := string(system.UID)
	const ahead = 1 << 40
	for name, c := range map[string]struct {
		epoch    string
		position uint64
		want     func(epoch string) bool
	}{
		"it begins where nothing was recorded":               {"", 0, func(e string) bool { return e == here }},
		"it tells everything of a cluster that is another":   {"another", ahead, func(e string) bool { return e == here }},
		"it tells everything of a cluster that was restored": {here, ahead, func(e string) bool { return strings.HasPrefix(e, here+"/") && len(e) <= 64 }},
		"it tells everything of one that was restored again": {here + "/1", ahead, func(e string) bool { return strings.HasPrefix(e, here+"/") && e != here+"/1" }},
		"it goes on in an epoch that was begun":              {here + "/1", 1, func(e string) bool { return e == here+"/1" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.plane.epoch, w.plane.position = c.epoch, c.position
			w.create("r1", "", "a0")
			r := w.report(nil)
			w.plane.wait(t, "root", func() bool { return w.recorded("r1", "a0", "QUEUED") })
			w.plane.with(func() {
				if !c.want(w.plane.epoch) {
					t.Errorf("got epoch %q in the cluster %s", w.plane.epoch, here)
				}
			})
			if got := r.Acknowledged(); got >= ahead {
				t.Errorf("got %d acknowledged, want it counted anew", got)
			}
			w.create("r1", "a0", "c1")
			w.plane.wait(t, "child", func() bool { return w.recorded("r1", "c1", "QUEUED") })
		})
	}
}

// TestControlPlaneRestored has the control plane forget what it has recorded,
// while nothing else happens to it.
func TestControlPlaneRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", "", "a0")
	r := w.report(nil)
	w.plane.wait(t, "root", func() bool { return w.recorded("r1", "a0", "QUEUED") })
	var position uint64
	w.plane.with(func() { position = w.plane.position })
	w.work("r1", 20)
	w.plane.wait(t, "record of everything", func() bool { return w.ended("r1", 20) })
	w.plane.with(func() {
		clear(w.plane.states)
		clear(w.plane.specs)
		w.plane.position = position
		failed := false
		w.plane.before = func(*tunnelv1.ReportStatesRequest) error {
			if !failed {
				failed = true
				return errAway // its connections were lost
			}
			return nil
		}
	})
	w.phase("r1", "a0", v1alpha1.Running)
	w.plane.wait(t, "record of everything again", func() bool { return w.ended("r1", 20) && w.recorded("r1", "a0", "RUNNING") })
	if lists := r.metric(t, "biplane_executor_report_lists_total"); lists < 2 {
		t.Errorf("got %v lists, want another", lists)
	}
}

// TestLargeStates has more of them than one message may have bytes.
func TestLargeStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plane.before = func(r *tunnelv1.ReportStatesRequest) error {
		if size := proto.Size(r); size > 2<<20 {
			t.Errorf("got a message of %d bytes, want at most two megabytes", size)
		}
		return nil
	}
	w.create("r1", "", "a0")
	for n := range 12 {
		name := fmt.Sprintf("c%d", n)
		w.create("r1", "a0", name)
		a := w.phase("r1", name, v1alpha1.Running)
		a.Status.Phase = v1alpha1.Succeeded
		a.Status.Version++
		for n := range 500 {
			a.Status.Attempts = append(a.Status.Attempts, v1alpha1.Attempt{Number: int32(n + 1), Phase: v1alpha1.Failed, OutputURI: "s3://" + strings.Repeat("x", 400)})
		}
		if err := cluster.Client.Status().Update(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	w.report(nil)
	w.plane.wait(t, "record of everything", func() bool { return w.ended("r1", 12) })
}

// TestRefused has an object among the others that the control plane takes from
// nobody.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plane.away = true
	w.plane.before = func(r *tunnelv1.ReportStatesRequest) error {
		for _, s := range r.States {
			if s.Id.Run.Name == "poison" && s.Id.Run.Domain == strings.TrimPrefix(w.namespace, "p-") {
				return connect.NewError(connect.CodePermissionDenied, errors.New("of another organisation"))
			}
		}
		return nil
	}
	r := w.report(nil)
	w.create("r1", "", "a0")
	w.work("r1", 5)
	w.create("poison", "", "a0")
	w.work("poison", 2)
	w.create("r2", "", "a0")
	w.work("r2", 5)
	w.plane.with(func() { w.plane.away = false })
	w.plane.wait(t, "record of all others", func() bool { return w.ended("r1", 5) && w.ended("r2", 5) })
	w.phase("r2", "a0", v1alpha1.Running)
	w.plane.wait(t, "record of what came after", func() bool { return w.recorded("r2", "a0", "RUNNING") })
	w.plane.with(func() {
		if w.recorded("poison", "a0", "QUEUED") {
			t.Error("got the refused states recorded")
		}
	})
	if refused := r.metric(t, "biplane_executor_report_refused_total"); refused != 3 {
		t.Errorf("got %v states refused, want 3", refused)
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", "", "a0")
	known, missing := "sha256:"+w.template("env.main"), "sha256:"+w.template("env.other")
	gone := "sha256:" + strings.Repeat("0", 64)
	refused := "sha256:" + w.template("env.refused")
	tries := map[string]int{}
	w.plane.specs[known], w.plane.specs[missing], w.plane.specs[gone], w.plane.specs[refused] = true, false, false, false
	w.plane.define = func(r *tunnelv1.RecordTaskSpecsRequest) error {
		id := r.Specs[0].TaskTemplate.Id
		if id.Project != w.namespace {
			return nil // of another test
		}
		tries[id.Name]++
		switch {
		case id.Name == "env.refused":
			return connect.NewError(connect.CodeInvalidArgument, errors.New("no such thing"))
		case tries[id.Name] <= 2:
			return errAway
		}
		return nil
	}
	r := w.report(nil)
	w.plane.wait(t, "definition that was asked for", func() bool { return w.plane.specs[missing] })
	w.plane.wait(t, "state", func() bool { return w.recorded("r1", "a0", "QUEUED") })
	w.work("r1", 5)
	w.plane.wait(t, "children", func() bool { return w.ended("r1", 5) })
	w.plane.with(func() {
		if tries["env.main"] != 0 {
			t.Errorf("got a definition told that the control plane has")
		}
		if tries["env.refused"] != 1 {
			t.Errorf("got a definition told %d times that was refused, want once", tries["env.refused"])
		}
	})
	// A reporter that was killed before it could tell one is asked by nobody, since
	// nothing changes.
	r.stop()
	w.plane.with(func() { w.plane.specs[missing] = false })
	w.report(nil)
	w.plane.wait(t, "definition that was asked for before", func() bool { return w.plane.specs[missing] })
}
