package issuer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"biplane.dev/biplane/controlplane/internal/issuer"
)

func TestIssuer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys", "issuer.key")
	now := time.Now()
	first, err := issuer.Open("https://issuer.example", "system:serviceaccount:union:flyteadmin", file)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("keeps its key from others", func(t *testing.T) {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.Mode().Perm(), os.FileMode(0o600); got != want {
			t.Errorf("got mode %v, want %v", got, want)
		}
	})
	t.Run("signs what its key set verifies, after a restart too", func(t *testing.T) {
		second, err := issuer.Open("https://issuer.example", "system:serviceaccount:union:flyteadmin", file)
		if err != nil {
			t.Fatal(err)
		}
		token, err := second.Token(now)
		if err != nil {
			t.Fatal(err)
		}
		published, err := json.Marshal(first.Keys())
		if err != nil {
			t.Fatal(err)
		}
		var keys jose.JSONWebKeySet
		if err := json.Unmarshal(published, &keys); err != nil {
			t.Fatal(err)
		}
		if !keys.Keys[0].IsPublic() {
			t.Fatal("got a private key in the key set, want none")
		}
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		var claims jwt.Claims
		if err := parsed.Claims(&keys, &claims); err != nil {
			t.Fatal(err)
		}
		if err := claims.Validate(jwt.Expected{Issuer: "https://issuer.example", AnyAudience: jwt.Audience{"sts.amazonaws.com"}, Time: now}); err != nil {
			t.Error(err)
		}
		if got, want := claims.Subject, "system:serviceaccount:union:flyteadmin"; got != want {
			t.Errorf("got subject %q, want %q", got, want)
		}
	})
	t.Run("refuses a file that is no key", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "issuer.key")
		if err := os.WriteFile(bad, []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := issuer.Open("https://issuer.example", "s", bad); err == nil {
			t.Error("got no error, want one")
		}
	})
}
