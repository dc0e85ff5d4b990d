package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/node"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// startNode runs a node of its own in the test, until it ends.
func startNode(t *testing.T, name string) (stop func()) {
	t.Helper()
	spec, err := shared.nodeSpec(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := node.ParseFlags(spec.Args[1:])
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx, cfg) }()
	for started := time.Now(); spec.Ready(t.Context()) != nil; {
		select {
		case err := <-done:
			t.Fatalf("the node ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(started) > time.Minute {
			t.Fatalf("the node is not ready after a minute: %v", spec.Ready(t.Context()))
		}
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got the node ending with %v, want nil", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// create makes a pod of a spec in YAML, on a node.
func create(t *testing.T, onNode, name, spec string) *v1.Pod {
	t.Helper()
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &pod.Spec); err != nil {
		t.Fatal(err)
	}
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Image == "" {
			pod.Spec.Containers[i].Image = "host"
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Image == "" {
			pod.Spec.InitContainers[i].Image = "host"
		}
	}
	pod.Spec.NodeSelector = map[string]string{v1.LabelHostname: onNode}
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		one := int64(1)
		pod.Spec.TerminationGracePeriodSeconds = &one
	}
	made, err := shared.client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shared.client.CoreV1().Pods("default").Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	return made
}

// await waits for a pod to be as wanted.
func await(t *testing.T, name, what string, wanted func(*v1.Pod) bool) *v1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	source := cache.NewListWatchFromClient(shared.client.CoreV1().RESTClient(), "pods", "default", fields.OneTermEqualSelector("metadata.name", name))
	var last *v1.Pod
	_, err := watchtools.UntilWithSync(ctx, source, &v1.Pod{}, nil, func(event watch.Event) (bool, error) {
		pod, ok := event.Object.(*v1.Pod)
		if !ok {
			return false, nil
		}
		last = pod
		return event.Type != watch.Deleted && wanted(pod), nil
	})
	if err != nil {
		got := "nothing"
		if last != nil {
			text, _ := yaml.Marshal(last.Status)
			got = string(text)
		}
		t.Fatalf("pod %s: got %s\nwant it %s: %v", name, got, what, err)
	}
	return last
}

func ended(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}

func running(pod *v1.Pod) bool {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Running == nil {
			return false
		}
	}
	return len(pod.Status.ContainerStatuses) > 0
}

func finished(t *testing.T, pod *v1.Pod) *v1.ContainerStateTerminated {
	t.Helper()
	if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Terminated == nil {
		t.Fatalf("got %+v, want its container terminated", pod.Status)
	}
	return pod.Status.ContainerStatuses[0].State.Terminated
}

func logOf(t *testing.T, name string) string {
	t.Helper()
	out, err := shared.client.CoreV1().Pods("default").GetLogs(name, &v1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// awaitLog waits until a pod has said something.
func awaitLog(t *testing.T, name, text string) {
	t.Helper()
	await(t, name, "running", running)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := shared.client.CoreV1().Pods("default").GetLogs(name, &v1.PodLogOptions{Follow: true}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var said strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(said.String(), text) {
		n, err := stream.Read(buffer)
		said.Write(buffer[:n])
		if err != nil {
			t.Fatalf("got the log %q, want %q in it: %v", said.String(), text, err)
		}
	}
}

// remove deletes a pod and waits until the API server has it no more.
func remove(t *testing.T, pod *v1.Pod) time.Duration {
	t.Helper()
	began := time.Now()
	if err := shared.client.CoreV1().Pods("default").Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for {
		_, err := shared.client.CoreV1().Pods("default").Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return time.Since(began)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// gone waits until nothing of a pod is left in the node's folder.
func gone(t *testing.T, onNode string, uid types.UID) {
	t.Helper()
	dir := filepath.Join(shared.folder.Node(onNode), "pods", string(uid))
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %s still there after the pod was deleted, want nothing of it", dir)
		}
	}
}

// alive counts the machine's processes that have text in their arguments.
func alive(t *testing.T, text string) (count int) {
	t.Helper()
	lists, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		if args, err := os.ReadFile(list); err == nil && strings.Contains(string(args), text) && !strings.Contains(list, fmt.Sprintf("/%d/", os.Getpid())) {
			count++
		}
	}
	return count
}

func TestPods(t *testing.T) {
	const on = "pods-node"
	startNode(t, on)

	t.Run("a pod", func(t *testing.T) {
		t.Run("is over soon after it was made", func(t *testing.T) {
			began := time.Now()
			create(t, on, "short", `{restartPolicy: Never, containers: [{name: c, command: ["/bin/true"]}]}`)
			pod := await(t, "short", "succeeded", ended)
			t.Logf("done %v after it was made", time.Since(began).Round(time.Millisecond))
			if got := finished(t, pod); pod.Status.Phase != v1.PodSucceeded || got.ExitCode != 0 || got.Reason != "Completed" {
				t.Errorf("got %s, %d, %s, want Succeeded, 0, Completed", pod.Status.Phase, got.ExitCode, got.Reason)
			}
		})
		t.Run("leaves nothing when it is deleted", func(t *testing.T) {
			t.Parallel()
			pod := create(t, on, "leaves", `{restartPolicy: Never, volumes: [{name: v, emptyDir: {}}, {name: m, emptyDir: {medium: Memory}}],
				containers: [{name: c, command: [sh, -c, "mkdir /v/d; touch /v/d/f; chmod 0 /v/d; touch /m/f"], volumeMounts: [{name: v, mountPath: /v}, {name: m, mountPath: /m}]}]}`)
			await(t, "leaves", "succeeded", ended)
			remove(t, pod)
			gone(t, on, pod.UID)
		})
		t.Run("is killed when it ignores SIGTERM", func(t *testing.T) {
			t.Parallel()
			pod := create(t, on, "stubborn", `{terminationGracePeriodSeconds: 3, containers: [{name: c, command: [sh, -c, "trap '' TERM; echo up; while :; do sleep 1; done"]}]}`)
			awaitLog(t, "stubborn", "up")
			if took := remove(t, pod); took < 2*time.Second {
				t.Errorf("got it deleted after %v, want the 3 s of grace", took)
			}
		})
		t.Run("takes the daemons that it forked with it", func(t *testing.T) {
			t.Parallel()
			pod := create(t, on, "daemons", `{containers: [{name: c, command: [sh, -c, "for i in 1 2 3; do setsid sleep 98761$i & done; echo up; trap 'exit 0' TERM; while :; do sleep 1; done"]}]}`)
			awaitLog(t, "daemons", "up")
			// They are forked when it says so, and a moment later they are sleep.
			for deadline := time.Now().Add(time.Minute); alive(t, "sleep\x0098761") != 3; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("got %d daemons, want 3", alive(t, "sleep\x0098761"))
				}
			}
			remove(t, pod)
			if got := alive(t, "sleep\x0098761"); got != 0 {
				t.Errorf("got %d daemons after the pod was deleted, want none", got)
			}
		})
		t.Run("keeps 50 MiB of a log of a gigabyte", func(t *testing.T) {
			t.Parallel()
			pod := create(t, on, "verbose", `{restartPolicy: Never, containers: [{name: c, command: [sh, -c, "yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789 | head -c 1073741824; echo the end"]}]}`)
			await(t, "verbose", "ended", ended)
			var size int64
			files, err := os.ReadDir(filepath.Join(shared.folder.Node(on), "pods", string(pod.UID), "logs", "c"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				info, err := file.Info()
				if err != nil {
					t.Fatal(err)
				}
				size += info.Size()
			}
			if size < 10<<20 || size > 50<<20 {
				t.Errorf("got %d bytes of log, want between 10 and 50 MiB", size)
			}
			if tail := logOf(t, "verbose"); !strings.HasSuffix(tail, "the end\n") {
				t.Errorf("got a log that ends with %q, want its last line", tail[max(0, len(tail)-100):])
			}
		})
		t.Run("has ten thousand variables", func(t *testing.T) {
			t.Parallel()
			var spec strings.Builder
			spec.WriteString("{restartPolicy: Never, containers: [{name: c, command: [sh, -c, \"env | grep -c ^MANY_; env | grep ^LAST\"], env: [")
			for i := range 10000 {
				fmt.Fprintf(&spec, "{name: MANY_%d, value: v%d}, ", i, i)
			}
			spec.WriteString("{name: LAST, value: $(MANY_9999)}]}]}")
			create(t, on, "many", spec.String())
			await(t, "many", "ended", ended)
			if got, want := logOf(t, "many"), "10000\nLAST=v9999\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
		t.Run("keeps the files of a secret that is deleted", func(t *testing.T) {
			t.Parallel()
			secrets := shared.client.CoreV1().Secrets("default")
			if _, err := secrets.Create(t.Context(), &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "fleeting"}, StringData: map[string]string{"key": "value"}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			create(t, on, "keeps", `{restartPolicy: Never, volumes: [{name: s, secret: {secretName: fleeting}}, {name: v, emptyDir: {}}],
				containers: [{name: c, command: [sh, -c, "echo up; sleep 15; cat /s/key; echo"], volumeMounts: [{name: s, mountPath: /s}]}]}`)
			awaitLog(t, "keeps", "up")
			if err := secrets.Delete(t.Context(), "fleeting", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			pod := await(t, "keeps", "ended", ended)
			if got, want := logOf(t, "keeps"), "up\nvalue\n"; got != want || pod.Status.Phase != v1.PodSucceeded {
				t.Errorf("got %s with %q, want Succeeded with %q", pod.Status.Phase, got, want)
			}
		})
		t.Run("is OOMKilled when it fills its memory", func(t *testing.T) {
			t.Parallel()
			create(t, on, "greedy", `{restartPolicy: Never, containers: [{name: c, resources: {limits: {memory: 64Mi}}, command: [sh, -c, "x=0123456789abcdef; while :; do x=$x$x; done"]}]}`)
			pod := await(t, "greedy", "ended", ended)
			if got := finished(t, pod); got.Reason != "OOMKilled" || got.ExitCode != 137 {
				t.Errorf("got %s, exit code %d, want OOMKilled, 137", got.Reason, got.ExitCode)
			}
		})
		t.Run("cannot mount the sandbox's own folder, nor any that is not allowed", func(t *testing.T) {
			t.Parallel()
			other, err := sandbox.FolderOf(t.TempDir(), "other")
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.MkdirAll(other.PKI(), 0o700), os.WriteFile(other.RecordFile(), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			for name, path := range map[string]string{"other": other.PKI(), "keys": shared.folder.PKI(), "around": filepath.Dir(string(shared.folder)), "etc": "/etc"} {
				create(t, on, "host-"+name, fmt.Sprintf(`{volumes: [{name: v, hostPath: {path: %q}}], containers: [{name: c, command: ["true"], volumeMounts: [{name: v, mountPath: /v}]}]}`, path))
				text := awaitEvent(t, "host-"+name, "FailedMount")
				if !strings.Contains(text, path) || !strings.Contains(text, "name a folder") {
					t.Errorf("got %q, want a refusal of %s that says what to do", text, path)
				}
			}
		})
		t.Run("gets containers for debugging", func(t *testing.T) {
			t.Parallel()
			create(t, on, "debugged", `{containers: [{name: c, command: [sleep, "765432"]}]}`)
			pod := await(t, "debugged", "running", running)
			pod.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{
				Name: "look", Image: "host", Command: []string{"sh", "-c", "echo looked; exit 4"},
			}}}
			if _, err := shared.client.CoreV1().Pods("default").UpdateEphemeralContainers(t.Context(), "debugged", pod, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			pod = await(t, "debugged", "with an ended container for debugging", func(pod *v1.Pod) bool {
				all := pod.Status.EphemeralContainerStatuses
				return len(all) == 1 && all[0].State.Terminated != nil
			})
			if got := pod.Status.EphemeralContainerStatuses[0]; got.State.Terminated.ExitCode != 4 || got.RestartCount != 0 || pod.Status.Phase != v1.PodRunning {
				t.Errorf("got %s with %+v, want it ended with 4 beside a pod that runs", pod.Status.Phase, got)
			}
			out, err := shared.client.CoreV1().Pods("default").GetLogs("debugged", &v1.PodLogOptions{Container: "look"}).DoRaw(t.Context())
			if err != nil || string(out) != "looked\n" {
				t.Errorf("got the log %q (%v), want %q", out, err, "looked\n")
			}
		})
		t.Run("is ready when its readiness gate says so, too", func(t *testing.T) {
			t.Parallel()
			create(t, on, "gated", `{readinessGates: [{conditionType: example.com/open}], containers: [{name: c, command: [sleep, "765432"]}]}`)
			pod := await(t, "gated", "ready but for its gate", func(pod *v1.Pod) bool { return conditionIs(pod, v1.ContainersReady, v1.ConditionTrue) })
			if !conditionIs(pod, v1.PodReady, v1.ConditionFalse) {
				t.Errorf("got conditions %+v, want it not ready before its gate", pod.Status.Conditions)
			}
			patch := `{"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}}`
			if _, err := shared.client.CoreV1().Pods("default").Patch(t.Context(), "gated", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
				t.Fatal(err)
			}
			await(t, "gated", "ready", func(pod *v1.Pod) bool {
				return conditionIs(pod, v1.PodReady, v1.ConditionTrue) && conditionIs(pod, "example.com/open", v1.ConditionTrue)
			})
		})
		t.Run("is probed by gRPC", func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served, answers := grpc.NewServer(), health.NewServer()
			healthpb.RegisterHealthServer(served, answers)
			answers.SetServingStatus("one", healthpb.HealthCheckResponse_NOT_SERVING)
			go func() { _ = served.Serve(listener) }()
			t.Cleanup(served.Stop)
			create(t, on, "grpc", fmt.Sprintf(`{containers: [{name: c, command: [sleep, "765432"], readinessProbe: {grpc: {port: %d, service: one}, periodSeconds: 1}}]}`,
				listener.Addr().(*net.TCPAddr).Port))
			if text := awaitEvent(t, "grpc", "Unhealthy"); !strings.Contains(text, "NOT_SERVING") {
				t.Errorf("got %q, want what the service answers", text)
			}
			answers.SetServingStatus("one", healthpb.HealthCheckResponse_SERVING)
			await(t, "grpc", "ready", func(pod *v1.Pod) bool { return conditionIs(pod, v1.PodReady, v1.ConditionTrue) })
		})
		t.Run("is evicted when it has more on disk than it may", func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]struct{ spec, message string }{
				"volume": {`{volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}], containers: [{name: c, command: [sh, -c, "head -c 3000000 /dev/urandom > /v/f; sleep 765432"], volumeMounts: [{name: v, mountPath: /v}]}]}`,
					`Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
				"root": {`{containers: [{name: c, resources: {limits: {ephemeral-storage: 1Mi}}, command: [sh, -c, "head -c 3000000 /dev/urandom > /var/tmp/f; sleep 765432"]}]}`,
					`Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. `},
			} {
				create(t, on, "evicted-"+name, test.spec)
				pod := await(t, "evicted-"+name, "ended", ended)
				if pod.Status.Phase != v1.PodFailed || pod.Status.Reason != "Evicted" || pod.Status.Message != test.message {
					t.Errorf("got %s, %s, %q, want Failed, Evicted, %q", pod.Status.Phase, pod.Status.Reason, pod.Status.Message, test.message)
				}
			}
		})
		t.Run("is rejected where it was put past the scheduler and does not fit", func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]struct{ spec, reason string }{
				"fits":  {`{restartPolicy: Never, containers: [{name: c, image: host, command: ["true"]}]}`, ""},
				"cpu":   {`{restartPolicy: Never, containers: [{name: c, image: host, command: ["true"], resources: {requests: {cpu: "65"}}}]}`, "OutOfcpu"},
				"label": {`{restartPolicy: Never, nodeSelector: {a: b}, containers: [{name: c, image: host, command: ["true"]}]}`, "NodeAffinity"},
			} {
				pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "put-" + name, Namespace: "default"}}
				if err := yaml.UnmarshalStrict([]byte(test.spec), &pod.Spec); err != nil {
					t.Fatal(err)
				}
				pod.Spec.NodeName = on
				if _, err := shared.client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				pod = await(t, pod.Name, "ended", ended)
				if test.reason == "" && pod.Status.Phase != v1.PodSucceeded || pod.Status.Reason != test.reason {
					t.Errorf("%s: got %s, %q, %q, want the reason %q", name, pod.Status.Phase, pod.Status.Reason, pod.Status.Message, test.reason)
				}
				if test.reason != "" && (pod.Status.Phase != v1.PodFailed || len(pod.Status.ContainerStatuses) != 0 || !strings.HasPrefix(pod.Status.Message, "Pod was rejected: ")) {
					t.Errorf("%s: got %+v, want it Failed before anything of it was made", name, pod.Status)
				}
				remove(t, pod)
			}
		})
		t.Run("is rejected where it is for another operating system", func(t *testing.T) {
			t.Parallel()
			create(t, on, "windows", `{os: {name: windows}, restartPolicy: Never, containers: [{name: c, image: host, command: ["true"]}]}`)
			if pod := await(t, "windows", "ended", ended); pod.Status.Phase != v1.PodFailed || pod.Status.Reason != "PodOSNotSupported" {
				t.Errorf("got %s, %q, %q, want Failed, PodOSNotSupported", pod.Status.Phase, pod.Status.Reason, pod.Status.Message)
			}
		})
		t.Run("is run again with another image, as many others are at the same time", func(t *testing.T) {
			t.Parallel()
			var names []string
			for i := range 24 {
				names = append(names, fmt.Sprintf("changed-%d", i))
				create(t, on, names[i], `{restartPolicy: Never, containers: [{name: c, command: [sh, -c, "trap 'exit 3' TERM; echo up; sleep 765432 & wait"]}]}`)
			}
			for _, name := range names {
				awaitLog(t, name, "up")
			}
			for _, name := range names {
				patch := `[{"op": "replace", "path": "/spec/containers/0/image", "value": "docker.io/library/host"}]`
				if _, err := shared.client.CoreV1().Pods("default").Patch(t.Context(), name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range names {
				await(t, name, "running again", func(pod *v1.Pod) bool {
					return len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].RestartCount == 1 && running(pod)
				})
			}
		})
		t.Run("is told what to do about a volume that is not to be had", func(t *testing.T) {
			t.Parallel()
			create(t, on, "nfs", `{volumes: [{name: v, nfs: {server: x, path: /}}], containers: [{name: c, command: ["true"], volumeMounts: [{name: v, mountPath: /v}]}]}`)
			if text := awaitEvent(t, "nfs", "FailedMount"); !strings.Contains(text, "kind nfs") || !strings.Contains(text, "--node kubelet") {
				t.Errorf("got %q, want the kind and the remedy", text)
			}
		})
	})
}

func conditionIs(pod *v1.Pod, kind v1.PodConditionType, status v1.ConditionStatus) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition.Status == status
		}
	}
	return false
}

// awaitEvent waits for an event of a pod, and returns its message.
func awaitEvent(t *testing.T, pod, reason string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	selector := fields.AndSelectors(fields.OneTermEqualSelector("involvedObject.name", pod), fields.OneTermEqualSelector("reason", reason))
	source := cache.NewListWatchFromClient(shared.client.CoreV1().RESTClient(), "events", "default", selector)
	event, err := watchtools.UntilWithSync(ctx, source, &v1.Event{}, nil, func(watch.Event) (bool, error) { return true, nil })
	if err != nil {
		t.Fatalf("got no event %s of pod %s: %v", reason, pod, err)
	}
	return event.Object.(*v1.Event).Message
}

// TestStoppedNode stops one of two nodes as down does and starts it again as up
// does, beside another that goes on.
func TestStoppedNode(t *testing.T) {
	const on, beside = "stopped-node", "other-node"
	startNode(t, beside)
	stop := startNode(t, on)
	create(t, beside, "untouched", `{containers: [{name: c, command: [sleep, "765433"]}]}`)
	pod := create(t, on, "resumed", `{initContainers: [{name: i, command: [sh, -c, "echo x >> /v/inits"], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {}}],
		containers: [{name: c, command: [sh, -c, "echo up; sleep 765433"]}]}`)
	create(t, on, "broken-off", `{restartPolicy: Never, containers: [{name: c, command: [sh, -c, "echo up; sleep 765433"]}]}`)
	for _, name := range []string{"untouched", "resumed", "broken-off"} {
		await(t, name, "running", running)
	}
	stop()
	if got := alive(t, "sleep\x00765433"); got != 1 {
		t.Errorf("got %d processes of pods after one node stopped, want that of the other's pod", got)
	}
	startNode(t, on)
	await(t, "resumed", "restarted and running", func(pod *v1.Pod) bool { return running(pod) && pod.Status.ContainerStatuses[0].RestartCount == 1 })
	if got, err := os.ReadFile(filepath.Join(shared.folder.Node(on), "pods", string(pod.UID), "volumes", "v", "inits")); string(got) != "x\nx\n" {
		t.Errorf("got %q (%v) written by init containers, want them run again", got, err)
	}
	if broken := await(t, "broken-off", "ended", ended); broken.Status.Phase != v1.PodFailed || finished(t, broken).ExitCode != 137 {
		t.Errorf("got %+v, want it Failed with 137", broken.Status)
	}
	if other := await(t, "untouched", "running", running); other.Status.ContainerStatuses[0].RestartCount != 0 || other.Spec.NodeName != beside {
		t.Errorf("got %d restarts on %s, want none on %s", other.Status.ContainerStatuses[0].RestartCount, other.Spec.NodeName, beside)
	}
}

// TestKilledNode kills a node of its own, and sees what becomes of its pods when
// it is started again.
func TestKilledNode(t *testing.T) {
	const on = "killed-node"
	spec, err := shared.nodeSpec(on)
	if err != nil {
		t.Fatal(err)
	}
	part := component.New(spec, shared.host)
	t.Cleanup(func() { part.Stop(sandbox.ComponentStopped) })
	part.Start()
	if err := part.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	create(t, on, "goes-on", `{initContainers: [{name: i, command: [sh, -c, "echo x >> /v/inits"], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {}}],
		containers: [{name: c, command: [sh, -c, "echo x >> /v/runs; echo up; sleep 765431"], volumeMounts: [{name: v, mountPath: /v}]}]}`)
	create(t, on, "fails", `{restartPolicy: Never, containers: [{name: c, command: [sh, -c, "echo up; sleep 765431"]}]}`)
	create(t, on, "done", `{restartPolicy: Never, containers: [{name: c, command: [sh, -c, "echo said before"]}]}`)
	orphan := create(t, on, "orphan", `{containers: [{name: c, command: [sh, -c, "sleep 765431"]}]}`)
	await(t, "done", "succeeded", ended)
	for _, name := range []string{"goes-on", "fails", "orphan"} {
		await(t, name, "running", running)
	}

	pid := part.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	zero := int64(0)
	if err := shared.client.CoreV1().Pods("default").Delete(t.Context(), "orphan", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	pod := await(t, "goes-on", "restarted and running", func(pod *v1.Pod) bool { return running(pod) && pod.Status.ContainerStatuses[0].RestartCount == 1 })
	if got := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; got == nil || got.ExitCode != 137 || got.Reason != "ContainerStatusUnknown" {
		t.Errorf("got the last state %+v, want exit code 137, ContainerStatusUnknown", got)
	}
	if got := pod.Status.InitContainerStatuses[0].RestartCount; got != 1 {
		t.Errorf("got %d restarts of the init container, want 1", got)
	}
	for name, want := range map[string]string{"inits": "x\nx\n", "runs": "x\nx\n"} {
		got, err := os.ReadFile(filepath.Join(shared.folder.Node(on), "pods", string(pod.UID), "volumes", "v", name))
		if err != nil || string(got) != want {
			t.Errorf("got %s %q (%v), want %q: the volume stays, and the pod begins anew", name, got, err, want)
		}
	}
	pod = await(t, "fails", "failed", ended)
	if got := finished(t, pod); pod.Status.Phase != v1.PodFailed || got.ExitCode != 137 {
		t.Errorf("got %s, exit code %d, want Failed, 137", pod.Status.Phase, got.ExitCode)
	}
	if got, want := logOf(t, "done"), "said before\n"; got != want {
		t.Errorf("got the log %q of a pod that had ended, want %q", got, want)
	}
	gone(t, on, orphan.UID)
	if got := alive(t, "sleep\x00765431"); got != 1 {
		t.Errorf("got %d processes of pods, want that of the one that goes on", got)
	}
}
