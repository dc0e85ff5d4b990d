package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/mount-utils"

	"biplane.dev/biplane/internal/sandbox"
)

// volumes makes the volumes of pods as folders: what is in a configMap, secret,
// downwardAPI or projected volume, and how it is replaced while a program reads
// it, is done by the kubelet's own plugins.
type volumes struct {
	n       *node
	plugins []volume.VolumePlugin // those that write files
	paths   volume.VolumePlugin   // hostPath
}

func newVolumes(n *node) *volumes {
	v := &volumes{n: n}
	for _, probe := range []func() []volume.VolumePlugin{
		configmap.ProbeVolumePlugins, secret.ProbeVolumePlugins, downwardapi.ProbeVolumePlugins, projected.ProbeVolumePlugins,
	} {
		v.plugins = append(v.plugins, probe()...)
	}
	v.paths = hostpath.ProbeVolumePlugins(volume.VolumeConfig{})[0]
	for _, plugin := range append(v.plugins, v.paths) {
		// Init of these plugins only keeps the host.
		if err := plugin.Init(&volumeHost{n: n}); err != nil {
			n.log.Error("a volume plugin was not set up", "plugin", plugin.GetPluginName(), "error", err)
		}
	}
	return v
}

// mountError is a volume that cannot be had now; its text is the event's.
type mountError struct {
	volume string
	err    error
}

func (e *mountError) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.volume, e.err)
}
func (e *mountError) Unwrap() error { return e.err }

// setUp makes every volume of a pod, or brings them up to date. It returns the
// first error per volume; the other volumes are made all the same.
func (v *volumes) setUp(pod *v1.Pod) error {
	var failed []error
	for i := range pod.Spec.Volumes {
		if err := v.setUpOne(pod, &pod.Spec.Volumes[i]); err != nil {
			failed = append(failed, &mountError{pod.Spec.Volumes[i].Name, err})
		}
	}
	return errors.Join(failed...)
}

func (v *volumes) setUpOne(pod *v1.Pod, spec *v1.Volume) error {
	switch {
	case spec.EmptyDir != nil:
		mode := os.FileMode(0o777)
		if spec.EmptyDir.Medium == v1.StorageMediumMemory {
			mode |= os.ModeSticky // as a tmpfs
		}
		dir := v.path(pod, spec)
		if err := makeOpen(dir, mode); err != nil || fsGroup(pod) == nil {
			return err
		}
		return volume.NewVolumeOwnership(folder{}, dir, fsGroup(pod), nil, nil).ChangePermissions()
	case spec.HostPath != nil:
		if _, err := v.allowed(spec.HostPath.Path); err != nil {
			return err
		}
		mounter, err := v.paths.NewMounter(volume.NewSpecFromVolume(spec), pod)
		if err != nil {
			return err
		}
		if err := mounter.SetUp(volume.MounterArgs{}); err != nil {
			return err
		}
		_, err = v.allowed(spec.HostPath.Path) // again: it may exist only now, or be another thing
		return err
	}
	for _, plugin := range v.plugins {
		if !plugin.CanSupport(volume.NewSpecFromVolume(spec)) {
			continue
		}
		mounter, err := plugin.NewMounter(volume.NewSpecFromVolume(spec), pod)
		if err != nil {
			return err
		}
		return mounter.SetUpAt(v.path(pod, spec), volume.MounterArgs{FsUser: fsUser(pod), FsGroup: fsGroup(pod)})
	}
	return fmt.Errorf("the process node mounts no volume of kind %s: use emptyDir, configMap, secret, downwardAPI, projected or hostPath, or 'biplane sandbox up --node kubelet'", volumeKind(spec))
}

// written says whether a pod has volumes whose files follow something.
func (v *volumes) written(pod *v1.Pod) bool {
	for i := range pod.Spec.Volumes {
		for _, plugin := range v.plugins {
			if plugin.CanSupport(volume.NewSpecFromVolume(&pod.Spec.Volumes[i])) {
				return true
			}
		}
	}
	return false
}

// path is where a volume lies on the machine.
func (v *volumes) path(pod *v1.Pod, spec *v1.Volume) string {
	switch {
	case spec.HostPath != nil:
		return spec.HostPath.Path
	case inMemory(spec) && v.n.memoryDir != "":
		return filepath.Join(v.n.memoryDir, string(pod.UID), spec.Name)
	}
	return filepath.Join(v.n.podDir(pod.UID), "volumes", spec.Name)
}

// inMemory says which volumes do not lie on a disk on a kubelet either.
func inMemory(spec *v1.Volume) bool {
	return spec.EmptyDir != nil && spec.EmptyDir.Medium == v1.StorageMediumMemory ||
		spec.Secret != nil || spec.Projected != nil || spec.DownwardAPI != nil
}

// tearDown removes a pod's volumes; what hostPath volumes name stays.
func (v *volumes) tearDown(uid types.UID) error {
	err := removeAll(filepath.Join(v.n.podDir(uid), "volumes"))
	if v.n.memoryDir != "" {
		err = errors.Join(err, removeAll(filepath.Join(v.n.memoryDir, string(uid))))
	}
	return err
}

// allowed refuses hostPath volumes outside the folders that the node was started
// with, and whatever would show the sandbox's own keys: a pod's program is the
// user outside, so only what it cannot see is safe from it. Of what it allows it
// says whether it can be read only.
func (v *volumes) allowed(path string) (readOnly bool, err error) {
	real, err := resolveExisting(path)
	if err != nil {
		return false, err
	}
	if hidden, err := resolveExisting(v.n.cfg.SandboxDir); err != nil || within(real, hidden) || within(hidden, real) {
		return false, fmt.Errorf("hostPath %q would show the sandbox's own files: name a folder beside %s", path, v.n.cfg.SandboxDir)
	}
	if other := sandboxAround(real); other != "" {
		return false, fmt.Errorf("hostPath %q would show the files of the sandbox in %s: name a folder beside it", path, other)
	}
	for _, entry := range v.n.cfg.HostPaths {
		folder, readOnly := strings.CutSuffix(entry, ":ro")
		if folder, err := resolveExisting(folder); err == nil && within(real, folder) {
			return readOnly, nil
		}
	}
	return false, fmt.Errorf("hostPath %q is not allowed on a process node: name a folder below %s", path, strings.Join(v.n.cfg.HostPaths, " or "))
}

// sandboxAround is the folder of the sandbox, of whatever name, that a path lies
// in.
func sandboxAround(path string) string {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		f := sandbox.Folder(path)
		if _, err := os.Lstat(f.RecordFile()); err != nil {
			continue
		}
		if info, err := os.Lstat(f.PKI()); err == nil && info.IsDir() {
			return path
		}
	}
	return ""
}

// within says whether path is folder or below it.
func within(path, folder string) bool {
	relative, err := filepath.Rel(folder, path)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, "../")
}

// resolveExisting follows every link of the part of path that exists.
func resolveExisting(path string) (string, error) {
	path = filepath.Clean(path)
	real, err := filepath.EvalSymlinks(path)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%q is a link to nowhere", path)
	}
	parent, err := resolveExisting(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// makeOpen makes a folder that every user of the pod may write, whatever the
// umask is.
func makeOpen(dir string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o777)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

// removeAll also removes folders that their owner may not write, as programs
// leave them behind.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// fsUser is whom the kubelet gives token files to: the user of every container,
// when it is one and the same. Here that is always the node's own.
func fsUser(pod *v1.Pod) *int64 {
	var user *int64
	for i := range pod.Spec.Containers {
		runAs := runAsUser(pod, &pod.Spec.Containers[i])
		if runAs == nil || user != nil && *user != *runAs {
			return nil
		}
		user = runAs
	}
	own := int64(os.Getuid())
	return &own
}

// fsGroup is whom the kubelet gives volumes to. Here that is the node's own group,
// which containers see as their own; the modes are as they should be.
func fsGroup(pod *v1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil || pod.Spec.SecurityContext.FSGroup == nil {
		return nil
	}
	own := int64(os.Getgid())
	return &own
}

// volumeKind is the name of the field that is set.
func volumeKind(spec *v1.Volume) string {
	for kind, set := range map[string]bool{
		"persistentVolumeClaim": spec.PersistentVolumeClaim != nil, "csi": spec.CSI != nil, "ephemeral": spec.Ephemeral != nil,
		"nfs": spec.NFS != nil, "image": spec.Image != nil, "iscsi": spec.ISCSI != nil, "fc": spec.FC != nil,
	} {
		if set {
			return kind
		}
	}
	return "this"
}

// volumeHost is what the plugins see of a kubelet. Of the two interfaces they use
// the methods below; the others are nil.
type volumeHost struct {
	volume.VolumeHost
	volume.KubeletVolumeHost
	n *node
}

func (h *volumeHost) GetPodVolumeDir(uid types.UID, _ string, name string) string {
	return filepath.Join(h.n.podDir(uid), "volumes", name) // for metrics; SetUpAt is told where
}
func (h *volumeHost) GetPodsDir() string                  { return filepath.Join(h.n.cfg.Dir, "pods") }
func (h *volumeHost) GetKubeClient() kubernetes.Interface { return h.n.client }
func (h *volumeHost) GetMounter() mount.Interface         { return nil }
func (h *volumeHost) GetHostUtil() hostutil.HostUtils     { return hostutil.NewHostUtil() }
func (h *volumeHost) GetNodeAllocatable() (v1.ResourceList, error) {
	return h.n.allocatable, nil
}
func (h *volumeHost) GetSecretFunc() func(namespace, name string) (*v1.Secret, error) {
	return h.n.secrets.GetSecret
}
func (h *volumeHost) GetConfigMapFunc() func(namespace, name string) (*v1.ConfigMap, error) {
	return h.n.configMaps.GetConfigMap
}
func (h *volumeHost) GetServiceAccountTokenFunc() func(namespace, name string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	return h.n.tokens.GetServiceAccountToken
}
func (h *volumeHost) DeleteServiceAccountTokenFunc() func(types.UID) {
	return h.n.tokens.DeleteServiceAccountToken
}

// The plugins put their files into an emptyDir, most of them into one of medium
// Memory; mounting that would need root, so it is a folder, see volumes.path.
func (h *volumeHost) NewWrapperMounter(_ string, spec volume.Spec, _ *v1.Pod) (volume.Mounter, error) {
	if spec.Volume.EmptyDir.Medium == v1.StorageMediumMemory {
		return folder{mode: 0o777 | os.ModeSticky}, nil
	}
	return folder{mode: 0o777}, nil
}
func (h *volumeHost) NewWrapperUnmounter(string, volume.Spec, types.UID) (volume.Unmounter, error) {
	return folder{}, nil
}

func (h *volumeHost) GetTrustAnchorsByName(string, bool) ([]byte, error) {
	return nil, errNoTrustBundles
}
func (h *volumeHost) GetTrustAnchorsBySigner(string, *metav1.LabelSelector, bool) ([]byte, error) {
	return nil, errNoTrustBundles
}
func (h *volumeHost) GetPodCertificateCredentialBundle(context.Context, string, string, string, string, int) ([]byte, []byte, error) {
	return nil, nil, errors.New("the process node has no podCertificate volumes: mount a secret with the certificate instead")
}

var errNoTrustBundles = errors.New("the process node has no clusterTrustBundle volumes: mount a configMap with the certificates instead")

// folder is a volume that is made by making a folder, and goes with its pod.
type folder struct {
	*volume.MetricsNil
	mode os.FileMode
}

func (folder) SetUp(volume.MounterArgs) error                   { return nil }
func (f folder) SetUpAt(dir string, _ volume.MounterArgs) error { return makeOpen(dir, f.mode) }
func (folder) TearDown() error                                  { return nil }
func (folder) TearDownAt(string) error                          { return nil }
func (folder) GetPath() string                                  { return "" }
func (folder) GetAttributes() volume.Attributes                 { return volume.Attributes{} }
