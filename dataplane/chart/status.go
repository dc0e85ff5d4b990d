package chart

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"biplane.dev/biplane/internal/usererr"
)

// processNames are the Deployments of a data plane, in the order in which they can
// be ready: the operator makes the certificates of the others.
var processNames = []string{"operator", "clustersync", "executor", "proxy"}

// Status is what a data plane is, as its cluster sees it. Its control plane's
// view is `biplane cluster show`.
type Status struct {
	Release   string    `json:"release"`
	Namespace string    `json:"namespace"`
	Revision  int       `json:"revision"`
	State     string    `json:"state"` // Helm's word: deployed, failed, pending-install, …
	Updated   time.Time `json:"updated"`
	Chart     string    `json:"chart"` // version
	Cluster   string    `json:"cluster"`
	Gateway   string    `json:"gateway"`
	// Joined: it has a certificate of its control plane.
	Joined    bool      `json:"joined"`
	Processes []Process `json:"processes"`
	// Manifest is what would be applied, of a dry run.
	Manifest string `json:"manifest,omitempty"`
}

// Process is one Deployment.
type Process struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	Image string `json:"image,omitempty"`
	// Message says why it is not ready.
	Message string `json:"message,omitempty"`
}

// Ready reports whether all of it is well.
func (s Status) Ready() bool {
	return s.State == string(release.StatusDeployed) && s.Joined &&
		!slices.ContainsFunc(s.Processes, func(p Process) bool { return !p.Ready })
}

// Read returns the status of a release.
func Read(ctx context.Context, t Target) (Status, error) {
	c, err := connect(t)
	if err != nil {
		return Status{}, err
	}
	last, err := c.lastRelease()
	if err != nil {
		return Status{}, err
	}
	if last == nil {
		return Status{}, c.notInstalled()
	}
	return c.statusOf(ctx, last)
}

func (c *cluster) statusOf(ctx context.Context, of *release.Release) (Status, error) {
	status := Status{Release: of.Name, Namespace: of.Namespace, Revision: of.Version, State: string(of.Info.Status), Updated: of.Info.LastDeployed.Time.UTC()}
	if of.Chart != nil && of.Chart.Metadata != nil {
		status.Chart = of.Chart.Metadata.Version
	}
	status.Cluster = clusterIn(of.Config)
	if section, ok := of.Config["controlPlane"].(map[string]any); ok {
		status.Gateway, _ = section["gateway"].(string)
	}
	var err error
	if status.Joined, err = c.joined(ctx); err != nil {
		return status, err
	}
	status.Processes, err = c.processes(ctx)
	return status, err
}

// processes looks at the Deployments and, where one is not ready, at its pods.
func (c *cluster) processes(ctx context.Context) ([]Process, error) {
	var all []Process
	for _, name := range processNames {
		deployment, err := c.kube.AppsV1().Deployments(c.namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			all = append(all, Process{Name: name, Message: "it is not installed"})
			continue
		}
		if err != nil {
			return nil, c.cannot("look at Deployment "+name, err)
		}
		process := Process{Name: name, Ready: ready(deployment)}
		if containers := deployment.Spec.Template.Spec.Containers; len(containers) > 0 {
			process.Image = containers[0].Image
		}
		if !process.Ready {
			if process.Message, err = c.whyNot(ctx, deployment); err != nil {
				return nil, err
			}
		}
		all = append(all, process)
	}
	return all, nil
}

// ready reports whether every pod is of the newest template and ready.
func ready(d *appsv1.Deployment) bool {
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	return d.Status.ObservedGeneration >= d.Generation &&
		d.Status.UpdatedReplicas == wanted && d.Status.AvailableReplicas == wanted && d.Status.Replicas == wanted
}

// whyNot is the most telling thing about a Deployment's pods.
func (c *cluster) whyNot(ctx context.Context, d *appsv1.Deployment) (string, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return "", fmt.Errorf("reading the selector of Deployment %s: %w", d.Name, err)
	}
	pods, err := c.kube.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String(), Limit: 20})
	if err != nil {
		return "", c.cannot("list the pods of Deployment "+d.Name, err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil {
			continue
		}
		if message := why(&pod); message != "" {
			return message, nil
		}
	}
	for _, condition := range d.Status.Conditions {
		if condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue {
			return condition.Message, nil
		}
	}
	if len(pods.Items) == 0 {
		return "its pod has not been made yet", nil
	}
	return "its pod starts", nil
}

func why(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return "no node takes its pod: " + condition.Message
		}
	}
	for _, container := range pod.Status.ContainerStatuses {
		switch state := container.State; {
		case state.Waiting != nil && state.Waiting.Reason == "CrashLoopBackOff" && container.LastTerminationState.Terminated != nil:
			return fmt.Sprintf("it ended %d times: %s", container.RestartCount, ending(container.LastTerminationState.Terminated))
		case state.Waiting != nil && !slices.Contains([]string{"ContainerCreating", "PodInitializing"}, state.Waiting.Reason):
			return strings.TrimSuffix(state.Waiting.Reason+": "+state.Waiting.Message, ": ")
		case state.Terminated != nil:
			return "it ended: " + ending(state.Terminated)
		case state.Running != nil && !container.Ready:
			return "it runs, and is not ready"
		}
	}
	return ""
}

// ending is the sentence with which one of our processes ends, on a line of its own
// after its log's, or the exit code.
func ending(of *corev1.ContainerStateTerminated) string {
	for line := range strings.Lines(of.Message) {
		if sentence, ok := strings.CutPrefix(line, "biplane-dataplane: "); ok {
			return strings.TrimSpace(sentence)
		}
	}
	return fmt.Sprintf("exit code %d", of.ExitCode)
}

// wait tells of each process once it is ready, and returns when all are and the
// data plane has joined.
func (c *cluster) wait(ctx context.Context, timeout time.Duration) (Status, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	told := map[string]string{}
	tell := func(name, line string) {
		if told[name] != line {
			told[name] = line
			c.progress(name + ": " + line)
		}
	}
	last, err := c.lastRelease()
	if err != nil {
		return Status{}, err
	}
	if last == nil {
		return Status{}, c.notInstalled() // somebody was quick, with Helm's command line
	}
	for {
		status, err := c.statusOf(ctx, last)
		if err != nil {
			return Status{}, err
		}
		for _, process := range status.Processes {
			if process.Ready {
				tell(process.Name, "ready")
			} else {
				tell(process.Name, process.Message)
			}
		}
		if status.Joined {
			tell("data plane", "joined "+status.Gateway)
		}
		if status.Ready() {
			return status, nil
		}
		select {
		case <-ctx.Done():
			return status, context.Cause(ctx)
		case <-deadline.C:
			return status, c.tooLong(status, timeout)
		case <-tick.C:
		}
	}
}

// tooLong names what the wait was for, and the last thing that it said.
func (c *cluster) tooLong(status Status, timeout time.Duration) error {
	for _, process := range status.Processes {
		if process.Ready {
			continue
		}
		sentence := usererr.New(usererr.Unavailable, "%s is not ready after %s: %s", process.Name, timeout, process.Message)
		return sentence.WithHint("look at 'kubectl --namespace %s logs deployment/%s'; then run the same command again, which goes on from here", c.namespace, process.Name)
	}
	return usererr.New(usererr.Unavailable, "the data plane has not joined %s after %s", status.Gateway, timeout).
		WithHint("look at 'kubectl --namespace %s logs deployment/operator'; a token that is spent or expired is replaced by 'biplane cluster add %s'", c.namespace, status.Cluster)
}
