package identity

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"biplane.dev/biplane/internal/sandbox"
)

// A token that the API server does not know is that of whom the listener on the
// socket says, and nobody's where nobody listens.
func TestTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	review := func(t *testing.T) authenticationv1.TokenReview {
		t.Helper()
		w := httptest.NewRecorder()
		newTokens(dir).ServeHTTP(w, httptest.NewRequest(http.MethodPost, TokenPath, strings.NewReader(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"k8s-aws-v1.x"}}`)))
		var answer authenticationv1.TokenReview
		if err := json.NewDecoder(w.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		if answer.Kind != "TokenReview" || answer.APIVersion != "authentication.k8s.io/v1" {
			t.Errorf("got a %s of %s, want what the API server reads", answer.Kind, answer.APIVersion)
		}
		return answer
	}
	t.Run("is nobody's where nobody listens", func(t *testing.T) {
		if got := review(t); got.Status.Authenticated {
			t.Errorf("got %+v, want nobody", got.Status)
		}
	})
	t.Run("is whose the listener says", func(t *testing.T) {
		listener, err := sandbox.ListenSocket(dir, sandbox.TokenSocket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || !strings.Contains(string(body), "k8s-aws-v1.x") || r.URL.Path != TokenPath {
				t.Errorf("got %s at %s (%v), want the API server's question", body, r.URL.Path, err)
			}
			io.WriteString(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"user":{"username":"somebody"}}}`)
		})}
		done := make(chan struct{})
		go func() { defer close(done); server.Serve(listener) }()
		defer func() { server.Close(); <-done }()
		if got := review(t); !got.Status.Authenticated || got.Status.User.Username != "somebody" {
			t.Errorf("got %+v, want somebody", got.Status)
		}
	})
}
