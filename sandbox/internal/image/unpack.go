package image

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"biplane.dev/biplane/internal/usererr"
)

// Bounds of one image, above the biggest that people run.
const (
	maxBytes   = 128 << 30
	maxEntries = 4 << 20
	maxLayers  = 500
)

func tooBig() error {
	return usererr.New(usererr.Refused, "the image is larger than %d GiB or has more than %d files", maxBytes>>30, maxEntries).
		WithHint("make a smaller one")
}

// unpack puts an image's layers on each other in a folder. Owners are not kept:
// in a container there is one user.
func unpack(image v1.Image, config *v1.ConfigFile, folder string) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(config.RootFS.DiffIDs) || len(layers) > maxLayers {
		return fmt.Errorf("it has %d layers, and its configuration names %d", len(layers), len(config.RootFS.DiffIDs))
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, bytes: maxBytes, entries: maxEntries, folders: map[string]folderState{}}
	for n, l := range layers {
		if err := u.layer(l, config.RootFS.DiffIDs[n]); err != nil {
			return fmt.Errorf("layer %d of %d: %w", n+1, len(layers), err)
		}
	}
	return u.finish()
}

// An unpacker writes to a root that no name leads out of: os.Root sees to that,
// and resolve follows an image's links as they lead inside.
type unpacker struct {
	root           *os.Root
	bytes, entries int64
	made           map[string]bool        // by the layer that is being unpacked
	folders        map[string]folderState // to be set at the end, when nothing is written into them any more
}

type folderState struct {
	mode fs.FileMode
	time time.Time
}

func (u *unpacker) layer(l v1.Layer, want v1.Hash) error {
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	u.made = map[string]bool{}
	sum := sha256.New()
	limited := &io.LimitedReader{R: r, N: u.bytes}
	all := io.TeeReader(limited, sum)
	for t := tar.NewReader(all); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if limited.N <= 0 {
				return tooBig()
			}
			return err
		}
		if u.entries--; u.entries < 0 {
			return tooBig()
		}
		if err := u.entry(h, t); err != nil {
			if limited.N <= 0 {
				return tooBig()
			}
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // the rest belongs to the sum
		return err
	}
	if limited.N <= 0 {
		return tooBig()
	}
	u.bytes = limited.N
	if got := fmt.Sprintf("%x", sum.Sum(nil)); want.Algorithm != "sha256" || got != want.Hex {
		return fmt.Errorf("it is damaged: its sum is sha256:%s, want %s", got, want)
	}
	return nil
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if strings.ContainsRune(h.Name, 0) || len(h.Name) > 4096 {
		return errors.New("it cannot be a path")
	}
	clean := path.Clean("/" + h.Name)
	if clean == "/" {
		return nil
	}
	dir, err := u.resolve(path.Dir(clean))
	if err != nil {
		return err
	}
	if err := u.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	base := path.Base(clean)
	if base == opaque {
		return u.emptyBelow(dir)
	}
	if hidden, ok := strings.CutPrefix(base, whiteout); ok {
		if hidden == "" || hidden == "." || hidden == ".." {
			return errors.New("it is a whiteout of nothing")
		}
		return u.remove(path.Join(dir, hidden))
	}
	at := path.Join(dir, base)
	u.made[at] = true
	old, err := u.root.Lstat(at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A folder on a folder is the same folder; all else is replaced.
	if err == nil && !(h.Typeflag == tar.TypeDir && old.IsDir()) {
		if err := u.remove(at); err != nil {
			return err
		}
		u.made[at] = true
	}
	mode := h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSticky)
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.root.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// The one user of a container must be able to enter it.
		u.folders[at] = folderState{mode | 0o700, h.ModTime}
	case tar.TypeReg:
		f, err := u.root.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		if err = errors.Join(err, f.Chmod(mode|0o400), f.Close()); err != nil {
			return err
		}
		return u.root.Chtimes(at, h.ModTime, h.ModTime) // Python compares it with that in its compiled files
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, at)
	case tar.TypeLink:
		target := path.Clean("/" + h.Linkname)
		targetDir, err := u.resolve(path.Dir(target))
		if err != nil {
			return err
		}
		return u.root.Link(path.Join(targetDir, path.Base(target)), at)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		// Devices are made by who runs the container; only root could make these.
	default:
		return fmt.Errorf("it is of a kind, %q, that no image has", h.Typeflag)
	}
	return nil
}

// resolve follows links as they lead in the image, where / is the image's, and
// returns a path relative to the root without any. What is not there yet stays
// as it is.
func (u *unpacker) resolve(name string) (string, error) {
	at, rest, links := ".", strings.Split(strings.Trim(name, "/"), "/"), 0
	for len(rest) > 0 {
		next := rest[0]
		rest = rest[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // of the root: the root
			continue
		}
		to := path.Join(at, next)
		info, err := u.root.Lstat(to)
		if err == nil && info.Mode().Type() == fs.ModeSymlink {
			if links++; links > 40 {
				return "", errors.New("its links lead in a circle")
			}
			target, err := u.root.Readlink(to)
			if err != nil {
				return "", err
			}
			if path.IsAbs(target) {
				at = "."
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		}
		if err == nil && !info.IsDir() {
			return "", fmt.Errorf("%q is a file and is used as a folder", "/"+to)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		at = to
	}
	return at, nil
}

// emptyBelow removes what lower layers have in a folder.
func (u *unpacker) emptyBelow(dir string) error {
	d, err := u.root.Open(dir)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, name := range names {
		at := path.Join(dir, name)
		if u.made[at] {
			if info, err := u.root.Lstat(at); err == nil && info.IsDir() {
				if err := u.emptyBelow(at); err != nil {
					return err
				}
			}
			continue
		}
		if err := u.remove(at); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) remove(at string) error {
	for name := range u.folders {
		if name == at || strings.HasPrefix(name, at+"/") {
			delete(u.folders, name)
		}
	}
	return u.root.RemoveAll(at)
}

// finish gives the folders their modes and times.
func (u *unpacker) finish() error {
	for name, s := range u.folders {
		if err := u.root.Chmod(name, s.mode); err != nil {
			return err
		}
		if err := u.root.Chtimes(name, s.time, s.time); err != nil {
			return err
		}
	}
	return nil
}
