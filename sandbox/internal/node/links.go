package node

import (
	"context"
	"net"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
)

// serviceLinks knows the Services of the cluster, for the variables that a
// container gets about those of its namespace.
type serviceLinks struct {
	store    cache.Store
	informer cache.Controller
}

func newServiceLinks(client kubernetes.Interface) *serviceLinks {
	source := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "services", v1.NamespaceAll, fields.Everything())
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &v1.Service{}, Handler: cache.ResourceEventHandlerFuncs{}, Transform: lean,
	})
	return &serviceLinks{store, informer}
}

func (l *serviceLinks) run(ctx context.Context) error {
	l.informer.RunWithContext(ctx)
	return nil
}

// wait returns once the Services have been read.
func (l *serviceLinks) wait(ctx context.Context) error {
	for !l.informer.HasSynced() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// variables are those of the Services of namespace, when links are enabled, and
// always those of the API server. The latter name its real address: that of the
// Service "kubernetes" is answered only while a node answers for Services.
func (l *serviceLinks) variables(namespace string, enabled bool, api string) map[string]string {
	apiServer := &v1.Service{Spec: v1.ServiceSpec{ClusterIP: "HOST", Ports: []v1.ServicePort{{Name: "https", Protocol: v1.ProtocolTCP, Port: 443}}}}
	apiServer.Name = "kubernetes"

	chosen := []*v1.Service{apiServer}
	if enabled {
		for _, object := range l.store.List() {
			service := object.(*v1.Service)
			if service.Namespace == namespace && !(namespace == v1.NamespaceDefault && service.Name == "kubernetes") && hasClusterIP(service) {
				chosen = append(chosen, service)
			}
		}
	}
	variables := map[string]string{}
	for _, variable := range envvars.FromServices(chosen) {
		variables[variable.Name] = variable.Value
	}
	// Named as everywhere, by the Service's port.
	host, port, _ := net.SplitHostPort(api)
	variables["KUBERNETES_SERVICE_HOST"] = host
	variables["KUBERNETES_SERVICE_PORT"], variables["KUBERNETES_SERVICE_PORT_HTTPS"] = port, port
	variables["KUBERNETES_PORT"], variables["KUBERNETES_PORT_443_TCP"] = "tcp://"+api, "tcp://"+api
	variables["KUBERNETES_PORT_443_TCP_ADDR"], variables["KUBERNETES_PORT_443_TCP_PORT"] = host, port
	return variables
}

func hasClusterIP(service *v1.Service) bool {
	return service.Spec.ClusterIP != "" && service.Spec.ClusterIP != v1.ClusterIPNone
}
