package actions

import (
	"context"
	"sync"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// watchers are the open streams, by the parent that they watch.
type watchers struct {
	mu sync.Mutex
	of map[reference]map[*watcher]struct{}
}

func newWatchers() *watchers { return &watchers{of: map[reference]map[*watcher]struct{}{}} }

// follow makes the cache tell the watchers what it hears. A child that is deleted
// is nobody's concern: its run has ended long before.
func (w *watchers) follow(ctx context.Context, c cache.Cache) error {
	informer, err := c.GetInformer(ctx, &v1alpha1.TaskAction{})
	if err != nil {
		return err
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { w.changed(object) },
		UpdateFunc: func(_, object any) { w.changed(object) },
	})
	return err
}

func (w *watchers) changed(object any) {
	a, ok := object.(*v1alpha1.TaskAction)
	if !ok || a.Spec.Parent == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for watcher := range w.of[referenceTo(a).sibling(a.Spec.Parent)] {
		watcher.changed(a.Spec.Action)
	}
}

func (w *watchers) add(parent reference) *watcher {
	added := &watcher{parent: parent, wake: make(chan struct{}, 1), pending: map[string]struct{}{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[parent] == nil {
		w.of[parent] = map[*watcher]struct{}{}
	}
	w.of[parent][added] = struct{}{}
	return added
}

func (w *watchers) remove(watcher *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.of[watcher.parent], watcher)
	if len(w.of[watcher.parent]) == 0 {
		delete(w.of, watcher.parent)
	}
}

func (w *watchers) count() (open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, of := range w.of {
		open += len(of)
	}
	return open
}

// watcher remembers which children have changed since they were last told: their
// names and not their states, each once, so that a reader who does not read costs
// no more than its children are many, and loses nothing.
type watcher struct {
	parent reference
	wake   chan struct{} // has room for one

	mu      sync.Mutex
	pending map[string]struct{}
	order   []string // of pending: who changed first is told first
}

func (w *watcher) changed(child string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.pending[child]; ok {
		return
	}
	w.pending[child] = struct{}{}
	w.order = append(w.order, child)
	select {
	case w.wake <- struct{}{}:
	default: // it has been woken and has not looked yet
	}
}

func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	children := w.order
	w.order, w.pending = nil, map[string]struct{}{}
	return children
}
