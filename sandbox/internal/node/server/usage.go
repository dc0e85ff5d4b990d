package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/server/stats"
)

// usage is what /stats/summary and /metrics/resource report: what every running
// container uses, measured when somebody asks, and the machine as a whole.
type usage struct {
	node    string
	pods    Pods
	started time.Time

	mu   sync.Mutex
	last map[string]sample // by container id; "" is the machine
}

// sample is a measurement, kept so that the next one can say a rate.
type sample struct {
	at  time.Time
	cpu time.Duration
}

func newUsage(node string, pods Pods) *usage {
	return &usage{node: node, pods: pods, started: time.Now(), last: map[string]sample{}}
}

func (u *usage) Start() {}

func (u *usage) GetPodVolumeStats(types.UID) (stats.PodVolumeStats, bool) {
	return stats.PodVolumeStats{}, false
}

func (u *usage) Get(context.Context, bool) (*api.Summary, error) { return u.summary() }

func (u *usage) GetCPUAndMemoryStats(context.Context) (*api.Summary, error) { return u.summary() }

func (u *usage) summary() (*api.Summary, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := map[string]sample{}
	rate := func(id string, since time.Time, now sample) uint64 {
		before, known := u.last[id]
		if !known {
			before = sample{at: since}
		}
		seen[id] = now
		if !now.at.After(before.at) || now.cpu < before.cpu {
			return 0
		}
		return uint64(float64(now.cpu-before.cpu) / now.at.Sub(before.at).Seconds())
	}

	cpu, memory, err := machine()
	if err != nil {
		return nil, fmt.Errorf("measuring the machine: %w", err)
	}
	now := time.Now()
	summary := &api.Summary{Node: api.NodeStats{
		NodeName: u.node, StartTime: metav1.NewTime(u.started),
		CPU: cpuStats(now, cpu, 0), Memory: memoryStats(now, memory),
	}}
	if before, known := u.last[""]; known {
		*summary.Node.CPU.UsageNanoCores = rate("", before.at, sample{now, cpu})
	}
	seen[""] = sample{now, cpu}

	for _, p := range u.pods.List() {
		var podCPU time.Duration
		var podCores uint64
		var podMemory int64
		of := api.PodStats{PodRef: api.PodReference{Name: p.Name, Namespace: p.Namespace, UID: string(p.UID)}, StartTime: started(p)}
		for _, statuses := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
			for _, status := range statuses {
				if status.State.Running == nil {
					continue
				}
				c, err := u.pods.Container(p.Namespace, p.Name, status.Name)
				if err != nil {
					continue // it ended while we came
				}
				used, err := c.Usage()
				if err != nil {
					continue
				}
				now := time.Now()
				since := status.State.Running.StartedAt
				cores := rate(status.ContainerID, since.Time, sample{now, used.CPU})
				of.Containers = append(of.Containers, api.ContainerStats{
					Name: status.Name, StartTime: since, CPU: cpuStats(now, used.CPU, cores), Memory: memoryStats(now, used.Memory),
				})
				podCPU, podCores, podMemory = podCPU+used.CPU, podCores+cores, podMemory+used.Memory
			}
		}
		if of.Containers == nil {
			continue
		}
		now := time.Now()
		of.CPU, of.Memory = cpuStats(now, podCPU, podCores), memoryStats(now, podMemory)
		summary.Pods = append(summary.Pods, of)
	}
	u.last = seen
	return summary, nil
}

func started(p *v1.Pod) metav1.Time {
	if p.Status.StartTime == nil {
		return metav1.Time{}
	}
	return *p.Status.StartTime
}

func cpuStats(at time.Time, used time.Duration, cores uint64) *api.CPUStats {
	total := uint64(used)
	return &api.CPUStats{Time: metav1.NewTime(at), UsageNanoCores: &cores, UsageCoreNanoSeconds: &total}
}

func memoryStats(at time.Time, used int64) *api.MemoryStats {
	bytes := uint64(used)
	return &api.MemoryStats{Time: metav1.NewTime(at), UsageBytes: &bytes, WorkingSetBytes: &bytes, RSSBytes: &bytes}
}

// machine is the time that the machine's processors were busy since it started,
// and the memory that is not to be had any more.
func machine() (cpu time.Duration, memory int64, err error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every platform that Go runs on
	line, err := lineOf("/proc/stat", "cpu ")
	if err != nil {
		return 0, 0, err
	}
	for i, field := range strings.Fields(line)[1:] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		// user nice system idle iowait irq softirq steal; guests are in user
		if i < 3 || 4 < i && i < 8 {
			cpu += time.Duration(ticks) * tick
		}
	}
	for key, sign := range map[string]int64{"MemTotal:": 1, "MemAvailable:": -1} {
		line, err := lineOf("/proc/meminfo", key)
		if err != nil {
			return 0, 0, err
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return 0, 0, errors.New("/proc/meminfo: " + line)
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		memory += sign * kib * 1024
	}
	return cpu, memory, nil
}

func lineOf(path, prefix string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return lines.Text(), nil
		}
	}
	return "", errors.Join(fmt.Errorf("%s has no line %q", path, prefix), lines.Err())
}
