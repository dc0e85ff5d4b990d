package pods

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The images of the suite. None is called latest, for these are pulled anew.
const (
	ProbeImage = "biplane.test/probe:1" // its entrypoint is the probe
	UserImage  = "biplane.test/user:1"  // also with a command, a user, a working directory
	BareImage  = "biplane.test/bare:1"  // says nothing of how it is run
)

// Images builds the probe and writes the suite's images into dir as docker
// archives. It returns their files by name, for `biplane sandbox image import`.
func Images(ctx context.Context, dir string) (map[string]string, error) {
	probe := filepath.Join(dir, "probe")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", probe, "biplane.dev/biplane/sandbox/test/pods/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the probe: %w: %s", err, out)
	}
	program, err := os.ReadFile(probe)
	if err != nil {
		return nil, fmt.Errorf("reading the probe: %w", err)
	}
	layer, err := imageLayer(program)
	if err != nil {
		return nil, fmt.Errorf("making the layer: %w", err)
	}
	environment := []string{"PATH=/usr/bin:/bin", "FROM_IMAGE=image", "OVERRIDDEN=image"}
	files := map[string]string{}
	for tag, config := range map[string]v1.Config{
		ProbeImage: {Entrypoint: []string{"/bin/probe"}, Env: environment},
		UserImage:  {Entrypoint: []string{"/bin/probe"}, Cmd: []string{"id; groups; cwd; echo by command"}, User: "app", WorkingDir: "/home/app/work", Env: environment},
		BareImage:  {},
	} {
		file := filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(tag)+".tar")
		if err := writeImage(file, tag, layer, config); err != nil {
			return nil, fmt.Errorf("writing the image %s: %w", tag, err)
		}
		files[tag] = file
	}
	return files, nil
}

func writeImage(file, tag string, layer v1.Layer, config v1.Config) error {
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	about, err := image.ConfigFile()
	if err != nil {
		return err
	}
	about = about.DeepCopy()
	about.OS, about.Architecture, about.Config = "linux", runtime.GOARCH, config
	if image, err = mutate.ConfigFile(image, about); err != nil {
		return err
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, ref, image)
}

// imageLayer is what the images hold: the probe, users, and files of several
// modes and owners.
func imageLayer(probe []byte) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range []struct {
		tar.Header
		content string
	}{
		{tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		{tar.Header{Name: "bin/probe", Typeflag: tar.TypeReg, Mode: 0o755}, string(probe)},
		{tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		{tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:0:root:/root:/bin/probe\napp:x:1234:2345:app:/home/app:/bin/probe\n"},
		{tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:\napp:x:2345:\nextra:x:3456:app\n"},
		{tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, ""},
		{tar.Header{Name: "root/", Typeflag: tar.TypeDir, Mode: 0o700}, ""},
		{tar.Header{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		{tar.Header{Name: "data/file", Typeflag: tar.TypeReg, Mode: 0o640}, "from the image\n"},
		{tar.Header{Name: "data/program", Typeflag: tar.TypeReg, Mode: 0o644}, "not a program\n"},
		{tar.Header{Name: "data/link", Typeflag: tar.TypeSymlink, Linkname: "file"}, ""},
	} {
		f.Header.Size = int64(len(f.content))
		if err := w.WriteHeader(&f.Header); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil })
}
