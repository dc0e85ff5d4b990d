package supervisor

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/kubernetes"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// plan is what a sandbox consists of: its components, in the order of their
// start, and what the status says of them all their lives.
type plan struct {
	specs  []component.Spec
	status sandbox.Status

	kubernetes kubernetes.Config
	nodes      []string
	prepared   bool // whether buckets and roles are made in it
}

// makePlan turns the record into components, and writes the files that they
// read.
func (s *Supervisor) makePlan() (plan, error) {
	names, err := sandbox.Components(s.record.Options.Only)
	if err != nil {
		return plan{}, err
	}
	has := func(name string) bool { return slices.Contains(names, name) }
	p := plan{}
	p.kubernetes = kubernetes.Config{
		Folder: s.Folder, PKI: s.pki, Ports: s.record.Ports, Issuer: s.record.Issuer(),
		AuditLog: *s.record.Options.AuditLog, Services: kubernetes.LoopbackServices,
	}
	control, err := kubernetes.Components(p.kubernetes)
	if err != nil {
		return plan{}, err
	}
	for _, spec := range control {
		if has(spec.Name) {
			p.specs = append(p.specs, spec)
		}
	}
	if has(sandbox.APIServer) {
		p.status.Kubernetes = &sandbox.Kubernetes{Server: p.kubernetes.Server(), Version: kubernetes.Version(), Kubeconfig: s.Folder.Kubeconfig()}
	}
	return p, nil
}

// nodeNames are the Nodes' names.
func nodeNames(o sandbox.Options) []string {
	prefix := "worker"
	if o.Node == sandbox.KwokNode {
		prefix = "kwok"
	}
	var names []string
	for i := range o.Nodes {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i+1))
	}
	return names
}

// componentOf is the component that is the node of that name.
func componentOf(node string) string { return sandbox.Nodes + "-" + node }

func (s *Supervisor) address(port string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.record.Ports[port]))
}

func sameComponents(a, b []string) bool {
	first, err := sandbox.Components(a)
	second, err2 := sandbox.Components(b)
	return err == nil && err2 == nil && slices.Equal(first, second)
}
