package chart

import (
	"context"
	"fmt"
	"slices"
	"time"

	"helm.sh/helm/v3/pkg/action"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Removed says what an uninstall took away and what it left.
type Removed struct {
	Release   string   `json:"release"`
	Namespace string   `json:"namespace"`
	Kept      []string `json:"kept"`
}

// kinds of ours, each with its objects in every namespace. Workspaces are the last:
// what is in one goes before it.
var kinds = []string{"taskactions", "tasktemplates", "workspaces"}

// secrets are made by install and by the operator, and are no part of the release.
var secrets = []string{JoinSecret, TunnelSecret, "biplane-ca", "operator-tls", "clustersync-tls", "executor-tls", "proxy-tls", "proxy-client-tls"}

// Uninstall takes the release away. What runs kept stays: the namespaces of
// workspaces, the CustomResourceDefinitions with their objects, and the data
// plane's identity, so that an install later goes on from there. With purge, only
// the workspaces' namespaces stay.
func Uninstall(ctx context.Context, t Target, purge bool) (Removed, error) {
	c, err := connect(t)
	if err != nil {
		return Removed{}, err
	}
	last, err := c.lastRelease()
	if err != nil {
		return Removed{}, err
	}
	if last == nil && !purge {
		return Removed{}, c.notInstalled()
	}
	removed := Removed{Release: ReleaseName, Namespace: c.namespace, Kept: []string{"the namespaces of workspaces, with all that is in them"}}
	if last != nil {
		unlock, err := c.lock(ctx)
		if err != nil {
			return Removed{}, err
		}
		defer unlock()
		uninstall := action.NewUninstall(c.helm)
		uninstall.IgnoreNotFound, uninstall.Wait, uninstall.Timeout = true, true, time.Minute
		if _, err := uninstall.Run(ReleaseName); err != nil {
			return Removed{}, c.refused(ctx, err)
		}
		c.progress("uninstalled the chart")
	}
	if !purge {
		removed.Kept = append(removed.Kept,
			"the CustomResourceDefinitions, with their objects",
			"the Secrets by which the data plane is known to its control plane")
		return removed, nil
	}
	return removed, c.purge(ctx)
}

// purge deletes our kinds and what the operator made. The finalizers of task
// actions are for an executor that is gone.
func (c *cluster) purge(ctx context.Context) error {
	for _, kind := range kinds {
		if err := c.deleteKind(ctx, kind); err != nil {
			return err
		}
		c.progress("deleted every " + kind[:len(kind)-1])
	}
	for _, name := range secrets {
		if err := c.kube.CoreV1().Secrets(c.namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return c.cannot("delete Secret "+name, err)
		}
	}
	for _, name := range []string{"biplane-ca", "biplane-received"} {
		if err := c.kube.CoreV1().ConfigMaps(c.namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return c.cannot("delete ConfigMap "+name, err)
		}
	}
	return nil
}

func (c *cluster) deleteKind(ctx context.Context, kind string) error {
	resource := c.dynamic.Resource(schema.GroupVersionResource{Group: "biplane.dev", Version: "v1alpha1", Resource: kind})
	for next := ""; ; {
		page, err := resource.List(ctx, metav1.ListOptions{Limit: 500, Continue: next})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return c.cannot("list "+kind, err)
		}
		for _, one := range page.Items {
			if len(one.GetFinalizers()) > 0 {
				_, err := resource.Namespace(one.GetNamespace()).Patch(ctx, one.GetName(), types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
				if err != nil && !apierrors.IsNotFound(err) {
					return c.cannot(fmt.Sprintf("release %s %s", kind, one.GetName()), err)
				}
			}
			if err := resource.Namespace(one.GetNamespace()).Delete(ctx, one.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return c.cannot(fmt.Sprintf("delete %s %s", kind, one.GetName()), err)
			}
		}
		if next = page.GetContinue(); next == "" {
			break
		}
	}
	err := c.definitions().Delete(ctx, kind+".biplane.dev", metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.cannot("delete CustomResourceDefinition "+kind+".biplane.dev", err)
	}
	return nil
}

// Left is what an Uninstall with purge would take away.
type Left struct {
	Any     bool
	Cluster string // the name in the control plane of what is there; "" when it cannot be told
	Running int    // actions that have not ended
}

// FindLeft looks for it; it reads Secrets.
func FindLeft(ctx context.Context, t Target) (Left, error) {
	c, err := connect(t)
	if err != nil {
		return Left{}, err
	}
	var left Left
	last, err := c.lastRelease()
	if err != nil {
		return left, err
	}
	if last != nil {
		left.Any, left.Cluster = true, clusterIn(last.Config)
	}
	all, err := definitions()
	if err != nil {
		return left, err
	}
	for _, one := range all {
		_, err := c.definitions().Get(ctx, one.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return left, c.cannot("look at CustomResourceDefinition "+one.GetName(), err)
		}
		left.Any = true
		if one.GetName() == "taskactions.biplane.dev" {
			if left.Running, err = c.running(ctx); err != nil {
				return left, err
			}
		}
	}
	return left, nil
}

// ended are the phases of actions that have. The kind's own package is for controllers.
var ended = []string{"SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT", "RECOVERED"}

// running counts the actions that have not ended.
func (c *cluster) running(ctx context.Context) (int, error) {
	resource := c.dynamic.Resource(schema.GroupVersionResource{Group: "biplane.dev", Version: "v1alpha1", Resource: "taskactions"})
	n := 0
	for next := ""; ; {
		page, err := resource.List(ctx, metav1.ListOptions{Limit: 500, Continue: next})
		if apierrors.IsNotFound(err) {
			return n, nil
		}
		if err != nil {
			return n, c.cannot("list taskactions", err)
		}
		for _, one := range page.Items {
			if phase, _, _ := unstructured.NestedString(one.Object, "status", "phase"); !slices.Contains(ended, phase) {
				n++
			}
		}
		if next = page.GetContinue(); next == "" {
			return n, nil
		}
	}
}
