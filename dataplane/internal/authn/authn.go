// Package authn tells who calls a process of the data plane. Everybody who
// calls one, pod or process, shows the token of its service account, made for
// the audience biplane.dev, and the cluster's API server says whose it is.
//
// It does not say what a caller may do: a handler does, by From; Only is for
// handlers that a few accounts may call and nobody else. Nor is it for clients
// from outside, who never reach these processes but through the tunnel.
//
// Start with New and Wrap.
package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// Caller is a service account, and the pod that its token was made for.
type Caller struct {
	Namespace      string
	ServiceAccount string
	Pod            string // empty for a token that is bound to no pod
	PodUID         string
}

// Name is NAMESPACE/NAME of the service account.
func (c Caller) Name() string { return c.Namespace + "/" + c.ServiceAccount }

// From returns who sent the request that Wrap let through.
func From(ctx context.Context) (Caller, bool) {
	caller, ok := ctx.Value(contextKey{}).(Caller)
	return caller, ok
}

// With is what Wrap does to a request's context; for tests of handlers.
func With(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, contextKey{}, caller)
}

type contextKey struct{}

// API is what is asked of the API server: to create reviews, which it answers
// and does not keep.
type API interface {
	Create(ctx context.Context, object client.Object, options ...client.CreateOption) error
}

// Authenticator asks the API server about tokens and remembers the answers for
// a while.
type Authenticator struct {
	api     API
	answers *cache
}

// New returns an Authenticator. The account of the process needs the right to
// create tokenreviews (and, for WrapMetrics, subjectaccessreviews), which the
// ClusterRole system:auth-delegator has.
func New(api API) *Authenticator {
	return &Authenticator{api: api, answers: newCache()}
}

// Wrap lets the requests through whose token is good, and puts their Caller
// into the context.
//
// A request without token is an everyday thing: Flyte's SDK sends the first
// call bare, and again with its credentials once it is told UNAUTHENTICATED.
func (a *Authenticator) Wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := bearer(r)
		if err != nil {
			Refuse(w, r, err)
			return
		}
		who, err := a.identify(r.Context(), token, v1alpha1.TokenAudience)
		if err != nil {
			Refuse(w, r, err)
			return
		}
		caller, ok := who.caller()
		if !ok {
			Refuse(w, r, errInvalid())
			return
		}
		handler.ServeHTTP(w, r.WithContext(With(r.Context(), caller)))
	})
}

// Only lets through what comes from the named accounts, each NAMESPACE/NAME. It
// goes inside Wrap.
func Only(handler http.Handler, accounts ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, ok := From(r.Context())
		if !ok {
			Refuse(w, r, errBare())
			return
		}
		if !slices.Contains(accounts, caller.Name()) {
			Refuse(w, r, connect.NewError(connect.CodePermissionDenied,
				fmt.Errorf("the service account %s may not call %s", caller.Name(), r.URL.Path)))
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// maxToken is far over what an API server issues, and below what would be worth
// sending to it.
const maxToken = 16 << 10

// Each call gets an error of its own: Connect writes into those that it sends.

func errBare() error {
	return connect.NewError(connect.CodeUnauthenticated,
		fmt.Errorf("no token was sent: send the token of a service account, made for the audience %s", v1alpha1.TokenAudience))
}

func errInvalid() error {
	return connect.NewError(connect.CodeUnauthenticated,
		fmt.Errorf("the token is not good here: send one that this cluster made for a service account and the audience %s, and that has not expired", v1alpha1.TokenAudience))
}

// bearer returns the request's token.
func bearer(r *http.Request) (string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", errBare()
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") || len(token) > maxToken || strings.Count(token, ".") != 2 {
		return "", errInvalid()
	}
	return token, nil
}

// identity is what the API server says of a token.
type identity struct {
	valid bool
	user  authenticationv1.UserInfo
}

const (
	accountPrefix = "system:serviceaccount:"
	podName       = "authentication.kubernetes.io/pod-name"
	podUID        = "authentication.kubernetes.io/pod-uid"
)

// caller is false for a user who is no service account.
func (i identity) caller() (Caller, bool) {
	account, ok := strings.CutPrefix(i.user.Username, accountPrefix)
	if !ok {
		return Caller{}, false
	}
	namespace, name, ok := strings.Cut(account, ":")
	return Caller{
		Namespace: namespace, ServiceAccount: name,
		Pod: first(i.user.Extra[podName]), PodUID: first(i.user.Extra[podUID]),
	}, ok
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// identify asks whose the token is. The error is a *connect.Error: UNAUTHENTICATED
// for a token that is nobody's, UNAVAILABLE when the API server does not say.
func (a *Authenticator) identify(ctx context.Context, token, audience string) (identity, error) {
	answer, err := a.answers.get(ctx, question{token: sha256.Sum256([]byte(token)), about: audience}, expiry(token),
		func(ctx context.Context) (identity, error) {
			review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
			if audience != "" {
				review.Spec.Audiences = []string{audience}
			}
			if err := a.api.Create(ctx, review); err != nil {
				return identity{}, fmt.Errorf("reviewing a token: %w", err)
			}
			// An API server that knows no audiences answers with none, and may not
			// have looked at ours.
			valid := review.Status.Authenticated && (audience == "" || slices.Contains(review.Status.Audiences, audience))
			return identity{valid: valid, user: review.Status.User}, nil
		})
	if err != nil {
		return identity{}, errUnavailable(err)
	}
	if !answer.valid {
		return identity{}, errInvalid()
	}
	return answer, nil
}

// Refuse answers with a *connect.Error in the protocol that the caller speaks, and
// to one who speaks none of Connect's with a status and a sentence.
func Refuse(w http.ResponseWriter, r *http.Request, err error) {
	if writer := connect.NewErrorWriter(); writer.IsSupported(r) {
		_ = writer.Write(w, r, err) // fails when the caller is gone, who needs no answer then
		return
	}
	status := http.StatusInternalServerError
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", "Bearer")
	case connect.CodePermissionDenied:
		status = http.StatusForbidden
	case connect.CodeNotFound, connect.CodeUnimplemented:
		status = http.StatusNotFound
	case connect.CodeResourceExhausted:
		status = http.StatusTooManyRequests
	case connect.CodeUnavailable:
		status = http.StatusServiceUnavailable
	}
	sentence := err.Error()
	if said := new(connect.Error); errors.As(err, &said) {
		sentence = said.Message()
	}
	http.Error(w, sentence, status)
}

// unavailable is an error with one sentence for the caller; what led to it is for
// the log.
type unavailable struct{ cause error }

func (u unavailable) Error() string {
	return "the cluster cannot say now whose this token is; try again"
}
func (u unavailable) Unwrap() error { return u.cause }

func errUnavailable(cause error) error {
	return connect.NewError(connect.CodeUnavailable, unavailable{cause})
}
