package eks

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// kubernetes are the versions that clusters can have, oldest first, as of
// 2026-04. Source: Amazon EKS User Guide, Understand the Kubernetes version
// lifecycle on EKS. What is supported does not follow the clock, so that a file
// that works today works next year.
var kubernetes = []struct {
	version, patch, platform   string
	released, standard, extend string
	extended                   bool // support: no longer standard
}{
	{"1.31", "1.31.14", "eks.50", "2024-09-26", "2025-11-26", "2026-11-26", true},
	{"1.32", "1.32.11", "eks.34", "2025-01-23", "2026-03-23", "2027-03-23", true},
	{"1.33", "1.33.7", "eks.27", "2025-05-29", "2026-07-29", "2027-07-29", false},
	{"1.34", "1.34.3", "eks.13", "2025-10-02", "2026-12-02", "2027-12-02", false},
	{"1.35", "1.35.0", "eks.3", "2026-01-28", "2027-03-27", "2028-03-27", false},
}

// defaultVersion is that of a cluster that names none.
const defaultVersion = "1.35"

// minor is the number after "1.", 0 for what is no version.
func minor(version string) int {
	rest, ok := strings.CutPrefix(version, "1.")
	n, err := strconv.Atoi(rest)
	if !ok || err != nil {
		return 0
	}
	return n
}

func supported(version string) bool { return platformOf(version) != "" }

func platformOf(version string) string {
	for _, k := range kubernetes {
		if k.version == version {
			return k.platform
		}
	}
	return ""
}

func patchOf(version string) string {
	for _, k := range kubernetes {
		if k.version == version {
			return k.patch
		}
	}
	return version + ".0"
}

// Release is the release of EKS's node image for a version, or "" for a version that
// clusters cannot have.
func Release(version string) string {
	if !supported(version) {
		return ""
	}
	return releaseOf(version)
}

func (s *Service) describeClusterVersions(r *request) (any, error) {
	var in struct {
		paging
		ClusterType     string `json:"clusterType"`
		ClusterVersions words  `json:"clusterVersions"`
		DefaultOnly     truth  `json:"defaultOnly"`
		Status          string `json:"status"`
		VersionStatus   string `json:"versionStatus"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	all := []map[string]any{}
	for _, k := range slices.Backward(kubernetes) {
		status, old := "STANDARD_SUPPORT", "standard-support"
		if k.extended {
			status, old = "EXTENDED_SUPPORT", "extended-support"
		}
		if len(in.ClusterVersions) > 0 && !slices.Contains(in.ClusterVersions, k.version) || bool(in.DefaultOnly) && k.version != defaultVersion ||
			in.VersionStatus != "" && in.VersionStatus != status || in.Status != "" && in.Status != old {
			continue
		}
		all = append(all, map[string]any{
			"clusterVersion": k.version, "clusterType": "eks", "defaultPlatformVersion": k.platform, "defaultVersion": k.version == defaultVersion,
			"releaseDate": day(k.released), "endOfStandardSupportDate": day(k.standard), "endOfExtendedSupportDate": day(k.extend),
			"status": old, "versionStatus": status, "kubernetesPatchVersion": k.patch,
		})
	}
	part, next, err := page(all, in.paging, 100)
	return map[string]any{"clusterVersions": part, "nextToken": next}, err
}

func day(s string) timestamp {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err) // the table above
	}
	return timestamp(t)
}

// An addonRelease is one version of an add-on.
type addonRelease struct {
	version    string
	from, to   int // Kubernetes minors that it fits
	defaultFor int // the minors up to which, from its first, it is the default; 0 for none
}

// addonKind is an add-on that can be installed. Source: Amazon EKS User Guide, AWS
// add-ons; the versions follow that page's and the projects' release notes.
type addonKind struct {
	name, kind string
	nodes      bool // it needs nodes to be healthy: a Deployment, not only a DaemonSet
	role       bool // it wants a role
	releases   []addonRelease
	settings   []string // on top of its schema; what is below them is not looked at
}

var addonKinds = []addonKind{
	{"vpc-cni", "networking", false, true, []addonRelease{
		{"v1.21.1-eksbuild.1", 31, 35, 35}, {"v1.20.4-eksbuild.2", 31, 34, 0}, {"v1.19.6-eksbuild.1", 30, 33, 0}},
		[]string{"affinity", "apiService", "autoMode", "enableNetworkPolicy", "enableWindowsIpam", "enableWindowsPrefixDelegation", "env", "eniConfig", "extraVolumes", "init", "livenessProbeTimeoutSeconds", "minimumWindowsIPTarget",
			"nodeAgent", "nodeSelector", "originalMatchLabels", "podAnnotations", "podLabels", "readinessProbeTimeoutSeconds", "resources", "serviceAccount", "tolerations", "updateStrategy", "warmWindowsIPTarget", "warmWindowsPrefixTarget"}},
	{"kube-proxy", "networking", false, false, kubeProxies(), []string{"ipvs", "mode", "podAnnotations", "podLabels", "resources"}},
	{"coredns", "networking", true, false, []addonRelease{
		{"v1.13.1-eksbuild.1", 34, 35, 35}, {"v1.12.4-eksbuild.1", 33, 35, 34}, {"v1.12.1-eksbuild.2", 33, 34, 33}, {"v1.11.4-eksbuild.24", 30, 33, 32}},
		[]string{"affinity", "autoScaling", "computeType", "corefile", "nodeSelector", "podAnnotations", "podDisruptionBudget", "podLabels", "replicaCount", "resources", "tolerations", "topologySpreadConstraints"}},
	{"aws-ebs-csi-driver", "storage", true, true, []addonRelease{
		{"v1.55.0-eksbuild.1", 31, 35, 35}, {"v1.50.1-eksbuild.1", 30, 34, 0}},
		[]string{"controller", "customLabels", "debugLogs", "defaultStorageClass", "enableFIPS", "fips", "image", "node", "nodeComponentOnly", "sidecars", "snapshotter", "storageClasses", "volumeSnapshotClasses"}},
	{"eks-pod-identity-agent", "security", false, false, []addonRelease{
		{"v1.3.10-eksbuild.2", 31, 35, 35}, {"v1.3.8-eksbuild.2", 30, 34, 0}},
		[]string{"affinity", "agent", "daemonsets", "env", "init", "nodeSelector", "podAnnotations", "priorityClassName", "resources", "tolerations", "updateStrategy"}},
	{"metrics-server", "observability", true, false, []addonRelease{
		{"v0.8.0-eksbuild.6", 31, 35, 35}, {"v0.7.2-eksbuild.4", 30, 34, 0}},
		[]string{"addonResizer", "affinity", "args", "extraArgs", "nodeSelector", "podAnnotations", "podDisruptionBudget", "podLabels", "replicas", "resources", "tolerations", "topologySpreadConstraints", "updateStrategy"}},
}

// kubeProxies has one for each version of Kubernetes; a cluster takes those of up
// to three minors before (Kubernetes, Version Skew Policy).
func kubeProxies() []addonRelease {
	var all []addonRelease
	for _, k := range slices.Backward(kubernetes) {
		m := minor(k.version)
		all = append(all, addonRelease{"v" + k.patch + "-eksbuild.2", m, m + 3, m})
	}
	return all
}

func addonNamed(name string) *addonKind {
	for i := range addonKinds {
		if addonKinds[i].name == name {
			return &addonKinds[i]
		}
	}
	return nil
}

// defaultFor is the version that EKS installs on a minor when none is named: the
// oldest that is a default there.
func (k *addonKind) defaultFor(m int) string {
	for _, release := range slices.Backward(k.releases) {
		if m >= release.from && m <= release.defaultFor {
			return release.version
		}
	}
	return ""
}

func (k *addonKind) fits(version string, m int) bool {
	for _, release := range k.releases {
		if release.version == version {
			return m >= release.from && m <= release.to
		}
	}
	return false
}

func (k *addonKind) fitting(m int) []string {
	fitting := []string{}
	for _, release := range k.releases {
		if m >= release.from && m <= release.to {
			fitting = append(fitting, release.version)
		}
	}
	return fitting
}

func (s *Service) describeAddonVersions(r *request) (any, error) {
	var in struct {
		paging
		AddonName         string `json:"addonName"`
		KubernetesVersion string `json:"kubernetesVersion"`
		Owners            words  `json:"owners"`
		Publishers        words  `json:"publishers"`
		Types             words  `json:"types"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	if in.AddonName != "" && addonNamed(in.AddonName) == nil {
		return nil, notFound("Addon %s not found", in.AddonName)
	}
	if in.KubernetesVersion != "" && !supported(in.KubernetesVersion) {
		return nil, invalidParameter("Kubernetes version %s is not supported", in.KubernetesVersion)
	}
	all := []map[string]any{}
	for _, kind := range addonKinds {
		if in.AddonName != "" && kind.name != in.AddonName || len(in.Owners) > 0 && !slices.Contains(in.Owners, "aws") ||
			len(in.Publishers) > 0 && !slices.Contains(in.Publishers, addonPublisher) || len(in.Types) > 0 && !slices.Contains(in.Types, kind.kind) {
			continue
		}
		versions := []map[string]any{}
		for _, release := range kind.releases {
			compatible := []map[string]any{}
			for _, k := range kubernetes {
				m := minor(k.version)
				if m < release.from || m > release.to || in.KubernetesVersion != "" && k.version != in.KubernetesVersion {
					continue
				}
				compatible = append(compatible, map[string]any{
					"clusterVersion": k.version, "platformVersions": []string{"*"}, "defaultVersion": kind.defaultFor(m) == release.version,
				})
			}
			if len(compatible) > 0 {
				versions = append(versions, map[string]any{
					"addonVersion": release.version, "architecture": []string{"amd64", "arm64"}, "computeTypes": []string{"ec2", "hybrid"},
					"compatibilities": compatible, "requiresConfiguration": false, "requiresIamPermissions": kind.role,
				})
			}
		}
		if len(versions) > 0 {
			all = append(all, map[string]any{
				"addonName": kind.name, "type": kind.kind, "publisher": addonPublisher, "owner": "aws", "defaultNamespace": addonNamespace,
				"addonVersions": versions,
			})
		}
	}
	part, next, err := page(all, in.paging, 100)
	return map[string]any{"addons": part, "nextToken": next}, err
}

func (s *Service) describeAddonConfiguration(r *request) (any, error) {
	var in struct {
		AddonName    string `json:"addonName"`
		AddonVersion string `json:"addonVersion"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	kind := addonNamed(in.AddonName)
	if kind == nil {
		return nil, notFound("Addon %s not found", in.AddonName)
	}
	if !slices.ContainsFunc(kind.releases, func(one addonRelease) bool { return one.version == in.AddonVersion }) {
		return nil, notFound("Addon version %s of %s not found", in.AddonVersion, in.AddonName)
	}
	properties := map[string]any{}
	for _, setting := range kind.settings {
		properties[setting] = map[string]any{}
	}
	return map[string]any{
		"addonName": in.AddonName, "addonVersion": in.AddonVersion, "podIdentityConfiguration": kind.podIdentities(),
		"configurationSchema": asJSON(map[string]any{"$schema": "http://json-schema.org/draft-06/schema#", "title": in.AddonName, "type": "object",
			"properties": properties, "additionalProperties": false}),
	}, nil
}

// addonPublisher has all of them.
const addonPublisher = "eks"

// podIdentities are the service accounts that want a role, and the managed policies
// that it needs (Amazon EKS User Guide, AWS add-ons).
func (k *addonKind) podIdentities() []map[string]any {
	policies := "arn:aws:iam::aws:policy/"
	switch k.name {
	case "vpc-cni":
		return []map[string]any{{"serviceAccount": "aws-node", "recommendedManagedPolicies": []string{policies + "AmazonEKS_CNI_Policy"}}}
	case "aws-ebs-csi-driver":
		return []map[string]any{{"serviceAccount": "ebs-csi-controller-sa", "recommendedManagedPolicies": []string{policies + "service-role/AmazonEBSCSIDriverPolicy"}}}
	}
	return []map[string]any{}
}
