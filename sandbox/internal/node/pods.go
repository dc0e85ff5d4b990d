package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/container"
	"biplane.dev/biplane/sandbox/internal/image"
)

// openRuntime readies what containers are made with and of. Whatever an earlier
// node left running or half done is gone after it.
func (n *node) openRuntime() (err error) {
	n.containers, err = container.Open(filepath.Join(n.cfg.Dir, "containers"))
	if err != nil {
		return err
	}
	n.images, err = image.Open(n.cfg.SandboxDir, n.cfg.Python)
	if err != nil {
		return fmt.Errorf("reading the sandbox's images: %w", err)
	}
	n.probers = newProbers()
	n.allocatable = n.status(v1.NodeStatus{}).Allocatable
	n.memoryDir = memoryDir(n.cfg.Dir)
	// As after a machine's restart, what was in memory is gone.
	if n.memoryDir != "" {
		return removeAll(n.memoryDir)
	}
	return nil
}

// memoryDir is where emptyDir volumes of medium Memory lie: on the memory file
// system that the machine has for everybody, in a folder of this node alone.
// Without one, which is said in docs/sandbox-node.md, they lie on disk.
func memoryDir(nodeDir string) string {
	memory := sandbox.NodeMemory(nodeDir)
	probe, err := os.MkdirTemp(filepath.Dir(memory), "biplane-*")
	if err != nil {
		return ""
	}
	os.Remove(probe)
	return memory
}

// runPods runs the pods that are bound to this node until ctx ends, and then
// kills every container.
func (n *node) runPods(ctx context.Context) error {
	if err := n.links.wait(ctx); err != nil {
		return nil
	}
	var workers sync.WaitGroup
	source := cache.NewListWatchFromClient(n.client.CoreV1().RESTClient(), "pods", v1.NamespaceAll, fields.OneTermEqualSelector("spec.nodeName", n.cfg.Name))
	seen := func(object any) { n.seePod(ctx, &workers, object.(*v1.Pod)) }
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source,
		ObjectType:    &v1.Pod{},
		Transform:     lean,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    seen,
			UpdateFunc: func(_, object any) { seen(object) },
			DeleteFunc: func(object any) {
				if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
					object = last.Obj
				}
				n.losePod(object.(*v1.Pod))
			},
		},
	})
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			n.removeOrphans()
		}
	}()
	informer.RunWithContext(ctx)
	workers.Wait()
	if n.memoryDir != "" {
		_ = removeAll(n.memoryDir)
	}
	return n.containers.Close()
}

func (n *node) seePod(ctx context.Context, workers *sync.WaitGroup, pod *v1.Pod) {
	n.mu.Lock()
	w, known := n.workers[pod.UID]
	if !known {
		n.secrets.RegisterPod(pod)
		n.configMaps.RegisterPod(pod)
		w = newWorker(n, pod)
		n.workers[pod.UID] = w
		workers.Go(func() {
			w.run(ctx)
			if ctx.Err() == nil {
				n.removePod(w)
			}
		})
	}
	n.mu.Unlock()
	if known {
		w.update(pod)
	}
}

// losePod is when the API server has a pod no more: it was forgotten after it
// ended, or deleted by force while it ran.
func (n *node) losePod(pod *v1.Pod) {
	n.mu.Lock()
	w := n.workers[pod.UID]
	n.mu.Unlock()
	if w != nil {
		w.do(func() {
			w.see(pod)
			w.gone = true
		})
	}
}

// removePod removes the last of a pod, when its goroutine has ended.
func (n *node) removePod(w *worker) {
	if err := removeAll(n.podDir(w.uid)); err != nil {
		n.log.Warn("a pod's folder was not removed", "pod", podName(w.pod), "error", err)
	}
	for _, s := range w.slots {
		n.restarts.DeleteEntry(w.restartKey(s))
		n.pulls.DeleteEntry(string(w.uid) + "_" + s.spec.Image)
	}
	n.mu.Lock()
	delete(n.workers, w.uid)
	n.mu.Unlock()
}

// removeOrphans removes what is left of pods that were deleted while no node
// ran.
func (n *node) removeOrphans() {
	dir := filepath.Join(n.cfg.Dir, "pods")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		n.mu.Lock()
		_, known := n.workers[types.UID(entry.Name())]
		n.mu.Unlock()
		if !known {
			if err := removeAll(filepath.Join(dir, entry.Name())); err != nil {
				n.log.Warn("the folder of a pod that is gone was not removed", "error", err)
			}
		}
	}
}

// preparePod makes everything of a pod that its containers see, or brings it up
// to date.
func (n *node) preparePod(pod *v1.Pod) error {
	dir := n.podDir(pod.UID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := n.writeNames(dir, pod); err != nil {
		return err
	}
	return n.volumes.setUp(pod)
}

// releasePod lets go of what only a running pod needs.
func (n *node) releasePod(uid types.UID, pod *v1.Pod) error {
	n.secrets.UnregisterPod(pod)
	n.configMaps.UnregisterPod(pod)
	n.tokens.DeleteServiceAccountToken(uid)
	n.mu.Lock()
	stop := n.hosts[uid]
	delete(n.hosts, uid)
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
	return n.volumes.tearDown(uid)
}

// forget has the API server drop a pod that has ended and was to be deleted.
func (n *node) forget(ctx context.Context, pod *v1.Pod) error {
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
	err := n.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// writeNames makes the files by which a pod looks up names: hosts, which package
// services keeps, and resolv.conf, the machine's with what dnsConfig says.
func (n *node) writeNames(dir string, pod *v1.Pod) error {
	resolve := filepath.Join(dir, "resolv.conf")
	if _, err := os.Stat(resolve); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(resolve, resolvConf(pod), 0o644); err != nil {
			return err
		}
	}
	n.mu.Lock()
	_, followed := n.hosts[pod.UID]
	n.mu.Unlock()
	if followed {
		return nil
	}
	stop, err := n.services.Follow(context.Background(), filepath.Join(dir, "hosts"), pod)
	if err != nil {
		return fmt.Errorf("writing the pod's hosts file: %w", err)
	}
	n.mu.Lock()
	n.hosts[pod.UID] = stop
	n.mu.Unlock()
	return nil
}

func resolvConf(pod *v1.Pod) []byte {
	var out bytes.Buffer
	if pod.Spec.DNSPolicy != v1.DNSNone {
		// Without a name server of the cluster every other policy is Default.
		machines, _ := os.ReadFile("/etc/resolv.conf")
		out.Write(bytes.TrimRight(machines, "\n"))
		out.WriteByte('\n')
	}
	if config := pod.Spec.DNSConfig; config != nil {
		for _, server := range config.Nameservers {
			fmt.Fprintf(&out, "nameserver %s\n", server)
		}
		for i, domain := range config.Searches {
			if i == 0 {
				out.WriteString("search")
			}
			fmt.Fprintf(&out, " %s", domain)
			if i == len(config.Searches)-1 {
				out.WriteByte('\n')
			}
		}
		for i, option := range config.Options {
			if i == 0 {
				out.WriteString("options")
			}
			fmt.Fprintf(&out, " %s", option.Name)
			if option.Value != nil {
				fmt.Fprintf(&out, ":%s", *option.Value)
			}
			if i == len(config.Options)-1 {
				out.WriteByte('\n')
			}
		}
	}
	return out.Bytes()
}

// newer says whether a is not older than b: a watch may deliver what is older
// than the answer to a write.
func newer(a, b *v1.Pod) bool {
	left, err := strconv.ParseUint(a.ResourceVersion, 10, 64)
	right, err2 := strconv.ParseUint(b.ResourceVersion, 10, 64)
	return err != nil || err2 != nil || left >= right
}

func sameMetadata(a, b *v1.Pod) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Annotations, b.Annotations)
}

// lean takes out of an object what nobody here reads, and is half of it.
func lean(object any) (any, error) {
	if accessor, ok := object.(metav1.Object); ok {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}
