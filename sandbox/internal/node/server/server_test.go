package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	execerrors "k8s.io/client-go/util/exec"

	"biplane.dev/biplane/sandbox/internal/container"
	"biplane.dev/biplane/sandbox/internal/pki"
)

// agent is pods whose containers are programs of this machine.
type agent struct {
	mu         sync.Mutex
	pods       []*v1.Pod
	containers map[string]*program
}

func (a *agent) List() []*v1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pods
}

func (a *agent) Container(namespace, pod, name string) (Container, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.containers[namespace+"/"+pod+"/"+name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %s of pod %s is %w", name, pod, ErrNotFound)
}

type program struct {
	log, previous string
	ended         chan struct{}
	sizes         chan container.Size // of terminals, as they came
}

func (p *program) Log(previous bool) (string, <-chan struct{}, error) {
	if previous {
		return p.previous, p.ended, nil
	}
	return p.log, p.ended, nil
}

func (p *program) Exec(ctx context.Context, command []string, streams container.Streams) (int, error) {
	if streams.Resize != nil {
		go func() {
			for size := range streams.Resize {
				p.sizes <- size
			}
		}()
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.In, streams.Out, streams.Err
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (p *program) Attach(ctx context.Context, streams container.Streams) error {
	_, err := p.Exec(ctx, []string{"cat"}, streams)
	return err
}

func (p *program) Usage() (container.Usage, error) {
	return container.Usage{CPU: 2 * time.Second, Memory: 5 << 20}, nil
}

// world is a server that answers, and who may call it.
type world struct {
	agent                       *agent
	url                         string
	ca                          string
	apiServer, stranger, nobody *http.Client // with certificates: one that may all, one that may nothing; and without
	config                      func(pki.Pair) *rest.Config
	admin                       pki.Pair
}

// review is the API server's word: api-server may everything, reader may see
// metrics, and the token "good" is reader's.
func review(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/tokenreviews") {
		var asked authentication.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		asked.Status.Authenticated = asked.Spec.Token == "good"
		asked.Status.User.Username = "reader"
		json.NewEncoder(w).Encode(asked)
		return
	}
	var asked authorizationv1.SubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	of := asked.Spec.ResourceAttributes
	asked.Status.Allowed = of != nil && of.Resource == "nodes" && of.Name == "n" &&
		(asked.Spec.User == "api-server" || asked.Spec.User == "reader" && of.Subresource == "metrics" && of.Verb == "get")
	json.NewEncoder(w).Encode(asked)
}

func newWorld(t *testing.T) *world {
	keys, err := pki.Open(filepath.Join(t.TempDir(), "pki"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair := func(name string, s pki.Subject) pki.Pair {
		made, err := keys.Pair(name, s)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	serving := pair("node", pki.Subject{User: "system:node:n", IPs: []string{"127.0.0.1"}})
	w := &world{
		agent: &agent{containers: map[string]*program{}}, ca: keys.CA(),
		admin: pair("api", pki.Subject{User: "api-server"}),
	}
	stranger := pair("stranger", pki.Subject{User: "stranger"})
	apiServer := httptest.NewServer(http.HandlerFunc(review))
	t.Cleanup(apiServer.Close)
	reviewer, err := kubernetes.NewForConfig(&rest.Config{Host: apiServer.URL})
	if err != nil {
		t.Fatal(err)
	}
	server, err := New(Config{Node: "n", Pods: w.agent, Client: reviewer, ClientCA: keys.CA(), Cert: serving.Cert, Key: serving.Key})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
	w.config = func(p pki.Pair) *rest.Config {
		return &rest.Config{Host: w.url, TLSClientConfig: rest.TLSClientConfig{CAFile: w.ca, CertFile: p.Cert, KeyFile: p.Key}}
	}
	client := func(p pki.Pair) *http.Client {
		transport, err := rest.TransportFor(w.config(p))
		if err != nil {
			t.Fatal(err)
		}
		return &http.Client{Transport: transport}
	}
	w.apiServer, w.stranger, w.nobody = client(w.admin), client(stranger), client(pki.Pair{})
	return w
}

// pod adds a pod with one running container c.
func (w *world) pod(t *testing.T, name string, change func(*v1.Pod)) *program {
	t.Helper()
	started := metav1.NewTime(time.Now().Add(-10 * time.Second))
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-of-" + name)},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c"}}},
		Status: v1.PodStatus{Phase: v1.PodRunning, PodIP: "127.0.0.1", StartTime: &started, ContainerStatuses: []v1.ContainerStatus{{
			Name: "c", ContainerID: "process://1-" + name, State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: started}},
		}}},
	}
	if change != nil {
		change(p)
	}
	dir := t.TempDir()
	c := &program{log: filepath.Join(dir, "0.log"), previous: filepath.Join(dir, "previous.log"), ended: make(chan struct{}), sizes: make(chan container.Size, 10)}
	w.agent.mu.Lock()
	defer w.agent.mu.Unlock()
	w.agent.pods = append(w.agent.pods, p)
	w.agent.containers["ns/"+name+"/c"] = c
	return c
}

func get(t *testing.T, client *http.Client, url string, headers ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestWhoMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pod(t, "p", nil)
	for _, c := range []struct {
		name   string
		client *http.Client
		path   string
		header string
		status int
		says   string
	}{
		{"lets the API server see pods", w.apiServer, "/pods", "", 200, `"name":"p"`},
		{"lets it see that the node is healthy", w.apiServer, "/healthz", "", 200, "ok"},
		{"refuses a caller without certificate or token", w.nobody, "/pods", "", 401, "Unauthorized"},
		{"refuses a caller without either even to see its health", w.nobody, "/healthz", "", 401, "Unauthorized"},
		{"refuses a token that the API server does not know", w.nobody, "/metrics", "Bearer bad", 401, "Unauthorized"},
		{"lets a known token do what its user may", w.nobody, "/metrics/resource", "Bearer good", 200, "container_memory_working_set_bytes"},
		{"refuses a known token what its user may not", w.nobody, "/pods", "Bearer good", 403, "Forbidden (user=reader, verb=get, resource=nodes, subresource(s)=[pods proxy])"},
		{"refuses a certificate whose user may nothing", w.stranger, "/containerLogs/ns/p/c", "", 403, "Forbidden (user=stranger, verb=get, resource=nodes, subresource(s)=[proxy])"},
		{"does not show logs of the machine", w.apiServer, "/logs/", "", 405, "logs endpoint is disabled."},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			status, body := get(t, c.client, w.url+c.path, "Authorization", c.header)
			if status != c.status || !strings.Contains(body, c.says) {
				t.Errorf("got %d %.300q, want %d and %q", status, body, c.status, c.says)
			}
		})
	}
	t.Run("it refuses a certificate of another CA", func(t *testing.T) {
		other, err := pki.Open(filepath.Join(t.TempDir(), "pki"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		forged, err := other.Pair("api", pki.Subject{User: "api-server", Groups: []string{"system:masters"}})
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := tls.LoadX509KeyPair(forged.Cert, forged.Key)
		if err != nil {
			t.Fatal(err)
		}
		pem, err := os.ReadFile(w.ca)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots,
			// Whatever the server says that it would take, this one is sent.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }}}}
		if status, body := get(t, client, w.url+"/pods"); status != 401 {
			t.Errorf("got %d %.200q, want 401", status, body)
		}
	})
}

// log writes lines of CRI: each argument is the seconds ago and the text.
func writeLog(t *testing.T, path string, ago time.Duration, lines ...string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, line := range lines {
		fmt.Fprintf(file, "%s %s\n", time.Now().Add(-ago).Format(time.RFC3339Nano), line)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.pod(t, "p", func(p *v1.Pod) {
		p.Status.ContainerStatuses[0].LastTerminationState.Terminated = &v1.ContainerStateTerminated{ContainerID: "process://0-p"}
	})
	writeLog(t, c.log, time.Hour, "stdout F old")
	writeLog(t, c.log, time.Minute, "stderr F from stderr", "stdout P long ", "stdout F line", "stdout F last")
	writeLog(t, c.previous, 2*time.Hour, "stdout F before")
	waiting := func(reason string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Status.ContainerStatuses[0] = v1.ContainerStatus{Name: "c", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason}}}
		}
	}
	w.pod(t, "pulling", waiting("ErrImagePull"))
	w.pod(t, "backoff", waiting("ImagePullBackOff"))
	w.pod(t, "creating", waiting("ContainerCreating"))
	ended := w.pod(t, "ended", func(p *v1.Pod) {
		p.Status.ContainerStatuses[0].State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ContainerID: "process://0-ended"}}
	})
	writeLog(t, ended.log, time.Second, "stdout F bye")
	close(ended.ended)

	for _, c := range []struct {
		name, path, want string
		status           int
	}{
		{"shows both streams, and partial lines as one", "p/c", "old\nfrom stderr\nlong line\nlast\n", 200},
		{"shows the last lines, and counts a part of one as one, as in every cluster", "p/c?tailLines=2", "line\nlast\n", 200},
		{"shows no line when none is asked for", "p/c?tailLines=0", "", 200},
		{"shows what came since", "p/c?sinceSeconds=600", "from stderr\nlong line\nlast\n", 200},
		{"stops at a number of bytes", "p/c?limitBytes=6", "old\nfr", 200},
		{"shows the attempt before", "p/c?previous=true", "before\n", 200},
		{"shows an ended container", "ended/c", "bye\n", 200},
		{"ends at once when an ended container is followed", "ended/c?follow=true", "bye\n", 200},
		{"knows no attempt before the first", "ended/c?previous=true", `previous terminated container "c" in pod "ended" not found`, 400},
		{"says that an image cannot be pulled", "pulling/c", `container "c" in pod "pulling" is waiting to start: image can't be pulled`, 400},
		{"says that it is tried again", "backoff/c", `container "c" in pod "backoff" is waiting to start: trying and failing to pull image`, 400},
		{"says what a container waits for", "creating/c", `container "c" in pod "creating" is waiting to start: ContainerCreating`, 400},
		{"knows no other container", "p/nope", `container "nope" not found in pod "p"`, 404},
		{"knows no other pod", "nope/c", `pod "nope" does not exist`, 404},
		{"refuses two times since when", "p/c?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", `{"message": "Invalid request."}`, 422},
		{"refuses a number that is none", "p/c?tailLines=many", `{"message": "Unable to decode query."}`, 400},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			status, body := get(t, w.apiServer, w.url+"/containerLogs/ns/"+c.path)
			if status != c.status || body != c.want {
				t.Errorf("got %d %q, want %d %q", status, body, c.status, c.want)
			}
		})
	}
	t.Run("it puts the time in front when asked to", func(t *testing.T) {
		_, body := get(t, w.apiServer, w.url+"/containerLogs/ns/p/c?timestamps=true&tailLines=1")
		at, text, _ := strings.Cut(body, " ")
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil || text != "last\n" {
			t.Errorf("got %q, want a time and last", body)
		}
	})
	t.Run("it follows over a rotation until the container ends", func(t *testing.T) {
		c := w.pod(t, "followed", nil)
		writeLog(t, c.log, 0, "stdout F one")
		answer, err := w.apiServer.Get(w.url + "/containerLogs/ns/followed/c?follow=true")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		read := func(want string) {
			t.Helper()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != want {
				t.Fatalf("got %q and %v, want %q", got, err, want)
			}
		}
		read("one\n")
		writeLog(t, c.log, 0, "stdout F two")
		read("two\n")
		if err := os.Rename(c.log, c.log+".1"); err != nil {
			t.Fatal(err)
		}
		writeLog(t, c.log, 0, "stdout F three")
		read("three\n")
		close(c.ended)
		if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) > 0 {
			t.Errorf("after the end: got %q and %v, want nothing", rest, err)
		}
	})
}

// stream runs a command in, or attaches to, c of a pod.
func (w *world) stream(t *testing.T, path string, query url.Values, options remotecommand.StreamOptions) error {
	t.Helper()
	for name, wanted := range map[string]bool{"input": options.Stdin != nil, "output": options.Stdout != nil, "error": options.Stderr != nil, "tty": options.Tty} {
		if wanted {
			query.Set(name, "1")
		}
	}
	target, err := url.Parse(w.url + path + "?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(w.config(w.admin), http.MethodPost, target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return executor.StreamWithContext(ctx, options)
}

// sizes is a terminal that has one size.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, more := <-s
	if !more {
		return nil
	}
	return &size
}

func TestStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.pod(t, "p", nil)
	w.pod(t, "ended", func(p *v1.Pod) {
		p.Status.ContainerStatuses[0].State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}
	})
	command := func(args ...string) url.Values { return url.Values{"command": args} }

	t.Run("it runs a command with its three streams apart", func(t *testing.T) {
		var out, fails bytes.Buffer
		err := w.stream(t, "/exec/ns/p/c", command("sh", "-c", "cat; echo oops >&2"),
			remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &fails})
		if err != nil || out.String() != "hello" || fails.String() != "oops\n" {
			t.Errorf("got %q, %q and %v, want hello, oops and nil", out.String(), fails.String(), err)
		}
	})
	t.Run("it carries a lot, unharmed", func(t *testing.T) {
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		var out bytes.Buffer
		err := w.stream(t, "/exec/ns/p/c", command("cat"), remotecommand.StreamOptions{Stdin: bytes.NewReader(sent), Stdout: &out})
		if err != nil || !bytes.Equal(out.Bytes(), sent) {
			t.Errorf("got %d bytes and %v, want the %d that were sent", out.Len(), err, len(sent))
		}
	})
	t.Run("it returns the exit code", func(t *testing.T) {
		err := w.stream(t, "/exec/ns/p/c", command("sh", "-c", "exit 7"), remotecommand.StreamOptions{Stdout: io.Discard})
		var exit execerrors.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 7 {
			t.Errorf("got %v, want exit code 7", err)
		}
	})
	t.Run("it says when a command cannot be run", func(t *testing.T) {
		err := w.stream(t, "/exec/ns/p/c", command("no-such-program"), remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "error executing command in container") || !strings.Contains(err.Error(), "no-such-program") {
			t.Errorf("got %v, want the kubelet's sentence and the program's name", err)
		}
	})
	t.Run("it passes a terminal's size on", func(t *testing.T) {
		terminal := make(sizes, 1)
		terminal <- remotecommand.TerminalSize{Width: 132, Height: 43}
		err := w.stream(t, "/exec/ns/p/c", command("sh", "-c", "read word"), remotecommand.StreamOptions{
			Stdin: &lateReader{after: func() {
				if got, want := <-c.sizes, (container.Size{Columns: 132, Rows: 43}); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			}, text: "done\n"}, Stdout: io.Discard, Tty: true, TerminalSizeQueue: terminal})
		close(terminal)
		if err != nil {
			t.Errorf("got %v, want nil", err)
		}
	})
	t.Run("it attaches", func(t *testing.T) {
		var out bytes.Buffer
		err := w.stream(t, "/attach/ns/p/c", url.Values{}, remotecommand.StreamOptions{Stdin: strings.NewReader("typed"), Stdout: &out})
		if err != nil || out.String() != "typed" {
			t.Errorf("got %q and %v, want typed and nil", out.String(), err)
		}
	})
	for path, want := range map[string]string{
		"/exec/ns/ended/c":   `container not found ("c")`,
		"/exec/ns/p/nope":    `container not found ("nope")`,
		"/exec/ns/nope/c":    "pod does not exist",
		"/attach/ns/ended/c": "container c not found in pod ended_ns",
	} {
		t.Run("it refuses "+path, func(t *testing.T) {
			err := w.stream(t, path, command("true"), remotecommand.StreamOptions{Stdout: io.Discard})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// lateReader says its text once after has returned.
type lateReader struct {
	after func()
	text  string
	once  sync.Once
}

func (r *lateReader) Read(p []byte) (int, error) {
	r.once.Do(r.after)
	if r.text == "" {
		return 0, io.EOF
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pod(t, "p", nil)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				heard, _ := io.ReadAll(conn) // up to the client's end, which must be carried too
				fmt.Fprintf(conn, "heard %s", heard)
			}()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().(*net.TCPAddr).Port
	closed.Close()

	transport, upgrader, err := spdy.RoundTripperFor(w.config(w.admin))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(w.url + "/portForward/ns/p")
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	stop, ready := make(chan struct{}), make(chan struct{})
	defer close(stop)
	forwarder, err := portforward.New(dialer, []string{fmt.Sprintf("0:%d", socket.Addr().(*net.TCPAddr).Port), fmt.Sprintf("0:%d", nobody)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // one after another over the same connection
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "hello")
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
		got, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || string(got) != "heard hello" {
			t.Errorf("got %q and %v, want heard hello", got, err)
		}
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[1].Local))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// kubectl shows the sentence; its library ends the session.
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		t.Errorf("where nobody listens: got %d bytes and %v, want an end", n, err)
	}
	if err := <-done; !errors.Is(err, portforward.ErrLostConnectionToPod) {
		t.Errorf("got %v, want %v", err, portforward.ErrLostConnectionToPod)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pod(t, "p", nil)
	_, body := get(t, w.apiServer, w.url+"/metrics/resource")
	for _, want := range []string{
		`container_cpu_usage_seconds_total{container="c",namespace="ns",pod="p"} 2 `,
		`container_memory_working_set_bytes{container="c",namespace="ns",pod="p"} 5.24288e+06 `,
		`pod_memory_working_set_bytes{namespace="ns",pod="p"} 5.24288e+06 `,
		"node_memory_working_set_bytes ", "resource_scrape_error 0",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("got no %q in:\n%s", want, body)
		}
	}
	status, body := get(t, w.apiServer, w.url+"/stats/summary")
	if status != 200 || !strings.Contains(body, `"workingSetBytes": 5242880`) || !strings.Contains(body, `"nodeName": "n"`) {
		t.Errorf("got %d %s, want the memory of c", status, body)
	}
}
