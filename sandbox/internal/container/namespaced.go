package container

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespaced has cmd, a program that runs containers, started in user, mount
// and PID namespaces of its own. File systems in memory that it mounts are seen
// by the containers that it starts afterwards, and by nobody else; and when it
// ends, the kernel itself takes away its mounts and every process below it,
// also one that has freed itself of its parent's death signal.
//
// The program is uid 0 there, which is still the caller's user outside. It
// cannot do outside what only root can (bind port 80, say) even where the
// caller is root. It has to call Enter first.
func Namespaced(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	cmd.SysProcAttr.GidMappingsEnableSetgroups = false
}

// Enter finishes what Namespaced began: mounts are separated from the
// machine's, and /proc shows the processes of the new namespace.
func Enter() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("container.Enter: this program was not started by Namespaced: its process id is %d, want 1", os.Getpid())
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return nil
}
