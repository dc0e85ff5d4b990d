package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// workers is how many pods are created at a time, as a controller would.
const workers = 16

// lives creates count pods and deletes them once all have ended. It returns how
// long it was from the first create until the last was seen to have succeeded,
// and from the deletion until the last was seen to be gone.
func lives(ctx context.Context, client kubernetes.Interface, count int) (ran, gone time.Duration, err error) {
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	existing, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, 0, err
	}
	events, err := pods.Watch(ctx, metav1.ListOptions{ResourceVersion: existing.ResourceVersion})
	if err != nil {
		return 0, 0, err
	}
	defer events.Stop()

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
	ended := map[string]bool{}
	if err := follow(ctx, events, failed, func(e watch.Event, p *v1.Pod) (bool, error) {
		switch p.Status.Phase {
		case v1.PodSucceeded:
			ended[p.Name] = true
		case v1.PodFailed:
			return false, fmt.Errorf("pod %s failed: %s %s", p.Name, p.Status.Reason, p.Status.Message)
		}
		return len(ended) == count, nil
	}); err != nil {
		return 0, 0, fmt.Errorf("%d of %d pods have succeeded: %w", len(ended), count, err)
	}
	ran = time.Since(began)

	began = time.Now()
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "bench"}); err != nil {
		return 0, 0, err
	}
	if err := follow(ctx, events, nil, func(e watch.Event, p *v1.Pod) (bool, error) {
		if e.Type == watch.Deleted {
			delete(ended, p.Name)
		}
		return len(ended) == 0, nil
	}); err != nil {
		return 0, 0, fmt.Errorf("%d of %d pods are not deleted: %w", len(ended), count, err)
	}
	return ran, time.Since(began), nil
}

// follow reads a watch until done.
func follow(ctx context.Context, events watch.Interface, failed <-chan error, done func(watch.Event, *v1.Pod) (bool, error)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case event, more := <-events.ResultChan():
			if !more {
				return errors.New("the watch of pods has ended")
			}
			p, isPod := event.Object.(*v1.Pod)
			if !isPod {
				return fmt.Errorf("watching pods: %w", apierrors.FromObject(event.Object))
			}
			if is, err := done(event, p); is || err != nil {
				return err
			}
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
