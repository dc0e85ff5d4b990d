package report

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// StateOf is everything that is told of an action. It names each field that
// leaves the data plane, and takes none as a whole, so that a text added to
// TaskAction stays where it is. cluster is the data plane's name.
//
// Not told are messages of errors and phases, the value of a signal, a condition's
// webhook, and log lines. Two texts are: a condition's prompt, which is put to a
// person who reads it in the control plane, and why an action was aborted, which
// comes from there.
func StateOf(a *v1alpha1.TaskAction, cluster string) *tunnelv1.ActionState {
	spec, status := a.Spec, a.Status
	state := &tunnelv1.ActionState{
		Position:    number(a.ResourceVersion),
		Id:          actionID(spec, spec.Run, spec.Action),
		Version:     uint64(max(0, status.Version)),
		Parent:      spec.Parent,
		Group:       spec.Group,
		TaskType:    spec.TaskType,
		ShortName:   spec.ShortName,
		Environment: spec.Environment,
		InputUri:    spec.InputURI,
		OutputUri:   status.OutputURI,
		Phase:       phase(status.Phase),
		CreatedAt:   created(a),
		EndedAt:     micros(status.EndedAt),
		CacheStatus: cacheStatus(status.CacheStatus),
	}
	switch spec.Type {
	case v1alpha1.TypeTask:
		state.Type = workflow.ActionType_ACTION_TYPE_TASK
		state.TaskSpecDigest = digestPrefix + spec.Template
		state.TaskId = &task.TaskIdentifier{
			Org: spec.Organization, Project: spec.TaskProject, Domain: spec.TaskDomain, Name: spec.TaskName, Version: spec.TaskVersion,
		}
	case v1alpha1.TypeTrace:
		state.Type = workflow.ActionType_ACTION_TYPE_TRACE
		state.Name = spec.ShortName
	case v1alpha1.TypeCondition:
		state.Type = workflow.ActionType_ACTION_TYPE_CONDITION
		state.Name = spec.ShortName
		state.Condition = condition(spec.Condition)
	}
	for i := range status.Attempts {
		state.Attempts = append(state.Attempts, attempt(a.Namespace, &status.Attempts[i], cluster))
	}
	if status.Error != nil && status.Phase.Terminal() {
		state.ErrorKind, state.ErrorCode = errorKind(status.Error.Kind), errorCode(status.Error.Code)
	}
	if status.Phase == v1alpha1.Aborted {
		state.AbortReason = status.Message // the reason of what it was part of
		if spec.Abort != nil {
			state.AbortReason = spec.Abort.Reason
		}
	}
	if from := spec.RecoveredFrom; from != nil && status.Phase == v1alpha1.Recovered {
		state.RecoveredFrom = actionID(spec, from.Run, from.Action)
	}
	return state
}

// digestPrefix tells how templates are named.
const digestPrefix = "sha256:"

func actionID(of v1alpha1.TaskActionSpec, run, action string) *common.ActionIdentifier {
	return &common.ActionIdentifier{
		Run:  &common.RunIdentifier{Org: of.Organization, Project: of.Project, Domain: of.Domain, Name: run},
		Name: action,
	}
}

// created is when an action began to be. A trace comes when it has ended, and says
// itself when it began.
func created(a *v1alpha1.TaskAction) *timestamppb.Timestamp {
	if a.Spec.Type == v1alpha1.TypeTrace && a.Spec.RecoveredFrom == nil {
		trace := &workflow.TraceAction{}
		if err := proto.Unmarshal(a.Spec.Trace, trace); err == nil && trace.GetStartTime().IsValid() {
			return trace.GetStartTime()
		}
	}
	return timestamppb.New(a.CreatedAt())
}

// condition is what a person must know to give the value.
func condition(encoded []byte) *workflow.ConditionAction {
	all := &workflow.ConditionAction{}
	if err := proto.Unmarshal(encoded, all); err != nil {
		return nil // the reconciler fails such an action
	}
	return &workflow.ConditionAction{
		Name: all.GetName(), Type: all.GetType(), Timeout: all.GetTimeout(),
		Prompt: all.GetPrompt(), PromptType: all.GetPromptType(), Description: all.GetDescription(),
	}
}

func attempt(namespace string, a *v1alpha1.Attempt, cluster string) *workflow.ActionAttempt {
	told := &workflow.ActionAttempt{
		Attempt:          uint32(max(0, a.Number)),
		Phase:            phase(a.Phase),
		StartTime:        micros(a.StartedAt),
		EndTime:          micros(a.EndedAt),
		CacheStatus:      cacheStatus(a.CacheStatus),
		PhaseTransitions: transitions(a),
		Cluster:          cluster,
	}
	if a.Error != nil {
		told.ErrorInfo = &workflow.ErrorInfo{Kind: errorKind(a.Error.Kind)}
	}
	if folder := strings.TrimRight(a.OutputURI, "/"); folder != "" {
		told.Outputs = &task.OutputReferences{ReportUri: folder + "/report.html"}
		if a.Phase == v1alpha1.Succeeded {
			told.Outputs.OutputUri = folder + "/outputs.pb"
		}
	}
	if a.Pod != "" {
		told.LogsAvailable = true
		told.LogContext = &core.LogContext{
			PrimaryPodName: a.Pod,
			Pods: []*core.PodLogContext{{
				Namespace: namespace, PodName: a.Pod, PrimaryContainerName: a.Container,
				Containers: []*core.ContainerContext{{
					ContainerName: a.Container,
					Process: &core.ContainerContext_ProcessContext{
						ContainerStartTime: micros(a.ContainerStartedAt), ContainerEndTime: micros(a.ContainerEndedAt),
					},
				}},
			}},
		}
	}
	return told
}

// transitions each end where the next begins, and the last where the attempt
// does.
func transitions(a *v1alpha1.Attempt) []*workflow.PhaseTransition {
	told := make([]*workflow.PhaseTransition, len(a.Transitions))
	for i, t := range a.Transitions {
		told[i] = &workflow.PhaseTransition{Phase: phase(t.Phase), StartTime: timestamppb.New(t.At.Time)}
		switch {
		case i+1 < len(a.Transitions):
			told[i].EndTime = timestamppb.New(a.Transitions[i+1].At.Time)
		case a.EndedAt != nil:
			told[i].EndTime = micros(a.EndedAt)
		}
	}
	return told
}

// phase of an action that the reconciler has not come by is QUEUED.
func phase(p v1alpha1.Phase) common.ActionPhase {
	if p == "" {
		p = v1alpha1.Queued
	}
	return common.ActionPhase(common.ActionPhase_value["ACTION_PHASE_"+string(p)])
}

func cacheStatus(word string) core.CatalogCacheStatus {
	return core.CatalogCacheStatus(core.CatalogCacheStatus_value["CACHE_"+word])
}

func errorKind(kind v1alpha1.ErrorKind) workflow.ErrorInfo_Kind {
	return workflow.ErrorInfo_Kind(workflow.ErrorInfo_Kind_value["KIND_"+string(kind)])
}

// A code is a word: the name of an exception's class, or one of ours. Anything
// else is a text that somebody has put in its place.
var codeWord = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.|:-]{0,63}$`)

func errorCode(code string) string {
	if !codeWord.MatchString(code) {
		return "Unknown"
	}
	return code
}

func micros(t *v1alpha1.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(t.Time)
}
