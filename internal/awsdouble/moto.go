package awsdouble

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrNoMoto is what calls to the services behind the double end in when there is
// no moto_server to serve them.
var ErrNoMoto = errors.New("no moto_server stands behind the AWS double: run 'make setup', or name it with --moto")

// startLimit bounds the wait for moto to answer. It takes two seconds on an idle
// machine.
const startLimit = 2 * time.Minute

// once has moto do once what it would do for each request, which is a third of its work.
//
//go:embed sitecustomize.py
var once []byte

// moto is the emulator behind the double, a process of its own. It is started
// by the first request that needs it and again when it has died; its state is
// then gone. It listens on a socket in a private directory, so that nobody gets
// past the double.
type moto struct {
	path    string // of moto_server; "" for none
	log     *slog.Logger
	started func() // called for each new one, which is empty; may be nil
	runs    atomic.Int64

	transport *http.Transport
	dir       string // of the socket

	// Starting outlives the request that asked for it: a client with little
	// patience asks again and finds moto ready.
	ctx    context.Context
	cancel context.CancelFunc

	lock    sync.Mutex
	process *process
}

// process is one run of moto_server.
type process struct {
	pid  int
	gone chan struct{} // closed when it has ended and was waited for
	last *lastLines
}

// An Emulator is a moto that serves one double after the other, for tests that start
// many: a new one takes longer to start than most of them last.
type Emulator struct{ moto *moto }

// NewEmulator is started by the first double that needs it. path is of moto_server.
func NewEmulator(path string) (*Emulator, error) {
	m, err := newMoto(path, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return &Emulator{m}, nil
}

// Stop ends it. No double uses it any more.
func (e *Emulator) Stop() error { return e.moto.stop() }

// empty has moto forget everything, if it runs.
func (m *moto) empty(ctx context.Context) error {
	m.lock.Lock()
	running := m.process != nil
	m.lock.Unlock()
	if !running {
		return nil
	}
	if err := m.ready(); err != nil { // it may have died
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://moto/moto-api/reset", nil)
	if err != nil {
		return err
	}
	answer, err := m.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("emptying moto: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("emptying moto: it answers with status %d", answer.StatusCode)
	}
	return nil
}

// openMoto is the emulator behind the double, its own or the one it is given.
func (d *Double) openMoto(ctx context.Context, o Options) (*moto, error) {
	if o.Emulator != nil {
		m := o.Emulator.moto
		if err := m.empty(ctx); err != nil {
			return nil, err
		}
		d.seenRuns.Store(m.runs.Load())
		return m, nil
	}
	m, err := newMoto(o.Moto, o.Log)
	if err != nil {
		return nil, err
	}
	d.closing = append(d.closing, m.stop)
	return m, nil
}

func newMoto(path string, log *slog.Logger) (*moto, error) {
	dir, err := os.MkdirTemp("", "biplane-moto-")
	if err == nil && len(dir) > 90 { // a socket's path may have 107 bytes
		os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "biplane-moto-")
	}
	if err != nil {
		return nil, fmt.Errorf("making a directory for moto's socket: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), once, 0o600); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("making a directory for moto's socket: %w", err)
	}
	m := &moto{path: path, log: log, dir: dir}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", m.socket())
		},
		// moto closes idle connections when it likes; a request that is sent just
		// then would fail although nothing is wrong.
		DisableKeepAlives: true,
	}
	return m, nil
}

func (m *moto) socket() string { return filepath.Join(m.dir, "s") }

// ready returns once moto answers, starting it if need be.
func (m *moto) ready() error {
	if m.path == "" {
		return ErrNoMoto
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	if err := m.ctx.Err(); err != nil {
		return fmt.Errorf("the double is stopping: %w", err)
	}
	if p := m.process; p != nil {
		select {
		case <-p.gone:
			m.log.Warn("moto died and is started again, empty", "pid", p.pid)
		default:
			return nil
		}
	}
	p, err := m.start()
	if err != nil {
		return fmt.Errorf("starting moto_server %s: %w", m.path, err)
	}
	if err := m.await(m.ctx, p); err != nil {
		p.kill()
		<-p.gone
		return fmt.Errorf("starting moto_server %s: %w%s", m.path, err, p.last)
	}
	m.process = p
	m.runs.Add(1)
	if m.started != nil {
		m.started()
	}
	m.log.Info("moto is ready", "pid", p.pid)
	return nil
}

// start runs moto_server in a process group of its own. The thread that starts
// it waits for it too: the kernel kills the child when that thread ends.
func (m *moto) start() (*process, error) {
	if err := os.Remove(m.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	cmd := exec.Command(m.path, "-H", "unix://"+m.socket())
	cmd.Dir = m.dir
	cmd.Env = append(environment(), "TMPDIR="+m.dir, "PYTHONUNBUFFERED=1", "PYTHONPATH="+strings.TrimSuffix(m.dir+":"+os.Getenv("PYTHONPATH"), ":"), // for sitecustomize.py
		// CloudFormation inside moto attaches AWS's own policies.
		"MOTO_IAM_LOAD_MANAGED_POLICIES=true",
		"AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none")
	cmd.SysProcAttr = ownGroup()
	output, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = nil
	started := make(chan error, 1)
	p := &process{gone: make(chan struct{}), last: &lastLines{}}
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(output); lines.Scan(); {
			p.last.add(lines.Text())
		}
		io.Copy(io.Discard, output) // after a line too long for a Scanner
		cmd.Wait()
		close(p.gone)
	}()
	return p, <-started
}

// environment is this process's without what would change what moto does, or
// give it somebody's keys.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(one string) bool {
		for _, prefix := range []string{"AWS_", "MOTO_", "TMPDIR=", "PYTHONPATH=", "WERKZEUG_", "FLASK_"} {
			if strings.HasPrefix(one, prefix) {
				return true
			}
		}
		return false
	})
}

// await asks moto until it answers.
func (m *moto) await(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://moto/moto-api/", nil)
		if err != nil {
			return err
		}
		if answer, err := m.transport.RoundTrip(r); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.gone:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond): // between two questions, not instead of one
		}
	}
}

// kill ends the process and all that it started.
func (p *process) kill() {
	syscall.Kill(-p.pid, syscall.SIGKILL)
	syscall.Kill(p.pid, syscall.SIGKILL)
}

// stop ends moto and returns when it is gone. It keeps nothing, so it needs no
// time to say goodbye.
func (m *moto) stop() error {
	m.cancel()
	m.lock.Lock()
	defer m.lock.Unlock()
	if p := m.process; p != nil {
		p.kill()
		<-p.gone
	}
	m.transport.CloseIdleConnections()
	return os.RemoveAll(m.dir)
}

// lastLines is the end of what moto said, for when it cannot start.
type lastLines struct {
	lock  sync.Mutex
	lines []string
}

func (l *lastLines) add(line string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.lines = append(l.lines, line)
	if len(l.lines) > 5 {
		l.lines = l.lines[1:]
	}
}

func (l *lastLines) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	if len(l.lines) == 0 {
		return ""
	}
	return ": " + strings.Join(l.lines, " | ")
}
