package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ActionType says what an action is.
// +kubebuilder:validation:Enum=Task;Trace;Condition
type ActionType string

const (
	TypeTask      ActionType = "Task"      // runs a pod
	TypeTrace     ActionType = "Trace"     // was run by its parent, and is kept for its next try
	TypeCondition ActionType = "Condition" // waits for a value from a person
)

// Phase is one of Flyte's, in the words of its interface without their prefix.
// +kubebuilder:validation:Enum=QUEUED;WAITING_FOR_RESOURCES;INITIALIZING;RUNNING;SUCCEEDED;FAILED;ABORTED;TIMED_OUT;PAUSED;RECOVERED
type Phase string

const (
	Queued              Phase = "QUEUED"
	WaitingForResources Phase = "WAITING_FOR_RESOURCES"
	Initializing        Phase = "INITIALIZING"
	Running             Phase = "RUNNING"
	Succeeded           Phase = "SUCCEEDED"
	Failed              Phase = "FAILED"
	Aborted             Phase = "ABORTED"
	TimedOut            Phase = "TIMED_OUT"
	Paused              Phase = "PAUSED"
	Recovered           Phase = "RECOVERED"
)

// Terminal says whether no other phase follows.
func (p Phase) Terminal() bool {
	switch p {
	case Succeeded, Failed, Aborted, TimedOut, Recovered:
		return true
	}
	return false
}

// TaskAction is one action of a run.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ta,categories=biplane
// +kubebuilder:printcolumn:name=Run,type=string,JSONPath=`.spec.run`
// +kubebuilder:printcolumn:name=Action,type=string,JSONPath=`.spec.action`
// +kubebuilder:printcolumn:name=Task,type=string,JSONPath=`.spec.shortName`
// +kubebuilder:printcolumn:name=Phase,type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name=Attempt,type=integer,JSONPath=`.status.attempts[-1:].number`
// +kubebuilder:printcolumn:name=Error,type=string,JSONPath=`.status.error.code`,priority=1
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type TaskAction struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TaskActionSpec   `json:"spec"`
	Status TaskActionStatus `json:"status,omitempty"`
}

// TaskActionSpec is what was asked for. All of it but Abort and Signal is as it
// was enqueued; the server that enqueues is its only writer.
// +kubebuilder:validation:XValidation:rule="self.run == oldSelf.run && self.action == oldSelf.action && self.type == oldSelf.type",message="an action's run, name and type do not change"
type TaskActionSpec struct {
	Organization string `json:"organization"`
	Project      string `json:"project"`
	Domain       string `json:"domain"`
	// +kubebuilder:validation:MaxLength=30
	Run string `json:"run"`
	// +kubebuilder:validation:MaxLength=30
	Action string `json:"action"`
	// Parent is the action that enqueued this one; empty for the root.
	Parent string `json:"parent,omitempty"`
	// Group is a label of the author's.
	// +kubebuilder:validation:MaxLength=256
	Group string     `json:"group,omitempty"`
	Type  ActionType `json:"type"`

	// InputURI is the file of the inputs (…/inputs.pb).
	InputURI string `json:"inputURI,omitempty"`
	// RunOutputBase is the folder below which every action of the run writes.
	RunOutputBase string `json:"runOutputBase"`

	// Template is the digest that names the TaskTemplate (64 hexadecimal digits).
	Template    string `json:"template,omitempty"`
	TaskProject string `json:"taskProject,omitempty"`
	TaskDomain  string `json:"taskDomain,omitempty"`
	TaskName    string `json:"taskName,omitempty"`
	TaskVersion string `json:"taskVersion,omitempty"`
	TaskType    string `json:"taskType,omitempty"`
	ShortName   string `json:"shortName,omitempty"`
	Environment string `json:"environment,omitempty"`
	// CacheKey is empty where the task is not cached.
	CacheKey string `json:"cacheKey,omitempty"`
	// Queue overrides the run's.
	Queue string `json:"queue,omitempty"`
	// EnqueuedAt is the creation's time with its microseconds.
	EnqueuedAt *Time `json:"enqueuedAt,omitempty"`

	// RunSpec is the run's (flyteidl2.task.RunSpec, binary), on the root only; its
	// children take it from there.
	RunSpec []byte `json:"runSpec,omitempty"`
	// Trace is flyteidl2.workflow.TraceAction, binary.
	Trace []byte `json:"trace,omitempty"`
	// Condition is flyteidl2.workflow.ConditionAction, binary.
	Condition []byte `json:"condition,omitempty"`
	// RecoveredFrom is an action of another run whose outputs, or value, this one takes.
	RecoveredFrom *ActionReference `json:"recoveredFrom,omitempty"`

	// Abort, once set, ends the action and everything below it.
	Abort *Abort `json:"abort,omitempty"`
	// Signal, once set, ends a condition.
	Signal *Signal `json:"signal,omitempty"`
}

// CreatedAt is when the action was enqueued; of the second that is kept of an
// object without EnqueuedAt, the beginning.
func (a *TaskAction) CreatedAt() time.Time {
	if a.Spec.EnqueuedAt != nil {
		return a.Spec.EnqueuedAt.Time
	}
	return a.CreationTimestamp.Time
}

// ActionReference names an action of the same workspace, and what it gave, where
// that was known when the reference was made.
type ActionReference struct {
	Run       string `json:"run"`
	Action    string `json:"action"`
	OutputURI string `json:"outputURI,omitempty"`
	Value     []byte `json:"value,omitempty"` // of a condition
}

// Abort is why, by whom and when an action was told to end.
type Abort struct {
	Reason string      `json:"reason,omitempty"`
	By     string      `json:"by,omitempty"`
	At     metav1.Time `json:"at"`
}

// Signal is the value that a condition waited for.
type Signal struct {
	Value []byte      `json:"value"` // flyteidl2.core.Literal, binary
	By    string      `json:"by,omitempty"`
	At    metav1.Time `json:"at"`
}

// TaskActionStatus is what became of it. The executor's reconciler is its only
// writer.
type TaskActionStatus struct {
	Phase Phase `json:"phase,omitempty"`
	// Version grows with every change that is to be told.
	Version int64 `json:"version,omitempty"`
	// ObservedGeneration is that of the spec behind this status.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Message is for a person: why it waits, for instance.
	Message   string `json:"message,omitempty"`
	StartedAt *Time  `json:"startedAt,omitempty"`
	EndedAt   *Time  `json:"endedAt,omitempty"`
	// OutputURI is the folder of the attempt that succeeded, or a trace's file.
	OutputURI string `json:"outputURI,omitempty"`
	// Value is that of a condition which ended well (flyteidl2.core.Literal, binary).
	Value       []byte       `json:"value,omitempty"`
	CacheStatus string       `json:"cacheStatus,omitempty"` // Flyte's word without CACHE_
	Error       *ActionError `json:"error,omitempty"`
	// UserFailures and SystemFailures are counted against budgets of their own.
	UserFailures   int32     `json:"userFailures,omitempty"`
	SystemFailures int32     `json:"systemFailures,omitempty"`
	Attempts       []Attempt `json:"attempts,omitempty"`
	// NotBefore is when the next attempt may start, in a back-off.
	NotBefore *Time `json:"notBefore,omitempty"`
	// Conditions: Succeeded and Failed, with reasons, for kubectl wait.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ErrorKind says whose fault an error is.
type ErrorKind string

const (
	UserError   ErrorKind = "USER"
	SystemError ErrorKind = "SYSTEM"
)

// ActionError is an error as the SDK raises it in the parent.
type ActionError struct {
	Code string    `json:"code"`
	Kind ErrorKind `json:"kind"`
	// Message is cut at 4 KiB; the whole is in the bucket. It stays in the data
	// plane.
	Message     string `json:"message,omitempty"`
	Recoverable bool   `json:"recoverable,omitempty"`
}

// Attempt is one try: one pod, one folder.
type Attempt struct {
	Number             int32        `json:"number"` // from 1
	Phase              Phase        `json:"phase"`
	Pod                string       `json:"pod,omitempty"`
	PodUID             string       `json:"podUID,omitempty"`
	Container          string       `json:"container,omitempty"` // the primary one
	StartedAt          *Time        `json:"startedAt,omitempty"`
	EndedAt            *Time        `json:"endedAt,omitempty"`
	ContainerStartedAt *Time        `json:"containerStartedAt,omitempty"`
	ContainerEndedAt   *Time        `json:"containerEndedAt,omitempty"`
	OutputURI          string       `json:"outputURI,omitempty"` // its folder
	CacheStatus        string       `json:"cacheStatus,omitempty"`
	Error              *ActionError `json:"error,omitempty"`
	Transitions        []Transition `json:"transitions,omitempty"`
	// LogsKept says that its logs are in the bucket, so that its pod may go.
	LogsKept bool `json:"logsKept,omitempty"`
}

// Transition is the beginning of a phase.
type Transition struct {
	Phase Phase `json:"phase"`
	At    Time  `json:"at"`
}

// TaskActionList is a list of TaskAction.
// +kubebuilder:object:root=true
type TaskActionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TaskAction `json:"items"`
}
