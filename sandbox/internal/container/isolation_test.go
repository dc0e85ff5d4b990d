package container

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// TestBreakingOut tries what a program would that wants to know or change what
// is not its own. Each command prints only what it got.
func TestBreakingOut(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "ca.key")
	write(t, secret, "the CA's key")
	os.Chmod(secret, 0o600)
	other, log := start(t, Spec{Args: []string{"sh", "-c", "echo mine > /tmp/theirs; echo ready; sleep 1000"}, Write: true})
	log.waitFor(t, "ready")
	volume := t.TempDir()
	for name, to := range map[string]string{"key": secret, "root": "/", "up": "../../../../../../..", "proc": "/proc/1/root"} {
		os.Symlink(to, filepath.Join(volume, name))
	}
	read := []Mount{{Source: volume, Target: "/v", ReadOnly: true}}
	home, _ := os.UserHomeDir()
	for _, test := range []struct {
		name, command string
		spec          Spec
	}{
		{"it cannot open the CA key", "cat " + secret, Spec{}},
		{"it cannot find it from another process's root", "cat /proc/[0-9]*/root" + secret + "; cat /proc/self/cwd" + secret, Spec{}},
		{"it cannot see the sandbox's folder", "ls " + shared.dir + " " + filepath.Dir(secret), Spec{}},
		{"it cannot see the user's home folder", "ls -A " + home + "/.ssh " + home + "/.aws " + home + "/.local 2>/dev/null", Spec{}},
		{"it cannot read what only root may", "head -c1 /etc/shadow /etc/gshadow /etc/ssl/private/* -q", Spec{}},
		{"it cannot see another container's files", "cat /tmp/theirs; cat " + shared.folder(other.ID()) + "/0/tmp/theirs", Spec{}},
		{"it cannot see processes outside", fmt.Sprintf("cat /proc/%d/cmdline /proc/%d/cmdline; [ $(ls -d /proc/[0-9]* | wc -l) -le 4 ] || ls -d /proc/[0-9]*", other.PID(), os.Getpid()), Spec{}},
		{"it cannot signal processes outside", fmt.Sprintf("kill -0 %d && echo seen; kill -0 %d && echo seen; kill -9 -1", other.PID(), os.Getpid()), Spec{}},
		{"it cannot follow a volume's links out", "cat /v/key; cat /v/root" + secret + "; cat /v/up" + secret + "; cat /v/proc" + secret, Spec{Mounts: read}},
		{"it cannot make a read-only mount writable", "mount -o remount,rw /v; mount -o remount,bind,rw /v; umount /v; touch /v/x && echo written", Spec{Mounts: read}},
		{"nor in namespaces of its own", "unshare -Urm sh -c 'mount -o remount,bind,rw /v; umount /v; umount -l /v; touch /v/x && echo written'", Spec{Mounts: read}},
		{"it cannot mount a /proc that is not covered", "mkdir /tmp/p; unshare -Urmpf sh -c 'mount -t proc proc /tmp/p && echo 1 > /tmp/p/sys/kernel/printk && echo written'; umount /proc/sys && echo unmounted", Spec{Write: true}},
		{"it cannot set the machine's parameters", "echo core > /proc/sys/kernel/core_pattern && echo written; echo h > /proc/sysrq-trigger && echo written", Spec{Write: true}},
		{"nor with all capabilities, in /sys", "echo 1 > /sys/kernel/profiling && echo written; for f in /sys/block/*/queue/read_ahead_kb; do echo 128 > $f && echo written; done", Spec{Write: true, Privileged: true}},
		{"it cannot make a device", "mknod /tmp/mem c 1 1 && cat /tmp/mem | head -c1; mknod /dev/vda b 254 0 && head -c1 /dev/vda", Spec{Write: true, Privileged: true}},
		{"it cannot enter the node's namespaces", "nsenter -t 1 -m -p -U true; for n in mnt pid user; do nsenter --$n=/proc/1/ns/$n cat " + secret + "; done", Spec{Privileged: true}},
		{"it cannot leave its root", "mkdir /tmp/r; chroot /tmp/r/../../../../.. cat " + secret + "; cat /../../.." + secret + "; chroot /proc/1/root cat " + secret, Spec{Write: true, Privileged: true}},
		{"it cannot open files by handle", `python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for path in ("/", "/usr", "/etc/hosts"):
    fd = os.open(path, os.O_RDONLY)
    for inode in range(2, 200):
        handle = ctypes.create_string_buffer((8).to_bytes(4, "little") + (1).to_bytes(4, "little") + inode.to_bytes(4, "little") + bytes(4))
        if libc.open_by_handle_at(fd, handle, 0) >= 0: print("opened", path, inode)
'`, Spec{Privileged: true}},
		{"it cannot trace processes outside", fmt.Sprintf("cat /proc/%d/environ /proc/%d/mem; dd if=/proc/1/mem bs=1 count=1 of=/dev/null skip=0 && echo read", os.Getpid(), other.PID()), Spec{}},
		{"it has none of the node's files", "for f in /proc/1/fd/*; do case $(readlink $f) in pipe:*|/dev/null|'') ;; *) readlink $f;; esac; done", Spec{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _ := run(t, test.spec, "{ "+test.command+"\n} 2>/dev/null")
			if got != "" {
				t.Errorf("got %q, want nothing", got)
			}
		})
	}
	if unix.Kill(other.PID(), 0) != nil {
		t.Error("got the other container killed, want it untouched")
	}
	if entries, _ := os.ReadDir(volume); len(entries) != 4 {
		t.Errorf("got %v in the volume, want only the links", entries)
	}

	t.Run("its namespaces are not the node's", func(t *testing.T) {
		got, _ := run(t, Spec{}, "for n in user mnt pid ipc uts cgroup; do readlink /proc/self/ns/$n; done")
		for line := range strings.Lines(got) {
			kind, _, _ := strings.Cut(line, ":")
			if ours, err := os.Readlink("/proc/self/ns/" + kind); err != nil || ours == strings.TrimSpace(line) {
				t.Errorf("got namespace %s, %v, want another than the node's", line, err)
			}
		}
		if strings.Count(got, "\n") != 6 {
			t.Errorf("got %q, want six namespaces", got)
		}
	})
	t.Run("it cannot change a sub-path into a way out", func(t *testing.T) {
		// The link is put in place between the check and the mount by who never stops trying.
		racing := t.TempDir()
		write(t, filepath.Join(racing, "a/inside"), "")
		stop := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			sub, out := filepath.Join(racing, "a"), filepath.Join(racing, "b")
			os.Symlink(filepath.Dir(secret), out)
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, sub, unix.AT_FDCWD, out, unix.RENAME_EXCHANGE)
				}
			}
		}()
		for range 30 {
			spec := Spec{Args: []string{"ls", "/v"}, Mounts: []Mount{{Source: racing, SubPath: "a", Target: "/v"}}}
			if c, log, err := tryStart(t, spec); err == nil {
				end(t, c)
				if got := log.content(); got != "inside\n" {
					t.Fatalf("got %q, want the folder inside or an error", got)
				}
			}
		}
		close(stop)
		<-stopped
	})
}

// nodeProgram starts containers and waits to be killed.
func nodeProgram(args []string) {
	if args[1] == "namespaced" {
		if err := Enter(); err != nil {
			fmt.Println(err)
			return
		}
		if err := unix.Mount("tmpfs", args[2], "tmpfs", 0, ""); err != nil {
			fmt.Println(err)
			return
		}
	}
	r, err := Open(args[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	var mounts []Mount
	if len(args) > 2 {
		mounts = []Mount{{Source: args[2], Target: "/shared"}}
	}
	for i, command := range []string{"echo hello > /shared/file", "while ! cat /shared/file 2>/dev/null; do sleep 0.01; done; sleep 1000", "setpriv --pdeathsig clear sh -c 'echo pdeathsig; sleep 1000'"} {
		if len(args) == 2 && i == 0 {
			command = "(setsid sleep 1000 &); sleep 1000"
		}
		c, err := r.Start(Spec{ID: fmt.Sprint(i), Args: []string{"sh", "-c", command}, Log: os.Stdout, Mounts: mounts})
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = c
	}
	fmt.Println("started")
	select {}
}

// checkProgram prints what Check says where no user namespace is left.
func checkProgram([]string) {
	// As on a machine where it was set, for the namespaces below this one.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0o644); err != nil {
		fmt.Println(err)
	}
	err := Check()
	var people *usererr.Error
	if errors.As(err, &people) {
		fmt.Printf("%s\n%s\n", people, people.Hint)
		return
	}
	fmt.Println(err)
}

// startNode starts this executable as a node of some containers and returns
// once they run.
func startNode(t *testing.T, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	node := exec.Command("/proc/self/exe", append([]string{"node"}, args...)...)
	node.Stderr = os.Stderr
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if len(args) > 1 && args[1] == "namespaced" {
		Namespaced(node)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		node.Process.Kill()
		node.Wait()
		if err := sandbox.RemoveAll(args[0]); err != nil {
			t.Error(err)
		}
	})
	return node, bufio.NewScanner(out)
}

func waitGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		for deadline := time.Now().Add(30 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
			if state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); strings.Contains(string(state), ") Z ") {
				break // ended, and its new parent is slow to notice
			}
			if time.Now().After(deadline) {
				t.Fatalf("got process %d alive, want none after the node", pid)
			}
		}
	}
}

func TestKilledNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	node, out := startNode(t, dir, "plain")
	for out.Scan() && out.Text() != "started" {
	}
	pids := descendants(node.Process.Pid)[1:]
	if len(pids) < 5 {
		t.Fatalf("got processes %v, want the containers'", pids)
	}
	if _, err := Open(dir); err == nil {
		t.Error("got a second runtime in the same folder, want an error")
	}
	node.Process.Kill()
	node.Wait()
	waitGone(t, without(pids, "pdeathsig"))
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	waitGone(t, pids) // the one too that has cleared its death signal
	if left, _ := os.ReadDir(filepath.Join(dir, "containers")); len(left) != 0 {
		t.Errorf("got %v left of the earlier runtime, want nothing", left)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// without returns the processes whose command line does not contain a word.
func without(pids []int, word string) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return strings.Contains(string(line), word)
	})
}

func TestNamespaced(t *testing.T) {
	t.Parallel()
	dir, volume := t.TempDir(), t.TempDir()
	node, out := startNode(t, dir, "namespaced", volume)
	var lines []string
	for (len(lines) < 2) && out.Scan() {
		if !strings.Contains(out.Text(), "pdeathsig") {
			lines = append(lines, out.Text())
		}
	}
	if got := strings.Join(lines, "\n"); !strings.Contains(got, "stdout F hello") || !strings.Contains(got, "started") {
		t.Errorf("got %q, want a file that one container wrote to shared memory read by another", got)
	}
	if entries, _ := os.ReadDir(volume); len(entries) != 0 {
		t.Errorf("got %v outside, want nothing of the memory file system", entries)
	}
	pids := descendants(node.Process.Pid)[1:]
	if len(pids) < 2 {
		t.Fatalf("got processes %v, want the containers'", pids)
	}
	node.Process.Kill()
	node.Wait()
	waitGone(t, pids) // the one too that has cleared its death signal
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := Check(); err != nil {
		t.Errorf("got %v, want this machine to be good enough, as other tests say", err)
	}
	t.Run("it refuses where user namespaces are not allowed", func(t *testing.T) {
		check := exec.Command("/proc/self/exe", "check")
		Namespaced(check)
		got, err := check.CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		want := "this machine does not let containers be run without root: user.max_user_namespaces is 0, and more user namespaces are not allowed\n" +
			"run 'sudo sysctl -w user.max_user_namespaces=15000', or use '--node kwok', which runs no programs\n"
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	for _, test := range []struct {
		name, release string
		err           error
		sysctls       map[string]string
		want, hint    string
	}{
		{"it names Debian's setting", "6.1.0-32-amd64", &StartError{"make namespaces", unix.EPERM}, map[string]string{"kernel.unprivileged_userns_clone": "0"},
			"kernel.unprivileged_userns_clone is 0", "run 'sudo sysctl -w kernel.unprivileged_userns_clone=1'"},
		{"it names Ubuntu's setting", "6.8.0-31-generic", &StartError{"map the user", unix.EACCES}, map[string]string{"kernel.apparmor_restrict_unprivileged_userns": "1"},
			"kernel.apparmor_restrict_unprivileged_userns is 1", "AppArmor profile"},
		{"it names an old kernel", "5.10.0-9-amd64", &StartError{"make namespaces", unix.EINVAL}, nil, "Linux 5.10.0-9-amd64, and 5.12", "newer kernel"},
		{"it names a container around", "6.1.0", &StartError{doingProc, unix.EPERM}, nil, "/proc of their own cannot be mounted", "outside of that container"},
		{"it names seccomp", "6.1.0", &StartError{"make namespaces", unix.EPERM}, nil, "make namespaces: operation not permitted", "seccomp=unconfined"},
		{"it says what it does not know", "6.1.0", errors.New("strange"), nil, "strange", "namespaces"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := refusal(test.err, func(name string) string { return test.sysctls[name] }, test.release)
			var people *usererr.Error
			if !errors.As(err, &people) || !strings.Contains(people.Error(), test.want) || !strings.Contains(people.Hint, test.hint) {
				t.Errorf("got %+v, want %q with the hint %q", people, test.want, test.hint)
			}
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want one that is %v", err, test.err)
			}
		})
	}
}
