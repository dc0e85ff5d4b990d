// Package config is the file that every `biplane-dataplane` process reads: the
// ConfigMap biplane-dataplane of the chart.
package config

import (
	"net"
	"strconv"
	"strings"
	"time"

	"biplane.dev/biplane/internal/configfile"
	"biplane.dev/biplane/internal/usererr"
)

// Folders where the chart mounts what the processes need.
const (
	// File is the configuration.
	File = "/etc/biplane/config/config.yaml"
	// TLSFolder has tls.crt, tls.key and ca.crt of the process, made by the
	// operator and renewed under it.
	TLSFolder = "/etc/biplane/tls"
	// TokenFile is the process's own service-account token, for our endpoints.
	TokenFile = "/var/run/secrets/biplane.dev/serviceaccount/token"
	// JoinTokenFile is there until the data plane has joined.
	JoinTokenFile = "/etc/biplane/join/token"
)

// Config is the whole file.
type Config struct {
	configfile.Header `yaml:",inline"`

	// Namespace of the data plane's own processes. Default: union.
	Namespace    string       `yaml:"namespace"`
	ControlPlane ControlPlane `yaml:"controlPlane"`
	Storage      Storage      `yaml:"storage"`
	Operator     Process      `yaml:"operator"`
	Executor     Executor     `yaml:"executor"`
	Proxy        Proxy        `yaml:"proxy"`
	Clustersync  Clustersync  `yaml:"clustersync"`
	Log          Log          `yaml:"log"`
}

// ControlPlane is what the operator dials.
type ControlPlane struct {
	// Gateway is host:port.
	Gateway string `yaml:"gateway"`
	// CA (PEM) of the gateway's certificate.
	CA string `yaml:"ca"`
	// Cluster is the name that the join token must be for.
	Cluster string `yaml:"cluster"`
}

// Storage is the customer's.
type Storage struct {
	Region                 string `yaml:"region"`
	MetadataBucket         string `yaml:"metadataBucket"`
	FastRegistrationBucket string `yaml:"fastRegistrationBucket"`
	// Endpoint and STSEndpoint of another S3 than AWS's, as pods reach it.
	Endpoint    string `yaml:"endpoint"`
	STSEndpoint string `yaml:"stsEndpoint"`
	// ClientEndpoint is where clients outside reach S3. Default: Endpoint.
	ClientEndpoint string `yaml:"clientEndpoint"`
	// UploadRoleARN is flyteadmin's role, which signs uploads and nothing else.
	UploadRoleARN string `yaml:"uploadRoleARN"`
	// KeepLogs is how long logs of finished actions stay in the bucket. Default: 720h.
	KeepLogs time.Duration `yaml:"keepLogs"`
}

// Process is one of ours, reached by the others by a Service of its name.
type Process struct {
	// Listen, TLS: the API, /livez, /readyz and /metrics. Default: :8443.
	Listen string `yaml:"listen"`
	// Endpoint is host:port of its Service: no scheme, and neither "localhost" nor
	// "docker" in it, which Flyte's SDK takes for plain text.
	// Default: NAME.NAMESPACE.svc.cluster.local:8443.
	Endpoint string `yaml:"endpoint"`
}

// Executor runs actions.
type Executor struct {
	Process `yaml:",inline"`

	// Workers reconcile actions at the same time. Default: 32.
	Workers int `yaml:"workers"`
	// DefaultCPU and DefaultMemory of a task that asks for none. Default: 1, 1Gi.
	DefaultCPU    string `yaml:"defaultCPU"`
	DefaultMemory string `yaml:"defaultMemory"`
	// SystemRetries of an attempt that the system lost. Default: 3.
	SystemRetries int32 `yaml:"systemRetries"`
	// KeepFinished actions and their pods as objects for so long. Default: 1h.
	KeepFinished time.Duration `yaml:"keepFinished"`
	// ImagePullGrace before an image that cannot be pulled fails the attempt.
	// Default: 3m.
	ImagePullGrace time.Duration `yaml:"imagePullGrace"`
	// Env of every task pod, which none overrides.
	Env map[string]string `yaml:"env"`
	// InterruptibleNodeSelector and InterruptibleTolerations are for tasks that may be interrupted.
	InterruptibleNodeSelector map[string]string `yaml:"interruptibleNodeSelector"`
	InterruptibleTolerations  []Toleration      `yaml:"interruptibleTolerations"`
}

// Toleration is Kubernetes' own.
type Toleration struct {
	Key      string `yaml:"key"`
	Operator string `yaml:"operator"`
	Value    string `yaml:"value"`
	Effect   string `yaml:"effect"`
}

// Proxy serves clients.
type Proxy struct {
	Process `yaml:",inline"`

	// Origins are the web pages (SCHEME://HOST[:PORT]) that may call, such as a
	// console's. Default: none.
	Origins []string `yaml:"origins"`
}

// Clustersync makes namespaces.
type Clustersync struct {
	Process `yaml:",inline"`

	// TaskRoleARN is userflyterole, for the default service account of each workspace.
	TaskRoleARN string `yaml:"taskRoleARN"`
	// Templates is a folder of YAML templates that are applied to each workspace,
	// over those in the program: one of the same name replaces, an empty one takes
	// away. Default: those in the program alone.
	Templates string `yaml:"templates"`
	// Values are handed to the templates, by name.
	Values map[string]string `yaml:"values"`
	// PullSecret in the namespace of the data plane is copied into each workspace.
	PullSecret string `yaml:"pullSecret"`
}

// Log goes to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error; default info
	Format string `yaml:"format"` // text, json; default json
}

// Load reads the file, with the defaults for what it leaves out.
func Load(file string) (*Config, error) {
	c := &Config{
		Namespace: "union",
		Storage:   Storage{KeepLogs: 30 * 24 * time.Hour},
		Executor: Executor{Workers: 32, DefaultCPU: "1", DefaultMemory: "1Gi", SystemRetries: 3,
			KeepFinished: time.Hour, ImagePullGrace: 3 * time.Minute},
		Log: Log{Level: "info", Format: "json"},
	}
	if err := configfile.Load(file, configfile.Header{APIVersion: "biplane.dev/v1alpha1", Kind: "DataPlaneConfig"}, c); err != nil {
		return nil, err
	}
	for name, process := range map[string]*Process{
		"operator": &c.Operator, "executor": &c.Executor.Process, "proxy": &c.Proxy.Process, "clustersync": &c.Clustersync.Process,
	} {
		if process.Listen == "" {
			process.Listen = ":8443"
		}
		if process.Endpoint == "" {
			process.Endpoint = name + "." + c.Namespace + ".svc.cluster.local:8443"
		}
		if err := checkAddress(file, name+".endpoint", process.Endpoint); err != nil {
			return nil, err
		}
		// The SDK would send a task's token in plain text, or none.
		if host, _, _ := strings.Cut(process.Endpoint, ":"); strings.Contains(host, "localhost") || strings.Contains(host, "docker") {
			return nil, usererr.New(usererr.Invalid, "%s: %s.endpoint is %q, which Flyte's SDK takes for plain text", file, name, process.Endpoint).
				WithHint(`name a host without "localhost" and "docker" in it; 127.0.0.1 will do`)
		}
	}
	if c.ControlPlane.Gateway != "" {
		if err := checkAddress(file, "controlPlane.gateway", c.ControlPlane.Gateway); err != nil {
			return nil, err
		}
	}
	if c.Storage.ClientEndpoint == "" {
		c.Storage.ClientEndpoint = c.Storage.Endpoint
	}
	return c, nil
}

func checkAddress(file, key, address string) error {
	host, port, err := net.SplitHostPort(address)
	if n, numeric := strconv.ParseUint(port, 10, 16); err != nil || host == "" || strings.Contains(host, "/") || numeric != nil || n == 0 {
		return usererr.New(usererr.Invalid, "%s: %s is %q", file, key, address).WithHint("write HOST:PORT, without a scheme")
	}
	return nil
}
