package operator

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/biplane/cluster/v1/clusterv1connect"
	"biplane.dev/biplane/tunnel"
)

// controlPlane is the program itself, which this package may not import.
type controlPlane struct {
	t       *testing.T
	program string
	file    string
	gateway string
	client  clusterv1connect.ClusterServiceClient
	command *exec.Cmd
	log     bytes.Buffer
}

func newControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	folder := t.TempDir()
	c := &controlPlane{t: t, program: filepath.Join(folder, "biplane-controlplane"), file: filepath.Join(folder, "controlplane.yaml"), gateway: freeAddress(t)}
	if out, err := exec.Command("go", "build", "-o", c.program, "biplane.dev/biplane/cmd/biplane-controlplane").CombinedOutput(); err != nil {
		t.Fatalf("got %v, want the control plane built: %s", err, out)
	}
	api := freeAddress(t)
	c.client = clusterv1connect.NewClusterServiceClient(http.DefaultClient, "http://"+api)
	text := fmt.Sprintf(`apiVersion: biplane.dev/v1alpha1
kind: ControlPlaneConfig
folder: state
api: {listen: '%s'}
gateway: {listen: '%s', certificateLife: 24s, heartbeat: 500ms}
`, api, c.gateway)
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Log(c.log.String())
		}
	})
	return c
}

// freeAddress is one that nobody is given who asks for any, while nobody listens there:
// the kernel gives away no port so low.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.N(12_000)))
		if err == nil {
			defer listener.Close()
			return listener.Addr().String()
		}
	}
	t.Fatal("got no free port")
	return ""
}

func (c *controlPlane) start() {
	c.t.Helper()
	c.command = exec.Command(c.program, "serve", "--config", c.file)
	c.command.Stderr = &c.log
	if err := c.command.Start(); err != nil {
		c.t.Fatal(err)
	}
	until(c.t, "the control plane to answer", func() error {
		_, err := c.client.ListClusters(c.t.Context(), &clusterv1.ListClustersRequest{})
		return err
	})
}

func (c *controlPlane) kill() {
	c.command.Process.Kill()
	c.command.Wait()
}

// ca runs a command of the CA, and kills it at some moment before within is over; 0 is
// never.
func (c *controlPlane) ca(what string, within time.Duration) (string, error) {
	command := exec.Command(c.program, "ca", what, "--config", c.file)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		return "", err
	}
	if within > 0 {
		timer := time.AfterFunc(rand.N(within), func() { command.Process.Kill() })
		defer timer.Stop()
	}
	err := command.Wait()
	return out.String(), err
}

// connected says why the data plane is not.
func (c *controlPlane) connected() error {
	got, err := c.client.GetCluster(c.t.Context(), &clusterv1.GetClusterRequest{Name: "c1"})
	if err != nil {
		return err
	}
	switch state := got.Cluster.State; state {
	case clusterv1.ClusterState_CLUSTER_STATE_PENDING, clusterv1.ClusterState_CLUSTER_STATE_UNREACHABLE:
		return fmt.Errorf("the cluster is %s", state)
	}
	return nil
}

// A data plane that joined once, and has no other token, is a member of the next CA
// when the one that it joined by is gone: whatever is killed meanwhile.
func TestRotation(t *testing.T) {
	t.Parallel()
	c, p := newControlPlane(t), newPlane(t)
	p.config.ControlPlane.Gateway = c.gateway
	added, err := c.client.AddCluster(t.Context(), &clusterv1.AddClusterRequest{Name: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	putToken(t, p.namespace, added.JoinToken)
	joinedBy, err := tunnel.ParseToken(added.JoinToken)
	if err != nil {
		t.Fatal(err)
	}
	operator := p.start("one")
	until(t, "the data plane to be connected", c.connected)

	// Of the three steps each is tried, and killed, until it is taken.
	shown := func() string {
		t.Helper()
		text, err := c.ca("show", 0)
		if err != nil {
			t.Fatalf("got %v, %s, want to be told how far it is", err, text)
		}
		stage, _, _ := strings.Cut(text, "\n")
		return stage
	}
	for step, want := range []string{"is believed too", "is still believed", "no other is believed"} {
		refused, within := 0, 60*time.Millisecond
		for deadline := time.Now().Add(5 * time.Minute); !strings.Contains(shown(), want); time.Sleep(200 * time.Millisecond) {
			text, err := c.ca("rotate", within)
			within += time.Millisecond // a busy machine takes longer for all of it
			if err != nil && strings.Contains(text, "would lose data planes") {
				refused++
			}
			if time.Now().After(deadline) {
				t.Fatalf("step %d: got %s, want it taken", step+1, text)
			}
		}
		t.Logf("step %d was refused %d times while it would have lost the data plane", step+1, refused)
		if step > 0 && refused == 0 {
			t.Errorf("step %d: got it taken at once, want the data plane waited for", step+1)
		}
		switch step {
		case 0:
			c.kill()
			c.start()
		case 1:
			operator.stop()
			operator = p.start("two")
		}
		until(t, "the data plane to be connected", c.connected)
	}

	if strings.Contains(shown(), joinedBy.Fingerprint) {
		t.Errorf("got %s, want another CA than that of the token", shown())
	}
	// What it has now is all of the next CA.
	operator.stop()
	until(t, "the gateway to know that it is gone", func() error {
		if c.connected() == nil {
			return errors.New("it is connected")
		}
		return nil
	})
	p.start("three")
	until(t, "the data plane to be back", c.connected)
	until(t, "the data plane to believe the next CA alone", func() error {
		bundle := tunnelData(t, p.namespace)["ca.crt"]
		block, rest := pem.Decode(bundle)
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		if print := tunnel.Fingerprint(ca); len(rest) > 0 || !strings.Contains(shown(), print) {
			return fmt.Errorf("it believes %s, and %d bytes more", print, len(rest))
		}
		return nil
	})
	until(t, "the data plane to be connected", c.connected)
}
