package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/internal/usererr"
)

// example is the file in docs/configuration.md.
func example(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], "kind: ControlPlaneConfig") {
			return block[1]
		}
	}
	t.Fatal("got no example of the control plane's file in docs/configuration.md, want one")
	return ""
}

func load(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "controlplane.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(file)
}

// pg is where there can be several servers.
const pg = "database: {url: 'postgres://h/d'}\n"

const head = "apiVersion: biplane.dev/v1alpha1\nkind: ControlPlaneConfig\n"

func TestExample(t *testing.T) {
	t.Parallel()
	text := example(t)
	t.Run("can be used", func(t *testing.T) {
		t.Parallel()
		if _, err := load(t, text); err != nil {
			t.Error(err)
		}
	})
	t.Run("has every key", func(t *testing.T) {
		t.Parallel()
		for _, key := range keys(reflect.TypeFor[config.Config]()) {
			if !regexp.MustCompile(`(?m)^[ #]*` + key + `:`).MatchString(text) {
				t.Errorf("got no key %s in docs/configuration.md, want it", key)
			}
		}
	})
	t.Run("shows the defaults where it does not say that it is an example", func(t *testing.T) {
		t.Parallel()
		var left strings.Builder
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "example") || strings.HasPrefix(line, "folder:") {
				left.WriteString(line)
			}
		}
		got, err := load(t, strings.Replace(left.String(), "issuer.key", "/var/lib/biplane-controlplane/issuer.key", 1))
		if err != nil {
			t.Fatal(err)
		}
		want, err := load(t, head+"folder: /var/lib/biplane-controlplane\n")
		if err != nil {
			t.Fatal(err)
		}
		got.API.Origins = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func keys(of reflect.Type) []string {
	var all []string
	for i := range of.NumField() {
		field := of.Field(i)
		tag, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if tag != "" {
			all = append(all, tag)
		}
		if field.Type.Kind() == reflect.Struct && field.Type.PkgPath() == of.PkgPath() {
			all = append(all, keys(field.Type)...)
		}
	}
	return all
}

func TestLoad(t *testing.T) {
	t.Parallel()
	t.Run("takes paths from the file's folder", func(t *testing.T) {
		t.Parallel()
		c, err := load(t, head+"folder: state\ndatabase: {url: 'sqlite:db/x.db'}\n")
		if err != nil {
			t.Fatal(err)
		}
		if !filepath.IsAbs(c.Folder) || !strings.HasPrefix(c.Database.URL, "sqlite:/") || c.Issuer.KeyFile != filepath.Join(c.Folder, "issuer.key") {
			t.Errorf("got %q, %q, %q, want them whole", c.Folder, c.Database.URL, c.Issuer.KeyFile)
		}
	})
	t.Run("listens for peers on loopback, unless told otherwise", func(t *testing.T) {
		t.Parallel()
		c, err := load(t, head+"folder: state\n"+pg+"peers: {listen: ':8092'}\n")
		if err != nil || c.Peers.Listen != "127.0.0.1:8092" {
			t.Errorf("got %+v, %v, want loopback", c, err)
		}
	})
	t.Run("refuses peers where the URL's file says SQLite", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "url")
		if err := os.WriteFile(file, []byte("sqlite:/x/y.db\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(t, head+"folder: state\ndatabase: {urlFile: "+file+"}\npeers: {listen: ':8092'}\n")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.DatabaseURL(); err == nil || !strings.Contains(err.Error(), "peers.listen") {
			t.Errorf("got %v, want it refused", err)
		}
	})
	t.Run("takes the database's URL from a file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		write := func(url string) *config.Config {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, "url"), []byte(url+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := load(t, head+"folder: state\ndatabase: {urlFile: "+filepath.Join(dir, "url")+"}\n")
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if got, err := write("postgres://u:secret@h/d").DatabaseURL(); err != nil || got != "postgres://u:secret@h/d" {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := write("nonsense:secret").DatabaseURL(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, want a refusal that keeps the URL", err)
		}
	})
	for name, text := range map[string]string{
		"refuses a port that is none":              "api: {listen: '127.0.0.1:99999'}",
		"refuses a URL with a path":                "api: {url: 'http://localhost:1/x'}",
		"refuses https without a certificate":      "api: {url: 'https://localhost:1'}",
		"refuses another way to the data plane":    "api: {dataPlane: tunnelled}",
		"refuses an origin with a path":            "api: {origins: ['http://x/y']}",
		"refuses two places of the database":       "database: {url: 'sqlite:x', urlFile: y}",
		"refuses no file behind sqlite:":           "database: {url: 'sqlite:'}",
		"refuses a gateway without names":          "gateway: {names: []}",
		"refuses a gateway's name with a scheme":   "gateway: {names: ['https://x']}",
		"refuses a certificate that never ends":    "gateway: {certificateLife: 900000h}",
		"refuses a relay's host with a port":       "relay: {host: 'localhost:1'}",
		"refuses peers that can be none":           "peers: {listen: '127.0.0.1:8092'}",
		"refuses peers at no port":                 pg + "peers: {listen: '127.0.0.1'}",
		"refuses peers that nobody can find":       pg + "peers: {listen: '0.0.0.0:8092'}",
		"refuses peers found at any address":       pg + "peers: {listen: '0.0.0.0:8092', endpoint: '0.0.0.0:8092'}",
		"refuses peers found at any port":          pg + "peers: {listen: '0.0.0.0:8092', endpoint: 'host:0'}",
		"refuses peers found by a URL":             pg + "peers: {listen: '0.0.0.0:8092', endpoint: 'https://host:8092'}",
		"refuses where there are no peers":         "peers: {endpoint: 'host:8092'}",
		"refuses two kinds of tokens":              "issuer: {url: 'https://x', tokenFile: y}",
		"refuses an issuer without TLS":            "issuer: {url: 'http://x'}",
		"refuses an STS without TLS":               "issuer: {url: 'https://x', stsEndpoints: ['http://sts.example']}",
		"refuses an STS with a path":               "issuer: {url: 'https://x', stsEndpoints: ['https://sts.example/x']}",
		"refuses an empty subject":                 "issuer: {url: 'https://x', subject: ''}",
		"refuses to delete what has just ended":    "retention: {runs: 1s}",
		"refuses an unknown level":                 "log: {level: loud}",
		"refuses an unknown format":                "log: {format: xml}",
		"refuses no organization":                  "organizations: []",
		"refuses an organization that is no label": "organizations: ['a b']",
		"refuses a project that is no label":       "projects: [A]",
		"refuses a duration that is none":          "gateway: {heartbeat: soon}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, head+"folder: state\n"+text+"\n")
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != usererr.Invalid || said.Hint == "" {
				t.Errorf("got %v, want a sentence and a hint", err)
			}
		})
	}
}
