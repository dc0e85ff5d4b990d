package podevents

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func said(name, pod, uid, message string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0))},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "n", Name: pod, UID: types.UID(uid)},
		Reason:         "R", Message: message,
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	memory := func(most int) store {
		return store{t.Context(), &Memory{Most: most, Ours: func(_ context.Context, pod types.NamespacedName) bool { return pod.Name != "stranger" }}}
	}
	add := func(t *testing.T, s store, e *corev1.Event) {
		t.Helper()
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("it remembers what is said of the pods of actions, each event once and as it is now", func(t *testing.T) {
		t.Parallel()
		s := memory(0)
		add(t, s, said("1", "pod", "a", "first"))
		add(t, s, said("2", "pod", "a", "second"))
		add(t, s, said("1", "pod", "a", "first, again"))
		add(t, s, said("1", "stranger", "b", "no"))
		if err := s.Delete(said("2", "pod", "a", "")); err != nil { // Kubernetes forgets it
			t.Fatal(err)
		}
		if err := s.Replace([]any{said("3", "pod", "a", "third")}, "7"); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range s.Of("a") {
			got = append(got, e.Message)
			if e.OccurredAt.Unix() != 1000 {
				t.Errorf("got it at %s, want when it was made, since nothing else is said", e.OccurredAt)
			}
		}
		if strings.Join(got, "; ") != "first, again; second; third" {
			t.Errorf("got %q", got)
		}
		if strange := s.Of("b"); strange != nil {
			t.Errorf("got %v of a pod that is no action's, want nothing", strange)
		}
		s.Forget("a")
		if got := s.Of("a"); got != nil || s.bytes != 0 {
			t.Errorf("got %v and %d bytes after it was told to forget", got, s.bytes)
		}
	})
	t.Run("it keeps the newest of a pod, cut where they are long", func(t *testing.T) {
		t.Parallel()
		s := memory(0)
		for i := range 3 * perPod {
			add(t, s, said(fmt.Sprint(i), "pod", "a", strings.Repeat("ä", i*10)))
		}
		got := s.Of("a")
		if len(got) != perPod {
			t.Fatalf("got %d events, want %d", len(got), perPod)
		}
		if last := got[perPod-1].Message; len(last) > maxMessage || !strings.HasSuffix(last, "ä…") {
			t.Errorf("got a message of %d bytes that ends in %q", len(last), last[len(last)-5:])
		}
	})
	t.Run("it stays below its bound, and forgets those first that it heard of longest ago", func(t *testing.T) {
		t.Parallel()
		s := memory(100 << 10)
		for i := range 10_000 {
			add(t, s, said("1", "pod", fmt.Sprint(i), strings.Repeat("x", i%500)))
			add(t, s, said("1", "pod", "0", "still there"))
			if s.bytes > s.Most {
				t.Fatalf("got %d bytes, want at most %d", s.bytes, s.Most)
			}
		}
		if s.Of("0") == nil || s.Of("9999") == nil || s.Of("1") != nil {
			t.Errorf("got the first kept: %v, the last: %v, the second: %v", s.Of("0") != nil, s.Of("9999") != nil, s.Of("1") != nil)
		}
		sum := 0
		for uid := range s.of {
			for _, e := range s.of[uid].Value.(*pod).events {
				sum += e.size()
			}
		}
		if sum != s.bytes {
			t.Errorf("got %d bytes counted, and there are %d", s.bytes, sum)
		}
	})
	t.Run("it takes nothing but events", func(t *testing.T) {
		t.Parallel()
		if err := memory(0).Update(&corev1.Pod{}); err == nil {
			t.Error("got no error")
		}
	})
}
