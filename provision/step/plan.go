package step

import (
	"fmt"
	"io"
	"strings"
)

// Plan is what a run would do, step by step in the order of the steps' needs.
// Its JSON is read by other programs.
type Plan struct {
	Goal  Goal      `json:"goal"`
	Steps []Planned `json:"steps"`
}

// Planned is one step of a Plan.
type Planned struct {
	Name string `json:"name"`
	Change
}

// Writes reports whether any step changes the account.
func (p Plan) Writes() bool {
	for _, s := range p.Steps {
		if s.Action.Writes() {
			return true
		}
	}
	return false
}

// With returns the steps whose action is a.
func (p Plan) With(a Action) []Planned {
	var out []Planned
	for _, s := range p.Steps {
		if s.Action == a {
			out = append(out, s)
		}
	}
	return out
}

// Summary counts the steps by action: "Plan: 12 to create, 1 to adopt."
func (p Plan) Summary() string {
	words := []struct {
		action Action
		text   string
	}{
		{Create, "to create"}, {Finish, "to finish"}, {Update, "to update"}, {Replace, "to replace"}, {Adopt, "to adopt"}, {Remove, "to remove"},
		{Keep, "unchanged"}, {Leave, "left alone"}, {Refuse, "refused"},
	}
	var parts []string
	for _, w := range words {
		if n := len(p.With(w.action)); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, w.text))
		}
	}
	if len(parts) == 0 {
		return "Plan: nothing to do."
	}
	return "Plan: " + strings.Join(parts, ", ") + "."
}

// WriteText prints the plan for a person. Steps that are absent and stay so
// are left out.
func (p Plan) WriteText(w io.Writer) error {
	width := 0
	for _, s := range p.Steps {
		if s.Action != None {
			width = max(width, len(s.Name))
		}
	}
	var b strings.Builder
	for _, s := range p.Steps {
		if s.Action == None {
			continue
		}
		fmt.Fprintf(&b, "  %s %-*s  %s\n", s.Action.symbol(), width, s.Name, s.Action)
		for _, line := range s.Details {
			fmt.Fprintf(&b, "      %s\n", line)
		}
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	b.WriteString(p.Summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}
