package gateway

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

// The headers by which an operator says on whose behalf it calls. They are
// believed within a tunnel, of its own organisation and cluster, and removed
// from everything else, in both directions.
const (
	headerServiceAccount = "Biplane-Service-Account" // NAMESPACE/NAME
	headerProject        = "Biplane-Project"         // of a task's pod
	headerDomain         = "Biplane-Domain"
)

func strip(header http.Header) {
	header.Del(headerServiceAccount)
	header.Del(headerProject)
	header.Del(headerDomain)
}

// Of a data plane's own service accounts.
const (
	operator = "operator-system"
	executor = "executor"
	proxy    = "proxy-system"
)

// linkCallers says which of them may call what of LinkService. What is not in
// here may nobody call, and no pod of a task any of it. Flyte's own services are
// the API's to allow, see package server.
func linkCallers() map[string][]string {
	return map[string][]string{
		tunnelv1connect.LinkServiceHeartbeatProcedure:       {operator},
		tunnelv1connect.LinkServiceWatchConfigProcedure:     {operator},
		tunnelv1connect.LinkServiceGetPositionProcedure:     {executor},
		tunnelv1connect.LinkServiceReportStatesProcedure:    {executor},
		tunnelv1connect.LinkServiceRecordTaskSpecsProcedure: {executor},
		tunnelv1connect.LinkServiceSignUploadProcedure:      {proxy},
	}
}

// maxHeavy calls of one data plane hold up to maxReport bytes each in memory at a
// time, whatever it sends; others wait. An executor makes one after the other.
const maxHeavy = 4

// calls serves what comes up one session.
func (c *cluster) calls(session *tunnel.Session) http.Handler {
	options := []connect.HandlerOption{connect.WithReadMaxBytes(maxReport), connect.WithRecover(c.gateway.recover)}
	linkPath, link := tunnelv1connect.NewLinkServiceHandler(&link{cluster: c, session: session}, options...)
	refuse := connect.NewErrorWriter(options...)
	allowed := linkCallers()
	heavy := []string{tunnelv1connect.LinkServiceReportStatesProcedure, tunnelv1connect.LinkServiceRecordTaskSpecsProcedure}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := callerOf(c.identity, r.Header)
		if err != nil {
			refuse.Write(w, r, err)
			return
		}
		strip(r.Header)
		r.Header.Del("Authorization") // the pod's own token, if the operator left it: of no use here
		if !strings.HasPrefix(r.URL.Path, linkPath) {
			c.gateway.API.ServeHTTP(w, r.WithContext(caller.With(r.Context(), *from)))
			return
		}
		_, account, _ := strings.Cut(from.ServiceAccount, "/")
		if from.Workspace != nil || !slices.Contains(allowed[r.URL.Path], account) {
			refuse.Write(w, r, refusal.New(connect.CodePermissionDenied, "%s of the cluster %q may not call %s",
				from.ServiceAccount, from.Cluster, strings.TrimPrefix(r.URL.Path, "/")))
			return
		}
		if slices.Contains(heavy, r.URL.Path) {
			select {
			case c.heavy <- struct{}{}:
				defer func() { <-c.heavy }()
			case <-r.Context().Done():
				return
			}
		}
		link.ServeHTTP(w, r)
	})
}

// callerOf puts what the certificate says and what the operator says together.
func callerOf(identity tunnel.Identity, header http.Header) (*caller.Caller, error) {
	from := &caller.Caller{Organization: identity.Organization, Cluster: identity.Cluster, ServiceAccount: header.Get(headerServiceAccount)}
	namespace, account, ok := strings.Cut(from.ServiceAccount, "/")
	if !ok || namespace == "" || account == "" || len(from.ServiceAccount) > 2*253 {
		return nil, refusal.New(connect.CodeUnauthenticated, "the header %s does not say which service account calls", headerServiceAccount)
	}
	project, domain := header.Get(headerProject), header.Get(headerDomain)
	if project == "" && domain == "" {
		return from, nil
	}
	if names.Project(project) != nil || names.Domain(domain, store.Domains()) != nil {
		return nil, refusal.New(connect.CodeUnauthenticated, "the headers %s and %s do not name a workspace", headerProject, headerDomain)
	}
	from.Workspace = &caller.Workspace{Project: project, Domain: domain}
	return from, nil
}

// recover answers for a handler that panicked.
func (g *Gateway) recover(_ context.Context, spec connect.Spec, _ http.Header, value any) error {
	g.Log.Error("panicked", "method", strings.TrimPrefix(spec.Procedure, "/"), "panic", value, "stack", string(debug.Stack()))
	return refusal.New(connect.CodeInternal, "the server failed; its log says why")
}

// failed translates what the store returned.
func (g *Gateway) failed(ctx context.Context, what string, err error) error {
	var (
		said    *connect.Error
		missing *store.NotFoundError
		refused *store.RefusedError
	)
	switch {
	case errors.As(err, &said):
		return said
	case errors.As(err, &missing):
		return refusal.NotFound("%s", missing.Error())
	case errors.As(err, &refused):
		return refusal.New(connect.CodeFailedPrecondition, "%s", refused.Error())
	case ctx.Err() != nil:
		return refusal.Because(err, connect.CodeUnavailable, "the call ended before its answer; call again")
	}
	g.Log.Error(what, "error", err)
	return refusal.Because(err, connect.CodeUnavailable, "the control plane could not read or write its database; call again")
}
