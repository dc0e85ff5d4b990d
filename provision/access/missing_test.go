package access

import (
	"os"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
)

// lacking reads which of the calls that are known to be needed the published
// grants do not have.
func lacking(t *testing.T) (calls, missing []string) {
	t.Helper()
	text, err := os.ReadFile("../operations/testdata/required-actions.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		c := strings.Split(line, "\t")
		if strings.HasPrefix(c[3], "N/A") {
			continue
		}
		calls = append(calls, c[6]+" "+c[0])
		if strings.HasPrefix(c[3], "MISSING") {
			missing = append(missing, c[6]+" "+c[0])
		}
	}
	return calls, missing
}

func TestMissingNamesWhatThePublishedGrantsLack(t *testing.T) {
	t.Parallel()
	calls, want := lacking(t)
	if len(calls) != 315 || len(want) != 83 {
		t.Fatalf("got %d calls and %d missing in the test data, want 315 and 83", len(calls), len(want))
	}
	slices.Sort(want)
	for _, profile := range []ProfileName{Compat, Seed} {
		for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1"} {
			missing, err := Missing(Options{Profile: profile, Account: "123456789012", Region: region, PrivateEndpoint: true})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range missing {
				got = append(got, m.Phase+" "+m.Call)
				if len(m.Actions) == 0 || m.Purpose == "" || m.Because == "" {
					t.Errorf("%s: got no actions, purpose or reason, want all three", m.Call)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s %s: got %v, want %v", profile, region, got, want)
			}
		}
	}
}

// Of the 315 calls the main policy allows 185; of 44 more it allows nothing and the
// private endpoint's policy all; for 3 both have a part. (One of the three, making
// the endpoint service, the private policy could allow alone.)
func TestThePublishedPoliciesAllowWhatTheyAreKnownToAllow(t *testing.T) {
	t.Parallel()
	target, err := Options{Profile: Seed, Account: "123456789012", Region: "us-east-1", PrivateEndpoint: true}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	set, err := target.seed()
	if err != nil {
		t.Fatal(err)
	}
	names := operations.CompatNames(target.place(), target.Vendor)
	// allowed counts the pairs of a call, and those that the policies allow.
	allowed := func(op operations.Operation, e *iampolicy.Evaluator) (some, all bool) {
		all = true
		for _, g := range op.Grants {
			for _, action := range g.Actions {
				for _, resource := range g.Resources {
					r := &iampolicy.Request{Principal: target.session(set.Roles[0]), Action: action, Resource: names.Example(resource), Context: iampolicy.Context{}}
					yes := e.Decide(r) == iampolicy.Allowed
					some, all = some || yes, all && yes
				}
			}
		}
		return some, all
	}
	main, err := evaluator(Role{Policies: set.Roles[0].Policies[:1]})
	if err != nil {
		t.Fatal(err)
	}
	both, err := evaluator(set.Roles[0])
	if err != nil {
		t.Fatal(err)
	}
	calls, _ := lacking(t)
	got := map[string]int{}
	for _, op := range operations.Operations() {
		if !slices.Contains(calls, string(op.Phase)+" "+op.Call) {
			continue
		}
		someOfMain, allOfMain := allowed(op, main)
		_, allOfBoth := allowed(op, both)
		switch {
		case allOfMain:
			got["main"]++
		case !allOfBoth:
			got["missing"]++
		case someOfMain:
			got["both"]++
		default:
			got["private"]++
		}
	}
	for verdict, want := range map[string]int{"main": 185, "private": 44, "both": 3, "missing": 83} {
		if got[verdict] != want {
			t.Errorf("%s: got %d calls, want %d", verdict, got[verdict], want)
		}
	}
}

func TestMissingCountsThePrivateEndpointOnlyWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	missing, err := Missing(Options{Profile: Compat, Account: "123456789012", Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		if m.Phase == string(operations.PrivateEndpoint) {
			t.Errorf("got %s, want no call of the private endpoint", m.Call)
		}
	}
	t.Logf("%d calls", len(missing))
}

func TestMissingSaysWhyStrictLeavesACallOut(t *testing.T) {
	t.Parallel()
	missing, err := Missing(Options{Account: "123456789012", Region: "eu-central-1", PrivateEndpoint: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) == 0 {
		t.Error("got no calls, want those that are left out on purpose")
	}
	for _, m := range missing {
		if m.Because == "" {
			t.Errorf("%s: got no reason, want one", m.Call)
		}
	}
	t.Logf("%d calls", len(missing))
}
