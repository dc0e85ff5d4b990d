package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// Check says, in an error for people, what keeps this machine from running
// containers. It tries: no setting of a machine says it for sure.
func Check() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &script{}
	s.dieWithNode()
	s.mapUser(0, 0)
	s.do("unshare mounts", unix.SYS_MOUNT, 0, s.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	s.mountProc()
	pid, err := s.play(namespaces)
	if err == nil {
		reap(pid)
		return nil
	}
	return refusal(err, sysctl, release())
}

// refusal finds the reason for what the trial of Check met.
func refusal(err error, sysctl func(name string) string, release string) error {
	var start *StartError
	errno := syscall.Errno(0)
	errors.As(err, &errno)
	doing := ""
	if errors.As(err, &start) {
		doing = start.Doing
	}
	refuse := func(why, remedy string) error {
		return usererr.New(usererr.Unavailable, "this machine does not let containers be run without root: %s", why).WithHint("%s", remedy).Because(err)
	}
	set := func(name, value string) string { return fmt.Sprintf("run 'sudo sysctl -w %s=%s'", name, value) }
	const other = "or use '--node kwok', which runs no programs"
	switch {
	case older(release, 5, 12):
		return refuse(fmt.Sprintf("its kernel is Linux %s, and 5.12 is the first that can", release), "use a newer kernel, "+other)
	case sysctl("user.max_user_namespaces") == "0" || errno == unix.ENOSPC:
		return refuse(fmt.Sprintf("user.max_user_namespaces is %s, and more user namespaces are not allowed", sysctl("user.max_user_namespaces")),
			set("user.max_user_namespaces", "15000")+", "+other)
	case sysctl("kernel.unprivileged_userns_clone") == "0":
		return refuse("kernel.unprivileged_userns_clone is 0", set("kernel.unprivileged_userns_clone", "1")+", "+other)
	case sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":
		return refuse("kernel.apparmor_restrict_unprivileged_userns is 1", set("kernel.apparmor_restrict_unprivileged_userns", "0")+
			", or give biplane-sandbox an AppArmor profile with 'userns,', "+other)
	case doing == doingProc:
		return refuse("a /proc of their own cannot be mounted, as inside a container whose /proc is partly covered",
			"run it outside of that container, or that container privileged, "+other)
	case errno == unix.EPERM || errno == unix.ENOSYS || errno == unix.EACCES:
		return refuse(fmt.Sprintf("%s: %v", doing, errno),
			"if this is a container itself, run it privileged or with '--security-opt seccomp=unconfined'; else see whether a security module forbids user namespaces, "+other)
	}
	return refuse(err.Error(), "see that the kernel has user, PID and mount namespaces, "+other)
}

func sysctl(name string) string {
	value, err := os.ReadFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(value))
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// older says whether a release, "6.1.0-32-amd64", is older than major.minor.
func older(release string, major, minor int) bool {
	m, rest, _ := strings.Cut(release, ".")
	n, _, _ := strings.Cut(rest, ".")
	n, _, _ = strings.Cut(n, "-")
	gotMajor, err := strconv.Atoi(m)
	gotMinor, err2 := strconv.Atoi(n)
	return err == nil && err2 == nil && (gotMajor < major || gotMajor == major && gotMinor < minor)
}

// chooseLayers tries where what containers write can be kept. A file system
// that is an overlay itself, or a network's, cannot be the upper one of an
// overlay; before Linux 6.6 a memory file system cannot fully.
func (r *Runtime) chooseLayers() (layers, error) {
	var failed error
	for _, choice := range []layers{{false, true}, {false, false}, {true, true}} {
		err := r.tryLayers(choice)
		if err == nil {
			return choice, nil
		}
		failed = errors.Join(failed, err)
	}
	return layers{}, usererr.New(usererr.Unavailable, "overlay file systems cannot be mounted in a user namespace for %s", r.dir).
		WithHint("try another '--dir', on a local disk; or '--node kwok', which runs no programs").Because(failed)
}

func (r *Runtime) tryLayers(l layers) error {
	folder := r.folder("trial")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	s := &script{}
	s.dieWithNode()
	s.mapUser(0, 0)
	s.do("unshare mounts", unix.SYS_MOUNT, 0, s.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	s.do("enter the folder", unix.SYS_CHDIR, s.str(folder))
	l.mount(s, r.mark, r.host[:2]) // the root, and /run in it
	for _, name := range []string{newRoot + "/var", newRoot + "/run"} {
		// A folder in place of one of the lower's is what takes attributes.
		lock := name + "/lock"
		s.do("remove a folder", unix.SYS_UNLINKAT, atCWD, s.str(lock), unix.AT_REMOVEDIR)
		s.do("make it again", unix.SYS_MKDIRAT, atCWD, s.str(lock), 0o755)
	}
	pid, err := r.play(s, namespaces)
	if err == nil {
		reap(pid)
	}
	return errors.Join(err, sandbox.RemoveAll(folder))
}
