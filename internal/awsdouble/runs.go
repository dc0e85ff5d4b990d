package awsdouble

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// bootstrap is the part of Lambda's runtime that a function sees.
const bootstrap = `
import importlib, json, os, sys, time
sys.path.insert(0, os.getcwd())
class Context:
    end = time.time() + float(os.environ['AWS_LAMBDA_FUNCTION_TIMEOUT'])
    function_name = os.environ['AWS_LAMBDA_FUNCTION_NAME']
    aws_request_id = sys.argv[2]
    def get_remaining_time_in_millis(self):
        return max(0, int(1000 * (self.end - time.time())))
module, name = sys.argv[1].rsplit('.', 1)
getattr(importlib.import_module(module.replace('/', '.')), name)(json.load(sys.stdin), Context())
`

// Bounds of what a function may bring and write.
const (
	maxUnzipped = 4 << 20
	maxFunction = 1 << 20 // of a run's output
)

// errNoFunctions is a double that was given no Python.
var errNoFunctions = errors.New("the AWS double runs no functions: start it with --lambda-python PATH")

// start has a function handle an event, as its role, in a process of this machine. The
// channel is closed when the process has ended. The lock is held.
func (l *lambdas) start(f *function, event []byte) (ended <-chan struct{}, err error) {
	if l.python == "" {
		return nil, lambdaError(502, "ServiceException", "%s", errNoFunctions)
	}
	if l.stopping {
		return nil, lambdaError(503, codeUnavailable, "The AWS double is stopping.")
	}
	one := *f
	done := make(chan struct{})
	l.running.Go(func() {
		defer close(done)
		runtime.LockOSThread() // the kernel ends the child with the thread that started it
		if err := l.run(&one, event); err != nil {
			l.double.log.Warn("function failed", "function", one.ARN, "error", err)
		}
	})
	return done, nil
}

// run is start, from the process's beginning to its end.
func (l *lambdas) run(f *function, event []byte) error {
	key, err := l.double.identity.Session(f.Role, f.Name, time.Hour)
	if err != nil {
		return fmt.Errorf("assuming the role of a function: %w", err)
	}
	dir, err := os.MkdirTemp(l.double.dir, "function-")
	if err != nil {
		return fmt.Errorf("making the folder of a function: %w", err)
	}
	defer os.RemoveAll(dir)
	files, err := filesOf(f.Code)
	if err != nil {
		return err
	}
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, content, 0o600)); err != nil {
			return fmt.Errorf("writing the code of a function: %w", err)
		}
	}
	log, err := os.OpenFile(filepath.Join(l.double.dir, "function-"+f.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log of a function: %w", err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(l.life, time.Duration(f.Timeout)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.python, "-I", "-B", "-c", bootstrap, f.Handler, newRequestID())
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(event)
	output := &bounded{to: log, left: maxFunction}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + dir, "TZ=UTC", "LANG=C.UTF-8",
		"AWS_ACCESS_KEY_ID=" + key.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + key.SecretAccessKey, "AWS_SESSION_TOKEN=" + key.SessionToken,
		"AWS_REGION=" + f.Region, "AWS_DEFAULT_REGION=" + f.Region, "AWS_ENDPOINT_URL=" + l.double.url, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_LAMBDA_FUNCTION_NAME=" + f.Name, fmt.Sprintf("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%d", f.Memory), fmt.Sprintf("AWS_LAMBDA_FUNCTION_TIMEOUT=%d", f.Timeout),
	}
	for name, value := range f.Variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it was ended after %d seconds: %w", f.Timeout, ctx.Err())
		}
		return fmt.Errorf("running a function, see %s: %w", log.Name(), err)
	}
	return nil
}

// filesOf are the files of a zip, by name.
func filesOf(code []byte) (map[string][]byte, error) {
	archive, err := zip.NewReader(bytes.NewReader(code), int64(len(code)))
	if err != nil {
		return nil, err
	}
	files, left := map[string][]byte{}, int64(maxUnzipped)
	for _, file := range archive.File {
		if !filepath.IsLocal(filepath.FromSlash(file.Name)) {
			return nil, fmt.Errorf("the name %q leads out of the archive", file.Name)
		}
		if file.FileInfo().IsDir() {
			continue
		}
		content, err := file.Open()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(content, left+1))
		content.Close()
		if left -= int64(len(text)); err != nil || left < 0 {
			return nil, errors.Join(err, fmt.Errorf("it has more than %d bytes", maxUnzipped))
		}
		files[file.Name] = text
	}
	return files, nil
}

// bounded throws away what is too much.
type bounded struct {
	to   io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	part := p[:min(len(p), b.left)]
	b.left -= len(part)
	if _, err := b.to.Write(part); err != nil {
		return 0, err
	}
	return len(p), nil
}
