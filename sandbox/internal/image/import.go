package image

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

const (
	folderName = "images" // of the sandbox's folder: lock, and HEX/{config.json,root} for each imported image
	configName = "config.json"
	unfinished = ".import-" // begins the name of a folder that is being made
)

func importedFolder(dir, id string) string {
	return filepath.Join(dir, folderName, strings.TrimPrefix(id, "sha256:"))
}

// importArchive unpacks an image and lets a name stand for it. Either all of it
// is there afterwards or nothing: an image is put in its place by one rename,
// and what a killed import left is removed by the next one.
func importArchive(ctx context.Context, dir, imageName, archive string, imported Imported) (entry, error) {
	ref, err := parseName(imageName)
	if err != nil {
		return entry{}, err
	}
	if strings.Contains(imageName, "*") {
		return entry{}, usererr.New(usererr.Invalid, "an image is imported under one name, and %q is a pattern", imageName).WithHint("name it, as it is in the pods that use it")
	}
	unlock, err := lock(dir)
	if err != nil {
		return entry{}, err
	}
	e, err := importLocked(ctx, dir, ref, archive, imported)
	unlock()
	if err != nil {
		return entry{}, err
	}
	e.Name, e.full = imageName, ref.String()
	return e, change(dir, func(f *file) error {
		f.set(e)
		return nil
	})
}

func importLocked(ctx context.Context, dir string, ref reference, archive string, imported Imported) (entry, error) {
	images := filepath.Join(dir, folderName)
	left, err := filepath.Glob(filepath.Join(images, unfinished+"*"))
	if err != nil {
		return entry{}, err
	}
	for _, l := range left {
		if err := sandbox.RemoveAll(l); err != nil {
			return entry{}, fmt.Errorf("removing what a killed import left: %w", err)
		}
	}
	temporary, err := os.MkdirTemp(images, unfinished)
	if err != nil {
		return entry{}, fmt.Errorf("making a folder for the image: %w", err)
	}
	defer sandbox.RemoveAll(temporary)

	image, err := openArchive(archive, ref, temporary)
	if err != nil {
		return entry{}, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return entry{}, unusable(archive, err)
	}
	id, err := image.ConfigName()
	if err != nil {
		return entry{}, unusable(archive, err)
	}
	if config.OS != "" && config.OS != "linux" || config.Architecture != "" && config.Architecture != runtime.GOARCH {
		return entry{}, usererr.New(usererr.Refused, "the image in %s is for %s/%s, and this machine is linux/%s", archive, config.OS, config.Architecture, runtime.GOARCH).
			WithHint("get it with '--platform linux/%s'", runtime.GOARCH)
	}
	// A kubelet's node has a store of its own, with the owners of files, too.
	if err := imported(ctx, dir, ref.String(), image); err != nil {
		return entry{}, err
	}
	e := entry{Imported: id.String()}
	if _, isLayout := image.(layoutImage); isLayout {
		if digest, err := image.Digest(); err == nil {
			e.Digest = digest.String()
		}
	}
	place := importedFolder(dir, e.Imported)
	if _, err := os.Stat(place); err == nil {
		return e, nil // the same image under another name
	}
	whole := filepath.Join(temporary, "image")
	if err := os.MkdirAll(filepath.Join(whole, "root"), 0o755); err != nil {
		return entry{}, err
	}
	if err := unpack(image, config, filepath.Join(whole, "root")); err != nil {
		return entry{}, unusable(archive, err)
	}
	text, err := json.Marshal(Config{Entrypoint: config.Config.Entrypoint, Cmd: config.Config.Cmd, Env: config.Config.Env,
		WorkingDir: config.Config.WorkingDir, User: config.Config.User, StopSignal: config.Config.StopSignal})
	if err == nil {
		err = os.WriteFile(filepath.Join(whole, configName), text, 0o600)
	}
	if err == nil {
		err = os.Rename(whole, place)
	}
	if err != nil {
		return entry{}, fmt.Errorf("putting the image in its place: %w", err)
	}
	return e, nil
}

// unusable is an archive that cannot be read, unless the error says better.
func unusable(archive string, err error) error {
	var people *usererr.Error
	if errors.As(err, &people) {
		return err
	}
	return usererr.New(usererr.Invalid, "the image in %s cannot be used: %v", archive, err).
		WithHint("write it with 'docker save NAME -o FILE.tar', or as an OCI layout").Because(err)
}

// layoutImage is an image whose archive has its manifest, and so its digest.
type layoutImage struct{ v1.Image }

// openArchive finds the image in an archive of docker's or an OCI layout, which
// may be a folder. A tar of an OCI layout is written to temporary first.
func openArchive(archive string, ref reference, temporary string) (v1.Image, error) {
	info, err := os.Stat(archive)
	if err != nil {
		return nil, usererr.New(usererr.NotFound, "there is no archive %s", archive).WithHint("name what 'docker save' wrote, or the folder of an OCI layout").Because(err)
	}
	if info.IsDir() {
		return openLayout(archive, archive, ref)
	}
	hasManifest, err := contains(archive, "manifest.json")
	if err != nil {
		return nil, unusable(archive, err)
	}
	if hasManifest {
		return openDocker(archive, ref)
	}
	folder := filepath.Join(temporary, "layout")
	if err := extractLayout(archive, folder); err != nil {
		return nil, unusable(archive, err)
	}
	return openLayout(archive, folder, ref)
}

// openTar opens an archive that may be compressed.
func openTar(archive string) (io.ReadCloser, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReaderSize(f, 1<<16)
	if magic, _ := buffered.Peek(2); string(magic) != "\x1f\x8b" {
		return struct {
			io.Reader
			io.Closer
		}{buffered, f}, nil
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}

// contains says whether an archive has a file at its top.
func contains(archive, file string) (bool, error) {
	r, err := openTar(archive)
	if err != nil {
		return false, err
	}
	defer r.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if path.Clean(h.Name) == file {
			return true, nil
		}
	}
}

func openDocker(archive string, ref reference) (v1.Image, error) {
	opener := func() (io.ReadCloser, error) { return openTar(archive) }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, unusable(archive, err)
	}
	if len(manifest) == 0 {
		return nil, unusable(archive, errors.New("there is none in it"))
	}
	if len(manifest) == 1 {
		return tarball.Image(opener, nil)
	}
	var names []string
	for _, m := range manifest {
		for _, t := range m.RepoTags {
			names = append(names, t)
			if r, err := parseName(t); err == nil && r == ref {
				tag, err := name.NewTag(t)
				if err != nil {
					return nil, unusable(archive, err)
				}
				return tarball.Image(opener, &tag)
			}
		}
	}
	return nil, severalImages(archive, ref, names)
}

func severalImages(archive string, ref reference, names []string) error {
	return usererr.New(usererr.Invalid, "%s holds %d images and none of them is %s", archive, len(names), ref).
		WithHint("import it under the name of one of them: %s", strings.Join(names, ", "))
}

// openLayout finds the image of this machine's architecture, or of the name, in
// an OCI layout.
func openLayout(archive, folder string, ref reference) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, unusable(archive, fmt.Errorf("it is neither an archive of docker's nor an OCI layout: %w", err))
	}
	image, err := choose(archive, index, ref, 0)
	if err != nil {
		return nil, unusable(archive, err)
	}
	return layoutImage{image}, nil
}

func choose(archive string, index v1.ImageIndex, ref reference, depth int) (v1.Image, error) {
	if depth > 4 {
		return nil, errors.New("its indexes are nested too deep")
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	candidates, names := []v1.Descriptor(nil), []string(nil)
	for _, d := range manifest.Manifests {
		if !d.MediaType.IsImage() && !d.MediaType.IsIndex() || d.Annotations["vnd.docker.reference.type"] != "" {
			continue // an attestation, or what we do not know
		}
		if d.Platform != nil && (d.Platform.OS != "linux" || d.Platform.Architecture != runtime.GOARCH) {
			continue
		}
		candidates = append(candidates, d)
	}
	if len(candidates) > 1 {
		for _, d := range candidates {
			for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
				given := d.Annotations[key]
				if given == "" {
					continue
				}
				names = append(names, given)
				if r, err := parseName(given); err == nil && r == ref || given == ref.tag {
					candidates = []v1.Descriptor{d}
				}
			}
		}
	}
	switch {
	case len(candidates) == 0:
		return nil, fmt.Errorf("it has no image for linux/%s", runtime.GOARCH)
	case len(candidates) > 1:
		return nil, severalImages(archive, ref, names)
	case candidates[0].MediaType.IsIndex():
		inner, err := index.ImageIndex(candidates[0].Digest)
		if err != nil {
			return nil, err
		}
		return choose(archive, inner, ref, depth+1)
	}
	return index.Image(candidates[0].Digest)
}

// extractLayout writes the files of an OCI layout out of its tar: those names
// alone that it can have.
func extractLayout(archive, folder string) error {
	r, err := openTar(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	room := int64(maxBytes)
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		at := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || at != "oci-layout" && at != "index.json" && !strings.HasPrefix(at, "blobs/") {
			continue
		}
		if err := root.MkdirAll(path.Dir(at), 0o700); err != nil {
			return err
		}
		f, err := root.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue // the same blob again
		}
		if err != nil {
			return err
		}
		n, err := io.Copy(f, io.LimitReader(t, room+1))
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if room -= n; room < 0 {
			return tooBig()
		}
	}
}
