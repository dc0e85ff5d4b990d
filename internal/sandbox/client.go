package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

// ErrNotUp is the error of a call to a sandbox whose supervisor does not run.
var ErrNotUp = errors.New("the sandbox is not up")

// Client speaks to the supervisor of a sandbox over the socket in its folder.
type Client struct {
	folder Folder
	http   http.Client
}

// Dial returns a client. It connects when it is used.
func Dial(f Folder) *Client {
	c := &Client{folder: f}
	// A connection for each call: one that is kept could be closed from the other
	// end just when it is used again.
	c.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return DialSocket(ctx, f.Run(), ControlSocket)
	}}
	return c
}

// ControlSocket is the supervisor's socket, in the folder's Run.
const ControlSocket = "control.sock"

// TokenSocket, beside it, is where somebody may listen who stands for EKS, and is
// asked whose a token is that the API server does not know: a TokenReview, by POST.
const TokenSocket = "tokens.sock"

// Paths of the supervisor's socket. Version 1 of what is said there; a body is
// JSON; an error is a Refusal with a status from 400.
const (
	PathStatus = "/v1/status" // GET: a Status
	PathEvents = "/v1/events" // GET: Events, one a line, from the start of the last up to its end
	PathUp     = "/v1/up"     // POST Options: joins, and starts what is held
	PathDown   = "/v1/down"   // POST: answers once every component is gone
	PathStop   = "/v1/stop/"  // POST, with a component's name behind it
	PathStart  = "/v1/start/" // POST, likewise
	PathTrust  = "/v1/trust"  // POST: the roots are written that clients trust the sandbox and its data planes by
)

// Refusal is how an error for a person crosses the socket.
type Refusal struct {
	Kind  usererr.Kind `json:"kind"`
	Error string       `json:"error"`
	Hint  string       `json:"hint,omitempty"`
}

// RefusalOf puts err into words for the other side.
func RefusalOf(err error) Refusal {
	var said *usererr.Error
	if errors.As(err, &said) {
		return Refusal{said.Kind, err.Error(), said.Hint}
	}
	return Refusal{usererr.Unavailable, err.Error(), ""}
}

func (r Refusal) err() error {
	refused := usererr.New(r.Kind, "%s", r.Error)
	if r.Hint != "" {
		return refused.WithHint("%s", r.Hint)
	}
	return refused
}

// States of what an event is about, besides those of components.
const (
	Done   EventState = "done"   // a step of preparing is done
	Failed EventState = "failed" // the up has failed, with Refusal
	Note   EventState = "note"   // nothing changed; something to know
)

// EventState is a ComponentState or one of the above.
type EventState string

// Event is progress of an up. The last one of an up has no Name, and is ready
// or failed.
type Event struct {
	At      time.Time     `json:"at"`
	Name    string        `json:"name,omitempty"` // a component, or a step: namespaces, roles, buckets, profiles…
	State   EventState    `json:"state"`
	Text    string        `json:"text,omitempty"` // a phrase for a person: "listens on 127.0.0.1:40123"
	Took    time.Duration `json:"took,omitempty"` // since it was started; of the last event, since the up was
	Refusal *Refusal      `json:"refusal,omitempty"`
}

// Status is what the supervisor says of itself, or ErrNotUp.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	return status, c.call(ctx, http.MethodGet, PathStatus, nil, &status)
}

// Events tells every event of the last up, those that were and those to come,
// until it has ended. It returns nil when the sandbox is ready, and else why
// not: an error for a person.
func (c *Client) Events(ctx context.Context, tell func(Event)) error {
	answer, err := c.do(ctx, http.MethodGet, PathEvents, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := json.NewDecoder(answer.Body)
	for {
		var event Event
		if err := lines.Decode(&event); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return usererr.New(usererr.Unavailable, "sandbox %s was taken down while it was being started", c.folder.Name()).
				WithHint("see %s, and run the same command again", c.folder.Log("supervisor")).Because(err)
		}
		tell(event)
		switch {
		case event.Name != "":
		case event.Refusal != nil:
			return event.Refusal.err()
		case event.State == EventState(ComponentReady):
			return nil
		}
	}
}

// Join asks a sandbox that is up for options, and for what is held to be
// started again. What would need another start is refused, in one sentence.
// Events tells what happens then.
func (c *Client) Join(ctx context.Context, asked Options) error {
	return c.call(ctx, http.MethodPost, PathUp, asked, nil)
}

// StopComponent stops a component, which stays stopped until StartComponent or
// the next Join. It returns once the process is gone.
func (c *Client) StopComponent(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, PathStop+url.PathEscape(name), nil, nil)
}

// Trust has the file of roots written anew, with those of every data plane that has
// joined by now.
func (c *Client) Trust(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, PathTrust, nil, nil)
}

// StartComponent starts what StopComponent stopped. It returns once the
// component is ready.
func (c *Client) StartComponent(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, PathStart+url.PathEscape(name), nil, nil)
}

// Down stops the sandbox. It returns once every process of it is gone, the
// supervisor last, or ErrNotUp at once.
func (c *Client) Down(ctx context.Context) error {
	if err := c.call(ctx, http.MethodPost, PathDown, nil, nil); err != nil {
		return err
	}
	// The answer was the supervisor's last word; its lock goes when it does.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		unlock, err := Lock(c.folder)
		if err == nil {
			unlock()
			return nil
		}
		if !errors.Is(err, ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// running says whether a supervisor answers.
func (c *Client) running() bool {
	connection, err := DialSocket(context.Background(), c.folder.Run(), ControlSocket)
	if err != nil {
		return false
	}
	connection.Close()
	return true
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	} else {
		err = json.NewDecoder(answer.Body).Decode(into)
	}
	if err != nil {
		return fmt.Errorf("reading the answer of the supervisor of sandbox %s: %w", c.folder.Name(), err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", body, err)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, bytes.NewReader(encoded))
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", path, err)
	}
	answer, err := c.http.Do(request)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE): // it went while it was asked
		return nil, fmt.Errorf("%w: %w", ErrNotUp, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, usererr.New(usererr.Denied, "sandbox %s in %s is another user's", c.folder.Name(), c.folder).
			WithHint("name one of yours with --name or --dir").Because(err)
	case err != nil:
		return nil, fmt.Errorf("asking the supervisor of sandbox %s: %w", c.folder.Name(), err)
	case answer.StatusCode < 400:
		return answer, nil
	}
	defer answer.Body.Close()
	var refusal Refusal
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&refusal); err != nil || refusal.Error == "" {
		return nil, fmt.Errorf("the supervisor of sandbox %s answered %s to %s, which this program does not understand", c.folder.Name(), answer.Status, path)
	}
	return nil, refusal.err()
}

// Read returns the status of a sandbox whether it is up or not.
func Read(ctx context.Context, f Folder) (Status, error) {
	status, err := Dial(f).Status(ctx)
	if !errors.Is(err, ErrNotUp) {
		return status, err
	}
	status = Status{Name: f.Name(), State: Absent, Dir: string(f), Components: []Component{}}
	exists, err := f.Exists()
	if err != nil || !exists {
		return status, err
	}
	status.State = Stopped
	return status, nil
}

// DialSocket connects to the unix socket called name in dir. ListenSocket
// makes one. Both go round the limit of 108 bytes on the path of a socket,
// which a deep --dir exceeds, by naming the folder by its descriptor.
func DialSocket(ctx context.Context, dir, name string) (net.Conn, error) {
	path, done, err := shortPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer done()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}

// ListenSocket makes the unix socket called name in dir, for this user alone,
// in place of one that nobody listens on any more: who calls holds the lock.
func ListenSocket(dir, name string) (net.Listener, error) {
	path, done, err := shortPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // its path is no more; who listens removes it
	return listener, os.Chmod(filepath.Join(dir, name), 0o600)
}

func shortPath(dir, name string) (path string, done func(), err error) {
	path = filepath.Join(dir, name)
	if runtime.GOOS != "linux" || len(path) < 100 {
		if _, err := os.Lstat(dir); err != nil {
			return "", nil, err
		}
		return path, func() {}, nil
	}
	folder, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), name), func() { folder.Close() }, nil
}
