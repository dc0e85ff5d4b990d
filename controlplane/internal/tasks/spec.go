package tasks

import (
	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/limits"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
)

const maxLabel = 63

// Complete returns a copy of a definition in which its template says which task
// it is: `flyte run` sends it with a name and a version, and with neither
// organisation, project nor domain. It refuses a definition that no data plane
// could hold.
func Complete(spec *task.TaskSpec, key store.TaskKey) (*task.TaskSpec, error) {
	if spec.GetTaskTemplate() == nil {
		return nil, refusal.Invalid("the definition of task %q has no task_template", key.Name)
	}
	if err := names.Short("the short name of task "+key.Name, spec.GetShortName(), maxLabel); err != nil {
		return nil, err
	}
	if err := names.Short("the environment of task "+key.Name, spec.GetEnvironment().GetName(), maxLabel); err != nil {
		return nil, err
	}
	spec = proto.CloneOf(spec)
	spec.TaskTemplate.Id = &core.Identifier{
		ResourceType: core.ResourceType_TASK,
		Org:          key.Organization, Project: key.Project, Domain: key.Domain, Name: key.Name, Version: key.Version,
	}
	if size := proto.Size(spec); size > limits.TaskSpecBytes {
		return nil, refusal.Invalid("the definition of task %q has %d bytes, and may have %d; pass large defaults as a File, or read them in the task", key.Name, size, limits.TaskSpecBytes)
	}
	return spec, nil
}
