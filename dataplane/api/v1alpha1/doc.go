// Package v1alpha1 has the objects that a data plane keeps in its cluster: an
// action that is to run or has run (TaskAction), what it runs (TaskTemplate, once
// for all actions that run the same), and the projects and domains there are
// (Workspace). docs/spec has a page for each.
//
// +kubebuilder:object:generate=true
// +groupName=biplane.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is biplane.dev/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: "biplane.dev", Version: "v1alpha1"}

// AddToScheme makes a client read and write these objects.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&TaskAction{}, &TaskActionList{},
		&TaskTemplate{}, &TaskTemplateList{},
		&Workspace{}, &WorkspaceList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// Labels of every object and pod that belongs to an action, so that one can be
// found by the other, and by a person with kubectl.
const (
	LabelOrganization = "organization"
	LabelProject      = "project"
	LabelDomain       = "domain"
	LabelRun          = "flyte.org/run"
	LabelAction       = "flyte.org/action"
	LabelParent       = "flyte.org/parent"  // on TaskActions; "" is not written
	LabelAttempt      = "flyte.org/attempt" // on pods, from 1
	LabelManaged      = "flyte.org/managed" // "true"
	LabelExecutionID  = "execution-id"      // the run's name, as other tools know it
)

const (
	// RootAction is the name of the action that every run begins with.
	RootAction = "a0"
	// FinalizerRecorded keeps a TaskAction until its last state is recorded in
	// the control plane and its pods are gone.
	FinalizerRecorded = "biplane.dev/recorded"
	// TokenAudience is what service-account tokens for our endpoints are for.
	TokenAudience = "biplane.dev"
)

// ActionName is the name of an action's TaskAction.
func ActionName(run, action string) string { return run + "-" + action }

// NamespaceOf is the namespace of a workspace. Domains have no hyphen, so that
// two workspaces never share one.
func NamespaceOf(project, domain string) string { return project + "-" + domain }
