package operator

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/peer"
	"biplane.dev/biplane/tunnel"
)

const (
	// rawPath and rawProtocol are the proxy's: what follows is a client's own TLS
	// session, which we cannot read.
	rawPath     = "/biplane/raw"
	rawProtocol = "biplane-raw"
	// rawIdle ends a client's session over which nothing goes; the client opens
	// another one.
	rawIdle = time.Hour
	// rawPatience with a proxy that is just being replaced: the SDK gives a call up
	// whose connection fails four times within four seconds.
	rawPatience = 10 * time.Second
	rawPause    = 200 * time.Millisecond
)

// inbound is what the control plane reaches: our processes, by the host of a URL,
// and the proxy's raw port. The gateway is the only one who can open streams here,
// and has said by its certificate who it is.
type inbound struct {
	calls map[string]http.Handler // by host
	proxy string
	peer  peer.Options
	o     *Operator
}

func newInbound(o *Operator) tunnel.Handlers {
	in := &inbound{calls: map[string]http.Handler{}, proxy: o.config.Proxy.Endpoint, peer: o.peer(), o: o}
	transport := peer.NewTransport(in.peer)
	for _, p := range processes(o.config) {
		in.calls[p.name] = o.forwarder(p.name, "https", p.endpoint, transport, nil)
	}
	return tunnel.Handlers{RPC: in, Raw: in.raw}
}

// ServeHTTP passes a call on with our own token: the executor and the proxy know
// that what the operator passes on is the control plane's.
func (in *inbound) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handler, ok := in.calls[r.Host]
	if !ok {
		authn.Refuse(w, r, connect.NewError(connect.CodeNotFound, fmt.Errorf("a data plane has no process called %q", r.Host)))
		return
	}
	handler.ServeHTTP(w, r)
}

// upgrade waits for a proxy that does not take the stream now.
func (in *inbound) upgrade(ctx context.Context) (*peer.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, rawPatience)
	defer cancel()
	for {
		conn, err := peer.Upgrade(ctx, in.peer, in.proxy, rawPath, rawProtocol)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(rawPause):
		}
	}
}

func (in *inbound) raw(ctx context.Context, name string, stream *tunnel.Stream) {
	log := in.o.log.With("name", name)
	if name != "proxy" {
		log.Warn("refused a raw stream of a name that is nobody's")
		stream.Reset()
		return
	}
	conn, err := in.upgrade(ctx)
	if err != nil {
		log.Warn("the proxy does not take a client's session", "error", err)
		stream.Reset()
		return
	}
	// The splice ends with either end; the session's end is an end of the stream.
	defer in.o.metrics.raw()()
	if _, _, err := tunnel.Splice(stream, conn, rawIdle); err != nil {
		log.Debug("a client's session ended", "error", err)
	}
}
