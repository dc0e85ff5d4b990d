package kubectl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var jumperLogs = flag.Int("jumper-logs", 64, "how many MB of logs, in portions of 4, TestJumper reads through biplane-jumper")

// jumperName is what kubectl asks the jumper for: a name in the API server's
// certificate, as the host name of an EKS endpoint is.
const jumperName = "kubernetes.default.svc"

// jumper starts biplane-jumper in front of the API server, and returns what kubectl
// has to be told to go through it, and a function that asks it to end and returns
// the lines of its connections.
func jumper(t *testing.T) (through []string, end func() []map[string]any) {
	t.Helper()
	server, err := url.Parse(status.Kubernetes.Server)
	if err != nil {
		t.Fatal(err)
	}
	ca := must(t, "default", "", "config", "view", "--raw", "--output", "jsonpath={.clusters[0].cluster.certificate-authority-data}")
	cmd := exec.Command(filepath.Join(filepath.Dir(biplane), "biplane-jumper"), "--upstream", "localhost", "--upstream-port", server.Port(),
		"--listen", "127.0.0.1:0", "--ready", "127.0.0.1:0", "--sni", "eks.example.test,"+jumperName, "--ca-data", ca, "--drain", "30s")
	var out strings.Builder
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: want it made by 'make build'", err)
	}
	said := bufio.NewReader(stderr)
	first, _ := said.ReadBytes('\n')
	var listening struct{ Listen, Ready string }
	if err := json.Unmarshal(first, &listening); err != nil || listening.Listen == "" {
		rest, _ := io.ReadAll(said)
		t.Fatalf("got %s%s, want where it listens", first, rest)
	}
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(io.Discard, said) }()
	ended := false
	end = func() []map[string]any {
		ended = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("got %v of the jumper, want exit status 0", err)
		}
		var lines []map[string]any
		for text := range strings.Lines(out.String()) {
			var line map[string]any
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Errorf("got %q, want a connection: %v", text, err)
			}
			lines = append(lines, line)
		}
		return lines
	}
	t.Cleanup(func() {
		if !ended {
			end()
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get("http://" + listening.Ready + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("got a jumper that is not ready for a minute")
		}
	}
	return []string{"--server", "https://" + listening.Listen, "--tls-server-name", jumperName}, end
}

// TestJumper types what an operator types at a private cluster: through
// biplane-jumper, which sees none of it.
func TestJumper(t *testing.T) {
	t.Parallel()
	through, end := jumper(t)
	typed := func(args ...string) []string { return append(through[:len(through):len(through)], args...) }
	ns := namespace(t, "jumper", `
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "host.example/sh:1", command: [sh, -c, 'exec sleep 10000']}
`)
	must(t, ns, "", typed("wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")...)

	t.Run("all of it", func(t *testing.T) { // ends with the last one
		t.Run("it runs a command, with its streams and exit code", func(t *testing.T) {
			t.Parallel()
			got := k(t, ns, "typed", typed("exec", "-i", "talker", "--", "sh", "-c", "cat; echo bad >&2; exit 7")...)
			if got.out != "typed" || got.code != 7 || !strings.Contains(got.err, "bad") {
				t.Errorf("got %+v, want what was typed, and exit code 7", got)
			}
		})

		t.Run("it attaches to what runs", func(t *testing.T) {
			t.Parallel()
			must(t, ns, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"reader"},"spec":{"terminationGracePeriodSeconds":0,"restartPolicy":"Never",
				"containers":[{"name":"c","image":"host.example/sh:1","stdin":true,"stdinOnce":true,"command":["sh","-c","while read line; do echo got $line; done"]}]}}`, typed("apply", "--filename=-")...)
			must(t, ns, "", typed("wait", "--for=condition=Ready", "pod/reader", "--timeout=60s")...)
			if got := k(t, ns, "typed\n", typed("attach", "-i", "reader")...); got.code != 0 || !strings.Contains(got.out, "got typed\n") {
				t.Errorf("got %+v, want what was typed", got)
			}
		})

		t.Run("it copies a file there and back", func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			data := make([]byte, 10<<20)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
			if err := os.WriteFile(filepath.Join(dir, "there"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			must(t, ns, "", typed("cp", filepath.Join(dir, "there"), "talker:copied")...)
			must(t, ns, "", typed("cp", "talker:copied", filepath.Join(dir, "back"))...)
			if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || !bytes.Equal(back, data) {
				t.Errorf("got %d other bytes, %v, want what was copied there", len(back), err)
			}
		})

		t.Run("it forwards a port", func(t *testing.T) {
			t.Parallel()
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "from the pod") })) // pods share the machine's network
			defer web.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := kubectlIn(ctx, ns, typed("port-forward", "pod/talker", ":"+web.URL[strings.LastIndex(web.URL, ":")+1:])...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = cmd.Wait() }()
			first, _ := bufio.NewReader(out).ReadString('\n')
			local := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindStringSubmatch(first)
			if local == nil {
				t.Fatalf("got %q, want an address", first)
			}
			for range 3 {
				answer, err := http.Get("http://127.0.0.1:" + local[1] + "/")
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil || string(body) != "from the pod" {
					t.Errorf("got %q, %v, want what the pod serves", body, err)
				}
			}
		})

		t.Run("it watches", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := kubectlIn(ctx, ns, typed("get", "configmaps", "--field-selector", "metadata.name=seen", "--watch", "--output-watch-events", "--no-headers")...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = cmd.Wait() }()
			lines := bufio.NewReader(out)
			for _, change := range []struct {
				args []string
				want string
			}{
				{[]string{"create", "configmap", "seen"}, "ADDED"},
				{[]string{"label", "configmap", "seen", "a=b"}, "MODIFIED"},
				{[]string{"delete", "configmap", "seen"}, "DELETED"},
			} {
				must(t, ns, "", typed(change.args...)...)
				if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, change.want) {
					t.Errorf("got %q, %v, want %s", line, err, change.want)
				}
			}
		})

		t.Run("it reads logs, every line", func(t *testing.T) {
			t.Parallel()
			// Numbered lines of 100 bytes, 4 MB at a time: a log is rotated at 10 MiB, and
			// who follows it must not be two files behind.
			const portion = 40000
			portions := max(*jumperLogs/4, 1)
			must(t, ns, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"writer"},"spec":{"restartPolicy":"Never","terminationGracePeriodSeconds":0,
				"volumes":[{"name":"data","emptyDir":{}}],"containers":[{"name":"c","image":"host.example/sh:1","volumeMounts":[{"name":"data","mountPath":"/data"}],"command":["sh","-c",
				"i=0; while [ $i -lt %d ]; do until [ -e /data/$i ]; do sleep 0.01; done; seq -f %%099.0f $((i*%d+1)) $(((i+1)*%d)); i=$((i+1)); done"]}]}}`, portions, portion, portion), typed("apply", "--filename=-")...)
			must(t, ns, "", typed("wait", "--for=condition=Ready", "pod/writer", "--timeout=60s")...)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			cmd := kubectlIn(ctx, ns, typed("logs", "--follow", "writer")...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			log := bufio.NewReaderSize(out, 1<<20)
			began := time.Now()
			for i := range portions {
				must(t, ns, "", typed("exec", "writer", "--", "touch", fmt.Sprintf("/data/%d", i))...)
				for n := i*portion + 1; n <= (i+1)*portion; n++ {
					if line, err := log.ReadString('\n'); err != nil || line != fmt.Sprintf("%099d\n", n) {
						t.Fatalf("got %q, %v, want line %d", line, err, n)
					}
				}
			}
			rest, err := io.ReadAll(log)
			if ended := cmd.Wait(); err != nil || ended != nil || len(rest) > 0 {
				t.Errorf("got %q, %v, %v behind the last line, want the end", rest, err, ended)
			}
			took := time.Since(began).Seconds()
			t.Logf("%d MB of logs in %.1f s, %.0f MB/s", *jumperLogs, took, float64(*jumperLogs)/took)
		})
	})

	var received float64
	closed := map[any]int{}
	for _, line := range end() {
		closed[line["reason"]]++
		if line["sni"] != jumperName || line["upstream"] == "" {
			t.Errorf("got %v, want a connection for %s", line, jumperName)
		}
		received += line["bytesOut"].(float64)
	}
	if want := float64(*jumperLogs) * 1e6; received < want {
		t.Errorf("got %.0f bytes passed to clients, want %.0f of logs and more", received, want)
	}
	t.Logf("connections by reason: %v", closed)
}
