package network

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/plane"
)

// Request says what network is checked.
type Request struct {
	Region  string
	Account string // in which the data plane will be; the caller's when empty
	VPC     string // vpc-…
	// The subnets of each tier. When one is empty, it is those of the network's subnets that
	// are not named in the other and whose way out is that of the tier.
	PublicSubnets, PrivateSubnets []string
	// PrivateEndpoint asks for what a cluster whose endpoint is private needs besides.
	PrivateEndpoint bool
}

// Status is what came of a check.
type Status string

// The statuses.
const (
	Pass          Status = "pass"
	Fail          Status = "fail"
	CannotTell    Status = "cannot-tell" // the message names the call that is missing
	NotApplicable Status = "not-applicable"
)

// Severity is what a failure means.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // a data plane would not work
	Warning Severity = "warning" // it would, and there is a price or a risk
)

// Finding is what one check says of one thing.
type Finding struct {
	ID       int      `json:"id"` // 1 to 28
	Name     string   `json:"name"`
	Status   Status   `json:"status"`
	Severity Severity `json:"severity"`
	Resource string   `json:"resource"` // the id of the subnet, gateway, table, endpoint or network
	Zone     string   `json:"zone"`     // by id; "" for what is in none
	Message  string   `json:"message"`  // one sentence
	Remedy   string   `json:"remedy"`   // what to do, as a command where there is one; "" unless it failed
}

// Report is every finding, in the order of the checks. Each check has at least one.
type Report struct {
	Checks []Finding `json:"checks"`

	facts *facts
}

// With returns the findings of a status and severity.
func (r *Report) With(status Status, severity Severity) []Finding {
	var out []Finding
	for _, f := range r.Checks {
		if f.Status == status && f.Severity == severity {
			out = append(out, f)
		}
	}
	return out
}

var (
	networkForm = regexp.MustCompile(`^vpc-[0-9a-f]{8,17}$`)
	subnetForm  = regexp.MustCompile(`^subnet-[0-9a-f]{8,17}$`)
)

// Valid refuses what is no id, before anybody is asked. Its errors are *usererr.Error.
func (r Request) Valid() error {
	if !networkForm.MatchString(r.VPC) {
		return usererr.New(usererr.Invalid, "%q is no id of a network", r.VPC).WithHint("give one such as vpc-8580ec61d96caf837")
	}
	for _, id := range slices.Concat(r.PublicSubnets, r.PrivateSubnets) {
		if !subnetForm.MatchString(id) {
			return usererr.New(usererr.Invalid, "%q is no id of a subnet", id).WithHint("give ids such as subnet-d7d3ce57d1a546401, separated by commas")
		}
	}
	return nil
}

// Check looks at a network and says all that it finds, in one pass. It writes nothing.
// Each call that fails is a finding; an error is what would meet every call, as it came
// from the SDK.
func Check(ctx context.Context, api plane.Clients, r Request) (*Report, error) {
	f, err := gather(ctx, api, r)
	if err != nil {
		return nil, err
	}
	return judge(f), nil
}

// judge evaluates what was gathered. It asks nobody.
func judge(f *facts) *Report {
	report := &Report{facts: f}
	for _, c := range checks {
		for _, finding := range c.judge(f) {
			finding.ID, finding.Name = c.id, c.name
			finding.Severity = cmp.Or(finding.Severity, c.severity)
			if finding.Resource == "" {
				finding.Resource = f.VPC
			}
			if finding.Status != Fail {
				finding.Remedy = ""
			}
			report.Checks = append(report.Checks, finding)
		}
	}
	return report
}

// theTiers, among the needs of a check, is which subnets are public and which private.
// Where that was not said, it takes the tables of routes.
const theTiers = "tiers"

// check is one of the 28.
type check struct {
	id       int
	name     string
	severity Severity // where a finding says nothing else
	needs    []string // calls without which it cannot tell, and theTiers
	run      func(*facts) []Finding
}

func (c check) judge(f *facts) []Finding {
	var missing []string
	for _, call := range c.needs {
		if call == theTiers {
			if !f.inferred {
				continue
			}
			call = callTables
		}
		if err := f.failed[call]; err != nil {
			missing = append(missing, whyNot(call, err))
		}
	}
	switch {
	case f.failed[callVPCs] == nil && f.vpc == nil && c.id != 1:
		return []Finding{{Status: NotApplicable, Message: "there is no such network"}}
	case len(missing) > 0:
		return []Finding{{Status: CannotTell, Message: "it takes " + strings.Join(missing, ", and ")}}
	}
	found := c.run(f)
	if len(found) == 0 {
		return []Finding{{Status: NotApplicable, Message: "there is nothing to check"}}
	}
	return found
}

// pass and fail make findings; the rest of the fields is filled in by who calls them.
func pass(resource, format string, args ...any) Finding {
	return Finding{Status: Pass, Resource: resource, Message: fmt.Sprintf(format, args...)}
}

func fail(severity Severity, resource, remedy, format string, args ...any) Finding {
	return Finding{Status: Fail, Severity: severity, Resource: resource, Remedy: remedy, Message: fmt.Sprintf(format, args...)}
}

func notApplicable(format string, args ...any) Finding {
	return Finding{Status: NotApplicable, Message: fmt.Sprintf(format, args...)}
}

func (f Finding) in(zone string) Finding { f.Zone = zone; return f }
