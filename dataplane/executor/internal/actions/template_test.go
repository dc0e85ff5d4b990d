package actions_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/actions"
)

const used = "biplane.dev/used"

func TestTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run("r1", nil)
	key := types.NamespacedName{Namespace: w.namespace, Name: w.get("r1", "a0").Spec.Template}
	template := func() *v1alpha1.TaskTemplate {
		template := &v1alpha1.TaskTemplate{}
		if err := cluster.Client.Get(t.Context(), key, template); err != nil {
			return nil
		}
		return template
	}
	n := 0
	enqueue := func() {
		n++
		w.child("r1", "a0", fmt.Sprintf("c%d", n))
	}

	t.Run("it is known to be used from the start", func(t *testing.T) {
		if !actions.UsedLately(template(), time.Now()) {
			t.Errorf("got %v, want it used lately", template().Annotations)
		}
	})
	t.Run("it is marked again once that was long ago", func(t *testing.T) {
		old := template()
		old.Annotations[used] = time.Now().Add(-3 * time.Hour).UTC().Format(time.RFC3339)
		if actions.UsedLately(old, time.Now()) {
			t.Errorf("got %v used lately, want it long ago", old.Annotations)
		}
		if err := cluster.Client.Update(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		w.eventually(func() bool { enqueue(); return actions.UsedLately(template(), time.Now()) }, "mark")
		w.eventually(func() bool {
			marked := template().ResourceVersion
			enqueue()
			return template().ResourceVersion == marked
		}, "use of it without another mark")
	})
	t.Run("it is made again when it was removed", func(t *testing.T) {
		if err := cluster.Client.Delete(t.Context(), template()); err != nil {
			t.Fatal(err)
		}
		w.eventually(func() bool { enqueue(); return template() != nil }, "template")
	})
	t.Run("it is used lately when somebody else has just made it", func(t *testing.T) {
		other := &v1alpha1.TaskTemplate{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Minute))}}
		if !actions.UsedLately(other, time.Now()) || actions.UsedLately(other, time.Now().Add(3*time.Hour)) {
			t.Errorf("got otherwise, want it told by its age")
		}
	})
}
