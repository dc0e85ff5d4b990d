package cloudformation

import (
	"context"
	"slices"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// A detection compares a stack's resources with what is there. It looks when it is due.
type detection struct {
	ID      string
	Who     Caller
	Began   time.Time
	Due     time.Time
	Only    []string // logical IDs; nil for all
	Status  string   // DETECTION_IN_PROGRESS, …
	Reason  string
	As      string // IN_SYNC, DRIFTED
	Drifted int
	Fail    bool

	busy bool
}

// drifted is what a detection has found of a resource.
type drifted struct {
	Drift
	Time time.Time
}

const notChecked = "NOT_CHECKED"

const detecting = "DETECTION_IN_PROGRESS"

func (st *stack) detecting() bool {
	return slices.ContainsFunc(st.Checks, func(d *detection) bool { return d.Status == detecting })
}

// detect looks where a detection is due.
func (s *Service) detect(ctx context.Context, st *stack) {
	for _, d := range st.Checks {
		if d.Status != detecting || d.busy || s.now().Before(d.Due) {
			continue
		}
		if d.Fail {
			d.Status, d.Reason = "DETECTION_FAILED", "Internal Failure"
			continue
		}
		d.busy = true
		var failure error
		for _, r := range slices.Clone(st.Resources) {
			if !r.there() || d.Only != nil && !slices.Contains(d.Only, r.LogicalID) {
				continue
			}
			found, err := s.look(ctx, st, r, d.Who, d.Due)
			if err != nil {
				failure = err
				continue
			}
			if r.Drift = found; found.Status == "MODIFIED" || found.Status == "DELETED" {
				d.Drifted++
			}
		}
		d.busy = false
		d.Status, d.As = "DETECTION_COMPLETE", "IN_SYNC"
		if d.Drifted > 0 {
			d.As = "DRIFTED"
		}
		if failure != nil {
			d.Status, d.Reason = "DETECTION_FAILED", "Failed to detect drift on at least one resource: "+said(failure)
		}
		st.DriftedAs, st.Checked = d.As, d.Due
		s.keep()
	}
}

// look compares one resource with what is there, as somebody. The lock is free meanwhile.
func (s *Service) look(ctx context.Context, st *stack, r *stackResource, who Caller, at time.Time) (*drifted, error) {
	q := &request{cloud: s.world, caller: who, env: st.env(&st.makeup), logicalID: r.LogicalID, typ: r.Type, properties: r.Properties, physical: r.Physical}
	s.lock.Unlock()
	found, err := driftOf(ctx, q)
	s.lock.Lock()
	return &drifted{found, at}, err
}

// stable refuses to look at what is being changed.
func (st *stack) stable() error {
	switch st.Status {
	case createComplete, updateComplete, undoComplete, undoFailed:
		return nil
	}
	return invalid("Drift detection cannot be performed on stack [%s] while it is in %s state.", st.ID, st.Status)
}

func (c *call) detectStackDrift(context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	if err := st.stable(); err != nil {
		return nil, err
	}
	if st.detecting() {
		return nil, invalid("Drift detection is already in progress for stack [%s]", st.ID)
	}
	only := c.in.list("LogicalResourceIds")
	for _, id := range only {
		if st.resource(id) == nil {
			return nil, invalid("Resource %s does not exist for stack %s", id, st.Name)
		}
	}
	count := len(only)
	if count == 0 {
		count = len(st.Resources)
	}
	d := &detection{ID: newID(), Who: c.Who, Began: c.now(), Only: only, Status: detecting, Fail: c.Fail}
	d.Due = d.Began.Add(time.Duration(count) * typical.DetectDrift)
	st.Checks = append(st.Checks, d)
	return struct{ StackDriftDetectionId string }{d.ID}, nil
}

func (c *call) describeStackDriftDetectionStatus(context.Context) (any, error) {
	id := c.in.one("StackDriftDetectionId")
	for _, st := range c.stacks {
		for _, d := range st.Checks {
			if d.ID != id || st.Where != c.Where {
				continue
			}
			var count *int
			if d.Status != detecting {
				count = &d.Drifted
			}
			return struct {
				StackId, StackDriftDetectionId string
				StackDriftStatus               string `xml:",omitempty"`
				DetectionStatus                string
				DetectionStatusReason          string `xml:",omitempty"`
				DriftedStackResourceCount      *int   `xml:",omitempty"`
				Timestamp                      string
			}{st.ID, d.ID, d.As, d.Status, d.Reason, count, stamp(d.Began)}, nil
		}
	}
	return nil, invalid("No drift detection with id %s", id)
}

type xmlDifference struct {
	PropertyPath, ExpectedValue, ActualValue, DifferenceType string
}

type xmlDrifted struct {
	StackId, LogicalResourceId string
	PhysicalResourceId         string `xml:",omitempty"`
	ResourceType               string
	ExpectedProperties         string                  `xml:",omitempty"`
	ActualProperties           string                  `xml:",omitempty"`
	PropertyDifferences        *members[xmlDifference] `xml:",omitempty"`
	StackResourceDriftStatus   string
	Timestamp                  string
}

func (st *stack) showDrift(r *stackResource) xmlDrifted {
	d := r.Drift
	x := xmlDrifted{StackId: st.ID, LogicalResourceId: r.LogicalID, PhysicalResourceId: r.Physical.ID, ResourceType: r.Type, StackResourceDriftStatus: d.Status, Timestamp: stamp(d.Time)}
	if d.Status != notChecked {
		x.ExpectedProperties, x.ActualProperties = st.mask(d.Expected), st.mask(d.Actual)
	}
	var all []xmlDifference
	for _, one := range d.Differences {
		all = append(all, xmlDifference{one.PropertyPath, st.mask(one.Expected), one.Actual, one.Type})
	}
	x.PropertyDifferences = optional(all)
	return x
}

func (c *call) describeStackResourceDrifts(context.Context) (any, error) {
	st, err := c.existing(missingBracket)
	if err != nil {
		return nil, err
	}
	wanted := c.in.list("StackResourceDriftStatusFilters")
	var all []xmlDrifted
	for _, r := range st.Resources {
		if r.Drift == nil || len(wanted) > 0 && !slices.Contains(wanted, r.Drift.Status) {
			continue
		}
		all = append(all, st.showDrift(r))
	}
	part, next, err := page(c, sorted(all, func(x xmlDrifted) string { return x.LogicalResourceId }), pageSize)
	return struct {
		StackResourceDrifts members[xmlDrifted]
		NextToken           string `xml:",omitempty"`
	}{listOf(part), next}, err
}

func (c *call) detectStackResourceDrift(ctx context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	if err := st.stable(); err != nil {
		return nil, err
	}
	id := c.in.one("LogicalResourceId")
	r := st.resource(id)
	if r == nil {
		return nil, invalid("Resource %s does not exist for stack %s", id, st.Name)
	}
	found, err := c.look(ctx, st, r, c.Who, c.now())
	if err != nil {
		return nil, invalid("Failed to detect drift on resource %s: %s", id, said(err))
	}
	if found.Status == notChecked {
		return nil, invalid("Drift detection is not supported for resource type %s", r.Type)
	}
	r.Drift = found
	return struct{ StackResourceDrift xmlDrifted }{st.showDrift(r)}, nil
}
