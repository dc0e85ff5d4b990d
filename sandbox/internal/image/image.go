// Package image turns the image names of pods into root directories: of an
// image that was imported, of a folder, or of this machine's own programs with
// a Python environment. It pulls nothing.
//
// Start with Images.Resolve.
package image

import (
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
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	User       string // NAME, UID, NAME:GROUP or UID:GID; "" is 0
	StopSignal string // "" is SIGTERM
}

// Python says where the environment of the `host` images with Python comes
// from: the first that is set, else that of `flyte` on PATH.
type Python struct {
	Flag   string // --python
	Active string // VIRTUAL_ENV at up
}

// Images are the images of one sandbox.
type Images struct{}

// Open reads images.yaml in dir, the sandbox's folder. Changes of the file, as
// those of `biplane sandbox image map`, are seen by the next Resolve.
func Open(dir string, python Python) (*Images, error) { return nil, nil }

// Resolve says what a name stands for. The error is an *UnknownError when
// nothing says so, whose text is the message for ErrImagePull; any other is
// one for the same event.
func (i *Images) Resolve(name string) (Image, error) { return Image{}, nil }

// User resolves Config.User, or a name in its form, in the image's own passwd
// and group files.
func (i Image) User(user string) (uid, gid int, err error) { return 0, 0, nil }

// UnknownError is a name that no entry of images.yaml matches.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string { return "" }
