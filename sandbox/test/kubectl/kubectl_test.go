// Package kubectl types what a person types at a sandbox's process node, with
// the unmodified kubectl, and reads what comes back: logs, exec, attach, cp,
// port-forward, run, debug, Services. Where the words of a refusal are a real
// cluster's, they are compared.
//
// It is not for what pods do, which is package pods.
package kubectl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"biplane.dev/biplane/internal/sandbox"
)

var (
	bin   = flag.String("bin", "../../../bin", "folder of biplane and biplane-sandbox")
	tools = flag.String("tools", "../../../.cache/bin", "folder of kubectl")
)

// The one sandbox of all tests.
var (
	biplane, kubectl string
	status           sandbox.Status
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withSandbox(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withSandbox(run func() int) (code int, err error) {
	if biplane, err = filepath.Abs(filepath.Join(*bin, "biplane")); err != nil {
		return 0, err
	}
	if kubectl, err = filepath.Abs(filepath.Join(*tools, "kubectl")); err != nil {
		return 0, err
	}
	for _, program := range []string{biplane, biplane + "-sandbox", kubectl} {
		if _, err := os.Stat(program); err != nil {
			return 0, fmt.Errorf("got no %s, want it made by 'make build setup'", program)
		}
	}
	dir, err := os.MkdirTemp("", "kubectl")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	command := func(args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, biplane, append(append([]string{"sandbox"}, args...), "--dir", dir, "--name", "kubectl")...)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("biplane sandbox %s: %w: %s", strings.Join(args, " "), err, &said)
		}
		return out, nil
	}
	defer func() {
		if _, down := command("down", "--purge"); down != nil && err == nil {
			err = down
		}
	}()
	for _, args := range [][]string{
		{"up", "--only", "kubernetes,node"},
		{"image", "map", "host.example/*", "host"},
	} {
		if _, err := command(args...); err != nil {
			return 0, err
		}
	}
	out, err := command("status", "--output", "json")
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return 0, err
	}
	return run(), nil
}

// kubectlIn is a kubectl of one namespace, which is to be run.
func kubectlIn(ctx context.Context, namespace string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, kubectl, args...)
	cmd.Args = append(cmd.Args[:1:1], append([]string{"--namespace", namespace}, args...)...)
	cmd.Env = []string{"KUBECONFIG=" + status.Kubernetes.Kubeconfig, "PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "KUBECACHEDIR=" + filepath.Join(filepath.Dir(status.Dir), "cache")}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// result is what a command came to: both its streams, and its exit code.
type result struct {
	out, err string
	code     int
}

// k types a command of kubectl.
func k(t *testing.T, namespace, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := kubectlIn(ctx, namespace, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("kubectl %s: got no end within a minute: %s%s", strings.Join(args, " "), &out, &said)
	}
	return result{out.String(), said.String(), cmd.ProcessState.ExitCode()}
}

// must types a command that has to go well.
func must(t *testing.T, namespace, stdin string, args ...string) string {
	t.Helper()
	r := k(t, namespace, stdin, args...)
	if r.code != 0 {
		t.Fatalf("kubectl %s: got %+v, want it done", strings.Join(args, " "), r)
	}
	return r.out
}

// namespace makes one for a test.
func namespace(t *testing.T, name, objects string) string {
	t.Helper()
	must(t, name, "", "create", "namespace", name)
	t.Cleanup(func() {
		cmd := kubectlIn(context.Background(), name, "delete", "namespace", name, "--wait=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("deleting namespace %s: %v: %s", name, err, out)
		}
	})
	if objects != "" {
		must(t, name, objects, "apply", "--filename=-")
	}
	return name
}

// like fails unless text matches a pattern as a whole.
func like(t *testing.T, what, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(`^(?s:` + pattern + `)$`).MatchString(text) {
		t.Errorf("%s: got %q, want what matches %q", what, text, pattern)
	}
}

const talkers = `
apiVersion: v1
kind: Pod
metadata: {name: talker, labels: {app: talker}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: host.example/sh:1
    command: [sh, -c, 'for i in 1 2 3; do echo out $i; done; echo bad >&2; exec sleep 1000']
  - name: side
    image: host.example/sh:1
    command: [sh, -c, 'echo side; exec sleep 1000']
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "host.example/sh:1", command: [sh, -c, 'if [ -e /data/was ]; then echo second; exec sleep 1000; fi; touch /data/was; echo first; exit 3'], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec:
  containers: [{name: c, image: "nowhere.example/x:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "host.example/sh:1", command: [sh, -c, 'echo bye']}]
`

func TestKubectl(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "talk", talkers)
	must(t, ns, "", "wait", "--for=condition=Ready", "pod/talker", "--timeout=300s")
	must(t, ns, "", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=300s")
	must(t, ns, "", "wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/again", "--timeout=300s")
	must(t, ns, "", "wait", "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff", "pod/unknown", "--timeout=300s")
	must(t, ns, "", "wait", "--for=condition=Ready", "pod/again", "--timeout=300s")

	for _, c := range []struct {
		name, stdin string
		args        []string
		code        int
		out, err    string // patterns
	}{
		{"shows the log of the first container", "", []string{"logs", "talker"}, 0, "(out 1\nout 2\nout 3\nbad\n|.*bad\n.*)", "Defaulted container.*"},
		{"shows the last lines", "", []string{"logs", "talker", "-c", "side", "--tail=1"}, 0, "side\n", ""},
		{"shows all containers", "", []string{"logs", "talker", "--all-containers"}, 0, "(?:.*out 3\n.*side\n|side\n.*out 3\n.*)", ""}, // kubectl takes them in any order
		{"shows whose line it is", "", []string{"logs", "-l", "app=talker", "--all-containers", "--prefix"}, 0, `.*\[pod/talker/side\] side\n.*`, ""},
		{"shows when", "", []string{"logs", "talker", "-c", "side", "--timestamps"}, 0, `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z side\n`, ""},
		{"shows nothing older than asked for", "", []string{"logs", "done", "--since-time=2099-01-01T00:00:00Z"}, 0, "", ""},
		{"shows the attempt before", "", []string{"logs", "again", "-c", "c", "--previous"}, 0, "first\n", ""},
		{"shows the attempt that is", "", []string{"logs", "again", "-c", "c"}, 0, "second\n", ""},
		{"shows the log of a pod that has ended, and ends when it is followed", "", []string{"logs", "--follow", "done"}, 0, "bye\n", ""},
		{"says that there was no attempt before", "", []string{"logs", "talker", "-c", "side", "--previous"}, 1, "",
			`Error from server \(BadRequest\): previous terminated container "side" in pod "talker" not found\n`},
		{"says that the image is not there", "", []string{"logs", "unknown"}, 1, "",
			`Error from server \(BadRequest\): container "c" in pod "unknown" is waiting to start: (image can't be pulled|trying and failing to pull image)\n`},
		{"says that there is no such container", "", []string{"logs", "talker", "-c", "nope"}, 1, "", "error: container nope is not valid for pod talker\n"},

		{"runs a command with its streams apart and its exit code", "", []string{"exec", "talker", "-c", "main", "--", "sh", "-c", "echo o; echo e >&2; exit 7"}, 7, "o\n", "e\ncommand terminated with exit code 7\n"},
		{"hands standard input to a command", "typed", []string{"exec", "-i", "talker", "-c", "main", "--", "cat"}, 0, "typed", ""},
		{"says that there is no such program", "", []string{"exec", "talker", "-c", "main", "--", "nope"}, 1, "", `error: .*exec: "nope": executable file not found in \$PATH.*`},
		{"says that a container does not run", "", []string{"exec", "unknown", "--", "true"}, 1, "", `error: .*container not found \("c"\)\n`},
		{"runs no command in a pod that has ended", "", []string{"exec", "done", "--", "true"}, 1, "", "error: cannot exec into a container in a completed pod; current phase is Succeeded\n"},
		{"forwards no port of a pod that does not run", "", []string{"port-forward", "unknown", "0:80"}, 1, "", "error: unable to forward port because pod is not running. Current status=Pending\n"},
		{"runs a pod on standard input and removes it", "echo hello $((40+2))\n", []string{"run", "typed", "--image=host.example/sh:1", "--rm", "-i", "--restart=Never", "--quiet", "--command", "--", "sh"}, 0, "(?:hello 42\n|.*hello 42\n.*)", ".*"},
		{"says in which words metrics are missing", "", []string{"top", "pod"}, 1, "", "error: Metrics API not available\n"},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			got := k(t, ns, c.stdin, c.args...)
			if got.code != c.code {
				t.Errorf("got %+v, want exit code %d", got, c.code)
			}
			like(t, "stdout", got.out, c.out)
			like(t, "stderr", got.err, c.err)
		})
	}

	t.Run("it describes a pod with its events", func(t *testing.T) {
		t.Parallel()
		out := must(t, ns, "", "describe", "pod", "talker")
		for _, want := range []string{"Status:           Running", "Container ID:  process://", "Successfully assigned talk/talker", "Started container main", "Created container: side"} {
			if !strings.Contains(out, want) {
				t.Errorf("got no %q in:\n%s", want, out)
			}
		}
	})

	t.Run("it follows a log while the container writes", func(t *testing.T) {
		t.Parallel()
		must(t, ns, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"ticker"},"spec":{"restartPolicy":"Never","terminationGracePeriodSeconds":0,
			"containers":[{"name":"c","image":"host.example/sh:1","stdin":true,"stdinOnce":true,"command":["sh","-c","echo ready; while read line; do echo got $line; done; echo end"]}]}}`, "apply", "--filename=-")
		must(t, ns, "", "wait", "--for=condition=Ready", "pod/ticker", "--timeout=300s")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		follower := kubectlIn(ctx, ns, "logs", "--follow", "ticker")
		lines, err := follower.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := follower.Start(); err != nil {
			t.Fatal(err)
		}
		expect := func(want string) {
			t.Helper()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(lines, got); err != nil || string(got) != want {
				t.Fatalf("got %q and %v, want %q", got, err, want)
			}
		}
		expect("ready\n")
		// Attached, the program reads what is typed; what it says is logged.
		attached := k(t, ns, "one\ntwo\n", "attach", "--stdin", "ticker")
		if attached.code != 0 {
			t.Errorf("attach: got %+v, want exit code 0", attached)
		}
		expect("got one\ngot two\nend\n")
		if err := follower.Wait(); err != nil {
			t.Errorf("got %v, want an end of the log with the container", err)
		}
	})

	t.Run("it copies a file there and back", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		sent := bytes.Repeat([]byte("0123456789abcdef\n"), 1<<16)
		if err := os.WriteFile(filepath.Join(dir, "sent"), sent, 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, ns, "", "cp", filepath.Join(dir, "sent"), "talker:/tmp/file", "-c", "main")
		must(t, ns, "", "cp", "talker:/tmp/file", filepath.Join(dir, "back"), "-c", "main")
		back, err := os.ReadFile(filepath.Join(dir, "back"))
		if err != nil || !bytes.Equal(back, sent) {
			t.Errorf("got %d bytes and %v, want the %d that were sent", len(back), err, len(sent))
		}
	})

	t.Run("it gives a command a terminal of the person's size", func(t *testing.T) {
		t.Parallel()
		out, code := terminal(t, ns, func(screen *screen) {
			screen.await("# |\\$ ")
			screen.say("echo [$(stty size)] [$TERM]; exit 5\n")
		}, "exec", "-it", "talker", "-c", "main", "--", "sh")
		if !strings.Contains(out, "[33 77] [xterm]") || code != 5 {
			t.Errorf("got %q and exit code %d, want [33 77] [xterm] and 5", out, code)
		}
	})

	t.Run("it debugs a pod by a container of its own", func(t *testing.T) {
		t.Parallel()
		out, code := terminal(t, ns, func(screen *screen) {
			screen.await("enter|# |\\$ ")
			screen.say("echo here $((40+2))\nexit\n")
			screen.await("here 42")
		}, "debug", "-it", "again", "--image=host.example/sh:1", "--profile=general", "--", "sh")
		if code != 0 {
			t.Errorf("got %q and exit code %d, want 0", out, code)
		}
	})
}

// screen is what a person sees and types.
type screen struct {
	t    *testing.T
	tty  *os.File
	seen bytes.Buffer
}

func (s *screen) say(text string) {
	if _, err := io.WriteString(s.tty, text); err != nil {
		s.t.Error(err)
	}
}

// await reads until a pattern is seen.
func (s *screen) await(pattern string) {
	want := regexp.MustCompile(pattern)
	chunk := make([]byte, 4096)
	for !want.Match(s.seen.Bytes()) {
		n, err := s.tty.Read(chunk)
		s.seen.Write(chunk[:n])
		if err != nil {
			s.t.Errorf("got %q and %v, want %s", s.seen.String(), err, pattern)
			return
		}
	}
}

// terminal types kubectl in a terminal of 33 lines and 77 columns.
func terminal(t *testing.T, namespace string, person func(*screen), args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := kubectlIn(ctx, namespace, args...)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	s := &screen{t: t, tty: tty}
	person(s)
	io.Copy(&s.seen, tty) // up to the end of kubectl, which a terminal reports as an error
	if err := cmd.Wait(); err != nil && ctx.Err() != nil {
		t.Errorf("got no end within a minute: %q", s.seen.String())
	}
	return s.seen.String(), cmd.ProcessState.ExitCode()
}

const shop = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: host.example/python:1
    command: [python3, -u, -c, "import http.server;
      s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler);
      print(s.server_port);
      s.serve_forever()"]
    workingDir: /tmp
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "host.example/python:1", command: [sleep, "1000"]}]
`

func TestServices(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "shop", shop)
	must(t, ns, "", "wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=300s")
	port := strings.TrimSpace(eventually(t, "port in the log", func() string { return must(t, ns, "", "logs", "web") }))
	must(t, ns, fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"front"},"spec":{"selector":{"app":"web"},"ports":[{"port":18080,"targetPort":%s}]}}`, port), "apply", "--filename=-")

	t.Run("it answers on its address from outside of pods", func(t *testing.T) {
		ip := must(t, ns, "", "get", "service", "front", "--output=jsonpath={.spec.clusterIP}")
		eventually(t, "answer at "+ip, func() string {
			answer, err := http.Get("http://" + ip + ":18080/")
			if err != nil {
				return ""
			}
			answer.Body.Close()
			return answer.Status
		})
	})
	for _, name := range []string{"front", "front.shop", "front.shop.svc", "front.shop.svc.cluster.local"} {
		t.Run("it answers by the name "+name+" in a pod that was there before it", func(t *testing.T) {
			eventually(t, "answer", func() string {
				return k(t, ns, "", "exec", "client", "--", "python3", "-c", "import urllib.request as u; print(u.urlopen('http://"+name+":18080/').status)").out
			})
		})
	}
	t.Run("it is forwarded by kubectl port-forward", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := kubectlIn(ctx, ns, "port-forward", "pod/web", ":"+port)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cancel()
		first := make([]byte, 200)
		n, err := out.Read(first)
		if err != nil {
			t.Fatal(err)
		}
		local := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindSubmatch(first[:n])
		if local == nil {
			t.Fatalf("got %q, want an address", first[:n])
		}
		answer, err := http.Get("http://127.0.0.1:" + string(local[1]) + "/")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("got %s, want 200", answer.Status)
		}
	})
	t.Run("it makes no event of warning", func(t *testing.T) {
		if out := must(t, ns, "", "get", "events", "--field-selector=type=Warning,involvedObject.kind=Service", "--output=name"); out != "" {
			t.Errorf("got %s, want none", must(t, ns, "", "get", "events"))
		}
	})
	t.Run("it no longer answers once its pod is gone", func(t *testing.T) {
		must(t, ns, "", "delete", "pod", "web")
		eventually(t, "refusal", func() string {
			return k(t, ns, "", "exec", "client", "--", "python3", "-c", "import socket\ntry: socket.create_connection(('front', 18080))\nexcept ConnectionRefusedError: print('refused')").out
		})
	})
}

// eventually asks again until something is said.
func eventually(t *testing.T, what string, ask func() string) string {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		if said := ask(); said != "" {
			return said
		}
		select {
		case <-deadline:
			t.Fatalf("got no %s within two minutes", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
