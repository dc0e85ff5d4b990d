package iampolicy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The codes of Problem. IAM refuses most of these documents; the rest it
// stores although they cannot mean what their author thought.
const (
	duplicateKey       = "duplicate-key"        // a JSON key twice in one object, or condition keys that differ in case only
	duplicateSid       = "duplicate-sid"        // two statements of one Sid
	unknownElement     = "unknown-element"      // an element, or a kind of principal, that the grammar has not
	wrongCase          = "wrong-case"           // "action", "allow", "aws", "stringequals"
	badType            = "bad-type"             // a number where a string belongs
	missingElement     = "missing-element"      // no Statement, Effect, Action or Resource
	conflictingElement = "conflicting-elements" // both Action and NotAction, …
	emptyList          = "empty-list"           // a list that must have an entry
	badVersion         = "bad-version"          // neither 2012-10-17 nor 2008-10-17
	badEffect          = "bad-effect"           // neither Allow nor Deny
	badSid             = "bad-sid"              // other than letters and digits, in an identity policy
	badAction          = "bad-action"           // not service:Name and not *
	badARN             = "bad-arn"              // a Resource that is neither * nor six fields
	badPrincipal       = "bad-principal"        // not an ARN, account, service or provider
	badOperator        = "bad-operator"         // an operator that IAM does not know
	badConditionKey    = "bad-condition-key"    // not service:key
	badConditionValue  = "bad-condition-value"  // "yes" under Bool
	badText            = "bad-text"             // half of a surrogate pair
	byteOrderMarkCode  = "byte-order-mark"      // a mark before the document, which IAM refuses
)

// FormError says that a JSON document is not a valid policy, with everything
// that is wrong with it in the order of the text.
type FormError struct {
	Name     string
	Problems []Problem // at least one
}

func (e *FormError) Error() string {
	p := e.Problems[0]
	s := fmt.Sprintf("%s: %s; %s", place(e.Name, p.Position), p.Message, p.Remedy)
	switch n := len(e.Problems) - 1; n {
	case 0:
	case 1:
		s += " (and one more problem)"
	default:
		s += fmt.Sprintf(" (and %d more problems)", n)
	}
	return s
}

// Parse reads a policy document strictly. Name says where src came from; it is
// kept as the document's Name and heads the error. The error is a *SyntaxError
// when src is no JSON object, and a *FormError when it is no valid policy.
func Parse(name string, src []byte) (*Document, error) {
	d, problems, err := Scan(name, src)
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, &FormError{Name: name, Problems: problems}
	}
	return d, nil
}

// Scan reads what can be read of a policy document and returns it with every
// problem, in the order of the text. Where the meaning is plain (a wrong case)
// the document has it; what cannot be understood is left out. The error is
// only ever a *SyntaxError.
func Scan(name string, src []byte) (*Document, []Problem, error) {
	root, err := readJSON(name, src)
	if err != nil {
		return nil, nil, err
	}
	if root.kind != objectKind {
		return nil, nil, &SyntaxError{
			Name: name, Position: positionOf(src, root.offset),
			Message: fmt.Sprintf("this is %s and a policy document is an object; begin it with {", root.kind),
		}
	}
	s := &scan{lines: newLineStarts(src), statement: -1}
	if root.offset >= len(byteOrderMark) && strings.HasPrefix(string(src), string(byteOrderMark)) {
		s.report(byteOrderMarkCode, "", 0, "the text begins with a byte order mark, which IAM refuses", "save the file as UTF-8 without it")
	}
	d := s.document(name, root)
	slices.SortStableFunc(s.problems, func(a, b Problem) int {
		if a.Position.Line != b.Position.Line {
			return a.Position.Line - b.Position.Line
		}
		return a.Position.Column - b.Position.Column
	})
	return d, s.problems, nil
}

// scan is one walk over a document.
type scan struct {
	lines     lineStarts
	statement int // the one being read, or -1
	problems  []Problem
}

func (s *scan) report(code, path string, offset int, message, remedy string) {
	s.problems = append(s.problems, Problem{
		Code: code, Statement: s.statement, Path: path, Position: s.lines.position(offset),
		Message: message, Remedy: remedy,
	})
}

func (s *scan) document(name string, root node) *Document {
	d := &Document{Name: name}
	elements := s.elements(root, "", "a policy document", documentElements)
	if n, ok := elements["Version"]; ok {
		d.Version = s.text(n, "Version")
		if n.kind == stringKind && d.Version != "2012-10-17" && d.Version != "2008-10-17" {
			s.report(badVersion, "Version", n.offset,
				"Version is "+quote(d.Version)+", and IAM knows 2012-10-17 and 2008-10-17", `write "2012-10-17"`)
		}
	}
	if n, ok := elements["Id"]; ok {
		d.ID = s.text(n, "Id")
	}
	n, ok := elements["Statement"]
	if !ok {
		s.report(missingElement, "Statement", root.offset, "the document has no Statement", "add a list of statements")
		return d
	}
	list := []node{n}
	switch n.kind {
	case objectKind:
	case arrayKind:
		list = n.items
		if len(list) == 0 {
			s.report(emptyList, "Statement", n.offset, "Statement is an empty list", "add a statement")
		}
	default:
		s.wrongType(n, "Statement", "a list of statements")
		return d
	}
	sids := s.statements(d, list)
	s.checkSids(d, sids)
	return d
}

// statements reads each statement into d and returns the place of its Sid.
func (s *scan) statements(d *Document, list []node) []int {
	var sids []int
	defer func() { s.statement = -1 }()
	for i, n := range list {
		s.statement = i
		path := "Statement[" + strconv.Itoa(i) + "]"
		if n.kind != objectKind {
			s.wrongType(n, path, "a statement in braces")
			n = node{kind: objectKind, offset: n.offset}
			d.Statements = append(d.Statements, Statement{Position: s.lines.position(n.offset)}) // keeps the numbering
			sids = append(sids, n.offset)
			continue
		}
		st, sid := s.readStatement(n, path)
		d.Statements = append(d.Statements, st)
		sids = append(sids, sid)
	}
	return sids
}

// checkSids looks at all Sids together: they must be unique, and in a document
// without a Principal, an identity policy, of letters and digits only. Services
// with resource policies of their own allow more in theirs.
func (s *scan) checkSids(d *Document, offsets []int) {
	identity := !slices.ContainsFunc(d.Statements, func(st Statement) bool {
		return st.Principal != nil || st.NotPrincipal != nil
	})
	first := map[string]int{}
	defer func() { s.statement = -1 }()
	for i, st := range d.Statements {
		if st.Sid == "" {
			continue
		}
		s.statement = i
		path := "Statement[" + strconv.Itoa(i) + "].Sid"
		if identity && !onlyWord(st.Sid, "") {
			s.report(badSid, path, offsets[i], "the Sid "+quote(st.Sid)+" has other characters than letters and digits",
				"use A-Z, a-z and 0-9 only, or drop the Sid")
		}
		if j, ok := first[st.Sid]; ok {
			s.report(duplicateSid, path, offsets[i], "the Sid "+quote(st.Sid)+" is that of statement "+strconv.Itoa(j)+" too",
				"give each statement a Sid of its own, or none")
			continue
		}
		first[st.Sid] = i
	}
}

func (s *scan) readStatement(n node, path string) (st Statement, sid int) {
	st.Position, sid = s.lines.position(n.offset), n.offset
	elements := s.elements(n, path, "a statement", statementElements)
	has := func(name string) bool { _, ok := elements[name]; return ok }

	if v, ok := elements["Sid"]; ok {
		st.Sid, sid = s.text(v, path+".Sid"), v.offset
	}
	if v, ok := elements["Effect"]; ok {
		st.Effect = s.effect(v, path+".Effect")
	} else {
		s.report(missingElement, path+".Effect", n.offset, "the statement has no Effect", `add "Effect": "Allow" or "Deny"`)
	}
	for _, pair := range []string{"Principal", "Action", "Resource"} {
		if has(pair) && has("Not"+pair) {
			s.report(conflictingElement, path+".Not"+pair, elements["Not"+pair].offset,
				"the statement has both "+pair+" and Not"+pair, "keep one of them")
		}
	}
	if v, ok := elements["Principal"]; ok {
		st.Principal = s.principals(v, path+".Principal")
	}
	if v, ok := elements["NotPrincipal"]; ok {
		st.NotPrincipal = s.principals(v, path+".NotPrincipal")
	}
	if !has("Action") && !has("NotAction") {
		s.report(missingElement, path+".Action", n.offset, "the statement has neither Action nor NotAction", "add the actions that it is about")
	}
	if !has("Resource") && !has("NotResource") && !has("Principal") && !has("NotPrincipal") {
		s.report(missingElement, path+".Resource", n.offset, "the statement has neither Resource nor NotResource, and no Principal",
			`add the resources ("*" for all), or in a trust policy the Principal`)
	}
	list := func(name string, judge func(element, path string, at int, value string)) []string {
		v, ok := elements[name]
		if !ok {
			return nil
		}
		return s.list(v, path+"."+name, func(p string, at int, value string) { judge(name, p, at, value) })
	}
	st.Action = list("Action", s.action)
	st.NotAction = list("NotAction", s.action)
	st.Resource = list("Resource", s.resource)
	st.NotResource = list("NotResource", s.resource)
	if v, ok := elements["Condition"]; ok {
		st.Condition = s.conditions(v, path+".Condition")
	}
	return st, sid
}

func (s *scan) effect(n node, path string) Effect {
	given := s.text(n, path)
	if n.kind != stringKind {
		return ""
	}
	right, ok := spelling(given, []string{string(Allow), string(Deny)})
	switch {
	case !ok:
		s.report(badEffect, path, n.offset, "Effect is "+quote(given), `write "Allow" or "Deny"`)
		return ""
	case right != given:
		s.report(wrongCase, path, n.offset, "Effect is "+quote(given)+", and IAM compares its case", "write "+quote(right))
	}
	return Effect(right)
}

func (s *scan) action(element, path string, at int, value string) {
	if fault := actionFault(value); fault != "" {
		s.report(badAction, path, at, element+" "+quote(value)+" "+fault, "write service:Name, such as ec2:CreateVpc, or *")
	}
}

func (s *scan) resource(element, path string, at int, value string) {
	if value == "*" {
		return
	}
	if fault := arnFault(value); fault != "" {
		s.report(badARN, path, at, element+" "+quote(value)+" "+fault,
			"write an ARN such as arn:aws:s3:::bucket/*, or * for every resource")
	}
}

func (s *scan) principals(n node, path string) *Principals {
	p := &Principals{}
	switch n.kind {
	case stringKind:
		if n.text != "*" {
			s.report(badPrincipal, path, n.offset, "the principal "+quote(n.text)+" has no type",
				`write {"AWS": …}, {"Service": …} or {"Federated": …}, or "*" for everybody`)
			return p
		}
		p.Any = true
		return p
	case objectKind:
	default:
		s.wrongType(n, path, `an object such as {"AWS": …}, or "*"`)
		return p
	}
	elements := s.elements(n, path, "a principal", principalKeys)
	if len(elements) == 0 && len(n.members) == 0 {
		s.report(badPrincipal, path, n.offset, "the principal names nobody", `add "AWS", "Service" or "Federated"`)
	}
	for _, key := range principalKeys {
		v, ok := elements[key]
		if !ok {
			continue
		}
		values := s.list(v, path+"."+key, func(p string, at int, value string) {
			if fault := principalFault(key, value); fault != "" {
				s.report(badPrincipal, p, at, "the principal "+quote(value)+" under "+key+" "+fault,
					"name a principal that exists in full")
			}
		})
		switch key {
		case "AWS":
			p.AWS = values
		case "Service":
			p.Service = values
		case "Federated":
			p.Federated = values
		case "CanonicalUser":
			p.CanonicalUser = values
		}
	}
	return p
}

func (s *scan) conditions(n node, path string) []Condition {
	if n.kind != objectKind {
		s.wrongType(n, path, "an object of condition operators")
		return nil
	}
	var out []Condition
	s.duplicates(n, path, false)
	for _, op := range n.members {
		opPath := path + "." + op.name
		full, bare, ok := operatorSpelling(op.name)
		if !ok {
			s.report(badOperator, opPath, op.offset, "there is no condition operator "+quote(op.name), operatorRemedy(op.name))
			continue
		}
		if full != op.name {
			s.report(wrongCase, opPath, op.offset, "the condition operator "+quote(op.name)+" is spelt in another case by IAM", "write "+quote(full))
		}
		if op.value.kind != objectKind {
			s.wrongType(op.value, opPath, "an object of condition keys")
			continue
		}
		s.duplicates(op.value, opPath, true)
		for _, key := range op.value.members {
			keyPath := opPath + "." + key.name
			if service, name, ok := strings.Cut(key.name, ":"); !ok || service == "" || name == "" || strings.ContainsAny(service, " \t\n") {
				s.report(badConditionKey, keyPath, key.offset, "the condition key "+quote(key.name)+" has no service prefix",
					"write service:key, such as aws:SourceIp")
			}
			values := s.values(key.value, keyPath, func(p string, at int, value string) {
				if fault := conditionValueFault(bare, value); fault != "" {
					s.report(badConditionValue, p, at, "the value "+quote(value)+" of "+key.name+" "+fault+", which "+bare+" needs",
						"correct the value, or use another operator")
				}
			})
			out = append(out, Condition{Operator: full, Key: key.name, Values: values})
		}
	}
	return out
}

func operatorRemedy(given string) string {
	if strings.Contains(strings.ToLower(given), "null") {
		return "write \"Null\"; it asks whether the key is there and takes neither prefix nor IfExists"
	}
	return "use one of IAM's operators, such as StringEquals, StringLike, ArnLike, Bool or IpAddress"
}

// elements returns the members of n whose names are among known, the last of
// each, as JSON readers do, and reports all that is wrong with the names.
func (s *scan) elements(n node, path, what string, known []string) map[string]node {
	s.duplicates(n, path, false)
	found := map[string]node{}
	exact := map[string]bool{}
	for _, m := range n.members {
		name, ok := spelling(m.name, known)
		at := join(path, m.name)
		switch {
		case !ok:
			s.report(unknownElement, at, m.offset, what+" has no element "+quote(m.name), "remove it, or use one of "+strings.Join(known, ", "))
			continue
		case name != m.name:
			s.report(wrongCase, at, m.offset, "the element "+quote(m.name)+" is spelt "+quote(name)+", and IAM compares its case", "write "+quote(name))
			if exact[name] { // the well-spelt one is what IAM reads
				continue
			}
		}
		exact[name] = name == m.name
		found[name] = m.value
	}
	return found
}

// duplicates reports each key of n that was there before. IAM compares
// condition keys without regard to case, everything else exactly.
func (s *scan) duplicates(n node, path string, fold bool) {
	seen := map[string]string{}
	for _, m := range n.members {
		k := m.name
		if fold {
			k = strings.ToLower(k)
		}
		before, ok := seen[k]
		seen[k] = m.name
		switch {
		case !ok:
		case before == m.name:
			s.report(duplicateKey, join(path, m.name), m.offset, "the key "+quote(m.name)+" is here twice, and only one of them counts", "merge the two into one")
		default:
			s.report(duplicateKey, join(path, m.name), m.offset, "the keys "+quote(before)+" and "+quote(m.name)+" differ in case only, which IAM does not compare", "merge the two into one")
		}
		if strings.ContainsRune(m.name, '\uFFFD') {
			s.lostText(m.offset, join(path, m.name))
		}
	}
}

// list reads a string or a list of strings, as Action and its like are.
func (s *scan) list(n node, path string, judge func(path string, at int, value string)) []string {
	return s.scalars(n, path, "a string or a list of strings", judge, stringKind)
}

// values reads the values of a condition key, which may be numbers and booleans too.
func (s *scan) values(n node, path string, judge func(path string, at int, value string)) []string {
	return s.scalars(n, path, "a value or a list of values", judge, stringKind, numberKind, boolKind)
}

func (s *scan) scalars(n node, path, want string, judge func(string, int, string), allowed ...kind) []string {
	if n.kind != arrayKind {
		if !slices.Contains(allowed, n.kind) {
			s.wrongType(n, path, want)
			return nil
		}
		s.checkText(n, path)
		judge(path, n.offset, n.text)
		return []string{n.text}
	}
	if len(n.items) == 0 {
		s.report(emptyList, path, n.offset, path[strings.LastIndexByte(path, ']')+2:]+" is an empty list, so the statement matches nothing", "add an entry or remove the statement")
	}
	out := make([]string, 0, len(n.items))
	for i, item := range n.items {
		at := path + "[" + strconv.Itoa(i) + "]"
		if !slices.Contains(allowed, item.kind) {
			s.wrongType(item, at, "a string")
			continue
		}
		s.checkText(item, at)
		judge(at, item.offset, item.text)
		out = append(out, item.text)
	}
	return out
}

func (s *scan) text(n node, path string) string {
	if n.kind != stringKind {
		s.wrongType(n, path, "a string")
		return ""
	}
	s.checkText(n, path)
	return n.text
}

func (s *scan) wrongType(n node, path, want string) {
	s.report(badType, path, n.offset, path+" is "+string(n.kind), "write "+want)
}

// checkText finds half surrogate pairs, which were read as U+FFFD.
func (s *scan) checkText(n node, path string) {
	if strings.ContainsRune(n.text, '\uFFFD') {
		s.lostText(n.offset, path)
	}
}

func (s *scan) lostText(offset int, path string) {
	s.report(badText, path, offset, path+" has a character that stands for nothing (U+FFFD or half a surrogate pair)", "write the character that was meant")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// quote shows a value in a message; what a stranger wrote is kept short and on one line.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		cut := most
		for cut > 0 && s[cut]&0xC0 == 0x80 { // not inside a character
			cut--
		}
		s = s[:cut] + "…"
	}
	return strconv.Quote(s)
}
