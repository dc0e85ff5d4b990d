package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"

	"connectrpc.com/connect"

	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/tunnel"
)

// The headers by which a process says which data plane a call is for, to the one
// that holds its tunnel. They go no further.
const (
	headerOrganization = "Biplane-Organization"
	headerCluster      = "Biplane-Cluster"
)

// transport carries calls to one data plane, over whichever session is newest at
// the time: of those that it opened to us, or else to the process that holds one.
type transport struct {
	gateway  *Gateway
	identity tunnel.Identity
	ours     bool // nobody else is asked
}

// RoundTrip makes one call.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	session, forwarded, err := t.gateway.reach(request.Context(), t.identity, t.ours)
	if err != nil {
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, t.failed(request.Context(), err)
	}
	request = t.addressed(request, forwarded)
	response, err := session.RoundTripper().RoundTrip(request)
	if err != nil {
		return nil, t.failed(request.Context(), err)
	}
	response.Body = &responseBody{ReadCloser: response.Body, transport: t, ctx: request.Context(), session: session, forwarded: forwarded}
	return response, nil
}

// addressed is the request without what only an operator may say, and with what a
// peer has to know.
func (t *transport) addressed(request *http.Request, forwarded bool) *http.Request {
	said := request.Header
	if !forwarded && said.Get(headerServiceAccount) == "" && said.Get(headerProject) == "" && said.Get(headerDomain) == "" {
		return request
	}
	request = request.Clone(request.Context())
	strip(request.Header)
	if forwarded {
		request.Header.Set(headerOrganization, t.identity.Organization)
		request.Header.Set(headerCluster, t.identity.Cluster)
	}
	return request
}

// reach is a session by which a data plane can be reached, and whether it is one
// to another process.
func (g *Gateway) reach(ctx context.Context, identity tunnel.Identity, ours bool) (session *tunnel.Session, forwarded bool, err error) {
	if session := g.holds(identity); session != nil {
		return session, false, nil
	}
	if ours || g.peers == nil {
		return nil, false, errNoSession
	}
	session, err = g.peers.reach(ctx, identity)
	return session, true, err
}

func (t *transport) failed(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return t.unreachable(err)
}

func (t *transport) unreachable(cause error) error {
	return refusal.Because(cause, connect.CodeUnavailable, "the data plane %q cannot be reached now", t.identity.Cluster)
}

// responseBody says UNAVAILABLE where a session ended in the middle of an
// answer. By itself that would be UNKNOWN, which clients take for a missing
// login. Of what was forwarded only the break is seen, which the peer passes on.
type responseBody struct {
	io.ReadCloser
	transport *transport
	ctx       context.Context
	session   *tunnel.Session
	forwarded bool
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.ctx.Err() == nil && (b.forwarded || b.session.Err() != nil) {
		err = b.transport.unreachable(err)
	}
	return n, err
}

// forwarded serves the calls that other processes forward to us.
func (p *peers) forwarded() http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		identity := tunnel.Identity{Organization: r.Header.Get(headerOrganization), Cluster: r.Header.Get(headerCluster)}
		p.metrics.forwarded.WithLabelValues("call").Inc()
		(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host
				r.Out.Header.Del(headerOrganization)
				r.Out.Header.Del(headerCluster)
			},
			Transport:     &transport{gateway: p.Gateway, identity: identity, ours: true},
			FlushInterval: -1, // streams
			ErrorLog:      slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				var said *connect.Error
				if !errors.As(err, &said) { // the caller left
					said = refusal.Because(err, connect.CodeUnavailable, "the call ended before its answer; call again")
				}
				refuse.Write(w, r, said)
			},
		}).ServeHTTP(w, r)
	})
}

// openRaw opens a stream to a data plane's proxy.
func (c *cluster) openRaw(ctx context.Context, ours bool) (*tunnel.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, relayOpen)
	defer cancel()
	session, forwarded, err := c.gateway.reach(ctx, c.identity, ours)
	if err != nil {
		return nil, err
	}
	name := rawProxy
	if forwarded {
		name = forwardedName(c.identity, rawProxy)
	}
	return session.OpenRaw(ctx, name)
}

// forwardedName is that of a raw stream between processes: to what, of which data
// plane.
func forwardedName(identity tunnel.Identity, name string) string {
	return strings.Join([]string{identity.Organization, identity.Cluster, name}, "/")
}

func parseForwardedName(text string) (identity tunnel.Identity, name string, ok bool) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return tunnel.Identity{}, "", false
	}
	return tunnel.Identity{Organization: parts[0], Cluster: parts[1]}, parts[2], true
}

// forwardedRaw passes a client on that came to another process.
func (p *peers) forwardedRaw(ctx context.Context, name string, stream *tunnel.Stream) {
	identity, what, ok := parseForwardedName(name)
	c := p.known(identity)
	if !ok || what != rawProxy || c == nil {
		stream.Reset()
		return
	}
	p.metrics.forwarded.WithLabelValues("client").Inc()
	c.pass(ctx, stream, true)
}
