package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// runInside is the life of the node's first process. Everything that it starts,
// and all that these start, ends with it.
func runInside(ctx context.Context, o Options, log *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := awaitRelease(stop); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(o.Name)); err != nil {
		return fmt.Errorf("naming the node: %w", err)
	}
	if err := writeConfig(o); err != nil {
		return err
	}
	if err := mountInside(o); err != nil {
		return err
	}
	if err := o.Network.configureInside(); err != nil {
		return err
	}
	programs := &children{log: log, running: map[int]*exec.Cmd{}}
	defer programs.busy.Wait()
	defer stop()
	programs.run(ctx, "containerd", "containerd", "--config", filepath.Join(o.Dir, "etc/containerd.toml"))
	if err := awaitSocket(ctx, filepath.Join(runtimeDir, "containerd.sock")); err != nil {
		return err
	}
	if err := enqueuePause(ctx, o.Dir); err != nil {
		return err
	}
	if err := importQueued(ctx, o.Dir); err != nil {
		return err
	}
	go programs.reap()
	names, err := serveNames(ctx, o, log)
	if err != nil {
		return err
	}
	defer names.stop()
	executable := o.Programs
	if executable == "" {
		if executable, err = os.Executable(); err != nil {
			return fmt.Errorf("finding this executable: %w", err)
		}
	}
	programs.run(ctx, "kubelet", executable, "kubelet",
		"--config", filepath.Join(o.Dir, "etc/kubelet.yaml"),
		"--kubeconfig", filepath.Join(o.Dir, "etc/kubelet.kubeconfig"),
		"--root-dir", kubeletRoot,
		"--cert-dir", filepath.Join(kubeletRoot, "pki"),
		"--hostname-override", o.Name,
		"--node-ip", o.Network.Node().String())
	programs.run(ctx, "kube-proxy", executable, "kube-proxy",
		"--config", filepath.Join(o.Dir, "etc/kube-proxy.yaml"))
	<-ctx.Done()
	return nil
}

// awaitSocket is until something accepts connections at path.
func awaitSocket(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for containerd: %w", errors.Join(context.Cause(ctx), err))
		case <-time.After(20 * time.Millisecond): // a socket that is not there yet cannot be waited for
		}
	}
}
