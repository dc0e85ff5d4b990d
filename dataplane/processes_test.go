package dataplane_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/clustertest"
	"biplane.dev/biplane/dataplane/internal/serve"
	"biplane.dev/biplane/internal/sandbox"
)

// cluster has a data plane, which the chart installed: the four processes are pods,
// and have joined a control plane.
var cluster *clustertest.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { cluster = c; return m.Run() }, sandbox.FlyteDataPlane))
}

const namespace = "union"

// calls are one of each process that serves any, by its path.
var calls = map[string]string{
	"operator": "/flyteidl2.workflow.RunService/GetRunDetails",
	"executor": "/flyteidl2.actions.ActionsService/Enqueue",
	"proxy":    "/flyteidl2.dataproxy.DataProxyService/GetActionData",
}

// process is one that runs, as somebody in the cluster sees it.
type process struct {
	name    string
	address string
	roots   *x509.CertPool
}

func find(t *testing.T, name string) *process {
	t.Helper()
	var deployment appsv1.Deployment
	var ca corev1.ConfigMap
	for object, at := range map[client.Object]string{&deployment: name, &ca: "biplane-ca"} {
		if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: at}, object); err != nil {
			t.Fatal(err)
		}
	}
	p := &process{name: name, roots: x509.NewCertPool()}
	p.address = fmt.Sprintf("127.0.0.1:%d", deployment.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort) // pods share the machine's network
	p.roots.AppendCertsFromPEM([]byte(ca.Data["ca.crt"]))
	return p
}

func (p *process) tls() *tls.Config {
	return &tls.Config{RootCAs: p.roots, ServerName: p.name + "." + namespace + ".svc"}
}

// ask returns the status, the body and the headers of an answer.
func (p *process) ask(t *testing.T, method, path, token string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "https://"+p.address+path, strings.NewReader(map[string]string{http.MethodPost: "{}"}[method]))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	request.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: p.tls(), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	accounts := cluster.Namespace(t, "watchers")
	for _, account := range []string{"prometheus", "other"} {
		cluster.Account(t, accounts, account)
	}
	for _, object := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: accounts}, Rules: []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: accounts}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: accounts},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: accounts, Name: "prometheus"}}},
	} {
		if err := cluster.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	prometheus, other := cluster.Token(t, accounts, "prometheus", "", nil), cluster.Token(t, accounts, "other", "", nil)
	forgeries := cluster.Forgeries(t, namespace, "executor", v1alpha1.TokenAudience)
	var pages []byte
	for _, page := range []string{"../docs/dataplane.md", "../docs/dataplane-actions.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, text...)
	}

	for _, one := range dataplane.Processes() {
		p := find(t, one.Name)
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()

			t.Run("says to everybody that it lives and is ready", func(t *testing.T) {
				t.Parallel()
				for _, path := range []string{"/livez", "/healthz", "/readyz"} {
					status, body, header := p.ask(t, http.MethodGet, path, "")
					if status != http.StatusOK || body != "ok\n" || path == "/readyz" && header.Get(serve.VersionHeader) == "" {
						t.Errorf("got %d %q with %v for %s, want it well, and its version", status, body, header, path)
					}
				}
			})

			t.Run("shows its metrics, all of which are documented, to who may see them", func(t *testing.T) {
				t.Parallel()
				status, text, _ := p.ask(t, http.MethodGet, "/metrics", prometheus)
				for status == http.StatusForbidden { // the authorizer learns of a new role from a watch
					if t.Context().Err() != nil {
						t.Fatal("got it forbidden until the end, want it allowed")
					}
					status, text, _ = p.ask(t, http.MethodGet, "/metrics", prometheus)
				}
				own := 0
				for _, found := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllStringSubmatch(text, -1) {
					name := found[1]
					short, ours := strings.CutPrefix(name, "biplane_"+p.name+"_")
					if strings.HasPrefix(name, "biplane_") && !ours {
						t.Errorf("got %s of %s, want its metrics to begin with its name", name, p.name)
					}
					if !ours {
						continue
					}
					own++
					if !bytes.Contains(pages, []byte("`"+name+"`")) && !bytes.Contains(pages, []byte("`…_"+short+"`")) {
						t.Errorf("got %s, want it in docs/dataplane.md or docs/dataplane-actions.md", name)
					}
				}
				if status != http.StatusOK || own == 0 || !strings.Contains(text, "\ngo_goroutines ") || !strings.Contains(text, "\nprocess_resident_memory_bytes ") {
					t.Errorf("got %d with %d metrics of its own, want some, and Go's and the process's", status, own)
				}
				if status, body, _ := p.ask(t, http.MethodGet, "/metrics", other); status != http.StatusForbidden || !strings.Contains(body, "nonResourceURLs") {
					t.Errorf("got %d %q for an account without the right, want 403 and the right's name", status, body)
				}
				if status, _, _ := p.ask(t, http.MethodGet, "/metrics", ""); status != http.StatusUnauthorized {
					t.Errorf("got %d without token, want 401", status)
				}
			})

			t.Run("believes no token that is not good", func(t *testing.T) {
				t.Parallel()
				for _, forgery := range forgeries {
					// For metrics the API server's own audience will do, but no other.
					if status, body, _ := p.ask(t, http.MethodGet, "/metrics", forgery.Token); status != http.StatusUnauthorized {
						t.Errorf("got %d %q for /metrics and %s, want 401", status, body, forgery.Name)
					}
					call, serves := calls[p.name]
					if !serves {
						continue
					}
					if status, body, _ := p.ask(t, http.MethodPost, call, forgery.Token); status != http.StatusUnauthorized || !strings.Contains(body, `"unauthenticated"`) {
						t.Errorf("got %d %q for %s and %s, want UNAUTHENTICATED", status, body, call, forgery.Name)
					}
				}
			})

			for what, begun := range map[string]string{"a handshake": "", "a request": "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "} {
				t.Run("waits for nobody who does not finish "+what, func(t *testing.T) {
					t.Parallel()
					conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.address)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					var stream io.ReadWriter = conn
					if begun != "" {
						config := p.tls()
						config.NextProtos = []string{"http/1.1"}
						stream = tls.Client(conn, config)
						if _, err := io.WriteString(stream, begun); err != nil {
							t.Fatal(err)
						}
					}
					if _, err := io.ReadAll(stream); err != nil && !closed(err) {
						t.Errorf("got %v, want the connection closed", err)
					}
				})
			}

			t.Run("reads no headers without end", func(t *testing.T) {
				t.Parallel()
				conn, err := tls.Dial("tcp", p.address, p.tls())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				go func() { // until nobody reads it any more
					_, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ")
					for err == nil {
						_, err = io.WriteString(conn, strings.Repeat("x", 32<<10))
					}
				}()
				answer, _ := io.ReadAll(conn) // it may be reset before all was read
				if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 431 ")) {
					t.Errorf("got %q, want 431 or nothing", answer)
				}
			})
		})
	}

	t.Run("operator and executor trade no token that is not good", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"operator", "executor"} {
			p := find(t, name)
			for _, forgery := range forgeries {
				form := url.Values{"grant_type": {"client_credentials"}}.Encode()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+p.address+"/oauth2/token", strings.NewReader(form))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				request.SetBasicAuth("pod", url.QueryEscape(forgery.Token))
				transport := &http.Transport{TLSClientConfig: p.tls()}
				response, err := (&http.Client{Transport: transport}).Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				transport.CloseIdleConnections()
				if response.StatusCode != http.StatusUnauthorized {
					t.Errorf("got %s from %s for %s, want 401", response.Status, name, forgery.Name)
				}
			}
		}
	})
}

// closed is whether the other side has closed; one that had not read everything
// resets.
func closed(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
