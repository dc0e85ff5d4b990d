package supervisor

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	client "k8s.io/client-go/kubernetes"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/container"
	"biplane.dev/biplane/sandbox/internal/identity"
	"biplane.dev/biplane/sandbox/internal/kubelet"
	"biplane.dev/biplane/sandbox/internal/kubernetes"
	"biplane.dev/biplane/sandbox/internal/pki"
	"biplane.dev/biplane/sandbox/internal/s3"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// plan is what a sandbox consists of.
type plan struct {
	has   map[string]bool  // components, by the names of package sandbox
	specs []component.Spec // in the order of their start

	kubernetes kubernetes.Config
	admin      client.Interface // of the API server, where there is one
	key        pki.AccessKey    // of the account's administrator
	pods       string           // this machine's address as pods call it
	network    kubelet.Network  // of a kubelet node

	status sandbox.Status // what is said of it all its life
}

// makePlan turns the record into components: first what they share, then each.
// It writes the files that they read.
func (s *Supervisor) makePlan() (plan, error) {
	p := plan{has: map[string]bool{}, pods: "127.0.0.1"}
	names, err := sandbox.Components(s.record.Options.Only)
	if err != nil {
		return plan{}, err
	}
	for _, name := range names {
		p.has[name] = true
	}
	if err := s.checkDataPlane(&p); err != nil {
		return plan{}, err
	}
	steps := []struct {
		wanted bool
		add    func(*plan) error
	}{
		{p.has[sandbox.Nodes], s.checkNode},
		{true, s.addRoots},
		{p.has[sandbox.Etcd], s.addKubernetes},
		{p.has[sandbox.Identity], s.addIdentity},
		{p.has[sandbox.ObjectStore], s.addS3},
		{p.has[sandbox.Nodes], s.addNodes},
		{p.has[sandbox.FlyteAdmin], s.addFlyteAdmin},
		{p.has[sandbox.FlyteAdmin] && p.has[sandbox.Nodes], s.addDataPlane},
	}
	for _, step := range steps {
		if !step.wanted {
			continue
		}
		if err := step.add(&p); err != nil {
			return plan{}, err
		}
	}
	return p, nil
}

// checkNode refuses a kind of node that this machine cannot have, before
// anything is started, and finds out by what address pods call this machine.
func (s *Supervisor) checkNode(p *plan) error {
	switch s.record.Options.Node {
	case sandbox.ProcessNode:
		return container.Check()
	case sandbox.KubeletNode:
		if err := kubelet.Check(); err != nil {
			return err
		}
		network, err := kubelet.ChooseNetwork(s.Folder.Node(nodeNames(s.record.Options)[0]))
		if err != nil {
			return err
		}
		p.network, p.pods = network, network.Host().String()
	}
	return nil
}

// addRoots writes what programs outside of the sandbox trust it by.
func (s *Supervisor) addRoots(*plan) error {
	return s.pki.Bundle(s.Folder.CABundle(), s.Folder.DataPlaneCA())
}

func (s *Supervisor) addKubernetes(p *plan) error {
	p.kubernetes = kubernetes.Config{
		Folder: s.Folder, PKI: s.pki, Ports: s.record.Ports, Issuer: s.record.Issuer(),
		AuditLog: *s.record.Options.AuditLog, Services: kubernetes.LoopbackServices(s.record.Cluster),
	}
	if p.has[sandbox.Identity] {
		p.kubernetes.Tokens = s.endpoint(portWebhook) + identity.TokenPath
	}
	if s.record.Options.Node == sandbox.KubeletNode && p.has[sandbox.Nodes] {
		p.kubernetes.Services = p.network.Services().String()
		p.kubernetes.Advertise = p.network.Host().String()
	}
	specs, admin, err := kubernetes.Components(p.kubernetes)
	if err != nil {
		return err
	}
	p.admin = admin
	for _, spec := range specs {
		if p.has[spec.Name] {
			p.specs = append(p.specs, spec)
		}
	}
	if p.has[sandbox.APIServer] {
		p.status.Kubernetes = &sandbox.Kubernetes{Server: p.kubernetes.Server(), Version: kubernetes.Version(), Kubeconfig: s.Folder.Kubeconfig()}
	}
	return nil
}

// The identity service's socket, in the components' working directory.
const identitySocket = "identity.sock"

func (s *Supervisor) addIdentity(p *plan) error {
	adminFile, key, err := s.pki.AccessKey("aws-admin")
	if err != nil {
		return err
	}
	p.key = key
	gatewayFile, _, err := s.pki.AccessKey("aws-gateway")
	if err != nil {
		return err
	}
	serving, err := s.serving(p, sandbox.Identity)
	if err != nil {
		return err
	}
	args := []string{"identity",
		"--dir=" + s.Folder.Identity(), "--account=" + s.record.Account, "--region=" + s.record.Region,
		"--admin-key-file=" + adminFile, "--gateway-key-file=" + gatewayFile, "--socket=" + identitySocket,
		"--iam-address=" + s.address(portIAM), "--sts-address=" + s.address(portSTS),
		"--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key, "--ca-file=" + s.pki.CA(),
		"--ca-bundle-file=" + s.Folder.CABundle(),
		"--s3-endpoint=" + s.podsEndpoint(p, sandbox.ObjectStore), "--sts-endpoint=" + s.podsEndpoint(p, portSTS), "--iam-endpoint=" + s.podsEndpoint(p, portIAM),
	}
	spec := component.Spec{
		Name: sandbox.Identity, Address: s.address(portIAM),
		Env: component.Memory(64, 100), Grace: time.Second,
	}
	if p.has[sandbox.APIServer] {
		config, err := s.kubeconfig(p, sandbox.Identity, pki.Subject{User: kubernetes.IdentityUser})
		if err != nil {
			return err
		}
		args = append(args, "--issuer="+s.record.Issuer(), "--jwks-url="+p.kubernetes.KeySet(),
			"--kubeconfig="+config, "--webhook-address="+s.address(portWebhook))
		spec.Needs = []string{sandbox.APIServer}
	}
	spec.Args = args
	if spec.Ready, err = component.Answers(s.pki.CA(), s.endpoint(portIAM)+"/readyz"); err != nil {
		return err
	}
	p.specs = append(p.specs, spec)
	p.status.STS = &sandbox.Endpoint{Endpoint: s.endpoint(portSTS)}
	p.status.IAM = &sandbox.Endpoint{Endpoint: s.endpoint(portIAM)}
	return nil
}

func (s *Supervisor) addS3(p *plan) error {
	gatewayFile, _, err := s.pki.AccessKey("aws-gateway")
	if err != nil {
		return err
	}
	serving, err := s.serving(p, sandbox.ObjectStore)
	if err != nil {
		return err
	}
	ready, err := component.Answers(s.pki.CA(), s.endpoint(sandbox.ObjectStore)+s3.HealthPath)
	if err != nil {
		return err
	}
	p.specs = append(p.specs, component.Spec{
		Name: sandbox.ObjectStore, Needs: []string{sandbox.Identity}, Address: s.address(sandbox.ObjectStore),
		Args: []string{"s3",
			"--dir=" + s.Folder.S3(), "--address=" + s.address(sandbox.ObjectStore),
			"--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key,
			"--account=" + s.record.Account, "--region=" + s.record.Region,
			"--identity-socket=" + identitySocket, "--gateway-key-file=" + gatewayFile,
		},
		Env: component.Memory(128, 100), Ready: ready, Grace: time.Second,
	})
	p.status.S3 = &sandbox.S3{Endpoint: s.endpoint(sandbox.ObjectStore), Region: s.record.Region, Dir: s.Folder.S3()}
	return nil
}

func (s *Supervisor) addNodes(p *plan) error {
	names := nodeNames(s.record.Options)
	p.status.Node = &sandbox.Node{Kind: s.record.Options.Node, Names: names}
	switch s.record.Options.Node {
	case sandbox.KubeletNode:
		return s.addKubelet(p, names[0])
	case sandbox.KwokNode:
		return s.addKwok(p, names)
	}
	for i, name := range names {
		if err := s.addProcessNode(p, name, i == 0); err != nil {
			return err
		}
	}
	return nil
}

// addProcessNode adds a process node. The first of them answers for Services.
func (s *Supervisor) addProcessNode(p *plan, name string, services bool) error {
	id := componentOf(name)
	user := pki.Subject{User: "system:node:" + name, Groups: []string{"system:nodes"}}
	config, err := s.kubeconfig(p, id, user)
	if err != nil {
		return err
	}
	user.IPs, user.Names = []string{"127.0.0.1"}, []string{name, "localhost"}
	serving, err := s.pki.Pair(id+"-serving", user)
	if err != nil {
		return err
	}
	p.specs = append(p.specs, component.Spec{
		Name: id, Needs: []string{sandbox.APIServer}, Address: s.address(id),
		Args: []string{"node",
			"--name=" + name, "--dir=" + s.Folder.Node(name), "--sandbox-dir=" + string(s.Folder),
			"--kubeconfig=" + config, "--address=" + s.address(id),
			"--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key, "--client-ca-file=" + s.pki.CA(),
			"--python=" + s.record.Options.Python, "--virtual-env=" + s.VirtualEnv,
			"--services=" + strconv.FormatBool(services),
		},
		Env:   component.Memory(128, 100),
		Ready: kubernetes.NodesReady(p.admin, []string{name}, s.Now()),
		Grace: 2 * time.Second,
	})
	return nil
}

// addKwok adds one program that is all fake nodes.
func (s *Supervisor) addKwok(p *plan, names []string) error {
	id := componentOf(kwokNode)
	config, err := s.kubeconfig(p, id, pki.Subject{User: kubernetes.KwokUser})
	if err != nil {
		return err
	}
	serving, err := s.serving(p, id)
	if err != nil {
		return err
	}
	p.specs = append(p.specs, component.Spec{
		Name: id, Needs: []string{sandbox.APIServer}, Address: s.address(id),
		Args: []string{"kwok",
			"--kubeconfig=" + config, "--names=" + strings.Join(names, ","), "--address=" + s.address(id),
			"--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key,
		},
		Env:   component.Memory(256, 100),
		Ready: kubernetes.NodesReady(p.admin, names, time.Time{}),
		Grace: time.Second,
	})
	return nil
}

func (s *Supervisor) addKubelet(p *plan, name string) error {
	spec, err := kubelet.Component(kubelet.Part{
		Component: componentOf(name), Name: name, Folder: s.Folder, PKI: s.pki, Network: p.network,
		Server: p.kubernetes.Server(), Admin: p.admin, Now: s.Now(),
		Forward: []int{s.record.Ports[sandbox.APIServer], s.record.Ports[sandbox.ObjectStore], s.record.Ports[portSTS], s.record.Ports[portIAM]},
	})
	if err != nil {
		return err
	}
	p.specs = append(p.specs, spec)
	return nil
}

// kwokNode is what the component of all fake nodes is called after.
const kwokNode = "kwok"

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

// serving is the certificate of a server that this machine and pods call.
func (s *Supervisor) serving(p *plan, name string) (pki.Pair, error) {
	subject := pki.Subject{User: name, IPs: []string{"127.0.0.1", "::1"}, Names: []string{"localhost"}}
	if p.pods != "127.0.0.1" {
		subject.IPs = append(subject.IPs, p.pods)
	}
	return s.pki.Pair(name+"-serving", subject)
}

// kubeconfig is that of a component that calls the API server as the subject.
func (s *Supervisor) kubeconfig(p *plan, name string, subject pki.Subject) (string, error) {
	pair, err := s.pki.Pair(name+"-client", subject)
	if err != nil {
		return "", err
	}
	path := s.pki.Path(name + ".kubeconfig")
	return path, s.pki.Kubeconfig(path, "biplane-sandbox-"+s.Folder.Name(), p.kubernetes.Server(), pair)
}

func (s *Supervisor) address(port string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.record.Ports[port]))
}

func (s *Supervisor) endpoint(port string) string { return "https://" + s.address(port) }

// podsEndpoint is an endpoint as pods call it.
func (s *Supervisor) podsEndpoint(p *plan, port string) string {
	return "https://" + net.JoinHostPort(p.pods, strconv.Itoa(s.record.Ports[port]))
}

func sameComponents(a, b []string) bool {
	first, err := sandbox.Components(a)
	second, err2 := sandbox.Components(b)
	return err == nil && err2 == nil && slices.Equal(first, second)
}
