package node

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	goruntime "runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/component-base/version"
	"k8s.io/component-helpers/apimachinery/lease"
	"k8s.io/utils/clock"
)

const (
	// The scheduler counts requests, and the defaults that Flyte gives are a CPU
	// and a GiB a task. A parent waits while its children run, so a laptop's own
	// figures would starve them; nothing is reserved by a request here.
	nodeCPUs        = 64
	nodeMemoryTimes = 4
	nodePods        = 1000

	leaseSeconds    = 40 // the kubelet's: the Node is Unknown when no renewal came for so long
	heartbeat       = 10 * time.Second
	statusEvery     = 5 * time.Minute // even when nothing changed
	lowDisk         = 256 << 20       // bytes free; below it the node takes no more pods
	containerScheme = "process"       // of container ids in a pod's status
)

// keepNode registers the Node, and then says by lease and by status that it is
// there, until ctx ends.
func (n *node) keepNode(ctx context.Context) error {
	registered, err := n.register(ctx)
	if err != nil {
		return err
	}
	go lease.NewController(clock.RealClock{}, n.client, n.cfg.Name, leaseSeconds, nil,
		leaseSeconds/4*time.Second, n.cfg.Name, v1.NamespaceNodeLease,
		func(l *coordinationv1.Lease) error {
			l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.cfg.Name, UID: registered.UID}}
			return nil
		}).Run(ctx)

	written := time.Now()
	last := registered.Status
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		status := n.status(last)
		if sameConditions(status.Conditions, last.Conditions) && time.Since(written) < statusEvery {
			continue
		}
		updated, err := n.writeStatus(ctx, status)
		if apierrors.IsNotFound(err) { // somebody deleted the Node
			updated, err = n.register(ctx)
		}
		if err != nil {
			n.log.Warn("the Node's status was not written", "error", err)
			continue
		}
		written, last = time.Now(), updated.Status
	}
}

// register makes the Node, or makes an earlier one ours again. An API server
// that does not answer yet is asked again until ctx ends.
func (n *node) register(ctx context.Context) (*v1.Node, error) {
	for {
		made, err := n.tryRegister(ctx)
		if err == nil || ctx.Err() != nil {
			return made, err
		}
		n.log.Warn("the Node was not registered", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (n *node) tryRegister(ctx context.Context) (*v1.Node, error) {
	labels := map[string]string{
		v1.LabelHostname:   n.cfg.Name,
		v1.LabelOSStable:   goruntime.GOOS,
		v1.LabelArchStable: goruntime.GOARCH,
		"biplane.dev/node": "process",
	}
	wanted := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Labels: labels}}
	wanted.Status = n.status(v1.NodeStatus{})
	made, err := n.client.CoreV1().Nodes().Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil || !apierrors.IsAlreadyExists(err) {
		return made, err
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		earlier, err := n.client.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if earlier.Labels == nil {
			earlier.Labels = map[string]string{}
		}
		for name, value := range labels {
			earlier.Labels[name] = value
		}
		made, err = n.client.CoreV1().Nodes().Update(ctx, earlier, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	return n.writeStatus(ctx, n.status(made.Status))
}

func (n *node) writeStatus(ctx context.Context, status v1.NodeStatus) (updated *v1.Node, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := n.client.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		// What others wrote (volumes, conditions of their own) stays.
		for _, condition := range current.Status.Conditions {
			if nodeCondition(status.Conditions, condition.Type) == nil {
				status.Conditions = append(status.Conditions, condition)
			}
		}
		status.VolumesAttached, status.VolumesInUse = current.Status.VolumesAttached, current.Status.VolumesInUse
		current.Status = status
		updated, err = n.client.CoreV1().Nodes().UpdateStatus(ctx, current, metav1.UpdateOptions{})
		return err
	})
	return updated, err
}

// status is the Node's status now; last gives the times at which its conditions
// became what they are.
func (n *node) status(last v1.NodeStatus) v1.NodeStatus {
	capacity := v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(nodeCPUs, resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(nodeMemoryTimes*machineMemory(), resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(nodePods, resource.DecimalSI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(n.disk().total, resource.BinarySI),
		"hugepages-1Gi":             resource.MustParse("0"),
		"hugepages-2Mi":             resource.MustParse("0"),
	}
	return v1.NodeStatus{
		Capacity:        capacity,
		Allocatable:     capacity.DeepCopy(),
		Conditions:      n.conditions(last.Conditions),
		Addresses:       []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: n.ip}, {Type: v1.NodeHostName, Address: n.cfg.Name}},
		DaemonEndpoints: v1.NodeDaemonEndpoints{KubeletEndpoint: v1.DaemonEndpoint{Port: n.port}},
		NodeInfo:        nodeInfo(),
	}
}

func (n *node) conditions(last []v1.NodeCondition) []v1.NodeCondition {
	now := metav1.Now()
	disk := v1.NodeCondition{Type: v1.NodeDiskPressure, Status: v1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"}
	if free := n.disk().free; free < lowDisk {
		disk = v1.NodeCondition{Type: v1.NodeDiskPressure, Status: v1.ConditionTrue, Reason: "KubeletHasDiskPressure",
			Message: fmt.Sprintf("%d MiB are free where the node keeps pods, fewer than %d", free>>20, int64(lowDisk)>>20)}
	}
	conditions := []v1.NodeCondition{
		{Type: v1.NodeMemoryPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		disk,
		{Type: v1.NodePIDPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
		{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "the process node runs pods"},
	}
	for i := range conditions {
		conditions[i].LastHeartbeatTime, conditions[i].LastTransitionTime = now, now
		if before := nodeCondition(last, conditions[i].Type); before != nil && before.Status == conditions[i].Status {
			conditions[i].LastTransitionTime = before.LastTransitionTime
		}
	}
	return conditions
}

func nodeCondition(conditions []v1.NodeCondition, kind v1.NodeConditionType) *v1.NodeCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}

// sameConditions says whether nothing but the time of the heartbeat differs.
func sameConditions(a, b []v1.NodeCondition) bool {
	for _, condition := range a {
		other := nodeCondition(b, condition.Type)
		if other == nil {
			return false
		}
		condition.LastHeartbeatTime = other.LastHeartbeatTime
		if !equality.Semantic.DeepEqual(condition, *other) {
			return false
		}
	}
	return true
}

type diskSpace struct{ total, free int64 }

func (n *node) disk() diskSpace {
	var stat unix.Statfs_t
	if err := unix.Statfs(n.cfg.Dir, &stat); err != nil {
		return diskSpace{free: math.MaxInt64} // unknown is no pressure
	}
	return diskSpace{total: int64(stat.Blocks) * stat.Bsize, free: int64(stat.Bavail) * stat.Bsize}
}

func machineMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 1 << 30
	}
	return int64(info.Totalram) * int64(info.Unit)
}

func nodeInfo() v1.NodeSystemInfo {
	info := v1.NodeSystemInfo{
		KubeletVersion:          version.Get().GitVersion,
		ContainerRuntimeVersion: containerScheme + "://1",
		OperatingSystem:         goruntime.GOOS,
		Architecture:            goruntime.GOARCH,
		OSImage:                 osImage(),
		MachineID:               firstLine("/etc/machine-id"),
		BootID:                  firstLine("/proc/sys/kernel/random/boot_id"),
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		info.KernelVersion = unix.ByteSliceToString(name.Release[:])
	}
	return info
}

func osImage() string {
	file, err := os.Open("/etc/os-release")
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

func firstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}

// apiServerAddress is the host:port of an API server's URL: pods are told it,
// because no address of the cluster is routed without root.
func apiServerAddress(server string) (string, error) {
	address, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("reading the API server's address: %w", err)
	}
	if address.Port() == "" {
		return net.JoinHostPort(address.Hostname(), "443"), nil
	}
	return address.Host, nil
}
