package access_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// emergency is an account with a break-glass role, and a clock of AWS's of its own.
type emergency struct {
	*account
	set    *access.Set
	vendor access.Principal
	ahead  *atomic.Int64 // nanoseconds
}

func newEmergency(t *testing.T) emergency {
	t.Helper()
	var ahead atomic.Int64
	e := emergency{set: generate(t, nil), ahead: &ahead}
	e.account = newAccount(t, awsidentity.Options{Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	e.vendor = e.controlPlane(t)
	grant(t, e.account, e.set)
	// What the role may do is not the point here; that it may do something is.
	_, err := e.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: aws.String("union-ai-admin-break-glass"), PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (e emergency) read(t *testing.T) *access.BreakGlass {
	t.Helper()
	is, err := access.ReadBreakGlass(t.Context(), e, e.set, vendor.Default())
	if err != nil {
		t.Fatal(err)
	}
	return is
}

func (e emergency) openSteps(t *testing.T, api access.IAM, length time.Duration, names ...string) step.Runner {
	t.Helper()
	w, err := access.NewWindow(e.set, e.read(t).Now, length, "TICKET-1", names)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := access.OpenSteps(api, e.set, vendor.Default(), w)
	if err != nil {
		t.Fatal(err)
	}
	return step.Runner{Steps: steps, Patience: 20 * time.Second}
}

func (e emergency) closeSteps(t *testing.T) step.Runner {
	t.Helper()
	steps, err := access.CloseSteps(e, e.set, vendor.Default())
	if err != nil {
		t.Fatal(err)
	}
	return step.Runner{Steps: steps, Patience: 20 * time.Second}
}

func (e emergency) apply(t *testing.T, r step.Runner) {
	t.Helper()
	if err := r.Apply(t.Context(), plan(t, r, step.Present)); err != nil {
		t.Fatal(err)
	}
}

// session is somebody who came in.
type session struct {
	iam *iam.Client
	sts *sts.Client
}

// come assumes the break-glass role.
func (e emergency) come(ctx context.Context, name string) (session, error) {
	out, err := e.vendor.STS.AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn: aws.String(e.set.RoleARN(e.role())), RoleSessionName: aws.String("support"), ExternalId: aws.String(externalID), SourceIdentity: &name,
	})
	if err != nil {
		return session{}, err
	}
	k := out.Credentials
	key := credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
	return session{
		iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &e.url, Credentials: key}),
		sts.New(sts.Options{Region: region, BaseEndpoint: &e.url, Credentials: key}),
	}, nil
}

func (e emergency) role() access.Role {
	for _, r := range e.set.Roles {
		if r.Name == access.BreakGlassRole(vendor.Default()) {
			return r
		}
	}
	panic("the set has no such role")
}

func (e emergency) mustCome(t *testing.T, name string) session {
	t.Helper()
	s, err := e.come(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	s.works(t)
	return s
}

func (s session) try(ctx context.Context) error {
	_, err := s.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("union-ai-admin")})
	return err
}

func (s session) works(t *testing.T) {
	t.Helper()
	if err := s.try(t.Context()); err != nil {
		t.Errorf("got %v, want an answer", err)
	}
}

func (s session) isDead(t *testing.T) {
	t.Helper()
	if err := s.try(t.Context()); !fault.Denied(err) {
		t.Errorf("got %v, want it refused", err)
	}
}

func TestBreakGlass(t *testing.T) {
	t.Parallel()

	t.Run("it ends sessions with close, and a later opening does not wake them", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		e.apply(t, e.openSteps(t, e, time.Hour))
		first := e.mustCome(t, "ada")
		e.apply(t, e.closeSteps(t))
		first.isDead(t)
		if _, err := e.come(t.Context(), "ada"); !fault.Denied(err) {
			t.Errorf("after close: got %v, want it refused", err)
		}
		e.apply(t, e.openSteps(t, e, time.Hour)) // within the same second, or the next
		first.isDead(t)
		second := e.mustCome(t, "ada")
		e.apply(t, e.closeSteps(t))
		second.isDead(t)
		if is := e.read(t); is.Open() || len(is.Problems) > 0 {
			t.Errorf("got %+v, want it closed", is)
		}
		if got := plan(t, e.closeSteps(t), step.Present); got.Writes() {
			t.Errorf("got %s, want nothing to close", actions(got))
		}
	})

	t.Run("it ends sessions with the window", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		e.apply(t, e.openSteps(t, e, 5*time.Minute))
		s := e.mustCome(t, "ada")
		e.ahead.Store(int64(5*time.Minute + time.Second))
		s.isDead(t)
		if _, err := e.come(t.Context(), "ada"); !fault.Denied(err) {
			t.Errorf("after the end: got %v, want it refused", err)
		}
		if is := e.read(t); is.Open() || is.Window == nil {
			t.Errorf("got %+v, want a window that is over", is)
		}
		e.apply(t, e.openSteps(t, e, 5*time.Minute)) // nobody has closed it
		s.isDead(t)
		e.mustCome(t, "ada")
	})

	t.Run("it moves the end without ending sessions", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		e.apply(t, e.openSteps(t, e, 5*time.Minute, "ada"))
		s := e.mustCome(t, "ada")
		e.apply(t, e.openSteps(t, e, 20*time.Minute, "ada", "grace"))
		s.works(t)
		e.ahead.Store(int64(10 * time.Minute))
		s.works(t)
		refused := plan(t, e.openSteps(t, e, 5*time.Minute, "grace"), step.Present).With(step.Refuse)
		if len(refused) != 1 || !strings.Contains(refused[0].Hint, "close") {
			t.Errorf("got %+v, want to take ada away refused", refused)
		}
		e.ahead.Store(int64(21 * time.Minute))
		s.isDead(t)
	})

	t.Run("it lets no session renew itself, or become another role", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		e.apply(t, e.openSteps(t, e, time.Hour))
		s := e.mustCome(t, "ada")
		for _, r := range []access.Role{e.role(), e.set.Roles[0]} {
			_, err := s.sts.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(e.set.RoleARN(r)), RoleSessionName: aws.String("chained"), ExternalId: aws.String(externalID)})
			if !fault.Denied(err) {
				t.Errorf("%s: got %v, want it refused", r.Name, err)
			}
		}
		// Nor does it switch anything by itself.
		trust := string(e.role().Trust.Document)
		if _, err := s.iam.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String(e.role().Name), PolicyDocument: &trust}); !fault.Denied(err) {
			t.Errorf("got %v, want its own trust kept from it", err)
		}
		if _, err := s.iam.DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String(e.role().Name), PolicyName: aws.String(access.WindowPolicyName(vendor.Default()))}); !fault.Denied(err) {
			t.Errorf("got %v, want its own guard kept from it", err)
		}
	})

	t.Run("it is closed to the end after it was cut off", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		e.apply(t, e.openSteps(t, e, time.Hour))
		s := e.mustCome(t, "ada")
		half := e.closeSteps(t)
		half.Steps = half.Steps[:1]
		e.apply(t, half)
		if is := e.read(t); len(is.Problems) != 1 || !strings.Contains(is.Problems[0], "not opened or closed to the end") {
			t.Errorf("got problems %q, want that it was not closed to the end", is.Problems)
		}
		e.apply(t, e.closeSteps(t))
		s.isDead(t)
	})

	t.Run("it closes what somebody opened by hand, with who came in", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		byHand := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::479331373192:root"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"]}]}`
		if _, err := e.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String(e.role().Name), PolicyDocument: &byHand}); err != nil {
			t.Fatal(err)
		}
		s := e.mustCome(t, "ada")
		if is := e.read(t); is.Open() || len(is.Problems) == 0 {
			t.Errorf("got %+v, want the edited trust named", is)
		}
		if refused := plan(t, e.openSteps(t, e, time.Hour), step.Present).With(step.Refuse); len(refused) != 1 || !strings.Contains(refused[0].Hint, "close") {
			t.Errorf("got %+v, want to open it refused", refused)
		}
		half := e.closeSteps(t)
		half.Steps = half.Steps[:1] // cut off
		e.apply(t, half)
		s.isDead(t)
		e.apply(t, e.closeSteps(t))
		s.isDead(t)
		if is := e.read(t); len(is.Problems) > 0 {
			t.Errorf("got problems %q, want none", is.Problems)
		}
	})

	t.Run("it says that somebody else opened it at the same time", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		runner := e.openSteps(t, &other{e.account}, time.Hour)
		err := runner.Apply(t.Context(), plan(t, runner, step.Present))
		var said *usererr.Error
		if !errors.As(err, &said) || !strings.Contains(said.Error(), "somebody else opened or closed role union-ai-admin-break-glass") {
			t.Errorf("got %v, want it said", err)
		}
	})

	t.Run("it passes the check once it is closed, and SimulatePrincipalPolicy agrees", func(t *testing.T) {
		t.Parallel()
		e := newEmergency(t)
		_, err := e.DetachRolePolicy(t.Context(), &iam.DetachRolePolicyInput{RoleName: aws.String(e.role().Name), PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")})
		if err != nil {
			t.Fatal(err)
		}
		e.apply(t, e.openSteps(t, e, time.Hour))
		if rows := failed(e.check(t, e.set)); len(rows) != 1 || !strings.HasPrefix(rows[0], "assume while it is switched off: union-ai-admin-break-glass: it is open until ") {
			t.Errorf("got %q failed while it is open, want that alone", rows)
		}
		e.apply(t, e.closeSteps(t))
		if rows := failed(e.check(t, e.set)); len(rows) > 0 {
			t.Errorf("got %q failed, want none", rows)
		}
	})

	t.Run("it opens for no more people than a trust has room for", func(t *testing.T) {
		t.Parallel()
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("%064d", i))
		}
		var said *usererr.Error
		if _, err := access.NewWindow(generate(t, nil), time.Now(), time.Hour, strings.Repeat("ä", 200), names); !errors.As(err, &said) || !strings.Contains(said.Error(), "IAM takes 2,048") {
			t.Errorf("got %v, want the limit named", err)
		}
	})

	t.Run("it is of the policy strict", func(t *testing.T) {
		t.Parallel()
		set := generate(t, func(o *access.Options) { o.Profile = access.Compat })
		var said *usererr.Error
		if _, err := access.ReadBreakGlass(t.Context(), nil, set, vendor.Default()); !errors.As(err, &said) {
			t.Errorf("got %v, want a sentence", err)
		}
	})
}

// other is IAM where somebody else opens the role for another reason right after we did.
type other struct{ access.IAM }

func (c *other) UpdateAssumeRolePolicy(ctx context.Context, in *iam.UpdateAssumeRolePolicyInput, options ...func(*iam.Options)) (*iam.UpdateAssumeRolePolicyOutput, error) {
	if out, err := c.IAM.UpdateAssumeRolePolicy(ctx, in, options...); err != nil {
		return out, err
	}
	theirs := *in
	theirs.PolicyDocument = aws.String(strings.Replace(*in.PolicyDocument, `{"aws:CurrentTime":"20`, `{"aws:CurrentTime":"21`, 1))
	return c.IAM.UpdateAssumeRolePolicy(ctx, &theirs, options...)
}
