package container

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hostTop are the folders of the machine that a container of its own programs
// sees. All else of the machine is not there, whatever it is called.
var hostTop = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "opt", "etc", "nix"}

// hostRoot makes, once for a runtime, the folders below those of the machine
// in a container of its own programs.
//
//	root/          what / is besides hostTop: empty folders, and links as the machine has them (/bin to usr/bin)
//	run/           what /run is
//	etc/           hides what of /etc not everybody may read, and names the user
//	new/, memory/  see newRoot and memory
func hostRoot(dir string) ([]lower, error) {
	root, etc := filepath.Join(dir, "root"), filepath.Join(dir, "etc")
	for _, f := range []struct {
		name string
		mode fs.FileMode
	}{
		{"new", 0o700}, {"memory", 0o700}, {"root", 0o755}, {"etc", 0o755}, {"root/root", 0o700}, {"root/tmp", 0o777 | fs.ModeSticky}, {"root/home/user", 0o755},
		{"root/run", 0o755}, {"run/lock", 0o777 | fs.ModeSticky}, {"root/var/lock", 0o777 | fs.ModeSticky}, {"root/var/tmp", 0o777 | fs.ModeSticky}, {"root/var/lib", 0o755}, {"root/var/log", 0o755},
		{"root/var/cache", 0o755}, {"root/var/spool", 0o755}, {"root/mnt", 0o755}, {"root/media", 0o755}, {"root/srv", 0o755},
		{"root/proc", 0o755}, {"root/sys", 0o755}, {"root/dev", 0o755},
	} {
		name := filepath.Join(dir, f.name)
		if err := os.MkdirAll(name, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(name, f.mode); err != nil { // besides the umask
			return nil, err
		}
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil {
		return nil, err
	}
	if err := hideUnreadable("/etc", etc); err != nil {
		return nil, fmt.Errorf("looking for what to hide of /etc: %w", err)
	}
	users := Spec{}
	for _, f := range users.userFiles() {
		if err := os.WriteFile(filepath.Join(dir, f.name), []byte(f.content), 0o644); err != nil {
			return nil, err
		}
	}

	lowers := []lower{{at: "/", dirs: "../../host/root"}, {at: "/run", dirs: "../../host/run"}}
	for _, name := range hostTop {
		at := "/" + name
		info, err := os.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case info.Mode().Type() == fs.ModeSymlink:
			to, err := os.Readlink(at)
			if err != nil {
				return nil, err
			}
			if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
				return nil, err
			}
		case info.IsDir():
			if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
				return nil, err
			}
			if entries, err := os.ReadDir(at); err == nil && len(entries) == 0 {
				continue // an overlay less
			}
			dirs := at
			if name == "etc" {
				dirs = "../../host/etc:/etc"
			}
			lowers = append(lowers, lower{at: at, dirs: dirs})
		}
	}
	return lowers, nil
}

// hideUnreadable puts an empty file over each file and folder that not every
// user of the machine may read. Without it, the containers of a sandbox that
// root runs would read the password file.
func hideUnreadable(from, to string) error {
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			if entry != nil && entry.IsDir() {
				return fs.SkipDir // hidden when it was come to first
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil || name == from {
			return nil
		}
		hidden := false
		switch info.Mode().Type() {
		case 0:
			hidden = info.Mode().Perm()&0o004 == 0
		case fs.ModeDir:
			hidden = info.Mode().Perm()&0o005 != 0o005
		}
		if !hidden {
			return nil
		}
		over := filepath.Join(to, strings.TrimPrefix(name, from))
		if err := os.MkdirAll(filepath.Dir(over), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(over, nil, 0o644); err != nil {
			return err
		}
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// python returns the folders of a Python environment outside of what every
// container of the machine's programs sees: its own, and that of the
// interpreter that it was made with, which its pyvenv.cfg names.
func (r *Runtime) python(env string) ([]lower, error) {
	if env == "" {
		return nil, nil
	}
	info, err := os.Stat(env)
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	if err != nil {
		return nil, fmt.Errorf("the Python environment %q: %w", env, err)
	}
	dirs := []string{path.Clean(env)}
	for _, bin := range []string{pyvenvHome(env), interpreterDir(env)} {
		if bin != "" && path.Base(bin) == "bin" {
			dirs = append(dirs, path.Dir(bin))
		}
	}
	var lowers []lower
	for _, at := range dirs {
		if r.hostShows(at) || slices.ContainsFunc(lowers, func(l lower) bool { return isBelow(at, l.at) }) {
			continue
		}
		dir, err := filepath.EvalSymlinks(at)
		if err != nil {
			return nil, fmt.Errorf("the Python environment %q: %w", env, err)
		}
		if dir == "/" || isBelow(r.dir, dir) || dir == homeOf(dir) {
			return nil, fmt.Errorf("the Python environment %q would show all of %s to containers; make the environment with an interpreter in a folder of its own", env, dir)
		}
		lowers = append(lowers, lower{at: at, dirs: escape(dir), made: true})
		if dir != at && !r.hostShows(dir) {
			lowers = append(lowers, lower{at: dir, dirs: escape(dir), made: true}) // its links may lead there by that name
		}
	}
	return lowers, nil
}

// pyvenvHome is the folder of the interpreter that an environment was made
// with, "" when the environment is a whole Python itself.
func pyvenvHome(env string) string {
	f, err := os.Open(filepath.Join(env, "pyvenv.cfg"))
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok && strings.TrimSpace(key) == "home" {
			return path.Clean(strings.TrimSpace(value))
		}
	}
	return ""
}

// interpreterDir is where the links of an environment's bin/python end.
func interpreterDir(env string) string {
	python, err := filepath.EvalSymlinks(filepath.Join(env, "bin/python"))
	if err != nil {
		return ""
	}
	return filepath.Dir(python)
}

func (r *Runtime) hostShows(dir string) bool {
	return slices.ContainsFunc(hostTop, func(top string) bool { return isBelow(dir, "/"+top) })
}

func isBelow(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// homeOf is dir when it is somebody's home folder, or holds them.
func homeOf(dir string) string {
	home, err := os.UserHomeDir()
	if err == nil && isBelow(path.Clean(home), dir) || dir == "/root" || dir == "/home" || path.Dir(dir) == "/home" {
		return dir
	}
	return ""
}

type file struct{ name, content string }

// userFiles name the user, for programs that ask who they are.
func (s *Spec) userFiles() []file {
	passwd := "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	group := "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"
	if s.UID != 0 && s.UID != 65534 {
		passwd += fmt.Sprintf("user:x:%d:%d:user:/home/user:/bin/sh\n", s.UID, s.GID)
	}
	if s.GID != 0 && s.GID != 5 && s.GID != 65534 {
		group += fmt.Sprintf("user:x:%d:\n", s.GID)
	}
	return []file{{"etc/passwd", passwd}, {"etc/group", group}}
}

// files are those that are made in a container's own layer.
func (s *Spec) files() []file {
	var files []file
	mounted := func(name string) bool {
		return slices.ContainsFunc(s.Mounts, func(m Mount) bool { return path.Clean(m.Target) == name })
	}
	if s.Root.Dir == "" && (s.UID != 0 || s.GID != 0) {
		for _, f := range s.userFiles() {
			files = append(files, file{"/" + f.name, f.content})
		}
	}
	if s.Hostname != "" && !mounted("/etc/hostname") {
		files = append(files, file{"/etc/hostname", s.Hostname + "\n"})
	}
	// The machine's file is often a link to what is not there in the container.
	// An image has none; names are asked for as the machine does.
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		if mounted(name) {
			continue
		}
		info, err := os.Lstat(name)
		if err != nil || s.Root.Dir == "" && info.Mode().IsRegular() {
			continue
		}
		if content, err := os.ReadFile(name); err == nil && len(content) < 1<<16 {
			files = append(files, file{name, string(content)})
		}
	}
	return files
}

// home is the home folder of the user: what the passwd file of the image says,
// else /.
func (s *Spec) home() string {
	if s.Root.Dir == "" {
		switch s.UID {
		case 0:
			return "/root"
		case 65534:
			return "/"
		}
		return "/home/user"
	}
	passwd, err := ReadInRoot(s.Root.Dir, "etc/passwd")
	if err != nil {
		return "/"
	}
	for line := range strings.Lines(passwd) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= 6 && f[2] == fmt.Sprint(s.UID) && path.IsAbs(f[5]) {
			return f[5]
		}
	}
	return "/"
}

// ReadInRoot reads a small file of an image, whose links are the image's.
func ReadInRoot(root, name string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	content := make([]byte, 1<<20)
	n, err := f.Read(content)
	if err != nil {
		return "", err
	}
	return string(content[:n]), nil
}

const below = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

// makeBelow makes what is missing of a sub-path, following no link out of the
// folder, and says whether it is a folder.
func makeBelow(folder, sub string) (isFolder bool, err error) {
	sub = path.Clean(sub)
	if path.IsAbs(sub) || sub == ".." || strings.HasPrefix(sub, "../") {
		return false, errors.New("it must be a path inside the volume")
	}
	at, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: folder, Err: err}
	}
	defer unix.Close(at)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: below}
	parent, err := unix.Openat2(at, ".", how)
	if err != nil {
		return false, err
	}
	defer func() { unix.Close(parent) }()
	for i := 1; i <= len(sub); i++ {
		if i < len(sub) && sub[i] != '/' {
			continue
		}
		next, err := unix.Openat2(at, sub[:i], how)
		if err == unix.ENOENT {
			if err := unix.Mkdirat(parent, path.Base(sub[:i]), 0o777); err != nil && err != unix.EEXIST {
				return false, err
			}
			next, err = unix.Openat2(at, sub[:i], how)
		}
		if err == unix.EXDEV {
			return false, errors.New("a link in it leads out of the volume")
		}
		if err != nil {
			return false, err
		}
		unix.Close(parent)
		parent = next
	}
	var stat unix.Stat_t
	if err := unix.Fstat(parent, &stat); err != nil {
		return false, err
	}
	return stat.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}
