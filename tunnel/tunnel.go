// Package tunnel is the one connection between a data plane and its control
// plane: TLS 1.3 with certificates on both sides, dialled from inside the data
// plane, and yamux in it, so that both sides can open streams.
//
// It knows neither plane: who may dial is the caller's to say (Accept), as is
// what is served on the streams (Session.Serve). It keeps nothing on disk.
//
// Start with Keep, which holds a session to one address, or with Dial and
// Accept, the two ends of one session. Then, by file:
//
//	dial.go      Dial, Accept, Refuse: from a TCP connection to a Session
//	keep.go      Keep: dials again, with back-off, whatever happens
//	session.go   Session: open, serve, drain, end
//	rpc.go       HTTP/2 over streams, both directions
//	stream.go    Stream, with half-close; Splice joins one to another connection
//	link.go      the socket below: silence, write limits, counters
//	identity.go  names in certificates, keys, requests, when to renew
//	join.go      Join and Renew: how a certificate is come by
//
// # On the wire
//
// The ALPN protocol is biplane-tunnel/1. After the handshake the accepting side
// says one line, "ok" or "refused SENTENCE", since TLS alerts cannot tell a
// person why. From then on it is yamux. A stream opens with one line:
//
//	rpc        HTTP/2 with prior knowledge; who opened the stream is the client
//	raw NAME   bytes, for what the peer knows by NAME
//	drain      the sender is to end; the peer opens nothing more, and closes this
package tunnel

import (
	"errors"
	"log/slog"
	"time"
)

// ALPN is the protocol's name in the TLS handshake.
const ALPN = "biplane-tunnel/1"

// How long and how much. They are no options: both ends must agree on them, and
// what suits one link suits all.
const (
	// Both sides ping every second whether or not there is traffic, so a link on
	// which nothing was received for silenceLimit is dead: found in ≤ 5 s. The
	// answer to our own ping is not what is waited for: behind megabytes in the
	// send buffer of a slow uplink it comes late although all is well.
	pingInterval = time.Second
	silenceLimit = 4 * time.Second

	// A write to the socket that takes longer has a peer that pings and does not
	// read.
	writeLimit = 10 * time.Second

	// Time for TCP, TLS and the greeting.
	handshakeLimit = 10 * time.Second

	// A new stream must have said its line by then.
	lineLimit = 10 * time.Second
	maxLine   = 256
	maxReason = 512

	// A peer answers a drain at once, unless it is stuck.
	drainAnswer = 3 * time.Second
	drainTick   = 10 * time.Millisecond

	// A stream's window starts at yamux's least and doubles while its reader
	// empties half of it within four round trips, up to twice bandwidth × delay:
	// 2 × 1 Gbit/s × 100 ms = 25 MB, so 32 MiB. Twice, because yamux gives room back
	// when half of the window was read, so that up to half of it is no use to the
	// writer. Memory is used for what has arrived and was not read, not for windows.
	initialWindow = 256 << 10
	maxWindow     = 32 << 20
	// windowBudget bounds what all streams of a session may grow by together: a
	// handful at full speed, the others at their initial window.
	windowBudget = 128 << 20

	// Streams that the peer may have open at the same time, and those of them
	// that nobody has taken yet.
	maxStreams    = 1024
	acceptBacklog = 256

	// A frame. Sixty-four wait in yamux's queue before the socket: 1 MiB, so that
	// a ping or a small call waits 80 ms behind bulk on 100 Mbit/s and not, with
	// yamux's own 64 KiB, 320 ms.
	maxFrame = 16 << 10
)

// Errors of sessions that code may branch on.
var (
	// ErrClosed is why a session is no more, when its own side closed it.
	ErrClosed = errors.New("tunnel: session closed")
	// ErrDraining refuses a new stream on a session that is to end.
	ErrDraining = errors.New("tunnel: session is draining")
	// ErrLost is why a session is no more, when the peer closed it.
	ErrLost = errors.New("tunnel: session closed by the peer")
	// ErrSilent is why a session is no more, when the peer was not heard.
	ErrSilent = errors.New("tunnel: nothing received for 4s")
)

// RefusedError is the answer of a peer that did not accept us, in its words.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "refused by the peer: " + e.Reason }

// Options of a session; the zero value is ready to use.
type Options struct {
	Log *slog.Logger // default: nowhere
}

func (o Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}
