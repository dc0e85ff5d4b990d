package executor

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// TestRestart is not parallel: the executor that it takes away is everybody's.
func TestRestart(t *testing.T) {
	t.Run("it reaches the same end however often the executor is away", func(t *testing.T) {
		run := runName(t)
		root := enqueue(t, run, "a0", "", scripted("wait"))
		aborted := enqueue(t, run, "aborted", "a0", scripted("wait"))
		var children []*v1alpha1.TaskAction
		for i := range 20 {
			spec := retries(scripted("sleep 300ms", "until 1", "outputs"), 3)
			spec.TaskTemplate.Metadata.Retries.Backoff = nil
			children = append(children, enqueue(t, run, fmt.Sprintf("c%d", i), "a0", spec))
		}
		failed := enqueue(t, run, "failed", "a0", retries(scripted("error E RECOVERABLE USER"), 2))
		for range 8 {
			if err := w.stopExecutor(); err != nil {
				t.Fatal(err)
			}
			if err := w.startExecutor(); err != nil {
				t.Fatal(err)
			}
			// Not a wait for anything: each time it is to be taken away at another point.
			time.Sleep(time.Duration(100+time.Now().UnixNano()%400) * time.Millisecond)
		}
		for _, a := range children {
			a = ended(t, a)
			want(t, a, v1alpha1.Succeeded)
			if len(a.Status.Attempts) != 2 || a.Status.UserFailures != 1 || a.Status.SystemFailures != 0 {
				t.Errorf("got %s with %+v, want one failure and a second attempt", a.Name, a.Status)
			}
		}
		a := ended(t, failed)
		want(t, a, v1alpha1.Failed)
		if len(a.Status.Attempts) != 3 || a.Status.UserFailures != 3 {
			t.Errorf("got %+v, want three attempts", a.Status)
		}
		if err := w.Client.Delete(t.Context(), root); err != nil {
			t.Fatal(err)
		}
		want(t, ended(t, aborted), v1alpha1.Aborted)
	})
	t.Run("it ends what ended while the executor was away", func(t *testing.T) {
		run := runName(t)
		done := enqueue(t, run, "a0", "", scripted("sleep 1s", "outputs"))
		pod := until(t, done, "running", running).Status.Attempts[0].Pod
		if err := w.stopExecutor(); err != nil {
			t.Fatal(err)
		}
		over := &corev1.Pod{}
		for over.Status.Phase != corev1.PodSucceeded {
			if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: pod}, over); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Client.Delete(t.Context(), over); err != nil { // as a collector of garbage would
			t.Fatal(err)
		}
		if err := w.startExecutor(); err != nil {
			t.Fatal(err)
		}
		a := ended(t, done)
		want(t, a, v1alpha1.Succeeded)
		if len(a.Status.Attempts) != 1 {
			t.Errorf("got %d attempts, want the first one's outputs taken", len(a.Status.Attempts))
		}
	})
}

func TestFanOut(t *testing.T) {
	run, began := runName(t), time.Now()
	root := enqueue(t, run, "a0", "", scripted("wait"))
	var children []*v1alpha1.TaskAction
	for i := range 100 {
		children = append(children, enqueue(t, run, fmt.Sprintf("c%d", i), "a0", scripted("outputs")))
	}
	enqueued := time.Now()
	for _, a := range children {
		want(t, ended(t, a), v1alpha1.Succeeded)
	}
	t.Logf("100 children were enqueued in %s, and ended %s later", enqueued.Sub(began).Round(time.Millisecond), time.Since(enqueued).Round(time.Millisecond))
	if err := w.Client.Delete(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	ended(t, root)
}
