package runs

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

// placeholder is a name that a task's log link leaves to be filled in:
// {{.podName}}, as Flyte's SDK writes it.
var placeholder = regexp.MustCompile(`\{\{\s*[.$](\w+)\s*\}\}`)

// links are a task's log links for one attempt. One that names what is not known
// yet, such as the pod of an attempt that waits, is left out until it is.
func links(templates []*core.TaskLog, a store.Action, attempt *workflow.ActionAttempt) []*core.TaskLog {
	var filled []*core.TaskLog
	pod := attempt.GetLogContext().GetPrimaryPodName()
	for _, template := range templates {
		if pod == "" && !template.GetShowWhilePending() || template.GetHideOnceFinished() && attempt.GetEndTime() != nil {
			continue
		}
		values := map[string]string{
			"podname": pod, "hostname": pod, // a pod's host name is its own
			"actionname": a.Key.Name, "runname": a.Key.Run.Name, "project": a.Key.Run.Project, "domain": a.Key.Run.Domain,
		}
		for _, p := range attempt.GetLogContext().GetPods() {
			if p.GetPodName() == pod {
				values["namespace"], values["containername"] = p.GetNamespace(), p.GetPrimaryContainerName()
			}
		}
		missing := false
		link := proto.CloneOf(template)
		link.Uri = placeholder.ReplaceAllStringFunc(template.GetUri(), func(found string) string {
			value, known := values[strings.ToLower(placeholder.FindStringSubmatch(found)[1])]
			if !known {
				return found // not ours to fill in
			}
			missing = missing || value == ""
			return value
		})
		if !missing {
			link.Ready = pod != ""
			filled = append(filled, link)
		}
	}
	return filled
}
