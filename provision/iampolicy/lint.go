package iampolicy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// Finding is one thing that a careful reader of a document would object to.
type Finding struct {
	File      string   `json:"file"`
	Code      string   `json:"code"` // one of Codes
	Severity  Severity `json:"severity"`
	Statement int      `json:"statement"` // from 0; -1 when it concerns the whole document
	Path      string   `json:"path"`      // "Statement[3].Action[1]"; empty for the whole document
	Line      int      `json:"line"`      // from 1
	Column    int      `json:"column"`    // from 1, in bytes
	Message   string   `json:"message"`   // one sentence that names the values
	Remedy    string   `json:"remedy"`    // the next thing to try
}

// Severity says how much a finding matters.
type Severity string

// The severities, from most to least.
const (
	Error   Severity = "error"   // IAM refuses it, it has no effect, or whoever holds it can take over the account or the role
	Warning Severity = "warning" // it reaches further than a reader would expect
	Info    Severity = "info"    // it works, and could be shorter or surer
)

// LintOptions is what a document alone does not tell.
type LintOptions struct {
	// Account is the account that the document is for, twelve digits. A trust
	// policy may name it without an external ID. Empty: every account is
	// another's.
	Account string
	// Session says that an identity document will be passed to AssumeRole as a
	// session policy, whose size limit is lower.
	Session bool
	// Reference holds the actions, resource types and condition keys that there
	// are. Nil is sar.Default.
	Reference *sar.Reference
}

// largestPolicy is the most characters that any AWS service takes in a policy
// (KMS, in a key policy). It bounds what Lint looks into.
const largestPolicy = 32 << 10

// Lint reports what is wrong with, dangerous in or superfluous in a policy
// document of any kind, in the order of the text. A correct document that
// grants no more than it names has no finding. Name is the findings' File. The
// error is a *SyntaxError, when src is no JSON document.
func Lint(name string, src []byte, o LintOptions) ([]Finding, error) {
	doc, problems, err := Scan(name, src)
	if err != nil {
		return nil, err
	}
	l := &linter{doc: doc, options: o, reference: o.Reference, places: newPlaces(src), src: src, lines: newLineStarts(src), work: newBudget()}
	if l.reference == nil {
		l.reference = sar.Default()
	}
	l.kind = kindOf(doc)

	for _, p := range problems {
		l.findings = append(l.findings, Finding{
			File: name, Code: p.Code, Severity: severityOf(p.Code), Statement: p.Statement, Path: p.Path,
			Line: p.Position.Line, Column: p.Position.Column, Message: p.Message, Remedy: p.Remedy,
		})
	}
	if l.lintSize() {
		l.lintDocument()   // Version, placeholders, what does not belong in this kind
		l.lintActions()    // actions and services that do not exist
		l.lintBreadth()    // *, Not…, writes on everything
		l.lintMatching()   // grants and denials that can never match
		l.lintRedundant()  // what another grant allows already
		l.lintConditions() // keys, operators and set operators
		switch l.kind {
		case identityKind:
			l.lintPaths() // privilege escalation and blast radius
		case trustKind:
			l.lintTrust()
		case resourceKind:
			l.lintOpenResource()
		}
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Code, b.Code))
	})
	return l.findings, nil
}

// documentKind is what a document can be attached to.
type documentKind uint8

const (
	identityKind documentKind = iota // attached to a role, user or group; a boundary; an SCP
	trustKind                        // who may assume a role
	resourceKind                     // on a bucket, a key, a queue, …
)

// kindOf goes by the Principal: a document without one is an identity document.
// With one it is a trust policy where every action is one of STS's, or where no
// statement has a resource and some actions are, or all are "*".
func kindOf(d *Document) documentKind {
	principal, resource, sts, others, every := false, false, false, false, false
	for i := range d.Statements {
		s := &d.Statements[i]
		principal = principal || s.Principal != nil || s.NotPrincipal != nil
		resource = resource || s.Resource != nil || s.NotResource != nil
		for _, action := range slices.Concat(s.Action, s.NotAction) {
			ofSTS := isSTS(action)
			if isEveryAction(action) {
				every = true
				continue
			}
			sts, others = sts || ofSTS, others || !ofSTS
		}
	}
	switch {
	case !principal:
		return identityKind
	case sts && (!others && !every || !resource), every && !others && !resource:
		return trustKind
	}
	return resourceKind
}

func isSTS(action string) bool { return strings.HasPrefix(strings.ToLower(action), "sts:") }

// linter is one run over one document.
type linter struct {
	doc       *Document
	src       []byte
	lines     lineStarts
	kind      documentKind
	options   LintOptions
	reference *sar.Reference
	places    places
	findings  []Finding
	matched   map[actionOn]sar.Match // what canMatch has answered
	work      *budget                // for comparing patterns
}

// report adds a finding at a path of the document.
func (l *linter) report(code string, statement int, path, message, remedy string) {
	at := l.places.find(l.lines, path)
	l.findings = append(l.findings, Finding{
		File: l.doc.Name, Code: code, Severity: severityOf(code), Statement: statement, Path: path,
		Line: at.Line, Column: at.Column, Message: message, Remedy: remedy,
	})
}

// each calls do with every statement of an effect, and its index.
func (l *linter) each(effect Effect, do func(i int, s *Statement)) {
	for i := range l.doc.Statements {
		if s := &l.doc.Statements[i]; s.Effect == effect {
			do(i, s)
		}
	}
}

// entry is the path of the n-th entry of a statement's element, which in the
// text is either a list or a single string.
func (l *linter) entry(statement int, element string, n int) string {
	path := fmt.Sprintf("Statement[%d].%s", statement, element)
	if in := fmt.Sprintf("%s[%d]", path, n); l.places.has(in) {
		return in
	}
	return path
}

func (l *linter) condition(statement int, c *Condition) string {
	return fmt.Sprintf("Statement[%d].Condition.%s.%s", statement, c.Operator, c.Key)
}

// actionOn is a question that is asked again and again.
type actionOn struct {
	action  *sar.Action
	pattern string
}

func (l *linter) canMatch(action *sar.Action, pattern string) sar.Match {
	if l.matched == nil {
		l.matched = map[actionOn]sar.Match{}
	}
	key := actionOn{action, starPlaceholders(pattern)}
	match, ok := l.matched[key]
	if !ok {
		match = l.reference.CanMatch(action, key.pattern)
		l.matched[key] = match
	}
	return match
}

// places finds the position of a path in the text. Paths are kept in lower
// case, because the grammar's words may be misspelt so.
type places map[string]int

func newPlaces(src []byte) places {
	p := places{}
	root, err := readJSON("", src)
	if err != nil {
		return p // Scan has refused the text
	}
	p[""] = root.offset
	p.add("", root)
	return p
}

func (p places) add(path string, n node) {
	for i, item := range n.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		p[at] = item.offset
		p.add(at, item)
	}
	for _, m := range n.members {
		at := strings.ToLower(join(path, m.name))
		value := m.value
		p[at] = m.offset
		if value.kind == stringKind {
			p[at] = value.offset // a reader looks at the value
		}
		if at == "statement" && value.kind == objectKind {
			at = "statement[0]" // a single statement needs no list
			p[at] = value.offset
		}
		p.add(at, value)
	}
}

func (p places) has(path string) bool {
	_, ok := p[strings.ToLower(path)]
	return ok
}

// find is the position of the path, or of the nearest thing around it.
func (p places) find(lines lineStarts, path string) Position {
	path = strings.ToLower(path)
	for {
		if offset, ok := p[path]; ok {
			return lines.position(offset)
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// some writes a list for a message: the first few, and how many more.
func some(names []string) string {
	const most = 6
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
