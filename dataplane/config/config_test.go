package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"biplane.dev/biplane/dataplane/config"
)

func load(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: biplane.dev/v1alpha1\nkind: DataPlaneConfig\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(file)
}

func TestLoad(t *testing.T) {
	t.Parallel()

	t.Run("has defaults for what is left out", func(t *testing.T) {
		t.Parallel()
		c, err := load(t, "namespace: flyte\nstorage:\n  endpoint: https://s3.example\nproxy:\n  listen: 127.0.0.1:17004\n")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.Executor.Endpoint, "executor.flyte.svc.cluster.local:8443"; got != want {
			t.Errorf("got %q for executor.endpoint, want %q", got, want)
		}
		if got, want := c.Storage.ClientEndpoint, "https://s3.example"; got != want {
			t.Errorf("got %q for storage.clientEndpoint, want %q", got, want)
		}
		if c.Proxy.Listen != "127.0.0.1:17004" || c.Operator.Listen != ":8443" || c.Executor.Workers != 32 || c.Log.Level != "info" {
			t.Errorf("got %+v, want what is written and the defaults", c)
		}
	})

	for _, test := range []struct{ name, text, want string }{
		{"refuses an unknown key", "executor:\n  werkers: 3\n", `there is no key "executor.werkers"`},
		{"refuses an endpoint with a scheme", "operator:\n  endpoint: https://operator:8443\n", `operator.endpoint is "https://operator:8443"`},
		{"refuses an endpoint without a port", "proxy:\n  endpoint: proxy.union.svc\n", `proxy.endpoint is "proxy.union.svc"`},
		{"refuses an endpoint that the SDK takes for plain text", "executor:\n  endpoint: host.docker.internal:8443\n", "which Flyte's SDK takes for plain text"},
		{"refuses a gateway without a port", "controlPlane:\n  gateway: gateway.example.com\n", `controlPlane.gateway is "gateway.example.com"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, test.text); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
