package s3_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var versitygw = flag.String("versitygw", "", "versitygw's own executable, for TestFullFlow; see fullflow.sh")

// flow is what came of versitygw's own tests against one server.
type flow struct {
	summary string          // RAN: … PASS: … FAIL: … SKIP: …
	passes  int             // in the summary; output of tests that run at once may hide a name
	passed  map[string]bool // by test
	reason  map[string]string
}

// TestFullFlow runs versitygw's own `test full-flow` against bare versitygw and
// against the front, with the account's administrator, and prints both numbers
// and what passes only at one of them.
func TestFullFlow(t *testing.T) {
	if *versitygw == "" {
		t.Skip("NOT RUN: versitygw's own executable is not here; fullflow.sh builds it and runs this")
	}
	w := ownWorld(t)
	address := startBare(t, w)
	bare := runFullFlow(t, w, "bare", "baresecret", address)
	// These tests take the access key for the name of the buckets' owner, which is
	// the account. So the administrator has the account's number as a key here.
	w.identity.stop()
	key := filepath.Join(w.dir, "pki", "numbered.json")
	text := fmt.Sprintf(`{"id":%q,"secret":"numberedsecret"}`, account)
	if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.identity.args = append(w.identity.args, "--admin-key-file", key)
	if err := w.start(w.identity, w.sts+"/readyz"); err != nil {
		t.Fatal(err)
	}
	front := runFullFlow(t, w, account, "numberedsecret", w.s3)
	t.Logf("bare versitygw:      %s", bare.summary)
	t.Logf("the enforcing front: %s", front.summary)
	for _, one := range []struct {
		title    string
		is, than flow
	}{{"pass at the front alone", front, bare}, {"pass at bare versitygw alone", bare, front}} {
		var names []string
		for name := range one.is.passed {
			if !one.than.passed[name] {
				names = append(names, name+"\n        "+one.than.reason[name])
			}
		}
		slices.Sort(names)
		t.Logf("%d %s:\n    %s", len(names), one.title, strings.Join(names, "\n    "))
	}
	for name, why := range front.reason {
		if _, both := bare.reason[name]; both {
			t.Logf("fails at both: %s: %s", name, why)
		}
	}
	if front.passes < bare.passes {
		t.Errorf("got %d tests that pass at the front, want at least the %d of bare versitygw", front.passes, bare.passes)
	}
}

var coloured = regexp.MustCompile("\x1b\\[[0-9;]*m")

func runFullFlow(t *testing.T, w *world, access, secret, endpoint string) flow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	// It calls itself as ./versitygw.
	dir := t.TempDir()
	if err := os.Symlink(*versitygw, filepath.Join(dir, "versitygw")); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(ctx, *versitygw, "--region", region, "test", "-e", endpoint, "full-flow", "--parallel")
	command.Dir = dir
	// Nothing of this machine's own AWS configuration.
	command.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	command.Env = append(command.Env, "AWS_ACCESS_KEY_ID="+access, "AWS_SECRET_ACCESS_KEY="+secret, "SSL_CERT_FILE="+w.pki.CA())
	text, err := command.CombinedOutput() // fails when a test does
	out := flow{passed: map[string]bool{}, reason: map[string]string{}}
	for line := range strings.Lines(coloured.ReplaceAllString(string(text), "")) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "PASS "); ok {
			out.passed[name] = true
		} else if name, ok := strings.CutPrefix(line, "FAIL "); ok {
			name, why, _ := strings.Cut(name, ":")
			out.reason[name] = strings.TrimSpace(why)
		} else if strings.HasPrefix(line, "RAN: ") {
			out.summary = line
			fmt.Sscanf(line, "RAN: %d PASS: %d", new(int), &out.passes)
		}
	}
	if out.summary == "" {
		t.Fatalf("versitygw's tests against %s did not end: %v\n%s", endpoint, err, text[max(0, len(text)-4000):])
	}
	return out
}
