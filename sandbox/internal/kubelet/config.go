package kubelet

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"k8s.io/client-go/tools/clientcmd"
)

// PauseImage is the image of the process that holds a pod's namespaces.
const PauseImage = "biplane.dev/sandbox/pause:1"

// writeConfig writes the files that the node's programs are started with. What
// they listen on is the node's own loopback and its one address.
func writeConfig(o Options) error {
	for _, dir := range []string{"etc", "etc/cni", "run", "kubelet", "log", "containerd", "volumeplugins"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, dir), 0o700); err != nil {
			return fmt.Errorf("making a folder of the node: %w", err)
		}
	}
	plugins, err := cniFolder()
	if err != nil {
		return err
	}
	values := struct {
		Options
		Run, Plugins, Pause, Cgroup string
	}{o, runtimeDir, plugins, PauseImage, cgroup(o)}
	for name, text := range files {
		var out strings.Builder
		parsed, err := template.New(name).Option("missingkey=error").Parse(text)
		if err == nil {
			err = parsed.Execute(&out, values)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(o.Dir, "etc", name), []byte(out.String()), 0o600)
		}
		if err != nil {
			return fmt.Errorf("writing the node's %s: %w", name, err)
		}
	}
	for name, from := range map[string]string{"kubelet.kubeconfig": o.Kubeconfig, "kube-proxy.kubeconfig": o.ProxyKubeconfig} {
		if err := writeKubeconfig(filepath.Join(o.Dir, "etc", name), from, o.Network); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig copies a kubeconfig, with the server at the address that it
// has for the node.
func writeKubeconfig(to, from string, network Network) error {
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return fmt.Errorf("reading a kubeconfig of the node: %w", err)
	}
	if err := clientcmd.ResolveLocalPaths(config); err != nil {
		return fmt.Errorf("reading %s: %w", from, err)
	}
	for name, cluster := range config.Clusters {
		server, err := url.Parse(cluster.Server)
		if err != nil {
			return fmt.Errorf("reading the server of cluster %q in %s: %w", name, from, err)
		}
		server.Host = net.JoinHostPort(network.Host().String(), server.Port())
		cluster.Server = server.String()
	}
	if err := clientcmd.WriteToFile(*config, to); err != nil { // 0600
		return fmt.Errorf("writing a kubeconfig of the node: %w", err)
	}
	return nil
}

// files are templates. What is not commented is what these programs take by
// themselves, or a name.
var files = map[string]string{
	"containerd.toml": `version = 2
root  = {{ printf "%s/containerd" .Dir | printf "%q" }}
state = "/run/containerd"
# Nothing here needs them, and they log errors where the kernel has not what they need.
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{{ .Run }}/containerd.sock"
[ttrpc]
  address = "{{ .Run }}/containerd.ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{ .Pause }}"
  disable_tcp_service = true
  restrict_oom_score_adj = true # else no container starts where root has not CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir  = "{{ .Plugins }}"
    conf_dir = {{ printf "%s/etc/cni" .Dir | printf "%q" }}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`,
	"cni/10-bridge.conflist": `{ "cniVersion": "0.4.0", "name": "pods", "plugins": [
  { "type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
    "ipam": { "type": "host-local", "dataDir": "/run/cni",
      "ranges": [[{ "subnet": "{{ .Network.Pods }}" }]], "routes": [{ "dst": "0.0.0.0/0" }] } } ] }
`,
	"resolv.conf": "nameserver {{ .Network.Node }}\n",
	"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {{ .Network.Node }}
port: 10250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
healthzPort: 10248
tlsCertFile: {{ printf "%q" .Cert }}
tlsPrivateKeyFile: {{ printf "%q" .Key }}
authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: {{ printf "%q" .ClientCA }} } }
authorization: { mode: Webhook }
containerRuntimeEndpoint: unix://{{ .Run }}/containerd.sock
# cgroup v1 is what some machines still have.
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /{{ .Cgroup }}
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
failSwapOn: false
maxPods: 110
makeIPTablesUtilChains: false
clusterDNS: [{{ .Network.Node }}]
clusterDomain: cluster.local
resolvConf: {{ printf "%s/etc/resolv.conf" .Dir | printf "%q" }}
volumePluginDir: {{ printf "%s/volumeplugins" .Dir | printf "%q" }}
staticPodPath: ""
# Images come from archives and cannot be pulled again: never collect them, and
# never evict a pod for a disk that is filled by others.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
imageMaximumGCAge: 0s
evictionHard: { memory.available: 100Mi, nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%" }
serializeImagePulls: false
# The defaults are for clusters with thousands of nodes.
syncFrequency: 10s
nodeStatusUpdateFrequency: 10s
kubeAPIQPS: 500
kubeAPIBurst: 1000
eventRecordQPS: 0
registryPullQPS: 0
logging: { verbosity: 1 }
`,
	"kube-proxy.yaml": `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
hostnameOverride: {{ .Name }}
clusterCIDR: {{ .Network.Pods }}
bindAddress: {{ .Network.Node }}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
clientConnection: { kubeconfig: {{ printf "%s/etc/kube-proxy.kubeconfig" .Dir | printf "%q" }}, qps: 500, burst: 1000 }
# Zeroes leave the kernel's settings alone.
conntrack: { maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s }
nodePortAddresses: [primary]
iptables: { minSyncPeriod: 100ms, syncPeriod: 30s, localhostNodePorts: false }
`,
}
