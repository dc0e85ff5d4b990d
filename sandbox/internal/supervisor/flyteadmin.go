package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// The ports of the control plane, besides that of its API.
const (
	portGateway = "gateway" // that the data plane dials
	portRelay   = "relay"   // where clients reach the data plane's proxy
)

// organization is the only one of a sandbox.
const organization = "sandbox"

// Where the configuration of Flyte's clients points.
const firstProject, firstDomain = "flytesnacks", "development"

// addFlyteAdmin adds the control plane, an executable of its own that lies
// beside this one.
func (s *Supervisor) addFlyteAdmin(p *plan) error {
	program, err := s.beside("biplane-controlplane")
	if err != nil {
		return err
	}
	serving, err := s.serving(p, sandbox.FlyteAdmin)
	if err != nil {
		return err
	}
	dir := s.Folder.ControlPlane()
	database := "sqlite:" + filepath.Join(dir, "biplane.db")
	endpoint := "https://" + s.localhost(sandbox.FlyteAdmin)
	relay := strconv.Itoa(s.record.Ports[portRelay])
	config := filepath.Join(dir, "config.yaml")
	err = writeYAML(config, map[string]any{
		"apiVersion": "biplane.dev/v1alpha1", "kind": "ControlPlaneConfig",
		"organizations": []string{organization}, "projects": []string{firstProject}, "folder": dir,
		"api":      map[string]any{"listen": s.address(sandbox.FlyteAdmin), "certFile": serving.Cert, "keyFile": serving.Key, "url": endpoint},
		"database": map[string]any{"url": database},
		"gateway":  map[string]any{"listen": s.address(portGateway), "names": []string{"localhost", "127.0.0.1"}},
		"relay":    map[string]any{"address": "127.0.0.1", "host": "localhost", "ports": relay + "-" + relay},
		// The account that signs uploads is one of the sandbox's cluster, which is both
		// planes at once; bootstrap.KeepTokens keeps its token current.
		"issuer": map[string]any{
			"tokenFile":    filepath.Join(s.Folder.AWSTokens(), "flyteadmin"),
			"stsEndpoints": []string{s.endpoint(portSTS), s.podsEndpoint(p, portSTS)},
		},
	})
	if err != nil {
		return err
	}
	ready, err := component.Answers(s.pki.CA(), endpoint+"/readyz")
	if err != nil {
		return err
	}
	p.specs = append(p.specs, component.Spec{
		Name: sandbox.FlyteAdmin, Program: program, Args: []string{"serve", "--config=" + config}, Address: s.address(sandbox.FlyteAdmin),
		Env:   append(component.Memory(128, 100), "SSL_CERT_FILE="+s.Folder.CABundle()),
		Ready: ready, Grace: 2 * time.Second,
	})
	p.status.ControlPlane = &sandbox.ControlPlane{
		Endpoint: endpoint, Gateway: s.endpoint(portGateway), Dir: dir, Database: database, Log: s.Folder.Log(sandbox.FlyteAdmin), Config: s.Folder.FlyteConfig(),
	}
	// By address and not by name, Flyte's clients would take its first number for
	// the organisation.
	return writeYAML(s.Folder.FlyteConfig(), map[string]any{
		"admin": map[string]any{"endpoint": "dns:///" + s.localhost(sandbox.FlyteAdmin), "caCertFilePath": s.Folder.CABundle()},
		"image": map[string]any{"builder": "local"},
		"task":  map[string]any{"project": firstProject, "domain": firstDomain},
	})
}

func writeYAML(path string, content map[string]any) error {
	text, err := yaml.Marshal(content)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", filepath.Base(path), err)
	}
	return sandbox.WriteFile(path, text, 0o600)
}

// beside is a program of ours, in the folder of this one.
func (s *Supervisor) beside(name string) (string, error) {
	self, err := filepath.EvalSymlinks(s.Program) // /proc/self/exe, as a rule
	if err != nil {
		return "", fmt.Errorf("looking for this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", usererr.New(usererr.NotFound, "there is no %s beside %s", name, filepath.Base(self)).
			WithHint("run 'make build', which makes all of them, or leave both planes out with --only kubernetes,s3,node")
	}
	return path, nil
}

// localhost is a port's address by name.
func (s *Supervisor) localhost(port string) string {
	return "localhost:" + strconv.Itoa(s.record.Ports[port])
}
