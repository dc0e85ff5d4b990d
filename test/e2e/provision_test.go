package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A data plane is made in an account by its file, joins, runs a workflow of the
// unmodified SDK, and is removed; both ways the program is killed while it works inside
// the cluster. The account is the double's, and the sandbox stands behind it.
func TestProvision(t *testing.T) {
	p := newPerson(t, latest, "--only", "kubernetes,s3,identity,node,controlplane")
	operator := p.operator(t)
	file := operator.writeDataPlane(t)
	const inside = "release biplane-dataplane"

	for _, one := range []struct{ name, at string }{
		{"it may be killed before the chart is installed", "the API server"},
		{"it may be killed while the processes start", "installed the chart"},
	} {
		t.Run(one.name, func(t *testing.T) {
			operator.killAt(t, inside, one.at, "biplane", "dataplane", "apply", file, "--profile", "vendor", "--yes", "--output", "json")
		})
	}
	t.Run("it installs what is missing, and joins", func(t *testing.T) {
		operator.ok(t, "biplane", "dataplane", "apply", file, "--profile", "vendor", "--yes")
		if err := os.Remove(filepath.Join(filepath.Dir(file), "token")); err != nil {
			t.Fatal(err)
		}
		operator.ok(t, "biplane", "dataplane", "plan", file, "--profile", "vendor") // exit status 0: nothing to do, and no token to do it with
		operator.ok(t, "biplane", "dataplane", "check", file, "--profile", "vendor")
		if out := p.ok(t, "biplane", "cluster", "show", "demo", "--sandbox-dir", p.dir); !strings.Contains(out, "Cluster demo is ready") {
			t.Errorf("got %s, want it ready", out)
		}
	})
	t.Run("its API server is reached by another way, and by no wrong one", func(t *testing.T) {
		server, err := url.Parse(strings.TrimSpace(p.ok(t, "kubectl", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")))
		if err != nil {
			t.Fatal(err)
		}
		operator.ok(t, "biplane", "dataplane", "plan", file, "--profile", "vendor", "--through", "localhost:"+server.Port())
		nobody := httptest.NewTLSServer(http.NotFoundHandler())
		defer nobody.Close()
		r := operator.run(t, "biplane", "dataplane", "plan", file, "--profile", "vendor", "--through", nobody.Listener.Addr().String())
		if r.exit != 1 || !strings.Contains(r.stdout, "cannot tell: ") || !strings.Contains(r.stdout, "certificate") {
			t.Errorf("got status %d, %s, want the certificate of another refused", r.exit, r.stdout)
		}
	})
	t.Run("it has the roles that were made for it", func(t *testing.T) {
		out := p.ok(t, "kubectl", "-n", "union", "get", "serviceaccount", "executor", "-o", "jsonpath={.metadata.annotations.eks\\.amazonaws\\.com/role-arn}")
		if want := ":role/union/union-demo-adminflyterole-executor"; !strings.HasSuffix(out, want) {
			t.Errorf("got role %s, want it to end with %s", out, want)
		}
	})
	t.Run("it runs a workflow", func(t *testing.T) {
		p.ok(t, "biplane", "sandbox", "env", "--dir", p.dir) // clients trust it from now on
		if out := p.ok(t, "flyte", "run", "--follow", "hello.py", "main", "--name", "Biplane"); !strings.Contains(out, "greeting Biplane") {
			t.Errorf("got %s, want the line that the task printed", out)
		}
	})
	t.Run("it tells what somebody changed, to who may not see Secrets, and puts it back", func(t *testing.T) {
		p.ok(t, "kubectl", "-n", "union", "delete", "service", "proxy")
		r := operator.run(t, "biplane", "dataplane", "check", file, "--profile", "vendor")
		if r.exit != 1 || !strings.Contains(r.stdout, "Service proxy") {
			t.Errorf("got exit status %d and %s, want the Service named", r.exit, r.stdout)
		}
		operator.ok(t, "biplane", "dataplane", "apply", file, "--profile", "vendor", "--yes")
		p.ok(t, "kubectl", "-n", "union", "get", "service", "proxy")
		// Without the administrator's certificate: the token decides.
		kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
		operator.ok(t, "biplane", "dataplane", "kubeconfig", file, "--profile", "vendor", "--kubeconfig", kubeconfig)
		if r := operator.run(t, "kubectl", "--kubeconfig", kubeconfig, "-n", "union", "get", "secrets"); r.exit == 0 || !strings.Contains(r.stderr, "Forbidden") {
			t.Errorf("got exit status %d and %s, want Secrets refused", r.exit, r.stderr)
		}
		operator.ok(t, "kubectl", "--kubeconfig", kubeconfig, "-n", "union", "get", "pods")
	})
	t.Run("it refuses to take over the data plane of another", func(t *testing.T) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(filepath.Dir(file), "other.yaml")
		write(t, other, strings.Replace(string(text), "cluster: demo, tokenFile", "cluster: another, tokenFile", 1))
		r := operator.run(t, "biplane", "dataplane", "plan", other, "--profile", "vendor")
		if r.exit != 2 || !strings.Contains(r.stderr, "its control plane knows as demo") {
			t.Errorf("got exit status %d and %s, want it refused", r.exit, r.stderr)
		}
	})
	t.Run("it says so where the API server cannot be reached, and goes without it only when told to", func(t *testing.T) {
		p.ok(t, "biplane", "sandbox", "stop", "kube-apiserver", "--dir", p.dir)
		defer p.ok(t, "biplane", "sandbox", "start", "kube-apiserver", "--dir", p.dir)
		for _, one := range []struct {
			args []string
			exit int
			want string
		}{
			{[]string{"plan", file}, 1, "cannot tell: the API server at"},
			{[]string{"check", file}, 0, "cannot tell: the API server at"},
			{[]string{"remove", file, "--yes"}, 1, "--leave-contents"},
			{[]string{"remove", file, "--dry-run", "--leave-contents"}, 0, "aws ec2 describe-volumes"},
		} {
			r := operator.run(t, "biplane", append(append([]string{"dataplane"}, one.args...), "--profile", "vendor")...)
			if r.exit != one.exit || !strings.Contains(r.stdout+r.stderr, one.want) {
				t.Errorf("%s: got exit status %d and %s%s, want %d and %s", one.args[0], r.exit, r.stdout, r.stderr, one.exit, one.want)
			}
		}
	})
	t.Run("it may be killed while the cluster is emptied", func(t *testing.T) {
		write(t, filepath.Join(filepath.Dir(file), "inside.yaml"), leftBehind)
		p.ok(t, "kubectl", "apply", "-f", filepath.Join(filepath.Dir(file), "inside.yaml"))
		r := operator.run(t, "biplane", "dataplane", "remove", file, "--profile", "vendor", "--dry-run")
		for _, want := range []string{"load balancer of Service default/web", "volume vol-0123456789abcdef0 of claim default/disk", "namespace flytesnacks-development"} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("got %s, want %s in the plan", r.stdout, want)
			}
		}
		operator.killAt(t, inside, "uninstalled the chart", "biplane", "dataplane", "remove", file, "--profile", "vendor", "--yes", "--output", "json")
	})
	t.Run("it empties the cluster before it goes", func(t *testing.T) {
		// The driver of volumes takes the disk away once nobody claims it.
		driven := make(chan result, 1)
		go func() {
			p.run(t, "kubectl", "wait", "--for", "delete", "persistentvolumeclaim/disk", "--timeout", "120s")
			driven <- p.run(t, "kubectl", "delete", "persistentvolume", "disk")
		}()
		operator.ok(t, "biplane", "dataplane", "remove", file, "--profile", "vendor", "--yes")
		if r := <-driven; r.exit != 0 {
			t.Errorf("got %s of the volume, want it released before the cluster went", r.stderr)
		}
		for _, gone := range [][]string{{"namespace", "flytesnacks-development"}, {"service", "web"}, {"persistentvolumeclaim", "disk"}, {"crd", "workspaces.biplane.dev"}, {"-n", "union", "deployment", "operator"}} {
			if r := p.run(t, "kubectl", append([]string{"get"}, gone...)...); !strings.Contains(r.stderr, "NotFound") {
				t.Errorf("got %s%s of %v, want it gone", r.stdout, r.stderr, gone)
			}
		}
		if out := operator.ok(t, "biplane", "dataplane", "remove", file, "--profile", "vendor", "--yes"); !strings.Contains(out, "removed") {
			t.Errorf("got %s, want nothing left", out)
		}
	})
}

// leftBehind is what would stay in the account when the cluster goes.
const leftBehind = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 80}], selector: {app: web}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Delete
  storageClassName: ""
  claimRef: {namespace: default, name: disk}
  csi: {driver: ebs.csi.aws.com, volumeHandle: vol-0123456789abcdef0}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk, namespace: default}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", volumeName: disk, resources: {requests: {storage: 1Gi}}}
`

// operator is somebody with the keys of an account, which a double plays in front of
// the person's sandbox.
func (p *person) operator(t *testing.T) *person {
	t.Helper()
	o := &person{version: p.version, top: p.top, dir: t.TempDir()}
	o.env = slices.DeleteFunc(slices.Clone(p.env), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	lines := filepath.Join(o.dir, "env")
	double := p.command(context.Background(), "biplane-awsdouble", "--sandbox-dir", filepath.Join(p.dir, "default"), "--env-file", lines, "--call-log", os.DevNull)
	out, err := double.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := double.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		double.Process.Signal(os.Interrupt)
		double.Wait()
	})
	// It prints the same lines once it is ready.
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("reading the double's lines: %v", err)
	}
	text, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		o.env = append(o.env, name+"="+strings.Trim(value, "'"))
	}
	o.status = p.status
	return o
}

// writeDataPlane grants access, registers a cluster, and writes the file.
func (p *person) writeDataPlane(t *testing.T) string {
	t.Helper()
	sandboxes := filepath.Dir(p.status.Dir)
	id := strings.TrimSpace(p.ok(t, "biplane", "access", "new-external-id"))
	region := p.status.S3.Region
	granted := strings.TrimSpace(p.ok(t, "biplane", "access", "grant", "--method", "iam", "--external-id", id, "--region", region, "--delete-permissions", "--yes", "--quiet"))
	role := granted[strings.LastIndexByte(granted, '\n')+1:]
	account := strings.Split(role, ":")[4]
	p.ok(t, "biplane", "cluster", "add", "demo", "--sandbox-dir", sandboxes, "--token-file", filepath.Join(p.dir, "token"))
	file := filepath.Join(p.dir, "dataplane.yaml")
	write(t, file, fmt.Sprintf(`apiVersion: biplane.dev/v1alpha1
kind: DataPlane
metadata: {name: demo}
spec:
  account: "%s"
  region: %s
  access: {roleArn: "%s", externalId: "%s", policy: strict}
  controlPlane: {endpoint: "%s", cluster: demo, tokenFile: token}
  network: {create: {cidr: 10.0.0.0/16, zones: 2, nat: single, endpoints: gateway-only}}
  cluster: {version: "1.34", endpoint: public}
`, account, region, role, id, p.status.ControlPlane.Gateway))
	return file
}

// killAt runs a command with one event a line, and kills it at the first of a step that
// has that message.
func (p *person) killAt(t *testing.T, step, message, name string, args ...string) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	command := p.command(ctx, name, args...)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var event struct{ Step, Message string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("got %s, want an event", lines.Text())
		}
		if !killed && event.Step == step && event.Message == message {
			command.Process.Kill()
			killed = true
		}
	}
	command.Wait()
	if !killed {
		t.Fatalf("got no %q of %s, want to kill it there\n%s", message, step, &said)
	}
}
