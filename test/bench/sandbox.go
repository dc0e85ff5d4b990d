// Package bench measures from outside, as a person has it. Of a sandbox: the time
// of `biplane sandbox up`, of the first pod and of five hundred, and the memory
// at rest, for each kind of node, side by side in one run. Of a data plane against
// the double of AWS: apply and remove beside their critical path, and what only
// looks. It measures and never asserts; docs/sandbox-speed.md and
// docs/provision-speed.md say how it is run and what was seen.
//
// It is a module of its own, so that the client of Kubernetes is no dependency
// of biplane.
//
// Start with the benchmarks in bench_test.go and dataplane_test.go; this file is the
// sandbox they start, account.go the account in the double.
package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// image is what pods run: nothing but /bin/true.
const image = "bench.example/true:1"

// sandbox is one of a folder of its own.
type sandbox struct {
	program string // biplane
	dir     string
}

// status is the part of `biplane sandbox status --output json` that is read.
type status struct {
	Kubernetes struct{ Kubeconfig string }
	Components []struct {
		Name        string
		MemoryBytes int64
	}
}

// run types one command of biplane and returns what it printed.
func (s sandbox) run(ctx context.Context, args ...string) ([]byte, error) {
	args = append(append([]string{"sandbox"}, args...), "--name=bench", "--dir="+s.dir, "--quiet")
	command := exec.CommandContext(ctx, s.program, args...)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("biplane %s: %w: %s", strings.Join(args[:2], " "), err, said.Bytes())
	}
	return out.Bytes(), nil
}

// up returns how long it took.
func (s sandbox) up(ctx context.Context, args ...string) (time.Duration, error) {
	began := time.Now()
	_, err := s.run(ctx, append([]string{"up"}, args...)...)
	return time.Since(began), err
}

func (s sandbox) down(ctx context.Context, args ...string) error {
	_, err := s.run(ctx, append([]string{"down"}, args...)...)
	return err
}

func (s sandbox) status(ctx context.Context) (status, error) {
	var of status
	out, err := s.run(ctx, "status", "--output=json")
	if err == nil {
		err = json.Unmarshal(out, &of)
	}
	return of, err
}

// client is the administrator's, without a limit of its own.
func (s sandbox) client(ctx context.Context) (*kubernetes.Clientset, error) {
	of, err := s.status(ctx)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", of.Kubernetes.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	return kubernetes.NewForConfig(config)
}

// addImage gives the node the image; a fake node wants none.
func (s sandbox) addImage(ctx context.Context, node string) error {
	switch node {
	case "process":
		_, err := s.run(ctx, "image", "map", image, "host")
		return err
	case "kubelet":
		archive := filepath.Join(s.dir, "true.tar")
		if err := writeImage(ctx, archive); err != nil {
			return err
		}
		_, err := s.run(ctx, "image", "import", image, archive)
		return err
	}
	return nil
}

// writeImage writes a docker archive of one static program.
func writeImage(ctx context.Context, path string) error {
	dir, err := os.MkdirTemp("", "bench-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "true.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "true"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building /bin/true: %w: %s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "true"))
	if err != nil {
		return err
	}
	layer, err := archive(entry{"bin/true", program, 0o755})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{image}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	whole, err := archive(entry{"layer.tar", layer, 0o644}, entry{"config.json", config, 0o644}, entry{"manifest.json", manifest, 0o644})
	if err != nil {
		return err
	}
	return os.WriteFile(path, whole, 0o600)
}

type entry struct {
	name    string
	content []byte
	mode    int64
}

func archive(entries ...entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content))}); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, bytes.NewReader(e.content)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
