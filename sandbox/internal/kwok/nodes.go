package kwok

import (
	"context"
	"fmt"
	"runtime"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/version"
)

// label has the first of the Nodes of a process on all of them: by it a process
// finds its own.
const label = "biplane.dev/kwok"

// register makes the Nodes, or brings those there are up to date.
func register(ctx context.Context, client kubernetes.Interface, cfg Config, host string, port int32) error {
	for _, name := range cfg.Names {
		wanted := node(name, cfg.Names[0], host, port)
		_, err := client.CoreV1().Nodes().Create(ctx, wanted, metav1.CreateOptions{})
		if err == nil {
			continue
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("registering node %s: %w", name, err)
		}
		found, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("reading node %s: %w", name, err)
		}
		// What a person has added to the Node stays.
		if found.Labels == nil {
			found.Labels = map[string]string{}
		}
		for key, value := range wanted.Labels {
			found.Labels[key] = value
		}
		updated, err := client.CoreV1().Nodes().Update(ctx, found, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("updating node %s: %w", name, err)
		}
		updated.Status = wanted.Status
		if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("updating the status of node %s: %w", name, err)
		}
	}
	return nil
}

// node is a fake one. It is ready from the start, and has room for whatever a
// scale test wants.
func node(name, first, host string, port int32) *v1.Node {
	room := v1.ResourceList{
		v1.ResourceCPU:              resource.MustParse("1024"),
		v1.ResourceMemory:           resource.MustParse("16Ti"),
		v1.ResourceEphemeralStorage: resource.MustParse("64Ti"),
		v1.ResourcePods:             resource.MustParse("100k"),
	}
	now := metav1.Now()
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				v1.LabelHostname:                name,
				v1.LabelOSStable:                "linux",
				v1.LabelArchStable:              runtime.GOARCH,
				v1.LabelInstanceTypeStable:      "kwok",
				"type":                          "kwok",
				label:                           first,
				"node-role.kubernetes.io/agent": "",
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
		},
		Status: v1.NodeStatus{
			Capacity: room, Allocatable: room,
			Conditions: []v1.NodeCondition{{
				Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "a fake node is always ready",
				LastHeartbeatTime: now, LastTransitionTime: now,
			}},
			Addresses:       []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: host}, {Type: v1.NodeHostName, Address: name}},
			DaemonEndpoints: v1.NodeDaemonEndpoints{KubeletEndpoint: v1.DaemonEndpoint{Port: port}},
			NodeInfo: v1.NodeSystemInfo{
				OperatingSystem: "linux", Architecture: runtime.GOARCH, OSImage: "none: pods are not run",
				ContainerRuntimeVersion: "kwok://none", KubeletVersion: version.Get().GitVersion,
			},
		},
	}
}
