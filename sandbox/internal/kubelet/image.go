package kubelet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Import puts an image under a name into the containerd of the running node
// whose folder is dir; there it stays until the folder is deleted.
func Import(ctx context.Context, dir, as string, image v1.Image) error {
	tag, err := name.NewTag(as)
	if err != nil {
		return fmt.Errorf("reading the image name %q: %w", as, err)
	}
	archive, in := io.Pipe()
	go func() { in.CloseWithError(tarball.Write(tag, image, in)) }()
	_, err = ctr(ctx, dir, archive, "images", "import", "-")
	archive.Close()
	if err != nil {
		return fmt.Errorf("importing the image %s: %w", as, err)
	}
	return nil
}

// importPause imports the image without which no pod starts.
func importPause(ctx context.Context, dir string) error {
	// The socket takes connections before containerd serves them.
	deadline, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var have string
	for {
		var err error
		if have, err = ctr(deadline, dir, nil, "images", "list", "--quiet"); err == nil {
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
	return Import(ctx, dir, PauseImage, image)
}

// ctr runs containerd's own client, in the namespace that is Kubernetes'. The
// socket is named relatively, for its path may be too long for one.
func ctr(ctx context.Context, dir string, in io.Reader, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", "containerd.sock", "--namespace", "k8s.io"}, args...)...)
	cmd.Dir = filepath.Join(dir, "run")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Running says whether the node whose folder is dir has a containerd to import
// into.
func Running(dir string) bool {
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
