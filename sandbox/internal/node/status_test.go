package node

import (
	"log/slog"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// runningPod is a worker whose pod's one container runs, without a program.
func runningPod(t *testing.T, policy v1.RestartPolicy) *worker {
	client := fake.NewClientset()
	n := &node{cfg: Config{Dir: t.TempDir()}, client: client, log: slog.New(slog.DiscardHandler), events: newEvents(client, "n"), ip: "127.0.0.1"}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p", UID: "u", ResourceVersion: "1"}}
	pod.Spec.RestartPolicy = policy
	pod.Spec.Containers = []v1.Container{{Name: "c", Image: "one"}}
	w := newWorker(n, pod)
	w.replace(w.slots[0], runningAttempt(0))
	return w
}

func runningAttempt(number int32) *attempt {
	return &attempt{number: number, hooked: true, started: true, ready: true}
}

// changeImage is what the API server and the pod's goroutine do when somebody names
// another image.
func changeImage(w *worker, image, version string) {
	changed := w.pod.DeepCopy()
	changed.Spec.Containers[0].Image, changed.ResourceVersion = image, version
	w.see(changed)
	w.takeImages()
}

// On a busy machine a status is written at each of these points, and the API server
// lets no container leave its end whose restart policy does not say so.
func TestContainerWhoseImageChanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy v1.RestartPolicy
		code   int32
	}{
		{"is run again though it failed under restartPolicy Never", v1.RestartPolicyNever, 3},
		{"is run again though it succeeded under restartPolicy Never", v1.RestartPolicyNever, 0},
		{"is run again though it succeeded under restartPolicy OnFailure", v1.RestartPolicyOnFailure, 0},
		{"is run again under restartPolicy Always", v1.RestartPolicyAlways, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := runningPod(t, test.policy)
			s := w.slots[0]
			var before core.Pod
			tell := func(when string) {
				t.Helper()
				var now core.Pod
				status := w.status()
				if err := corev1.Convert_v1_Pod_To_core_Pod(&v1.Pod{Spec: w.pod.Spec, Status: status}, &now, nil); err != nil {
					t.Fatal(err)
				}
				for _, refused := range validation.ValidateContainerStateTransition(now.Status.ContainerStatuses, before.Status.ContainerStatuses, nil, now.Spec) {
					t.Errorf("got a status %s that the API server refuses: %v", when, refused)
				}
				if status.Phase != v1.PodRunning || w.ending() {
					t.Errorf("got the pod %s, on its way to its end: %v, %s, want it Running", status.Phase, w.ending(), when)
				}
				before = now
			}
			tell("while it runs")
			changeImage(w, "two", "2")
			tell("while it is being ended")
			w.exited(s, s.run, &v1.ContainerStateTerminated{ExitCode: test.code})
			tell("when it has ended")
			changeImage(w, "three", "3")
			tell("when its image has changed once more")
			if !s.wanted(w.pod) || s.spec.Image != "three" {
				t.Errorf("got it wanted: %v, with the image %s, want it started with the newest", s.wanted(w.pod), s.spec.Image)
			}
			s.starting = true
			tell("while it is being started")
			s.starting, s.changed = false, false
			w.replace(s, runningAttempt(1))
			tell("when it runs again")
		})
	}
	t.Run("ends its pod by its restart policy where the new image is not to be had", func(t *testing.T) {
		w := runningPod(t, v1.RestartPolicyNever)
		s := w.slots[0]
		changeImage(w, "two", "2")
		w.exited(s, s.run, &v1.ContainerStateTerminated{ExitCode: 3})
		s.starting = true
		w.begun(t.Context(), s, nil, &startFailure{"CreateContainerConfigError", apierrors.NewNotFound(v1.Resource("secrets"), "s")})
		if !w.ending() {
			t.Error("got the pod going on, want it ended")
		}
	})
}

// An answer may be lost on its way, and the next try find all written.
func TestStatusThatIsWrittenAlready(t *testing.T) {
	w := runningPod(t, v1.RestartPolicyNever)
	pod := w.pod.DeepCopy()
	pod.Status = w.status()
	there := pod.DeepCopy()
	there.ResourceVersion = "2"
	client := fake.NewClientset(there)
	client.PrependReactor("update", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewConflict(v1.Resource("pods"), pod.Name, nil)
	})
	w.n.client = client
	got, err := w.n.writePodStatus(t.Context(), pod)
	if err != nil || got == nil || got.ResourceVersion != "2" {
		t.Errorf("got %v, %v, want the pod as it is", got, err)
	}
}
