// Package taskpod makes the pod of an attempt: from what the author said (the
// TaskTemplate), what the run was started with (its RunSpec), what the cluster's
// administrator wants (configuration, PodTemplates), and what the SDK in the pod
// has to know.
//
// It is a function of its arguments and touches nothing. It does not create the
// pod, nor say what became of one: packages taskaction and judge do. Start with
// Builder.Build.
package taskpod

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
)

// Builder has what is the same for every pod.
type Builder struct {
	Executor config.Executor
}

// Attempt is what a pod is made for.
type Attempt struct {
	Action *v1alpha1.TaskAction
	Run    *task.RunSpec
	Spec   *task.TaskSpec
	// Number is from 1.
	Number int32
	// Previous is the folder of the attempt before this one, for its checkpoint.
	Previous string
	// Interruptible says whether its node may be taken away.
	Interruptible bool
	// Template is what Spec's pod_template_name names.
	Template *corev1.PodTemplate
	// Inputs are needed where NeedsInputs says so.
	Inputs *task.Inputs
}

// Invalid is an error of the author's that no retry mends.
type Invalid struct{ Code, Message string }

// Error is the sentence that the author reads.
func (e *Invalid) Error() string { return e.Message }

func invalid(code, format string, args ...any) error {
	return &Invalid{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Build returns the pod, or *Invalid. Reading it is reading what a pod has.
func (b *Builder) Build(a Attempt) (*corev1.Pod, error) {
	template := a.Spec.GetTaskTemplate()
	if err := supported(a.Spec); err != nil {
		return nil, err
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: Name(a.Action, a.Number), Namespace: a.Action.Namespace}}
	primary, err := a.target(pod) // what the author asks for: image, command, resources
	if err != nil {
		return nil, err
	}
	if err := mergeTemplate(pod, a.Template, primary); err != nil { // below it, what the administrator gives
		return nil, err
	}
	container := find(pod.Spec.Containers, primary)
	if container == nil {
		return nil, invalid("PrimaryContainerNotFound", "the pod has no container %q, which its task names as the primary one", primary)
	}
	if container.Image == "" {
		return nil, invalid("InvalidImageName", "the task %q has no image: give its environment one", template.GetId().GetName())
	}
	if err := a.substitute(container); err != nil { // {{.input}} and its like
		return nil, err
	}
	container.Env = merge(container.Env, b.environment(a))
	if err := b.resources(container, template); err != nil {
		return nil, err
	}
	accelerate(&pod.Spec, template.GetExtendedResources())
	if err := shareMemory(&pod.Spec, container, template.GetExtendedResources().GetSharedMemory()); err != nil {
		return nil, err
	}
	if a.Interruptible {
		b.interruptible(&pod.Spec)
	}
	connect(&pod.Spec, container) // how it reaches us, and proves who it is
	a.identify(pod, primary)      // names, labels, owner
	container.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever // an attempt is one start; another is ours to begin
	links := false                                     // a namespace with a thousand Services must not fill the environment
	pod.Spec.EnableServiceLinks = &links
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		grace := int64(graceSeconds)
		pod.Spec.TerminationGracePeriodSeconds = &grace
	}
	if account := a.account(); account != "" {
		pod.Spec.ServiceAccountName = account
	}
	return pod, nil
}

// graceSeconds is how long a pod that is stopped may go on where its author does not
// say: a Python program that is process 1 does not hear SIGTERM, and most tasks are one.
// With Kubernetes' 30 seconds an attempt after a timeout would wait for as long.
const graceSeconds = 10

// Name of the pod of an attempt.
func Name(action *v1alpha1.TaskAction, attempt int32) string {
	return action.Name + "-" + strconv.Itoa(int(attempt)-1)
}

// Folder of an attempt: no other attempt ever writes into it, and Flyte's SDK
// looks for the first one's error there.
func Folder(action *v1alpha1.TaskAction, attempt int32) string {
	return strings.TrimSuffix(action.Spec.RunOutputBase, "/") + "/" + action.Spec.Action + "/" + strconv.Itoa(int(attempt))
}

// types that are one ordinary pod. An actor is, too: its container's arguments are
// those of a task, and it only loses what a warm start would save.
var plain = map[string]bool{"": true, "python": true, "python-task": true, "container": true, "raw-container": true, "pod": true, "sidecar": true, "actor": true}

func supported(spec *task.TaskSpec) error {
	template := spec.GetTaskTemplate()
	if !plain[template.GetType()] {
		return invalid("UnsupportedTaskType", "tasks of type %q cannot be run here: only those that are one pod can", template.GetType())
	}
	if template.GetContainer().GetDataConfig().GetEnabled() || template.GetK8SPod().GetDataConfig().GetEnabled() {
		if err := withoutFiles(spec); err != nil {
			return err
		}
	}
	if secrets := template.GetSecurityContext().GetSecrets(); len(secrets) > 0 {
		return invalid("SecretNotFound", "the task asks for the secret %q, and this data plane serves no secrets: take it out of the task's environment", secrets[0].GetKey())
	}
	return nil
}

// withoutFiles refuses a container that needs files of inputs and outputs, which
// nothing here copies. It needs none for inputs that its command names, and where
// there are no outputs.
func withoutFiles(spec *task.TaskSpec) error {
	about := spec.GetTaskTemplate()
	for _, output := range about.GetInterface().GetOutputs().GetVariables() {
		return invalid("UnsupportedTaskType", "the output %q of %q cannot be taken from a file of its container: return it from a Python task", output.GetKey(), about.GetId().GetName())
	}
	for _, input := range about.GetInterface().GetInputs().GetVariables() {
		name := input.GetKey()
		if !mentions(spec, func(lower string) bool { return lower == inputsPrefix+strings.ToLower(name) }) {
			return invalid("UnsupportedTaskType", "the input %q of %q cannot be given to its container as a file: name it {{.inputs.%s}} in the command, or read it in a Python task",
				name, about.GetId().GetName(), name)
		}
	}
	return nil
}

func find(containers []corev1.Container, name string) *corev1.Container {
	for i := range containers {
		if containers[i].Name == name {
			return &containers[i]
		}
	}
	return nil
}

// account is the run's choice before the author's; empty is the namespace's default.
func (a *Attempt) account() string {
	for _, context := range []*core.SecurityContext{a.Run.GetSecurityContext(), a.Spec.GetTaskTemplate().GetSecurityContext()} {
		if account := context.GetRunAs().GetK8SServiceAccount(); account != "" {
			return account
		}
	}
	return ""
}

// identify writes names where people and programs look for them. What is ours
// stands above what the author and the run wish for.
func (a *Attempt) identify(pod *corev1.Pod, primary string) {
	spec, metadata := &a.Action.Spec, a.Spec.GetTaskTemplate().GetMetadata().GetMetadata()
	labels, annotations := map[string]string{}, map[string]string{}
	for _, more := range []map[string]string{pod.Labels, metadata.GetLabels(), a.Run.GetLabels().GetValues()} {
		maps.Copy(labels, more)
	}
	for _, more := range []map[string]string{pod.Annotations, metadata.GetAnnotations(), a.Run.GetAnnotations().GetValues()} {
		maps.Copy(annotations, more)
	}
	maps.Copy(labels, map[string]string{
		v1alpha1.LabelOrganization: spec.Organization,
		v1alpha1.LabelProject:      spec.Project,
		v1alpha1.LabelDomain:       spec.Domain,
		v1alpha1.LabelRun:          spec.Run,
		v1alpha1.LabelAction:       spec.Action,
		v1alpha1.LabelAttempt:      strconv.Itoa(int(a.Number)),
		v1alpha1.LabelManaged:      "true",
		v1alpha1.LabelExecutionID:  spec.Run,
		"flyte.org/task-name":      labelValue(spec.TaskName),
	})
	for _, wished := range []map[string]string{labels, annotations} {
		maps.DeleteFunc(wished, func(name, _ string) bool { return strings.HasPrefix(name, ownPrefix) })
	}
	annotations["primary_container_name"] = primary
	if _, ok := annotations[safeToEvict]; !ok {
		annotations[safeToEvict] = "false"
	}
	pod.Labels, pod.Annotations = labels, annotations
	controller := true
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "TaskAction", Name: a.Action.Name, UID: a.Action.UID, Controller: &controller}}
}

// ownPrefix is of what we write on pods, such as that their logs are kept.
const ownPrefix = "biplane.dev/"

// safeToEvict keeps the cluster's autoscaler from emptying a node under a task.
const safeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"

// labelValue makes a text a label's value: at most 63 letters, digits and "-_.",
// a letter or digit at both ends.
func labelValue(text string) string {
	value := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, text)
	return strings.Trim(value[:min(len(value), 63)], "-_.")
}
