package node_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/sandbox/internal/node"
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
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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

func TestFirst(t *testing.T) {
	startNode(t, "first")
	start := time.Now()
	create(t, "first", "true", `{restartPolicy: Never, containers: [{name: c, command: ["/bin/true"]}]}`)
	pod := await(t, "true", "ended", ended)
	t.Logf("took %v", time.Since(start))
	text, _ := yaml.Marshal(pod.Status)
	t.Logf("%s", text)
	create(t, "first", "sh", `{restartPolicy: Never, containers: [{name: c, command: [sh, -c, "id; ls -la / /var/run/secrets/kubernetes.io/serviceaccount; env; cat /etc/hosts; echo bye > /dev/termination-log; exit 3"]}]}`)
	pod = await(t, "sh", "ended", ended)
	text, _ = yaml.Marshal(pod.Status)
	t.Logf("%s", text)
	out, _ := shared.client.CoreV1().Pods("default").GetLogs("sh", &v1.PodLogOptions{}).DoRaw(t.Context())
	t.Logf("%s", out)
}
