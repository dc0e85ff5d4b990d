// Package image turns the image names of pods into root directories: of an
// image that was imported, of a folder, or of this machine's own programs with
// a Python environment. It pulls nothing.
//
//	image.go    Open, Resolve: what a name stands for
//	file.go     images.yaml, which says so
//	names.go    how names are written, and which entry's pattern fits best
//	python.go   where the Python environment is found
//	users.go    an image's own users
//	import.go   an archive becomes a folder: reading it; unpack.go: its layers
//	command.go  `biplane sandbox image`
//
// Start with Images.Resolve.
package image

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/container"
)

// Image is what a name stands for.
type Image struct {
	Name   string // as it was asked for, normalised: docker.io/library/busybox:latest
	ID     string // sha256:…; of an image that was not imported, made from what it is mapped to
	Root   container.Root
	Config Config
}

// Config is the image's own say in how its containers run.
type Config struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"`       // NAME, UID, NAME:GROUP or UID:GID; "" is 0
	StopSignal string   `json:"stopSignal,omitempty"` // "" is SIGTERM
}

// Images are the images of one sandbox.
type Images struct {
	dir    string // the sandbox's folder
	python Python

	mu   sync.Mutex
	read fs.FileInfo // of images.yaml as it was read; nil when there was none
	file *file
}

// Open reads images.yaml in dir, the sandbox's folder. Changes of the file, as
// those of `biplane sandbox image map`, are seen by the next Resolve.
func Open(dir string, python Python) (*Images, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	i := &Images{dir: dir, python: python}
	_, err = i.current()
	return i, err
}

// current is the content of images.yaml, read again when it was changed.
func (i *Images) current() (*file, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	info, err := os.Stat(filepath.Join(i.dir, fileName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for images.yaml: %w", err)
	}
	if err != nil {
		info = nil
	}
	if i.file != nil && same(i.read, info) {
		return i.file, nil
	}
	f, err := readFile(i.dir)
	if err != nil {
		return nil, err
	}
	i.read, i.file = info, f
	return f, nil
}

func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Resolve says what a name stands for. The error is an *UnknownError when
// nothing says so, whose text is the message for ErrImagePull; any other is
// one for the same event.
func (i *Images) Resolve(name string) (Image, error) {
	asked, err := parseName(name)
	if err != nil {
		return Image{}, err
	}
	f, err := i.current()
	if err != nil {
		return Image{}, err
	}
	e := f.find(asked)
	if e == nil {
		return Image{}, &UnknownError{Name: name}
	}
	found := Image{Name: asked.String()}
	switch {
	case e.Imported != "":
		folder := importedFolder(i.dir, e.Imported)
		if found.Config, err = readConfig(folder); err != nil {
			return Image{}, usererr.New(usererr.NotFound, "the image %q is not in the sandbox's folder any more", e.Name).
				WithHint("run 'biplane sandbox image import %s FILE.tar' again", e.Name).Because(err)
		}
		found.Root.Dir, found.ID = filepath.Join(folder, "root"), e.Imported
		return found, nil
	case e.Root != host:
		if info, err := os.Stat(e.Root); err != nil || !info.IsDir() {
			return Image{}, usererr.New(usererr.NotFound, "the image %q stands for the folder %s, which is not there", e.Name, e.Root).
				WithHint("run 'biplane sandbox image map %s DIR' with another one", e.Name).Because(err)
		}
		found.Root.Dir = e.Root
	case e.Python != pythonNone:
		found.Root.Python, err = i.python.find()
		if err != nil && (e.Python == pythonRequired || !errors.Is(err, errNoPython)) {
			return Image{}, err
		}
	}
	sum := sha256.Sum256([]byte(e.Root + "\x00" + found.Root.Python))
	found.ID = fmt.Sprintf("sha256:%x", sum)
	return found, nil
}

// UnknownError is a name that no entry of images.yaml matches.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no image named %q in this sandbox, which pulls none: run 'biplane sandbox image map %s host' to run it with this machine's programs, "+
		"or 'biplane sandbox image import %s FILE.tar' with what 'docker save' wrote", e.Name, e.Name, e.Name)
}

func readConfig(folder string) (Config, error) {
	var c Config
	text, err := os.ReadFile(filepath.Join(folder, configName))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	return c, err
}
