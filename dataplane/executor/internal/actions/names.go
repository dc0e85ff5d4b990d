package actions

import (
	"regexp"

	"connectrpc.com/connect"
	"k8s.io/apimachinery/pkg/types"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// reference names an action within the cluster.
type reference struct{ namespace, run, action string }

func (r reference) String() string { return r.run + "/" + r.action }

// key is that of its TaskAction.
func (r reference) key() types.NamespacedName {
	return types.NamespacedName{Namespace: r.namespace, Name: v1alpha1.ActionName(r.run, r.action)}
}

// sibling is another action of the same run.
func (r reference) sibling(action string) reference {
	return reference{r.namespace, r.run, action}
}

func referenceTo(a *v1alpha1.TaskAction) reference {
	return reference{a.Namespace, a.Spec.Run, a.Spec.Action}
}

// Names become parts of the names of objects, pods and folders.
var (
	workspaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	domainName    = regexp.MustCompile(`^[a-z0-9]{1,63}$`) // see v1alpha1.NamespaceOf
	runName       = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$`)
	actionName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$`)
)

// maxNamespace is Kubernetes'.
const maxNamespace = 63

// resolve says which action of the cluster is meant.
func resolve(id *common.ActionIdentifier) (reference, error) {
	run := id.GetRun()
	for _, name := range []struct {
		field, value string
		good         *regexp.Regexp
		want         string
	}{
		{"run.project", run.GetProject(), workspaceName, "at most 63 lower-case letters, digits and hyphens"},
		{"run.domain", run.GetDomain(), domainName, "at most 63 lower-case letters and digits"},
		{"run.name", run.GetName(), runName, "at most 30 lower-case letters, digits and hyphens, a letter first"},
		{"name", id.GetName(), actionName, "at most 30 lower-case letters, digits and hyphens"},
	} {
		if !name.good.MatchString(name.value) {
			return reference{}, refuse(connect.CodeInvalidArgument, "action_id.%s is %q: give %s", name.field, cut(name.value, 80), name.want)
		}
	}
	namespace := v1alpha1.NamespaceOf(run.GetProject(), run.GetDomain())
	if len(namespace) > maxNamespace {
		return reference{}, refuse(connect.CodeInvalidArgument,
			"project %q and domain %q make a namespace of more than %d characters: take shorter names", run.GetProject(), run.GetDomain(), maxNamespace)
	}
	return reference{namespace: namespace, run: run.GetName(), action: id.GetName()}, nil
}

// cut shortens a text to at most so many bytes, and never in the middle of a
// character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := 0
	for i := range text {
		if i > most {
			break
		}
		end = i
	}
	return text[:end]
}
