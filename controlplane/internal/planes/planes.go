// Package planes calls the processes of a data plane: by HTTP over whatever the
// gateway gives as its tunnel, a URL's host naming the process.
//
// It does not choose a data plane: package clusters does. Start with Planes.
package planes

import (
	"net/http"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/biplane/dataplane/v1/dataplanev1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
)

// maxAnswer bounds what a data plane may make this server hold in memory.
const maxAnswer = 64 << 20

// Planes makes clients of data planes.
type Planes struct {
	transport func(organization, cluster string) http.RoundTripper
}

// New returns the clients behind a transport, which says UNAVAILABLE for a data
// plane that is not connected.
func New(transport func(organization, cluster string) http.RoundTripper) *Planes {
	return &Planes{transport: transport}
}

// Executor is where actions are enqueued, watched, signalled and aborted.
func (p *Planes) Executor(organization, cluster string) actionsconnect.ActionsServiceClient {
	return actionsconnect.NewActionsServiceClient(p.client(organization, cluster), "http://executor", options()...)
}

// Proxy is where inputs, outputs and logs are.
func (p *Planes) Proxy(organization, cluster string) dataproxyconnect.DataProxyServiceClient {
	return dataproxyconnect.NewDataProxyServiceClient(p.client(organization, cluster), "http://proxy", options()...)
}

// Texts is where messages of errors and events of pods are.
func (p *Planes) Texts(organization, cluster string) dataplanev1connect.ActionTextServiceClient {
	return dataplanev1connect.NewActionTextServiceClient(p.client(organization, cluster), "http://proxy", options()...)
}

func (p *Planes) client(organization, cluster string) *http.Client {
	return &http.Client{Transport: p.transport(organization, cluster)}
}

func options() []connect.ClientOption {
	return []connect.ClientOption{connect.WithReadMaxBytes(maxAnswer)}
}
