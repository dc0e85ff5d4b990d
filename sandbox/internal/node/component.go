package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/image"
	"biplane.dev/biplane/sandbox/internal/pki"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// Part is the node as a part of a sandbox.
type Part struct {
	Component string // its name there
	Name      string // of the node
	Folder    sandbox.Folder
	PKI       *pki.PKI
	Server    string // URL of the API server
	Address   string // host:port of the kubelet's API
	Host      string // of Address
	Services  bool   // whether it is the one that answers for Services
	Python    image.Python
	Admin     kubernetes.Interface
	Now       time.Time // nothing that the node says is older than this
}

// Component makes the node's certificates and returns it as a component.
func Component(p Part) (component.Spec, error) {
	// The node answers for Services, so it reads pods of every node, which the
	// API server's Node authorizer would not let it do.
	identity, err := p.PKI.Pair("node-"+p.Name, pki.Subject{User: "biplane:node:" + p.Name, Groups: []string{"system:masters"}})
	if err != nil {
		return component.Spec{}, err
	}
	kubeconfig := p.PKI.Path("node-" + p.Name + ".kubeconfig")
	if err := p.PKI.Kubeconfig(kubeconfig, "node-"+p.Name, p.Server, identity); err != nil {
		return component.Spec{}, err
	}
	serving, err := p.PKI.Pair("kubelet-"+p.Name, pki.Subject{
		User: "system:node:" + p.Name, Groups: []string{"system:nodes"}, IPs: []string{p.Host}, Names: []string{p.Name},
	})
	if err != nil {
		return component.Spec{}, err
	}
	args := []string{"node", "--name=" + p.Name, "--dir=" + p.Folder.Node(p.Name), "--sandbox-dir=" + string(p.Folder),
		"--kubeconfig=" + kubeconfig, "--address=" + p.Address,
		"--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key, "--client-ca-file=" + p.PKI.CA(),
		"--python=" + p.Python.Flag, "--virtual-env=" + p.Python.Active,
		fmt.Sprintf("--services=%t", p.Services),
	}
	since := p.Now.Truncate(time.Second) // the API's times have no fractions
	return component.Spec{
		Name: p.Component, Args: args, Address: p.Address,
		Needs: []string{sandbox.APIServer},
		Env:   []string{"GOGC=50", "GOMEMLIMIT=96MiB"},
		Ready: func(ctx context.Context) error { return ready(ctx, p, since) },
		Grace: 2 * time.Second,
	}, nil
}

// ready sees whether the node's API listens, and asks the API server what the
// node said of itself since the time given; what it said in its last life stands
// there for a while. It does not ask /healthz through the API server, which
// hands nothing on to loopback addresses but logs, exec, attach and port-forward.
func ready(ctx context.Context, p Part, since time.Time) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return fmt.Errorf("calling the node: %w", err)
	}
	conn.Close()
	node, err := p.Admin.CoreV1().Nodes().Get(ctx, p.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("looking for the node: %w", err)
	}
	condition := nodeCondition(node.Status.Conditions, v1.NodeReady)
	if condition == nil || condition.Status != v1.ConditionTrue || condition.LastHeartbeatTime.Time.Before(since) {
		return errors.New("the node is not ready")
	}
	return nil
}
