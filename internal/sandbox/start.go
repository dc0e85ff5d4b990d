package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

// Program is the executable of the supervisor and of every component.
const Program = "biplane-sandbox"

// FindProgram returns the executable that lies beside the running one, or is
// on PATH.
func FindProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), Program)
			if info, err := os.Stat(beside); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
				return beside, nil
			}
		}
	}
	found, err := exec.LookPath(Program)
	if err != nil {
		return "", usererr.New(usererr.NotFound, "there is no %s beside biplane, nor on PATH", Program).
			WithHint("run 'make build', which makes both").Because(err)
	}
	return filepath.Abs(found)
}

// Supervisor is how one is started.
type Supervisor struct {
	Program    string   // from FindProgram
	Folder     Folder   //
	Options    Options  // what was asked for; the rest is as at the last up
	Fresh      bool     // deletes what the sandbox held
	VirtualEnv string   // the Python environment that is active now; "" for none
	Foreground bool     // it ends when the starting program does; else it is a daemon
	Env        []string // the caller's, os.Environ(); only what handedOn names goes further
}

// handedOn are the variables that reach the supervisor and the components. The
// rest of a person's environment has no business there: proxies would catch
// what goes to the loopback, and keys of AWS would be given to pods.
var handedOn = []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"}

func environment(callers []string) []string {
	var env []string
	for _, variable := range callers {
		if name, _, _ := strings.Cut(variable, "="); slices.Contains(handedOn, name) {
			env = append(env, variable)
		}
	}
	return env
}

// Args is its command line: `biplane-sandbox supervise …`.
func (s Supervisor) Args() []string {
	args := []string{"supervise", "--dir", string(s.Folder)}
	set := func(flag, value string) {
		if value != "" {
			args = append(args, flag+"="+value)
		}
	}
	set("--node", string(s.Options.Node))
	if s.Options.Nodes != 0 {
		set("--nodes", strconv.Itoa(s.Options.Nodes))
	}
	set("--python", s.Options.Python)
	set("--only", strings.Join(s.Options.Only, ","))
	if s.Options.AuditLog != nil {
		set("--audit-log", strconv.FormatBool(*s.Options.AuditLog))
	}
	if s.Options.FixedPorts != nil {
		set("--fixed-ports", strconv.FormatBool(*s.Options.FixedPorts))
	}
	set("--virtual-env", s.VirtualEnv)
	if s.Fresh {
		args = append(args, "--fresh")
	}
	if s.Foreground {
		args = append(args, "--foreground")
	}
	return args
}

// Running is a supervisor that was started and answers.
type Running struct {
	command *exec.Cmd
}

// Start starts the supervisor, and returns once it answers on its socket, or
// with its reason for not running: an error for a person. ErrLocked is in it
// when another supervisor has the sandbox, which is one to join.
//
// The components come up after that; see Client.Events.
func (s Supervisor) Start(ctx context.Context) (*Running, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe to the supervisor: %w", err)
	}
	defer reader.Close()
	command := exec.Command(s.Program, append(s.Args(), "--report-fd=3")...)
	command.ExtraFiles = []*os.File{writer}
	command.Env = environment(s.Env)
	command.Dir = "/" // so that it keeps no file system busy
	// Of a session of its own: Ctrl-C and a closed terminal are for who started
	// it, to pass on or not.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = command.Start()
	writer.Close()
	if err != nil {
		return nil, usererr.New(usererr.Unavailable, "cannot run %s: %v", s.Program, reason(err)).
			WithHint("run 'make build' again").Because(err)
	}
	stop := context.AfterFunc(ctx, func() { command.Process.Signal(syscall.SIGTERM) })
	defer stop()
	report, err := io.ReadAll(io.LimitReader(reader, 1<<20))
	var refusal Refusal
	if err == nil {
		err = json.Unmarshal(report, &refusal)
	}
	switch {
	case err != nil:
		ended := command.Wait()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, usererr.New(usererr.Unavailable, "the supervisor ended at once: %v", ended).
			WithHint("see %s", s.Folder.Log("supervisor")).Because(err)
	case refusal.Error == "":
		return &Running{command: command}, nil
	}
	command.Wait() // it said why
	err = refusal.err()
	if refusal.Error == ErrLocked.Error() {
		err = ErrLocked
	}
	return nil, err
}

// Stop asks the supervisor to take everything down. Wait returns when it has.
func (r *Running) Stop() { r.command.Process.Signal(syscall.SIGTERM) }

// Wait waits for the supervisor's end, for one in the foreground.
func (r *Running) Wait() error {
	if err := r.command.Wait(); err != nil {
		return fmt.Errorf("the supervisor: %w", err)
	}
	return nil
}

// Up starts the sandbox, or joins one that is up, and tells the events until it
// is ready. The second result is nil when it joined.
func (s Supervisor) Up(ctx context.Context, tell func(Event)) (*Running, error) {
	client := Dial(s.Folder)
	// Again and again for a while: a supervisor that is about to go, or has only
	// just been started by another up, has the lock and does not answer.
	for wait := time.After(10 * time.Second); ; {
		err := s.join(ctx, client)
		if err == nil {
			return nil, client.Events(ctx, tell)
		}
		if !errors.Is(err, ErrNotUp) {
			return nil, err
		}
		running, err := s.Start(ctx)
		if err == nil {
			return running, client.Events(ctx, tell)
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		select {
		case <-wait:
			return nil, usererr.New(usererr.Unavailable, "another supervisor has sandbox %s, and does not answer", s.Folder.Name()).
				WithHint("wait for it to end, or look for a process called '%s supervise'", Program)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s Supervisor) join(ctx context.Context, client *Client) error {
	if s.Fresh && client.running() {
		return usererr.New(usererr.Refused, "sandbox %s is up, so it cannot be started afresh", s.Folder.Name()).
			WithHint("run 'biplane sandbox down' first")
	}
	return client.Join(ctx, s.Options)
}
