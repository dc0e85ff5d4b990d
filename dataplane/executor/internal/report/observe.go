package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// pageSize of a list, in objects of some kilobytes.
const pageSize = 500

// list puts everything behind a position into pending, and returns the revision
// of the list. All pages are of one revision.
func (s *session) list(ctx context.Context, behind uint64) (revision string, err error) {
	s.metrics.lists.Inc()
	since := time.Unix(0, s.caughtUp.Load())
	var changes []change
	options := &client.ListOptions{Limit: pageSize}
	for {
		var page v1alpha1.TaskActionList
		if err := s.Client.List(ctx, &page, options); err != nil {
			return "", fmt.Errorf("listing the actions: %w", err)
		}
		for i := range page.Items {
			if a := &page.Items[i]; number(a.ResourceVersion) > behind {
				changes = append(changes, s.changeOf(a, since))
			}
		}
		revision, options.Continue = page.ResourceVersion, page.Continue
		if options.Continue == "" {
			break
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.state.Position, b.state.Position) })
	s.pending.reset(changes)
	return revision, nil
}

// watch puts what changes into pending, until a change may have been missed.
func (s *session) watch(ctx context.Context, revision string) error {
	pause := newPause()
	for {
		next, err := s.watchFrom(ctx, revision)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case apierrors.IsGone(err), apierrors.IsResourceExpired(err):
			return doubt("revision %s is no longer kept: %w", next, err)
		case next == revision:
			s.Log.WarnContext(ctx, "watching the actions again", "error", err)
			pause.sleep(ctx)
		default:
			pause = newPause() // an API server ends every watch after some minutes
		}
		revision = next
	}
}

// watchFrom returns the revision up to which it has heard everything.
func (s *session) watchFrom(ctx context.Context, revision string) (string, error) {
	stream, err := s.Client.Watch(ctx, &v1alpha1.TaskActionList{},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: revision, AllowWatchBookmarks: true}})
	if err != nil {
		return revision, err
	}
	defer stream.Stop()
	for event := range stream.ResultChan() {
		if event.Type == watch.Error {
			return revision, apierrors.FromObject(event.Object)
		}
		a, ok := event.Object.(*v1alpha1.TaskAction)
		if !ok {
			return revision, errors.New("the API server sent something else than an action")
		}
		revision = a.ResourceVersion
		// What is deleted has lost its finalizer, so its last state is recorded.
		if event.Type == watch.Added || event.Type == watch.Modified {
			s.pending.add(s.changeOf(a, time.Now()))
		}
	}
	return revision, nil
}

func (s *session) changeOf(a *v1alpha1.TaskAction, since time.Time) change {
	state := StateOf(a, s.Cluster)
	return change{key: a.Namespace + "/" + a.Name, state: state, size: proto.Size(state), since: since}
}

// number is what a resourceVersion is in etcd; the API promises since 1.35 that it may be
// compared so.
func number(resourceVersion string) uint64 {
	n, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
