package pods

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Node is the cluster that cases are tried on. It has one node, on which the
// images of Images are.
type Node struct {
	config  *rest.Config
	client  kubernetes.Interface
	objects dynamic.Interface
	run     string // in the names of its namespaces, so that two runs do not meet

	ports ports

	name, kubelet, runtime string
}

// ports are those of the machine that stand in a run for those that the cases
// name, since pods of a process node share the machine's.
type ports struct {
	mu     sync.Mutex
	chosen map[int]int
}

// free is the port that stands for one: itself, or where somebody listens there
// already, the next by two hundreds where nobody does.
func (p *ports) free(named int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port, ok := p.chosen[named]; ok {
		return port
	}
	port := named
	for ; port < named+14_000; port += 200 { // below the ports of outgoing connections
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			listener.Close()
			break
		}
	}
	p.chosen[named] = port
	return port
}

// Open returns the node of the cluster that a kubeconfig names.
func Open(ctx context.Context, kubeconfig string) (*Node, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS = -1 // cases share the client, and wait for what they watch
	n := &Node{config: config, run: strings.ToLower(rand.Text()[:5]), ports: ports{chosen: map[int]int{}}}
	if n.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if n.objects, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	nodes, err := n.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	if len(nodes.Items) != 1 {
		return nil, fmt.Errorf("the cluster has %d nodes; the suite wants one", len(nodes.Items))
	}
	node := nodes.Items[0]
	n.name, n.kubelet, n.runtime = node.Name, node.Status.NodeInfo.KubeletVersion, node.Status.NodeInfo.ContainerRuntimeVersion
	return n, nil
}

// Version is that of the kubelet and of what runs containers.
func (n *Node) Version() string { return n.kubelet + ", " + n.runtime }

// prepare lets service accounts of cases ask who they are.
func (n *Node) prepare(ctx context.Context) error {
	_, err := n.client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "pods-suite"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:discovery"},
		Subjects:   []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "system:serviceaccounts"}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("granting discovery: %w", err)
	}
	return nil
}

// limit is how long a case may take. The longest waits out a back-off, which takes
// more than a minute where nothing else is done meanwhile.
const limit = 5 * time.Minute

// try runs one case in a namespace of its own.
func (n *Node) try(ctx context.Context, c Case, namespace string) (result Result) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r := &run{node: n, ctx: ctx, namespace: namespace}
	r.hide(namespace, "NAMESPACE")
	r.hide(n.name, "NODE")
	defer func() {
		if stopped := recover(); stopped != nil {
			failed, ok := stopped.(failure)
			if !ok {
				panic(stopped)
			}
			r.note("failed", "%s", failed.text)
		}
		result = Result{Name: c.Name, Observations: r.observations, Took: time.Since(began)}
		n.remove(namespace)
	}()
	r.makeNamespace()
	r.apply(c.Objects)
	if c.Pod != "" {
		r.pod("p", c.Pod)
	}
	if c.Do == nil {
		r.finish("p")
	} else {
		c.Do(r)
	}
	return result
}

// remove deletes a namespace and does not wait for it. Its pods go at once: the
// node is wanted for the next case.
func (n *Node) remove(namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n.client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
	var soon int64 = 1
	n.client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &soon}, metav1.ListOptions{})
}

// makeNamespace returns once pods can be made in it.
func (r *run) makeNamespace() {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}
	_, err := r.node.client.CoreV1().Namespaces().Create(r.ctx, ns, metav1.CreateOptions{})
	r.must(err, "making the namespace")
	for {
		_, err := r.node.client.CoreV1().ServiceAccounts(r.namespace).Get(r.ctx, "default", metav1.GetOptions{})
		if err == nil { // every pod mounts the cluster's root certificate
			_, err = r.node.client.CoreV1().ConfigMaps(r.namespace).Get(r.ctx, "kube-root-ca.crt", metav1.GetOptions{})
		}
		if err == nil {
			return
		}
		if !apierrors.IsNotFound(err) {
			r.must(err, "looking for what a new namespace has")
		}
		r.pause(50 * time.Millisecond)
	}
}

// kinds are what objects of cases may be.
var kinds = map[string]schema.GroupVersionResource{
	"ConfigMap":      {Version: "v1", Resource: "configmaps"},
	"Secret":         {Version: "v1", Resource: "secrets"},
	"Service":        {Version: "v1", Resource: "services"},
	"ServiceAccount": {Version: "v1", Resource: "serviceaccounts"},
	"Pod":            {Version: "v1", Resource: "pods"},
	"Job":            {Group: "batch", Version: "v1", Resource: "jobs"},
	"Deployment":     {Group: "apps", Version: "v1", Resource: "deployments"},
	"StatefulSet":    {Group: "apps", Version: "v1", Resource: "statefulsets"},
	"DaemonSet":      {Group: "apps", Version: "v1", Resource: "daemonsets"},
}

// apply makes the objects of YAML documents, with ports that are free.
func (r *run) apply(documents string) {
	documents = portOfCase.ReplaceAllStringFunc(documents, func(named string) string {
		n, _ := strconv.Atoi(named) // it is digits
		return strconv.Itoa(r.port(n))
	})
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewBufferString(documents), 4096)
	for {
		var object unstructured.Unstructured
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		r.must(err, "reading the case's objects")
		if object.Object == nil {
			continue
		}
		resource, ok := kinds[object.GetKind()]
		if !ok {
			r.fail("the suite knows no kind %q", object.GetKind())
		}
		object.SetAPIVersion(resource.GroupVersion().String())
		setImages(object.Object)
		_, err = r.node.objects.Resource(resource).Namespace(r.namespace).Create(r.ctx, &object, metav1.CreateOptions{})
		r.must(err, "making "+object.GetKind()+" "+object.GetName())
	}
}

// setImages gives every container without an image the probe's, wherever it is.
func setImages(value any) {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			setImages(v)
		}
	case map[string]any:
		for key, v := range value {
			if list, ok := v.([]any); ok && (key == "containers" || key == "initContainers") {
				for _, c := range list {
					if container, ok := c.(map[string]any); ok && container["image"] == nil {
						container["image"] = ProbeImage
					}
				}
			}
			setImages(v)
		}
	}
}
