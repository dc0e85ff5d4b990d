package awsidentity

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"biplane.dev/biplane/provision/iampolicy"
)

// Decide says whether the caller may do req, by the caller's policies, boundary
// and session policy, and the resource's policy where there is one (else nil).
// It fills in req.Principal and the condition keys of the caller and the time;
// those of the action and the resource are the asker's to give, and aws:SourceIp
// and aws:RequestedRegion too where they differ from the caller's connection;
// aws:ResourceAccount follows from the resource unless it is given.
func (s *Service) Decide(c *Caller, req iampolicy.Request, resource *iampolicy.Document) (iampolicy.Decision, error) {
	var decision iampolicy.Decision
	err := s.decided(c, req, resource, func(e *iampolicy.Evaluator, req iampolicy.Request) { decision = e.Decide(&req) })
	return decision, err
}

// Explain is Decide with the reasons.
func (s *Service) Explain(c *Caller, req iampolicy.Request, resource *iampolicy.Document) (iampolicy.Explanation, error) {
	var explanation iampolicy.Explanation
	err := s.decided(c, req, resource, func(e *iampolicy.Evaluator, req iampolicy.Request) { explanation = e.Explain(&req) })
	return explanation, err
}

// Authorize returns nil when every one of reqs is allowed, and an *Error with
// code AccessDenied, which names the first that is not, in AWS's words.
func (s *Service) Authorize(c *Caller, reqs []iampolicy.Request, resource *iampolicy.Document) error {
	return s.db.View(func(tx *bolt.Tx) error { return s.authorize(s.visible(tx), c, reqs, resource) })
}

func (s *Service) authorize(v *view, c *Caller, reqs []iampolicy.Request, resource *iampolicy.Document) error {
	for _, req := range reqs {
		e, full, err := s.evaluator(v, c, req, resource)
		if err != nil {
			return err
		}
		decision := iampolicy.Allowed
		if e != nil {
			decision = e.Decide(&full)
		}
		if c.watch != nil {
			c.watch(full, decision)
		}
		if decision == iampolicy.Allowed {
			continue
		}
		return errDenied("%s", Refusal(c.ARN, &req, e.Explain(&full)))
	}
	return nil
}

// Refusal words a refusal as AWS does: who may not do what, and for want of
// what.
func Refusal(arn string, req *iampolicy.Request, why iampolicy.Explanation) string {
	head := fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s", arn, req.Action, req.Resource)
	names := map[iampolicy.Part]string{
		iampolicy.IdentityPart: "identity-based policy", iampolicy.BoundaryPart: "permissions boundary",
		iampolicy.SessionPart: "session policy", iampolicy.SCPPart: "service control policy", iampolicy.ResourcePart: "resource-based policy",
	}
	if why.Decision == iampolicy.ExplicitDeny {
		part := iampolicy.IdentityPart
		if len(why.Statements) > 0 {
			part = why.Statements[0].Part
		}
		article := "a"
		if part == iampolicy.IdentityPart {
			article = "an"
		}
		return fmt.Sprintf("%s with an explicit deny in %s %s", head, article, names[part])
	}
	part := why.MissingPart
	if names[part] == "" {
		part = iampolicy.IdentityPart
	}
	return fmt.Sprintf("%s because no %s allows the %s action", head, names[part], req.Action)
}

func (s *Service) decided(c *Caller, req iampolicy.Request, resource *iampolicy.Document, use func(*iampolicy.Evaluator, iampolicy.Request)) error {
	return s.db.View(func(tx *bolt.Tx) error {
		e, full, err := s.evaluator(s.visible(tx), c, req, resource)
		if err != nil {
			return err
		}
		if e == nil {
			e, err = iampolicy.Compile(iampolicy.Policies{Identity: []*iampolicy.Document{allowAll()}, Resource: resource})
			if err != nil {
				return err
			}
		}
		use(e, full)
		return nil
	})
}

// evaluator compiles what has a say over the caller and completes the request.
// It is nil for the account itself, which may do everything.
func (s *Service) evaluator(v *view, c *Caller, req iampolicy.Request, resource *iampolicy.Document) (*iampolicy.Evaluator, iampolicy.Request, error) {
	known, ok := s.resolved.get(v, c)
	if !ok {
		var err error
		if known.texts, known.tags, err = s.policiesOf(v, c); err != nil {
			return nil, req, err
		}
		if known.evaluator, err = s.evaluated.get(known.texts, nil); err != nil {
			return nil, req, err
		}
		s.resolved.put(v, c, known)
	}
	keys := maps.Clone(c.keys)
	tagKeys(keys, "aws:PrincipalTag/", known.tags)
	complete(&req, principalOf(c), keys, v.now)
	switch {
	case resource != nil:
		e, err := compile(known.texts, resource)
		return e, req, err
	case c.Type == AccountCaller && len(known.texts.SCP) == 0:
		return nil, req, nil
	}
	return known.evaluator, req, nil
}

// complete adds who asks and when, with the keys of the caller. What the asker
// says of the caller does not count.
func complete(req *iampolicy.Request, who iampolicy.Principal, keys iampolicy.Context, now time.Time) {
	for key, values := range req.Context {
		if !ofPrincipal(key) {
			keys.Set(key, values...)
		}
	}
	timeKeys(keys, now)
	req.Principal, req.Context = who, keys
	if _, told := keys.Get("aws:ResourceAccount"); !told {
		if owner := ownerOf(req); owner != "" {
			keys.Set("aws:ResourceAccount", owner)
		}
	}
}

// ownerOf is the account of the resource: the one that the asker knows, that of its
// ARN, or, where that has none as with buckets, the caller's own. It is "" for what
// is AWS's.
func ownerOf(req *iampolicy.Request) string {
	if req.ResourceAccount != "" {
		return req.ResourceAccount
	}
	if f := strings.SplitN(req.Resource, ":", 6); len(f) == 6 && f[4] != "" {
		if f[4] == "aws" {
			return ""
		}
		return f[4]
	}
	return req.Principal.Account
}

// resolutions remembers, by access key, what has a say over a caller, for as
// long as nothing is written to the store: services in front ask for every
// request, and most callers come back. With a consistency delay the answer also
// changes with time, so nothing is remembered then.
type resolutions struct {
	lock  sync.Mutex
	byKey map[string]resolution
}

type resolution struct {
	transaction int // the last one when this was read
	texts       Grants
	tags        []Tag
	evaluator   *iampolicy.Evaluator
}

func (r *resolutions) get(v *view, c *Caller) (resolution, bool) {
	if c.AccessKeyID == "" || v.delay > 0 || v.tx.Writable() {
		return resolution{}, false
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	one, ok := r.byKey[c.AccessKeyID]
	return one, ok && one.transaction == v.tx.ID()
}

func (r *resolutions) put(v *view, c *Caller, one resolution) {
	if c.AccessKeyID == "" || v.delay > 0 || v.tx.Writable() {
		return
	}
	one.transaction = v.tx.ID()
	r.lock.Lock()
	defer r.lock.Unlock()
	if len(r.byKey) >= maxEvaluators {
		clear(r.byKey)
	}
	r.byKey[c.AccessKeyID] = one
}

// ofPrincipal says that a key describes the caller, so that an asker may not
// overwrite it.
func ofPrincipal(key string) bool {
	lower := strings.ToLower(key)
	switch lower {
	case "aws:userid", "aws:username", "aws:tokenissuetime", "aws:multifactorauthpresent", "aws:sourceidentity", "aws:federatedprovider":
		return true
	}
	return strings.HasPrefix(lower, "aws:principal")
}

// PolicyText is one policy and the name under which it is explained.
type PolicyText struct{ Name, Text string }

// Grants is everything that has a say over a caller.
type Grants struct {
	Identity   []PolicyText
	Boundary   *PolicyText  `json:",omitempty"`
	Session    []PolicyText `json:",omitempty"`
	Restricted bool         `json:",omitempty"` // a session policy was passed
	SCP        []PolicyText `json:",omitempty"` // service control policies, of one level
}

// policiesOf collects a caller's policies and tags.
func (s *Service) policiesOf(v *view, c *Caller) (Grants, []Tag, error) {
	var out Grants
	if c.Type == AccountCaller {
		return Grants{Identity: []PolicyText{{"the account itself", allowAllText}}, SCP: s.scp[c.Account]}, nil, nil
	}
	p, err := principalObject(v, c)
	if errors.Is(err, errAbsent) {
		return out, nil, errBadToken()
	}
	if err != nil {
		return out, nil, err
	}
	if err := s.collect(v, c.Account, p, &out); err != nil {
		return out, nil, err
	}
	tags := p.Tags
	if one := c.session; one != nil {
		tags = mergeTags(tags, one.Tags)
		if one.Policy != "" {
			out.Session = append(out.Session, PolicyText{"session policy", one.Policy})
			out.Restricted = true
		}
		for _, arn := range one.PolicyARNs {
			out.Restricted = true
			text, err := s.managedText(v, c.Account, arn)
			if errors.Is(err, errAbsent) {
				continue // deleted since: it allows nothing more
			}
			if err != nil {
				return out, nil, err
			}
			out.Session = append(out.Session, PolicyText{arn, text})
		}
	}
	return out, tags, nil
}

func principalObject(v *view, c *Caller) (*principal, error) {
	if c.Type == RoleCaller {
		r, err := get[role](v, c.Account, roles, index(c.RoleName))
		if err != nil {
			return nil, err
		}
		return &r.principal, nil
	}
	u, err := get[user](v, c.Account, users, index(c.UserName))
	if err != nil {
		return nil, err
	}
	return &u.principal, nil
}

// collect adds the identity policies and the boundary of a role or user.
func (s *Service) collect(v *view, accountID string, p *principal, out *Grants) error {
	for _, one := range p.Inline {
		out.Identity = append(out.Identity, PolicyText{one.Name, one.Document})
	}
	for _, arn := range p.Attached {
		text, err := s.managedText(v, accountID, arn)
		if errors.Is(err, errAbsent) {
			continue // attached before readers see it
		}
		if err != nil {
			return err
		}
		out.Identity = append(out.Identity, PolicyText{arn, text})
	}
	if p.Boundary != "" {
		text, err := s.managedText(v, accountID, p.Boundary)
		if errors.Is(err, errAbsent) {
			text, err = allowNothingText, nil // a boundary that is gone bounds everything
		}
		if err != nil {
			return err
		}
		out.Boundary = &PolicyText{p.Boundary, text}
	}
	out.SCP = s.scpOf(accountID, p)
	return nil
}

// managedText is the default version of a managed policy.
func (s *Service) managedText(v *view, accountID, arn string) (string, error) {
	p, err := s.managedPolicy(v, accountID, arn)
	if err != nil {
		return "", err
	}
	return p.version(p.Default).Document, nil
}

const (
	allowAllText     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	allowNothingText = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`
)

func allowAll() *iampolicy.Document {
	return &iampolicy.Document{Version: "2012-10-17", Statements: []iampolicy.Statement{{
		Effect: iampolicy.Allow, Action: []string{"*"}, Resource: []string{"*"},
	}}}
}

// evaluators keeps what has been compiled, by the text it was compiled from, so
// that a change of any policy is seen at once. When it is full it starts again.
type evaluators struct {
	lock  sync.Mutex
	byKey map[string]*iampolicy.Evaluator
}

const maxEvaluators = 512

func (e *evaluators) get(texts Grants, resource *iampolicy.Document) (*iampolicy.Evaluator, error) {
	var key strings.Builder
	add := func(part string, d PolicyText) {
		fmt.Fprintf(&key, "%s %d %d %s%s", part, len(d.Name), len(d.Text), d.Name, d.Text)
	}
	for _, d := range texts.Identity {
		add("i", d)
	}
	if texts.Boundary != nil {
		add("b", *texts.Boundary)
	}
	for _, d := range texts.Session {
		add("s", d)
	}
	for _, d := range texts.SCP {
		add("o", d)
	}
	if texts.Restricted {
		key.WriteString("r")
	}
	e.lock.Lock()
	found := e.byKey[key.String()]
	e.lock.Unlock()
	if found != nil && resource == nil {
		return found, nil
	}
	compiled, err := compile(texts, resource)
	if err != nil || resource != nil {
		return compiled, err
	}
	e.lock.Lock()
	defer e.lock.Unlock()
	if len(e.byKey) >= maxEvaluators {
		clear(e.byKey)
	}
	e.byKey[key.String()] = compiled
	return compiled, nil
}

func compile(texts Grants, resource *iampolicy.Document) (*iampolicy.Evaluator, error) {
	p := iampolicy.Policies{Resource: resource}
	for _, d := range texts.Identity {
		parsed, err := iampolicy.Parse(d.Name, []byte(d.Text))
		if err != nil {
			return nil, fmt.Errorf("reading a stored policy: %w", err)
		}
		p.Identity = append(p.Identity, parsed)
	}
	if texts.Boundary != nil {
		parsed, err := iampolicy.Parse(texts.Boundary.Name, []byte(texts.Boundary.Text))
		if err != nil {
			return nil, fmt.Errorf("reading a stored boundary: %w", err)
		}
		p.Boundary = parsed
	}
	if texts.Restricted {
		// Where every session policy is gone by now, this one allows nothing.
		p.Session = []*iampolicy.Document{{Name: "session policy"}}
	}
	for _, d := range texts.Session {
		parsed, err := iampolicy.Parse(d.Name, []byte(d.Text))
		if err != nil {
			return nil, fmt.Errorf("reading a stored session policy: %w", err)
		}
		p.Session = append(p.Session, parsed)
	}
	if len(texts.SCP) > 0 {
		p.SCP = make([][]*iampolicy.Document, 1)
	}
	for _, d := range texts.SCP {
		parsed, err := iampolicy.Parse(d.Name, []byte(d.Text))
		if err != nil {
			return nil, fmt.Errorf("reading a service control policy: %w", err)
		}
		p.SCP[0] = append(p.SCP[0], parsed)
	}
	e, err := iampolicy.Compile(p)
	if err != nil {
		return nil, fmt.Errorf("compiling stored policies: %w", err)
	}
	return e, nil
}
