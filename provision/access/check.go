package access

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/vendor"
)

// Checker proves that what was granted in an account is what the set says:
// nothing less, nothing more, and to nobody else.
type Checker struct {
	Set    *Set
	Vendor *vendor.Profile
	// RoleARN is the provision role as it was told to the vendor. It may be
	// another one than the set's, and then fails.
	RoleARN    string
	ExternalID string

	Caller Principal  // who runs the check: the vendor's control plane, or the customer
	Other  *Principal // of the vendor's account, who must be refused; nil when there is none to try
	// NewIAM makes a client for credentials that were got by assuming a role;
	// nil means the caller's own.
	NewIAM func(aws.CredentialsProvider) IAM
}

// Principal is somebody who may try to assume the roles.
type Principal struct {
	ARN     string
	Account string
	STS     STS
}

// role is the name of the role whose session the principal is, or empty.
func (p Principal) role() string {
	_, session, ok := strings.Cut(p.ARN, ":assumed-role/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(session, "/")
	return name
}

// STS is what a check asks of STS. *sts.Client is one.
type STS interface {
	AssumeRole(context.Context, *sts.AssumeRoleInput, ...func(*sts.Options)) (*sts.AssumeRoleOutput, error)
}

// Report is the outcome of a check. Its JSON is read by other programs.
type Report struct {
	Role    string  `json:"role"`
	Rows    []Row   `json:"rows"`
	Summary Summary `json:"summary"`
}

// Row is one thing that was checked.
type Row struct {
	Check  string `json:"check"`  // what was tried: "assume with a wrong external ID"
	Target string `json:"target"` // on which role or policy
	Result Result `json:"result"`
	Why    string `json:"why"` // one sentence
}

// Result of a Row.
type Result string

// The results. CannotTell is no failure: Why says what is missing.
const (
	Pass       Result = "pass"
	Fail       Result = "fail"
	CannotTell Result = "cannotTell"
)

// Summary counts the rows.
type Summary struct {
	Pass       int `json:"pass"`
	Fail       int `json:"fail"`
	CannotTell int `json:"cannotTell"`
}

// The rows of a report, in the order in which they are shown.
const (
	roleARNRow   = "role ARN"
	assumeRight  = "assume with the external ID"
	assumeWrong  = "assume with a wrong external ID"
	assumeAbsent = "assume without external ID"
	assumeOther  = "assume as another principal"
	assumeOff    = "assume while it is switched off"
	roleItself   = "role"
	trustPolicy  = "trust policy"
	boundaryRow  = "boundary"
	policyRow    = "policy"
	extraRow     = "nothing else attached"
	noTeardown   = "no role to remove data planes"
	simulation   = "simulation"
	awsSays      = "simulation by AWS"
)

// Run makes every check that can be made. It changes nothing, and an error
// means that there is no report: AWS cannot be reached, or does not know the caller.
func (c *Checker) Run(ctx context.Context) (*Report, error) {
	report := &Report{Role: c.RoleARN, Rows: []Row{}}

	if granted := c.Set.RoleARN(c.Set.Roles[0]); c.RoleARN != granted {
		report.add(roleARNRow, c.name(0), Fail, "it is not the role that grant makes, which is %s; is --policy or --vendor-profile another one than at the grant?", granted)
	}
	sessions, err := c.assumeMatrix(ctx, report)
	if err != nil {
		return nil, err
	}
	if err := c.documents(ctx, report, sessions); err != nil {
		return nil, err
	}
	for _, r := range report.Rows {
		switch r.Result {
		case Pass:
			report.Summary.Pass++
		case Fail:
			report.Summary.Fail++
		case CannotTell:
			report.Summary.CannotTell++
		}
	}
	return report, nil
}

func (r *Report) add(check, target string, result Result, why string, args ...any) {
	r.Rows = append(r.Rows, Row{Check: check, Target: target, Result: result, Why: fmt.Sprintf(why, args...)})
}

// byCustomer reports whether the customer's own credentials run the check.
func (c *Checker) byCustomer() bool { return c.Caller.Account == c.Set.Account }

// arn is the role's ARN; that of the provision role is the one that was given.
func (c *Checker) arn(i int) string {
	if i == 0 {
		return c.RoleARN
	}
	return c.Set.RoleARN(c.Set.Roles[i])
}

// name is the role's name, with the same exception.
func (c *Checker) name(i int) string {
	if i == 0 {
		return c.RoleARN[strings.LastIndexByte(c.RoleARN, '/')+1:]
	}
	return c.Set.Roles[i].Name
}

// forService reports whether a role is for an AWS service, which nobody else
// can assume.
func (c *Checker) forService(r Role) bool { return isForService(c.Vendor, r) }

func isForService(v *vendor.Profile, r Role) bool { return strings.HasPrefix(r.Name, v.EndpointPrefix) }

// switchedOff reports whether the role is the one that is off until the
// customer switches it on.
func (c *Checker) switchedOff(r Role) bool { return r.Name == BreakGlassRole(c.Vendor) }

// assumeMatrix tries every role with the right, a wrong and no external ID, and
// as another principal. It returns the sessions that it got, by role name. Each
// lasts as short as STS allows; their credentials are used and never shown.
func (c *Checker) assumeMatrix(ctx context.Context, report *Report) (map[string]aws.CredentialsProvider, error) {
	sessions := map[string]aws.CredentialsProvider{}
	for i, role := range c.Set.Roles {
		if c.forService(role) || c.switchedOff(role) {
			continue
		}
		arn, name := c.arn(i), c.name(i)
		right, err := c.assume(ctx, c.Caller, arn, c.ExternalID)
		if err != nil {
			return nil, err
		}
		proven := right.session != nil
		switch {
		case c.byCustomer() && !proven:
			report.add(assumeRight, name, CannotTell, "these are the customer's credentials, which the trust does not admit; the vendor runs this check")
		case c.byCustomer():
			report.add(assumeRight, name, Fail, "the customer's own %s may assume it, which only the vendor's %s should", c.Caller.ARN, c.Vendor.ControlPlaneRole)
		case proven:
			sessions[role.Name] = right.session
			report.add(assumeRight, name, Pass, "assumed as %s, for 900 seconds", right.as)
		default:
			report.add(assumeRight, name, Fail,
				"AWS refuses %s: there is no such role, or it does not trust this caller, or it asks for another external ID; AWS gives the same answer for each", c.Caller.ARN)
		}

		// A pattern in the trust that begins with the right ID would take this
		// one, where it would refuse a random one.
		wrong := c.ExternalID + "-wrong"
		if err := c.mustRefuse(ctx, report, assumeWrong, name, arn, wrong, proven, confusedDeputy); err != nil {
			return nil, err
		}
		if err := c.mustRefuse(ctx, report, assumeAbsent, name, arn, "", proven, confusedDeputy); err != nil {
			return nil, err
		}
		if err := c.tryOther(ctx, report, name, arn, proven); err != nil {
			return nil, err
		}
	}
	for i, role := range c.Set.Roles {
		if !c.switchedOff(role) {
			continue
		}
		if err := c.checkSwitchedOff(ctx, report, i, c.reader(sessions), sessions[c.Set.Roles[0].Name] != nil); err != nil {
			return nil, err
		}
	}
	return sessions, c.checkNoTeardown(ctx, report, sessions[c.Set.Roles[0].Name] != nil)
}

// checkSwitchedOff adds the row of the break-glass role. While it is on, whoever does not
// give a right source identity is refused as well, so its trust is read, too.
func (c *Checker) checkSwitchedOff(ctx context.Context, report *Report, i int, reader IAM, proven bool) error {
	name := c.Set.Roles[i].Name
	if reader != nil {
		live, err := readRoleItself(ctx, reader, name)
		if err != nil && !fault.Denied(err) {
			return fmt.Errorf("reading role %s: %w", name, err)
		}
		if err == nil && live != nil {
			trust := live.trust
			if ids := externalIDsOf(trust); slices.Contains(ids, c.ExternalID) {
				trust = withExternalIDs(trust, []string{c.ExternalID})
			}
			switch w := c.Set.OpenWindow(trust); {
			case w == nil:
			case live.at.Before(w.Until):
				report.add(assumeOff, name, Fail, "it is %s; 'biplane access break-glass close' switches it off", w.Words())
				return nil
			default:
				report.add(assumeOff, name, Fail, "its window was over at %s; 'biplane access break-glass close' puts its trust back", stamp(w.Until))
				return nil
			}
		}
	}
	return c.mustRefuse(ctx, report, assumeOff, name, c.arn(i), c.ExternalID, proven,
		"it was assumed, so somebody switched it on; 'biplane access break-glass close' switches it off")
}

// checkNoTeardown adds a row about the role that a grant makes only where it is
// asked to: nothing in the set would show that it is there.
func (c *Checker) checkNoTeardown(ctx context.Context, report *Report, proven bool) error {
	role := Role{Name: c.Vendor.RoleName + "-teardown", Path: c.Set.path()}
	wanted := slices.ContainsFunc(c.Set.Roles, func(r Role) bool { return r.Name == role.Name })
	if c.Set.Profile != Strict || wanted {
		return nil
	}
	const remedy = "if it was granted, give --delete-permissions here too; if not, run 'biplane access revoke' and grant again"
	if c.byCustomer() {
		switch live, err := readRoleItself(ctx, c.NewIAM(nil), role.Name); {
		case fault.Denied(err):
			report.add(noTeardown, role.Name, CannotTell, "%s", unreadable(err))
		case err != nil:
			return fmt.Errorf("reading role %s: %w", role.Name, err)
		case live != nil:
			report.add(noTeardown, role.Name, Fail, "it is there; %s", remedy)
		default:
			report.add(noTeardown, role.Name, Pass, "it is not there, as wanted")
		}
		return nil
	}
	got, err := c.assume(ctx, c.Caller, c.Set.RoleARN(role), c.ExternalID)
	switch {
	case err != nil:
		return err
	case got.session != nil:
		report.add(noTeardown, role.Name, Fail, "it was assumed; %s", remedy)
	case proven:
		report.add(noTeardown, role.Name, Pass, "refused, as it is where there is none")
	default:
		report.add(noTeardown, role.Name, CannotTell, "refused, which proves nothing while the right way is refused too")
	}
	return nil
}

// confusedDeputy is what it means that a trust does not ask for the right external ID.
const confusedDeputy = "it was assumed: whoever knows the role's ARN can have the vendor act on it (confused deputy)"

// mustRefuse adds a row that passes when AWS refuses the caller, and says assumed when it
// does not. A refusal proves nothing where the right way is refused as well.
func (c *Checker) mustRefuse(ctx context.Context, report *Report, check, target, arn, externalID string, proven bool, assumed string) error {
	got, err := c.assume(ctx, c.Caller, arn, externalID)
	switch {
	case err != nil:
		return err
	case got.session != nil:
		report.add(check, target, Fail, "%s", assumed)
	case proven:
		report.add(check, target, Pass, "refused")
	case c.byCustomer():
		report.add(check, target, CannotTell, "these are the customer's credentials, which are refused anyway; the vendor runs this check")
	default:
		report.add(check, target, CannotTell, "refused, which proves nothing while the right way is refused too")
	}
	return nil
}

// tryOther adds the row of a principal of the vendor's account that is not the
// control plane.
func (c *Checker) tryOther(ctx context.Context, report *Report, target, arn string, proven bool) error {
	if c.Other == nil {
		report.add(assumeOther, target, CannotTell, "nobody else to try with; give --other-profile NAME with credentials of another principal of the vendor's account")
		return nil
	}
	switch ownAccount := c.Vendor.Accounts[c.Set.Partition]; {
	case c.Other.ARN == c.Caller.ARN:
		report.add(assumeOther, target, CannotTell, "--other-profile is the same principal as the caller, %s", c.Caller.ARN)
		return nil
	case c.Other.Account == ownAccount && c.Other.role() == c.Vendor.ControlPlaneRole[strings.LastIndexByte(c.Vendor.ControlPlaneRole, '/')+1:]:
		report.add(assumeOther, target, CannotTell, "--other-profile is the vendor's %s itself; give one of another principal of account %s", c.Vendor.ControlPlaneRole, ownAccount)
		return nil
	}
	got, err := c.assume(ctx, *c.Other, arn, c.ExternalID)
	wholeAccount := c.Set.Profile == Compat && c.Other.Account == c.Vendor.Accounts[c.Set.Partition]
	switch {
	case err != nil:
		return err
	case got.session != nil && wholeAccount:
		report.add(assumeOther, target, Pass, "%s may assume it: the published trust admits the vendor's whole account; --policy strict admits one role only", c.Other.ARN)
	case got.session != nil:
		report.add(assumeOther, target, Fail, "%s may assume it, and only %s should", c.Other.ARN, c.Vendor.ControlPlaneRole)
	case proven && wholeAccount:
		report.add(assumeOther, target, Pass, "%s is refused by its own policies; the published trust admits the vendor's whole account", c.Other.ARN)
	case proven && c.Other.Account != c.Vendor.Accounts[c.Set.Partition]:
		report.add(assumeOther, target, Pass, "%s is refused; it is of another account, and one of the vendor's own would prove more", c.Other.ARN)
	case proven:
		report.add(assumeOther, target, Pass, "%s is refused", c.Other.ARN)
	default:
		report.add(assumeOther, target, CannotTell, "%s is refused, which proves nothing while the right way is not proven", c.Other.ARN)
	}
	return nil
}

// assumed is what came of an attempt; session is nil when AWS refused.
type assumed struct {
	session aws.CredentialsProvider
	as      string
}

// assume tries to assume a role. AccessDenied is an answer, everything else
// that goes wrong is an error.
func (c *Checker) assume(ctx context.Context, who Principal, arn, externalID string) (assumed, error) {
	in := &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("biplane-check"), DurationSeconds: aws.Int32(900)}
	if externalID != "" {
		in.ExternalId = &externalID
	}
	out, err := who.STS.AssumeRole(ctx, in)
	if fault.Denied(err) {
		return assumed{}, nil
	}
	if err != nil {
		return assumed{}, fmt.Errorf("assuming %s: %w", arn, err)
	}
	k := out.Credentials
	return assumed{
		session: credentials.NewStaticCredentialsProvider(aws.ToString(k.AccessKeyId), aws.ToString(k.SecretAccessKey), aws.ToString(k.SessionToken)),
		as:      aws.ToString(out.AssumedRoleUser.Arn),
	}, nil
}
