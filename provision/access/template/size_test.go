package template

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/iampolicy"
)

// largest are the sizes of a set that IAM counts: of its largest managed policy, of all
// its policies together, and of the largest trust.
func largest(set *access.Set) (policy, sum, trust int) {
	policies := []access.Policy{}
	if set.Boundary != nil {
		policies = append(policies, *set.Boundary)
	}
	for _, r := range set.Roles {
		policies = append(policies, r.Policies...)
		trust = max(trust, r.Trust.Size)
	}
	for _, p := range policies {
		policy, sum = max(policy, p.Size), sum+p.Size
	}
	return policy, sum, trust
}

// Whatever name the role is given, in every region, each document stays in IAM's limits.
func TestEveryDocumentFitsInEveryRegion(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		body := made(t, v.Options).Bytes(JSON)
		o := v.Options
		o.ExternalID, o.PreviousExternalID = strings.Repeat("e", 24), strings.Repeat("p", 24)
		parameters := Parameters(o)
		parameters[RoleNameParameter] = strings.Repeat("r", roleNameLimit)
		for _, region := range access.Regions() {
			set, err := Resolve(body, parameters, account, region.Name)
			if err != nil {
				t.Fatal(err)
			}
			policy, _, trust := largest(set)
			if policy > iampolicy.ManagedLimit || trust > iampolicy.TrustLimit {
				t.Errorf("%s in %s: got a policy of %d and a trust of %d characters, want at most %d and %d",
					v.name, region.Name, policy, trust, iampolicy.ManagedLimit, iampolicy.TrustLimit)
			}
		}
	}
}

// docs/access-template.md has the sizes. Here they are written as its rows:
//
//	go test ./provision/access/template -run Sizes -args -update
func TestSizes(t *testing.T) {
	t.Parallel()
	const page = "../../../docs/access-template.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variants() {
		made := made(t, v.Options)
		if compat := v.Profile == access.Compat; (made.Size(JSON) <= BodyLimit) != compat {
			t.Errorf("%s: got %d bytes, want compat alone to be small enough to go without S3", v.name, made.Size(JSON))
		}
		row := fmt.Sprintf("| %s | %s | %s |", v.name, thousands(made.Size(JSON)), thousands(made.Size(YAML)))
		sizes := map[int]string{} // by the length of the region's name, which decides
		for _, region := range LinkRegions {
			o := v.Options
			o.ExternalID = externalID
			set, err := Resolve(made.Bytes(JSON), Parameters(o), account, region)
			if err != nil {
				t.Fatal(err)
			}
			policy, sum, _ := largest(set)
			cell := fmt.Sprintf(" %s, %s |", thousands(policy), thousands(sum))
			if same, ok := sizes[len(region)]; !ok {
				row += cell
			} else if same != cell {
				t.Errorf("%s in %s: got%s want%s as in the others of nine letters", v.name, region, cell, same)
			}
			sizes[len(region)] = cell
		}
		t.Log(row)
		there := regexp.MustCompile(`(?m)^\| ` + v.name + ` \|.*$`).FindIndex(text)
		if there == nil {
			t.Errorf("got no row of %q in %s, want one", v.name, page)
			continue
		}
		if old := string(text[there[0]:there[1]]); old != row {
			if !*update {
				t.Errorf("got in %s\n%s\nwant\n%s", page, old, row)
			}
			text = slices.Concat(text[:there[0]], []byte(row), text[there[1]:])
		}
	}
	if *update {
		if err := os.WriteFile(page, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var update = flag.Bool("update", false, "write the sizes into docs/access-template.md")

// thousands writes 91324 as 91,324.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
