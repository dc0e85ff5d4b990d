package proxy

import (
	"context"
	"regexp"

	"connectrpc.com/connect"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/authn"
)

// operatorAccount passes on what the control plane asks, and clients' sessions.
const operatorAccount = "operator-system"

// fromClient marks what came by the client door, from a client that shows no
// token yet: the relay that brings it listens on loopback. Whoever authenticates
// clients does it where this is set.
type fromClient struct{}

func withClient(ctx context.Context) context.Context {
	return context.WithValue(ctx, fromClient{}, true)
}

// admit is the first thing that every call does: it says which workspace is
// meant, and that the caller may read and write there.
func (s *service) admit(ctx context.Context, organization, project, domain string) (*v1alpha1.Workspace, error) {
	if err := checkName("project", project, maxLabel); err != nil {
		return nil, err
	}
	if err := checkName("domain", domain, maxLabel); err != nil {
		return nil, err
	}
	namespace := v1alpha1.NamespaceOf(project, domain)
	if err := s.mayUse(ctx, namespace, project, domain); err != nil {
		return nil, err
	}
	workspace := &v1alpha1.Workspace{}
	err := s.cluster.Get(ctx, client.ObjectKey{Name: namespace}, workspace)
	if client.IgnoreNotFound(err) != nil {
		return nil, because(err, connect.CodeUnavailable, "the cluster cannot say now which projects there are; try again in a moment")
	}
	// Two workspaces might have one name if a domain had a hyphen.
	if apierrors.IsNotFound(err) || workspace.Spec.Project != project || workspace.Spec.Domain != domain {
		return nil, refuse(connect.CodeNotFound, "there is no project %q with a domain %q in this data plane; make one with 'flyte create project --id %s --name NAME'", project, domain, project)
	}
	// The SDK sends no organisation where it cannot tell it from the endpoint's name.
	if organization != "" && organization != workspace.Spec.Organization {
		return nil, refuse(connect.CodePermissionDenied, "the organization %q has nothing in this data plane, which is of %q", short(organization), workspace.Spec.Organization)
	}
	return workspace, nil
}

func (s *service) mayUse(ctx context.Context, namespace, project, domain string) error {
	if ctx.Value(fromClient{}) != nil {
		return nil
	}
	caller, ok := authn.From(ctx)
	switch {
	case !ok:
		return refuse(connect.CodePermissionDenied, "nobody knows who calls")
	case caller.Namespace == namespace && caller.Pod != "":
		return nil // a task of this workspace
	case caller.Namespace == s.namespace && caller.ServiceAccount == operatorAccount:
		return nil // the control plane, which has asked whom it serves
	}
	return refuse(connect.CodePermissionDenied, "%s may not use the project %q and its domain %q: a task has what is of its own", caller.Name(), project, domain)
}

// admitAction is admit for the workspace of an action.
func (s *service) admitAction(ctx context.Context, id *common.ActionIdentifier) (*v1alpha1.Workspace, error) {
	run := id.GetRun()
	workspace, err := s.admit(ctx, run.GetOrg(), run.GetProject(), run.GetDomain())
	if err != nil {
		return nil, err
	}
	if err := checkName("run", run.GetName(), maxRun); err != nil {
		return nil, err
	}
	return workspace, checkName("action", id.GetName(), maxRun)
}

const (
	maxLabel = 63
	maxRun   = 30
)

// name is what may be part of a key or of an object's name.
var name = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

func checkName(what, value string, most int) error {
	if value == "" {
		return refuse(connect.CodeInvalidArgument, "the %s is missing; name one", what)
	}
	if len(value) > most || !name.MatchString(value) {
		return refuse(connect.CodeInvalidArgument, "the %s %q cannot be a name; use at most %d lower-case letters, digits and hyphens", what, short(value), most)
	}
	return nil
}

func short(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return string([]rune(text[:most])) + "…"
}
