package awsdouble

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func signalContext() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// program is biplane-awsdouble as a process of its own.
type program struct {
	command *exec.Cmd
	env     map[string]string // what it printed
	file    string            // --env-file
	stderr  *bytes.Buffer
	ended   chan struct{}
}

// run starts the program and returns once it has written its env file.
func run(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{file: filepath.Join(t.TempDir(), "env"), stderr: &bytes.Buffer{}, env: map[string]string{}, ended: make(chan struct{})}
	p.command = exec.Command(os.Args[0], append([]string{"--env-file", p.file}, args...)...)
	p.command.Env = append(os.Environ(), "RUN_AWSDOUBLE=1")
	p.command.Stderr = p.stderr
	var stdout bytes.Buffer
	p.command.Stdout = &stdout
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.command.Process.Kill(); <-p.ended })
	go func() { p.command.Wait(); close(p.ended) }()
	eventually(t, "the env file", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("it ended at once: %s", p.stderr)
		default:
		}
		_, err := os.Stat(p.file)
		return err == nil
	})
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		p.env[name] = strings.Trim(value, "'")
	}
	return p
}

// eventually asks until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got no %s within a minute, want it", what)
		}
	}
}

func (p *program) aws(t *testing.T, args ...string) (string, error) {
	t.Helper()
	command := exec.Command(filepath.Join(python(t), "aws"), args...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	for name, value := range p.env {
		command.Env = append(command.Env, name+"="+value)
	}
	out, err := command.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// children are the processes whose parent a process is.
func children(t *testing.T, pid int) []int {
	t.Helper()
	var found []int
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		var child, parent int
		var state string
		_, rest, _ := strings.Cut(string(text), ") ")
		fmt.Sscanf(string(text), "%d", &child)
		fmt.Sscanf(rest, "%s %d", &state, &parent)
		if parent == pid {
			found = append(found, child)
		}
	}
	return found
}

func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestProgram(t *testing.T) {
	t.Parallel()
	moto := filepath.Join(python(t), "moto_server")

	t.Run("ends with SIGTERM, with status 0 and nothing left", func(t *testing.T) {
		t.Parallel()
		p := run(t, "--moto", moto)
		if out, err := p.aws(t, "ec2", "describe-vpcs"); err != nil {
			t.Fatalf("got %s, want no error", out)
		}
		behind := children(t, p.command.Process.Pid)
		if len(behind) != 1 {
			t.Fatalf("got children %v, want moto alone", behind)
		}
		if info, err := os.Stat(p.file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v of the env file, want 0600", info.Mode())
		}
		dir := filepath.Dir(p.env["AWS_CONFIG_FILE"])
		p.command.Process.Signal(syscall.SIGTERM)
		<-p.ended
		if status := p.command.ProcessState.ExitCode(); status != 0 {
			t.Errorf("got exit status %d, want 0: %s", status, p.stderr)
		}
		if alive(behind[0]) {
			t.Error("moto is still there, want it gone")
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("got %v for %s, want it removed", err, dir)
		}
		if log := p.stderr.String(); strings.Contains(log, p.env["AWS_SECRET_ACCESS_KEY"]) {
			t.Error("the log has the secret key")
		}
	})
	t.Run("takes moto along when it is killed", func(t *testing.T) {
		t.Parallel()
		p := run(t, "--moto", moto, "--dir", t.TempDir())
		if out, err := p.aws(t, "ec2", "describe-vpcs"); err != nil {
			t.Fatalf("got %s, want no error", out)
		}
		behind := children(t, p.command.Process.Pid)
		if len(behind) != 1 {
			t.Fatalf("got children %v, want moto alone", behind)
		}
		p.command.Process.Kill()
		<-p.ended
		eventually(t, "end of moto", func() bool { return !alive(behind[0]) })
	})
	t.Run("tells its clock's factor, and each call", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "calls")
		for _, one := range []struct{ args, factor string }{{"", "1000"}, {"--time=60", "60"}, {"--time=real", "1"}} {
			p := run(t, append([]string{"--call-log", file}, strings.Fields(one.args)...)...)
			if got, _, _ := strings.Cut(p.env["BIPLANE_TIME_FACTOR"], "@"); got != one.factor { // behind it is since when
				t.Errorf("with %q: got factor %s, want %s", one.args, got, one.factor)
			}
			if out, err := p.aws(t, "sts", "get-caller-identity"); err != nil {
				t.Fatal(out)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := `"principal":"arn:aws:iam::123456789012:user/administrator","action":"sts:GetCallerIdentity"`; strings.Count(string(text), want) != 3 {
			t.Errorf("got %s, want three lines with %s", text, want)
		}
	})
	t.Run("keeps objects and keys in its directory, which it has alone", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		p := run(t, "--dir", dir)
		if out, err := p.aws(t, "iam", "create-role", "--role-name", "r", "--assume-role-policy-document", trustOfEverybody); err != nil {
			t.Fatal(out)
		}
		var stderr bytes.Buffer
		if status := Run(t.Context(), []string{"--dir", dir}, Streams{Out: &bytes.Buffer{}, Err: &stderr}); status != 2 {
			t.Errorf("got status %d of a second one, want 2", status)
		}
		if got, want := stderr.String(), "biplane-awsdouble: directory "+dir+" cannot be used: another double runs on it; stop that one, or name another directory\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		p.command.Process.Signal(syscall.SIGTERM)
		<-p.ended
		again := run(t, "--dir", dir)
		if got, want := again.env["AWS_ACCESS_KEY_ID"], p.env["AWS_ACCESS_KEY_ID"]; got != want {
			t.Errorf("got key %s after a restart, want %s", got, want)
		}
		if out, err := again.aws(t, "iam", "get-role", "--role-name", "r"); err != nil {
			t.Errorf("got %s, want the role still there", out)
		}
	})
}

func TestRunRefusesBadInput(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		args []string
		want string
	}{
		"a flag that does not exist":       {[]string{"--prot", "1"}, "unknown flag: --prot"},
		"an argument":                      {[]string{"start"}, `unknown argument "start": the double takes flags only, see --help`},
		"an account of eleven digits":      {[]string{"--account", "12345678901"}, `account "12345678901" is not twelve digits`},
		"the vendor's own account":         {[]string{"--account", "479331373192"}, "account 479331373192 is the vendor's already: choose another one for the customer"},
		"a region that is none":            {[]string{"--region", "Frankfurt"}, `region "Frankfurt" is not one of AWS: write it like eu-central-1`},
		"an address of the whole network":  {[]string{"--listen", "0.0.0.0:0"}, `address "0.0.0.0:0" is not on this machine alone: the double has nothing to protect it, use 127.0.0.1`},
		"an address without a port":        {[]string{"--listen", "127.0.0.1"}, `address "127.0.0.1" cannot be listened on: write it like 127.0.0.1:4566`},
		"a fault of no kind":               {[]string{"--fault", "boom:ec2"}, `fault "boom:ec2": "boom" is none of throttle, error, lost, latency, fail, quota, scp and expired; write it as ` + FaultGrammar},
		"a fault that happens no time":     {[]string{"--fault", "lost,count=0"}, `fault "lost,count=0": count=0 cannot be used: it is no whole number above 0; write it as ` + FaultGrammar},
		"latency without a delay":          {[]string{"--fault", "latency:s3"}, `fault "latency:s3": latency needs delay=, such as delay=200ms; write it as ` + FaultGrammar},
		"negative latency":                 {[]string{"--latency", "-1s"}, "--latency and --consistency-delay cannot be negative: give a duration such as 200ms"},
		"a time that is none":              {[]string{"--time", "fast"}, `--time "fast" is neither real nor a factor from 1 to 1000000`},
		"a factor that would stand still":  {[]string{"--time", "0"}, `--time "0" is neither real nor a factor from 1 to 1000000`},
		"a call log that cannot be opened": {[]string{"--call-log", "/dev/null/x"}, "--call-log: open /dev/null/x: not a directory"},
		"a log level that does not exist":  {[]string{"--log-level", "loud"}, `--log-level "loud" is not one of debug, info, warn and error`},
		"a moto_server that is not there":  {[]string{"--moto", "/nowhere/moto_server"}, "--moto /nowhere/moto_server cannot be run: name the moto_server of an environment that has moto installed"},
		"a directory that cannot be made":  {[]string{"--dir", "/dev/null/x"}, "directory /dev/null/x cannot be made: mkdir /dev/null: not a directory"},
		"keys without an issuer":           {[]string{"--web-identity", "keys.json"}, `--web-identity "keys.json" is not ISSUER=FILE`},
		"a vendor profile that is nowhere": {[]string{"--vendor-profile", "/nowhere.yaml"}, "cannot read the vendor profile /nowhere.yaml: no such file or directory\nhint: name a file that you can read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // it would end at once if it started
			if status := Run(ctx, one.args, Streams{Out: &out, Err: &errs}); status != 2 {
				t.Errorf("got status %d, want 2", status)
			}
			if got, want := errs.String(), "biplane-awsdouble: "+one.want+"\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if out.Len() > 0 {
				t.Errorf("got %q on standard output, want nothing", out.String())
			}
		})
	}
}
