// Package caller says who calls the API through a data plane's tunnel: the
// gateway writes it into the context, and services read it. A call from the
// client's listener has no Caller: client authentication is later work.
//
// It is not for deciding what a caller may do: see packages scope and server.
// Start with From.
package caller

import "context"

// Caller is a process of a data plane. The gateway vouches for all of it: the
// organisation and the cluster are those of the tunnel's certificate, the rest
// was verified by the cluster's operator.
type Caller struct {
	Organization string
	Cluster      string
	// Workspace is that of a task's pod; nil for the data plane's own processes.
	Workspace *Workspace
	// ServiceAccount is NAMESPACE/NAME.
	ServiceAccount string
}

// Workspace is one domain of one project.
type Workspace struct {
	Project string
	Domain  string
}

type key struct{}

// With returns a context in which c is the caller.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, key{}, c)
}

// From returns the caller. Without one the call came from the client's listener.
func From(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(key{}).(Caller)
	return c, ok
}
