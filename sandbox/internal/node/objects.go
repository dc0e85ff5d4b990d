package node

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/kubelet/util/manager"
)

// idleWatch is for how long a configMap or secret is watched that nobody asked
// for; the library waits five times as long.
const idleWatch = time.Minute

// configMaps and secrets are those that pods of this node name, each watched
// while one does. They are the kubelet's, but for their first reading.
type (
	configMaps struct{ manager.Manager }
	secrets    struct{ manager.Manager }
)

func newConfigMaps(client kubernetes.Interface) configMaps {
	return configMaps{manager.NewWatchBasedManager(
		func(namespace string, options metav1.ListOptions) (runtime.Object, error) {
			return patiently(func() (runtime.Object, error) {
				return client.CoreV1().ConfigMaps(namespace).List(context.Background(), options)
			})
		},
		func(namespace string, options metav1.ListOptions) (watch.Interface, error) {
			return client.CoreV1().ConfigMaps(namespace).Watch(context.Background(), options)
		},
		func() runtime.Object { return &v1.ConfigMap{} },
		func(object runtime.Object) bool {
			configMap, ok := object.(*v1.ConfigMap)
			return ok && isTrue(configMap.Immutable)
		},
		v1.Resource("configmap"), idleWatch,
		func(pod *v1.Pod) sets.Set[string] {
			names := sets.New[string]()
			podutil.VisitPodConfigmapNames(pod, func(name string) bool { names.Insert(name); return true })
			return names
		},
	)}
}

func newSecrets(client kubernetes.Interface) secrets {
	return secrets{manager.NewWatchBasedManager(
		func(namespace string, options metav1.ListOptions) (runtime.Object, error) {
			return patiently(func() (runtime.Object, error) {
				return client.CoreV1().Secrets(namespace).List(context.Background(), options)
			})
		},
		func(namespace string, options metav1.ListOptions) (watch.Interface, error) {
			return client.CoreV1().Secrets(namespace).Watch(context.Background(), options)
		},
		func() runtime.Object { return &v1.Secret{} },
		func(object runtime.Object) bool {
			secret, ok := object.(*v1.Secret)
			return ok && isTrue(secret.Immutable)
		},
		v1.Resource("secret"), idleWatch,
		func(pod *v1.Pod) sets.Set[string] {
			names := sets.New[string]()
			podutil.VisitPodSecretNames(pod, func(name string) bool { names.Insert(name); return true })
			return names
		},
	)}
}

// GetConfigMap is the configMap as it is now.
func (c configMaps) GetConfigMap(namespace, name string) (*v1.ConfigMap, error) {
	return get[*v1.ConfigMap](c, namespace, name)
}

// GetSecret is the secret as it is now.
func (s secrets) GetSecret(namespace, name string) (*v1.Secret, error) {
	return get[*v1.Secret](s, namespace, name)
}

func get[T runtime.Object](from manager.Manager, namespace, name string) (T, error) {
	var none T
	object, err := from.GetObject(namespace, name)
	if err != nil {
		return none, err
	}
	found, ok := object.(T)
	if !ok {
		return none, fmt.Errorf("got a %T for %s/%s, want a %T", object, namespace, name, none)
	}
	return found, nil
}

// patiently asks again what the API server forbids. It lets a node read what its
// pods name once it has seen, by watches of its own, that they do, and a node is
// often quicker. Left to the library, the first pods would wait for seconds.
func patiently(ask func() (runtime.Object, error)) (runtime.Object, error) {
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		answer, err := ask()
		if !apierrors.IsForbidden(err) || wait > 640*time.Millisecond {
			return answer, err
		}
		time.Sleep(wait)
	}
}
