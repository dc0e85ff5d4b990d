package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"biplane.dev/biplane/internal/usererr"
)

// confirm shows the question on stderr and reports whether the answer was yes.
// Without somebody to ask (stdin is no terminal) it refuses and names --yes, so
// that a script never waits and never writes by accident.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	file, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return false, usererr.New(usererr.Invalid, "nobody to ask: stdin is not a terminal").
			WithHint("look at the plan above, then run the same command with --yes")
	}
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	line, err := interruptible(ctx, func() (string, error) {
		line, err := bufio.NewReader(a.In).ReadString('\n')
		if err == io.EOF { // Ctrl-D is a no
			return line, nil
		}
		return line, err
	})
	if err != nil {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// askForMFA asks for the code of the device that an AWS profile names (mfa_serial).
func (a *app) askForMFA(ctx context.Context) (string, error) {
	file, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", usererr.New(usererr.Denied, "the AWS profile asks for an MFA code, and there is nobody to ask: stdin is not a terminal").
			WithHint("run it in a terminal, or get a session with 'aws sts get-session-token' and give that")
	}
	fmt.Fprint(a.Err, "MFA code: ")
	line, err := interruptible(ctx, func() (string, error) { return bufio.NewReader(a.In).ReadString('\n') })
	if err != nil {
		return "", fmt.Errorf("reading the MFA code: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// maxInput bounds what is read of one file. IAM's largest document is 20 KB; a
// hundred times that leaves room for whitespace.
const maxInput = 2 << 20

// readInput reads one policy document from a file, or stdin where name is "-".
func (a *app) readInput(ctx context.Context, name string) ([]byte, error) {
	return a.readAtMost(ctx, name, maxInput, "policy document")
}

// readAtMost reads one file, or stdin where name is "-", that should hold what,
// and refuses more bytes than that ever has.
func (a *app) readAtMost(ctx context.Context, name string, most int64, what string) ([]byte, error) {
	from := a.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, cannotRead(name, err)
		}
		defer file.Close()
		from = file
	}
	text, err := interruptible(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(from, most+1)) })
	if err != nil {
		return nil, cannotRead(name, err)
	}
	if int64(len(text)) > most {
		return nil, usererr.New(usererr.Invalid, "%s is larger than %d bytes, which no %s is", called(name), most, what).
			WithHint("name a file with one %s", what)
	}
	return text, nil
}

// interruptible waits for a read that knows nothing of ctx. When ctx ends first,
// the read is left behind: the process is about to end.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// called is how messages name an input.
func called(name string) string {
	if name == "-" {
		return "standard input"
	}
	return fmt.Sprintf("file %q", name)
}

// cannotRead says why a file cannot be read, without the system call's name.
func cannotRead(name string, err error) error {
	said := usererr.New(usererr.NotFound, "cannot read %s", called(name))
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		said = usererr.New(usererr.NotFound, "there is no %s", called(name)).WithHint("check the path; relative paths start in the current folder")
	case errors.Is(err, fs.ErrPermission):
		said = usererr.New(usererr.Invalid, "no permission to read %s", called(name)).WithHint("make it readable for yourself, or name another file")
	case errors.As(err, &path):
		said = usererr.New(usererr.Invalid, "cannot read %s: %v", called(name), path.Err)
	}
	return said.Because(err)
}
