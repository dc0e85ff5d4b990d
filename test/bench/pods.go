package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// workers is how many pods are created at a time, as a controller would.
const workers = 16

// lives creates count pods and deletes them once all have ended. It returns how
// long it was from the first create until the last was seen to have succeeded,
// and from the deletion until the last was seen to be gone.
func lives(ctx context.Context, client kubernetes.Interface, count int) (ran, gone time.Duration, err error) {
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	// An informer, because a bare watch is cut by the API server when the
	// machine is too busy for this program to read it.
	seen := &tally{ended: map[string]bool{}, changed: make(chan struct{}, 1)}
	informer := informers.NewSharedInformerFactory(client, 0).Core().V1().Pods().Informer()
	if _, err := informer.AddEventHandler(seen); err != nil {
		return 0, 0, err
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go informer.RunWithContext(watching)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return 0, 0, ctx.Err()
	}

	began := time.Now()
	creating, stop := context.WithCancel(ctx)
	defer stop()
	numbers := make(chan int)
	failed := make(chan error, workers)
	for range workers {
		go func() {
			for i := range numbers {
				if _, err := pods.Create(creating, pod(i), metav1.CreateOptions{}); err != nil {
					failed <- fmt.Errorf("creating pod %d: %w", i, err)
					return
				}
			}
		}()
	}
	go func() {
		defer close(numbers)
		for i := range count {
			select {
			case numbers <- i:
			case <-creating.Done():
				return
			}
		}
	}()
	if err := seen.await(ctx, count, failed); err != nil {
		return 0, 0, fmt.Errorf("waiting for pods to succeed: %w", err)
	}
	ran = time.Since(began)

	began = time.Now()
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "bench"}); err != nil {
		return 0, 0, err
	}
	if err := seen.await(ctx, 0, nil); err != nil {
		return 0, 0, fmt.Errorf("waiting for pods to be gone: %w", err)
	}
	return ran, time.Since(began), nil
}

// tally counts the pods that have succeeded and are there.
type tally struct {
	mu      sync.Mutex
	ended   map[string]bool
	failed  error
	changed chan struct{}
}

func (t *tally) OnAdd(object any, _ bool) { t.OnUpdate(nil, object) }

func (t *tally) OnUpdate(_, object any) {
	p := object.(*v1.Pod)
	t.note(func() {
		switch p.Status.Phase {
		case v1.PodSucceeded:
			t.ended[p.Name] = true
		case v1.PodFailed:
			t.failed = fmt.Errorf("pod %s failed: %s %s", p.Name, p.Status.Reason, p.Status.Message)
		}
	})
}

func (t *tally) OnDelete(object any) {
	if last, unknown := object.(cache.DeletedFinalStateUnknown); unknown {
		object = last.Obj
	}
	if p, is := object.(*v1.Pod); is {
		t.note(func() { delete(t.ended, p.Name) })
	}
}

func (t *tally) note(change func()) {
	t.mu.Lock()
	change()
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default: // one is noted already
	}
}

// await waits until count pods have succeeded and are there.
func (t *tally) await(ctx context.Context, count int, failed <-chan error) error {
	for {
		t.mu.Lock()
		now, err := len(t.ended), t.failed
		t.mu.Unlock()
		if err != nil || now == count {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d: %w", now, count, ctx.Err())
		case err := <-failed:
			return err
		case <-t.changed:
		}
	}
}

func pod(number int) *v1.Pod {
	no := false
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%d", number), Labels: map[string]string{"bench": "true"}},
		Spec: v1.PodSpec{
			RestartPolicy: v1.RestartPolicyNever, AutomountServiceAccountToken: &no,
			Containers: []v1.Container{{Name: "c", Image: image, ImagePullPolicy: v1.PullNever, Command: []string{"/bin/true"}}},
		},
	}
}
