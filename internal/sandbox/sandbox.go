// Package sandbox is what `biplane sandbox` and the supervisor of
// biplane-sandbox say to each other: the options of an up, the status, the
// layout of a sandbox's folder, and the client of the supervisor's socket. It
// starts nothing itself and links nothing of Kubernetes.
//
// Start with Status, which is a contract with other programs.
package sandbox

// States of a sandbox. Absent: no folder. Stopped: a folder, and no supervisor.
// Starting: a supervisor that is not done yet. Ready: everything that was asked
// for answers. Degraded: it was ready, and some component is not.
const (
	Absent   State = "absent"
	Stopped  State = "stopped"
	Starting State = "starting"
	Ready    State = "ready"
	Degraded State = "degraded"
)

// State is the state of a sandbox.
type State string

// Status is what `biplane sandbox status --output json` prints. What a sandbox
// was started without (--only) is left out.
type Status struct {
	Name       string      `json:"name"`
	State      State       `json:"state"`
	Dir        string      `json:"dir"`
	Kubernetes *Kubernetes `json:"kubernetes,omitempty"`
	S3         *S3         `json:"s3,omitempty"`
	STS        *Endpoint   `json:"sts,omitempty"`
	IAM        *Endpoint   `json:"iam,omitempty"`
	Buckets    *Buckets    `json:"buckets,omitempty"`
	Node       *Node       `json:"node,omitempty"`
	// The two planes. Of the control plane there is always the address; a data
	// plane is told of once it has joined.
	ControlPlane *ControlPlane `json:"controlplane,omitempty"`
	DataPlane    *DataPlane    `json:"dataplane,omitempty"`
	Components   []Component   `json:"components"`
}

// Kubernetes is the API server.
type Kubernetes struct {
	Server     string `json:"server"`     // https://127.0.0.1:PORT
	Version    string `json:"version"`    // v1.34.4
	Kubeconfig string `json:"kubeconfig"` // file of the administrator
}

// S3 is the object store.
type S3 struct {
	Endpoint string `json:"endpoint"` // https://127.0.0.1:PORT
	Region   string `json:"region"`
	Dir      string `json:"dir"` // where the objects lie
}

// Endpoint is the address of a service of AWS.
type Endpoint struct {
	Endpoint string `json:"endpoint"`
}

// Buckets are the names of the two buckets of a data plane.
type Buckets struct {
	Metadata         string `json:"metadata"`
	FastRegistration string `json:"fastRegistration"`
}

// Node is what runs pods.
type Node struct {
	Kind  NodeKind `json:"kind"`
	Names []string `json:"names"`
}

// ControlPlane is where Flyte's clients call.
type ControlPlane struct {
	Endpoint string `json:"endpoint"` // https://localhost:PORT
	Gateway  string `json:"gateway"`  // https://127.0.0.1:PORT, which data planes dial
	Dir      string `json:"dir"`      // its keys and its database
	Database string `json:"database"` // sqlite:FILE
	Log      string `json:"log"`      // file
	Config   string `json:"config"`   // file of Flyte's clients, FLYTECTL_CONFIG
}

// DataPlane is what has joined the control plane.
type DataPlane struct {
	Cluster       string `json:"cluster"`       // as the control plane calls it
	Namespace     string `json:"namespace"`     // of its own processes
	ProxyEndpoint string `json:"proxyEndpoint"` // https://localhost:PORT, where clients reach its data and logs
}

// NodeKind says how pods are run.
type NodeKind string

// Kinds of node.
const (
	ProcessNode NodeKind = "process" // containers are processes in namespaces of their own; no root
	KubeletNode NodeKind = "kubelet" // the real kubelet with containerd; root
	KwokNode    NodeKind = "kwok"    // nothing runs, states go by; thousands of pods
)

// States of a component. Held: stopped by `biplane sandbox stop`, and kept so.
const (
	ComponentStarting ComponentState = "starting"
	ComponentReady    ComponentState = "ready"
	ComponentFailing  ComponentState = "failing" // died, and waits to be started again
	ComponentHeld     ComponentState = "held"
	ComponentStopped  ComponentState = "stopped"
)

// ComponentState is the state of a component.
type ComponentState string

// Component is one process of a sandbox.
type Component struct {
	Name        string         `json:"name"` // etcd, kube-apiserver, kube-controller-manager, kube-scheduler, s3, identity, node-NAME, controlplane
	PID         int            `json:"pid"`  // 0 when it does not run
	State       ComponentState `json:"state"`
	Restarts    int            `json:"restarts"`
	Address     string         `json:"address"`     // host:port, or "" when it listens on none
	MemoryBytes int64          `json:"memoryBytes"` // proportional set size: pages shared by n processes count 1/n
}
