package announce_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/access/announce"
)

// The runtime's part: it gives the event to the handler. Pauses and patience are short.
const runtime = `
import json, sys, index
alarm, sleep = index.signal.alarm, index.time.sleep
index.signal.alarm = lambda s: alarm(min(s, 1))
index.time.sleep = lambda s: None
index.handler(json.load(sys.stdin), None)
`

// invoke runs the function's text, as it is in the template, and returns what it told CloudFormation.
func (w *world) invoke(kind string, properties map[string]string) map[string]any {
	w.t.Helper()
	python, err := filepath.Abs("../../../.cache/venv/bin/python")
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.py"), []byte(announce.Function), 0o600); err != nil {
		w.t.Fatal(err)
	}
	told := map[string]any{}
	cloudformation := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPut || r.URL.Query().Get("X-Amz-Signature") != "a/b" || r.Header.Get("Content-Type") != "" || json.Unmarshal(text, &told) != nil {
			w.t.Errorf("got %s %s with %q, want a PUT of JSON to the URL that was given", r.Method, r.URL, text)
		}
	}))
	defer cloudformation.Close()
	event, err := json.Marshal(map[string]any{
		"RequestType": kind, "ResponseURL": cloudformation.URL + "/bucket/a%7Cb?X-Amz-Signature=a%2Fb", "StackId": stackID, "RequestId": "one",
		"LogicalResourceId": "Announcement", "ResourceType": "Custom::BiplaneAnnouncement", "ResourceProperties": properties,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), python, "-c", runtime)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(event)
	cmd.Env = []string{"AWS_ACCESS_KEY_ID=" + w.function.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + w.function.SecretAccessKey, "AWS_SESSION_TOKEN=" + w.function.SessionToken,
		"AWS_REGION=" + region, "PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1"}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("running the function: %v\n%s", err, out)
	}
	if told["Status"] != "SUCCESS" || told["PhysicalResourceId"] != "Announcement" || told["StackId"] != stackID || told["RequestId"] != "one" || told["LogicalResourceId"] != "Announcement" {
		w.t.Errorf("got %v told to CloudFormation, want success and the names of the event", told)
	}
	return told
}

func (w *world) properties() map[string]string {
	return map[string]string{"ServiceToken": "arn", "Url": w.url(), "Sts": "sts.eu-central-1.amazonaws.com", "RoleArn": roleARN, "ExternalId": externalID, "Profile": "strict", "PolicyVersion": "1.0.0"}
}

func said(told map[string]any) string {
	data, _ := told["Data"].(map[string]any)
	text, _ := data["Status"].(string)
	return text
}

func TestFunction(t *testing.T) {
	t.Parallel()
	t.Run("announces the role when the stack is made or changed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for _, kind := range []string{"Create", "Update"} {
			if got := said(w.invoke(kind, w.properties())); got != "200 received" {
				t.Errorf("got %q at %s, want 200 received; log:\n%s", got, kind, w.logged)
			}
		}
		if got := w.got(); len(got) != 2 || got[1].RoleARN != roleARN || got[1].ExternalIDFor != "acme" {
			t.Errorf("got %+v, want the role twice", got)
		}
	})
	t.Run("says nothing when the stack is deleted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if got := said(w.invoke("Delete", w.properties())); got != "nothing announced" || len(w.got()) != 0 {
			t.Errorf("got %q and %+v, want nothing announced", got, w.got())
		}
	})
	t.Run("never fails the stack, and says why it was not believed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		wrong := w.properties()
		wrong["ExternalId"] = "nobody-has-this"
		if got := said(w.invoke("Create", wrong)); got != "403 the external ID is not one that is expected" {
			t.Errorf("got %q, want the receiver's reason", got)
		}
		w.at.Close()
		if got := said(w.invoke("Create", w.properties())); !strings.HasPrefix(got, "not announced: ConnectionRefusedError") {
			t.Errorf("got %q, want that nobody listens", got)
		}
	})
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"follows no redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "307 "},
		"tries again when the receiver fails": {failing(2), "200 received"},
		"reads a little of the answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			io.WriteString(w, strings.Repeat("x", 1<<20))
		}, "403 " + strings.Repeat("x", 300)},
		"does not wait for ever": {func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, "not announced: TimeoutError('no answer in time')"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			receiver := httptest.NewServer(c.answer)
			defer receiver.Close()
			properties := w.properties()
			properties["Url"] = receiver.URL
			if got := said(w.invoke("Create", properties)); got != c.want {
				t.Errorf("got %.100q, want %.100q", got, c.want)
			}
		})
	}
	t.Run("fits where it has to", func(t *testing.T) {
		if n := len(announce.Function); n > 4096 || strings.ContainsAny(announce.Function, "\"\\\t") {
			t.Errorf("got %d characters, want at most 4,096 and none that JSON has to escape", n)
		}
	})
}

// failing answers 503 n times, then 200.
func failing(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if n--; n >= 0 {
			w.WriteHeader(503)
			return
		}
		io.WriteString(w, "received\n")
	}
}
