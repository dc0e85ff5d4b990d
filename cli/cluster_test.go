package cli_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	"biplane.dev/biplane/controlplane"
)

var listening = regexp.MustCompile(`msg="listening for clients" address=(\S+)`)

// startControlPlane is the transcripts' command
//
//	controlplane
//
// which starts a control plane of the transcript's own, with an empty database, and
// sets ENDPOINT to its URL, and HTTPS to that with TLS, which it does not speak.
func startControlPlane(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: controlplane")
	}
	file := ts.MkAbs("controlplane.yaml")
	ts.Check(os.WriteFile(file, []byte(`apiVersion: biplane.dev/v1alpha1
kind: ControlPlaneConfig
folder: controlplane
api: {listen: "127.0.0.1:0"}
gateway: {listen: "127.0.0.1:0"}
`), 0o600))
	ctx, stop := context.WithCancel(context.Background())
	log := &firstMatch{pattern: listening, found: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() { ended <- controlplane.Run(ctx, []string{"serve", "--config", file}, io.Discard, log) }()
	ts.Defer(func() {
		stop()
		if status, ok := <-ended; ok && status != 0 {
			ts.Fatalf("got the control plane ended with %d: %s", status, &log.text)
		}
	})
	select {
	case address := <-log.found:
		ts.Setenv("ENDPOINT", "http://"+address)
		ts.Setenv("HTTPS", "https://"+address)
	case status := <-ended:
		close(ended)
		ts.Fatalf("got the control plane ended with %d: %s", status, &log.text)
	}
}

// firstMatch keeps what is written, and tells of the pattern's group once.
type firstMatch struct {
	pattern *regexp.Regexp
	found   chan string
	text    bytes.Buffer
	told    bool
}

// Write implements io.Writer. The log's writer is called by one at a time.
func (f *firstMatch) Write(p []byte) (int, error) {
	f.text.Write(p)
	if match := f.pattern.FindSubmatch(f.text.Bytes()); match != nil && !f.told {
		f.told = true
		f.found <- string(match[1])
	}
	return len(p), nil
}
