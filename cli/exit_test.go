package cli_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"biplane.dev/biplane/cli"
)

func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
	}{
		{"ends a command that waits for its input", []string{"access", "lint", "-"}},
		{"ends a command that waits for one of its documents", []string{"access", "explain", "s3:GetObject", "--document", "-"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			input, typing := io.Pipe()
			defer typing.Close()
			var out, errs bytes.Buffer
			status := make(chan int, 1)
			go func() { status <- cli.Run(ctx, c.args, cli.Streams{In: input, Out: &out, Err: &errs}) }()

			// It has begun to read once it takes the first byte.
			if _, err := typing.Write([]byte("{")); err != nil {
				t.Fatal(err)
			}
			interrupt()
			if got := <-status; got != 2 {
				t.Errorf("got exit status %d, want 2", got)
			}
			want := "biplane: interrupted; run the same command again to finish\n"
			if errs.String() != want || out.Len() > 0 {
				t.Errorf("got %q on stderr and %q on stdout, want %q alone", errs.String(), out.String(), want)
			}
		})
	}
}
