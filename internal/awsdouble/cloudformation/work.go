package cloudformation

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// An operation changes what a stack has, a resource after the other. It is kept with the
// stack, so that it goes on after a restart.
type operation struct {
	ID        string // what is made gets the same name each time within one
	Kind      string // creating, updating, deleting
	Phase     string // doing, cleaning, undoing, undone, removing
	Who       Caller
	Token     string
	To        *makeup  // of creating and updating
	Policy    string   // the stack policy, of updating
	Retained  []string // of deleting
	ChangeSet string   // the ID of the one that is executed
	Fail      bool     // a fault: FailAt shall not work
	FailAt    string

	Steps   []*step
	At      int       // the step that has begun
	Due     time.Time // when it is carried out
	Failed  []string  // logical IDs, of this phase
	Done    []*step   // of updating: what would have to be undone
	Cleanup []*step   // what is removed at the end

	Then      *operation // what comes after the step that is being carried out
	Cancelled bool
}

const (
	creating = "CREATE_STACK"
	updating = "UPDATE_STACK"
	deleting = "DELETE_STACK"

	doing    = "doing"    // making and changing
	cleaning = "cleaning" // removing what an update left behind
	undoing  = "undoing"  // changing back what an update changed
	undone   = "undone"   // removing what it made
	removing = "removing" // all of it, for a creation that failed or a deletion
)

// A step does something to one resource.
type step struct {
	Do       string // make, change, restore, remove
	ID       string
	Begun    bool           // the calls may have been made, by a process that is gone
	Replaces bool           // of change: it makes another resource
	Old      *stackResource // of change and restore: as it was; of remove: what is no more the stack's
	Touched  bool           // of change: it failed, and something was changed
}

// named gives an operation what comes from the call.
func (c *call) named(op *operation) *operation {
	op.ID, op.Who, op.Token, op.Fail = newID(), c.actor, c.in.one("ClientRequestToken"), c.Fail
	return op
}

// begin starts an operation on a stack that has none.
func (c *call) begin(st *stack, op *operation) error {
	st.Operation = c.named(op)
	return c.enter(st, op, c.now())
}

func (s *Service) enter(st *stack, op *operation, at time.Time) error {
	st.Operation, op.Phase = op, doing
	if op.Kind == deleting {
		op.Phase, op.Steps = removing, st.removal(st.Resources)
		if len(op.Steps) > 0 {
			op.FailAt = op.Steps[len(op.Steps)/2].ID
		}
		st.become(at, deleteInProgress, userInitiated)
		s.startStep(st, at)
		return nil
	}
	bound, err := op.To.bind(st.env(op.To))
	if err != nil {
		return err
	}
	var acting []string
	if op.Kind == creating {
		st.makeup = *op.To
		for _, r := range bound.Resources() {
			op.Steps, acting = append(op.Steps, &step{Do: "make", ID: r.LogicalID}), append(acting, r.LogicalID)
		}
		st.become(at, createInProgress, userInitiated)
	} else {
		changes, err := st.plan(op.To, bound)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if c.Action != "Remove" {
				acting = append(acting, c.LogicalID)
			}
		}
		for _, r := range bound.Resources() {
			do := "make"
			if have := st.resource(r.LogicalID); have != nil && have.there() {
				do = "change"
			}
			op.Steps = append(op.Steps, &step{Do: do, ID: r.LogicalID})
		}
		st.Updated = at
		st.become(at, updateInProgress, userInitiated)
		for _, r := range st.without(bound) {
			if why := denied(op.Policy, "Update:Delete", r.LogicalID, r.Type); why != "" {
				st.note(at, r, updateFailed, why)
				op.Failed = append(op.Failed, r.LogicalID)
			}
		}
		if len(op.Failed) > 0 {
			s.failed(st, at, "")
			return nil
		}
	}
	if len(acting) > 0 {
		op.FailAt = acting[len(acting)/2]
	}
	s.startStep(st, at)
	return nil
}

// without are the resources that a template does not have any more.
func (st *stack) without(bound *Bound) []*stackResource {
	var gone []*stackResource
	for _, r := range st.Resources {
		if r.there() && !slices.ContainsFunc(bound.Resources(), func(b BoundResource) bool { return b.LogicalID == r.LogicalID }) {
			gone = append(gone, r)
		}
	}
	return gone
}

// removal are the steps that remove resources, what depends on others first.
func (st *stack) removal(list []*stackResource) []*step {
	rest := slices.Clone(list)
	var steps []*step
	for len(rest) > 0 {
		at := len(rest) - 1
		for i := range slices.Backward(rest) {
			if !slices.ContainsFunc(rest, func(r *stackResource) bool { return slices.Contains(r.DependsOn, rest[i].LogicalID) }) {
				at = i
				break
			}
		}
		if r := rest[at]; r.Physical.ID != "" && r.Status != deleteComplete {
			steps = append(steps, &step{Do: "remove", ID: r.LogicalID})
		}
		rest = slices.Delete(rest, at, at+1)
	}
	return steps
}

// work carries out what is due.
func (s *Service) work(ctx context.Context, st *stack) {
	for st.Operation != nil && !st.busy && !s.now().Before(st.Operation.Due) {
		s.perform(ctx, st)
	}
}

// startStep begins the next step that has something to do, or ends the phase.
func (s *Service) startStep(st *stack, at time.Time) {
	op := st.Operation
	for ; op.At < len(op.Steps); op.At++ {
		one := op.Steps[op.At]
		takes, err := st.prepare(one, at)
		if err != "" {
			s.failed(st, at, err)
			return
		}
		if takes > 0 {
			op.Due = at.Add(takes)
			return
		}
	}
	s.finish(st, at)
}

// prepare decides what a step has to do and says that it begins. It returns how long
// that takes: nothing where there is nothing to do. refused is why it cannot begin.
func (st *stack) prepare(one *step, at time.Time) (takes time.Duration, refused string) {
	op := st.Operation
	r := st.resource(one.ID)
	switch one.Do {
	case "make", "change":
		bound, err := op.To.bind(st.env(op.To))
		if err != nil {
			return 0, said(err)
		}
		all := bound.Resources()
		b := all[slices.IndexFunc(all, func(b BoundResource) bool { return b.LogicalID == one.ID })]
		properties, err := bound.Properties(one.ID, st.made())
		if one.Do == "make" {
			if r == nil {
				r = &stackResource{LogicalID: b.LogicalID}
				st.Resources = append(st.Resources, r)
			}
			r.Physical, r.Type, r.Properties = Physical{}, b.Type, properties
			r.adopt(b)
			st.note(at, r, createInProgress, "")
			if err != nil {
				return 0, said(err)
			}
			return typical.MakeResource, ""
		}
		old := *r
		one.Old = &old
		if err != nil {
			st.note(at, r, updateInProgress, "")
			return 0, said(err)
		}
		what := r.compare(b, properties)
		if !what.any() {
			r.adopt(b)
			return 0, ""
		}
		one.Replaces = what.replaces()
		action, reason := "Update:Modify", ""
		if one.Replaces {
			action, reason = "Update:Replace", "Requested update requires the creation of a new physical resource; hence creating one."
		}
		r.Properties = properties
		r.adopt(b)
		st.note(at, r, updateInProgress, reason)
		if why := denied(op.Policy, action, r.LogicalID, r.Type); why != "" {
			return 0, why
		}
		if k, _ := kindOf(r.Type); one.Replaces {
			if err := k.mayReplace(r.Physical.ID, old.Properties, properties); err != nil {
				return 0, said(err)
			}
		}
		return typical.ChangeResource, ""
	case "restore":
		st.note(at, r, updateInProgress, "")
		return typical.ChangeResource, ""
	}
	if one.Old != nil {
		r = one.Old
	}
	kept := r.DeletionPolicy == "Retain" || r.DeletionPolicy == "RetainExceptOnCreate" && op.Phase != undone && st.Status != rollbackInProgress
	if one.Old != nil {
		kept = op.Phase == cleaning && r.UpdateReplacePolicy == "Retain"
	}
	switch {
	case kept, slices.Contains(op.Retained, r.LogicalID):
		st.note(at, r, deleteSkipped, "")
		st.forget(one)
		return 0, ""
	case one.Old == nil && slices.ContainsFunc(st.Resources, func(other *stackResource) bool {
		return slices.Contains(op.Failed, other.LogicalID) && slices.Contains(other.DependsOn, r.LogicalID)
	}):
		op.Failed = append(op.Failed, r.LogicalID) // somebody needs it still
		return 0, ""
	}
	st.note(at, r, deleteInProgress, "")
	return typical.RemoveResource, ""
}

// adopt takes from the template what is not a property.
func (r *stackResource) adopt(b BoundResource) {
	r.DependsOn, r.DeletionPolicy, r.UpdateReplacePolicy, r.Metadata = b.DependsOn, b.DeletionPolicy, b.UpdateReplacePolicy, b.Metadata
}

// forget drops a resource from the stack that an update has removed. What a deletion
// has removed is still shown.
func (st *stack) forget(one *step) {
	if one.Old == nil && st.Operation.Phase != removing {
		st.Resources = slices.DeleteFunc(st.Resources, func(r *stackResource) bool { return r.LogicalID == one.ID })
	}
}

// perform carries the step out that has begun. The lock is free meanwhile.
func (s *Service) perform(ctx context.Context, st *stack) {
	op := st.Operation
	one, at := op.Steps[op.At], op.Due
	r := st.resource(one.ID)
	if one.Do == "remove" && one.Old != nil {
		r = one.Old
	}
	to := op.To
	if to == nil || op.Phase == undoing || op.Phase == undone {
		to = &st.makeup
	}
	q := &request{cloud: s.world, caller: op.Who, env: st.env(to), token: op.ID,
		logicalID: r.LogicalID, typ: r.Type, properties: r.Properties, physical: r.Physical, again: one.Begun}
	do := create
	switch {
	case one.Do == "change" && !one.Replaces:
		q.previous = one.Old.Properties
		do = update
	case one.Do == "restore":
		q.properties, q.previous = one.Old.Properties, r.Properties
		do = restore
	case one.Do == "remove":
		do = func(ctx context.Context, q *request) (Physical, error) { return Physical{}, remove(ctx, q) }
	case one.Replaces:
		q.physical = Physical{}
	}
	failing := op.Fail && (one.ID == op.FailAt || op.Phase == undoing)
	one.Begun, st.busy = true, true
	s.keep()
	s.lock.Unlock()
	var made Physical
	reason := ""
	if failing {
		op.Fail = false
		reason = "Resource handler returned message: \"Internal Failure\" (RequestToken: " + newID() + ", HandlerErrorCode: InternalFailure)"
	} else if p, err := do(ctx, q); err != nil {
		made, reason = p, said(err)
	} else {
		made = p
	}
	s.lock.Lock()
	st.busy = false
	s.record(st, one, r, at, made, reason)
	s.keep()
}

// restore is update, of what may not have been changed: then it needs no rights either.
func restore(ctx context.Context, q *request) (Physical, error) {
	k, _ := kindOf(q.typ)
	looking := *q
	looking.properties = maps.Clone(q.previous)
	maps.Copy(looking.properties, q.properties)
	if actual, err := k.handler.read(ctx, &looking); err == nil {
		changed, _ := k.changed(q.previous, q.properties)
		other := func(name string, _ any) bool { return !slices.Contains(changed, name) }
		expected := maps.Clone(q.properties)
		maps.DeleteFunc(expected, other)
		maps.DeleteFunc(actual, other)
		if len(drift(expected, actual)) == 0 {
			return q.physical, nil
		}
	}
	return update(ctx, q)
}

// said is an error as an event has it.
func said(err error) string { return strings.TrimSpace(err.Error()) }

// record writes down what became of a step, and goes on.
func (s *Service) record(st *stack, one *step, r *stackResource, at time.Time, made Physical, reason string) {
	op := st.Operation
	worked := reason == ""
	switch {
	case one.Do == "remove" && worked:
		st.note(at, r, deleteComplete, "")
		st.forget(one)
	case one.Do == "remove":
		st.note(at, r, deleteFailed, reason)
		op.Failed = append(op.Failed, r.LogicalID)
		if op.Phase != removing {
			st.forget(one) // it stays, and the stack has it no more
		}
	case one.Do == "restore" && worked:
		r.restore(one.Old)
		r.Physical = made
		st.note(at, r, updateComplete, "")
	case one.Do == "restore":
		st.note(at, r, updateFailed, reason)
		op.Failed = append(op.Failed, r.LogicalID)
	case one.Do == "make":
		r.Physical = made
		if made.ID != "" {
			st.note(at, r, createInProgress, "Resource creation Initiated")
		}
		if !worked {
			s.failed(st, at, reason)
			return
		}
		st.note(at, r, createComplete, "")
		op.Done = append(op.Done, one)
	case worked:
		if one.Replaces {
			r.Physical = made
			st.note(at, r, updateInProgress, "Resource creation Initiated")
		}
		r.Physical = made
		if made.ID != one.Old.Physical.ID {
			one.Replaces = true
			op.Cleanup = append(op.Cleanup, &step{Do: "remove", ID: one.ID, Old: one.Old})
		}
		st.note(at, r, updateComplete, "")
		op.Done = append(op.Done, one)
	default:
		one.Touched = made.ID != ""
		if one.Touched {
			r.Physical = made
		}
		s.failed(st, at, reason)
		return
	}
	op.At++
	switch {
	case op.Then != nil:
		s.enter(st, op.Then, at)
	case op.Cancelled:
		s.undo(st, at, userInitiated)
	default:
		s.startStep(st, at)
	}
}

// restore makes a resource what it was, but for where it is.
func (r *stackResource) restore(old *stackResource) {
	r.Properties, r.DependsOn, r.DeletionPolicy, r.UpdateReplacePolicy, r.Metadata = old.Properties, old.DependsOn, old.DeletionPolicy, old.UpdateReplacePolicy, old.Metadata
}

// failed ends making and changing: the step that has begun did not work. Without a
// reason, one before the first did not.
func (s *Service) failed(st *stack, at time.Time, reason string) {
	op := st.Operation
	verb := "update"
	if reason != "" {
		one := op.Steps[op.At]
		r := st.resource(one.ID)
		op.Failed = append(op.Failed, one.ID)
		if one.Do == "make" {
			verb = "create"
			st.note(at, r, createFailed, reason)
		} else {
			st.note(at, r, updateFailed, reason)
		}
		op.Done = append(op.Done, one)
	}
	why := "The following resource(s) failed to " + verb + ": [" + strings.Join(op.Failed, ", ") + "]. "
	if op.Then != nil {
		s.enter(st, op.Then, at)
		return
	}
	if op.Kind == updating {
		if st.DisableRollback {
			s.leave(st, at, updateFailed, why)
			return
		}
		s.undo(st, at, why)
		return
	}
	status := rollbackInProgress
	switch {
	case st.DisableRollback, st.OnFailure == "DO_NOTHING":
		s.leave(st, at, createFailed, why)
		return
	case st.OnFailure == "DELETE":
		status, why = deleteInProgress, why+"Delete requested by user."
	default:
		why += "Rollback requested by user."
	}
	st.become(at, status, why)
	op.Phase, op.At, op.Failed, op.Steps = removing, 0, nil, st.removal(st.Resources)
	s.startStep(st, at)
}

// leave ends a change half-way, as it is: what did not work is not the stack's.
func (s *Service) leave(st *stack, at time.Time, status, why string) {
	op := st.Operation
	if op.Kind == updating { // the next update starts from what there is
		for _, one := range op.Done {
			r := st.resource(one.ID)
			if one.Do == "change" && r.Status == updateFailed {
				r.restore(one.Old)
				r.Physical = one.Old.Physical
			}
		}
		st.makeup = *op.To
	}
	s.end(st, at, status, why)
}

// cancel gives up a step that has begun, and is not carried out any more.
func (s *Service) cancel(st *stack, at time.Time) {
	op := st.Operation
	if op.Phase != doing || op.At >= len(op.Steps) {
		return
	}
	one := op.Steps[op.At]
	switch r := st.resource(one.ID); {
	case r == nil, r.Status != createInProgress && r.Status != updateInProgress: // it has not begun
		return
	case one.Do == "make":
		st.note(at, r, createFailed, "Resource creation cancelled")
	default:
		st.note(at, r, updateFailed, "Resource update cancelled")
	}
	op.Done = append(op.Done, one)
}

// undo rolls an update back.
func (s *Service) undo(st *stack, at time.Time, why string) {
	op := st.Operation
	s.cancel(st, at)
	st.become(at, undoInProgress, why)
	op.Phase, op.At, op.Failed, op.Steps, op.Cleanup, op.Fail, op.Cancelled = undoing, 0, nil, nil, nil, false, false
	for _, one := range slices.Backward(op.Done) {
		r := st.resource(one.ID)
		switch {
		case one.Do == "make":
			if r.Physical.ID != "" {
				op.Cleanup = append(op.Cleanup, &step{Do: "remove", ID: one.ID})
				continue
			}
			st.note(at, r, deleteComplete, "")
			st.Resources = slices.DeleteFunc(st.Resources, func(other *stackResource) bool { return other == r })
		case one.Replaces:
			if r.Physical.ID != one.Old.Physical.ID {
				made := *r
				op.Cleanup = append(op.Cleanup, &step{Do: "remove", ID: one.ID, Old: &made})
			}
			r.restore(one.Old)
			r.Physical = one.Old.Physical
			st.note(at, r, updateComplete, "")
		case r.Status == updateFailed && !one.Touched: // nothing was changed
			r.restore(one.Old)
			st.note(at, r, updateComplete, "")
		default:
			op.Steps = append(op.Steps, &step{Do: "restore", ID: one.ID, Old: one.Old})
		}
	}
	// What an update has left to be removed is not; what only lost its right to go is as it was.
	for _, r := range st.Resources {
		if r.Status == updateFailed && !slices.ContainsFunc(op.Steps, func(one *step) bool { return one.ID == r.LogicalID }) {
			st.note(at, r, updateComplete, "")
		}
	}
	s.startStep(st, at)
}

// finish ends a phase whose steps have all been taken.
func (s *Service) finish(st *stack, at time.Time) {
	op := st.Operation
	next := func(phase, status string, steps []*step) {
		st.become(at, status, "")
		op.Phase, op.At, op.Failed, op.Steps = phase, 0, nil, steps
		s.startStep(st, at)
	}
	switch op.Phase {
	case doing:
		bound, err := op.To.bind(st.env(op.To))
		var outputs []Output
		if err == nil {
			outputs, err = bound.Outputs(st.made())
		}
		switch {
		case err != nil && op.Kind == updating:
			s.undo(st, at, said(err))
			return
		case err != nil:
			st.become(at, rollbackInProgress, said(err)+". Rollback requested by user.")
			op.Phase, op.At, op.Failed, op.Steps = removing, 0, nil, st.removal(st.Resources)
			s.startStep(st, at)
			return
		}
		st.Outputs = outputs
		if op.Kind == creating {
			s.end(st, at, createComplete, "")
			return
		}
		st.makeup = *op.To
		next(cleaning, updateCleanup, append(st.removal(st.without(bound)), op.Cleanup...))
	case cleaning:
		s.end(st, at, updateComplete, "")
	case undoing:
		if len(op.Failed) > 0 {
			failed := op.Failed
			op.Steps = slices.DeleteFunc(op.Steps, func(one *step) bool { return !slices.Contains(failed, one.ID) })
			st.Stuck = op
			s.end(st, at, undoFailed, "The following resource(s) failed to update: ["+strings.Join(failed, ", ")+"]. ")
			return
		}
		next(undone, undoCleanup, op.Cleanup)
	case undone:
		s.end(st, at, undoComplete, "")
	case removing:
		status, failure := deleteComplete, deleteFailed
		if st.Status == rollbackInProgress {
			status, failure = rollbackComplete, rollbackFailed
		}
		if len(op.Failed) > 0 {
			s.end(st, at, failure, "The following resource(s) failed to delete: ["+strings.Join(op.Failed, ", ")+"]. ")
			return
		}
		if status == deleteComplete {
			st.Deleted, st.Outputs = at, nil
		}
		s.end(st, at, status, "")
	}
}

// end ends an operation.
func (s *Service) end(st *stack, at time.Time, status, reason string) {
	st.become(at, status, reason)
	for _, set := range st.ChangeSets {
		if set.ID == st.Operation.ChangeSet && set.ExecutionStatus == setExecuting {
			set.ExecutionStatus = setExecuted
			if status != createComplete && status != updateComplete {
				set.ExecutionStatus = setExecuteFailed
			}
		}
	}
	st.Operation = nil
}

// difference is what an update does to a resource.
type difference struct {
	changed, replacing []string // properties, the stack's tags among them where it can have some
	attributes         []string // Metadata, DeletionPolicy, UpdateReplacePolicy
}

func (d difference) any() bool      { return len(d.changed) > 0 || len(d.attributes) > 0 }
func (d difference) replaces() bool { return len(d.replacing) > 0 }

func (r *stackResource) compare(b BoundResource, properties map[string]any) difference {
	k, _ := kindOf(r.Type)
	var d difference
	d.changed, d.replacing = k.changed(r.Properties, properties)
	if !reflect.DeepEqual(asKept(r.Metadata), asKept(b.Metadata)) {
		d.attributes = append(d.attributes, "Metadata")
	}
	if r.DeletionPolicy != b.DeletionPolicy {
		d.attributes = append(d.attributes, "DeletionPolicy")
	}
	if r.UpdateReplacePolicy != b.UpdateReplacePolicy {
		d.attributes = append(d.attributes, "UpdateReplacePolicy")
	}
	return d
}
