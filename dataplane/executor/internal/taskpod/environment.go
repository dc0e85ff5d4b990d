package taskpod

import (
	"maps"
	"path"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
)

// What connects a pod to its data plane.
const (
	// ClientConfig is the ConfigMap of each namespace with config.yaml, Flyte's
	// own client configuration, and the CA that it names.
	ClientConfig = "biplane-client"
	clientFolder = "/etc/biplane/client"
	tokenSeconds = 3600
)

// environment of the primary container beyond the author's own, the last of a
// name winning: first who it is, then the run's, then what nobody may change
// without losing its children, and at the end the administrator's.
func (b *Builder) environment(a Attempt) []corev1.EnvVar {
	spec := &a.Action.Spec
	env := []corev1.EnvVar{
		{Name: "FLYTE_INTERNAL_EXECUTION_ID", Value: spec.Run},
		{Name: "FLYTE_INTERNAL_EXECUTION_PROJECT", Value: spec.Project},
		{Name: "FLYTE_INTERNAL_EXECUTION_DOMAIN", Value: spec.Domain},
		{Name: "FLYTE_ATTEMPT_NUMBER", Value: strconv.Itoa(int(a.Number) - 1)},
		{Name: "FLYTE_INTERNAL_TASK_PROJECT", Value: spec.TaskProject},
		{Name: "FLYTE_INTERNAL_TASK_DOMAIN", Value: spec.TaskDomain},
		{Name: "FLYTE_INTERNAL_TASK_NAME", Value: spec.TaskName},
		{Name: "FLYTE_INTERNAL_TASK_VERSION", Value: spec.TaskVersion},
		{Name: "FLYTE_INTERNAL_PROJECT", Value: spec.TaskProject},
		{Name: "FLYTE_INTERNAL_DOMAIN", Value: spec.TaskDomain},
		{Name: "FLYTE_INTERNAL_NAME", Value: spec.TaskName},
		{Name: "FLYTE_INTERNAL_VERSION", Value: spec.TaskVersion},
		{Name: "_F_PN", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
		{Name: "_U_USE_ACTIONS", Value: "1"},
		{Name: "_U_EP_OVERRIDE", Value: b.Executor.Endpoint},
		{Name: "FLYTECTL_CONFIG", Value: clientFolder + "/" + clientFile(a.Spec.GetTaskTemplate().GetMetadata().GetRuntime().GetVersion())},
	}
	for _, pair := range a.Run.GetEnvs().GetValues() {
		env = append(env, corev1.EnvVar{Name: pair.GetKey(), Value: pair.GetValue()})
	}
	env = append(env,
		corev1.EnvVar{Name: "ACTION_NAME", Value: spec.Action},
		corev1.EnvVar{Name: "RUN_NAME", Value: spec.Run},
		corev1.EnvVar{Name: "_U_RUN_BASE", Value: spec.RunOutputBase},
		corev1.EnvVar{Name: "_U_ORG_NAME", Value: spec.Organization},
	)
	for _, name := range slices.Sorted(maps.Keys(b.Executor.Env)) {
		env = append(env, corev1.EnvVar{Name: name, Value: b.Executor.Env[name]})
	}
	return env
}

// clientFile is the configuration for an SDK of a version, "" if that is unknown.
// One before 2.7.2 cannot be given a command for its token in a pod: it reads the
// token once, when it starts, and has the executor exchange it.
func clientFile(sdk string) string {
	if v, err := version.ParseGeneric(sdk); err == nil && v.LessThan(version.MustParseGeneric("2.7.2")) {
		return "config-client-secret.yaml"
	}
	return "config.yaml"
}

// merge appends variables, each name once and the last value winning. It stands
// where that one stood, behind what its value may refer to.
func merge(env, more []corev1.EnvVar) []corev1.EnvVar {
	all := slices.Concat(env, more)
	last := map[string]int{}
	for i, variable := range all {
		last[variable.Name] = i
	}
	out := make([]corev1.EnvVar, 0, len(last))
	for i, variable := range all {
		if last[variable.Name] == i {
			out = append(out, variable)
		}
	}
	return out
}

// connect mounts the client's configuration, and a token that says to our
// endpoints which pod this is, and to nobody else anything.
func connect(pod *corev1.PodSpec, container *corev1.Container) {
	seconds := int64(tokenSeconds)
	const token, client = "biplane-token", "biplane-client"
	pod.Volumes = append(slices.DeleteFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == token || v.Name == client }),
		corev1.Volume{Name: token, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: v1alpha1.TokenAudience, ExpirationSeconds: &seconds, Path: path.Base(config.TokenFile)}}}}}},
		corev1.Volume{Name: client, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: ClientConfig}}}},
	)
	container.VolumeMounts = append(
		slices.DeleteFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == token || m.Name == client }),
		corev1.VolumeMount{Name: token, MountPath: path.Dir(config.TokenFile), ReadOnly: true},
		corev1.VolumeMount{Name: client, MountPath: clientFolder, ReadOnly: true},
	)
}
