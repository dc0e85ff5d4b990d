package taskpod

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
)

// target fills the pod with what the author asks for, and names its primary
// container: the one whose end is the attempt's.
func (a *Attempt) target(pod *corev1.Pod) (primary string, err error) {
	template := a.Spec.GetTaskTemplate()
	switch target := template.GetTarget().(type) {
	case *core.TaskTemplate_Container:
		primary = containerName(pod.Name)
		container := corev1.Container{
			Name: primary, Image: target.Container.GetImage(),
			Command: target.Container.GetCommand(), Args: target.Container.GetArgs(),
		}
		for _, pair := range target.Container.GetEnv() {
			container.Env = append(container.Env, corev1.EnvVar{Name: pair.GetKey(), Value: pair.GetValue()})
		}
		for _, port := range target.Container.GetPorts() {
			container.Ports = append(container.Ports, corev1.ContainerPort{Name: port.GetName(), ContainerPort: int32(port.GetContainerPort())})
		}
		if container.Resources, err = requirements(target.Container.GetResources(), template.GetExtendedResources()); err != nil {
			return "", err
		}
		pod.Spec.Containers = []corev1.Container{container}
		return primary, nil

	case *core.TaskTemplate_K8SPod:
		text, err := target.K8SPod.GetPodSpec().MarshalJSON()
		if err == nil {
			err = json.Unmarshal(text, &pod.Spec)
		}
		if err != nil {
			return "", invalid("BadTaskSpecification", "the pod template of %q cannot be read: %s", template.GetId().GetName(), err)
		}
		pod.Labels, pod.Annotations = target.K8SPod.GetMetadata().GetLabels(), target.K8SPod.GetMetadata().GetAnnotations()
		for _, name := range []string{target.K8SPod.GetPrimaryContainerName(), template.GetConfig()["primary_container_name"]} {
			if name != "" {
				return name, nil
			}
		}
		if len(pod.Spec.Containers) == 0 {
			return "", invalid("PrimaryContainerNotFound", "the pod template of %q has no container", template.GetId().GetName())
		}
		return pod.Spec.Containers[0].Name, nil
	}
	return "", invalid("UnsupportedTaskType", "the task %q is no container and no pod, and only these can be run here", template.GetId().GetName())
}

// containerName is the pod's as far as a container may be called so.
func containerName(pod string) string { return pod[max(0, len(pod)-63):] }

// Names of containers in a PodTemplate that stand for others: what they have is
// given to every container, or to the primary one.
const (
	anyContainer     = "default"
	primaryContainer = "primary"
	anyInit          = "default-init"
	primaryInit      = "primary-init"
)

// mergeTemplate lays the pod over a PodTemplate, by the rules of kubectl patch:
// what the author says wins, lists with names are merged by them. A container has
// below it the template's of its own name, below that `primary` if it is that one,
// and `default` at the bottom.
func mergeTemplate(pod *corev1.Pod, template *corev1.PodTemplate, primary string) error {
	if template == nil {
		return nil
	}
	base := template.Template.DeepCopy()
	given := map[string]corev1.Container{}
	take := func(containers []corev1.Container, magic ...string) (rest []corev1.Container) {
		for _, c := range containers {
			given[c.Name] = c
			if c.Name != magic[0] && c.Name != magic[1] {
				rest = append(rest, c)
			}
		}
		return rest
	}
	extra := take(base.Spec.Containers, anyContainer, primaryContainer)
	extraInit := take(base.Spec.InitContainers, anyInit, primaryInit)

	merged := func(containers, extra []corev1.Container, layers func(name string) []string) ([]corev1.Container, error) {
		var out []corev1.Container
		for _, container := range containers {
			below := corev1.Container{}
			for _, name := range layers(container.Name) {
				layer, ok := given[name]
				if !ok {
					continue
				}
				layer.Name = container.Name
				if err := overlay(&below, layer); err != nil {
					return nil, err
				}
			}
			if err := overlay(&below, container); err != nil {
				return nil, err
			}
			out = append(out, below)
		}
		for _, container := range extra {
			if find(out, container.Name) == nil {
				out = append(out, container)
			}
		}
		return out, nil
	}
	containers, err := merged(pod.Spec.Containers, extra, func(name string) []string {
		if name == primary {
			return []string{anyContainer, primaryContainer, name}
		}
		return []string{anyContainer, name}
	})
	if err != nil {
		return err
	}
	inits, err := merged(pod.Spec.InitContainers, extraInit, func(name string) []string { return []string{anyInit, primaryInit, name} })
	if err != nil {
		return err
	}
	base.Spec.Containers, base.Spec.InitContainers = nil, nil
	pod.Spec.Containers, pod.Spec.InitContainers = nil, nil
	if err := overlay(&base.Spec, pod.Spec); err != nil {
		return err
	}
	pod.Spec = base.Spec
	pod.Spec.Containers, pod.Spec.InitContainers = containers, inits
	for to, from := range map[*map[string]string]map[string]string{&pod.Labels: base.Labels, &pod.Annotations: base.Annotations} {
		joined := map[string]string{}
		for _, values := range []map[string]string{from, *to} {
			for name, value := range values {
				joined[name] = value
			}
		}
		*to = joined
	}
	return nil
}

// overlay lays an object over another as a strategic merge patch does.
func overlay[T any](below *T, over T) error {
	lower, err := json.Marshal(below)
	if err != nil {
		return err
	}
	upper, err := json.Marshal(over)
	if err != nil {
		return err
	}
	var schema T
	result, err := strategicpatch.StrategicMergePatch(lower, dropNulls(upper), schema)
	if err != nil {
		return invalid("BadTaskSpecification", "the pod template does not go with the task's pod: %s", err)
	}
	var out T
	if err := json.Unmarshal(result, &out); err != nil {
		return err
	}
	*below = out
	return nil
}

// dropNulls takes out the nulls that a Go struct without omitempty writes, which a
// patch would take for deletions.
func dropNulls(text []byte) []byte {
	var fields map[string]any
	if json.Unmarshal(text, &fields) != nil {
		return text
	}
	for name, value := range fields {
		if value == nil {
			delete(fields, name)
		}
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return text
	}
	return out
}
