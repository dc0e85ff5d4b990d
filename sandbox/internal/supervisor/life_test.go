package supervisor_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

var controlPlane = []string{sandbox.Etcd, sandbox.APIServer, sandbox.ControllerManager, sandbox.Scheduler}

// TestLife is one sandbox from its first up to its end: each case goes on from
// the one before.
func TestLife(t *testing.T) {
	w := newWorld(t, sandbox.KubeGroup, sandbox.ObjectStore)
	w.up()

	t.Run("is ready, and says so", func(t *testing.T) {
		status := w.status()
		if status.State != sandbox.Ready || status.Name != "test" || status.Dir != string(w.Folder) || status.Kubernetes == nil || status.S3 == nil || status.IAM == nil || status.STS == nil || status.Buckets == nil || status.Node != nil {
			t.Errorf("got %+v, want ready, with Kubernetes, S3, IAM, STS and buckets, and without a node", status)
		}
		var total int64
		var names []string
		for _, c := range status.Components {
			names = append(names, c.Name)
			total += c.MemoryBytes
			if c.State != sandbox.ComponentReady || c.PID == 0 || c.MemoryBytes == 0 || c.Restarts != 0 {
				t.Errorf("got %+v, want it ready, with a process and its memory", c)
			}
		}
		if want := append(slices.Clone(controlPlane), sandbox.Identity, sandbox.ObjectStore); !slices.Equal(names, want) {
			t.Errorf("got components %q, want %q", names, want)
		}
		t.Logf("memory of all components: %d MiB", total>>20)
	})
	t.Run("keeps its files to its owner", func(t *testing.T) {
		err := filepath.WalkDir(string(w.Folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Type()&fs.ModeSocket != 0 {
				return nil // gone meanwhile; a socket in a folder that nobody may enter
			}
			info, err := entry.Info()
			if err != nil {
				return nil
			}
			inside, _ := filepath.Rel(string(w.Folder), path)
			top, _, _ := strings.Cut(inside, "/")
			if secret := top == "pki" || top == "aws" || top == "kubeconfig" || top == "sandbox.yaml" || top == "."; secret && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("got mode %04o of %s, want nothing for others", info.Mode().Perm(), inside)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("listens on the loopback only", func(t *testing.T) {
		listening := 0
		for _, c := range w.status().Components {
			for _, address := range listeners(t, c.PID) {
				listening++
				if !address.IP.IsLoopback() {
					t.Errorf("got %s listening on %s, want the loopback", c.Name, &address)
				}
			}
		}
		if listening < 6 {
			t.Errorf("got %d listeners, want those of the API server, S3, IAM, STS and others", listening)
		}
	})
	t.Run("has no secret among its arguments", func(t *testing.T) {
		content, err := os.ReadFile(filepath.Join(w.Folder.PKI(), "aws-admin.json"))
		if err != nil {
			t.Fatal(err)
		}
		var key struct{ ID, Secret string }
		if err := json.Unmarshal(content, &key); err != nil || key.Secret == "" {
			t.Fatalf("got %v reading the administrator's key", err)
		}
		for _, c := range w.status().Components {
			for _, of := range []string{"cmdline", "environ"} {
				said, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.PID, of))
				if err != nil || bytes.Contains(said, []byte(key.Secret)) || bytes.Contains(said, []byte("PRIVATE KEY")) {
					t.Errorf("got a secret in the %s of %s, or %v", of, c.Name, err)
				}
			}
		}
	})
	t.Run("lets nobody in without a name, save to health and the keys of tokens", func(t *testing.T) {
		client := anonymous(t, w)
		for path, want := range map[string]int{
			"/readyz": 200, "/livez": 200, "/healthz": 200, "/.well-known/openid-configuration": 200, "/openid/v1/jwks": 200,
			"/api": 401, "/version": 401, "/api/v1/namespaces": 401, "/metrics": 401, "/openapi/v2": 401,
		} {
			answer, err := client.Get(w.status().Kubernetes.Server + path)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("%s: got status %d, want %d", path, answer.StatusCode, want)
			}
		}
	})
	t.Run("mints tokens as EKS does, that live as long as was asked", func(t *testing.T) {
		seconds := int64(1234)
		token, err := w.kubernetes().CoreV1().ServiceAccounts("default").CreateToken(w.ctx(), "default", &authentication.TokenRequest{
			Spec: authentication.TokenRequestSpec{Audiences: []string{"sts.amazonaws.com"}, ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(token.Status.Token, ".")
		var header struct{ Alg string }
		var claims struct {
			Iss      string
			Sub      string
			Iat, Exp int64
		}
		for i, into := range []any{&header, &claims} {
			text, err := base64.RawURLEncoding.DecodeString(parts[i])
			if err == nil {
				err = json.Unmarshal(text, into)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		record, err := sandbox.ReadRecord(w.Folder)
		if err != nil {
			t.Fatal(err)
		}
		if header.Alg != "RS256" || claims.Iss != record.Issuer() || claims.Sub != "system:serviceaccount:default:default" || claims.Exp-claims.Iat != seconds {
			t.Errorf("got %+v %+v, want RS256, issuer %s and %d seconds", header, claims, record.Issuer(), seconds)
		}
		if !strings.HasPrefix(record.Issuer(), "https://oidc.eks.") || len(record.Cluster) != 32 {
			t.Errorf("got issuer %s, want one as EKS has", record.Issuer())
		}
	})
	t.Run("encrypts secrets at rest", func(t *testing.T) {
		needle := "needle-in-a-secret-" + strconv.FormatInt(time.Now().UnixNano(), 36)
		core := w.kubernetes().CoreV1()
		_, err := core.Secrets("default").Create(w.ctx(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"k": needle}}, metav1.CreateOptions{})
		_, err2 := core.ConfigMaps("default").Create(w.ctx(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": "plain-" + needle}}, metav1.CreateOptions{})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		plain, all := 0, 0
		filepath.WalkDir(w.Folder.Etcd(), func(path string, entry fs.DirEntry, _ error) error {
			if content, err := os.ReadFile(path); err == nil {
				plain += bytes.Count(content, []byte("plain-"+needle))
				all += bytes.Count(content, []byte(needle))
			}
			return nil
		})
		if plain == 0 || all != plain {
			t.Errorf("got the text %d times on disk, %d of them from the config map, want all of them, and some", all, plain)
		}
	})
	t.Run("joins a second up, which may not want something else", func(t *testing.T) {
		before := w.status()
		w.up()
		for i, c := range w.status().Components {
			if c.PID != before.Components[i].PID {
				t.Errorf("got another process of %s, want the same", c.Name)
			}
		}
		for name, other := range map[string]sandbox.Options{
			"node": {Node: sandbox.KwokNode}, "only": {Only: []string{sandbox.All}}, "nodes": {Nodes: 3}, "python": {Python: "/p"}} {
			second := w.Supervisor
			second.Options = other
			_, err := second.Up(w.ctx(), func(sandbox.Event) {})
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != usererr.Refused || !strings.Contains(said.Error(), "--"+name) || said.Hint == "" {
				t.Errorf("got %v, want a refusal that names --%s", err, name)
			}
		}
		fresh := w.Supervisor
		fresh.Fresh = true
		if _, err := fresh.Up(w.ctx(), func(sandbox.Event) {}); err == nil {
			t.Error("got no error of an up with --fresh, want a refusal")
		}
	})
	t.Run("holds what was stopped, until it is started or joined", func(t *testing.T) {
		pid := w.component(sandbox.Scheduler).PID
		if err := w.client.StopComponent(w.ctx(), sandbox.Scheduler); err != nil {
			t.Fatal(err)
		}
		if c := w.component(sandbox.Scheduler); c.State != sandbox.ComponentHeld || c.PID != 0 || alive(pid) || w.status().State != sandbox.Degraded {
			t.Errorf("got %+v in a sandbox that is %s, want it held, with no process, and degraded", c, w.status().State)
		}
		if err := w.client.StartComponent(w.ctx(), sandbox.Scheduler); err != nil {
			t.Fatal(err)
		}
		if c := w.component(sandbox.Scheduler); c.State != sandbox.ComponentReady || c.PID == pid {
			t.Errorf("got %+v, want it ready, as another process", c)
		}
		if err := w.client.StopComponent(w.ctx(), sandbox.Scheduler); err != nil {
			t.Fatal(err)
		}
		w.up()
		if status := w.status(); status.State != sandbox.Ready {
			t.Errorf("got %s after an up, want ready", status.State)
		}
		for _, call := range []error{w.client.StopComponent(w.ctx(), "redis"), w.client.StartComponent(w.ctx(), "../etcd")} {
			var said *usererr.Error
			if !errors.As(call, &said) || said.Kind != usererr.NotFound || !strings.Contains(said.Hint, sandbox.Etcd) {
				t.Errorf("got %v, want a refusal whose hint names the components", call)
			}
		}
	})
	for _, name := range append(slices.Clone(controlPlane), sandbox.Identity, sandbox.ObjectStore) {
		t.Run("has "+name+" back after kill -9, and nothing lost", func(t *testing.T) {
			made := "before-the-end-of-" + name
			if _, err := w.kubernetes().CoreV1().Namespaces().Create(w.ctx(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: made}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			before := w.component(name)
			if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			w.until(name+" is back", func() bool {
				c := w.component(name)
				return c.Restarts > before.Restarts && c.State == sandbox.ComponentReady && w.status().State == sandbox.Ready
			})
			if !w.namespaces()[made] {
				t.Errorf("got no namespace %s, want it kept", made)
			}
		})
	}
	t.Run("leaves nothing running when its supervisor is killed, and resumes", func(t *testing.T) {
		before := w.status()
		supervisor := parent(t, before.Components[0].PID)
		if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.until("every process is gone", func() bool { return len(w.processes()) == 0 })
		if got := w.status().State; got != sandbox.Stopped {
			t.Errorf("got %s, want stopped", got)
		}
		w.up()
		if names := w.namespaces(); !names["before-the-end-of-etcd"] || !names["before-the-end-of-s3"] {
			t.Errorf("got namespaces %v, want those that were made", names)
		}
		after := w.status()
		for i, c := range after.Components {
			if c.Address != before.Components[i].Address {
				t.Errorf("got %s on %s, want the port that it had, %s", c.Name, c.Address, before.Components[i].Address)
			}
		}
		if after.Kubernetes.Server != before.Kubernetes.Server || after.S3.Endpoint != before.S3.Endpoint {
			t.Errorf("got %s and %s, want the addresses as they were", after.Kubernetes.Server, after.S3.Endpoint)
		}
	})
	t.Run("goes down, leaving no process and no socket", func(t *testing.T) {
		began := time.Now()
		w.down()
		t.Logf("took %s", time.Since(began).Round(time.Millisecond)) // less than three seconds on a machine that is not busy
		if left := w.processes(); len(left) > 0 {
			t.Errorf("got processes left: %q", left)
		}
		if _, err := os.Lstat(filepath.Join(w.Folder.Run(), sandbox.ControlSocket)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want no socket", err)
		}
		if got := w.status(); got.State != sandbox.Stopped || got.Dir != string(w.Folder) {
			t.Errorf("got %+v, want stopped", got)
		}
		if err := w.client.Down(w.ctx()); !errors.Is(err, sandbox.ErrNotUp) {
			t.Errorf("got %v from a second down, want ErrNotUp", err)
		}
	})
	t.Run("says what was stopped while it came up", func(t *testing.T) {
		told := make(chan error, 1)
		running, err := w.Up(w.ctx(), func(e sandbox.Event) {
			if e.Name == sandbox.APIServer && e.State == sandbox.EventState(sandbox.ComponentStarting) {
				told <- w.client.StopComponent(w.ctx(), sandbox.APIServer)
			}
		})
		if running != nil {
			go running.Wait() // so that an ended supervisor is no zombie
		}
		if stopped := <-told; stopped != nil {
			t.Fatalf("stopping a component: %v", stopped)
		}
		var said *usererr.Error
		if !errors.As(err, &said) || !strings.Contains(said.Error(), sandbox.APIServer+" was stopped") || said.Hint == "" {
			t.Errorf("got %v, want it to say that %s was stopped", err, sandbox.APIServer)
		}
		w.until("it has gone down", func() bool { return w.status().State == sandbox.Stopped })
	})
	t.Run("starts nothing while it goes down", func(t *testing.T) {
		w.up()
		ended := make(chan struct{})
		var all sync.WaitGroup
		for _, name := range []string{sandbox.Etcd, sandbox.Scheduler, sandbox.ObjectStore} {
			all.Go(func() {
				for {
					err := w.client.StartComponent(w.ctx(), name)
					var said *usererr.Error
					if err != nil && !errors.Is(err, sandbox.ErrNotUp) && (!errors.As(err, &said) || !strings.Contains(said.Error(), "going down")) {
						t.Errorf("got %v from starting %s, want it to say that the sandbox is going down, or is not up", err, name)
					}
					select {
					case <-ended:
						return
					default:
					}
				}
			})
		}
		w.down()
		close(ended)
		all.Wait()
		if left := w.processes(); len(left) > 0 {
			t.Errorf("got processes left: %q", left)
		}
	})
	t.Run("finishes what a killed up left half done", func(t *testing.T) {
		pki := w.Folder.PKI()
		spoil := errors.Join(
			os.Remove(filepath.Join(pki, "kube-scheduler.kubeconfig")), os.Truncate(filepath.Join(pki, "kube-apiserver.crt"), 300),
			os.Remove(filepath.Join(pki, "admin.key")), os.Truncate(w.Folder.Kubeconfig(), 10), os.RemoveAll(w.Folder.Run()),
			os.WriteFile(filepath.Join(string(w.Folder), ".sandbox.yaml-123"), []byte("versi"), 0o600), os.Remove(w.Folder.AWSConfig()))
		if spoil != nil {
			t.Fatal(spoil)
		}
		w.up()
		if !w.namespaces()["before-the-end-of-etcd"] || w.status().State != sandbox.Ready {
			t.Errorf("got %s without what was made before, want it ready and kept", w.status().State)
		}
		if _, err := os.Stat(w.Folder.AWSConfig()); err != nil {
			t.Errorf("got %v, want the AWS configuration again", err)
		}
	})
	t.Run("starts anew when told to", func(t *testing.T) {
		w.down()
		fresh := *w
		fresh.Fresh = true
		fresh.up()
		if names := w.namespaces(); names["before-the-end-of-etcd"] {
			t.Error("got a namespace of before, want none")
		}
	})
}

func anonymous(t *testing.T, w *world) *http.Client {
	t.Helper()
	bundle, err := os.ReadFile(w.Folder.CABundle())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	ppid, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil || ppid < 2 {
		t.Fatalf("got parent %d of %d (%v)", ppid, pid, err)
	}
	return ppid
}

// listeners are the TCP addresses that a process listens on.
func listeners(t *testing.T, pid int) (addresses []net.TCPAddr) {
	t.Helper()
	inodes := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			inodes[strings.Trim(target, "socket:[]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(content), "\n")[1:] {
			fields := strings.Fields(line)
			const listen = "0A"
			if len(fields) < 10 || fields[3] != listen || !inodes[fields[9]] {
				continue
			}
			host, port, _ := strings.Cut(fields[1], ":")
			number, _ := strconv.ParseUint(port, 16, 16)
			raw, err := hexBytes(host)
			if err != nil {
				t.Fatalf("reading %q: %v", line, err)
			}
			addresses = append(addresses, net.TCPAddr{IP: raw, Port: int(number)})
		}
	}
	return addresses
}

// hexBytes reads an address of /proc/net/tcp: words of four bytes, each in the
// machine's order, which is little-endian wherever this runs.
func hexBytes(text string) (net.IP, error) {
	var ip net.IP
	for i := 0; i+8 <= len(text); i += 8 {
		word, err := strconv.ParseUint(text[i:i+8], 16, 32)
		if err != nil {
			return nil, err
		}
		ip = append(ip, byte(word), byte(word>>8), byte(word>>16), byte(word>>24))
	}
	return ip, nil
}
