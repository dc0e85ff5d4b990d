package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	resourcehelper "k8s.io/kubernetes/pkg/api/v1/resource"
	podshelper "k8s.io/kubernetes/pkg/apis/core/pods"
	"k8s.io/kubernetes/pkg/fieldpath"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// environment is what a container's spec says of its environment: envFrom first,
// env over it, each value expanded with those before it and the variables of
// Services; then those of Services that nothing has set.
func (n *node) environment(pod *v1.Pod, c *v1.Container) ([]kubecontainer.EnvVar, error) {
	links := n.links.variables(pod.Namespace, pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks, n.api)
	set := map[string]string{}
	for _, from := range c.EnvFrom {
		if err := n.addEnvFrom(set, pod, from); err != nil {
			return nil, err
		}
	}
	expand := expansion.MappingFuncFor(set, links)
	for i := range c.Env {
		variable := &c.Env[i]
		value := variable.Value
		if value != "" {
			value = expansion.Expand(value, expand)
		} else if variable.ValueFrom != nil {
			var found bool
			var err error
			if value, found, err = n.valueFrom(pod, c, variable.ValueFrom); err != nil {
				return nil, err
			} else if !found {
				continue // optional
			}
		}
		set[variable.Name] = value
	}
	for name, value := range links {
		if _, ok := set[name]; !ok {
			set[name] = value
		}
	}
	all := make([]kubecontainer.EnvVar, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		all = append(all, kubecontainer.EnvVar{Name: name, Value: set[name]})
	}
	return all, nil
}

func (n *node) addEnvFrom(set map[string]string, pod *v1.Pod, from v1.EnvFromSource) error {
	switch {
	case from.ConfigMapRef != nil:
		configMap, err := n.configMaps.GetConfigMap(pod.Namespace, from.ConfigMapRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(from.ConfigMapRef.Optional) {
				return nil
			}
			return err
		}
		for key, value := range configMap.Data {
			set[from.Prefix+key] = value
		}
	case from.SecretRef != nil:
		secret, err := n.secrets.GetSecret(pod.Namespace, from.SecretRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(from.SecretRef.Optional) {
				return nil
			}
			return err
		}
		for key, value := range secret.Data {
			set[from.Prefix+key] = string(value)
		}
	}
	return nil
}

// valueFrom is a value that is somewhere else; found is false for an optional one
// that is not there.
func (n *node) valueFrom(pod *v1.Pod, c *v1.Container, from *v1.EnvVarSource) (value string, found bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = n.podField(pod, from.FieldRef)
		return value, true, err

	case from.ResourceFieldRef != nil:
		value, err = n.resourceField(pod, c, from.ResourceFieldRef)
		return value, true, err

	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		configMap, err := n.configMaps.GetConfigMap(pod.Namespace, ref.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(ref.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		value, found = configMap.Data[ref.Key]
		if !found && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return value, found, nil

	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := n.secrets.GetSecret(pod.Namespace, ref.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(ref.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		content, found := secret.Data[ref.Key]
		if !found && !isTrue(ref.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return string(content), found, nil
	}
	return "", true, nil
}

// podField is a field of a pod, those of its status as this node knows them.
func (n *node) podField(pod *v1.Pod, ref *v1.ObjectFieldSelector) (string, error) {
	path, _, err := podshelper.ConvertDownwardAPIFieldLabel(ref.APIVersion, ref.FieldPath, "")
	if err != nil {
		return "", err
	}
	switch path {
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs":
		return n.ip, nil
	}
	return fieldpath.ExtractFieldPathAsString(pod, path)
}

// resourceField is a request or limit; without a limit it is what the node has.
func (n *node) resourceField(pod *v1.Pod, c *v1.Container, ref *v1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName == "" {
		limited := c.DeepCopy()
		resourcehelper.MergeContainerResourceLimits(limited, n.allocatable)
		return resourcehelper.ExtractContainerResourceValue(ref, limited)
	}
	limited := pod.DeepCopy()
	for i := range limited.Spec.Containers {
		resourcehelper.MergeContainerResourceLimits(&limited.Spec.Containers[i], n.allocatable)
	}
	for i := range limited.Spec.InitContainers {
		resourcehelper.MergeContainerResourceLimits(&limited.Spec.InitContainers[i], n.allocatable)
	}
	return resourcehelper.ExtractResourceValueByContainerName(ref, limited, ref.ContainerName)
}

// merged is the environment of a program: the image's, and over it the pod's.
func merged(image []string, pod []kubecontainer.EnvVar, more ...string) []string {
	values := map[string]string{}
	for _, list := range [][]string{more, image} {
		for _, entry := range list {
			name, value, _ := strings.Cut(entry, "=")
			values[name] = value
		}
	}
	for _, variable := range pod {
		values[variable.Name] = variable.Value
	}
	environment := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		environment = append(environment, name+"="+values[name])
	}
	return environment
}

func isTrue(b *bool) bool { return b != nil && *b }
