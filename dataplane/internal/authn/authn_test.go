package authn_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/cluster"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster/clusterconnect"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/clustertest"
)

var apiServer *clustertest.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { apiServer = c; return m.Run() }))
}

// counted is an API that counts what it is asked, and fails when told.
type counted struct {
	authn.API
	calls atomic.Int64
	fail  atomic.Bool
}

func (c *counted) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	c.calls.Add(1)
	if c.fail.Load() {
		return errors.New("connection refused")
	}
	return c.API.Create(ctx, object, options...)
}

// server answers with the caller, wrapped as a process of the data plane does.
func server(t *testing.T, wrap func(*authn.Authenticator, http.Handler) http.Handler) (*httptest.Server, *counted) {
	t.Helper()
	api := &counted{API: apiServer.Client}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := authn.From(r.Context())
		io.WriteString(w, strings.Join([]string{caller.Name(), caller.Pod, caller.PodUID}, " "))
	})
	s := httptest.NewServer(wrap(authn.New(api), handler))
	t.Cleanup(s.Close)
	return s, api
}

func wrap(a *authn.Authenticator, handler http.Handler) http.Handler { return a.Wrap(handler) }

// get returns the status and the body.
func get(t *testing.T, url, authorization string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(body))
}

func pod(t *testing.T, namespace, account, name string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "main", Image: "host.example/true"}}},
	}
	if err := apiServer.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestWrap(t *testing.T) {
	t.Parallel()
	namespace := apiServer.Namespace(t, "authn")
	apiServer.Account(t, namespace, "caller")
	bound := pod(t, namespace, "caller", "a-pod")
	good := apiServer.Token(t, namespace, "caller", v1alpha1.TokenAudience, bound)
	url, _ := server(t, wrap)
	name := namespace + "/caller"

	type test struct {
		name          string
		authorization string
		status        int
		want          string // in the body
	}
	gone := pod(t, namespace, "caller", "gone")
	ofGone := apiServer.Token(t, namespace, "caller", v1alpha1.TokenAudience, gone)
	now := int64(0)
	if err := apiServer.Client.Delete(t.Context(), gone, &client.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	tests := []test{
		{"lets what the cluster's key has signed through", "Bearer " + apiServer.Resigned(t, good), http.StatusOK, name},
		{"refuses a token of a pod that is gone", "Bearer " + ofGone, http.StatusUnauthorized, "not good here"},
		{"lets a pod's token through", "Bearer " + good, http.StatusOK, name + " a-pod " + string(bound.UID)},
		{"takes the scheme in any case", "bearer " + good, http.StatusOK, name},
		{"lets a token of no pod through", "Bearer " + apiServer.Token(t, namespace, "caller", v1alpha1.TokenAudience, nil), http.StatusOK, name},
		{"refuses a request without token", "", http.StatusUnauthorized, "no token was sent"},
		{"refuses another scheme", "Basic " + good, http.StatusUnauthorized, "not good here"},
		{"refuses the audience of the API server", "Bearer " + apiServer.Token(t, namespace, "caller", "", nil), http.StatusUnauthorized, "not good here"},
		{"refuses what is no token", "Bearer hello", http.StatusUnauthorized, "not good here"},
		{"refuses a token over the limit", "Bearer a.b." + strings.Repeat("c", 20_000), http.StatusUnauthorized, "not good here"},
	}
	for _, forgery := range apiServer.Forgeries(t, namespace, "caller", v1alpha1.TokenAudience) {
		tests = append(tests, test{"refuses " + forgery.Name, "Bearer " + forgery.Token, http.StatusUnauthorized, "not good here"})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			status, body := get(t, url.URL, test.authorization)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %q, want %d %q", status, body, test.status, test.want)
			}
		})
	}
}

func TestWrapSpeaksTheCallersProtocol(t *testing.T) {
	t.Parallel()
	url, _ := server(t, wrap)
	for name, option := range map[string]connect.ClientOption{
		"Connect": connect.WithClientOptions(), "gRPC-Web": connect.WithGRPCWeb(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := clusterconnect.NewClusterServiceClient(http.DefaultClient, url.URL, option).SelectCluster(t.Context(), &cluster.SelectClusterRequest{})
			if got, want := connect.CodeOf(err), connect.CodeUnauthenticated; got != want {
				t.Errorf("got %v (%v), want %v", got, err, want)
			}
			if !strings.Contains(err.Error(), "send the token of a service account, made for the audience biplane.dev") {
				t.Errorf("got %q, want what to send", err)
			}
		})
	}
}

func TestWrapRemembers(t *testing.T) {
	t.Parallel()
	namespace := apiServer.Namespace(t, "authn")
	apiServer.Account(t, namespace, "caller")
	good := "Bearer " + apiServer.Token(t, namespace, "caller", v1alpha1.TokenAudience, nil)
	bad := "Bearer " + apiServer.Token(t, namespace, "caller", "elsewhere", nil)

	for _, test := range []struct {
		name, token string
		status      int
	}{
		{"asks once about a good token", good, http.StatusOK},
		{"asks once about a bad token", bad, http.StatusUnauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url, api := server(t, wrap)
			for range 20 {
				if status, body := get(t, url.URL, test.token); status != test.status {
					t.Fatalf("got %d %s, want %d", status, body, test.status)
				}
			}
			if got := api.calls.Load(); got != 1 {
				t.Errorf("got %d reviews, want 1", got)
			}
		})
	}

	t.Run("answers UNAVAILABLE, and remembers nothing, while the API server does not answer", func(t *testing.T) {
		t.Parallel()
		url, api := server(t, wrap)
		api.fail.Store(true)
		status, body := get(t, url.URL, good)
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "try again") || strings.Contains(body, "refused") {
			t.Errorf("got %d %q, want %d and one sentence", status, body, http.StatusServiceUnavailable)
		}
		api.fail.Store(false)
		if status, body := get(t, url.URL, good); status != http.StatusOK {
			t.Errorf("got %d %s, want %d", status, body, http.StatusOK)
		}
	})
}

func TestOnly(t *testing.T) {
	t.Parallel()
	namespace := apiServer.Namespace(t, "authn")
	apiServer.Account(t, namespace, "caller")
	apiServer.Account(t, namespace, "other")
	url, _ := server(t, func(a *authn.Authenticator, handler http.Handler) http.Handler {
		return a.Wrap(authn.Only(handler, namespace+"/caller"))
	})
	for _, test := range []struct {
		name, account string
		status        int
		want          string
	}{
		{"lets a named account through", "caller", http.StatusOK, namespace + "/caller"},
		{"refuses any other", "other", http.StatusForbidden, "the service account " + namespace + "/other may not call /"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			status, body := get(t, url.URL, "Bearer "+apiServer.Token(t, namespace, test.account, v1alpha1.TokenAudience, nil))
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %q, want %d %q", status, body, test.status, test.want)
			}
		})
	}
}

func TestWrapMetrics(t *testing.T) {
	t.Parallel()
	namespace := apiServer.Namespace(t, "authn")
	apiServer.Account(t, namespace, "prometheus")
	apiServer.Account(t, namespace, "other")
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Rules:      []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: namespace},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: "prometheus"}},
	}
	for _, object := range []client.Object{role, binding} {
		if err := apiServer.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	url, _ := server(t, func(a *authn.Authenticator, handler http.Handler) http.Handler { return a.WrapMetrics(handler) })
	for _, test := range []struct {
		name, token string
		status      int
	}{
		{"lets Prometheus' ordinary token through", apiServer.Token(t, namespace, "prometheus", "", nil), http.StatusOK},
		{"lets a token for us through", apiServer.Token(t, namespace, "prometheus", v1alpha1.TokenAudience, nil), http.StatusOK},
		{"refuses an account without the right", apiServer.Token(t, namespace, "other", "", nil), http.StatusForbidden},
		{"refuses a token for somebody else", apiServer.Token(t, namespace, "prometheus", "elsewhere", nil), http.StatusUnauthorized},
		{"refuses a request without token", "", http.StatusUnauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			authorization := ""
			if test.token != "" {
				authorization = "Bearer " + test.token
			}
			// The authorizer learns of a new role from a watch.
			for {
				status, body := get(t, url.URL+"/metrics", authorization)
				if status == test.status {
					return
				}
				if status != http.StatusForbidden || t.Context().Err() != nil {
					t.Fatalf("got %d %q, want %d", status, body, test.status)
				}
			}
		})
	}
}
