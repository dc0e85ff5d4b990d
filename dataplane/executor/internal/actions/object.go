package actions

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/limits"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/condition"
	"biplane.dev/biplane/dataplane/internal/record"
)

// Limits of what is kept in an object, in bytes.
const (
	maxURI     = 2 << 10 // S3's keys end at 1 KiB
	maxText    = 256     // group, cache key, names
	maxRunSpec = 256 << 10
	maxDetail  = 64 << 10 // of a trace or a condition
)

// objects are what is written for an action: its TaskAction and, for a task, the
// TaskTemplate that has to be there first.
func (e *enqueued) objects() (*v1alpha1.TaskAction, *v1alpha1.TaskTemplate, error) {
	action := e.request.GetAction()
	if err := withinLimits(action); err != nil {
		return nil, nil, err
	}
	object := &v1alpha1.TaskAction{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.namespace, Name: e.key().Name,
			Finalizers: []string{v1alpha1.FinalizerRecorded},
		},
		Spec: v1alpha1.TaskActionSpec{
			Organization: action.GetActionId().GetRun().GetOrg(), Project: action.GetActionId().GetRun().GetProject(), Domain: action.GetActionId().GetRun().GetDomain(),
			Run: e.run, Action: e.action, Group: action.GetGroup(),
			InputURI: action.GetInputUri(), RunOutputBase: strings.TrimRight(action.GetRunOutputBase(), "/"),
			EnqueuedAt: v1alpha1.At(time.Now()),
		},
	}
	if e.parent == nil {
		if err := e.beRoot(object); err != nil {
			return nil, nil, err
		}
	} else if err := e.beChild(object); err != nil {
		return nil, nil, err
	}
	object.Labels = labels(object.Spec)

	switch spec := action.GetSpec().(type) {
	case *flyteactions.Action_Task:
		template, err := e.beTask(object, spec.Task)
		return object, template, err
	case *flyteactions.Action_Trace:
		return object, nil, beTrace(object, spec.Trace)
	case *flyteactions.Action_Condition:
		return object, nil, beCondition(object, spec.Condition)
	}
	return nil, nil, refuse(connect.CodeInvalidArgument, "action %s says neither task, trace nor condition: give one of them", e.reference)
}

func withinLimits(action *flyteactions.Action) error {
	for _, field := range []struct {
		name, value string
		most        int
	}{
		{"input_uri", action.GetInputUri(), maxURI},
		{"run_output_base", action.GetRunOutputBase(), maxURI},
		{"group", action.GetGroup(), maxText},
		{"task.queue", action.GetTask().GetQueue(), maxText},
		{"task.cache_key", action.GetTask().GetCacheKey().GetValue(), maxText},
		{"task.id.name", action.GetTask().GetId().GetName(), maxText},
		{"task.id.version", action.GetTask().GetId().GetVersion(), maxText},
	} {
		if len(field.value) > field.most {
			return refuse(connect.CodeInvalidArgument, "%s has %d bytes: give at most %d", field.name, len(field.value), field.most)
		}
	}
	for _, field := range []struct {
		name, value string
		needed      bool
	}{
		{"input_uri", action.GetInputUri(), action.GetTask() != nil},
		{"run_output_base", action.GetRunOutputBase(), action.GetParentActionName() == ""},
		{"trace.outputs.output_uri", action.GetTrace().GetOutputs().GetOutputUri(), false},
	} {
		if field.needed || action.GetTrace() != nil && field.value != "" {
			if err := objectURI(field.name, field.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// objectURI says why a text is none. What is above a folder is nobody's to name: S3
// would take it for the name of a folder, and who reads the object for one above.
func objectURI(field, value string) error {
	_, key, err := bucket.Split(value)
	if err != nil || slices.Contains(strings.Split(key, "/"), "..") {
		return refuse(connect.CodeInvalidArgument, "%s is %q: give s3://BUCKET/KEY without '..' in it", field, cut(value, 80))
	}
	return nil
}

// RecoveredTrace is a trace of the action of another run that parent recovers, as its
// own child: when the parent runs, it takes the outputs instead of doing again what it
// traced.
func RecoveredTrace(parent *v1alpha1.TaskAction, from v1alpha1.ActionReference, trace record.Trace) *v1alpha1.TaskAction {
	object := &v1alpha1.TaskAction{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: parent.Namespace, Name: v1alpha1.ActionName(parent.Spec.Run, trace.Action),
			Finalizers: []string{v1alpha1.FinalizerRecorded}, OwnerReferences: ownedBy(parent),
		},
		Spec: v1alpha1.TaskActionSpec{
			Organization: parent.Spec.Organization, Project: parent.Spec.Project, Domain: parent.Spec.Domain,
			Run: parent.Spec.Run, Action: trace.Action, Parent: parent.Spec.Action, Group: trace.Group, Type: v1alpha1.TypeTrace,
			InputURI: trace.InputURI, RunOutputBase: parent.Spec.RunOutputBase, ShortName: trace.ShortName,
			Trace: trace.Trace, RecoveredFrom: &from, EnqueuedAt: v1alpha1.At(time.Now()),
		},
	}
	object.Labels = labels(object.Spec)
	return object
}

func ownedBy(parent *v1alpha1.TaskAction) []metav1.OwnerReference {
	controller := true
	return []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "TaskAction", Name: parent.Name, UID: parent.UID, Controller: &controller,
	}}
}

// labels are those by which a person finds an action.
func labels(spec v1alpha1.TaskActionSpec) map[string]string {
	l := map[string]string{
		v1alpha1.LabelOrganization: spec.Organization, v1alpha1.LabelProject: spec.Project, v1alpha1.LabelDomain: spec.Domain,
		v1alpha1.LabelRun: spec.Run, v1alpha1.LabelAction: spec.Action, v1alpha1.LabelManaged: "true", v1alpha1.LabelExecutionID: spec.Run,
	}
	if spec.Parent != "" {
		l[v1alpha1.LabelParent] = spec.Parent
	}
	return l
}

func (e *enqueued) beRoot(object *v1alpha1.TaskAction) error {
	run := e.request.GetAction().GetActionId().GetRun()
	if !workspaceName.MatchString(run.GetOrg()) {
		return refuse(connect.CodeInvalidArgument, "action_id.run.org is %q: give the organisation of the data plane", cut(run.GetOrg(), 80))
	}
	if e.request.GetAction().GetTask() == nil {
		return refuse(connect.CodeInvalidArgument, "the root of run %s is no task: give the task that the run begins with", e.run)
	}
	spec, err := encode(e.request.GetRunSpec())
	if err != nil {
		return err
	}
	if len(spec) > maxRunSpec {
		return refuse(connect.CodeInvalidArgument, "run_spec has %d bytes: give at most %d", len(spec), maxRunSpec)
	}
	object.Spec.RunSpec = spec
	return nil
}

// beChild gives a child what it shares with its parent, whatever it says itself:
// its organisation, which a pod knows from its environment only, and the folder of its
// run, which is no other for one action.
func (e *enqueued) beChild(object *v1alpha1.TaskAction) error {
	parent := e.parent
	if org := object.Spec.Organization; org != "" && org != parent.Spec.Organization {
		return refuse(connect.CodeInvalidArgument, "run %s is not of the organisation %q: leave action_id.run.org out", e.run, cut(org, 80))
	}
	if parent.Spec.Type != v1alpha1.TypeTask {
		return refuse(connect.CodeInvalidArgument, "the parent %s is a %s: only tasks have children", referenceTo(parent), parent.Spec.Type)
	}
	object.Spec.Organization = parent.Spec.Organization
	object.Spec.RunOutputBase = parent.Spec.RunOutputBase
	object.Spec.Parent = parent.Spec.Action
	object.OwnerReferences = ownedBy(parent)
	return nil
}

func (e *enqueued) beTask(object *v1alpha1.TaskAction, action *workflow.TaskAction) (*v1alpha1.TaskTemplate, error) {
	if action.GetSpec().GetTaskTemplate() == nil {
		return nil, refuse(connect.CodeInvalidArgument, "task.spec.task_template of action %s is missing: give the task's definition", e.reference)
	}
	spec := proto.CloneOf(action.GetSpec())
	if id := spec.TaskTemplate.Id; id != nil {
		// A task that was never deployed says no more than its name.
		fill(&id.Org, object.Spec.Organization)
		fill(&id.Project, object.Spec.Project)
		fill(&id.Domain, object.Spec.Domain)
	}
	text, err := encode(spec)
	if err != nil {
		return nil, err
	}
	if len(text) > limits.TaskSpecBytes {
		return nil, refuse(connect.CodeInvalidArgument,
			"the definition of task %q has %d bytes, and at most %d are taken: pass large data as inputs or files, not as default arguments or environment variables",
			cut(spec.TaskTemplate.GetId().GetName(), maxText), len(text), limits.TaskSpecBytes)
	}
	digest := sha256.Sum256(text)
	name := hex.EncodeToString(digest[:])
	id := taskID(action, spec)
	object.Spec.Type = v1alpha1.TypeTask
	object.Spec.Template = name
	object.Spec.TaskProject, object.Spec.TaskDomain = id.GetProject(), id.GetDomain()
	object.Spec.TaskName, object.Spec.TaskVersion = id.GetName(), id.GetVersion()
	object.Spec.TaskType = cut(spec.TaskTemplate.GetType(), maxText)
	object.Spec.ShortName = cut(spec.GetShortName(), maxText)
	object.Spec.Environment = cut(spec.GetEnvironment().GetName(), maxText)
	object.Spec.CacheKey = action.GetCacheKey().GetValue()
	object.Spec.Queue = action.GetQueue()
	return &v1alpha1.TaskTemplate{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: name},
		TaskName:   id.GetName(), TaskVersion: id.GetVersion(), Spec: text,
	}, nil
}

// taskID is what the action says or, where it leaves something out, the template.
func taskID(action *workflow.TaskAction, spec *task.TaskSpec) *task.TaskIdentifier {
	id := &task.TaskIdentifier{}
	if given := action.GetId(); given != nil {
		id = proto.CloneOf(given)
	}
	template := spec.GetTaskTemplate().GetId()
	fill(&id.Project, template.GetProject())
	fill(&id.Domain, template.GetDomain())
	fill(&id.Name, cut(template.GetName(), maxText))
	fill(&id.Version, cut(template.GetVersion(), maxText))
	return id
}

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func beTrace(object *v1alpha1.TaskAction, trace *workflow.TraceAction) (err error) {
	object.Spec.Type = v1alpha1.TypeTrace
	object.Spec.ShortName = cut(trace.GetName(), maxText)
	object.Spec.Trace, err = detail("trace", trace)
	return err
}

func beCondition(object *v1alpha1.TaskAction, asked *workflow.ConditionAction) (err error) {
	if !condition.Possible(asked.GetType()) {
		return refuse(connect.CodeInvalidArgument, "condition.type of action %s is %s: give INTEGER, FLOAT, STRING or BOOLEAN",
			object.Spec.Action, asked.GetType().GetSimple())
	}
	// Who waits to be called must not wait in vain. Nothing outside could signal by the
	// URI that a webhook is to be given, as long as the control plane listens on loopback;
	// and the executor stands behind no network policy of the workspace.
	if asked.GetWebhook() != nil {
		return refuse(connect.CodeInvalidArgument,
			"condition.webhook of the condition %q is given, and webhooks are not called here: leave it out, and tell whoever is to signal the condition from the task itself",
			cut(asked.GetName(), 80))
	}
	object.Spec.Type = v1alpha1.TypeCondition
	object.Spec.ShortName = cut(asked.GetName(), maxText)
	object.Spec.Condition, err = detail("condition", asked)
	return err
}

func detail(field string, message proto.Message) ([]byte, error) {
	text, err := encode(message)
	if err == nil && len(text) > maxDetail {
		err = refuse(connect.CodeInvalidArgument, "%s has %d bytes: give at most %d", field, len(text), maxDetail)
	}
	return text, err
}

// encode is deterministic, since a template is named by its digest.
func encode(message proto.Message) ([]byte, error) {
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, refuse(connect.CodeInvalidArgument, "the action cannot be encoded: %w", err)
	}
	return text, nil
}
