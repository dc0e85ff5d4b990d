// Package recovery says which run another one takes results from. The names of
// actions are hashes of what they do, so an action is the same in both runs.
//
// It reads nothing: what succeeded there, and still is, is for who asks to find out.
package recovery

import (
	"regexp"
	"slices"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

var runName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$`)

// From is the run that a run in a namespace recovers; empty for none.
func From(run *task.RunSpec, namespace string) string {
	relation := run.GetRelation()
	from := relation.GetRelatedTo()
	if relation.GetRelationType() != common.RelationType_RELATION_TYPE_RECOVER ||
		v1alpha1.NamespaceOf(from.GetProject(), from.GetDomain()) != namespace || !runName.MatchString(from.GetName()) {
		return ""
	}
	return from.GetName()
}

// Again says whether an action is to run although it succeeded there.
func Again(run *task.RunSpec, action string) bool {
	return slices.Contains(run.GetRecover().GetForceRerunActions(), action)
}

// Succeeded says of an action whether it has results to be taken.
func Succeeded(phase v1alpha1.Phase) bool {
	return phase == v1alpha1.Succeeded || phase == v1alpha1.Recovered
}
