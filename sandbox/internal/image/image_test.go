package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"biplane.dev/biplane/internal/usererr"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "import" { // to be killed
		_, err := importArchive(context.Background(), os.Args[2], os.Args[3], os.Args[4], nobody)
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// nobody has a store of its own.
func nobody(context.Context, string, string, v1.Image) error { return nil }

func write(t testing.TB, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestWhichEntryFits(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, fileName), `apiVersion: biplane.dev/v1
kind: Images
images:
- {name: busybox, root: /exact}
- {name: "busybox:*", root: /any-busybox}
- {name: "example.com/*", root: /example}
- {name: "example.com/team/*", root: /team}
- {name: "example.com/team/tool", root: /tool-latest}
- {name: "example.com/*/tool:1", root: /tool-1}
- {name: "docker.io/library/nginx:1", root: /nginx}
- {name: "library/redis", root: /redis}
- {name: "localhost:5000/app", root: /local}
- {name: "ghcr.io/flyteorg/flyte:*", root: /flyte}
`, 0o600)
	f, err := readFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	const digest = "@sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for _, test := range []struct{ name, want string }{
		{"busybox", "/exact"},
		{"docker.io/busybox", "/exact"},
		{"index.docker.io/library/busybox:latest", "/exact"},
		{"busybox:1.36", "/any-busybox"},
		{"example.com/else:2", "/example"},
		{"example.com/team/else", "/team"},
		{"example.com/team/tool", "/tool-latest"},
		{"example.com/team/tool:1", "/tool-1"},
		{"example.com/team/tool:2", "/team"},
		{"nginx:1", "/nginx"},
		{"redis:latest", "/redis"},
		{"localhost:5000/app", "/local"},
		{"ghcr.io/flyteorg/flyte:py3.11-v2.0.0", "/flyte"},
		{"ghcr.io/flyteorg/flyte:py3.11" + digest, "/flyte"},
		{"ghcr.io/flyteorg/flyte" + digest, "/flyte"},
		{"ghcr.io/flyteorg/flytekit:1", ""},
		{"nginx:2", ""},
		{"quay.io/busybox", ""},
	} {
		t.Run("it finds "+test.name, func(t *testing.T) {
			asked, err := parseName(test.name)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if e := f.find(asked); e != nil {
				got = e.Root
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	dir, env := t.TempDir(), t.TempDir()
	write(t, filepath.Join(env, "bin/python"), "", 0o755)
	images, err := Open(dir, Python{Flag: env})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("it has Flyte's images from the beginning", func(t *testing.T) {
		for _, name := range []string{"host", "ghcr.io/flyteorg/flyte:py3.11-v2.12.1", "ghcr.io/flyteorg/flytekit:py3.9-1.2", "cr.flyte.org/flyteorg/flytekit:py3"} {
			got, err := images.Resolve(name)
			if err != nil || got.Root.Dir != "" || got.Root.Python != env || !imageID.MatchString(got.ID) {
				t.Errorf("got %+v, %v, want this machine with the environment", got, err)
			}
		}
	})
	t.Run("it says what to do about a name that it does not know", func(t *testing.T) {
		_, err := images.Resolve("example.com/tool:1")
		var unknown *UnknownError
		if !errors.As(err, &unknown) || unknown.Name != "example.com/tool:1" || !strings.Contains(err.Error(), "'biplane sandbox image map example.com/tool:1 host'") {
			t.Errorf("got %v, want an UnknownError with the remedy", err)
		}
	})
	t.Run("it refuses what is no name", func(t *testing.T) {
		for _, name := range []string{"", "UPPER", "a b", "x@sha256:12", "/x", "x:"} {
			var people *usererr.Error
			if _, err := images.Resolve(name); !errors.As(err, &people) || people.Kind != usererr.Invalid {
				t.Errorf("got %v for %q, want that it is invalid", err, name)
			}
		}
	})
	t.Run("it sees what is mapped meanwhile", func(t *testing.T) {
		root := t.TempDir()
		if _, err := mapName(dir, "example.com/tool:1", root); err != nil {
			t.Fatal(err)
		}
		if got, err := images.Resolve("example.com/tool:1"); err != nil || got.Root.Dir != root || got.Name != "example.com/tool:1" {
			t.Errorf("got %+v, %v, want the folder %s", got, err, root)
		}
		if _, err := mapName(dir, "example.com/tool:1", host); err != nil {
			t.Fatal(err)
		}
		if got, err := images.Resolve("example.com/tool:1"); err != nil || got.Root.Dir != "" {
			t.Errorf("got %+v, %v, want this machine", got, err)
		}
		if got, err := images.Resolve("ghcr.io/flyteorg/flyte:x"); err != nil || got.Root.Python != env {
			t.Errorf("got %+v, %v, want the defaults as before", got, err)
		}
	})
	t.Run("it refuses to show the sandbox's own folder", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		os.Symlink(filepath.Dir(dir), link)
		for _, to := range []string{"/", dir, filepath.Dir(dir), link} {
			var people *usererr.Error
			if _, err := mapName(dir, "x", to); !errors.As(err, &people) || people.Kind != usererr.Refused {
				t.Errorf("got %v for %s, want that it is refused", err, to)
			}
		}
		var people *usererr.Error
		if _, err := mapName(dir, "x", "/no/such"); !errors.As(err, &people) || people.Kind != usererr.NotFound {
			t.Errorf("got %v, want that it is not found", err)
		}
	})
}

func TestStrictFile(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"it refuses an unknown key", "apiVersion: biplane.dev/v1\nkind: Images\nimages: [{name: a, rooot: host}]", `unknown field "rooot"`},
		{"it refuses another version", "apiVersion: biplane.dev/v9\nkind: Images", `apiVersion is "biplane.dev/v9", want "biplane.dev/v1"`},
		{"it refuses another kind", "apiVersion: biplane.dev/v1\nkind: Pods", `kind is "Pods"`},
		{"it refuses an empty file", "", `apiVersion is ""`},
		{"it refuses a key twice", "apiVersion: biplane.dev/v1\nkind: Images\nkind: Images", `already set`},
		{"it refuses a relative root", "apiVersion: biplane.dev/v1\nkind: Images\nimages: [{name: a, root: b}]", `images[0].root is "b"`},
		{"it refuses a name that is none", "apiVersion: biplane.dev/v1\nkind: Images\nimages: [{name: A, root: host}]", `images[0].name: "A" is no name`},
		{"it refuses an id that leads elsewhere", "apiVersion: biplane.dev/v1\nkind: Images\nimages: [{name: a, imported: ../../etc}]", `images[0].imported is "../../etc"`},
		{"it refuses python without the host", "apiVersion: biplane.dev/v1\nkind: Images\nimages: [{name: a, root: /x, python: none}]", `images[0].python`},
		{"it refuses a root that shows the keys", "apiVersion: biplane.dev/v1\nkind: Images\nimages: [{name: a, root: /}]", `images[0].root is /, in which the sandbox`},
		{"it refuses what is no YAML", "{", `cannot be used`},
		{"it refuses a huge file", strings.Repeat("#", maxFile+1), `longer than`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, fileName), test.text, 0o600)
			_, err := Open(dir, Python{})
			var people *usererr.Error
			if !errors.As(err, &people) || !strings.Contains(people.Error(), test.want) || !strings.Contains(people.Error(), fileName) || people.Hint == "" {
				t.Errorf("got %v, want %q and the file's name in it", err, test.want)
			}
		})
	}
}

func TestPythonIsFound(t *testing.T) {
	home := t.TempDir()
	make := func(name string) string {
		env := filepath.Join(home, name)
		write(t, filepath.Join(env, "bin/python"), "", 0o755)
		return env
	}
	flag, active, linked, named := make("flag"), make("active"), make("tools/flyte"), make("named")
	write(t, filepath.Join(linked, "bin/flyte"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(home, "b/flyte"), "#!"+named+"/bin/python3 -s\n", 0o755)
	os.MkdirAll(filepath.Join(home, "a"), 0o755)
	os.Symlink(filepath.Join(linked, "bin/flyte"), filepath.Join(home, "a/flyte"))
	for _, test := range []struct {
		name   string
		python Python
		path   string
		want   string
		err    string
	}{
		{"it is the one of --python", Python{flag, active}, "a", flag, ""},
		{"it is the active one", Python{"", active}, "a", active, ""},
		{"it is that of flyte on PATH, by a link", Python{}, "a", linked, ""},
		{"it is that of flyte on PATH, by its first line", Python{}, "b", named, ""},
		{"it is none", Python{}, "c", "", "no 'flyte' is on PATH"},
		{"it says which one is broken", Python{"/no/such", active}, "a", "", "the Python environment /no/such, named by --python, has no bin/python"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("PATH", filepath.Join(home, test.path))
			got, err := test.python.find()
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v, want %q, %q", got, err, test.want, test.err)
			}
		})
	}
	t.Run("it is looked for when a pod starts", func(t *testing.T) {
		t.Setenv("PATH", filepath.Join(home, "later"))
		images, err := Open(t.TempDir(), Python{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := images.Resolve("ghcr.io/flyteorg/flyte:1"); !errors.Is(err, errNoPython) {
			t.Errorf("got %v, want %v", err, errNoPython)
		}
		if got, err := images.Resolve("host"); err != nil || got.Root.Python != "" {
			t.Errorf("got %+v, %v, want this machine without Python", got, err)
		}
		os.Symlink(filepath.Join(home, "a"), filepath.Join(home, "later"))
		if got, err := images.Resolve("ghcr.io/flyteorg/flyte:1"); err != nil || got.Root.Python != linked {
			t.Errorf("got %+v, %v, want the environment %s", got, err, linked)
		}
	})
}

// file is one in a layer.
func regular(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Linkname: content, ModTime: time.Unix(1e9, 0)}
}

// layer makes one; the content of a regular file is its Linkname.
func layer(t testing.TB, headers ...tar.Header) v1.Layer {
	t.Helper()
	out := tarOf(t, headers...)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func writeTar(t testing.TB, name string, headers ...tar.Header) {
	t.Helper()
	write(t, name, string(tarOf(t, headers...)), 0o644)
}

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	w.Close()
	return out.Bytes()
}

func build(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config = "linux", runtime.GOARCH, config
	if image, err = mutate.ConfigFile(image, c); err != nil {
		t.Fatal(err)
	}
	return image
}

// docker writes images as docker saves them.
func docker(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	refs := map[name.Reference]v1.Image{}
	for n, image := range images {
		ref, err := name.ParseReference(n)
		if err != nil {
			t.Fatal(err)
		}
		refs[ref] = image
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.MultiRefWriteToFile(archive, refs); err != nil {
		t.Fatal(err)
	}
	return archive
}

// oci writes an OCI layout, as a folder and as a tar of it.
func oci(t testing.TB, images ...v1.Image) (folder, archive string) {
	t.Helper()
	folder = t.TempDir()
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for n, image := range images {
		if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": fmt.Sprint("example.com/image:", n)})); err != nil {
			t.Fatal(err)
		}
	}
	archive = filepath.Join(t.TempDir(), "oci.tar")
	if out, err := exec.Command("tar", "-C", folder, "-czf", archive, ".").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	return folder, archive
}

// tree is a folder as text: a line for each file.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(dir, name)
		switch {
		case rel == ".":
		case entry.IsDir():
			lines = append(lines, rel+"/")
		case entry.Type() == fs.ModeSymlink:
			to, _ := os.Readlink(name)
			lines = append(lines, rel+" -> "+to)
		default:
			content, _ := os.ReadFile(name)
			lines = append(lines, rel+" "+string(content))
		}
		return nil
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func folder(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: time.Unix(1e9, 0)}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func hardLink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

func TestImport(t *testing.T) {
	config := v1.Config{Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, Env: []string{"A=b"}, WorkingDir: "/srv", User: "app", StopSignal: "SIGINT"}
	image := build(t, config,
		layer(t, folder("etc", 0o755), regular("etc/passwd", "app:x:7:8::/:\n"), regular("etc/group", "app:x:8:\nother:x:9:\n"), folder("var", 0o755), folder("run", 0o755),
			link("var/run", "/run"), regular("a", "first"), hardLink("b", "a"), folder("gone/in", 0o755), regular("gone/in/x", "x"),
			folder("opaque", 0o755), regular("opaque/old", "old"), folder("closed", 0), regular("closed/in", "in"), link("abs", "/etc"), regular("wasfile", "x"), folder("wasdir", 0o755), regular("wasdir/x", "x")),
		layer(t, regular("var/run/pid", "through a link"), regular(".wh.gone", ""), regular("opaque/.wh..wh..opq", ""), regular("opaque/new", "new"),
			regular("a", "second"), regular("abs/made", "in etc"), folder("wasfile", 0o755), regular("wasfile/x", "now a folder"), regular("wasdir", "now a file"),
			hardLink("c", "/var/run/pid"), tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3}, regular("new/deep/file", "without its folder")),
	)
	want := strings.Join([]string{
		"a second", "abs -> /etc", "b first", "c through a link", "closed/", "closed/in in", "dev/", "etc/", "etc/group app:x:8:\nother:x:9:\n", "etc/made in etc",
		"etc/passwd app:x:7:8::/:\n", "new/", "new/deep/", "new/deep/file without its folder", "opaque/", "opaque/new new", "run/", "run/pid through a link",
		"var/", "var/run -> /run", "wasdir now a file", "wasfile/", "wasfile/x now a folder"}, "\n")
	id, _ := image.ConfigName()
	digest, _ := image.Digest()
	layoutFolder, layoutTar := oci(t, image)
	for _, test := range []struct{ name, archive string }{
		{"it unpacks what docker saves", docker(t, map[string]v1.Image{"example.com/tool:1": image})},
		{"it unpacks the folder of an OCI layout", layoutFolder},
		{"it unpacks the tar of an OCI layout", layoutTar},
		{"it unpacks one of several by its name", docker(t, map[string]v1.Image{"example.com/tool:1": image, "example.com/tool:2": build(t, v1.Config{})})},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			images, err := Open(dir, Python{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := importArchive(context.Background(), dir, "example.com/tool:1", test.archive, nobody); err != nil {
				t.Fatal(err)
			}
			got, err := images.Resolve("example.com/tool:1")
			if err != nil || got.ID != id.String() {
				t.Fatalf("got %+v, %v, want the id %s", got, err, id)
			}
			wantConfig := Config{[]string{"/app"}, []string{"serve"}, []string{"A=b"}, "/srv", "app", "SIGINT"}
			if fmt.Sprint(got.Config) != fmt.Sprint(wantConfig) {
				t.Errorf("got %+v, want %+v", got.Config, wantConfig)
			}
			if got := tree(t, got.Root.Dir); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if info, _ := os.Stat(filepath.Join(got.Root.Dir, "a")); !info.ModTime().Equal(time.Unix(1e9, 0)) || info.Mode() != 0o644 {
				t.Errorf("got %v %v, want the time and mode of the layer", info.ModTime(), info.Mode())
			}
			for user, want := range map[string][2]int{"app": {7, 8}, "7": {7, 8}, "app:other": {7, 9}, "5": {5, 0}, "5:6": {5, 6}, "": {0, 0}} {
				if uid, gid, err := got.User(user); err != nil || [2]int{uid, gid} != want {
					t.Errorf("got %d, %d, %v for the user %q, want %v", uid, gid, err, user, want)
				}
			}
			if _, _, err := got.User("nobody-here"); err == nil {
				t.Error("got no error for a user that the image does not have")
			}
			entries, _ := os.ReadDir(filepath.Join(dir, folderName))
			if len(entries) != 2 {
				t.Errorf("got %v in the folder of images, want the lock and the image", entries)
			}
			if strings.Contains(test.name, "OCI") {
				if _, err := images.Resolve("example.com/tool@" + digest.String()); err != nil {
					t.Errorf("got %v, want the image by its digest", err)
				}
			}
			var unknown *UnknownError
			if _, err := images.Resolve("example.com/tool:1@sha256:" + strings.Repeat("0", 64)); !errors.As(err, &unknown) {
				t.Errorf("got %v, want no image for another digest", err)
			}
		})
	}
}

func TestImportRefuses(t *testing.T) {
	victim := t.TempDir()
	write(t, filepath.Join(victim, "file"), "untouched", 0o644)
	up := strings.Repeat("../", 20) + strings.TrimPrefix(victim, "/")
	other := build(t, v1.Config{}, layer(t, regular("x", "")))
	c, _ := other.ConfigFile()
	c = c.DeepCopy()
	c.Architecture = "s390x"
	foreign, err := mutate.ConfigFile(other, c)
	if err != nil {
		t.Fatal(err)
	}
	damaged := docker(t, map[string]v1.Image{"example.com/image:1": other})
	truncated := filepath.Join(t.TempDir(), "short.tar")
	whole, _ := os.ReadFile(damaged)
	write(t, truncated, string(whole[:len(whole)/2]), 0o644)
	text := filepath.Join(t.TempDir(), "text")
	write(t, text, "this is no archive, whatever it is called, and long enough to be read as one"+strings.Repeat(".", 1024), 0o644)
	one := func(headers ...tar.Header) string {
		return docker(t, map[string]v1.Image{"example.com/image:1": build(t, v1.Config{}, layer(t, headers...))})
	}
	wrongSum := filepath.Join(t.TempDir(), "wrong.tar")
	writeTar(t, wrongSum, regular("manifest.json", `[{"Config":"config.json","RepoTags":["example.com/image:1"],"Layers":["layer.tar"]}]`),
		regular("config.json", `{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`), regular("layer.tar", string(make([]byte, 1024))))
	for _, test := range []struct{ name, archive, want string }{
		{"it refuses what is not there", "/no/such.tar", "there is no archive /no/such.tar"},
		{"it refuses what is no archive", text, "cannot be used"},
		{"it refuses half an archive", truncated, "cannot be used"},
		{"it refuses a folder that is no layout", victim, "neither an archive of docker's nor an OCI layout"},
		{"it refuses an image for another machine", docker(t, map[string]v1.Image{"example.com/image:1": foreign}), "is for linux/s390x"},
		{"it refuses several without the name", docker(t, map[string]v1.Image{"example.com/one:1": other, "example.com/two:1": build(t, v1.Config{})}), "holds 2 images and none of them is example.com/tool:1"},
		{"it refuses a layer that was changed", wrongSum, "it is damaged"},
		{"it refuses a hard link to what is not in the image", one(hardLink("x", up+"/file")), "no such file"},
		{"it refuses links in a circle", one(link("a", "b"), link("b", "a"), regular("a/x", "")), "circle"},
		{"it refuses a whiteout of the folder itself", one(regular("d/.wh...", "")), "whiteout of nothing"},
		{"it refuses a file as a folder", one(regular("f", ""), regular("f/x", "")), "is a file and is used as a folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := importArchive(context.Background(), dir, "example.com/tool:1", test.archive, nobody)
			var people *usererr.Error
			if !errors.As(err, &people) || !strings.Contains(people.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if entries, _ := os.ReadDir(filepath.Join(dir, folderName)); len(entries) > 1 {
				t.Errorf("got %v in the folder of images, want no more than the lock", entries)
			}
			if _, err := os.Stat(filepath.Join(dir, fileName)); err == nil {
				t.Error("got an images.yaml, want none")
			}
		})
	}
	for _, test := range []struct {
		name, want string
		headers    []tar.Header
	}{
		{"it keeps names with dots inside", "evil x", []tar.Header{regular(strings.Repeat("../", 20)+"evil", "x")}},
		{"it keeps absolute names inside", "etc/\netc/evil x", []tar.Header{regular("/etc/evil", "x")}},
		{"it follows an absolute link inside", "", []tar.Header{link("out", victim), regular("out/file", "changed")}},
		{"it follows a relative link inside", "", []tar.Header{link("out", up), regular("out/file", "changed"), regular("out/new", "")}},
		{"it replaces a link, not what it leads to", "out changed", []tar.Header{link("out", victim+"/file"), regular("out", "changed")}},
		{"it removes inside alone", "", []tar.Header{link("out", victim), regular("out/.wh.file", ""), regular("out/.wh..wh..opq", "")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			e, err := importArchive(context.Background(), dir, "example.com/tool:1", one(test.headers...), nobody)
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, filepath.Join(importedFolder(dir, e.Imported), "root")); test.want != "" && got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := tree(t, victim); got != "file untouched" {
				t.Errorf("got %q outside, want it untouched", got)
			}
		})
	}
	t.Run("it refuses a pattern", func(t *testing.T) {
		if _, err := importArchive(context.Background(), t.TempDir(), "example.com/*", damaged, nobody); err == nil {
			t.Error("got no error, want one")
		}
	})
}

func TestKilledImport(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var headers []tar.Header
	for n := range 60 {
		headers = append(headers, regular(fmt.Sprint("file", n), string(big)+fmt.Sprint(n)))
	}
	archive := docker(t, map[string]v1.Image{"example.com/image:1": build(t, v1.Config{}, layer(t, headers...))})
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "import", dir, "example.com/image:1", archive)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, folderName, unfinished+"*", "image", "root", "file3")
	for deadline := time.Now().Add(time.Minute); ; {
		if found, _ := filepath.Glob(half); len(found) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("got no file of the import, want one to kill it at")
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	images, err := Open(dir, Python{})
	if err != nil {
		t.Fatal(err)
	}
	var unknown *UnknownError
	if _, err := images.Resolve("example.com/image:1"); !errors.As(err, &unknown) {
		t.Errorf("got %v after a killed import, want no image", err)
	}
	if _, err := importArchive(context.Background(), dir, "example.com/image:1", archive, nobody); err != nil {
		t.Fatal(err)
	}
	if _, err := images.Resolve("example.com/image:1"); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, folderName, unfinished+"*")); len(left) != 0 {
		t.Errorf("got %v left, want nothing of the killed import", left)
	}
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	var told []string // of imported images
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := Command(func(_ context.Context, sandbox, name string, _ v1.Image) error {
			told = append(told, sandbox+" "+name)
			return nil
		})
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		err := cmd.Execute()
		return out.String(), err
	}
	if _, err := run("map", "--dir", dir, "--output", "table", "--", "example.com/team/*", "host"); err != nil {
		t.Fatal(err)
	}
	text, err := run("list", "--dir", dir, "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Images []shown `json:"images"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	want := []shown{{Name: "host", Kind: "host", Root: "host", Python: "optional"}, {Name: "ghcr.io/flyteorg/flyte:*", Kind: "host", Root: "host", Python: "required"},
		{Name: "ghcr.io/flyteorg/flytekit:*", Kind: "host", Root: "host", Python: "required"}, {Name: "cr.flyte.org/flyteorg/*", Kind: "host", Root: "host", Python: "required"},
		{Name: "example.com/team/*", Kind: "host", Root: "host", Python: "optional"}}
	if !slices.Equal(list.Images, want) {
		t.Errorf("got %+v, want %+v", list.Images, want)
	}
	if text, err := run("list", "--dir", dir); err != nil || !strings.HasPrefix(text, "NAME ") || strings.Count(text, "\n") != 6 {
		t.Errorf("got %q, %v, want a table of five", text, err)
	}
	if text, err := run("list", "--dir", dir, "--output", "yaml"); err != nil || !strings.HasPrefix(text, "images:\n- ") {
		t.Errorf("got %q, %v, want YAML", text, err)
	}
	archive := docker(t, map[string]v1.Image{"example.com/tool:1": build(t, v1.Config{})})
	if _, err := run("import", "--dir", dir, "tool", archive); err != nil {
		t.Fatal(err)
	}
	if want := dir + " docker.io/library/tool:latest"; !slices.Equal(told, []string{want}) {
		t.Errorf("got nodes told of %q, want of %q", told, want)
	}
	for _, args := range [][]string{{"list"}, {"list", "--dir", dir, "--output", "xml"}, {"frob", "--dir", dir}, {"map", "--dir", "/no/such", "a", "host"}, {"import", "--dir", dir, "a", "/no/such"}} {
		var people *usererr.Error
		if _, err := run(args...); !errors.As(err, &people) || people.Hint == "" {
			t.Errorf("got %v for %q, want an error for people with a hint", err, args)
		}
	}
}
