package server

import (
	"context"
	"errors"
	"net/http"

	cadvisor "github.com/google/cadvisor/info/v1"
	cadvisorv2 "github.com/google/cadvisor/info/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/volume"
)

// errNone is the answer where a kubelet would ask cgroups, cAdvisor or a
// container runtime.
var errNone = errors.New("a process node has neither cgroups nor cAdvisor")

// noCgroups is the part of a kubelet that a process node does not have. What
// can be asked of it over the API is /metrics/cadvisor, which is then empty;
// the usage of containers is in /metrics/resource and /stats/summary.
type noCgroups struct{}

func (noCgroups) GetVersionInfo() (*cadvisor.VersionInfo, error)       { return nil, errNone }
func (noCgroups) GetCachedMachineInfo() (*cadvisor.MachineInfo, error) { return nil, errNone }
func (noCgroups) GetRequestedContainersInfo(string, cadvisorv2.RequestOptions) (map[string]*cadvisor.ContainerInfo, error) {
	return nil, errNone
}
func (noCgroups) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return nil, errNone
}
func (noCgroups) ListPodSandboxMetrics(context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	return nil, errNone
}
func (noCgroups) GetCgroupStats(string, bool) (*stats.ContainerStats, *stats.NetworkStats, error) {
	return nil, nil, errNone
}
func (noCgroups) GetCgroupCPUAndMemoryStats(string, bool) (*stats.ContainerStats, error) {
	return nil, errNone
}
func (noCgroups) ImageFsStats(context.Context) (*stats.FsStats, *stats.FsStats, error) {
	return nil, nil, errNone
}
func (noCgroups) ListPodStats(context.Context) ([]stats.PodStats, error) { return nil, errNone }
func (noCgroups) ListPodCPUAndMemoryStats(context.Context) ([]stats.PodStats, error) {
	return nil, errNone
}
func (noCgroups) ListPodStatsAndUpdateCPUNanoCoreUsage(context.Context) ([]stats.PodStats, error) {
	return nil, errNone
}
func (noCgroups) RootFsStats() (*stats.FsStats, error)     { return nil, errNone }
func (noCgroups) RlimitStats() (*stats.RlimitStats, error) { return nil, errNone }
func (noCgroups) GetNode() (*v1.Node, error)               { return nil, errNone }
func (noCgroups) GetNodeConfig() cm.NodeConfig             { return cm.NodeConfig{} }
func (noCgroups) GetPodCgroupRoot() string                 { return "" }
func (noCgroups) GetPodByCgroupfs(string) (*v1.Pod, bool)  { return nil, false }
func (noCgroups) ListVolumesForPod(types.UID) (map[string]volume.Volume, bool) {
	return nil, false
}
func (noCgroups) ListBlockVolumesForPod(types.UID) (map[string]volume.BlockVolume, bool) {
	return nil, false
}

// ServeLogs would show /var/log of the machine. It is switched off before it
// gets here.
func (noCgroups) ServeLogs(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "a process node serves no logs of the machine", http.StatusMethodNotAllowed)
}
