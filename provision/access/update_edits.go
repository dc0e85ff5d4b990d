package access

import (
	"slices"
	"strings"
)

// Choice is what becomes of edits by hand.
type Choice string

// The choices. Without one, an update with edits is refused.
const (
	Keep    Choice = "keep"    // they stay as they are
	Restore Choice = "restore" // they are put back to what is wanted
)

// Edit is something that was changed by hand: a document that is neither wanted now nor
// one that was written by a grant or an update, or a thing that was added.
type Edit struct {
	Role        string   `json:"role,omitempty"` // empty for the boundary
	What        string   `json:"what"`           // "policy UnionIAMPolicy-1", "trust policy"
	Differences []string `json:"differences"`    // from what is wanted
	Choice      Choice   `json:"choice"`         // empty: nobody has chosen
}

// String says whose it is.
func (e Edit) String() string {
	if e.Role == "" {
		return e.What
	}
	return e.What + " of role " + e.Role
}

// findEdits finds what was edited. With Keep it is taken over into the Set.
func (u *Update) findEdits(choice Choice) {
	found := func(step, role, what string, differences []string, keep func()) {
		u.Edits = append(u.Edits, Edit{Role: role, What: what, Differences: differences, Choice: choice})
		switch choice {
		case Keep:
			keep()
			if u.stack != nil && u.rewrites(role, what) {
				u.refusals[step] = append(u.refusals[step], what+" was changed by hand, and the stack changes it, too")
			}
		case "":
			line := what + " was changed by hand"
			u.refusals[step] = append(append(u.refusals[step], line), differences...)
		}
	}
	for _, w := range u.wantedPolicies() {
		live := u.policies[w.arn]
		if live.document == nil || !u.policyEdited(w, live) {
			continue
		}
		if differences := documentDifferences("the document", live.document, w.policy.Document); len(differences) > 0 {
			found(policyStepName(w.policy.Name), w.role, "policy "+w.policy.Name, differences, func() {
				*w.policy = Policy{Name: w.policy.Name, Kind: w.policy.Kind, Size: size(live.document), Document: live.document}
			})
		}
	}
	for i := range u.Set.Roles {
		r := &u.Set.Roles[i]
		live := u.roles[r.Name]
		if live == nil {
			continue
		}
		step := roleStepName(r.Name)
		f := &foundRole{roleStep: u.newRoleStep(*r), live: live}
		if differences := f.trustDifferences(); len(differences) > 0 && u.trustEdited(r.Name, live) {
			found(step, r.Name, trustPolicy, differences, func() { r.Trust = Trust{Size: size(live.trust), Document: live.trust} })
		}
		if differences := f.boundaryDifferences(); len(differences) > 0 {
			found(step, r.Name, "permissions boundary", differences, func() { r.keptBoundary = live.boundary })
		}
		if live.session > r.maxSession() {
			found(step, r.Name, "length of sessions", []string{f.sessionDifference()}, func() { r.keptSession = live.session })
		}
		for _, name := range sortedKeys(live.inline) {
			text := live.inline[name]
			if IsWindowPolicy(u.vendor, r.Name, name, text) {
				continue
			}
			at := slices.IndexFunc(r.Policies, func(p Policy) bool { return p.Kind == inline && p.Name == name })
			kept := Policy{Name: name, Kind: inline, Size: size(text), Document: text}
			switch {
			case at < 0 && !u.inlineEdited(r.Name, name, live):
				// Of an older version, which had it.
			case at < 0:
				found(step, r.Name, "inline policy "+name, []string{"it is not of this set"}, func() { r.Policies = append(r.Policies, kept) })
			case u.inlineEdited(r.Name, name, live):
				if differences := documentDifferences("the document", text, r.Policies[at].Document); len(differences) > 0 {
					found(step, r.Name, "inline policy "+name, differences, func() { r.Policies[at] = kept })
				}
			}
		}
		for _, arn := range f.extraAttachments() {
			if slices.Contains(u.going, arn) {
				continue
			}
			found(step, r.Name, "policy "+arn, []string{"somebody attached it; it is not of this set"}, func() { r.Attached = append(r.Attached, arn) })
		}
	}
}

// policyEdited reports whether a policy has a document that nobody wrote for us.
func (u *Update) policyEdited(w wantedPolicy, live livePolicy) bool {
	if u.stack == nil {
		return u.isEdited(live.tags, live.document)
	}
	written := u.stack.policy(w.policy.Name)
	return written != nil && len(documentDifferences("", live.document, written)) > 0
}

func (u *Update) trustEdited(role string, live *liveRole) bool {
	if u.stack == nil {
		return u.isEdited(live.tags, live.trust)
	}
	written := u.stack.role(role)
	return written != nil && digest(written.Trust.Document) != digest(live.trust)
}

func (u *Update) inlineEdited(role, name string, live *liveRole) bool {
	if u.stack == nil {
		written := u.written(live.tags)
		return !slices.Contains(written, digest(live.inline[name])) && (len(written) > 0 || u.wantedInline(role, name) == nil)
	}
	if written := u.stack.role(role); written != nil {
		for _, p := range written.Policies {
			if p.Kind == inline && p.Name == name {
				return len(documentDifferences("", live.inline[name], p.Document)) > 0
			}
		}
	}
	return true
}

// wantedInline is the document of an inline policy as it is wanted; nil where none is.
func (u *Update) wantedInline(role, name string) []byte {
	if r := u.wantedRole(role); r != nil {
		for _, p := range r.Policies {
			if p.Kind == inline && p.Name == name {
				return p.Document
			}
		}
	}
	return nil
}

// rewrites reports whether the stack would write over an edit that is to be kept.
func (u *Update) rewrites(role, what string) bool {
	if name, ok := strings.CutPrefix(what, "policy "); ok {
		for _, p := range u.wanted.Policies() {
			if written := u.stack.policy(name); p.Name == name && written != nil {
				return len(documentDifferences("", written, p.Document)) > 0
			}
		}
		return false // somebody attached it
	}
	written, wanted := u.stack.role(role), u.wantedRole(role)
	return written == nil || wanted == nil || !slices.Equal(written.digests(), wanted.digests())
}

// policy is the document that the stack's template has for a policy; nil for none.
func (s *InStack) policy(name string) []byte {
	for _, p := range s.Written.Policies() {
		if p.Name == name {
			return p.Document
		}
	}
	return nil
}

// role is a role of the stack's template; nil for none.
func (s *InStack) role(name string) *Role {
	for i := range s.Written.Roles {
		if s.Written.Roles[i].Name == name {
			return &s.Written.Roles[i]
		}
	}
	return nil
}
