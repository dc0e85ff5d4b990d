//go:build conformance

// Command images writes the images that the end-to-end tests ask for as docker
// archives, made of their own sources and of this machine's busybox, and prints
// their names and files. SOURCES are agnhost's, of which its image has two files:
//
//	images AGNHOST SOURCES NNP BUSYBOX DIR
//
// Of nginx the specs take no more than that it is another image with a shell, so
// that is what it is here. Images that cannot be made so (httpd) are left out; what
// needs them is among the known failures.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	imageutils "k8s.io/kubernetes/test/utils/image"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: images AGNHOST SOURCES NNP BUSYBOX DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// file is one entry of a layer.
type file struct {
	name, link string
	mode       int64
	content    []byte
}

func write(agnhost, sources, nnp, busybox, dir string) error {
	base, err := busyboxFiles(busybox)
	if err != nil {
		return err
	}
	program, err := os.ReadFile(agnhost)
	if err != nil {
		return err
	}
	// As its Dockerfile says: a second name for a test of entrypoints, a user with a
	// group for one of groups, and for hooks a certificate and curl, of which they use
	// no more than busybox's wget does.
	withAgnhost := append(base[:len(base):len(base)],
		file{name: "agnhost", mode: 0o755, content: program},
		file{name: "agnhost-2", link: "agnhost"},
		file{name: "uploads/", mode: 0o755},
		file{name: "bin/curl", mode: 0o755, content: []byte("#!/bin/sh\nexec wget -q -O - \"$@\"\n")},
		file{name: "home/user-defined-in-image/", mode: 0o755},
	)
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		content, err := os.ReadFile(filepath.Join(sources, "porter", name))
		if err != nil {
			return err
		}
		withAgnhost = append(withAgnhost, file{name: name, mode: 0o644, content: content})
	}
	if program, err = os.ReadFile(nnp); err != nil {
		return err
	}
	withNNP := append(base[:len(base):len(base)], file{name: "usr/local/bin/nnp", mode: 0o6755, content: program})
	images := []struct {
		image  imageutils.ImageID
		files  []file
		config v1.Config
	}{
		{imageutils.BusyBox, base, v1.Config{Cmd: []string{"sh"}}},
		{imageutils.Nginx, base, v1.Config{Cmd: []string{"sh"}}},
		{imageutils.NonRoot, base, v1.Config{Cmd: []string{"sh"}, User: "1234"}},
		{imageutils.Agnhost, withAgnhost, v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}}},
		{imageutils.Nonewprivs, withNNP, v1.Config{Cmd: []string{"nnp"}}},
		{imageutils.Pause, withAgnhost, v1.Config{Entrypoint: []string{"/agnhost", "pause"}}},
	}
	for _, i := range images {
		i.config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		tag := imageutils.GetE2EImage(i.image)
		archive := filepath.Join(dir, path.Base(strings.ReplaceAll(tag, ":", "-"))+".tar")
		if err := writeImage(archive, tag, i.files, i.config); err != nil {
			return fmt.Errorf("writing %s: %w", tag, err)
		}
		fmt.Println(tag, archive)
	}
	return nil
}

// busyboxFiles is a root with busybox under all of its names.
func busyboxFiles(busybox string) ([]file, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("asking busybox what it is: %w", err)
	}
	files := []file{
		{name: "bin/", mode: 0o755}, {name: "bin/busybox", mode: 0o755, content: program},
		{name: "etc/", mode: 0o755}, {name: "tmp/", mode: 0o1777}, {name: "root/", mode: 0o700}, {name: "home/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755}, {name: "usr/bin/env", link: "/bin/busybox"},
		{name: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/root:/bin/sh\nuser-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n")},
		{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n")},
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			files = append(files, file{name: "bin/" + applet, link: "busybox"})
		}
	}
	return files, nil
}

func writeImage(archive, tag string, files []file, config v1.Config) error {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(f.content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil })
	if err != nil {
		return err
	}
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
	return tarball.WriteToFile(archive, ref, image)
}
