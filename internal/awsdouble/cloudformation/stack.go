package cloudformation

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The states of stacks and resources that the code names (API Reference, Stack).
const (
	reviewInProgress   = "REVIEW_IN_PROGRESS"
	createInProgress   = "CREATE_IN_PROGRESS"
	createComplete     = "CREATE_COMPLETE"
	createFailed       = "CREATE_FAILED"
	rollbackInProgress = "ROLLBACK_IN_PROGRESS"
	rollbackComplete   = "ROLLBACK_COMPLETE"
	rollbackFailed     = "ROLLBACK_FAILED"
	updateInProgress   = "UPDATE_IN_PROGRESS"
	updateCleanup      = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
	updateComplete     = "UPDATE_COMPLETE"
	updateFailed       = "UPDATE_FAILED"
	undoInProgress     = "UPDATE_ROLLBACK_IN_PROGRESS"
	undoCleanup        = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"
	undoComplete       = "UPDATE_ROLLBACK_COMPLETE"
	undoFailed         = "UPDATE_ROLLBACK_FAILED"
	deleteInProgress   = "DELETE_IN_PROGRESS"
	deleteComplete     = "DELETE_COMPLETE"
	deleteFailed       = "DELETE_FAILED"
	deleteSkipped      = "DELETE_SKIPPED"
)

const userInitiated = "User Initiated"

// makeup is what a stack is made of, as it is or as an operation makes it.
type makeup struct {
	Template         string
	Description      string
	Parameters       []parameterValue // in the template's order
	Tags             []Tag
	Capabilities     []string
	NotificationARNs []string
	RoleARN          string

	bound *Bound // made again after a restart
}

// parameterValue is a parameter's value.
type parameterValue struct {
	Key, Value string
	NoEcho     bool
}

// bind gives the template with its values. They were checked when they were given.
func (t *makeup) bind(env Env) (*Bound, error) {
	if t.bound != nil {
		return t.bound, nil
	}
	parsed, err := Parse(t.Template)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, p := range t.Parameters {
		values[p.Key] = p.Value
	}
	t.bound, err = parsed.Bind(values, env)
	return t.bound, err
}

// mask hides what NoEcho hides, wherever it got to.
func (t *makeup) mask(text string) string {
	for _, p := range t.Parameters {
		if p.NoEcho && p.Value != "" {
			text = strings.ReplaceAll(text, p.Value, "****")
		}
	}
	return text
}

// A stack, as it is kept.
type stack struct {
	Where          Where
	Name, ID       string
	Status, Reason string
	makeup
	Created, Updated, Deleted time.Time

	DisableRollback bool
	OnFailure       string
	Minutes         int // of TimeoutInMinutes
	Protected       bool
	Policy          string
	ChangeSetID     string // of the last that was executed
	Outputs         []Output
	Resources       []*stackResource // in the order in which they were made
	Events          []event          // oldest first
	ChangeSets      []*changeSet
	Tokens          map[string]string // of requests: what each was used for

	Operation *operation // under way
	Stuck     *operation // a rollback that could not go on
	DriftedAs string     // IN_SYNC, DRIFTED; "" for not checked
	Checked   time.Time
	Checks    []*detection

	busy bool // a resource is being made just now
}

// A resource of a stack.
type stackResource struct {
	LogicalID, Type     string
	Physical            Physical
	Properties          map[string]any
	Status, Reason      string
	Updated             time.Time
	DependsOn           []string
	DeletionPolicy      string
	UpdateReplacePolicy string
	Metadata            any
	Drift               *drifted
}

// An event of a stack.
type event struct {
	ID                        string
	LogicalID, Physical, Type string
	Status, Reason            string
	Properties                string
	Token                     string
	Time                      time.Time
}

const stackType = "AWS::CloudFormation::Stack"

// become changes the stack's state, which is an event.
func (st *stack) become(at time.Time, status, reason string) {
	st.Status, st.Reason = status, reason
	st.Events = append(st.Events, event{ID: newID(), LogicalID: st.Name, Physical: st.ID, Type: stackType, Status: status, Reason: reason, Token: st.token(), Time: at})
}

// note changes a resource's state, which is an event too.
func (st *stack) note(at time.Time, r *stackResource, status, reason string) {
	r.Status, r.Reason, r.Updated = status, reason, at
	properties := ""
	if r.Properties != nil {
		if text, err := json.Marshal(r.Properties); err == nil {
			properties = st.mask(string(text))
			if st.Operation != nil && st.Operation.To != nil {
				properties = st.Operation.To.mask(properties)
			}
		}
	}
	st.Events = append(st.Events, event{ID: r.LogicalID + "-" + status + "-" + stamp(at), LogicalID: r.LogicalID, Physical: r.Physical.ID, Type: r.Type,
		Status: status, Reason: reason, Properties: properties, Token: st.token(), Time: at})
}

func (st *stack) token() string {
	if st.Operation == nil {
		return ""
	}
	return st.Operation.Token
}

func (st *stack) resource(id string) *stackResource {
	for _, r := range st.Resources {
		if r.LogicalID == id {
			return r
		}
	}
	return nil
}

// made is what there is, by logical ID, for references.
func (st *stack) made() map[string]Physical {
	all := map[string]Physical{}
	for _, r := range st.Resources {
		if r.there() {
			all[r.LogicalID] = r.Physical
		}
	}
	return all
}

// there says whether a resource was made and was not deleted.
func (r *stackResource) there() bool {
	return r.Physical.ID != "" && r.Status != deleteComplete && r.Status != deleteSkipped
}

func (st *stack) remember(token, what string) {
	if token == "" {
		return
	}
	if st.Tokens == nil {
		st.Tokens = map[string]string{}
	}
	st.Tokens[token] = what
}

// newStack makes one without anything in it.
func (c *call) newStack(name string) *stack {
	return &stack{Where: c.Where, Name: name, ID: c.Where.arn("stack/" + name + "/" + newID()), Created: c.now()}
}

func (c *call) createStack(ctx context.Context) (any, error) {
	name := c.in.one("StackName")
	var bad checks
	bad.present("stackName", name)
	bad.form("stackName", name, nameForm, 128)
	bad.oneOf("onFailure", c.in.one("OnFailure"), "DO_NOTHING", "ROLLBACK", "DELETE")
	if err := bad.err(); err != nil {
		return nil, err
	}
	type answer struct{ StackId string }
	if st := c.find(name); st != nil {
		if same, err := c.again(st, c.Operation); err != nil || same {
			return answer{st.ID}, err
		}
		return nil, &Error{"AlreadyExistsException", "Stack [" + name + "] already exists", http.StatusBadRequest}
	}
	st := c.newStack(name)
	if c.in.Has("DisableRollback") && c.in.Has("OnFailure") {
		return nil, invalid("You can specify either DisableRollback or OnFailure, but not both.")
	}
	st.DisableRollback, st.OnFailure = c.in.yes("DisableRollback"), c.in.one("OnFailure")
	if text := c.in.one("TimeoutInMinutes"); text != "" {
		var err error
		if st.Minutes, err = strconv.Atoi(text); err != nil || st.Minutes < 1 {
			return nil, invalid("1 validation error detected: Value '%s' at 'timeoutInMinutes' failed to satisfy constraint: Member must have value greater than or equal to 1", text)
		}
	}
	to, _, err := c.aim(ctx, st, nil)
	if err != nil {
		return nil, err
	}
	policy, err := c.document(ctx, "StackPolicy")
	if err != nil {
		return nil, err
	}
	if err := checkPolicy(policy); err != nil {
		return nil, err
	}
	st.Policy, st.Protected = policy, c.in.yes("EnableTerminationProtection")
	c.stacks = append(c.stacks, st)
	st.remember(c.in.one("ClientRequestToken"), c.Operation)
	return answer{st.ID}, c.begin(st, &operation{Kind: creating, To: to})
}

func (c *call) updateStack(ctx context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	type answer struct{ StackId string }
	if same, err := c.again(st, c.Operation); err != nil || same {
		return answer{st.ID}, err
	}
	if err := st.updatable(); err != nil {
		return nil, err
	}
	to, bound, err := c.aim(ctx, st, &st.makeup)
	if err != nil {
		return nil, err
	}
	changes, err := st.plan(to, bound)
	if err != nil {
		return nil, err
	}
	during, err := c.document(ctx, "StackPolicyDuringUpdate")
	if err != nil {
		return nil, err
	}
	policy, err := c.document(ctx, "StackPolicy")
	if err != nil {
		return nil, err
	}
	for _, text := range []string{during, policy} {
		if err := checkPolicy(text); err != nil {
			return nil, err
		}
	}
	if len(changes) == 0 {
		return nil, invalid("No updates are to be performed.")
	}
	for _, set := range st.ChangeSets {
		if set.ExecutionStatus == setAvailable {
			set.ExecutionStatus = setObsolete
		}
	}
	st.remember(c.in.one("ClientRequestToken"), c.Operation)
	if during == "" {
		during = st.Policy
	}
	if policy != "" {
		st.Policy = policy // for the next update
	}
	st.DisableRollback = c.in.yes("DisableRollback")
	return answer{st.ID}, c.begin(st, &operation{Kind: updating, To: to, Policy: during})
}

// updatable refuses to change a stack in a state from which AWS changes none.
func (st *stack) updatable() error {
	switch st.Status {
	case createComplete, updateComplete, undoComplete, updateFailed:
		return nil
	case createFailed:
		if st.OnFailure == "DO_NOTHING" {
			return invalid("This stack cannot be updated from [%s] state because it contains [on-failure: DO_NOTHING]. Please use disable-rollback option instead during stack creation.", st.Status)
		}
		return nil
	}
	return invalid("Stack:%s is in %s state and can not be updated.", st.ID, st.Status)
}

func (c *call) deleteStack(ctx context.Context) (any, error) {
	name := c.in.one("StackName")
	var bad checks
	bad.present("stackName", name)
	if err := bad.err(); err != nil {
		return nil, err
	}
	st := c.find(name)
	if st == nil || st.Status == deleteComplete {
		return nil, nil // gone is gone
	}
	if same, err := c.again(st, c.Operation); err != nil || same {
		return nil, err
	}
	retained := c.in.list("RetainResources")
	switch {
	case st.Protected:
		return nil, invalid("Stack [%s] cannot be deleted while TerminationProtection is enabled", st.Name)
	case len(retained) > 0 && st.Status != deleteFailed:
		return nil, invalid("Invalid operation on stack [%s]. When you delete a stack, specify which resources to retain only when the stack is in the DELETE_FAILED state.", st.ID)
	case st.Status == deleteInProgress:
		return nil, nil
	case strings.HasSuffix(st.Status, "_IN_PROGRESS") && st.Status != createInProgress && st.Status != reviewInProgress && st.Status != rollbackInProgress:
		return nil, invalid("Stack [%s] cannot be deleted while in status %s", st.ID, st.Status)
	}
	for _, id := range retained {
		switch r := st.resource(id); {
		case r == nil:
			return nil, invalid("The specified resources to retain do not belong to stack [%s]: [%s]", st.Name, id)
		case !r.there():
			return nil, invalid("The specified resources to retain must be in a valid state. Do not specify resources that are in the DELETE_COMPLETE state.")
		}
	}
	role := c.in.one("RoleARN")
	if role == "" {
		role = st.RoleARN
	}
	if err := c.act(ctx, role); err != nil {
		return nil, err
	}
	st.remember(c.in.one("ClientRequestToken"), c.Operation)
	st.ChangeSets = slices.DeleteFunc(st.ChangeSets, func(set *changeSet) bool { return set.ExecutionStatus != setExecuted })
	next := &operation{Kind: deleting, Retained: retained}
	if st.Operation != nil { // of a creation, which ends with what it is at
		st.Operation.Then = c.named(next)
		if !st.busy {
			c.cancel(st, c.now())
			return nil, c.enter(st, next, c.now())
		}
		return nil, nil
	}
	return nil, c.begin(st, next)
}

func (c *call) cancelUpdateStack(context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	if same, err := c.again(st, c.Operation); err != nil || same {
		return nil, err
	}
	if st.Status != updateInProgress {
		return nil, invalid("CancelUpdateStack cannot be called from current stack status")
	}
	st.remember(c.in.one("ClientRequestToken"), c.Operation)
	st.Operation.Cancelled = true
	if !st.busy {
		c.undo(st, c.now(), userInitiated)
	}
	return nil, nil
}

func (c *call) continueUpdateRollback(ctx context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	if same, err := c.again(st, c.Operation); err != nil || same {
		return struct{}{}, err
	}
	if st.Status != undoFailed || st.Stuck == nil {
		return nil, invalid("Stack [%s] is in %s state and cannot be continued to roll back; it must be in UPDATE_ROLLBACK_FAILED state.", st.ID, st.Status)
	}
	skipped := c.in.list("ResourcesToSkip")
	for _, id := range skipped {
		if r := st.resource(id); r == nil || r.Status != updateFailed {
			return nil, invalid("Resources [%s] cannot be skipped: only resources in the UPDATE_FAILED state can be skipped.", id)
		}
	}
	role := c.in.one("RoleARN")
	if role == "" {
		role = st.RoleARN
	}
	if err := c.act(ctx, role); err != nil {
		return nil, err
	}
	st.remember(c.in.one("ClientRequestToken"), c.Operation)
	next := st.Stuck
	next.Who, next.Token, next.Fail, next.Failed, next.At = c.actor, c.in.one("ClientRequestToken"), c.Fail, nil, 0
	next.Steps = slices.DeleteFunc(next.Steps, func(s *step) bool { return slices.Contains(skipped, s.ID) })
	st.Stuck, st.Operation = nil, next
	for _, id := range skipped {
		st.note(c.now(), st.resource(id), updateComplete, "Resource was skipped")
	}
	st.become(c.now(), undoInProgress, userInitiated)
	c.startStep(st, c.now())
	return struct{}{}, nil
}

func (c *call) updateTerminationProtection(context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	switch c.in.one("EnableTerminationProtection") {
	case "true", "false":
	default:
		return nil, invalid("1 validation error detected: Value null at 'enableTerminationProtection' failed to satisfy constraint: Member must not be null")
	}
	if st.Status == deleteInProgress {
		return nil, invalid("Stack [%s] is in %s state; TerminationProtection cannot be changed.", st.Name, st.Status)
	}
	st.Protected = c.in.yes("EnableTerminationProtection")
	return struct{ StackId string }{st.ID}, nil
}
