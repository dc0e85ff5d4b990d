package container

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

	atCWD = ^uintptr(99) // unix.AT_FDCWD

	// openFiles is the soft limit: some programs close all that they could have
	// open, one by one, and the hard limit is often a million.
	openFiles = 65536
)

// setup is the script of a container's start: Spec to execve.
func (r *Runtime) setup(spec *Spec, streams *childStreams) (*script, error) {
	capabilities, err := spec.capabilities()
	if err != nil {
		return nil, err
	}
	s := &script{}
	s.dieWithNode()
	s.mapUser(spec.UID, spec.GID)
	s.oomScore(spec)
	s.do("unshare mounts", unix.SYS_MOUNT, 0, s.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)

	// What is the machine's is opened while it can be seen; what is the
	// container's is touched only once / is its own, so that no link in an image
	// or a volume leads outside.
	s.do("enter the container's folder", unix.SYS_CHDIR, s.str(r.folder(spec.ID)))
	writable, err := r.root(s, spec)
	if err != nil {
		return nil, err
	}
	devices, sys := s.openDevices(), s.open("/sys")
	mounts, err := s.openMounts(spec.Mounts)
	if err != nil {
		return nil, err
	}

	s.do("enter the root", unix.SYS_CHDIR, s.str(newRoot))
	s.do("change the root", unix.SYS_PIVOT_ROOT, s.str("."), s.str("."))
	// The kernel gives a /proc only to who can see one already.
	s.mountProc()
	s.do("leave the machine's root", unix.SYS_UMOUNT2, s.str("."), unix.MNT_DETACH)
	s.mountDevices(devices)
	s.mountSys(sys)
	if r.covers {
		s.coverProc()
		s.coverSys()
	}
	for _, f := range spec.files() {
		s.mkdirAll(path.Dir(f.name)) // an image may be a program and nothing else
		s.create(f.name, f.content)
	}
	s.place(mounts)

	if spec.Hostname != "" {
		s.do("set the host name", unix.SYS_SETHOSTNAME, s.str(spec.Hostname), uintptr(len(spec.Hostname)))
	}
	s.mkdirAll(spec.dir())
	if !spec.Write {
		for _, name := range writable {
			s.readOnly(s.openPath(name), name)
		}
	}
	if streams.proc != 0 {
		s.send("open /proc", streams.proc, s.result(s.do("open /proc", unix.SYS_OPENAT, atCWD, s.str("/proc"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)))
	}
	s.become(spec, capabilities, streams)
	return s, nil
}

// join is the script of an exec: the namespaces of the container whose program
// has this pidfd, then execve.
func join(pidfd uintptr, spec *Spec, streams *childStreams) (*script, error) {
	capabilities, err := spec.capabilities()
	if err != nil {
		return nil, err
	}
	s := &script{}
	s.oomScore(spec)
	s.do(doingJoin, unix.SYS_SETNS, pidfd, namespaces)
	s.calls = append(s.calls, call{nr: forkCall, doing: doingJoin})
	s.become(spec, capabilities, streams)
	return s, nil
}

const doingJoin = "join the container"

// dieWithNode has the process killed when the thread that forked it ends. It
// is to be said again after whatever changes the user or its capabilities.
func (s *script) dieWithNode() {
	s.do("tie the container to the node", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
}

// mapUser makes the caller's user this one inside. There is no other user.
func (s *script) mapUser(uid, gid int) {
	s.writeFile("map the user", "/proc/self/uid_map", fmt.Sprintf("%d %d 1", uid, os.Geteuid()))
	s.writeFile("map the group", "/proc/self/setgroups", "deny")
	s.writeFile("map the group", "/proc/self/gid_map", fmt.Sprintf("%d %d 1", gid, os.Getegid()))
}

// oomScore has to be said while /proc is the machine's.
func (s *script) oomScore(spec *Spec) {
	if spec.OOMScoreAdj != 0 {
		s.writeFile("set oom_score_adj", "/proc/self/oom_score_adj", fmt.Sprint(spec.OOMScoreAdj))
	}
}

// Folders beside those of the containers, whose own is the working directory.
// All containers use the same ones, each in a mount namespace of its own, and
// for everybody else they are empty.
const (
	newRoot = "../../host/new"    // where / is built
	memory  = "../../host/memory" // where layers in memory are
)

// root builds what will be /, and returns what of it can be written, by its
// later names.
func (r *Runtime) root(s *script, spec *Spec) (writable []string, err error) {
	lowers := []lower{{at: "/", dirs: escape(spec.Root.Dir)}}
	if spec.Root.Dir == "" {
		python, err := r.python(spec.Root.Python)
		if err != nil {
			return nil, err
		}
		lowers = slices.Concat(r.host, python)
	} else if spec.Root.Python != "" {
		return nil, fmt.Errorf("an image of its own, %s, takes no Python environment", spec.Root.Dir)
	}
	for _, l := range lowers {
		writable = append(writable, l.at)
	}
	r.layers.mount(s, r.mark, lowers)
	return writable, nil
}

// layers says where what containers write is kept. To make a layer on a disk
// costs ten files made and removed, so only / has one there, where programs
// leave much: in an image all that they write, else /tmp, /var and the home
// folders. What is written to the machine's own folders (/usr, /etc, a Python
// environment), is in memory.
type layers struct{ rootInMemory, restInMemory bool }

// mount mounts the lowers as newRoot and below it, with a mark that shows in
// the list of mounts.
func (l layers) mount(s *script, mark string, lowers []lower) {
	if l.rootInMemory || l.restInMemory && len(lowers) > 1 {
		s.do(`mount "/"`, unix.SYS_MOUNT, s.str("tmpfs"), s.str(memory), s.str("tmpfs"), unix.MS_NODEV, s.str("mode=0700"))
	}
	for n, lower := range lowers {
		doing, keep := fmt.Sprintf("mount %q", lower.at), "."
		if n == 0 && l.rootInMemory || n > 0 && l.restInMemory {
			keep = memory
		}
		upper, work, at := fmt.Sprintf("%s/%d", keep, n), fmt.Sprintf("%s/%dw", keep, n), path.Join(newRoot, lower.at)
		s.do(doing, unix.SYS_MKDIRAT, atCWD, s.str(upper), 0o755)
		s.do(doing, unix.SYS_MKDIRAT, atCWD, s.str(work), 0o700)
		if lower.made {
			s.mkdirAll(at)
		}
		// volatile: at the end it is thrown away, so nothing need be synced to the disk then.
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr,volatile", lower.dirs, upper, work)
		s.do(doing, unix.SYS_MOUNT, s.str(mark), s.str(at), s.str("overlay"), 0, s.str(options))
	}
}

// A lower is a folder that a container sees at a place of its own, and writes
// to in a layer above that goes with the container.
type lower struct {
	at   string
	dirs string // as an option of overlayfs: the upper ones first
	made bool   // whether the mount point has to be made
}

// escape writes a path as an option of overlayfs.
func escape(p string) string { return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(p) }

// open takes a file or folder of the machine, with what is mounted below it, to
// be mounted elsewhere.
func (s *script) open(name string) uintptr {
	return s.result(s.do(fmt.Sprintf("mount %q", name), unix.SYS_OPEN_TREE, atCWD, s.str(name), openTree|unix.AT_RECURSIVE))
}

const openTree = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC

func (s *script) openPath(name string) uintptr {
	return s.result(s.do(fmt.Sprintf("open %q", name), unix.SYS_OPENAT, atCWD, s.str(name), unix.O_PATH|unix.O_CLOEXEC))
}

func (s *script) mountAt(tree uintptr, at string) {
	s.do(fmt.Sprintf("mount %q", at), unix.SYS_MOVE_MOUNT, tree, s.str(""), atCWD, s.str(at), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// readOnly makes a mount read-only, and no more than that: the flags that it
// has from the machine stay, which may not be taken away here.
func (s *script) readOnly(mount uintptr, name string) { s.setReadOnly(mount, name, 0) }

// readOnlyAll does so with what is mounted below it, too.
func (s *script) readOnlyAll(mount uintptr, name string) {
	s.setReadOnly(mount, name, unix.AT_RECURSIVE)
}

func (s *script) setReadOnly(mount uintptr, name string, flags uintptr) {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	s.do(fmt.Sprintf("make %q read-only", name), unix.SYS_MOUNT_SETATTR, mount, s.str(""), flags|unix.AT_EMPTY_PATH, pointer(s, attr), unsafe.Sizeof(unix.MountAttr{}))
}

// mountProc shows the processes of the container.
func (s *script) mountProc() {
	s.mkdirAll("/proc")
	s.do(doingProc, unix.SYS_MOUNT, s.str("proc"), s.str("/proc"), s.str("proc"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
}

const doingProc = `mount "/proc"`

// coverProc covers what of /proc concerns the whole machine: the user of a
// sandbox that root runs is root for files of the kernel, in any namespace.
func (s *script) coverProc() {
	for _, name := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if exists(name) {
			tree := s.open(name)
			s.readOnly(tree, name)
			s.mountAt(tree, name)
		}
	}
	for _, name := range []string{"/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/timer_list", "/proc/vmallocinfo"} {
		if exists(name) {
			s.mountAt(s.open("/dev/null"), name)
		}
	}
	for _, name := range []string{"/proc/acpi", "/proc/asound", "/proc/scsi"} {
		if exists(name) {
			s.mountEmpty(name)
		}
	}
}

func (s *script) mountEmpty(at string) {
	s.do(fmt.Sprintf("cover %q", at), unix.SYS_MOUNT, s.str("tmpfs"), s.str(at), s.str("tmpfs"), unix.MS_RDONLY, s.str("mode=0555"))
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// devices are those that every program may expect. None of them is one of the
// machine's.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

func (s *script) openDevices() []uintptr {
	opened := make([]uintptr, len(devices))
	for i, name := range devices {
		opened[i] = s.open(name)
	}
	return opened
}

func (s *script) mountDevices(opened []uintptr) {
	s.mkdirAll("/dev")
	s.do(`mount "/dev"`, unix.SYS_MOUNT, s.str("tmpfs"), s.str("/dev"), s.str("tmpfs"), unix.MS_NOSUID, s.str("mode=0755,size=64k"))
	for i, name := range devices {
		s.do("make "+name, unix.SYS_MKNODAT, atCWD, s.str(name), unix.S_IFREG|0o666, 0)
		s.mountAt(opened[i], name)
	}
	for _, link := range [][2]string{
		{"/dev/fd", "/proc/self/fd"}, {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
		{"/dev/ptmx", "pts/ptmx"},
	} {
		s.do("make "+link[0], unix.SYS_SYMLINKAT, s.str(link[1]), atCWD, s.str(link[0]))
	}
	for _, m := range []struct{ at, kind, options string }{
		{"/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"},
		{"/dev/shm", "tmpfs", "mode=1777,size=64m"},
		{"/dev/mqueue", "mqueue", ""},
	} {
		s.do("make "+m.at, unix.SYS_MKDIRAT, atCWD, s.str(m.at), 0o755)
		s.do(fmt.Sprintf("mount %q", m.at), unix.SYS_MOUNT, s.str(m.kind), s.str(m.at), s.str(m.kind), unix.MS_NOSUID|unix.MS_NOEXEC, s.str(m.options))
	}
}

// mountSys shows the machine's /sys, which programs ask for its processors, and
// lets nothing be set there.
func (s *script) mountSys(sys uintptr) {
	s.mkdirAll("/sys")
	s.readOnlyAll(sys, "/sys")
	s.mountAt(sys, "/sys")
}

// coverSys covers what of /sys tells of all processes of the machine, where
// root may read it.
func (s *script) coverSys() {
	for _, name := range []string{"/sys/firmware", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/fs/bpf", "/sys/fs/pstore"} {
		if exists(name) {
			s.mountEmpty(name)
		}
	}
}

// An openMount is a mount whose source was opened.
type openMount struct {
	Mount
	tree   uintptr
	folder bool // what its mount point has to be
}

func (s *script) openMounts(mounts []Mount) ([]openMount, error) {
	opened := make([]openMount, 0, len(mounts))
	for _, m := range mounts {
		o := openMount{Mount: m}
		o.Target = path.Clean(m.Target)
		switch {
		case !path.IsAbs(m.Target) || o.Target == "/":
			return nil, fmt.Errorf("mount %q: it must be an absolute path below /", m.Target)
		case m.Tmpfs:
			o.folder = true
		case m.SubPath == "":
			info, err := os.Stat(m.Source)
			if err != nil {
				return nil, fmt.Errorf("mount %q: %w", m.Target, err)
			}
			o.folder = info.IsDir()
			o.tree = s.open(m.Source)
		default:
			folder, err := makeBelow(m.Source, m.SubPath)
			if err != nil {
				return nil, fmt.Errorf("mount %q: sub-path %q: %w", m.Target, m.SubPath, err)
			}
			o.folder = folder
			// Looked up again, since here it may only be mounted by who opened it in
			// this namespace; and the kernel refuses a way out of the folder whatever
			// a program that writes to it has changed there meanwhile.
			doing := fmt.Sprintf("mount %q: sub-path %q", m.Target, m.SubPath)
			how := pointer(s, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: below})
			sub := s.result(s.do(doing, unix.SYS_OPENAT2, s.openPath(m.Source), s.str(path.Clean(m.SubPath)), how, unsafe.Sizeof(unix.OpenHow{})))
			o.tree = s.result(s.do(doing, unix.SYS_OPEN_TREE, sub, s.str(""), openTree|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH))
		}
		opened = append(opened, o)
	}
	// A mount may be below another's target.
	slices.SortStableFunc(opened, func(a, b openMount) int {
		return strings.Count(a.Target, "/") - strings.Count(b.Target, "/")
	})
	return opened, nil
}

// place mounts what was opened. A mount is made read-only once the mount points
// of those inside it are there, and before these are mounted, which may be
// writable.
func (s *script) place(mounts []openMount) {
	for i, m := range mounts {
		if !slices.ContainsFunc(mounts[:i], m.isInside) {
			s.makePoint(m)
		}
		if m.Tmpfs {
			options := "mode=1777"
			if m.Size > 0 {
				options += fmt.Sprintf(",size=%d", m.Size)
			}
			s.do(fmt.Sprintf("mount %q", m.Target), unix.SYS_MOUNT, s.str("tmpfs"), s.str(m.Target), s.str("tmpfs"), unix.MS_NOSUID|unix.MS_NODEV, s.str(options))
			m.tree = s.openPath(m.Target)
		} else {
			s.mountAt(m.tree, m.Target)
		}
		for j, inner := range mounts[i+1:] {
			if inner.isInside(m) && !slices.ContainsFunc(mounts[i+1:i+1+j], inner.isInside) {
				s.makePoint(inner)
			}
		}
		if m.ReadOnly {
			s.readOnlyAll(m.tree, m.Target)
		}
	}
}

// isInside says whether m is mounted in outer.
func (m openMount) isInside(outer openMount) bool { return isBelow(m.Target, outer.Target) }

// makePoint makes what m is mounted on.
func (s *script) makePoint(m openMount) {
	if m.folder {
		s.mkdirAll(m.Target)
		return
	}
	s.mkdirAll(path.Dir(m.Target))
	s.do(fmt.Sprintf("mount %q", m.Target), unix.SYS_MKNODAT, atCWD, s.str(m.Target), unix.S_IFREG|0o644, 0).allowing(unix.EEXIST)
}

// become is the end of every script: the program's user, limits and streams,
// and the program.
func (s *script) become(spec *Spec, capabilities uint64, streams *childStreams) {
	s.dieWithNode()
	s.do("make a session", unix.SYS_SETSID)
	streams.install(s)
	// Keys of the session that the sandbox was started from are not the container's.
	s.do("make a session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).allowing(unix.ENOSYS, unix.EPERM, unix.EACCES)
	s.do("close other files", unix.SYS_CLOSE_RANGE, 3, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	s.limits()
	if spec.Nice > 0 {
		s.do("set the priority", unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(spec.Nice))
	}
	s.do("set the umask", unix.SYS_UMASK, 0o022)
	s.do(fmt.Sprintf("working directory %q", spec.dir()), unix.SYS_CHDIR, s.str(spec.dir()))
	s.limit(capabilities, spec.NoNewPrivileges)
	s.dieWithNode()
	s.handleNoSignals()
	s.execute(spec.Args, spec.Env)
}

// limits sets the resource limits that a container engine sets.
func (s *script) limits() {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		// The Go runtime has raised this process's soft limit to the hard one.
		files.Cur = min(files.Max, openFiles)
		s.do("limit open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, pointer(s, &files), 0)
	}
	s.do("limit core dumps", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, pointer(s, &unix.Rlimit{Cur: 0, Max: 0}), 0)
}

// handleNoSignals gives every signal its default again, those that the
// sandbox was started with ignored too, and lets them through.
func (s *script) handleNoSignals() {
	// struct sigaction of the kernel, all zero: SIG_DFL.
	action := pointer(s, &[4]uint64{})
	for n := uintptr(1); n <= 64; n++ {
		if n != uintptr(unix.SIGKILL) && n != uintptr(unix.SIGSTOP) {
			s.do("reset signals", unix.SYS_RT_SIGACTION, n, action, 0, 8)
		}
	}
	s.do("reset signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, pointer(s, new(uint64)), 0, 8)
}

// lookedUp ends what a call is doing that tries one folder of PATH.
const lookedUp = " in $PATH"

// execute replaces the process by the program, looked up on PATH as execvp does.
func (s *script) execute(args, env []string) {
	name, argv, envp := args[0], s.strs(args), s.strs(env)
	if strings.Contains(name, "/") {
		s.do(fmt.Sprintf("exec: %q", name), unix.SYS_EXECVE, s.str(name), argv, envp)
		return
	}
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		if dir == "" {
			dir = "."
		}
		s.do(fmt.Sprintf("exec: %q", name)+lookedUp, unix.SYS_EXECVE, s.str(dir+"/"+name), argv, envp).
			allowing(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	}
}

// lookup returns the value of a variable, the last one as a shell does.
func lookup(env []string, name string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// mkdirAll makes a folder and those above it.
func (s *script) mkdirAll(name string) {
	name = path.Clean(name)
	for i := 1; i <= len(name) && name != "/"; i++ {
		if i == len(name) || name[i] == '/' {
			s.do(fmt.Sprintf("make folder %q", name[:i]), unix.SYS_MKDIRAT, atCWD, s.str(name[:i]), 0o755).allowing(unix.EEXIST)
		}
	}
}

// create makes a file in place of what is there.
func (s *script) create(name, content string) {
	s.do("write "+name, unix.SYS_UNLINKAT, atCWD, s.str(name), 0).allowing(unix.ENOENT)
	s.write(name, s.do("write "+name, unix.SYS_OPENAT, atCWD, s.str(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644), content)
}

// writeFile writes to a file that exists.
func (s *script) writeFile(doing, name, content string) {
	s.write(doing, s.do(doing, unix.SYS_OPENAT, atCWD, s.str(name), unix.O_WRONLY|unix.O_CLOEXEC), content)
}

func (s *script) write(doing string, open *call, content string) {
	fd := s.result(open)
	s.do(doing, unix.SYS_WRITE, fd, s.str(content), uintptr(len(content)))
	s.do(doing, unix.SYS_CLOSE, fd)
}
