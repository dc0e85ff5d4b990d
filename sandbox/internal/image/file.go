package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/internal/usererr"
)

const (
	fileName   = "images.yaml"
	apiVersion = "biplane.dev/v1"
	kind       = "Images"

	host = "host" // the root that stands for this machine's programs

	maxFile = 1 << 20 // bytes of images.yaml that are read
)

// Values of an entry's python.
const (
	pythonRequired = "required" // the pod fails without one, with the remedy
	pythonOptional = "optional" // first on PATH when there is one
	pythonNone     = "none"
)

// file is images.yaml.
type file struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"`
	Images     []entry `json:"images"`
}

// entry says what a name, or all that fit a pattern, stand for.
type entry struct {
	Name     string `json:"name"`
	Root     string `json:"root,omitempty"`     // "host", or an absolute path of a root directory; without for an imported one
	Python   string `json:"python,omitempty"`   // of a root "host": required, optional (the default) or none
	Imported string `json:"imported,omitempty"` // sha256:…, the image's id: the folder below images/
	Digest   string `json:"digest,omitempty"`   // of an imported one, its manifest's, when the archive has it

	full string // Name, normalised
}

// defaults are the images of a sandbox without an images.yaml.
func defaults() *file {
	f := &file{APIVersion: apiVersion, Kind: kind, Images: []entry{
		{Name: "host", Root: host},
		// What Flyte's clients name when a task names no image of its own.
		{Name: "ghcr.io/flyteorg/flyte:*", Root: host, Python: pythonRequired},
		{Name: "ghcr.io/flyteorg/flytekit:*", Root: host, Python: pythonRequired},
		{Name: "cr.flyte.org/flyteorg/*", Root: host, Python: pythonRequired},
	}}
	return f
}

// readFile reads images.yaml of a sandbox's folder; without one there are the
// defaults.
func readFile(dir string) (*file, error) {
	name := filepath.Join(dir, fileName)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		d := defaults()
		return d, d.check(dir, name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading images.yaml: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading images.yaml: %w", err)
	}
	if len(text) > maxFile {
		return nil, refuse(name, "it is longer than %d bytes", maxFile)
	}
	read := &file{}
	if err := yaml.UnmarshalStrict(text, read); err != nil {
		return nil, refuse(name, "%s", strings.Join(strings.Fields(err.Error()), " ")).Because(err)
	}
	return read, read.check(dir, name)
}

func refuse(name, format string, args ...any) *usererr.Error {
	return usererr.New(usererr.Invalid, "%s cannot be used: %s", name, fmt.Sprintf(format, args...)).
		WithHint("mend it, or move it away to have the defaults again")
}

var imageID = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// check refuses what Resolve could not use, and fills in what is derived.
func (f *file) check(dir, name string) error {
	if f.APIVersion != apiVersion {
		return refuse(name, "apiVersion is %q, want %q", f.APIVersion, apiVersion)
	}
	if f.Kind != kind {
		return refuse(name, "kind is %q, want %q", f.Kind, kind)
	}
	for n := range f.Images {
		e := &f.Images[n]
		at := fmt.Sprintf("images[%d]", n)
		full, err := parsePattern(e.Name)
		if err != nil {
			return refuse(name, "%s.name: %v", at, err).Because(err)
		}
		e.full = full
		switch {
		case e.Imported != "" && !imageID.MatchString(e.Imported):
			return refuse(name, "%s.imported is %q, want sha256: and 64 digits", at, e.Imported)
		case e.Imported != "" && (e.Root != "" || e.Python != ""):
			return refuse(name, "%s is imported, so it has neither root nor python", at)
		case e.Imported != "" && strings.Contains(e.Name, "*"):
			return refuse(name, "%s is imported, so its name %q is no pattern", at, e.Name)
		case e.Imported == "" && e.Root != host && !filepath.IsAbs(e.Root):
			return refuse(name, "%s.root is %q, want \"host\" or an absolute path", at, e.Root)
		case e.Python != "" && e.Root != host:
			return refuse(name, "%s.python is for the root \"host\" alone", at)
		case !slices.Contains([]string{"", pythonRequired, pythonOptional, pythonNone}, e.Python):
			return refuse(name, "%s.python is %q, want required, optional or none", at, e.Python)
		}
		if e.Root != host && e.Imported == "" && holds(e.Root, dir) {
			return refuse(name, "%s.root is %s, in which the sandbox with its keys lies, and which containers must not see", at, e.Root)
		}
	}
	return nil
}

// holds says whether dir lies in folder, whatever the links are.
func holds(folder, dir string) bool {
	real := func(name string) string {
		if r, err := filepath.EvalSymlinks(name); err == nil {
			return r
		}
		return filepath.Clean(name)
	}
	inside, err := filepath.Rel(real(folder), real(dir))
	return err == nil && inside != ".." && !strings.HasPrefix(inside, "../")
}

// set puts an entry in place of the one with the same name, or at the end.
func (f *file) set(e entry) {
	for n := range f.Images {
		if f.Images[n].full == e.full {
			f.Images[n] = e
			return
		}
	}
	f.Images = append(f.Images, e)
}

// change changes images.yaml, for one at a time.
func change(dir string, by func(*file) error) error {
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := readFile(dir)
	if err != nil {
		return err
	}
	if err := by(f); err != nil {
		return err
	}
	if err := f.check(dir, filepath.Join(dir, fileName)); err != nil {
		return err
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("writing images.yaml: %w", err)
	}
	text = append([]byte("# What image names stand for in this sandbox. The longest pattern that fits counts.\n# 'biplane sandbox image' writes this file; a running node sees changes.\n"), text...)
	return writeWhole(filepath.Join(dir, fileName), text)
}

// writeWhole replaces a file, so that a reader sees the old or the new one.
func writeWhole(name string, text []byte) error {
	t, err := os.CreateTemp(filepath.Dir(name), ".images-*")
	if err != nil {
		return fmt.Errorf("writing images.yaml: %w", err)
	}
	defer os.Remove(t.Name())
	_, err = t.Write(text)
	if err = errors.Join(err, t.Sync(), t.Close()); err == nil {
		err = os.Rename(t.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("writing images.yaml: %w", err)
	}
	return nil
}

// lock keeps others from changing the images meanwhile. It makes their folder.
func lock(dir string) (unlock func(), err error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, usererr.New(usererr.NotFound, "there is no sandbox in %s", dir).
			WithHint("run 'biplane sandbox up' first, or see --name and --dir").Because(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, folderName), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of images: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, folderName, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the images: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the images: %w", err)
	}
	return func() { f.Close() }, nil
}
