package kubelet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"biplane.dev/biplane/internal/usererr"
)

// queued is where images wait, below a node's folder, for its containerd: an
// archive each. What containerd has imported it keeps itself.
const queued = "images"

// Import gives an image under a name to the nodes of this kind of the sandbox in
// a folder: at once to one that runs, and to any other when it starts.
func Import(ctx context.Context, sandbox, as string, image v1.Image) error {
	nodes, err := filepath.Glob(filepath.Join(sandbox, "node", "*", networkFile))
	if err != nil {
		return fmt.Errorf("looking for nodes: %w", err)
	}
	for _, file := range nodes {
		dir := filepath.Dir(file)
		if err := enqueue(dir, as, image); err != nil {
			return err
		}
		if !running(dir) {
			continue
		}
		if err := importQueued(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

func enqueue(dir, as string, image v1.Image) error {
	tag, err := name.NewTag(as)
	if err != nil {
		return usererr.New(usererr.Refused, "a kubelet node keeps images under names with tags, and %q has none", as).
			WithHint("name it REGISTRY/REPOSITORY:TAG").Because(err)
	}
	queue := filepath.Join(dir, queued)
	if err := os.MkdirAll(queue, 0o700); err != nil {
		return fmt.Errorf("making the node's folder of images: %w", err)
	}
	file, err := os.CreateTemp(queue, "*.unfinished")
	if err != nil {
		return fmt.Errorf("writing an image for the node: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := tarball.Write(tag, image, file); err != nil {
		return fmt.Errorf("writing the image %s for the node: %w", as, err)
	}
	return os.Rename(file.Name(), filepath.Join(queue, fmt.Sprintf("%x.tar", sha256.Sum256([]byte(as)))))
}

// importQueued imports what waits into the containerd that runs.
func importQueued(ctx context.Context, dir string) error {
	archives, err := filepath.Glob(filepath.Join(dir, queued, "*.tar"))
	if err != nil {
		return fmt.Errorf("looking for images: %w", err)
	}
	for _, archive := range archives {
		if _, err := ctr(ctx, dir, "images", "import", archive); err != nil {
			return fmt.Errorf("importing an image into the node: %w", err)
		}
		os.Remove(archive) // another import of the same may have done it
	}
	return nil
}

// enqueuePause sees that the image is there without which no pod starts, once
// containerd answers.
func enqueuePause(ctx context.Context, dir string) error {
	// The socket takes connections before containerd serves them.
	deadline, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var have string
	for {
		var err error
		if have, err = ctr(deadline, dir, "images", "list", "--quiet"); err == nil {
			break
		}
		if deadline.Err() != nil {
			return fmt.Errorf("waiting for containerd's images: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for line := range strings.Lines(have) {
		if strings.TrimSpace(line) == PauseImage {
			return nil
		}
	}
	image, err := pauseImage()
	if err != nil {
		return fmt.Errorf("making the image %s: %w", PauseImage, err)
	}
	return enqueue(dir, PauseImage, image)
}

// ctr runs containerd's own client, in the namespace that is Kubernetes'. The
// socket is named relatively, for its path may be too long for one.
func ctr(ctx context.Context, dir string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", "containerd.sock", "--namespace", "k8s.io"}, args...)...)
	cmd.Dir = filepath.Join(dir, "run")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// running says whether the node whose folder is dir has a containerd to import
// into.
func running(dir string) bool {
	run, err := os.Open(filepath.Join(dir, "run"))
	if err != nil {
		return false
	}
	defer run.Close()
	// By way of the open folder, for the path may be too long for a socket.
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/containerd.sock", run.Fd()))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
