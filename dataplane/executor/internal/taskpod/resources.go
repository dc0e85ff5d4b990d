package taskpod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
)

// requirements are what the author asks for, in Kubernetes' words.
func requirements(asked *core.Resources, extended *core.ExtendedResources) (corev1.ResourceRequirements, error) {
	var out corev1.ResourceRequirements
	for _, list := range []struct {
		entries []*core.Resources_ResourceEntry
		into    *corev1.ResourceList
	}{{asked.GetRequests(), &out.Requests}, {asked.GetLimits(), &out.Limits}} {
		for _, entry := range list.entries {
			name, ok := resourceName(entry.GetName(), extended)
			if !ok {
				return out, invalid("BadTaskSpecification", "a resource of the kind %s cannot be asked for", entry.GetName())
			}
			quantity, err := resource.ParseQuantity(entry.GetValue())
			if err != nil || quantity.Sign() < 0 {
				return out, invalid("BadTaskSpecification", "%q is no quantity of %s: write one such as 500m or 2Gi", entry.GetValue(), name)
			}
			if *list.into == nil {
				*list.into = corev1.ResourceList{}
			}
			(*list.into)[name] = quantity
		}
	}
	return out, nil
}

func resourceName(name core.Resources_ResourceName, extended *core.ExtendedResources) (corev1.ResourceName, bool) {
	switch name {
	case core.Resources_CPU:
		return corev1.ResourceCPU, true
	case core.Resources_MEMORY:
		return corev1.ResourceMemory, true
	case core.Resources_STORAGE, core.Resources_EPHEMERAL_STORAGE:
		return corev1.ResourceEphemeralStorage, true
	case core.Resources_GPU:
		return gpuName(extended.GetGpuAccelerator().GetDeviceClass()), true
	}
	return "", false
}

// gpuName is that of the device plugin of each maker.
func gpuName(class core.GPUAccelerator_DeviceClass) corev1.ResourceName {
	switch class {
	case core.GPUAccelerator_GOOGLE_TPU:
		return "google.com/tpu"
	case core.GPUAccelerator_AMAZON_NEURON:
		return "aws.amazon.com/neuron"
	case core.GPUAccelerator_AMD_GPU:
		return "amd.com/gpu"
	case core.GPUAccelerator_HABANA_GAUDI:
		return "habana.ai/gaudi"
	}
	return "nvidia.com/gpu"
}

// resources gives the container the defaults, and limits where only requests are
// given and the other way round: a task has what it asked for, no less and no more.
func (b *Builder) resources(container *corev1.Container, template *core.TaskTemplate) error {
	r := &container.Resources
	for name, value := range map[corev1.ResourceName]string{corev1.ResourceCPU: b.Executor.DefaultCPU, corev1.ResourceMemory: b.Executor.DefaultMemory} {
		_, requested := r.Requests[name]
		_, limited := r.Limits[name]
		if requested || limited || value == "" {
			continue
		}
		quantity, err := resource.ParseQuantity(value)
		if err != nil {
			return err // the configuration was checked when it was read
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = quantity
	}
	complete(&r.Requests, r.Limits)
	complete(&r.Limits, r.Requests)
	return nil
}

func complete(to *corev1.ResourceList, from corev1.ResourceList) {
	for name, quantity := range from {
		if _, ok := (*to)[name]; ok {
			continue
		}
		if *to == nil {
			*to = corev1.ResourceList{}
		}
		(*to)[name] = quantity
	}
}

// Labels of nodes with accelerators, as Flyte's own deployments have them.
const (
	deviceLabel    = "k8s.amazonaws.com/accelerator"
	partitionLabel = "k8s.amazonaws.com/gpu-partition-size"
)

// accelerate asks for a node with the device, and tolerates what keeps others
// off it.
func accelerate(pod *corev1.PodSpec, extended *core.ExtendedResources) {
	gpu := extended.GetGpuAccelerator()
	if gpu.GetDevice() == "" {
		return
	}
	want := []corev1.NodeSelectorRequirement{{Key: deviceLabel, Operator: corev1.NodeSelectorOpIn, Values: []string{gpu.GetDevice()}}}
	tolerate(pod, corev1.Toleration{Key: deviceLabel, Operator: corev1.TolerationOpEqual, Value: gpu.GetDevice(), Effect: corev1.TaintEffectNoSchedule})
	switch partition := gpu.GetPartitionSizeValue().(type) {
	case *core.GPUAccelerator_PartitionSize:
		want = append(want, corev1.NodeSelectorRequirement{Key: partitionLabel, Operator: corev1.NodeSelectorOpIn, Values: []string{partition.PartitionSize}})
		tolerate(pod, corev1.Toleration{Key: partitionLabel, Operator: corev1.TolerationOpEqual, Value: partition.PartitionSize, Effect: corev1.TaintEffectNoSchedule})
	case *core.GPUAccelerator_Unpartitioned:
		if partition.Unpartitioned {
			want = append(want, corev1.NodeSelectorRequirement{Key: partitionLabel, Operator: corev1.NodeSelectorOpDoesNotExist})
		}
	}
	if pod.Affinity == nil {
		pod.Affinity = &corev1.Affinity{}
	}
	if pod.Affinity.NodeAffinity == nil {
		pod.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity := pod.Affinity.NodeAffinity
	if affinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}
	}
	terms := affinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for i := range terms { // a node has to fit one of them, so each of them asks for it
		terms[i].MatchExpressions = append(terms[i].MatchExpressions, want...)
	}
}

func tolerate(pod *corev1.PodSpec, toleration corev1.Toleration) {
	pod.Tolerations = append(pod.Tolerations, toleration)
}

// shareMemory mounts memory for processes of one container to share: what a
// container has by itself is 64 MiB.
func shareMemory(pod *corev1.PodSpec, container *corev1.Container, shared *core.SharedMemory) error {
	if shared == nil {
		return nil
	}
	name, mountPath := shared.GetMountName(), shared.GetMountPath()
	if name == "" {
		name = "flyte-shm"
	}
	if mountPath == "" {
		mountPath = "/dev/shm"
	}
	memory := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
	if size := shared.GetSizeLimit(); size != "" {
		quantity, err := resource.ParseQuantity(size)
		if err != nil {
			return invalid("BadTaskSpecification", "%q is no size of shared memory: write one such as 1Gi", size)
		}
		memory.SizeLimit = &quantity
	}
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: memory}})
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: mountPath})
	return nil
}

func (b *Builder) interruptible(pod *corev1.PodSpec) {
	for _, t := range b.Executor.InterruptibleTolerations {
		tolerate(pod, corev1.Toleration{
			Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	for name, value := range b.Executor.InterruptibleNodeSelector {
		if pod.NodeSelector == nil {
			pod.NodeSelector = map[string]string{}
		}
		pod.NodeSelector[name] = value
	}
}
