// Package podevents remembers what Kubernetes says of the pods of actions, from one
// watch, so that nobody has to list events for each attempt that ends. It is asked
// once, when the record of an action is written, and forgets then.
//
// Kubernetes itself keeps events for an hour. What is remembered here of a pod that
// runs for longer stays; what was said before the executor started is only what
// Kubernetes still has. Events that a client asks for while a pod runs are read by
// package proxy. Start with Memory.
package podevents

import (
	"container/list"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"biplane.dev/biplane/dataplane/internal/record"
)

// Bounds of what is remembered. Of the pods that were heard of longest ago all is
// forgotten first.
const (
	perPod     = 100      // events, the newest
	maxMessage = 1 << 10  // bytes of one
	maxBytes   = 64 << 20 // of all, as far as their texts go
	overhead   = 200      // bytes of an event beside its texts
)

// Memory of the events of pods.
type Memory struct {
	// Ours says whether a pod is an action's.
	Ours func(ctx context.Context, pod types.NamespacedName) bool
	// Most is a bound of bytes; 0 is the default.
	Most int

	mu    sync.Mutex
	of    map[types.UID]*list.Element // of *pod
	heard *list.List                  // the pod heard of last is at the back
	bytes int
}

type pod struct {
	uid    types.UID
	events []event
}

type event struct {
	name string // of the object, which is written anew when it happens again
	record.Event
}

func (e *event) size() int {
	return overhead + len(e.name) + len(e.Type) + len(e.Reason) + len(e.Message) + len(e.Source)
}

// Of returns the events of a pod, in the order of the API server's telling.
func (m *Memory) Of(uid types.UID) []record.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	element, ok := m.of[uid]
	if !ok {
		return nil
	}
	events := element.Value.(*pod).events
	out := make([]record.Event, len(events))
	for i := range events {
		out[i] = events[i].Event
	}
	return out
}

// Forget a pod whose events nobody needs any more.
func (m *Memory) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if element, ok := m.of[uid]; ok {
		m.drop(element)
	}
}

// Follow lists and watches the events of pods until the context ends.
func (m *Memory) Follow(ctx context.Context, events rest.Interface) {
	watched := cache.NewListWatchFromClient(events, "events", corev1.NamespaceAll, fields.OneTermEqualSelector("involvedObject.kind", "Pod"))
	cache.NewReflector(watched, &corev1.Event{}, store{ctx, m}, 0).RunWithContext(ctx)
}

func (m *Memory) add(ctx context.Context, e *corev1.Event) {
	of := e.InvolvedObject
	if of.UID == "" || !m.Ours(ctx, types.NamespacedName{Namespace: of.Namespace, Name: of.Name}) {
		return
	}
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	heard := event{e.Name, record.Event{
		OccurredAt: occurred(e), Type: e.Type, Reason: e.Reason, Message: shorten(e.Message), Source: source, Count: e.Count}}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of, m.heard = map[types.UID]*list.Element{}, list.New()
	}
	element, ok := m.of[of.UID]
	if !ok {
		element = m.heard.PushBack(&pod{uid: of.UID})
		m.of[of.UID] = element
	}
	m.heard.MoveToBack(element)
	p := element.Value.(*pod)
	for i := range p.events {
		if p.events[i].name == heard.name {
			m.bytes += heard.size() - p.events[i].size()
			p.events[i] = heard
			return
		}
	}
	if len(p.events) == perPod {
		m.bytes -= p.events[0].size()
		p.events = append(p.events[:0], p.events[1:]...)
	}
	p.events = append(p.events, heard)
	m.bytes += heard.size()
	most := m.Most
	if most == 0 {
		most = maxBytes
	}
	for m.bytes > most && m.heard.Len() > 1 {
		m.drop(m.heard.Front())
	}
}

func (m *Memory) drop(element *list.Element) {
	p := m.heard.Remove(element).(*pod)
	delete(m.of, p.uid)
	for i := range p.events {
		m.bytes -= p.events[i].size()
	}
}

func occurred(e *corev1.Event) time.Time {
	for _, at := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time} {
		if !at.IsZero() {
			return at
		}
	}
	return e.CreationTimestamp.Time
}

func shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage-len("…")], "") + "…"
}

// store is what a reflector fills. What it says is deleted is what Kubernetes
// forgets after an hour, and stays here.
type store struct {
	ctx context.Context
	*Memory
}

var _ cache.ReflectorStore = store{}

var errNoEvent = errors.New("the API server sent something else than an event")

// Add implements cache.ReflectorStore.
func (s store) Add(object any) error {
	e, ok := object.(*corev1.Event)
	if !ok {
		return errNoEvent
	}
	s.add(s.ctx, e)
	return nil
}

// Update implements cache.ReflectorStore.
func (s store) Update(object any) error { return s.Add(object) }

// Delete implements cache.ReflectorStore.
func (s store) Delete(any) error { return nil }

// Replace implements cache.ReflectorStore.
func (s store) Replace(objects []any, _ string) error {
	for _, object := range objects {
		if err := s.Add(object); err != nil {
			return err
		}
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (s store) Resync() error { return nil }
