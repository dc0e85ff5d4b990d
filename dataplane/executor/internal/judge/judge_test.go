package judge

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// TestPod is the table of failures: what is seen of a pod, and what that means.
func TestPod(t *testing.T) {
	t.Parallel()
	const (
		user, system, permanent = "user", "system", "none"
		longAgo, justNow        = "2026-05-04T02:00:00Z", "2026-05-04T03:02:00Z"
	)
	scheduled := func(rest string) string { return "phase: Pending\nstartTime: " + justNow + "\n" + rest }
	for _, test := range []struct {
		name, status string
		phase        v1alpha1.Phase
		code         string
		kind         v1alpha1.ErrorKind
		budget       string
		says         string
	}{
		{"it is queued before the scheduler has looked", "phase: Pending", v1alpha1.Queued, "", "", "", ""},
		{"it waits for resources where no node has them", `
phase: Pending
conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/3 nodes are available"}]`, v1alpha1.WaitingForResources, "", "", "", "0/3 nodes"},
		{"it initialises on its node", scheduled("node: n"), v1alpha1.Initializing, "", "", "", ""},
		{"it initialises while an init container runs", scheduled("node: n\ninitContainerStatuses: [{name: i, state: {running: {}}}]\ncontainerStatuses: [{name: main, state: {waiting: {reason: PodInitializing}}}]"), v1alpha1.Initializing, "", "", "", ""},
		{"it runs once its primary container does", "node: n\nphase: Running\ncontainerStatuses: [{name: side, state: {waiting: {}}}, {name: main, state: {running: {}}}]", v1alpha1.Running, "", "", "", ""},
		{"it does not run while only a sidecar does", "node: n\nphase: Running\ncontainerStatuses: [{name: side, state: {running: {}}}, {name: main, state: {waiting: {reason: ContainerCreating}}}]", v1alpha1.Initializing, "", "", "", ""},
		{"it ended well when its primary container did, whatever the others do", "node: n\nphase: Running\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 0}}}, {name: side, state: {running: {}}}]", v1alpha1.Succeeded, "", "", "", ""},
		{"it ended well when its node only says so", "node: n\nphase: Succeeded", v1alpha1.Succeeded, "", "", "", ""},

		{"it was killed for its memory", "phase: Failed\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 137, reason: OOMKilled}}}]", v1alpha1.Failed, "OOMKilled", v1alpha1.UserError, user, "limit of 1Gi"},
		{"it was killed, and not for its memory", "phase: Failed\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 137, reason: Error}}}]", v1alpha1.Failed, "Interrupted", v1alpha1.SystemError, system, "137"},
		{"it was killed, as some runtimes count", "phase: Failed\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 247, reason: Error}}}]", v1alpha1.Failed, "Interrupted", v1alpha1.SystemError, system, "247"},
		{"its node was restarted", "phase: Failed\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 137, reason: ContainerStatusUnknown}}}]", v1alpha1.Failed, "Interrupted", v1alpha1.SystemError, system, ""},
		{"it was evicted", "phase: Failed\nreason: Evicted\nmessage: The node was low on resource", v1alpha1.Failed, "Evicted", v1alpha1.SystemError, system, "low on resource"},
		{"it was evicted, and ended by itself at that", "phase: Failed\nreason: Evicted\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 1}}}]", v1alpha1.Failed, "Evicted", v1alpha1.SystemError, system, ""},
		{"its node shut down, as older kubelets say", "phase: Failed\nreason: Shutdown", v1alpha1.Failed, "Shutdown", v1alpha1.SystemError, system, ""},
		{"it made room for a critical one", "phase: Failed\nreason: Preempting", v1alpha1.Failed, "Preempting", v1alpha1.SystemError, system, ""},
		{"its node does not know why", "phase: Failed\nreason: UnknownError", v1alpha1.Failed, "UnknownError", v1alpha1.SystemError, system, ""},
		{"its node was shut down", "phase: Failed\nreason: Terminated", v1alpha1.Failed, "Terminated", v1alpha1.SystemError, system, ""},
		{"its node was going to be shut down", "phase: Failed\nreason: NodeShutdown", v1alpha1.Failed, "NodeShutdown", v1alpha1.SystemError, system, ""},
		{"its node was not the one", "phase: Failed\nreason: NodeAffinity", v1alpha1.Failed, "NodeAffinity", v1alpha1.SystemError, system, ""},
		{"its node had no room after all", "phase: Failed\nreason: OutOfcpu", v1alpha1.Failed, "OutOfcpu", v1alpha1.SystemError, system, ""},
		{"it was preempted", "phase: Failed\nconditions: [{type: DisruptionTarget, status: \"True\", reason: PreemptionByScheduler}]\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 143}}}]", v1alpha1.Failed, "Interrupted", v1alpha1.SystemError, system, "PreemptionByScheduler"},
		{"it failed and nobody knows why", "phase: Failed", v1alpha1.Failed, "PodFailed", v1alpha1.SystemError, system, ""},
		{"its template's own deadline was over", "phase: Failed\nreason: DeadlineExceeded\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 137}}}]", v1alpha1.Failed, "DeadlineExceeded", v1alpha1.UserError, user, "activeDeadlineSeconds"},
		{"its program failed", "phase: Failed\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 2, message: \"it said so\"}}}]", v1alpha1.Failed, "NonZeroExitCode", v1alpha1.UserError, user, "exit code 2: it said so"},
		{"its program left the end of a long log", "phase: Failed\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 2, message: \"" + strings.Repeat("x", 2000) + "\\n" + strings.Repeat("y", 46) + "\\n\"}}}]", v1alpha1.Failed, "NonZeroExitCode", v1alpha1.UserError, user, "exit code 2: yyy"},
		{"its program was not there", "phase: Failed\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 128, reason: StartError}}}]", v1alpha1.Failed, "ContainerCannotRun", v1alpha1.UserError, user, ""},
		{"its init container failed", "phase: Failed\ninitContainerStatuses: [{name: i, state: {terminated: {exitCode: 3}}}]\ncontainerStatuses: [{name: main, state: {waiting: {reason: PodInitializing}}}]", v1alpha1.Failed, "InitContainerFailed", v1alpha1.UserError, user, `"i"`},

		{"its image has a name that none can have", scheduled("node: n\ncontainerStatuses: [{name: main, image: \"X//y\", state: {waiting: {reason: InvalidImageName}}}]"), v1alpha1.Failed, "InvalidImageName", v1alpha1.UserError, permanent, `"X//y"`},
		{"its image may yet be pulled", scheduled("node: n\ncontainerStatuses: [{name: main, image: i, state: {waiting: {reason: ErrImagePull, message: not found}}}]"), v1alpha1.Initializing, "", "", "", "cannot be pulled"},
		{"its image was not pulled for too long", "phase: Pending\nnode: n\nstartTime: " + longAgo + "\ncontainerStatuses: [{name: main, image: i, state: {waiting: {reason: ImagePullBackOff}}}]", v1alpha1.Failed, "ImagePullBackOff", v1alpha1.UserError, user, ""},
		{"the image of its init container was not pulled for too long", "phase: Pending\nnode: n\nstartTime: " + longAgo + "\ninitContainerStatuses: [{name: i, image: i, state: {waiting: {reason: ImagePullBackOff}}}]", v1alpha1.Failed, "ImagePullBackOff", v1alpha1.UserError, user, ""},
		{"its image may yet be pulled after a long initialisation", "phase: Pending\nnode: n\nstartTime: " + longAgo + "\ninitContainerStatuses: [{name: i, state: {terminated: {exitCode: 0, startedAt: " + longAgo + ", finishedAt: " + justNow + "}}}]\ncontainerStatuses: [{name: main, image: i, state: {waiting: {reason: ErrImagePull, message: not found}}}]", v1alpha1.Initializing, "", "", "", "cannot be pulled"},
		{"its image may yet be pulled after another one was, for long", "phase: Pending\nnode: n\nstartTime: " + longAgo + "\ncontainerStatuses: [{name: side, state: {running: {startedAt: " + justNow + "}}}, {name: main, image: i, state: {waiting: {reason: ErrImagePull, message: not found}}}]", v1alpha1.Initializing, "", "", "", "cannot be pulled"},
		{"its registry was asked too much", "phase: Pending\nnode: n\nstartTime: " + longAgo + "\ncontainerStatuses: [{name: main, image: i, state: {waiting: {reason: ErrImagePull, message: \"toomanyrequests: You have reached your pull rate limit\"}}}]", v1alpha1.Failed, "ImagePullBackOff", v1alpha1.SystemError, system, ""},
		{"its configuration is not there", scheduled("node: n\ncontainerStatuses: [{name: main, state: {waiting: {reason: CreateContainerConfigError, message: secret x not found}}}]"), v1alpha1.Failed, "CreateContainerConfigError", v1alpha1.UserError, permanent, "secret x"},
		{"its container may yet be made", scheduled("node: n\ncontainerStatuses: [{name: main, state: {waiting: {reason: CreateContainerError}}}]"), v1alpha1.Initializing, "", "", "", ""},
		{"its container was not made for too long", "phase: Pending\nnode: n\nstartTime: " + longAgo + "\ncontainerStatuses: [{name: main, state: {waiting: {reason: CreateContainerError}}}]", v1alpha1.Failed, "CreateContainerError", v1alpha1.UserError, permanent, ""},

		{"its container was not run for too long", "phase: Pending\nnode: n\nstartTime: " + longAgo + "\ncontainerStatuses: [{name: main, state: {waiting: {reason: RunContainerError}}}]", v1alpha1.Failed, "RunContainerError", v1alpha1.UserError, permanent, ""},
		{"it is being deleted, and may end well", "node: n\nphase: Running\ndeleted: " + justNow + "\ncontainerStatuses: [{name: main, state: {running: {}}}]", v1alpha1.Running, "", "", "", "being deleted"},
		{"it was deleted, and its node says nothing", "node: n\nphase: Running\ndeleted: " + longAgo + "\ncontainerStatuses: [{name: main, state: {running: {}}}]", v1alpha1.Failed, "ResourceDeletedExternally", v1alpha1.SystemError, system, ""},
		{"it ended because it was deleted", "node: n\nphase: Failed\ndeleted: " + justNow + "\ncontainerStatuses: [{name: main, state: {terminated: {exitCode: 143}}}]", v1alpha1.Failed, "ResourceDeletedExternally", v1alpha1.SystemError, system, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := Pod(pod(t, test.status), "main", now, 3*time.Minute)
			if v.Phase != test.phase {
				t.Errorf("got phase %s, want %s", v.Phase, test.phase)
			}
			said := v.Message
			if v.Failure == nil {
				v.Failure = &Failure{}
			} else {
				said = v.Failure.Message
				if got := v.Failure.Budget.String(); got != test.budget {
					t.Errorf("got the budget %s, want %s", got, test.budget)
				}
				if v.Failure.Recoverable != (test.budget != permanent) {
					t.Errorf("got recoverable %v with the budget %s", v.Failure.Recoverable, test.budget)
				}
			}
			if v.Failure.Code != test.code || v.Failure.Kind != test.kind {
				t.Errorf("got %s %s, want %s %s", v.Failure.Kind, v.Failure.Code, test.kind, test.code)
			}
			if !strings.Contains(said, test.says) {
				t.Errorf("got %q, want %q in it", said, test.says)
			}
			if test.says == "cannot be pulled" && !v.Again.Equal(now.Add(3*time.Minute-time.Second)) {
				t.Errorf("got it looked at again at %s, want when the grace is over", v.Again)
			}
		})
	}
}

// pod has the status in YAML, with the node and the deletion among its fields.
func pod(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-time.Second))}}
	p.Spec.Containers = []corev1.Container{{Name: "side"}, {Name: "main", Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}}}
	if err := yaml.Unmarshal([]byte(text), &p.Status); err != nil {
		t.Fatal(err)
	}
	more := struct {
		Node    string       `json:"node"`
		Deleted *metav1.Time `json:"deleted"`
	}{}
	if err := yaml.Unmarshal([]byte(text), &more); err != nil {
		t.Fatal(err)
	}
	p.Spec.NodeName, p.DeletionTimestamp = more.Node, more.Deleted
	return p
}

func TestDocument(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		error  *core.ContainerError
		code   string
		kind   v1alpha1.ErrorKind
		budget Budget
	}{
		{"it is retried by the author's budget", &core.ContainerError{Code: "ValueError", Kind: core.ContainerError_RECOVERABLE, Origin: core.ExecutionError_USER}, "ValueError", v1alpha1.UserError, User},
		{"it is retried by the author's budget although the system is to blame", &core.ContainerError{Code: "Io", Kind: core.ContainerError_RECOVERABLE, Origin: core.ExecutionError_SYSTEM}, "Io", v1alpha1.SystemError, User},
		{"it is not retried", &core.ContainerError{Code: "ValueError", Origin: core.ExecutionError_USER}, "ValueError", v1alpha1.UserError, Permanent},
		{"it is the author's where nobody says whose", &core.ContainerError{Code: "E"}, "E", v1alpha1.UserError, Permanent},
		{"it has a code where none is written", nil, "Unknown", v1alpha1.UserError, Permanent},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := Document(test.error)
			if f.Code != test.code || f.Kind != test.kind || f.Budget != test.budget {
				t.Errorf("got %+v, want %s %s of the budget %s", f, test.kind, test.code, test.budget)
			}
		})
	}
}
