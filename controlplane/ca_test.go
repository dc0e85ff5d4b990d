package controlplane_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/controlplane"
)

// ca runs a command of it.
func (w *world) ca(args ...string) (status int, stdout, stderr string) {
	w.t.Helper()
	var out, err bytes.Buffer
	status = controlplane.Run(w.t.Context(), append([]string{"ca"}, append(args, "--config", w.file)...), &out, &err)
	return status, out.String(), err.String()
}

func (w *world) wantCA(status int, says string, args ...string) {
	w.t.Helper()
	got, stdout, stderr := w.ca(args...)
	if got != status || !strings.Contains(stdout+stderr, says) {
		w.t.Errorf("ca %s: got %d, %q, %q, want %d with %q", strings.Join(args, " "), got, stdout, stderr, status, says)
	}
	for line := range strings.Lines(stdout + stderr) {
		if strings.Contains(line, "PRIVATE") {
			w.t.Errorf("got %q, want no key", line)
		}
	}
}

func TestCA(t *testing.T) {
	onBoth(t, func(t *testing.T, db database) {
		w := newWorld(t, db, "")
		plane := w.join("c1")
		if _, err := w.clusters().AddCluster(t.Context(), &clusterv1.AddClusterRequest{Name: "c2"}); err != nil {
			t.Fatal(err)
		}
		w.wantCA(0, "no other is believed", "show")
		w.wantCA(0, "is believed too", "rotate")
		w.wantCA(0, `awaited: cluster "c1" of default has not renewed its certificate since the last step, and does so by 20`, "show")
		w.wantCA(0, `awaited: cluster "c2" of default has a join token that names the CA which signs now`, "show")
		w.wantCA(1, "the next step would lose data planes", "rotate")
		w.wantCA(0, "is believed too", "show") // as it was
		w.wantCA(0, "is still believed", "rotate", "--force")
		w.wantCA(0, `awaited: cluster "c1" of default has not renewed`, "show")
		if got := len(strings.Split(w.shown(), "awaited")); got != 2 { // c2 never had a certificate
			t.Errorf("got %q, want c1 alone to be awaited", w.shown())
		}
		w.wantCA(1, "run it again later", "rotate")
		w.wantCA(0, "no other is believed", "rotate", "--force")
		<-plane.served // its certificate comes from the CA that was retired
	})
}

func (w *world) shown() string {
	_, out, _ := w.ca("show")
	return out
}

func TestCAWithoutServer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "controlplane.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: biplane.dev/v1alpha1\nkind: ControlPlaneConfig\nfolder: state\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, file: file}
	w.wantCA(2, "hint: the server makes it at its first start", "show")
	w.wantCA(2, "hint: the server makes it at its first start", "rotate")
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "state")); err == nil {
		t.Error("got a folder, want nothing made")
	}
}
