package iampolicy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrCompile is the cause of every error of Compile: a document that IAM would
// not store in the place it was given.
var ErrCompile = errors.New("policy cannot be evaluated")

// Evaluator decides requests by one set of policies. It never changes, so any
// number of goroutines may use it.
type Evaluator struct {
	identity *part
	boundary *part
	session  *part
	scps     []*part
	resource *part
}

// part is the documents that have one say together: one must allow, none may
// deny.
type part struct {
	kind       Part
	statements []statement
	// exact holds, for every action that some statement spells out, all the
	// statements that match it, those with wildcards too: under the action in
	// lower case and under the document's own spelling, which most requests
	// share. Other actions are tried against loose.
	exact map[string][]*statement
	loose []*statement
}

// statement is a Statement made ready for matching.
type statement struct {
	ref           StatementRef
	source        *Statement
	deny          bool
	notAction     bool
	actions       []splitAction // lower-cased
	anyResource   bool          // no Resource element, as in a trust policy
	notResource   bool
	resources     []arnTemplate
	principals    *Principals // nil outside resource policies
	notPrincipals bool
	conditions    []condition
}

// Compile makes policies ready to decide by. Documents must have the elements
// that their place asks for; what Parse accepted otherwise compiles.
func Compile(p Policies) (*Evaluator, error) {
	e := &Evaluator{}
	var err error
	if e.identity, err = newPart(IdentityPart, p.Identity...); err != nil {
		return nil, err
	}
	if p.Boundary != nil {
		if e.boundary, err = newPart(BoundaryPart, p.Boundary); err != nil {
			return nil, err
		}
	}
	if len(p.Session) > 0 {
		if e.session, err = newPart(SessionPart, p.Session...); err != nil {
			return nil, err
		}
	}
	for _, level := range p.SCP {
		scp, err := newPart(SCPPart, level...)
		if err != nil {
			return nil, err
		}
		e.scps = append(e.scps, scp)
	}
	if p.Resource != nil {
		if e.resource, err = newPart(ResourcePart, p.Resource); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func newPart(kind Part, documents ...*Document) (*part, error) {
	p := &part{kind: kind}
	for _, d := range documents {
		if d == nil {
			continue
		}
		for i := range d.Statements {
			s, err := newStatement(kind, d, i)
			if err != nil {
				return nil, fmt.Errorf("%w: %s policy %q, statement %d: %w", ErrCompile, kind, d.Name, i, err)
			}
			p.statements = append(p.statements, s)
		}
	}
	p.index()
	return p, nil
}

func (p *part) index() {
	p.exact = map[string][]*statement{}
	for i := range p.statements {
		s := &p.statements[i]
		isLoose := s.notAction
		for _, a := range s.actions {
			if strings.ContainsAny(a.text, "*?") {
				isLoose = true
			} else {
				p.exact[a.text] = nil
			}
		}
		for _, a := range slices.Concat(s.source.Action, s.source.NotAction) {
			if !strings.ContainsAny(a, "*?") {
				p.exact[a] = nil
			}
		}
		if isLoose {
			p.loose = append(p.loose, s)
		}
	}
	for text := range p.exact {
		action := newSplitAction(text)
		for i := range p.statements {
			if s := &p.statements[i]; s.matchesAction(&action) {
				p.exact[text] = append(p.exact[text], s)
			}
		}
	}
}

func newStatement(kind Part, d *Document, index int) (statement, error) {
	src := &d.Statements[index]
	s := statement{
		ref:    StatementRef{Document: d.Name, Part: kind, Index: index, Sid: src.Sid},
		source: src,
		deny:   src.Effect == Deny,
	}
	if src.Effect != Allow && src.Effect != Deny {
		return s, fmt.Errorf("its Effect is %q; write Allow or Deny", src.Effect)
	}

	if (len(src.Action) == 0) == (len(src.NotAction) == 0) {
		return s, errors.New("it needs one of Action and NotAction")
	}
	s.notAction = len(src.NotAction) > 0
	for _, a := range slices.Concat(src.Action, src.NotAction) {
		s.actions = append(s.actions, newSplitAction(strings.ToLower(a)))
	}

	variables := d.Version == "2012-10-17"
	if len(src.Resource) > 0 && len(src.NotResource) > 0 {
		return s, errors.New("it has both Resource and NotResource; keep one")
	}
	s.notResource = len(src.NotResource) > 0
	for _, r := range slices.Concat(src.Resource, src.NotResource) {
		s.resources = append(s.resources, newARNTemplate(r, variables))
	}
	if s.anyResource = len(s.resources) == 0; s.anyResource && kind != ResourcePart {
		return s, errors.New("it needs one of Resource and NotResource")
	}

	switch hasPrincipal := src.Principal != nil || src.NotPrincipal != nil; {
	case hasPrincipal && kind != ResourcePart:
		return s, errors.New("it has a Principal, which only trust and resource policies may have")
	case !hasPrincipal && kind == ResourcePart:
		return s, errors.New("it needs one of Principal and NotPrincipal")
	case src.Principal != nil && src.NotPrincipal != nil:
		return s, errors.New("it has both Principal and NotPrincipal; keep one")
	}
	if s.principals = src.Principal; src.NotPrincipal != nil {
		s.principals, s.notPrincipals = src.NotPrincipal, true
	}

	for i := range src.Condition {
		c, err := newCondition(&src.Condition[i], variables)
		if err != nil {
			return s, err
		}
		s.conditions = append(s.conditions, c)
	}
	return s, nil
}
