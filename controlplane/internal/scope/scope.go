// Package scope decides to which organisation and which workspace a request
// belongs, whether it names them or not: the one place where an empty
// organisation gets its meaning, and where a task's pod is kept to its own
// workspace.
//
// It is not for whether a project exists: the store knows. Start with Scopes.
package scope

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Scopes knows the organisations that this server serves.
type Scopes struct {
	organizations []string
}

// New returns the scopes of a server of these organisations.
func New(organizations []string) *Scopes {
	return &Scopes{organizations: slices.Clone(organizations)}
}

// Organization returns the organisation that a request means: the one it names,
// or that of the data plane it comes from, or the server's only one.
func (s *Scopes) Organization(ctx context.Context, named string) (string, error) {
	if from, ok := caller.From(ctx); ok {
		if named != "" && named != from.Organization {
			return "", refusal.New(connect.CodePermissionDenied,
				"this data plane belongs to the organization %q, and the request names %q", from.Organization, named)
		}
		return from.Organization, nil
	}
	switch {
	case named == "" && len(s.organizations) == 1:
		return s.organizations[0], nil
	case named == "":
		return "", refusal.Invalid("the request names no organization, and this server has several: name one of %s", strings.Join(s.organizations, ", "))
	case !slices.Contains(s.organizations, named):
		if err := names.Organization(named); err != nil {
			return "", err
		}
		return "", refusal.NotFound("this server has no organization %q; leave it out, or check the server's configuration", named)
	}
	return named, nil
}

// Workspace returns the organisation of a request about one workspace. A task's
// pod has its own and no other.
func (s *Scopes) Workspace(ctx context.Context, organization, project, domain string) (string, error) {
	organization, err := s.Organization(ctx, organization)
	if err != nil {
		return "", err
	}
	if err := names.Project(project); err != nil {
		return "", err
	}
	if err := names.Domain(domain, store.Domains()); err != nil {
		return "", err
	}
	if from, ok := caller.From(ctx); ok && from.Workspace != nil && *from.Workspace != (caller.Workspace{Project: project, Domain: domain}) {
		return "", refusal.New(connect.CodePermissionDenied,
			"a task of %s-%s may not call for %s-%s", from.Workspace.Project, from.Workspace.Domain, project, domain)
	}
	return organization, nil
}

// Own returns the workspace to which a call for a whole organisation is
// narrowed, nil for one that is not.
func Own(ctx context.Context) *caller.Workspace {
	from, _ := caller.From(ctx)
	return from.Workspace
}
