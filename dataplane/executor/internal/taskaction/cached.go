package taskaction

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/resultcache"
)

// Words of Flyte for what the cache gave.
const (
	cacheMiss          = "MISS"
	cacheHit           = "HIT"
	cachePopulated     = "POPULATED"
	cacheLookupFailure = "LOOKUP_FAILURE"
	cachePutFailure    = "PUT_FAILURE"
	cacheSkipped       = "SKIPPED"
	cacheEvicted       = "EVICTED"
)

func (w *work) cached() bool { return w.metadata().GetDiscoverable() && w.action.Spec.CacheKey != "" }

func (w *work) overwrites() bool {
	//lint:ignore SA1019 older clients set it
	if w.run.GetOverwriteCache() {
		return true
	}
	return w.run.GetCacheConfig().GetOverwriteCache()
}

func (w *work) scope() resultcache.Scope {
	scope := resultcache.Scope{Organization: w.action.Spec.Organization}
	if w.run.GetCacheConfig().GetCacheLookupScope() == task.CacheLookupScope_CACHE_LOOKUP_SCOPE_PROJECT_DOMAIN {
		scope.Project, scope.Domain = w.action.Spec.Project, w.action.Spec.Domain
	}
	return scope
}

// lookup ends the action where the cache has its outputs. It is asked once, before
// the first attempt. That it cannot be asked fails nothing.
func (w *work) lookup(ctx context.Context) bool {
	if !w.cached() || len(w.status.Attempts) > 0 {
		return false
	}
	if w.overwrites() {
		w.status.CacheStatus = cacheSkipped
		return false
	}
	answer, uri, err := w.results.Lookup(ctx, w.scope(), w.action.Spec.CacheKey, w.metadata().GetCacheMaxAge().AsDuration(), w.declaresOutputs())
	switch {
	case err != nil:
		w.status.CacheStatus = cacheLookupFailure
		w.Log.Warn("looking into the cache", "namespace", w.action.Namespace, "action", w.action.Name, "error", err)
		return false
	case answer == resultcache.Miss:
		w.status.CacheStatus = cacheMiss
		return false
	case answer == resultcache.Stale:
		w.status.CacheStatus = cacheEvicted
		return false
	}
	w.leaveGates()
	w.status.CacheStatus = cacheHit
	a := w.newAttempt(1)
	a.OutputURI = uri
	w.succeed(a)
	return true
}

// remember keeps where the outputs of a success are.
func (w *work) remember(ctx context.Context, a *v1alpha1.Attempt) {
	if !w.cached() {
		return
	}
	replace := w.overwrites() || a.CacheStatus == cacheEvicted
	err := w.results.Put(ctx, w.scope(), w.action.Spec.CacheKey, a.OutputURI, replace)
	a.CacheStatus = cachePopulated
	if err != nil {
		a.CacheStatus = cachePutFailure
		w.say(corev1.EventTypeWarning, "CachePutFailure", "the outputs are not in the cache: %s", err)
		w.Log.Warn("writing into the cache", "namespace", w.action.Namespace, "action", w.action.Name, "error", err)
	}
}
