package dataplane

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

// Plan is what would be done, in its order. Its JSON is a contract.
type Plan struct {
	Steps []Planned `json:"steps"`
	// Lacks are calls that the published grants do not allow; empty under strict.
	Lacks []Lack `json:"lacks"`
}

// Planned is one step.
type Planned struct {
	Name string `json:"name"`
	// Action is none, create, update, replace, remove or refuse.
	Action string   `json:"action"`
	Reason string   `json:"reason"`
	Calls  []string `json:"calls"`  // as the table of operations names them: ec2:CreateVpc
	Grants []string `json:"grants"` // IAM's actions: ec2:CreateTags
	// Cost is what the thing will cost in USD for 730 hours when nothing goes through it.
	Cost            float64  `json:"cost"`
	CostNote        string   `json:"costNote,omitempty"`
	ExpectedSeconds int      `json:"expectedSeconds"`
	Needs           []string `json:"needs"`

	change step.Change
}

// NewPlan describes a plan of these steps.
func NewPlan(steps []step.Step, plan step.Plan) Plan {
	byName := map[string]step.Step{}
	for _, s := range steps {
		byName[s.Name()] = s
	}
	out := Plan{Steps: []Planned{}, Lacks: []Lack{}}
	shown := map[string]bool{}
	for _, p := range plan.Steps {
		// What is not there and not wanted is left out of a plan that makes.
		shown[p.Name] = plan.Goal == step.Absent || p.Action != step.None
	}
	for _, p := range plan.Steps {
		if !shown[p.Name] {
			continue
		}
		about := step.Describe(byName[p.Name])
		one := Planned{Name: p.Name, Action: word(p.Action), Reason: strings.Join(p.Details, "; "), Calls: []string{}, Grants: []string{}, Needs: []string{}, change: p.Change}
		for _, need := range byName[p.Name].Needs() {
			if shown[need] {
				one.Needs = append(one.Needs, need)
			}
		}
		if p.Action.Writes() {
			one.Calls = append(one.Calls, about.Calls(p.Action)...)
			one.Grants = append(one.Grants, grantsOf(one.Calls)...)
			one.ExpectedSeconds = int(about.Expected(p.Action) / time.Second)
		}
		if one.Reason == "" {
			one.Reason = asItIs[p.Action]
		}
		if g, ok := byName[p.Name].(*granted); ok {
			out.Lacks = append(out.Lacks, g.lacks(plan.Goal)...)
		}
		if plan.Goal == step.Present {
			one.Cost, one.CostNote = about.Monthly, about.Cost
		}
		out.Steps = append(out.Steps, one)
	}
	return out
}

// asItIs is the reason of an action that has none of its own.
var asItIs = map[step.Action]string{
	step.Create: "it is not there", step.Keep: "it is as the file says", step.None: "it is not there", step.Remove: "it is there",
}

// word is the plan's word for an action.
func word(a step.Action) string {
	switch a {
	case step.Create:
		return "create"
	case step.Finish, step.Update, step.Adopt:
		return "update"
	case step.Replace:
		return "replace"
	case step.Remove:
		return "remove"
	case step.Refuse:
		return "refuse"
	}
	return "none"
}

// grantsOf are the actions of IAM that calls need, each once.
func grantsOf(calls []string) []string {
	var actions []string
	for _, op := range operations.Operations() {
		if !slices.Contains(calls, operations.Name(op.Call)) {
			continue
		}
		for _, g := range op.Grants {
			actions = append(actions, g.Actions...)
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// Monthly is what the data plane costs in USD for 730 hours when nothing goes through it.
func (p Plan) Monthly() float64 {
	sum := 0.0
	for _, s := range p.Steps {
		sum += s.Cost
	}
	return sum
}

// Expected is how long the plan takes when every step begins as soon as it can: the
// longest way through the graph.
func (p Plan) Expected() time.Duration {
	return time.Duration(p.longestWay()) * time.Second
}

// longestWay is the critical path in seconds, over the steps that are still to be done.
// A plan is in the order in which it is carried out; one that removes has its needs the
// other way round.
func (p Plan) longestWay() int {
	at := map[string]int{}
	for i, s := range p.Steps {
		at[s.Name] = i
	}
	before := make([][]int, len(p.Steps))
	for i, s := range p.Steps {
		for _, need := range s.Needs {
			j, ok := at[need]
			switch {
			case !ok:
			case j < i:
				before[i] = append(before[i], j)
			default:
				before[j] = append(before[j], i)
			}
		}
	}
	ends, longest := make([]int, len(p.Steps)), 0
	for i, s := range p.Steps {
		for _, j := range before[i] {
			ends[i] = max(ends[i], ends[j])
		}
		ends[i] += s.ExpectedSeconds
		longest = max(longest, ends[i])
	}
	return longest
}

// WriteText prints it for people.
func (p Plan) WriteText(w io.Writer) error {
	symbols := map[string]string{"create": "+", "update": "~", "replace": "±", "remove": "-", "refuse": "!"}
	width := 0
	for _, s := range p.Steps {
		width = max(width, len(s.Name))
	}
	var b strings.Builder
	counts := map[string]int{}
	stay := 0
	for _, s := range p.Steps {
		counts[s.Action]++
		left := s.change.Action == step.Leave
		if left || s.change.Action == step.Keep {
			stay++
		}
		if s.Action == "none" && !left {
			continue
		}
		symbol := symbols[s.Action]
		if left {
			symbol = "="
		}
		fmt.Fprintf(&b, "  %s %-*s  %s", symbol, width, s.Name, s.change.Action)
		if s.ExpectedSeconds > 0 {
			fmt.Fprintf(&b, ", about %s", time.Duration(s.ExpectedSeconds)*time.Second)
		}
		if s.Cost > 0 && s.Action == "create" {
			fmt.Fprintf(&b, ", %.2f USD a month", s.Cost)
		}
		b.WriteString("\n")
		for _, line := range s.change.Details {
			fmt.Fprintf(&b, "      %s\n", line)
		}
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	if len(p.Lacks) > 0 {
		b.WriteString("The published grants lack, so that it is left out:\n")
		for _, l := range p.Lacks {
			fmt.Fprintf(&b, "  %-*s  %s: %s\n", width, l.Step, strings.Join(l.Actions, ", "), l.Lost)
		}
		b.WriteString("\n")
	}
	var parts []string
	for _, action := range []string{"create", "update", "replace", "remove", "refuse"} {
		if n := counts[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n, action))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing to do"}
	}
	fmt.Fprintf(&b, "Plan: %s", strings.Join(parts, ", "))
	if stay > 0 {
		fmt.Fprintf(&b, "; %d stay%s", stay, map[bool]string{true: "s as it is", false: " as they are"}[stay == 1])
	}
	b.WriteString(".")
	switch expected := p.Expected().Round(time.Minute); {
	case expected > 0:
		fmt.Fprintf(&b, " It takes about %s.", expected)
	case p.Expected() > 0:
		b.WriteString(" It takes less than a minute.")
	}
	if sum := p.Monthly(); sum > 0 {
		fmt.Fprintf(&b, " Standing cost about %.0f USD a month, list prices of us-east-1.", sum)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}
