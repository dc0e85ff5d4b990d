package node

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
)

// measureEvery is how often what a pod has on disk is measured, as a kubelet
// does. Between two measurements a pod may have more than its limit.
const measureEvery = 10 * time.Second

// hasStorageLimit says whether a pod has a limit that has to be measured.
func hasStorageLimit(pod *v1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if dir := pod.Spec.Volumes[i].EmptyDir; dir != nil && limited(dir.SizeLimit) {
			return true
		}
	}
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if limited(containers[i].Resources.Limits.StorageEphemeral()) {
				return true
			}
		}
	}
	return false
}

func limited(size *resource.Quantity) bool { return size != nil && size.Sign() > 0 }

// watchStorage evicts a pod that has more on disk than it may. What containers
// write to a root in memory is counted by their memory limit alone.
func (w *worker) watchStorage(now time.Time) {
	if w.measuring || !hasStorageLimit(w.pod) {
		return
	}
	if now.Before(w.measure) {
		w.at(w.measure)
		return
	}
	w.measuring = true
	pod := w.pod
	written := map[string]string{} // folders of containers
	for _, s := range w.slots {
		if s.running() && s.run.container != nil {
			written[s.spec.Name] = s.run.container.Folder()
		}
	}
	go func() {
		message := w.n.overStorage(pod, written)
		w.do(func() {
			w.measuring = false
			w.measure = time.Now().Add(measureEvery)
			if message == "" || w.verdict != nil || w.ending() {
				return
			}
			w.verdict = &verdict{reason: eviction.Reason, message: message, now: true}
			w.n.events.pod(w.pod, v1.EventTypeWarning, eviction.Reason, "%s", message)
		})
	}()
}

// overStorage says in the kubelet's words which limit a pod is over.
func (n *node) overStorage(pod *v1.Pod, written map[string]string) string {
	var total int64
	for i := range pod.Spec.Volumes {
		spec := &pod.Spec.Volumes[i]
		if spec.EmptyDir == nil {
			continue
		}
		used := diskUsage(n.volumes.path(pod, spec))
		if limit := spec.EmptyDir.SizeLimit; limited(limit) && used > limit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", spec.Name, limit.String())
		}
		if spec.EmptyDir.Medium != v1.StorageMediumMemory {
			total += used
		}
	}
	logs := diskUsage(filepath.Join(n.podDir(pod.UID), "logs"))
	own := map[string]int64{}
	for name, folder := range written {
		own[name] = diskUsage(folder)
		total += own[name]
	}
	if limit, ok := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})[v1.ResourceEphemeralStorage]; ok && total+logs > limit.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			used := own[c.Name] + diskUsage(filepath.Join(n.podDir(pod.UID), "logs", c.Name))
			if limit := c.Resources.Limits.StorageEphemeral(); limited(limit) && used > limit.Value() {
				return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
			}
		}
	}
	return ""
}

// diskUsage is what lies in a folder, in the blocks that files take: a file with
// holes is as big as what is in it. What cannot be read, since its program took
// that right away or removed it meanwhile, counts nothing.
func diskUsage(folder string) (bytes int64) {
	type file struct{ device, number uint64 }
	linked := map[file]bool{}
	_ = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry == nil {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if stat.Nlink > 1 && !entry.IsDir() {
			one := file{uint64(stat.Dev), stat.Ino}
			if linked[one] {
				return nil
			}
			linked[one] = true
		}
		bytes += stat.Blocks * 512
		return nil
	})
	return bytes
}
