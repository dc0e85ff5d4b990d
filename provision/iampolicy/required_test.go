package iampolicy

import (
	"encoding/csv"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// required is one row of required-actions.tsv: a call that the vendor makes.
type required struct {
	call      string
	pairs     []Request
	allowedBy []string // "M12", "P1"; none where the seed lacks it
}

var statementLabel = regexp.MustCompile(`^[MP][0-9]+`)

// requiredCalls reads the calls that the vendor makes with the customer's role.
// Left out are the rows that other credentials make: the customer's own, the
// vendor's own account, the workloads'. sts:GetCallerIdentity stays, although
// it needs no permission, because the vendor calls it; the main policy lists it.
//
// A row names the actions and the ARNs of one call, not which belong together.
// An action is tested on each ARN that the reference says it can act on, and on
// "*" where it can act on none of them. Where the row has a single action, all
// its ARNs are that action's: so the table also says where the live authorizer
// tests a resource that the reference does not know.
func requiredCalls(t *testing.T, region string) []required {
	t.Helper()
	raw, err := os.ReadFile("testdata/required-actions.tsv")
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(strings.NewReader(strings.NewReplacer("REGION", region, "ACCOUNT", "123456789012").Replace(string(raw))))
	r.Comma, r.LazyQuotes = '\t', true
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	reference := sar.Default()
	var calls []required
	for _, row := range rows[1:] {
		if strings.HasPrefix(row[3], "N/A") {
			continue
		}
		call := required{call: row[0]}
		if row[3] == "(no permission needed)" {
			call.allowedBy = []string{"M16"}
		}
		for _, by := range strings.Split(row[3], " + ") {
			if label := statementLabel.FindString(by); label != "" && !strings.HasPrefix(by, "MISSING") {
				call.allowedBy = append(call.allowedBy, label)
			}
		}
		actions, arns := strings.Split(row[1], ", "), strings.Split(row[2], " , ")
		for _, name := range actions {
			action, ok := reference.Action(name)
			if !ok {
				t.Fatalf("%s: the reference has no action %s", row[0], name)
			}
			for _, arn := range resourcesOf(reference, action, arns, len(actions) == 1) {
				call.pairs = append(call.pairs, Request{
					Principal: Principal{Type: AWS, ARN: "arn:aws:sts::123456789012:assumed-role/union-ai-admin/s", Account: "123456789012"},
					Action:    name, Resource: arn,
				})
			}
		}
		calls = append(calls, call)
	}
	return calls
}

func resourcesOf(reference *sar.Reference, action *sar.Action, arns []string, alone bool) []string {
	if alone {
		return arns
	}
	var own []string
	for _, arn := range arns {
		if arn != "*" && len(reference.MatchingTypes(action, arn)) > 0 {
			own = append(own, arn)
		}
	}
	if len(own) == 0 {
		return []string{"*"}
	}
	return own
}

// TestRequiredCalls decides every call of the vendor by the seed's documents.
// The main policy is always attached and the private one is added to it, so the
// private policy is asked for what the main one lacks: a call is "private" where
// main allows none of its pairs, "both" where each allows a part.
//
// By that rule ec2:CreateVpcEndpointServiceConfiguration counts as "both": main
// allows its ec2:CreateTags. The private policy would do alone as well; asked
// that way, the figures are 45 and 2.
func TestRequiredCalls(t *testing.T) {
	t.Parallel()
	main, private := seedDocument(t, "main", "us-east-1"), seedDocument(t, "private", "us-east-1")
	evaluators := map[string]*Evaluator{}
	for name, documents := range map[string][]*Document{"main": {main}, "private": {private}, "both": {main, private}} {
		e, err := Compile(Policies{Identity: documents})
		if err != nil {
			t.Fatal(err)
		}
		evaluators[name] = e
	}

	calls := requiredCalls(t, "us-east-1")
	got, alone := map[string]int{}, 0
	for _, call := range calls {
		allowed := map[string]int{}
		for name, e := range evaluators {
			for i := range call.pairs {
				if e.Decide(&call.pairs[i]) == Allowed {
					allowed[name]++
				}
			}
		}
		answer := "missing"
		switch all := len(call.pairs); {
		case allowed["main"] == all:
			answer = "main"
		case allowed["main"] == 0 && allowed["private"] == all:
			answer = "private"
		case allowed["both"] == all:
			answer = "both"
		}
		if allowed["private"] == len(call.pairs) {
			alone++
		}
		got[answer]++
		if want := call.want(); answer != want {
			t.Errorf("%s: got %s, want %s (%v)", call.call, answer, want, call.allowedBy)
		}
		for _, fault := range call.compareStatements(evaluators["both"]) {
			t.Errorf("%s: %s", call.call, fault)
		}
	}
	t.Logf("%d calls: %v; the private policy would allow %d alone", len(calls), got, alone)
	for answer, want := range map[string]int{"main": 185, "private": 44, "both": 3, "missing": 83} {
		if got[answer] != want {
			t.Errorf("calls of %s: got %d, want %d", answer, got[answer], want)
		}
	}
	if len(calls) != 315 {
		t.Errorf("calls: got %d, want 315", len(calls))
	}
}

func (r *required) want() string {
	labels := strings.Join(r.allowedBy, "")
	switch main, private := strings.Contains(labels, "M"), strings.Contains(labels, "P"); {
	case main && private:
		return "both"
	case main:
		return "main"
	case private:
		return "private"
	}
	return "missing"
}

// compareStatements holds the statements that the table names against those
// that decide: each must be among them, and together they must be enough.
func (r *required) compareStatements(e *Evaluator) []string {
	var faults []string
	used := map[string]bool{}
	for i := range r.pairs {
		x := e.Explain(&r.pairs[i])
		enough := false
		for _, ref := range x.Statements {
			label := strings.ToUpper(ref.Document[:1]) + strconv.Itoa(ref.Index)
			used[label] = true
			enough = enough || slices.Contains(r.allowedBy, label)
		}
		if len(r.allowedBy) > 0 && !enough {
			faults = append(faults, fmt.Sprintf("%s on %s: got %v, want one of %v", r.pairs[i].Action, r.pairs[i].Resource, x.Statements, r.allowedBy))
		}
	}
	for _, label := range r.allowedBy {
		if !used[label] {
			faults = append(faults, fmt.Sprintf("%s allows nothing of the call", label))
		}
	}
	return faults
}
