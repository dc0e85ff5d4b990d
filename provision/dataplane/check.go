package dataplane

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// Report is what a check found. Its JSON is a contract.
type Report struct {
	Drift  []Drift  `json:"drift"`
	Health []Health `json:"health"`
}

// Drift is one field that is not as the file says.
type Drift struct {
	Step string `json:"step"`
	step.Drift
}

// Health is the state of one thing.
type Health struct {
	Step    string `json:"step"`
	Status  string `json:"status"` // ok, pending, failed, unknown
	Message string `json:"message"`
}

// The states of a thing.
const (
	OK      = "ok"
	Pending = "pending"
	Failed  = "failed"
	Unknown = "unknown"
)

// Healthy reports whether nothing has failed.
func (r Report) Healthy() bool {
	for _, h := range r.Health {
		if h.Status == Failed {
			return false
		}
	}
	return true
}

// Check looks at everything again: what differs from the file, and what does not work.
// The steps have been looked at by a Runner's Plan before, so that they know of each other.
func Check(ctx context.Context, p *plane.Plane, steps []step.Step, plan step.Plan) (Report, error) {
	report := Report{Drift: []Drift{}, Health: []Health{}}
	changes := map[string]step.Change{}
	for _, planned := range plan.Steps {
		changes[planned.Name] = planned.Change
	}
	drifts := make([][]step.Drift, len(steps))
	var mu sync.Mutex
	looking, within := errgroup.WithContext(ctx)
	looking.SetLimit(16)
	for i, s := range steps {
		looking.Go(func() error {
			drift, err := driftOf(within, s, changes[s.Name()])
			mu.Lock()
			defer mu.Unlock()
			drifts[i] = drift
			if err != nil {
				return fmt.Errorf("looking at %s: %w", s.Name(), err)
			}
			return nil
		})
	}
	if err := looking.Wait(); err != nil {
		return report, err
	}
	for i, s := range steps {
		for _, d := range drifts[i] {
			report.Drift = append(report.Drift, Drift{Step: s.Name(), Drift: d})
		}
		report.Health = append(report.Health, healthOf(s.Name(), changes[s.Name()]))
	}
	return report, report.addAccess(ctx, p)
}

// accessStep is what a report calls the roles that the vendor comes into the account by.
const accessStep = "access"

// addAccess compares the documents that the account has granted with those that this
// version of the program would have it grant. Whether the private endpoint was granted,
// too, is not in the file: what fits better counts. The right to remove data planes is
// the customer's to give.
func (r *Report) addAccess(ctx context.Context, p *plane.Plane) error {
	var best *access.Report
	fewest := 0
	for _, private := range []bool{true, false} {
		set, err := access.Generate(access.Options{Profile: access.ProfileName(p.Spec.Access.Policy), Account: p.Place.Account, Region: p.Place.Region, Vendor: p.Vendor,
			ExternalID: p.Spec.Access.ExternalID, DeletePermissions: p.Spec.Access.Policy == spec.Strict, PrivateEndpoint: private})
		if err != nil {
			return err
		}
		// The roles of the private endpoint's tasks are looked at with it.
		set.Roles = slices.DeleteFunc(set.Roles, func(r access.Role) bool { return strings.HasPrefix(r.Name, p.Vendor.EndpointPrefix) })
		checker := &access.Checker{Set: set, Vendor: p.Vendor, RoleARN: p.Spec.Access.RoleARN, ExternalID: p.Spec.Access.ExternalID}
		report, err := checker.Documents(ctx, p.AWS.IAM)
		if err != nil {
			return fmt.Errorf("comparing the access documents: %w", err)
		}
		report.Rows = slices.DeleteFunc(report.Rows, func(row access.Row) bool {
			return row.Target == p.Vendor.RoleName+"-teardown" && row.Check == "role" && row.Result == access.Fail
		})
		fails := 0
		for _, row := range report.Rows {
			if row.Result == access.Fail {
				fails++
			}
		}
		if best == nil || fails < fewest {
			best, fewest = report, fails
		}
		if fails == 0 || p.Spec.PrivateEndpoint.Enabled {
			break
		}
	}
	health := Health{Step: accessStep, Status: OK}
	for _, row := range best.Rows {
		switch row.Result {
		case access.Fail:
			health.Status, health.Message = Failed, "what was granted is not what is needed: 'biplane access check' says more"
			r.Drift = append(r.Drift, Drift{Step: accessStep, Drift: step.Drift{Resource: row.Target, Field: row.Check, Want: "as 'biplane access policy' prints it", Got: row.Why}})
		case access.CannotTell:
			if health.Status == OK {
				health.Status, health.Message = Unknown, row.Target+": "+row.Why
			}
		}
	}
	r.Health = append(r.Health, health)
	return nil
}

// driftOf asks the step, or makes of its plan what it can.
func driftOf(ctx context.Context, s step.Step, change step.Change) ([]step.Drift, error) {
	if g, ok := s.(*granted); ok {
		if change.Action == step.Leave {
			return nil, nil // what the grants lack is no drift
		}
		s = g.Step
	}
	if l, ok := s.(*late); ok {
		if l.known != nil && !l.known() {
			return missing(s), nil
		}
		inner, err := l.now()
		if err != nil {
			return nil, err
		}
		s = inner
	}
	if d, ok := s.(step.Drifter); ok {
		return d.Drift(ctx)
	}
	switch change.Action {
	case step.Create:
		return missing(s), nil
	case step.Finish, step.Update, step.Replace, step.Refuse:
		var out []step.Drift
		for _, line := range change.Details {
			out = append(out, step.Drift{Resource: s.Name(), Field: "settings", Want: line})
		}
		return out, nil
	}
	return nil, nil
}

func missing(s step.Step) []step.Drift {
	return []step.Drift{{Resource: s.Name(), Field: "existence", Want: "there", Got: "missing"}}
}

// healthOf is the state that a look saw.
func healthOf(name string, change step.Change) Health {
	h := Health{Step: name, Status: OK}
	switch change.Action {
	case step.Create:
		h.Status, h.Message = Failed, "it is missing"
	case step.Refuse:
		h.Status, h.Message = Failed, strings.Join(change.Details, "; ")
	}
	switch {
	case h.Status != OK:
	case change.Waits != "":
		h.Status, h.Message = Pending, change.Waits
	case change.Unseen != "":
		h.Status, h.Message = Unknown, change.Unseen
	}
	return h
}
