package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"biplane.dev/biplane/internal/usererr"
)

// canNamespace says whether root here may do what root does elsewhere; in a
// container it often may not.
func canNamespace() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("reading this process's capabilities: %w", err)
	}
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_MKNOD, "CAP_MKNOD"}} {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			return usererr.New(usererr.Refused, "a node of kind kubelet needs the capability %s, which root has not here", c.name).
				WithHint("run it outside of a container, or take --node process")
		}
	}
	return nil
}

// inner is the node's first process, seen from this machine: when it ends, every
// process of its PID namespace is killed by the kernel.
type inner struct {
	cmd  *exec.Cmd
	gate *os.File // a byte lets it begin; its end tells it that we are gone
	done chan struct{}
	err  error // after done
	once sync.Once
}

func startInside(o Options) (*inner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this executable: %w", err)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer theirs.Close()
	cmd := exec.Command(self, append(o.Args(), "--inside")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true, // a Ctrl-C is for us, who then stop it in order
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // the signal comes when this thread ends; a locked one lasts
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("starting the node's first process: %w", err)
	}
	in := &inner{cmd: cmd, gate: ours, done: make(chan struct{})}
	go func() { in.err = cmd.Wait(); close(in.done) }()
	return in, nil
}

func (in *inner) pid() int { return in.cmd.Process.Pid }

func (in *inner) release() { in.gate.Write([]byte{1}) } // when it fails, wait says so

// wait is until the node has ended, or ctx.
func (in *inner) wait(ctx context.Context) error {
	select {
	case <-in.done:
		if in.err == nil {
			return errors.New("the node's first process ended, and nobody asked it to")
		}
		return fmt.Errorf("the node's first process ended: %w", in.err)
	case <-ctx.Done():
		return nil
	}
}

// stop is a machine's quick shutdown: a moment for the programs to write what
// they have, and then the power.
func (in *inner) stop() {
	in.once.Do(func() {
		in.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-in.done:
		case <-time.After(800 * time.Millisecond):
			in.cmd.Process.Kill()
		}
		<-in.done
		in.gate.Close()
		runtime.UnlockOSThread()
	})
}

// gate is the inner process's end of the pipe.
const gate = 3

// awaitRelease returns once the links are there, and later calls gone when the
// outer process is.
func awaitRelease(gone func()) error {
	pipe := os.NewFile(gate, "gate")
	if _, err := io.ReadFull(pipe, make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting for the node's links: %w", err)
	}
	go func() {
		io.Copy(io.Discard, pipe)
		gone()
	}()
	return nil
}

// kubeletRoot is where a kubelet keeps its pods. Its --root-dir could be
// elsewhere, but the socket of its device plugins could not.
const kubeletRoot = "/var/lib/kubelet"

// mountpoint is a folder of this machine that is only ever mounted over, in the
// node's own mount namespace. That we made it is noted in the node's folder, so
// that it goes even when a start was cut short.
type mountpoint struct{ note string }

func makeMountpoint(o Options) (mountpoint, error) {
	m := mountpoint{note: filepath.Join(o.Dir, "made-"+strings.ReplaceAll(kubeletRoot[1:], "/", "-"))}
	if _, err := os.Stat(kubeletRoot); err == nil {
		return m, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return m, fmt.Errorf("making the node's folder: %w", err)
	}
	if err := os.WriteFile(m.note, nil, 0o600); err != nil {
		return m, fmt.Errorf("noting that %s is ours: %w", kubeletRoot, err)
	}
	if err := os.Mkdir(kubeletRoot, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return m, fmt.Errorf("making the folder to mount over: %w", err)
	}
	return m, nil
}

func (m mountpoint) remove() {
	if _, err := os.Stat(m.note); err != nil {
		return
	}
	os.Remove(kubeletRoot) // not when something is in it: then it is somebody's
	os.Remove(m.note)
}

// runtimeDir is the node's run folder inside: a short name for sockets. What
// this machine finds in o.Dir/run is the same.
const runtimeDir = "/run/biplane"

// mountInside gives the node its own file systems. The rest is this machine's,
// so that hostPath volumes and programs are found where they are.
func mountInside(o Options) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	// Folders are held open: those below /run are about to be hidden.
	type bind struct {
		from *os.File
		to   string
	}
	var binds []bind
	for from, to := range map[string]string{"run": runtimeDir, "kubelet": kubeletRoot, "log": "/var/log"} {
		dir, err := os.Open(filepath.Join(o.Dir, from))
		if err != nil {
			return fmt.Errorf("opening a folder of the node: %w", err)
		}
		defer dir.Close()
		binds = append(binds, bind{dir, to})
	}
	// Gone with the node, as after a machine's restart: containerd's state, the
	// network namespaces of pods, the lock of iptables.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := os.Mkdir(runtimeDir, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", runtimeDir, err)
	}
	// The kubelet's container statistics look for containerd's socket at its usual
	// place, wherever the kubelet was told to find it.
	if err := os.Mkdir("/run/containerd", 0o711); err != nil {
		return fmt.Errorf("making containerd's folder: %w", err)
	}
	if err := os.Symlink(runtimeDir+"/containerd.sock", "/run/containerd/containerd.sock"); err != nil {
		return fmt.Errorf("linking containerd's socket: %w", err)
	}
	for _, b := range binds {
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", b.from.Fd()), b.to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", b.to, err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := shieldSettings(); err != nil {
		return err
	}
	// Volumes with mount propagation ask for a shared tree.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts with containers: %w", err)
	}
	return nil
}

// settings are those of the kernel that a kubelet demands, with the values it
// wants to see. They belong to the whole machine, so it sees files instead.
var settings = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

func shieldSettings() error {
	dir := "/run/sysctl"
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	for name, value := range settings {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", file, err)
		}
		if err := unix.Mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("shielding the setting %s: %w", name, err)
		}
	}
	return nil
}
