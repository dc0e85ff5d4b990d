package access

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/vendor"
)

// The break-glass role is made switched off: its trust refuses everybody. A Window is the
// time for which the customer switched it on. While it is open, the trust says all of it;
// an inline policy beside refuses the sessions that outlive it.

// BreakGlassRole is the name of the role that is off until the customer switches it on.
func BreakGlassRole(v *vendor.Profile) string { return v.RoleName + "-break-glass" }

// WindowPolicyName is the name of the inline policy with which a session of the
// break-glass role ends with its window. It is there from the first opening on, closed
// or not, and no other inline policy may be.
func WindowPolicyName(v *vendor.Profile) string { return v.PolicyName + "-window" }

// Window is for how long, why and for whom the break-glass role is switched on.
type Window struct {
	Until  time.Time
	Reason string
	// SourceIdentities are those who may come, by the name that a session has to give
	// and that AWS's own log shows with each of its calls. Empty: everybody who gives one.
	SourceIdentities []string
}

// OpenWindow reads the window of a break-glass role from its trust; nil when it is not
// exactly one that Biplane writes for whom the set lets in.
func (s *Set) OpenWindow(trust []byte) *Window {
	doc, err := iampolicy.Parse("trust", trust)
	if err != nil || len(doc.Statements) != 1 {
		return nil
	}
	w := &Window{Reason: doc.ID}
	for _, c := range doc.Statements[0].Condition {
		if len(c.Values) == 0 {
			return nil
		}
		switch strings.ToLower(c.Operator + " " + c.Key) {
		case "datelessthan aws:currenttime":
			if w.Until, err = time.Parse(time.RFC3339, c.Values[0]); err != nil {
				return nil
			}
		case "stringequals sts:sourceidentity":
			w.SourceIdentities = c.Values
		}
	}
	if w.Until.IsZero() || checkReason(w.Reason) != nil || len(documentDifferences("the trust policy", trust, s.openTrust(*w).Document)) > 0 {
		return nil
	}
	return w
}

// maxReason keeps the trust within IAM's limit whatever else is in it.
const maxReason = 200

func checkReason(reason string) error {
	switch n := utf8.RuneCountInString(reason); {
	case strings.TrimSpace(reason) == "":
		return usererr.New(usererr.Invalid, "the reason is empty").WithHint("say in --reason why somebody has to come in, such as the number of a ticket")
	case n > maxReason:
		return usererr.New(usererr.Invalid, "the reason has %d characters, and %d are the most", n, maxReason).WithHint("give the number of a ticket that says the rest")
	case !utf8.ValidString(reason) || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }):
		return usererr.New(usererr.Invalid, "the reason %q has characters that cannot be printed", reason).WithHint("write it in one line of plain text")
	}
	return nil
}

// sourceIdentityForm is STS's.
var sourceIdentityForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// CheckWindow refuses a window that is too short or too long, without reason, or for
// somebody who cannot be.
func CheckWindow(length time.Duration, reason string, sourceIdentities []string) error {
	switch {
	case length > LongestWindow:
		return usererr.New(usererr.Invalid, "a window of %s is too long: twelve hours are the most", length).
			WithHint("give --for 12h or less; 'open' again moves the end of the window that is open")
	case length < ShortestWindow:
		return usererr.New(usererr.Invalid, "a window of %s is too short: five minutes are the least", length).WithHint("give --for 5m or more")
	}
	for _, name := range sourceIdentities {
		if !sourceIdentityForm.MatchString(name) {
			return usererr.New(usererr.Invalid, "source identity %q cannot be one: it must have 2 to 64 of A-Z a-z 0-9 _ + = , . @ -", name).
				WithHint("give the name that the vendor's people say when they assume the role (sts:SourceIdentity), such as ada@example.com")
		}
	}
	return checkReason(reason)
}

// openTrust lets in whom the set lets into its other roles, but only until the end of the
// window, and only with a source identity. The reason is its Id, so that one call writes
// all of it.
func (s *Set) openTrust(w Window) Trust {
	doc, err := iampolicy.Parse("trust", s.Roles[0].Trust.Document)
	if err != nil {
		panic(err) // it is our own
	}
	others := doc.Statements[0]
	when := conditions{
		"DateLessThan": {"aws:CurrentTime": {stamp(w.Until)}},
		"Null":         {"sts:SourceIdentity": {"false"}},
	}
	for _, c := range others.Condition {
		if when[c.Operator] == nil {
			when[c.Operator] = map[string][]string{}
		}
		when[c.Operator][c.Key] = c.Values
	}
	if len(w.SourceIdentities) > 0 {
		when["StringEquals"]["sts:SourceIdentity"] = w.SourceIdentities
	}
	text := document([]statement{{
		Effect: "Allow", Principal: map[string]any{"AWS": others.Principal.AWS[0]},
		Action: []string{"sts:AssumeRole", "sts:SetSourceIdentity"}, Condition: when,
	}})
	text = bytes.Replace(text, []byte(`"Statement"`), []byte(`"Id":`+asciiQuote(w.Reason)+`,"Statement"`), 1)
	return Trust{Size: size(text), Document: text}
}

// asciiQuote is JSON's string with every character beyond ASCII escaped: IAM takes
// Latin ones only.
func asciiQuote(s string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(quote(s))) {
		if unit < 0x7f {
			b.WriteByte(byte(unit))
			continue
		}
		b.WriteString(`\u`)
		for shift := 12; shift >= 0; shift -= 4 {
			b.WriteByte(hex[unit>>shift&0xf])
		}
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// rail is what the inline policy of the break-glass role says: no session that began
// before a moment may do anything, and after the window no session may.
type rail struct {
	before time.Time
	until  time.Time // zero: the window is closed, and nothing begins any more
}

func (r rail) equal(other rail) bool {
	return r.before.Equal(other.before) && r.until.Equal(other.until)
}

func (r rail) document() []byte {
	deny := func(operator, key string, t time.Time) statement {
		return statement{Effect: "Deny", Action: []string{"*"}, Resource: []string{"*"}, Condition: conditions{operator: {key: {stamp(t)}}}}
	}
	statements := []statement{deny("DateLessThan", "aws:TokenIssueTime", r.before)}
	if !r.until.IsZero() {
		statements = append(statements, deny("DateGreaterThanEquals", "aws:CurrentTime", r.until))
	}
	return document(statements)
}

// readRail reads such a policy; false when it is not exactly one.
func readRail(text []byte) (rail, bool) {
	doc, err := iampolicy.Parse("window", text)
	if err != nil {
		return rail{}, false
	}
	var r rail
	for _, s := range doc.Statements {
		for _, c := range s.Condition {
			if len(c.Values) == 0 {
				return rail{}, false
			}
			t, err := time.Parse(time.RFC3339, c.Values[0])
			if err != nil {
				return rail{}, false
			}
			if strings.EqualFold(c.Key, "aws:TokenIssueTime") {
				r.before = t
			} else {
				r.until = t
			}
		}
	}
	return r, len(documentDifferences("the document", text, r.document())) == 0
}

// IsWindowPolicy reports whether an inline policy of a role is the break-glass role's
// own, by both names and by what it says.
func IsWindowPolicy(v *vendor.Profile, role, policy string, text []byte) bool {
	_, ok := readRail(text)
	return ok && role == BreakGlassRole(v) && policy == WindowPolicyName(v)
}

// covers reports whether everybody may come whom another window lets in.
func (w Window) covers(other *Window) bool {
	return len(w.SourceIdentities) == 0 || len(other.SourceIdentities) > 0 &&
		!slices.ContainsFunc(other.SourceIdentities, func(name string) bool { return !slices.Contains(w.SourceIdentities, name) })
}

// Words says the window in a sentence's part: "open until …, for …: reason".
func (w Window) Words() string {
	whom := "everybody who gives a source identity"
	if len(w.SourceIdentities) > 0 {
		whom = strings.Join(slices.Sorted(slices.Values(w.SourceIdentities)), ", ")
	}
	return "open until " + stamp(w.Until) + " for " + whom + ": " + w.Reason
}
