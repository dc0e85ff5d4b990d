package foreign

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy"
)

var decisions = flag.Int("decisions", 20000, "how many decisions to compare for each evaluator")

// evaluator is one of the others.
type evaluator struct {
	name string
	// compile prepares a document; an error says that the evaluator cannot read it.
	compile func(text []byte) (func(*iampolicy.Request) iampolicy.Decision, error)
	// tellsDenials: it tells a Deny from the lack of an Allow.
	tellsDenials bool
	differences  []difference
}

// difference is one way in which an evaluator knowingly departs from IAM.
type difference struct {
	name   string
	reason string
	// explains is asked about a single element on which the two disagree.
	explains func(element, *iampolicy.Request) bool
}

// element is the smallest thing that two evaluators can disagree on: one action
// pattern, one resource pattern or one condition. The others are empty.
type element struct {
	version   string
	action    string
	nowhere   bool // the action, on a resource that the request does not have
	resource  string
	not       bool // NotAction or NotResource
	condition *iampolicy.Condition
}

func (e element) String() string {
	switch {
	case e.nowhere:
		return "Action " + e.action + " elsewhere"
	case e.not && e.action != "":
		return "NotAction " + e.action
	case e.action != "":
		return "Action " + e.action
	case e.not:
		return "NotResource " + e.resource
	case e.resource != "":
		return "Resource " + e.resource
	}
	return fmt.Sprintf("Condition %+v", *e.condition)
}

// document allows everything that the element allows.
func (e element) document() *iampolicy.Document {
	s := iampolicy.Statement{Effect: iampolicy.Allow, Action: []string{"s3:*"}, Resource: []string{"*"}}
	switch {
	case e.nowhere:
		s.Action, s.Resource = []string{e.action}, []string{"arn:aws:s3:::nowhere"}
	case e.not && e.action != "":
		s.Action, s.NotAction = nil, []string{e.action}
	case e.action != "":
		s.Action = []string{e.action}
	case e.not:
		s.Resource, s.NotResource = nil, []string{e.resource}
	case e.resource != "":
		s.Resource = []string{e.resource}
	default:
		s.Condition = []iampolicy.Condition{*e.condition}
	}
	return &iampolicy.Document{Name: "element", Version: e.version, Statements: []iampolicy.Statement{s}}
}

func elements(d *iampolicy.Document) []element {
	var all []element
	for i := range d.Statements {
		s := &d.Statements[i]
		for _, a := range s.Action {
			all = append(all, element{version: d.Version, action: a}, element{version: d.Version, action: a, nowhere: true})
		}
		for _, a := range s.NotAction {
			all = append(all, element{version: d.Version, action: a, not: true})
		}
		for _, r := range s.Resource {
			all = append(all, element{version: d.Version, resource: r})
		}
		for _, r := range s.NotResource {
			all = append(all, element{version: d.Version, resource: r, not: true})
		}
		for j := range s.Condition {
			all = append(all, element{version: d.Version, condition: &s.Condition[j]})
		}
	}
	return all
}

// answer decides by both; unread means that the other cannot read the document.
func (e *evaluator) answer(d *iampolicy.Document, r *iampolicy.Request) (ours, theirs iampolicy.Decision, unread bool, err error) {
	text := d.Text()
	parsed, err := iampolicy.Parse(d.Name, text)
	if err != nil {
		return 0, 0, false, fmt.Errorf("our parser refuses what was generated: %w\n%s", err, text)
	}
	mine, err := iampolicy.Compile(iampolicy.Policies{Identity: []*iampolicy.Document{parsed}})
	if err != nil {
		return 0, 0, false, fmt.Errorf("our evaluator refuses what was generated: %w\n%s", err, text)
	}
	decide, err := e.compile(text)
	if err != nil {
		return 0, 0, true, nil
	}
	ours = mine.Decide(r)
	if ours == iampolicy.ExplicitDeny && !e.tellsDenials {
		ours = iampolicy.ImplicitDeny
	}
	return ours, decide(r), false, nil
}

// explain takes a disagreement apart. Each element on which the two disagree by
// itself must have a named difference, and there must be one: otherwise they
// put the elements together differently.
func (e *evaluator) explain(d *iampolicy.Document, r *iampolicy.Request) ([]string, error) {
	var names []string
	for _, part := range elements(d) {
		ours, theirs, unread, err := e.answer(part.document(), r)
		if err != nil {
			return nil, err
		}
		if unread || ours == theirs {
			continue
		}
		i := slices.IndexFunc(e.differences, func(known difference) bool { return known.explains(part, r) })
		if i < 0 {
			return nil, fmt.Errorf("%s: got %v, and %v by us", part, theirs, ours)
		}
		names = append(names, e.differences[i].name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("they agree on every element")
	}
	return names, nil
}

// outcome is how one generated case ended.
type outcome struct {
	unread      bool // the other cannot read the document
	allowed     bool // by us
	disagree    bool
	differences []string // none where nothing explains
}

// compare runs one generated case.
func (e *evaluator) compare(t testing.TB, choose chooser) outcome {
	t.Helper()
	d, r := choose.document(), choose.request()
	ours, theirs, unread, err := e.answer(d, r)
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{unread: unread, allowed: ours == iampolicy.Allowed, disagree: !unread && ours != theirs}
	if !o.disagree {
		return o
	}
	if o.differences, err = e.explain(d, r); err != nil {
		t.Errorf("%s answers %v, we answer %v: %v\n%s\non %s %s %v", e.name, theirs, ours, err, d.Text(), r.Action, r.Resource, r.Context)
	}
	return o
}

// run compares until enough decisions were compared, prints the tally, and
// fails on a difference that was never met: it is stale, or too rare to trust.
func (e *evaluator) run(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(20, 26))
	compared, allowed, unread, disagreements, explained := 0, 0, 0, 0, 0
	counts := map[string]int{}
	for compared < *decisions {
		o := e.compare(t, rng.IntN)
		switch {
		case o.unread:
			if unread++; unread > 100**decisions {
				t.Fatalf("%s cannot read the documents", e.name)
			}
			continue
		case o.disagree:
			disagreements++
			if len(o.differences) > 0 {
				explained++
			}
			for _, n := range o.differences {
				counts[n]++
			}
		}
		compared++
		if o.allowed {
			allowed++
		}
		if disagreements-explained > 5 {
			t.Fatal("too many disagreements that nothing explains")
		}
	}
	fmt.Printf("%s: decisions compared %d, disagreements %d (explained %d); allowed %d; documents it cannot read %d\n",
		e.name, compared, disagreements, explained, allowed, unread)
	if allowed < compared/5 || allowed > compared*4/5 {
		t.Errorf("got %d of %d decisions allowed, too lopsided to tell", allowed, compared)
	}
	for _, n := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("  %-28s %d\n", n, counts[n])
	}
	if *decisions < 20000 {
		return
	}
	for _, known := range e.differences {
		if counts[known.name] == 0 {
			t.Errorf("the difference %q explains nothing: remove it", known.name)
		}
	}
}

func TestForeign(t *testing.T) {
	for _, e := range []*evaluator{minio(), versitygw()} {
		t.Run(e.name, e.run)
	}
}

func FuzzMinio(f *testing.F)     { fuzz(f, minio()) }
func FuzzVersitygw(f *testing.F) { fuzz(f, versitygw()) }

func fuzz(f *testing.F, e *evaluator) {
	f.Add([]byte{})
	f.Add([]byte(strings.Repeat("\x03\x01\x05\x02\x07", 20)))
	f.Fuzz(func(t *testing.T, data []byte) { e.compare(t, bytesChooser(data)) })
}

// The pieces of an element that differences ask about.

// operator splits ForAllValues:StringEqualsIfExists into its three parts.
func (e element) operator() (set, base string, ifExists bool) {
	if e.condition == nil {
		return "", "", false
	}
	base, ifExists = strings.CutSuffix(e.condition.Operator, "IfExists")
	if s, b, found := strings.Cut(base, ":"); found {
		return s, b, ifExists
	}
	return "", base, ifExists
}

func (e element) isOf(families ...string) bool {
	_, base, _ := e.operator()
	return slices.ContainsFunc(families, func(f string) bool { return base != "" && strings.HasPrefix(base, f) })
}

func (e element) isNegated() bool {
	_, base, _ := e.operator()
	return strings.Contains(base, "Not")
}

// values of the request under the element's key.
func (e element) values(r *iampolicy.Request) ([]string, bool) {
	if e.condition == nil {
		return nil, false
	}
	return r.Context.Get(e.condition.Key)
}

// texts are the element's own.
func (e element) texts() []string {
	if e.condition != nil {
		return e.condition.Values
	}
	return []string{e.resource}
}

func (e element) hasVariables() bool { return anyContains(e.texts(), "${") }

// compared are the texts of the request that the element is compared with.
func (e element) compared(r *iampolicy.Request) []string {
	if e.condition != nil {
		values, _ := e.values(r)
		return values
	}
	return []string{r.Resource}
}

func anyContains(texts []string, piece string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, piece) })
}

// The differences that both have.
var (
	bytesForCharacters = difference{
		"? matches a byte", "IAM's ? matches a character; theirs takes a byte of it",
		func(e element, r *iampolicy.Request) bool {
			return anyContains(e.texts(), "?") && slices.ContainsFunc(e.compared(r), func(s string) bool {
				return strings.ContainsFunc(s, func(c rune) bool { return c >= 128 })
			})
		},
	}
	keyWithoutValues = difference{
		"key without values", "a key that is present without values is one empty value to us",
		func(e element, r *iampolicy.Request) bool {
			values, present := e.values(r)
			return present && len(values) == 0
		},
	}
	nullDataSet = difference{
		"null data set", "IAM's ForAllValues is true for an empty value; theirs compares it",
		func(e element, r *iampolicy.Request) bool {
			set, _, _ := e.operator()
			values, _ := e.values(r)
			return set == "ForAllValues" && len(values) == 1 && values[0] == ""
		},
	}
	dateForms = difference{
		"forms of dates", "IAM takes more of ISO 8601 and seconds since 1970",
		func(e element, r *iampolicy.Request) bool {
			return e.isOf("Date") && slices.ContainsFunc(slices.Concat(e.texts(), e.compared(r)), func(s string) bool {
				return !strings.Contains(s, "T")
			})
		},
	}
)
