// Package prune removes what is finished, told and old: the TaskActions of a run as
// a whole, since a parent that is tried again needs all of its children; templates
// that nothing runs any more; and logs.
//
// It deletes nothing that the control plane has not recorded. Start with Run.
package prune

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/actions"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/taskaction"
)

// How often is looked for what is old.
const (
	runsEvery = time.Minute
	logsEvery = 6 * time.Hour
	logsFirst = 10 * time.Minute // after the start, which may be more often than that
)

// Pruner of one cluster.
type Pruner struct {
	Client   client.Client // reads TaskActions from the cache
	Live     client.Client // reads from the API server
	Store    *bucket.Store
	Config   *config.Config
	Recorded func(resourceVersion string) bool
	Now      func() time.Time
	Log      *slog.Logger
}

// Recorded compares the version of an object with the position up to which the
// control plane has recorded everything.
func Recorded(resourceVersion string, position uint64) bool {
	version, err := strconv.ParseUint(resourceVersion, 10, 64)
	return err == nil && version <= position
}

// Run prunes until the context ends. What fails is tried again the next time.
func (p *Pruner) Run(ctx context.Context) error {
	runs, logs := time.NewTicker(p.runsEvery()), time.NewTimer(logsFirst)
	defer runs.Stop()
	defer logs.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-runs.C:
			err = errors.Join(p.runs(ctx), p.templates(ctx))
		case <-logs.C:
			err = p.logs(ctx)
			logs.Reset(logsEvery)
		}
		if err != nil && ctx.Err() == nil {
			p.Log.Warn("removing what is old", "error", err)
		}
	}
}

// runsEvery is shorter where little is kept.
func (p *Pruner) runsEvery() time.Duration {
	return max(min(runsEvery, p.Config.Executor.KeepFinished/2), time.Second)
}

type run struct{ namespace, name string }

// runs deletes the runs that have ended long ago and are recorded. The objects stay
// until the reconciler takes their finalizer; the root is the last to be deleted, so
// that a run that is half gone is found again.
func (p *Pruner) runs(ctx context.Context) error {
	var all v1alpha1.TaskActionList
	if err := p.Client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the actions: %w", err)
	}
	before := p.Now().Add(-p.Config.Executor.KeepFinished)
	members := map[run][]*v1alpha1.TaskAction{}
	stays := map[run]bool{}
	for i := range all.Items {
		a := &all.Items[i]
		of := run{a.Namespace, a.Spec.Run}
		members[of] = append(members[of], a)
		stays[of] = stays[of] || !p.old(a, before)
	}
	for of, actions := range members {
		if stays[of] {
			continue
		}
		left := 0
		for _, a := range actions {
			if a.Spec.Action == v1alpha1.RootAction {
				continue
			}
			left++
			if err := p.delete(ctx, a); err != nil {
				return err
			}
		}
		for _, a := range actions {
			if a.Spec.Action == v1alpha1.RootAction && left == 0 {
				if err := p.delete(ctx, a); err != nil {
					return err
				}
			}
		}
		p.Log.Debug("removing a run", "namespace", of.namespace, "run", of.name, "actions", len(actions))
	}
	return nil
}

// old says whether an action may go.
func (p *Pruner) old(a *v1alpha1.TaskAction, before time.Time) bool {
	return a.Status.Phase.Terminal() && a.Status.EndedAt != nil && a.Status.EndedAt.Time.Before(before) &&
		meta.IsStatusConditionTrue(a.Status.Conditions, taskaction.ConditionKept) &&
		(a.DeletionTimestamp != nil || p.Recorded(a.ResourceVersion))
}

func (p *Pruner) delete(ctx context.Context, object client.Object) error {
	if object.GetDeletionTimestamp() != nil {
		return nil
	}
	uid, version := object.GetUID(), object.GetResourceVersion()
	err := p.Live.Delete(ctx, object, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("deleting %s: %w", object.GetName(), err)
	}
	return nil
}

// templates deletes those that no action runs. One that was enqueued with lately may
// be that of an action which is just being created.
func (p *Pruner) templates(ctx context.Context) error {
	var all v1alpha1.TaskActionList
	if err := p.Client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the actions: %w", err)
	}
	used := map[client.ObjectKey]bool{}
	for i := range all.Items {
		used[client.ObjectKey{Namespace: all.Items[i].Namespace, Name: all.Items[i].Spec.Template}] = true
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TaskTemplateList"))
	if err := p.Client.List(ctx, list); err != nil {
		return fmt.Errorf("listing the templates: %w", err)
	}
	for i := range list.Items {
		template := &list.Items[i]
		if used[client.ObjectKeyFromObject(template)] || actions.UsedLately(template, p.Now()) {
			continue
		}
		if err := p.delete(ctx, template); err != nil {
			return err
		}
	}
	return nil
}

// logs deletes those that were kept for long enough.
func (p *Pruner) logs(ctx context.Context) error {
	began := p.Now()
	deleted, err := p.Store.DeleteOlder(ctx, "s3://"+p.Config.Storage.MetadataBucket+"/persisted-logs/", began.Add(-p.Config.Storage.KeepLogs))
	if deleted > 0 {
		p.Log.Info("removed old logs", "files", deleted, "took", p.Now().Sub(began))
	}
	return err
}
