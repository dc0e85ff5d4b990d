package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"biplane.dev/biplane/internal/sandbox"
)

// TokenPath is where the API server asks who has a token that it does not know.
const TokenPath = "/authenticate"

// tokens answers for what EKS has beside its API server: the tokens of IAM's
// principals. Who stands for EKS, such as biplane-awsdouble, listens on a socket in
// the sandbox's folder, and is asked; without it such a token is nobody's. The
// socket is for the sandbox's owner alone, so that no other program of the machine
// can say who somebody is.
type tokens struct{ client *http.Client }

// newTokens asks over the socket in the folder.
func newTokens(dir string) *tokens {
	return &tokens{&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // whoever listens comes and goes
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return sandbox.DialSocket(ctx, dir, sandbox.TokenSocket)
		},
	}}}
}

func (t *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxReview))
	if err != nil {
		http.Error(w, "the body ended early", http.StatusBadRequest)
		return
	}
	answer, err := t.ask(r.Context(), body)
	if err != nil {
		answer = authenticationv1.TokenReview{}
		answer.APIVersion, answer.Kind = authenticationv1.SchemeGroupVersion.String(), "TokenReview"
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

func (t *tokens) ask(ctx context.Context, body []byte) (answer authenticationv1.TokenReview, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+sandbox.TokenSocket+TokenPath, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	said, err := t.client.Do(r)
	if err != nil {
		return answer, err
	}
	defer said.Body.Close()
	return answer, json.NewDecoder(io.LimitReader(said.Body, maxReview)).Decode(&answer)
}
