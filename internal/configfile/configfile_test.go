package configfile_test

import (
	"testing"

	"biplane.dev/biplane/internal/configfile"
)

type server struct {
	configfile.Header `yaml:",inline"`

	Listen string          `yaml:"listen"`
	Store  *store          `yaml:"store"`
	Peers  []peer          `yaml:"peers"`
	Labels map[string]peer `yaml:"labels"`
}
type store struct {
	URL string `yaml:"url"`
}
type peer struct {
	Name string `yaml:"name"`
}

var header = configfile.Header{APIVersion: "biplane.dev/v1alpha1", Kind: "Server"}

const head = "apiVersion: biplane.dev/v1alpha1\nkind: Server\n"

func TestParse(t *testing.T) {
	t.Parallel()
	config := server{Listen: "127.0.0.1:1"}
	if err := configfile.Parse("f", []byte(head+"store: {url: x}\npeers:\n  - name: a\nlabels: {one: {name: b}}\n"), header, &config); err != nil {
		t.Fatal(err)
	}
	if config.Listen != "127.0.0.1:1" || config.Store.URL != "x" || config.Peers[0].Name != "a" || config.Labels["one"].Name != "b" {
		t.Errorf("got %+v, want the default where the file is silent and the file's values else", config)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"a misspelt key":     {head + "lisen: x\n", `f:3: there is no key "lisen"`},
		"one deeper":         {head + "store: {ulr: x}\n", `f:3: there is no key "store.ulr"`},
		"one in a list":      {head + "peers: [{nam: x}]\n", `f:3: there is no key "peers[0].nam"`},
		"one in a map":       {head + "labels: {one: {nam: x}}\n", `f:3: there is no key "labels.one.nam"`},
		"another version":    {"apiVersion: biplane.dev/v2\nkind: Server\n", `f: apiVersion is "biplane.dev/v2", and this program reads "biplane.dev/v1alpha1"`},
		"another kind":       {"apiVersion: biplane.dev/v1alpha1\nkind: Servant\n", `f: kind is "Servant", not "Server"`},
		"a list for a text":  {head + "listen: [a]\n", `f:3: "[" cannot be read as string`},
		"what is no mapping": {"- a\n", `the configuration f must be a mapping of keys to values`},
		"nothing":            {"", `the configuration f must hold one YAML document`},
	} {
		t.Run("it refuses "+name, func(t *testing.T) {
			t.Parallel()
			err := configfile.Parse("f", []byte(test.text), header, &server{})
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
