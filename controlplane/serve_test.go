package controlplane_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/auth"
	"biplane.dev/biplane/api/gen/flyteidl2/auth/authconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/project/projectconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane"
	"biplane.dev/biplane/controlplane/internal/store/storetest"
)

func TestProtocols(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, "")
	http1 := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(http1.CloseIdleConnections)
	for name, c := range map[string]struct {
		client  *http.Client
		options []connect.ClientOption
	}{
		"Connect over HTTP/1.1":         {http1, nil},
		"Connect over h2c":              {w.client, nil},
		"Connect in JSON":               {http1, []connect.ClientOption{connect.WithProtoJSON()}},
		"Connect with compression":      {http1, []connect.ClientOption{connect.WithSendGzip()}},
		"Connect by GET":                {http1, []connect.ClientOption{connect.WithHTTPGet()}},
		"gRPC over h2c":                 {w.client, []connect.ClientOption{connect.WithGRPC()}},
		"gRPC with compression":         {w.client, []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
		"gRPC-Web over HTTP/1.1":        {http1, []connect.ClientOption{connect.WithGRPCWeb()}},
		"gRPC-Web over h2c, compressed": {w.client, []connect.ClientOption{connect.WithGRPCWeb(), connect.WithSendGzip()}},
	} {
		t.Run("speaks "+name, func(t *testing.T) {
			t.Parallel()
			client := projectconnect.NewProjectServiceClient(c.client, w.url, c.options...)
			got, err := client.GetProject(t.Context(), &project.GetProjectRequest{Id: "flytesnacks"})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := got.Project.GetOrg(), "default"; got != want {
				t.Errorf("got organization %q, want %q", got, want)
			}
			_, err = client.GetProject(t.Context(), &project.GetProjectRequest{Id: "nothing"})
			refused(t, err, connect.CodeNotFound, "flyte create project --id nothing --name nothing")
			// Not mounted, and served with what this client speaks all the same.
			call := connect.NewClient[auth.UserInfoRequest, auth.UserInfoResponse](c.client, w.url+"/flyteidl2.secret.SecretService/ListSecrets", c.options...)
			_, err = call.CallUnary(t.Context(), connect.NewRequest(&auth.UserInfoRequest{}))
			refused(t, err, connect.CodeUnimplemented, "secrets come with a later version")
			call = connect.NewClient[auth.UserInfoRequest, auth.UserInfoResponse](c.client, w.url+"/flyteidl2.project.ProjectService/Frobnicate", c.options...)
			_, err = call.CallUnary(t.Context(), connect.NewRequest(&auth.UserInfoRequest{}))
			refused(t, err, connect.CodeUnimplemented, "has no Frobnicate")
			stream, err := call.CallServerStream(t.Context(), connect.NewRequest(&auth.UserInfoRequest{}))
			if err == nil {
				for stream.Receive() {
				}
				err = stream.Err()
			}
			refused(t, err, connect.CodeUnimplemented, "has no Frobnicate")
		})
	}
	t.Run("has no login, and says so", func(t *testing.T) {
		t.Parallel()
		_, err := authconnect.NewAuthMetadataServiceClient(w.client, w.url).GetOAuth2Metadata(t.Context(), &auth.GetOAuth2MetadataRequest{})
		refused(t, err, connect.CodeUnimplemented, "no login")
		if _, err := authconnect.NewIdentityServiceClient(w.client, w.url).UserInfo(t.Context(), &auth.UserInfoRequest{}); err != nil {
			t.Error(err)
		}
	})
	get := func(t *testing.T, path string, change func(*http.Request)) (int, http.Header, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(r)
		}
		response, err := http1.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header, string(body)
	}
	t.Run("tells its health, and its metrics", func(t *testing.T) {
		t.Parallel()
		for path, want := range map[string]int{
			"/healthz": 200, "/readyz": 200, "/metrics": 200, "/.well-known/oauth-authorization-server": 501, "/": 404,
		} {
			if got, _, body := get(t, path, nil); got != want {
				t.Errorf("got %d for %s, want %d: %s", got, path, want, body)
			}
		}
		if _, _, body := get(t, "/metrics", nil); !strings.Contains(body, "biplane_controlplane_") {
			t.Errorf("got metrics without ours: %s", body)
		}
	})
	t.Run("refuses a name that is not its own", func(t *testing.T) {
		t.Parallel()
		if got, _, _ := get(t, "/healthz", func(r *http.Request) { r.Host = "rebound.example:80" }); got != http.StatusMisdirectedRequest {
			t.Errorf("got %d, want %d", got, http.StatusMisdirectedRequest)
		}
	})
	t.Run("lets no web page call that was not named", func(t *testing.T) {
		t.Parallel()
		_, header, _ := get(t, "/flyteidl2.project.ProjectService/GetProject", func(r *http.Request) {
			r.Method = http.MethodOptions
			r.Header.Set("Origin", "https://elsewhere.example")
		})
		if got := header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("got %q allowed, want none", got)
		}
	})
	t.Run("answers a message that is larger than all it takes", func(t *testing.T) {
		t.Parallel()
		_, err := w.projects().CreateProject(t.Context(), &project.CreateProjectRequest{Project: &project.Project{Id: "p", Description: strings.Repeat("x", 33<<20)}})
		refused(t, err, connect.CodeResourceExhausted, "")
	})
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, "api:\n  listen: 127.0.0.1:0\n  origins: ['http://localhost:8080']\n")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, w.url+"/flyteidl2.project.ProjectService/GetProject", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "http://localhost:8080")
	response, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got, want := response.Header.Get("Access-Control-Allow-Origin"), "http://localhost:8080"; got != want {
		t.Errorf("got %q allowed, want %q", got, want)
	}
	for _, name := range []string{"Connect-Protocol-Version", "X-Grpc-Web", "X-Request-Id"} {
		if got := response.Header.Get("Access-Control-Allow-Headers"); !strings.Contains(got, name) {
			t.Errorf("got headers %q, want %s among them", got, name)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	first := writeCertificate(t, cert, key, time.Now().Add(-time.Hour))
	w := newWorld(t, sqlite, "api:\n  listen: 127.0.0.1:0\n  certFile: "+cert+"\n  keyFile: "+key+"\n")
	url := "https" + strings.TrimPrefix(w.url, "http")
	call := func(trusted *x509.Certificate, protocols *http.Protocols, options ...connect.ClientOption) error {
		roots := x509.NewCertPool()
		roots.AddCert(trusted)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, Protocols: protocols}
		defer transport.CloseIdleConnections()
		_, err := projectconnect.NewProjectServiceClient(&http.Client{Transport: transport}, url, options...).GetProject(t.Context(), &project.GetProjectRequest{Id: "flytesnacks"})
		return err
	}
	http1, http2 := new(http.Protocols), new(http.Protocols)
	http1.SetHTTP1(true)
	http2.SetHTTP2(true)
	t.Run("speaks HTTP/1.1 and HTTP/2", func(t *testing.T) {
		if err := call(first, http1); err != nil {
			t.Error(err)
		}
		if err := call(first, http2, connect.WithGRPC()); err != nil {
			t.Error(err)
		}
	})
	t.Run("takes a certificate that was renewed", func(t *testing.T) {
		second := writeCertificate(t, cert, key, time.Now())
		if err := call(second, http2); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(cert, []byte("half-writ"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := call(second, http2); err != nil {
			t.Errorf("got %v while the file is written, want the one before", err)
		}
	})
}

// writeCertificate makes a certificate for localhost, written at the given time.
func writeCertificate(t *testing.T, cert, key string, at time.Time) *x509.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(at.UnixNano()), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: at.Add(-time.Hour), NotAfter: at.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: encoded}, cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestOrganizations(t *testing.T) { onBoth(t, testOrganizations) }

func testOrganizations(t *testing.T, db database) {
	t.Run("takes an empty one for its only one, and refuses others", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, db, "")
		for named, want := range map[string]connect.Code{"": 0, "default": 0, "other": connect.CodeNotFound, "NO": connect.CodeInvalidArgument} {
			_, err := w.projects().GetProject(t.Context(), &project.GetProjectRequest{Id: "flytesnacks", Org: named})
			if got := connect.CodeOf(err); err != nil && got != want || err == nil && want != 0 {
				t.Errorf("got %v for %q, want %v", err, named, want)
			}
		}
	})
	t.Run("wants one to be named where there are two, and keeps them apart", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, db, "organizations: [one, two]\n")
		_, err := w.projects().ListProjects(t.Context(), &project.ListProjectsRequest{})
		refused(t, err, connect.CodeInvalidArgument, "one, two")
		if _, err := w.projects().CreateProject(t.Context(), &project.CreateProjectRequest{Project: &project.Project{Id: "mine", Org: "one"}}); err != nil {
			t.Fatal(err)
		}
		_, err = w.projects().GetProject(t.Context(), &project.GetProjectRequest{Id: "mine", Org: "two"})
		refused(t, err, connect.CodeNotFound, "mine")
	})
}

func TestShutdown(t *testing.T) { onBoth(t, testShutdown) }

func testShutdown(t *testing.T, db database) {
	w := newWorld(t, db, "")
	w.join("east")
	run := w.create(&workflow.CreateRunRequest{})
	for name, options := range map[string][]connect.ClientOption{"Connect": nil, "gRPC": {connect.WithGRPC()}} {
		_ = name
		stream, err := newRuns(w, options...).WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: run.Action.Id})
		if err != nil {
			t.Fatal(err)
		}
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		defer func() {
			for stream.Receive() {
			}
			// CANCELED would have a client never watch again.
			if got, want := connect.CodeOf(stream.Err()), connect.CodeUnavailable; got != want {
				t.Errorf("got %v by %s, want %v", stream.Err(), name, want)
			}
			stream.Close()
		}()
	}
	if got := w.stop(); got != 0 {
		t.Errorf("got exit status %d, want 0", got)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const head = "apiVersion: biplane.dev/v1alpha1\nkind: ControlPlaneConfig\n"
	good := write("good.yaml", head+"folder: state\n")
	for name, c := range map[string]struct {
		args   []string
		status int
		out    string
		err    string
	}{
		"prints its help":                           {nil, 0, "check-config", ""},
		"prints the help of a command":              {[]string{"serve", "--help"}, 0, "SIGTERM", ""},
		"prints its version":                        {[]string{"version"}, 0, "biplane-controlplane devel", ""},
		"completes":                                 {[]string{"completion", "bash"}, 0, "biplane-controlplane", ""},
		"accepts a good file":                       {[]string{"check-config", good}, 0, "127.0.0.1:8090", ""},
		"migrates":                                  {[]string{"migrate", "--config", good}, 0, "has this version's form", ""},
		"names an unknown command back":             {[]string{"frobnicate"}, 2, "", `unknown command "frobnicate"`},
		"guesses what was meant":                    {[]string{"servee"}, 2, "", "did you mean 'biplane-controlplane serve'?"},
		"wants a file":                              {[]string{"check-config"}, 2, "", "needs the name of one file"},
		"wants --config":                            {[]string{"serve"}, 2, "", "needs --config"},
		"says that a file is not there":             {[]string{"serve", "--config", filepath.Join(dir, "no.yaml")}, 2, "", "no such file"},
		"names an unknown key":                      {[]string{"check-config", write("key.yaml", head+"folder: s\nfolda: x\n")}, 2, "", `did you mean "folder"?`},
		"wants a folder":                            {[]string{"check-config", write("folder.yaml", head)}, 2, "", "folder is not given"},
		"refuses to listen for everybody":           {[]string{"check-config", write("listen.yaml", head+"folder: s\napi: {listen: ':8090'}\n")}, 2, "", "refuses anything else than loopback"},
		"refuses to listen on a network":            {[]string{"check-config", write("net.yaml", head+"folder: s\napi: {listen: '10.0.0.1:8090'}\n")}, 2, "", "refuses anything else than loopback"},
		"refuses to relay for everybody":            {[]string{"check-config", write("relay.yaml", head+"folder: s\nrelay: {address: 0.0.0.0}\n")}, 2, "", "relays on loopback only"},
		"wants certificate and key together":        {[]string{"check-config", write("cert.yaml", head+"folder: s\napi: {certFile: x}\n")}, 2, "", "belong together"},
		"says that a certificate is not there":      {[]string{"check-config", write("pem.yaml", head+"folder: s\napi: {certFile: no.pem, keyFile: no.key}\n")}, 2, "", "no.pem: no such file"},
		"says that a URL's file is not there":       {[]string{"check-config", write("urlfile.yaml", head+"folder: s\ndatabase: {urlFile: no.url}\n")}, 2, "", "no.url: no such file"},
		"says that a database is not there":         {[]string{"serve", "--config", write("nodb.yaml", head+"folder: s\ndatabase: {url: 'postgres://u:hunter2@127.0.0.1:1/d'}\n")}, 2, "", "database cannot be opened"},
		"refuses a range of ports that is none":     {[]string{"check-config", write("ports.yaml", head+"folder: s\nrelay: {ports: 9-1}\n")}, 2, "", "relay.ports"},
		"refuses an issuer that IAM would not take": {[]string{"check-config", write("issuer.yaml", head+"folder: s\nissuer: {url: 'https://x:8443'}\n")}, 2, "", "without a port"},
		"refuses a long project":                    {[]string{"check-config", write("project.yaml", head+"folder: s\nprojects: ["+strings.Repeat("p", 52)+"]\n")}, 2, "", "at most 51"},
		"refuses an organization twice":             {[]string{"check-config", write("org.yaml", head+"folder: s\norganizations: [a, a]\n")}, 2, "", "twice"},
		"refuses a heartbeat of a day":              {[]string{"check-config", write("beat.yaml", head+"folder: s\ngateway: {heartbeat: 24h}\n")}, 2, "", "gateway.heartbeat"},
		"keeps a password out of its sentence":      {[]string{"check-config", write("db.yaml", head+"folder: s\ndatabase: {url: 'mysql://u:hunter2@h/d'}\n")}, 2, "", "database.url is neither"},
		"has no keys without an issuer":             {[]string{"issuer", "keys", "--config", good}, 1, "", "issuer.url"},
		"prints its issuer's keys":                  {[]string{"issuer", "keys", "--config", write("keys.yaml", head+"folder: s\nissuer: {url: 'https://issuer.example'}\n")}, 0, `"kty": "RSA"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			got := controlplane.Run(context.WithoutCancel(t.Context()), c.args, &out, &errs)
			if got != c.status {
				t.Errorf("got exit status %d, want %d: %s", got, c.status, errs.String())
			}
			if !strings.Contains(out.String(), c.out) {
				t.Errorf("got %s, want %q in it", out.String(), c.out)
			}
			if !strings.Contains(errs.String(), c.err) || strings.Contains(errs.String(), "hunter2") {
				t.Errorf("got %s, want %q in it", errs.String(), c.err)
			}
			if c.status == 2 && !strings.Contains(errs.String(), "hint: ") {
				t.Errorf("got %s, want a hint", errs.String())
			}
		})
	}
}

// TestOwnRole serves with a role that may not change tables, where 'migrate' did so
// with another.
func TestOwnRole(t *testing.T) {
	t.Parallel()
	owner := postgresServer.NewDatabase(t)
	name := storetest.Name(owner)
	file := filepath.Join(t.TempDir(), "migrate.yaml")
	text := "apiVersion: biplane.dev/v1alpha1\nkind: ControlPlaneConfig\nfolder: state\ndatabase: {url: '" + owner + "'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	if got := controlplane.Run(context.WithoutCancel(t.Context()), []string{"migrate", "--config", file}, io.Discard, &errs); got != 0 {
		t.Fatalf("got exit status %d, want 0: %s", got, errs.String())
	}
	role := "server_" + name
	postgresServer.Exec(t, owner, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		postgresServer.Exec(t, owner, "DROP OWNED BY "+role)
		postgresServer.Exec(t, owner, "DROP ROLE "+role)
	})
	postgresServer.Exec(t, owner, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	postgresServer.Exec(t, owner, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+role)
	w := newWorld(t, func(*testing.T) string {
		return "database: {url: '" + strings.Replace(owner, "biplane@", role+"@", 1) + "'}\n"
	}, "")
	plane := w.join("east")
	w.create(&workflow.CreateRunRequest{})
	wait(t, plane.enqueued)
	if got := w.ready(); got != http.StatusOK {
		t.Errorf("got %d from /readyz, want %d", got, http.StatusOK)
	}
}
