package controlplane_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/tunnel"
)

// serveEnv makes this test's program the control plane, of the configuration that
// it names: what is to be killed has to be a process.
const serveEnv = "BIPLANE_CONTROLPLANE_TEST_SERVE"

// process is a control plane in a process of its own.
type process struct {
	*world
	command *exec.Cmd
	ended   chan struct{}
}

// startProcess starts one, and returns once it listens for all that it should.
func startProcess(t *testing.T, file string) *process {
	t.Helper()
	p := &process{world: &world{t: t, file: file}, ended: make(chan struct{})}
	p.command = exec.Command(os.Args[0])
	p.command.Env = append(os.Environ(), serveEnv+"="+file)
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan [2]string, 8)
	var said bytes.Buffer
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var line struct{ Msg, Address string }
			if err := json.Unmarshal(lines.Bytes(), &line); err == nil && line.Msg != "statement" {
				fmt.Fprintln(&said, lines.Text())
			}
			if what, ok := strings.CutPrefix(line.Msg, "listening for "); ok {
				listening <- [2]string{what, line.Address}
			}
		}
		p.command.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(file), said.String())
		}
	})
	for missing := map[string]bool{"clients": true, "data planes": true, "peers": true}; len(missing) > 0; {
		select {
		case at := <-listening:
			delete(missing, at[0])
			switch at[0] {
			case "clients":
				p.url = "http://" + at[1]
			case "data planes":
				p.gateway = at[1]
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("the control plane did not start")
		}
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	p.client = &http.Client{Transport: transport}
	return p
}

// kill ends it as the end of its machine would.
func (p *process) kill() {
	p.command.Process.Kill()
	<-p.ended
}

// mirror answers a client of the proxy with its own bytes.
func mirror(_ context.Context, _ string, stream *tunnel.Stream) {
	io.Copy(stream, stream)
	stream.CloseWrite()
}

// until waits for what comes without being told.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for two minutes in vain: %s", what)
		}
	}
}

// Two processes of one database: what only the data plane can answer is answered
// by both, whichever of them it dialled, and by the other one when that is killed.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	folder, database := t.TempDir(), postgres(t)
	start := func(name, address string) *process {
		t.Helper()
		file := filepath.Join(folder, name+".yaml")
		text := `apiVersion: biplane.dev/v1alpha1
kind: ControlPlaneConfig
folder: state
api: {listen: '127.0.0.1:0'}
gateway: {listen: '127.0.0.1:0', heartbeat: 200ms}
peers: {listen: ':0'}
relay: {address: ` + address + `, host: localhost}
log: {level: debug, format: json}
` + database
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return startProcess(t, file)
	}
	// Each as if it had a machine of its own, and so the same port for each data plane.
	first, second := start("first", "127.0.0.1"), start("second", "127.0.0.2")
	plane := first.join("c1")
	ready := func(p *process) {
		t.Helper()
		until(t, "the process to know that the data plane is connected", func() bool {
			got, err := p.clusters().GetCluster(t.Context(), &clusterv1.GetClusterRequest{Name: "c1"})
			return err == nil && got.Cluster.State == clusterv1.ClusterState_CLUSTER_STATE_READY && got.Cluster.ProxyEndpoint != ""
		})
	}
	asks := func(p *process) {
		t.Helper()
		if _, err := p.data().UploadInputs(t.Context(), &dataproxy.UploadInputsRequest{Id: &dataproxy.UploadInputsRequest_ProjectId{ProjectId: flytesnacks}}); err != nil {
			t.Errorf("got %v, want the data plane's answer", err)
			return
		}
		wait(t, plane.uploads)
	}
	tails := func(p *process, id *common.ActionIdentifier) {
		t.Helper()
		stream, err := p.data().TailLogs(t.Context(), &dataproxy.TailLogsRequest{ActionId: id, Attempt: 1})
		if err != nil {
			t.Error(err)
			return
		}
		defer stream.Close()
		lines := 0
		for stream.Receive() {
			lines++
		}
		if lines != 3 || stream.Err() != nil {
			t.Errorf("got %d lines, %v, want 3", lines, stream.Err())
		}
	}
	bytesBy := func(p *process, address string) {
		t.Helper()
		port := p.proxyPort("c1")
		var conn net.Conn
		until(t, "the port to be listened on", func() (ok bool) {
			var err error
			conn, err = net.Dial("tcp", net.JoinHostPort(address, port))
			return err == nil
		})
		defer conn.Close()
		sent := bytes.Repeat([]byte("ciphertext "), 100_000)
		var sending sync.WaitGroup
		sending.Go(func() {
			conn.Write(sent)
			conn.(*net.TCPConn).CloseWrite()
		})
		defer sending.Wait()
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("got %d bytes, %v, want %d as they were sent", len(got), err, len(sent))
		}
	}

	ready(first)
	ready(second)
	run := second.create(&workflow.CreateRunRequest{})
	wait(t, plane.enqueued)
	id := run.GetAction().GetId()
	for _, p := range []*process{first, second} {
		asks(p)
		tails(p, id)
	}
	bytesBy(first, "127.0.0.1")
	bytesBy(second, "127.0.0.2")

	// It is there and says nothing: no connection breaks by itself.
	if err := first.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	away := func() {
		t.Helper()
		_, err := second.data().UploadInputs(t.Context(), &dataproxy.UploadInputsRequest{Id: &dataproxy.UploadInputsRequest_ProjectId{ProjectId: flytesnacks}})
		refused(t, err, connect.CodeUnavailable, "cannot be reached now")
	}
	away()
	<-plane.served
	first.kill()
	away()
	until(t, "the other process to say that the data plane is unreachable", func() bool {
		got, err := second.clusters().GetCluster(t.Context(), &clusterv1.GetClusterRequest{Name: "c1"})
		return err == nil && got.Cluster.State == clusterv1.ClusterState_CLUSTER_STATE_UNREACHABLE
	})

	plane.dial(second.world)
	ready(second)
	asks(second)
	tails(second, id)
	bytesBy(second, "127.0.0.2")
	second.create(&workflow.CreateRunRequest{})
	wait(t, plane.enqueued)

	// It is back, and reaches the data plane by the other.
	first = start("first", "127.0.0.1")
	ready(first)
	asks(first)
	bytesBy(first, "127.0.0.1")
}

// proxyPort is that at which a process says that a data plane's proxy is.
func (p *process) proxyPort(name string) string {
	p.t.Helper()
	got, err := p.clusters().GetCluster(p.t.Context(), &clusterv1.GetClusterRequest{Name: name})
	if err != nil {
		p.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(got.Cluster.ProxyEndpoint, "https://"))
	if err != nil {
		p.t.Fatal(errors.Join(err, errors.New(got.Cluster.ProxyEndpoint)))
	}
	return port
}
