package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/pki"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// Part is the node as a part of a sandbox.
type Part struct {
	Component string // its name there
	Name      string // of the node
	Folder    sandbox.Folder
	PKI       *pki.PKI
	Network   Network // of ChooseNetwork; the API server advertises its Host and has it in its certificate
	Server    string  // URL of the API server on this machine
	Forward   []int   // the API server's port, and those of what else pods call
	Admin     kubernetes.Interface
	Now       time.Time // nothing of the node is older than this
}

// Component makes the node's certificates and returns it as a component.
func Component(p Part) (component.Spec, error) {
	o := Options{Name: p.Name, Dir: p.Folder.Node(p.Name), Network: p.Network, ClientCA: p.PKI.CA(), Forward: p.Forward}
	var err error
	if o.Kubeconfig, err = p.kubeconfig("node-"+p.Name, pki.Subject{User: "system:node:" + p.Name, Groups: []string{"system:nodes"}}); err != nil {
		return component.Spec{}, err
	}
	if o.ProxyKubeconfig, err = p.kubeconfig("kube-proxy", pki.Subject{User: "system:kube-proxy"}); err != nil {
		return component.Spec{}, err
	}
	serving, err := p.PKI.Pair("kubelet-"+p.Name, pki.Subject{User: "system:node:" + p.Name, Groups: []string{"system:nodes"},
		IPs: []string{p.Network.Node().String()}, Names: []string{p.Name}})
	if err != nil {
		return component.Spec{}, err
	}
	o.Cert, o.Key = serving.Cert, serving.Key
	since := p.Now.Truncate(time.Second) // the API's times have no fractions
	return component.Spec{
		Name: p.Component, Args: o.Args(), Address: p.Network.Node().String() + ":10250",
		Needs: []string{sandbox.APIServer},
		Ready: func(ctx context.Context) error { return ready(ctx, p.Admin, p.Name, since) },
		Grace: 2500 * time.Millisecond,
	}, nil
}

func (p Part) kubeconfig(name string, subject pki.Subject) (string, error) {
	pair, err := p.PKI.Pair(name, subject)
	if err != nil {
		return "", err
	}
	file := p.PKI.Path(name + ".kubeconfig")
	return file, p.PKI.Kubeconfig(file, name, p.Server, pair)
}

// ready asks the kubelet, through the API server, whether it is well, and the API
// server what it said of its node since the time given; what it said in its last
// life stands there for a while.
func ready(ctx context.Context, admin kubernetes.Interface, name string, since time.Time) error {
	if _, err := admin.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", name, "proxy/healthz").DoRaw(ctx); err != nil {
		return fmt.Errorf("asking the kubelet: %w", err)
	}
	node, err := admin.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("looking for the node: %w", err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Time.Before(since) {
			return nil
		}
	}
	return errors.New("the node is not ready")
}
