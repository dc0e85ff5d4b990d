package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/kubernetes/pkg/kubelet/token"
)

func TestConfigMapsOfANewPod(t *testing.T) {
	t.Run("are read as soon as the API server allows it", func(t *testing.T) {
		client := fake.NewClientset(&v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}, Data: map[string]string{"k": "v"}})
		refusals := 3
		client.PrependReactor("list", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
			if refusals == 0 {
				return false, nil, nil
			}
			refusals--
			return true, nil, apierrors.NewForbidden(v1.Resource("configmaps"), "b", nil)
		})
		known := newConfigMaps(client)
		known.RegisterPod(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: v1.PodSpec{
			Volumes: []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "b"}}}}},
		}})
		got, err := known.GetConfigMap("a", "b")
		if err != nil || got.Data["k"] != "v" {
			t.Errorf("got %v, %v, want the configMap", got, err)
		}
	})
}

// The time is the API server's, which says when a token ends: the kubelet's
// manager renews one that has less than a fifth of its life before it.
func TestToken(t *testing.T) {
	for _, test := range []struct {
		name string
		left time.Duration // of the first token's 600 s, when it is looked at again
		want string
	}{
		{"stays while four fifths of its life are not over", 300 * time.Second, "token 1"},
		{"is renewed in the volume after four fifths of its life", 100 * time.Second, "token 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			given := 0
			client.PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
				request := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
				if got := *request.Spec.ExpirationSeconds; got != 600 {
					t.Errorf("got %d seconds asked for, want 600", got)
				}
				given++
				left := 600 * time.Second
				if given == 1 {
					left = test.left
				}
				request.Status = authenticationv1.TokenRequestStatus{Token: "token " + string(rune('0'+given)), ExpirationTimestamp: metav1.NewTime(time.Now().Add(left))}
				return true, request, nil
			})
			n := &node{cfg: Config{Dir: t.TempDir()}, client: client, tokens: token.NewManager(client), log: slog.New(slog.DiscardHandler)}
			n.volumes = newVolumes(n)
			life, mode := int64(600), int32(0o644)
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p", UID: "u"}}
			pod.Spec.ServiceAccountName = "s"
			pod.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []v1.VolumeProjection{
				{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &life, Audience: "x"}},
			}}}}}
			for range 2 { // when it is made, and when it is looked at again
				if err := n.volumes.setUp(pod); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(filepath.Join(n.volumes.path(pod, &pod.Spec.Volumes[0]), "token"))
			if err != nil || string(got) != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	before := diskUsage(dir)
	if before < 1<<20 || before > 2<<20 {
		t.Errorf("got %d bytes, want a MiB and little more", before)
	}
	if err := os.Link(filepath.Join(dir, "full"), filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	hole, err := os.Create(filepath.Join(dir, "hole"))
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	if err := hole.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	if got := diskUsage(dir); got > before+1<<16 {
		t.Errorf("got %d bytes, want no more for a link and a hole than %d", got, before)
	}
	if got := diskUsage(filepath.Join(dir, "absent")); got != 0 {
		t.Errorf("got %d bytes in what is not there, want none", got)
	}
}
