package authn

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// WrapMetrics lets through whoever the cluster lets get the path: the rule is a
// ClusterRole with nonResourceURLs: ["/metrics"], as for the API server's own.
// Prometheus comes with its ordinary token, so that the audience may be the API
// server's, too.
func (a *Authenticator) WrapMetrics(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := bearer(r)
		if err != nil {
			Refuse(w, r, err)
			return
		}
		who, err := a.identify(r.Context(), token, v1alpha1.TokenAudience)
		if connect.CodeOf(err) == connect.CodeUnauthenticated {
			who, err = a.identify(r.Context(), token, "")
		}
		if err == nil {
			err = a.mayGet(r.Context(), token, who.user, r.URL.Path)
		}
		if err != nil {
			Refuse(w, r, err)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

func (a *Authenticator) mayGet(ctx context.Context, token string, user authenticationv1.UserInfo, path string) error {
	answer, err := a.answers.get(ctx, question{token: sha256.Sum256([]byte(token)), about: "get " + path}, expiry(token),
		func(ctx context.Context) (identity, error) {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: user.Username, UID: user.UID, Groups: user.Groups,
				NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
			}}
			if err := a.api.Create(ctx, review); err != nil {
				return identity{}, fmt.Errorf("reviewing access to %s: %w", path, err)
			}
			return identity{valid: review.Status.Allowed && !review.Status.Denied}, nil
		})
	if err != nil {
		return errUnavailable(err)
	}
	if !answer.valid {
		return connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("%s may not get %s: give it a ClusterRole that has this under nonResourceURLs", user.Username, path))
	}
	return nil
}
