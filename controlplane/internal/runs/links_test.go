package runs

import (
	"testing"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"

	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestLinks(t *testing.T) {
	t.Parallel()
	action := store.Action{Key: store.ActionKey{Run: store.RunKey{Organization: "o", Project: "p", Domain: "d", Name: "r"}, Name: "a0"}}
	waiting := &workflow.ActionAttempt{}
	running := &workflow.ActionAttempt{LogContext: &core.LogContext{PrimaryPodName: "r-a0-0", Pods: []*core.PodLogContext{
		{Namespace: "p-d", PodName: "r-a0-0", PrimaryContainerName: "main"}}}}
	ended := &workflow.ActionAttempt{LogContext: running.LogContext, EndTime: timestamppb.Now()}
	for name, c := range map[string]struct {
		template *core.TaskLog
		attempt  *workflow.ActionAttempt
		want     string // "" for none
	}{
		"it fills in what the SDK leaves":                   {&core.TaskLog{Uri: "https://l/{{.podName}}/{{.actionName}}"}, running, "https://l/r-a0-0/a0"},
		"it takes spaces, another sigil and other letters":  {&core.TaskLog{Uri: "{{ $podname }}/{{ .NAMESPACE }}/{{.containerName}}"}, running, "r-a0-0/p-d/main"},
		"it leaves what is not its own":                     {&core.TaskLog{Uri: "{{.weather}}"}, running, "{{.weather}}"},
		"it leaves a link out that has no pod yet":          {&core.TaskLog{Uri: "https://l/{{.podName}}", ShowWhilePending: true}, waiting, ""},
		"it leaves out before the pod what is not for then": {&core.TaskLog{Uri: "https://l/{{.runName}}"}, waiting, ""},
		"it shows before the pod what is for then":          {&core.TaskLog{Uri: "https://l/{{.runName}}", ShowWhilePending: true}, waiting, "https://l/r"},
		"it hides at the end what is to be hidden":          {&core.TaskLog{Uri: "https://l", HideOnceFinished: true}, ended, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := links([]*core.TaskLog{c.template}, action, c.attempt)
			if c.want == "" {
				if len(got) != 0 {
					t.Errorf("got %v, want no link", got)
				}
				return
			}
			if len(got) != 1 || got[0].GetUri() != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}
