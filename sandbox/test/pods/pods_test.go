package pods_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/kubelet"
	"biplane.dev/biplane/sandbox/test/pods"
)

// golden is the kubelet's table: it takes root and minutes to see it anew. It is
// made by
//
//	go test ./test/pods -run TestPods -args -record
//
// and says of which versions it is.
const golden = "testdata/kubelet.txt"

const differences = "../../../docs/sandbox-node-differences.md"

// TestPods runs the suite on a process node, and compares with a kubelet's.
func TestPods(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs some hundred pods on two nodes")
	}
	images, err := pods.Images(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kubeletNode, recorded := recordedTable(t)
	unable := kubelet.Check()
	if *record && unable != nil {
		t.Fatalf("the kubelet's node cannot run here: %v", unable)
	}
	if *both && unable != nil {
		t.Logf("NOT RUN on a kubelet's node, but compared with its recording: %v", unable)
	}
	if (*both || *record) && unable == nil {
		version, observed := observe(t, sandbox.KubeletNode, images)
		if *record {
			writeTable(t, version, observed)
			recorded = observed
		}
		if changed := pods.Differences(pods.Rows(recorded, observed)); len(changed) > 0 {
			var said bytes.Buffer
			pods.Print(&said, changed)
			t.Errorf("got another table on the kubelet's node %s (right) than recorded on %s (left); if it is right, record it: go test ./test/pods -run TestPods -args -record\n%s", version, kubeletNode, said.String())
		}
		kubeletNode, recorded = version, observed
	} else {
		t.Logf("the kubelet's side is what was recorded on %s; -args -kubelet runs it (root, containerd, four minutes)", kubeletNode)
	}
	processNode, observed := observe(t, sandbox.ProcessNode, images)
	rows := pods.Rows(recorded, observed)
	var table bytes.Buffer
	pods.Print(&table, rows)
	t.Logf("what pods do on a kubelet's node (%s) and on a process node (%s):\n%s", kubeletNode, processNode, table.String())
	compare(t, rows)
}

// compare holds the differences against those that are listed with reasons.
func compare(t *testing.T, rows []pods.Row) {
	f, err := os.Open(differences)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	listed, err := pods.Listed(f)
	if err != nil {
		t.Fatalf("%s: %v", differences, err)
	}
	found := pods.Differences(rows)
	for _, d := range found {
		if _, ok := listed[d]; !ok {
			t.Errorf("a pod %s: got %s %q, want %q as on the kubelet's node, or this line with a reason in %s:\n%s", d.Case, d.Key, d.Process, d.Kubelet, differences, d.Line("…"))
		}
		delete(listed, d)
	}
	for d := range listed {
		t.Errorf("a pod %s: %s is listed in %s and is no difference any more; remove:\n%s", d.Case, d.Key, differences, d.Line("…"))
	}
	t.Logf("%d observations of %d cases; %d differ, each listed", len(rows), len(pods.Cases()), len(found))
}

// observe brings a sandbox up with such a node, runs the suite on it, and takes
// it down.
func observe(t *testing.T, kind sandbox.NodeKind, images map[string]string) (version string, results []pods.Result) {
	t.Helper()
	folder, program := up(t, kind)
	for name, file := range images {
		out, err := exec.CommandContext(t.Context(), program, "image", "import", "--dir", string(folder), "--", name, file).CombinedOutput()
		if err != nil {
			t.Fatalf("importing %s: %v\n%s", name, err, out)
		}
	}
	node, err := pods.Open(t.Context(), folder.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	results, err = pods.Run(t.Context(), node, pods.Cases(), 16)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases on a %s node (%s) took %.0f s", len(results), kind, node.Version(), time.Since(began).Seconds())
	return node.Version(), results
}

// up brings a sandbox up that ends with the test.
func up(t *testing.T, kind sandbox.NodeKind) (sandbox.Folder, string) {
	t.Helper()
	program, err := filepath.Abs(*program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v; run 'make build' first", err)
	}
	folder, err := sandbox.FolderOf(t.TempDir(), "pods-"+string(kind))
	if err != nil {
		t.Fatal(err)
	}
	if kind == sandbox.KubeletNode {
		leavesNothing(t, string(folder))
	}
	supervisor := sandbox.Supervisor{
		Program: program, Folder: folder, Env: os.Environ(), Foreground: true,
		Options: sandbox.Options{Node: kind, Only: []string{sandbox.KubeGroup, sandbox.Nodes}},
	}
	running, err := supervisor.Up(t.Context(), func(sandbox.Event) {})
	if running != nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := sandbox.Dial(folder).Down(ctx); err != nil && !errors.Is(err, sandbox.ErrNotUp) {
				t.Errorf("taking the sandbox down: %v", err)
			}
		})
	}
	if err != nil {
		var logs strings.Builder
		for _, name := range []string{"supervisor", "node-worker-1"} {
			text, _ := os.ReadFile(folder.Log(name))
			fmt.Fprintf(&logs, "%s:\n%s\n", name, text[max(0, len(text)-4000):])
		}
		t.Fatalf("bringing a sandbox with a %s node up: %v\n%s", kind, err, logs.String())
	}
	return folder, program
}

func recordedTable(t *testing.T) (node string, results []pods.Result) {
	t.Helper()
	f, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	node, results, err = pods.Read(f)
	if err != nil {
		t.Fatalf("%s: %v", golden, err)
	}
	return node, results
}

func writeTable(t *testing.T, node string, results []pods.Result) {
	t.Helper()
	var text bytes.Buffer
	if err := pods.Write(&text, node, results); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
