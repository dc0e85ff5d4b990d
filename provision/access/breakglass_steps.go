package access

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// BreakGlass is the break-glass role as it was read.
type BreakGlass struct {
	Role      string        // its ARN
	Principal string        // of the vendor's, who may come while it is open
	Now       time.Time     // by AWS's clock
	Skew      time.Duration // how far this machine's clock is ahead of it
	Window    *Window       // that its trust says, over or not; nil when it says none
	Problems  []string      // what is not as Biplane writes it: sentences
	live      *liveRole
	closed    bool // its trust refuses everybody, as it is made
	rail      rail
	guarded   bool // the inline policy is there, and is the rail
}

// Open reports whether somebody can come in now, by AWS's clock.
func (b *BreakGlass) Open() bool { return b.Window != nil && b.Now.Before(b.Window.Until) }

// ReadBreakGlass reads the role. Its errors are *usererr.Error where the set has no such
// role, or the account not.
func ReadBreakGlass(ctx context.Context, api IAM, set *Set, v *vendor.Profile) (*BreakGlass, error) {
	s, err := newWindowStep(api, set, v)
	if err != nil {
		return nil, err
	}
	return s.read(ctx)
}

// The bounds of a window.
const (
	ShortestWindow = 5 * time.Minute // in less, nobody is told and comes
	LongestWindow  = 12 * time.Hour
)

// NewWindow checks what a window is to be, and opens it at now for as long as asked.
func NewWindow(set *Set, now time.Time, length time.Duration, reason string, sourceIdentities []string) (Window, error) {
	if err := CheckWindow(length, reason, sourceIdentities); err != nil {
		return Window{}, err
	}
	w := Window{Until: now.Add(length).Truncate(time.Second), Reason: reason, SourceIdentities: sourceIdentities}
	// A rotation may have to add another external ID while it is open.
	const another = len(`["","123456789012345678901234"]`)
	if n := set.openTrust(w).Size + another; n > iampolicy.TrustLimit {
		return Window{}, usererr.New(usererr.Invalid, "the trust policy would have %s characters with these source identities and this reason, and IAM takes %s", thousands(n), thousands(iampolicy.TrustLimit)).
			WithHint("name fewer source identities, or give a shorter reason")
	}
	return w, nil
}

// windowStep is what both steps of break-glass have in common: the trust is the switch,
// and the inline policy the guard that ends sessions with their window.
type windowStep struct {
	*roleStep
	set  *Set
	open *Window // nil: it is to be closed
}

func newWindowStep(api IAM, set *Set, v *vendor.Profile) (*windowStep, error) {
	p := place{iam: api, partition: set.Partition, account: set.Account, vendor: v}
	for _, r := range set.Roles {
		if set.Profile == Strict && r.Name == BreakGlassRole(v) {
			return &windowStep{roleStep: newRoleStep(p, set, r), set: set}, nil
		}
	}
	return nil, usererr.New(usererr.Refused, "the policy %s has no break-glass role", set.Profile).
		WithHint("the policy strict has one; under %s the vendor's one role can do everything at any time", set.Profile)
}

func (s *windowStep) switchName() string { return TrustStepName(s.role.Name) }
func (s *windowStep) guardName() string  { return policyStepName(WindowPolicyName(s.vendor)) }

func (s *windowStep) read(ctx context.Context) (*BreakGlass, error) {
	live, err := readRoleItself(ctx, s.iam, s.role.Name)
	switch {
	case err != nil:
		return nil, err
	case live == nil:
		return nil, usererr.New(usererr.NotFound, "%s is not there", s.roleStep.Name()).WithHint("run 'biplane access grant' again, which makes what is missing")
	case !s.ours(live.tags):
		return nil, usererr.New(usererr.Refused, "%s is not ours: %s", s.roleStep.Name(), notOurs(s.vendor.ManagedByKey())).
			WithHint("run 'biplane access grant', which adopts it when it is as wanted")
	case live.at.IsZero():
		return nil, usererr.New(usererr.Unavailable, "AWS's answer has no date, and a window goes by AWS's clock").
			WithHint("check AWS_ENDPOINT_URL and any proxy between here and AWS")
	}
	b := &BreakGlass{Role: live.arn, Now: live.at, Skew: live.skew, live: live, Principal: s.set.controlPlane()}
	// While the external ID is rotated, one trust may be ahead of another.
	trust := live.trust
	if ids := externalIDsOf(trust); len(ids) > 0 {
		trust = withExternalIDs(trust, externalIDsOf(s.set.Roles[0].Trust.Document))
	}
	b.Window = s.set.OpenWindow(trust)
	differences := (&foundRole{roleStep: s.roleStep, live: live}).trustDifferences()
	b.closed = b.Window == nil && len(differences) == 0
	if b.Window == nil && !b.closed {
		b.Problems = append(b.Problems, "its trust policy is neither closed nor an open window: somebody edited it, and it is as Biplane does not know")
		b.Problems = append(b.Problems, trustLines(live.trust)...)
	}

	name := WindowPolicyName(s.vendor)
	out, err := s.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &s.role.Name, PolicyName: &name})
	if fault.NoSuchEntity(err) {
		if !b.closed {
			b.Problems = append(b.Problems, "its inline policy "+name+" is not there, so a session would outlive the window")
		}
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := plain(out.PolicyDocument)
	if err != nil {
		return nil, err
	}
	b.live.inline[name] = text
	b.rail, b.guarded = readRail(text)
	switch {
	case !b.guarded:
		b.Problems = append(b.Problems, "its inline policy "+name+" is another one than Biplane writes")
	case b.Window != nil && !b.rail.until.Equal(b.Window.Until):
		b.Problems = append(b.Problems, fmt.Sprintf("its inline policy %s ends sessions at %s, and the window at %s", name, stampOr(b.rail.until, "no time"), stamp(b.Window.Until)))
	case b.closed && !b.rail.until.IsZero():
		b.Problems = append(b.Problems, "it was not opened or closed to the end, and its inline policy waits for "+stamp(b.rail.until)+": run 'biplane access break-glass close'")
	}
	return b, nil
}

func stampOr(t time.Time, otherwise string) string {
	if t.IsZero() {
		return otherwise
	}
	return stamp(t)
}

// controlPlane is the principal of the vendor's whom the set lets in.
func (s *Set) controlPlane() string {
	doc, err := iampolicy.Parse("trust", s.Roles[0].Trust.Document)
	if err != nil {
		return ""
	}
	for _, c := range doc.Statements[0].Condition {
		if c.Key == "aws:PrincipalArn" {
			return c.Values[0]
		}
	}
	return doc.Statements[0].Principal.AWS[0]
}

// OpenSteps switch the break-glass role on for a window, or change the window that is
// open: first the guard, so that it is there before anybody comes, then the switch.
func OpenSteps(api IAM, set *Set, v *vendor.Profile, w Window) ([]step.Step, error) {
	s, err := newWindowStep(api, set, v)
	if err != nil {
		return nil, err
	}
	s.open = &w
	return []step.Step{&guardStep{windowStep: s}, &switchStep{windowStep: s, needs: []string{s.guardName()}}}, nil
}

// CloseSteps switch it off: first the switch, so that nobody comes any more, then the
// guard, which refuses all who came.
func CloseSteps(api IAM, set *Set, v *vendor.Profile) ([]step.Step, error) {
	s, err := newWindowStep(api, set, v)
	if err != nil {
		return nil, err
	}
	return []step.Step{&switchStep{windowStep: s}, &guardStep{windowStep: s, needs: []string{s.switchName()}}}, nil
}

func (s *windowStep) meanwhile() error {
	return usererr.New(usererr.Refused, "somebody else opened or closed %s at the same time", s.roleStep.Name()).
		WithHint("run 'biplane access break-glass status' to see what is there")
}

// guardStep keeps the inline policy.
type guardStep struct {
	*windowStep
	needs []string

	had, wrote rail // by Make, to find out whether somebody else wrote too
}

func (s *guardStep) Name() string    { return s.guardName() }
func (s *guardStep) Needs() []string { return s.needs }

type foundGuard struct {
	*guardStep
	is *BreakGlass
}

func (s *guardStep) Look(ctx context.Context, _ step.Goal) (step.Found, error) {
	is, err := s.read(ctx)
	return &foundGuard{s, is}, err
}

func (s *guardStep) Check(ctx context.Context) error {
	is, err := s.read(ctx)
	if err != nil {
		return err
	}
	switch {
	case is.guarded && is.rail.equal(s.wrote):
		return nil
	case is.rail.equal(s.had):
		return fmt.Errorf("the policy is not as it was written: %w", step.ErrNotYet)
	}
	return s.meanwhile()
}

func (f *foundGuard) Plan() step.Change {
	change := step.Change{Action: step.Update}
	if len(f.is.live.inline) == 0 {
		change.Action = step.Create
	}
	if f.open != nil {
		change.Details = []string{"from " + stamp(f.open.Until) + " on it refuses everything, and before that everything to sessions that began before the opening"}
		return change
	}
	if f.is.closed && (len(f.is.live.inline) == 0 || f.is.guarded && f.is.rail.until.IsZero()) {
		if len(f.is.live.inline) == 0 {
			return step.Change{Action: step.None}
		}
		return step.Change{Action: step.Keep}
	}
	change.Details = []string{"it refuses everything to every session that began until now"}
	return change
}

// noneBegins is how long a trust that was written may take to be seen everywhere, which is
// seconds. No session can begin once it is, so that more does no harm.
const noneBegins = 15 * time.Minute

func (f *foundGuard) Make(ctx context.Context) error {
	r := rail{before: f.is.Now.Add(noneBegins)}
	if f.open != nil {
		// Times of sessions are whole seconds. One that began before, in this second too,
		// must not be taken for one of the window; the switch waits for the next.
		r = rail{before: f.is.Now.Add(time.Second), until: f.open.Until}
		if f.is.Open() && f.is.guarded && !f.is.rail.until.IsZero() {
			r.before = f.is.rail.before // the window goes on, and so may who came
		}
	}
	f.had, f.wrote = f.is.rail, r
	return f.putRail(ctx, r)
}

func (f *foundGuard) Remove(context.Context) error { return nil }

func (s *windowStep) putRail(ctx context.Context, r rail) error {
	_, err := s.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
		RoleName: &s.role.Name, PolicyName: aws.String(WindowPolicyName(s.vendor)), PolicyDocument: aws.String(string(r.document())),
	})
	return fault.Passing(err)
}

// switchStep keeps the trust.
type switchStep struct {
	*windowStep
	needs []string
	had   []byte
}

func (s *switchStep) Name() string    { return s.switchName() }
func (s *switchStep) Needs() []string { return s.needs }

// wanted is the trust as it is to be.
func (s *switchStep) wanted() []byte {
	if s.open == nil {
		return s.role.Trust.Document
	}
	return s.set.openTrust(*s.open).Document
}

func sameTrust(a, b []byte) bool { return len(documentDifferences("", a, b)) == 0 }

type foundSwitch struct {
	*switchStep
	is *BreakGlass
}

func (s *switchStep) Look(ctx context.Context, _ step.Goal) (step.Found, error) {
	is, err := s.read(ctx)
	return &foundSwitch{s, is}, err
}

func (s *switchStep) Check(ctx context.Context) error {
	is, err := s.read(ctx)
	switch {
	case err != nil:
		return err
	case sameTrust(is.live.trust, s.wanted()):
		return nil
	case sameTrust(is.live.trust, s.had):
		return fmt.Errorf("the trust is as it was before; AWS does not show it yet, or somebody put it back: %w", step.ErrNotYet)
	}
	return s.meanwhile()
}

func (f *foundSwitch) Plan() step.Change {
	if f.open == nil {
		if f.is.closed {
			return step.Change{Action: step.Keep}
		}
		change := step.Change{Action: step.Update, Details: []string{"it refuses everybody again"}}
		if f.is.Window != nil {
			change.Details = append(change.Details, "it is "+f.is.Window.Words())
		} else {
			change.Details = append(change.Details, f.is.Problems...)
		}
		return change
	}
	if f.is.Window == nil && !f.is.closed {
		return step.Change{Action: step.Refuse, Details: f.is.Problems, Hint: "run 'biplane access break-glass close' first, which puts it back"}
	}
	if f.is.Open() && !f.open.covers(f.is.Window) {
		return step.Change{
			Action: step.Refuse, Details: []string{"it is " + f.is.Window.Words()},
			Hint: "to take a source identity away, run 'biplane access break-glass close' first: who has come in would stay in",
		}
	}
	change := step.Change{Action: step.Update, Details: []string{"lets " + f.is.Principal + " in", f.open.Words()}}
	if f.is.Open() {
		change.Details = append(change.Details, "it is "+f.is.Window.Words())
	}
	return change
}

func (f *foundSwitch) Make(ctx context.Context) error {
	switch guarded := f.is.guarded && !f.is.rail.until.IsZero(); {
	case f.open == nil && !guarded:
		// Nothing would end the sessions that have begun, were this cut off in between.
		if err := f.putRail(ctx, rail{before: f.is.Now, until: f.is.Now}); err != nil {
			return err
		}
	case f.open != nil && !(guarded && f.is.rail.until.Equal(f.open.Until)):
		return f.meanwhile()
	case f.open != nil && f.is.Now.Before(f.is.rail.before):
		return fmt.Errorf("a session could still be one of before: %w", step.ErrConflict)
	}
	f.had = f.is.live.trust
	_, err := f.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &f.role.Name, PolicyDocument: aws.String(string(f.wanted()))})
	return fault.Passing(err)
}

func (f *foundSwitch) Remove(context.Context) error { return nil }
