package authn_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	authv1 "biplane.dev/biplane/api/gen/flyteidl2/auth"
	"biplane.dev/biplane/api/gen/flyteidl2/auth/authconnect"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/authn"
)

func TestExchange(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	authn.New(apiServer.Client).Exchange(mux, "executor.union.svc.cluster.local:8443")
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	namespace := apiServer.Namespace(t, "exchange")
	apiServer.Account(t, namespace, "task")
	good := apiServer.Token(t, namespace, "task", v1alpha1.TokenAudience, nil)

	t.Run("it tells where tokens are, to who has none", func(t *testing.T) {
		t.Parallel()
		client := authconnect.NewAuthMetadataServiceClient(http.DefaultClient, s.URL)
		found, err := client.GetOAuth2Metadata(t.Context(), &authv1.GetOAuth2MetadataRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := found.GetTokenEndpoint(), "https://executor.union.svc.cluster.local:8443"+authn.TokenPath; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	for name, c := range map[string]struct {
		grant, secret string
		status        int
	}{
		"it gives a pod its own token":                    {"client_credentials", good, http.StatusOK},
		"it refuses a token for another audience":         {"client_credentials", apiServer.Token(t, namespace, "task", "sts.amazonaws.com", nil), http.StatusUnauthorized},
		"it refuses a token that was tampered with":       {"client_credentials", good[:len(good)-4] + "AAAA", http.StatusUnauthorized},
		"it refuses no secret":                            {"client_credentials", "", http.StatusUnauthorized},
		"it refuses what is far larger than any token is": {"client_credentials", strings.Repeat("a.", 20000), http.StatusUnauthorized},
		"it refuses another grant":                        {"password", good, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+authn.TokenPath, strings.NewReader(url.Values{"grant_type": {c.grant}}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.SetBasicAuth("pod", url.QueryEscape(c.secret))
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var body struct {
				Token   string `json:"access_token"`
				Expires int    `json:"expires_in"`
			}
			if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status {
				t.Errorf("got %s, want %d", response.Status, c.status)
			}
			if granted := c.status == http.StatusOK; granted != (body.Token == good) || granted != (body.Expires > 0) {
				t.Errorf("got a token of %d bytes for %d seconds, want the pod's own and only where it is granted", len(body.Token), body.Expires)
			}
		})
	}
}
