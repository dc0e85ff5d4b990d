package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"biplane.dev/biplane/internal/usererr"
)

const recordName = "sandbox.yaml"

// Options are what an up may ask for. The zero of a field asks for what the
// last up had, and without one for the default: a sandbox that comes back
// after the machine's restart is what it was.
type Options struct {
	Node       NodeKind `yaml:"node,omitempty"`       // how pods are run; default process
	Nodes      int      `yaml:"nodes,omitempty"`      // how many; default 1
	Python     string   `yaml:"python,omitempty"`     // the environment of Flyte's images, an absolute path; default: see the node
	Only       []string `yaml:"only,omitempty"`       // what to start, see Components; default all
	AuditLog   *bool    `yaml:"auditLog,omitempty"`   // whether the API server writes logs/audit.log; default false
	FixedPorts *bool    `yaml:"fixedPorts,omitempty"` // whether a port of the last up that is taken is an error, not replaced; default false
}

// MaxNodes bounds Nodes. A process node is a program of its own, so of those
// there are fewer; of kubelet nodes a machine has one.
const (
	MaxNodes        = 1000
	MaxProcessNodes = 32
)

// Over returns o with what it does not ask for taken from last.
func (o Options) Over(last Options) Options {
	if o.Node == "" {
		o.Node = last.Node
	}
	if o.Nodes == 0 {
		o.Nodes = last.Nodes
	}
	if o.Python == "" {
		o.Python = last.Python
	}
	if o.Only == nil {
		o.Only = last.Only
	}
	if o.AuditLog == nil {
		o.AuditLog = last.AuditLog
	}
	if o.FixedPorts == nil {
		o.FixedPorts = last.FixedPorts
	}
	return o
}

// Defaults is what is asked for when nothing is.
func Defaults() Options {
	no := false
	return Options{Node: ProcessNode, Nodes: 1, Only: []string{All}, AuditLog: &no, FixedPorts: &no}
}

// Check refuses what cannot be done, in one sentence. The zero of a field is
// fine.
func (o Options) Check() error {
	if kinds := []NodeKind{"", ProcessNode, KubeletNode, KwokNode}; !slices.Contains(kinds, o.Node) {
		return usererr.New(usererr.Invalid, "there is no kind of node called %q", o.Node).
			WithHint("give --node %s, %s or %s", ProcessNode, KubeletNode, KwokNode)
	}
	if o.Nodes < 0 || o.Nodes > MaxNodes {
		return usererr.New(usererr.Invalid, "a sandbox cannot have %d nodes", o.Nodes).WithHint("give --nodes 1 to %d", MaxNodes)
	}
	if o.Node == ProcessNode && o.Nodes > MaxProcessNodes {
		return usererr.New(usererr.Invalid, "a sandbox cannot have %d process nodes", o.Nodes).
			WithHint("give --nodes 1 to %d, or take --node kwok", MaxProcessNodes)
	}
	if o.Node == KubeletNode && o.Nodes > 1 {
		return usererr.New(usererr.Invalid, "a machine can have one kubelet node, not %d", o.Nodes).WithHint("leave --nodes out")
	}
	if o.Python != "" && !filepath.IsAbs(o.Python) {
		return usererr.New(usererr.Invalid, "the Python environment %q is not an absolute path", o.Python).
			WithHint("name the folder that has bin/python in it")
	}
	if len(o.Only) > 0 {
		if _, err := Components(o.Only); err != nil {
			return err
		}
	}
	return nil
}

// Names of components. A node is called node-NAME; here they are all Nodes.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	ObjectStore       = "s3"
	Identity          = "identity"
	Nodes             = "node"
	FlyteAdmin        = "controlplane"
	FlyteDataPlane    = "dataplane" // no process of its own: pods, joined to the control plane
)

// Words of --only that stand for more than one component.
const (
	All       = "all"
	KubeGroup = "kubernetes" // the four of the control plane
)

// needs says what a component is no use without.
var needs = map[string][]string{
	Etcd:              nil,
	APIServer:         {Etcd},
	ControllerManager: {APIServer},
	Scheduler:         {APIServer},
	Identity:          nil,
	ObjectStore:       {Identity},
	Nodes:             {APIServer, ControllerManager, Scheduler},
	KubeGroup:         {Etcd, APIServer, ControllerManager, Scheduler},
	FlyteAdmin:        nil,
	FlyteDataPlane:    {FlyteAdmin, ObjectStore, Nodes},
	All:               {KubeGroup, Identity, ObjectStore, Nodes, FlyteAdmin, FlyteDataPlane},
}

// Components returns the components that only names, with those they need, in
// the order of their start. All nodes together are Nodes.
func Components(only []string) ([]string, error) {
	wanted := map[string]bool{}
	var want func(string)
	want = func(name string) {
		wanted[name] = true
		for _, need := range needs[name] {
			want(need)
		}
	}
	for _, name := range only {
		if _, known := needs[name]; !known {
			return nil, usererr.New(usererr.Invalid, "there is no component called %q to start only", name).
				WithHint("give --only a list of %s", strings.Join([]string{KubeGroup, ObjectStore, Identity, Nodes, FlyteAdmin, FlyteDataPlane, Etcd, APIServer, ControllerManager, Scheduler, All}, ", "))
		}
		want(name)
	}
	var components []string
	for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler, Identity, ObjectStore, Nodes, FlyteAdmin, FlyteDataPlane} {
		if wanted[name] {
			components = append(components, name)
		}
	}
	if components == nil {
		return nil, usererr.New(usererr.Invalid, "--only names no component").WithHint("leave it out, or give --only %s", All)
	}
	return components, nil
}

// Record is sandbox.yaml: what must be the same at the next up. The supervisor
// writes it, under its lock.
type Record struct {
	Version int            `yaml:"version"` // of this file: 1
	Options Options        `yaml:"options"` // of the last up, complete
	Account string         `yaml:"account"` // twelve digits: AWS's number of the account that the sandbox plays
	Region  string         `yaml:"region"`
	Cluster string         `yaml:"cluster"`         // the last element of the issuer's URL, as EKS makes it: 32 of 0-9A-F
	Ports   map[string]int `yaml:"ports,omitempty"` // on 127.0.0.1, by component; STS and IAM are "sts" and "iam"
}

// RecordVersion is the version of sandbox.yaml that this program reads and
// writes.
const RecordVersion = 1

// Issuer is who the cluster's service-account tokens say they are from. It is
// EKS's name for an issuer, and never dialled.
func (r Record) Issuer() string {
	return "https://oidc.eks." + r.Region + ".amazonaws.com/id/" + r.Cluster
}

// ReadRecord reads the folder's record. The error is fs.ErrNotExist where there
// is none.
func ReadRecord(f Folder) (Record, error) {
	const most = 1 << 20
	file, err := os.Open(f.RecordFile())
	if err != nil {
		return Record{}, fmt.Errorf("opening the record of sandbox %s: %w", f.Name(), err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return Record{}, fmt.Errorf("reading the record of sandbox %s: %w", f.Name(), err)
	}
	var record Record
	if err := yaml.UnmarshalWithOptions(content, &record, yaml.Strict()); err != nil {
		var broken yaml.Error
		text := err.Error()
		if errors.As(err, &broken) {
			text = fmt.Sprintf("line %d: %s", broken.GetToken().Position.Line, broken.GetMessage())
		}
		return Record{}, f.damaged(text).Because(err)
	}
	if record.Version != RecordVersion {
		return Record{}, f.damaged(fmt.Sprintf("it is of version %d, and this program reads version %d", record.Version, RecordVersion))
	}
	if err := record.Options.Check(); err != nil {
		return Record{}, f.damaged(err.Error()).Because(err)
	}
	for name, port := range record.Ports {
		if port < 1 || port > 65535 {
			return Record{}, f.damaged(fmt.Sprintf("ports.%s is %d, which is no port", name, port))
		}
	}
	return record, nil
}

func (f Folder) damaged(what string) *usererr.Error {
	return usererr.New(usererr.Invalid, "cannot use %s: %s", f.RecordFile(), what).
		WithHint("correct it, or start anew with 'biplane sandbox up --fresh', which deletes what the sandbox holds")
}

// WriteRecord replaces the folder's record at once: a reader, and the next up
// after a power cut, sees the old or the new one, whole.
func WriteRecord(f Folder, record Record) error {
	content, err := yaml.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding the record: %w", err)
	}
	return WriteFile(f.RecordFile(), content, 0o600)
}

// WriteFile replaces a file at once, and only where it would change.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, content) {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm() == mode {
			return nil
		}
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(file.Name()) // is gone by then, when all went well
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
