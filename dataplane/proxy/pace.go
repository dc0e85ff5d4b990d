package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
)

// Who holds a share of the budget has to keep moving, or two clients that send a
// byte a minute would keep everybody else waiting.
const (
	// grace is until the first byte, and for pauses, all of them together.
	grace = 30 * time.Second
	// leastRate of bytes in a second, which a bad line has.
	leastRate = 64 << 10
	// step is how often the end is moved: setting it costs about as much.
	step = 256 << 10
)

// slowest is the pace that nobody may be below.
type slowest struct {
	grace time.Duration
	rate  int64
}

// pace is when the next byte is due.
type pace struct {
	slowest
	began  time.Time // zero: it has not
	moved  int64
	set    int64 // what had been moved when the end was set
	extend func(time.Time) error
}

// next is called before each piece.
func (p *pace) next() {
	if !p.began.IsZero() && p.moved-p.set < step {
		return
	}
	if p.began.IsZero() {
		p.began = time.Now()
	}
	p.set = p.moved
	// What cannot have a deadline is a test's recorder.
	_ = p.extend(p.began.Add(p.grace + time.Duration(p.moved)*time.Second/time.Duration(p.rate)))
}

func (p *pace) stop() { _ = p.extend(time.Time{}) }

// pacedWriter is the answer of a call; the request's body is paced with it.
type pacedWriter struct {
	http.ResponseWriter
	body, answer pace
}

// pace hurries who sends r and reads w.
func (b budget) pace(w http.ResponseWriter, r *http.Request) *pacedWriter {
	control := http.NewResponseController(w)
	p := &pacedWriter{
		ResponseWriter: w,
		body:           pace{slowest: b.slowest, extend: control.SetReadDeadline},
		answer:         pace{slowest: b.slowest, extend: control.SetWriteDeadline},
	}
	p.body.next()
	r.Body = &pacedBody{ReadCloser: r.Body, pace: &p.body}
	return p
}

// end leaves the connection to the next call as it was.
func (p *pacedWriter) end() {
	p.body.stop()
	p.answer.stop()
}

// Unwrap is for http.ResponseController.
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Flush implements http.Flusher, which gRPC asks for.
func (p *pacedWriter) Flush() {
	p.answer.next()
	_ = http.NewResponseController(p.ResponseWriter).Flush() // the next write tells
}

// Write implements io.Writer.
func (p *pacedWriter) Write(b []byte) (written int, err error) {
	for first := true; first || len(b) > 0; first = false {
		p.answer.next()
		n, err := p.ResponseWriter.Write(b[:min(len(b), step)])
		p.answer.moved += int64(n)
		written += n
		if err != nil {
			return written, err
		}
		b = b[n:]
	}
	return written, nil
}

type pacedBody struct {
	io.ReadCloser
	pace *pace
}

// Read implements io.Reader.
func (p *pacedBody) Read(b []byte) (int, error) {
	p.pace.next()
	n, err := p.ReadCloser.Read(b)
	p.pace.moved += int64(n)
	switch {
	case err == io.EOF:
		p.pace.stop() // or it would end the call that has begun
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Without a code it would be UNKNOWN, upon which the SDK looks for credentials.
		err = connect.NewError(connect.CodeUnavailable, fmt.Errorf("the request came more slowly than %d bytes a second; send it again", leastRate))
	}
	return n, err
}
