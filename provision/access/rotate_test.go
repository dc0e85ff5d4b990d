package access_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

const newID = "8Rk2mQ0sZ4vJtYpLxW9cAe"

// granted is the set of what the account has granted, as rotate-external-id reads it.
func (a *account) granted(t *testing.T) *access.Set {
	t.Helper()
	granted, err := access.ReadGranted(t.Context(), a, "aws", customerID, vendor.Default())
	if err != nil {
		t.Fatal(err)
	}
	set, err := access.Generate(granted.Options(customerID, vendor.Default()))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func rotateRunner(api access.IAM, set *access.Set, r access.Rotation) step.Runner {
	return step.Runner{Steps: access.RotateSteps(api, set, vendor.Default(), r), Patience: 20 * time.Second}
}

func (a *account) rotate(t *testing.T, r access.Rotation) {
	t.Helper()
	runner := rotateRunner(a, a.granted(t), r)
	if err := runner.Apply(t.Context(), plan(t, runner, step.Present)); err != nil {
		t.Fatal(err)
	}
}

// assume tries to assume a role of the customer's with an external ID.
func assume(ctx context.Context, who access.Principal, role, externalID string) error {
	_, err := who.STS.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("test"), ExternalId: &externalID})
	return err
}

// vendorRoles are the ARNs of the set's roles that the vendor may assume at any time.
func vendorRoles(set *access.Set) []string {
	var arns []string
	for _, r := range set.Roles {
		if strings.Contains(string(r.Trust.Document), "sts:ExternalId") {
			arns = append(arns, set.RoleARN(r))
		}
	}
	return arns
}

func TestRotate(t *testing.T) {
	t.Parallel()

	for profile, change := range profiles() {
		t.Run("it shuts the vendor out at no moment under "+profile, func(t *testing.T) {
			t.Parallel()
			a, set := newAccount(t, awsidentity.Options{}), generate(t, change)
			vendor := a.controlPlane(t)
			grant(t, a, set)
			a.service.SetConsistencyDelay(300 * time.Millisecond)

			ctx, stop := context.WithCancel(t.Context())
			var loops sync.WaitGroup
			gaps := make([]error, len(vendorRoles(set)))
			tried := make([]int, len(gaps))
			for i, role := range vendorRoles(set) {
				loops.Go(func() {
					for ctx.Err() == nil {
						old := assume(ctx, vendor, role, externalID)
						if old == nil {
							tried[i]++
							continue
						}
						if err := assume(ctx, vendor, role, newID); err != nil && ctx.Err() == nil {
							gaps[i] = fmt.Errorf("%s takes neither: %w; %w", role, old, err)
							return
						}
						tried[i]++
					}
				})
			}
			a.rotate(t, access.Rotation{To: newID})
			for _, role := range vendorRoles(set) {
				for _, id := range []string{externalID, newID} {
					if err := assume(ctx, vendor, role, id); err != nil {
						t.Errorf("%s with %s: got %v, want a session", role, id, err)
					}
				}
			}
			a.rotate(t, access.Rotation{To: newID, Finish: true})
			stop()
			loops.Wait()
			if err := errors.Join(gaps...); err != nil {
				t.Error(err)
			}
			if slices.Contains(tried, 0) {
				t.Errorf("got %v attempts, want some at each role", tried)
			}
			for _, role := range vendorRoles(set) {
				if err := assume(t.Context(), vendor, role, newID); err != nil {
					t.Errorf("%s with the new value: got %v, want a session", role, err)
				}
				if err := assume(t.Context(), vendor, role, externalID); !fault.Denied(err) {
					t.Errorf("%s with the old value: got %v, want it refused", role, err)
				}
			}
			if got := plan(t, grantRunner(a, generate(t, func(o *access.Options) { change(o); o.ExternalID = newID })), step.Present); len(got.With(step.Keep)) != len(got.Steps) {
				t.Errorf("got plan %s to grant with the new value, want everything kept", actions(got))
			}
		})
	}

	t.Run("it finishes what was begun, from wherever it was cut off", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		for _, r := range []access.Rotation{{To: newID}, {To: newID, Finish: true}} {
			runner := rotateRunner(a, a.granted(t), r)
			runner.Steps = runner.Steps[1:2] // cut off after the second role
			if err := runner.Apply(t.Context(), plan(t, runner, step.Present)); err != nil {
				t.Fatal(err)
			}
			if r.Finish {
				if got, err := access.RotatingTo(t.Context(), a, a.granted(t)); got != newID || err != nil {
					t.Errorf("got %q and %v for the value to finish with, want %s", got, err, newID)
				}
			}
			a.rotate(t, r)
			if got := plan(t, rotateRunner(a, a.granted(t), r), step.Present); got.Writes() {
				t.Errorf("got plan %s after %+v, want nothing to do", actions(got), r)
			}
		}
	})

	t.Run("it does not finish where the new value did not get", func(t *testing.T) {
		t.Parallel()
		a := newAccount(t, awsidentity.Options{})
		grant(t, a, generate(t, nil))
		runner := rotateRunner(a, a.granted(t), access.Rotation{To: newID})
		runner.Steps = runner.Steps[1:2]
		if err := runner.Apply(t.Context(), plan(t, runner, step.Present)); err != nil {
			t.Fatal(err)
		}
		refused := plan(t, rotateRunner(a, a.granted(t), access.Rotation{To: newID, Finish: true}), step.Present).With(step.Refuse)
		if len(refused) != 2 || !strings.Contains(refused[0].Hint, "--external-id "+newID) {
			t.Errorf("got %+v, want the two roles refused that take the old value alone, with the command that goes on", refused)
		}
		a.rotate(t, access.Rotation{To: externalID, Finish: true})
		if got := actions(plan(t, grantRunner(a, generate(t, nil)), step.Present)); strings.Contains(got, "refuse") {
			t.Errorf("got %s after going back, want the grant as it was", got)
		}
	})

	t.Run("it says that somebody else wrote at the same time", func(t *testing.T) {
		t.Parallel()
		a := newAccount(t, awsidentity.Options{})
		grant(t, a, generate(t, nil))
		runner := rotateRunner(&intruder{IAM: a, id: "of-somebody-else"}, a.granted(t), access.Rotation{To: newID})
		err := runner.Apply(t.Context(), plan(t, runner, step.Present))
		var said *usererr.Error
		if !errors.As(err, &said) || !strings.Contains(said.Error(), "somebody else changed the trust of role union-ai-admin") || !strings.Contains(said.Error(), "of-somebody-else") {
			t.Errorf("got %v, want a sentence that names what the other wrote", err)
		}
		a.rotate(t, access.Rotation{To: externalID, Finish: true})
	})

	t.Run("it does not write over a trust that was edited", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		trust := string(set.Roles[1].Trust.Document)
		for name, edited := range map[string]string{
			"a second statement":        strings.Replace(trust, `[{`, `[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole"},{`, 1),
			"no condition on the role":  strings.Replace(trust, `"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::479331373192:role/biplane-controlplane"},`, "", 1),
			"a pattern":                 strings.Replace(strings.Replace(trust, "StringEquals", "StringLike", 1), externalID, "*", 1),
			"no external ID":            strings.Replace(trust, `,"StringEquals":{"sts:ExternalId":"`+externalID+`"}`, "", 1),
			"a set that may be missing": strings.Replace(trust, `"StringEquals"`, `"ForAllValues:StringEquals"`, 1),
		} {
			if edited == trust {
				t.Fatalf("%s: got the trust unchanged: %s", name, trust)
			}
			if _, err := a.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: &set.Roles[1].Name, PolicyDocument: &edited}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, r := range []access.Rotation{{To: newID}, {To: externalID, Finish: true}} {
				refused := plan(t, rotateRunner(a, a.granted(t), r), step.Present).With(step.Refuse)
				if len(refused) != 1 || refused[0].Details[0] != "it was edited by hand" || len(refused[0].Details) < 3 {
					t.Errorf("%s, %+v: got %+v refused, want this one with the difference", name, r, refused)
				}
			}
		}
	})
}

// intruder is IAM where somebody else writes a trust right after we did.
type intruder struct {
	access.IAM
	id string
}

func (i *intruder) UpdateAssumeRolePolicy(ctx context.Context, in *iam.UpdateAssumeRolePolicyInput, options ...func(*iam.Options)) (*iam.UpdateAssumeRolePolicyOutput, error) {
	out, err := i.IAM.UpdateAssumeRolePolicy(ctx, in, options...)
	if err != nil {
		return out, err
	}
	other := *in
	other.PolicyDocument = aws.String(strings.Replace(*in.PolicyDocument, newID, i.id, 1))
	return i.IAM.UpdateAssumeRolePolicy(ctx, &other, options...)
}
