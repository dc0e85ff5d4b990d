package authn

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	authv1 "biplane.dev/biplane/api/gen/flyteidl2/auth"
	"biplane.dev/biplane/api/gen/flyteidl2/auth/authconnect"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// TokenPath is where Exchange trades a secret for a token.
const TokenPath = "/oauth2/token"

// Exchange serves those who can only trade a client's secret for a token (OAuth
// 2.0, client credentials): Flyte's SDK forgets the command of ExternalCommand in
// a task's pod before its version 2.7.2. The secret is the token of the caller's
// own service account, and what there is for it is the same token: nothing is
// gained by asking.
//
// It mounts TokenPath and AuthMetadataService, by which clients find it, on mux;
// both are for callers who have not shown who they are yet. endpoint is host:port
// of this server as they call it.
func (a *Authenticator) Exchange(mux *http.ServeMux, endpoint string, options ...connect.HandlerOption) {
	mux.Handle(authconnect.NewAuthMetadataServiceHandler(metadata{"https://" + endpoint}, options...))
	mux.HandleFunc("POST "+TokenPath, a.exchange)
}

func (a *Authenticator) exchange(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxToken)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		refuseExchange(w, http.StatusBadRequest, "unsupported_grant_type", "ask with grant_type=client_credentials")
		return
	}
	_, secret, _ := r.BasicAuth()
	token, err := url.QueryUnescape(secret) // as RFC 6749, 2.3.1, has a secret encoded
	if err != nil || len(token) > maxToken || strings.Count(token, ".") != 2 {
		refuseExchange(w, http.StatusUnauthorized, "invalid_client", "the secret is to be the token of a service account")
		return
	}
	who, err := a.identify(r.Context(), token, v1alpha1.TokenAudience)
	if err != nil {
		status, code := http.StatusUnauthorized, "invalid_client"
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			status, code = http.StatusServiceUnavailable, "temporarily_unavailable"
		}
		refuseExchange(w, status, code, "the token is not good here, or cannot be looked at now")
		return
	}
	if _, ok := who.caller(); !ok {
		refuseExchange(w, http.StatusUnauthorized, "invalid_client", "the token is of no service account")
		return
	}
	left := time.Until(expiry(token))
	answer(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": max(int(left.Seconds()), 1)})
}

func refuseExchange(w http.ResponseWriter, status int, code, description string) {
	answer(w, status, map[string]any{"error": code, "error_description": description})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // who has hung up misses nothing
}

// metadata tells clients where TokenPath is.
type metadata struct{ url string }

func (m metadata) GetOAuth2Metadata(context.Context, *authv1.GetOAuth2MetadataRequest) (*authv1.GetOAuth2MetadataResponse, error) {
	return &authv1.GetOAuth2MetadataResponse{
		Issuer: m.url, TokenEndpoint: m.url + TokenPath,
		GrantTypesSupported: []string{"client_credentials"}, TokenEndpointAuthMethodsSupported: []string{"client_secret_basic"},
	}, nil
}

func (m metadata) GetPublicClientConfig(context.Context, *authv1.GetPublicClientConfigRequest) (*authv1.GetPublicClientConfigResponse, error) {
	return &authv1.GetPublicClientConfigResponse{ClientId: "pod", AuthorizationMetadataKey: "authorization"}, nil
}
