package plane

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	ca := base64.StdEncoding.EncodeToString([]byte("an authority"))
	for name, c := range map[string]struct {
		address, through string
		want             Server
	}{
		"is where EKS says":                          {"https://a.eks.amazonaws.com", "", Server{Address: "a.eks.amazonaws.com:443", Name: "a.eks.amazonaws.com"}},
		"has another port than 443":                  {"https://127.0.0.1:6443", "", Server{Address: "127.0.0.1:6443", Name: "127.0.0.1"}},
		"keeps its name where it is reached else":    {"https://a.eks.amazonaws.com", "k8s.demo.example.com:443", Server{Address: "k8s.demo.example.com:443", Name: "a.eks.amazonaws.com"}},
		"has every API server's name for an address": {"https://127.0.0.1:6443", "127.1.2.3:8443", Server{Address: "127.1.2.3:8443", Name: "kubernetes"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Plane{Through: c.through}
			p.Know(ClusterAddress, c.address)
			p.Know(ClusterCA, ca)
			got, err := p.Server()
			if err != nil || got == nil {
				t.Fatalf("got %v, %v", got, err)
			}
			if got.Address != c.want.Address || got.Name != c.want.Name || string(got.CA) != "an authority" {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if got, err := new(Plane).Server(); got != nil || err != nil {
		t.Errorf("got %v, %v where there is no cluster, want nothing", got, err)
	}
}

func TestParseThrough(t *testing.T) {
	for text, want := range map[string]string{
		"k8s.example.com": "k8s.example.com:443", "k8s.example.com:8443": "k8s.example.com:8443",
		"10.0.1.2": "10.0.1.2:443", "::1": "[::1]:443", "[::1]:8443": "[::1]:8443",
	} {
		if got, err := ParseThrough(text); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"https://k8s.example.com", "k8s.example.com/path", "a b", ":443", "k8s.example.com:https", "user@k8s.example.com", "k8s.example.com:99999"} {
		if got, err := ParseThrough(text); err == nil || !strings.Contains(err.Error(), "--through cannot be") {
			t.Errorf("%s: got %s, %v, want it refused", text, got, err)
		}
	}
}
