package actions_test

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

func TestSDKSmoke(t *testing.T) {
	w := newWorld(t)
	w.run("r1", nil)
	w.pod("r1", "a0", 1, true)
	pod := &corev1.Pod{}
	if err := cluster.Client.Get(t.Context(), types.NamespacedName{Namespace: w.namespace, Name: "r1-a0-1"}, pod); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "token"), []byte(cluster.Token(t, w.namespace, "default", v1alpha1.TokenAudience, pod)), 0o600)
	os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shown().Certificate[0]}), 0o600)
	stop := make(chan struct{})
	var rec sync.WaitGroup
	rec.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			var list v1alpha1.TaskActionList
			if err := cluster.Client.List(t.Context(), &list, client.InNamespace(w.namespace)); err != nil {
				return
			}
			for i := range list.Items {
				a := &list.Items[i]
				if a.Spec.Parent == "" || a.Status.Phase.Terminal() {
					continue
				}
				a.Status.Version++
				switch {
				case a.Spec.Abort != nil:
					a.Status.Phase = v1alpha1.Aborted
				case a.Spec.Group == "hang":
					continue
				case a.Spec.Group == "fail":
					a.Status.Phase, a.Status.Error = v1alpha1.Failed, &v1alpha1.ActionError{Code: "ValueError", Kind: v1alpha1.UserError, Message: "bad"}
				default:
					a.Status.Phase, a.Status.OutputURI = v1alpha1.Succeeded, a.Spec.RunOutputBase+"/"+a.Spec.Action+"/1"
				}
				_ = cluster.Client.Status().Update(t.Context(), a)
			}
		}
	})
	cmd := exec.Command("/tmp/idl/v/bin/python", "/tmp/f-smoke.py", w.address, dir, organization, w.project, w.domain)
	cmd.Env = append(os.Environ(), "_U_USE_ACTIONS=1", "LOG_LEVEL=20")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	close(stop)
	rec.Wait()
}
