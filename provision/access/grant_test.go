package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

const (
	customerID = "111122223333"
	vendorID   = "479331373192"
	region     = "eu-central-1"
	externalID = "5Zq0v3l1x8mTfKcW2hYbNg"
)

// account is a customer's account on an identity service of its own.
type account struct {
	*iam.Client
	service *awsidentity.Service
	url     string
}

func newAccount(t *testing.T, o awsidentity.Options) *account {
	t.Helper()
	service, err := awsidentity.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	now := o.Clock
	if now == nil {
		now = time.Now
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", now().UTC().Format(http.TimeFormat))
		service.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.Close(); service.Close() })
	admin, err := service.CreateAccount(customerID, awsidentity.AccountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &account{service: service, url: server.URL, Client: iam.New(iam.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider(admin.AccessKeyID, admin.SecretAccessKey, ""),
	})}
}

func generate(t *testing.T, change func(*access.Options)) *access.Set {
	t.Helper()
	o := access.Options{Account: customerID, Region: region, ExternalID: externalID, PrivateEndpoint: true}
	if change != nil {
		change(&o)
	}
	set, err := access.Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func grantRunner(a *account, set *access.Set) step.Runner {
	return step.Runner{Steps: access.GrantSteps(a, set, vendor.Default()), Patience: 20 * time.Second}
}

func plan(t *testing.T, r step.Runner, goal step.Goal) step.Plan {
	t.Helper()
	p, err := r.Plan(t.Context(), goal)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func grant(t *testing.T, a *account, set *access.Set) {
	t.Helper()
	r := grantRunner(a, set)
	if err := r.Apply(t.Context(), plan(t, r, step.Present)); err != nil {
		t.Fatal(err)
	}
}

// actions counts a plan's steps by action.
func actions(p step.Plan) string {
	var parts []string
	for _, a := range []step.Action{step.Create, step.Finish, step.Adopt, step.Remove, step.Keep, step.Leave, step.Refuse} {
		if n := len(p.With(a)); n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", a, n))
		}
	}
	return strings.Join(parts, ", ")
}

// names lists the roles and customer managed policies of the account.
func (a *account) names(t *testing.T) []string {
	t.Helper()
	names := []string{}
	roles, err := a.ListRoles(t.Context(), &iam.ListRolesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles.Roles {
		names = append(names, "role "+*r.RoleName)
	}
	policies, err := a.ListPolicies(t.Context(), &iam.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range policies.Policies {
		names = append(names, "policy "+*p.PolicyName)
	}
	slices.Sort(names)
	return names
}

// createRole makes a role as somebody with the console would.
func (a *account) createRole(t *testing.T, r access.Role, trust json.RawMessage) {
	t.Helper()
	in := &iam.CreateRoleInput{RoleName: &r.Name, Path: &r.Path, AssumeRolePolicyDocument: aws.String(string(trust))}
	if r.Boundary != nil {
		in.PermissionsBoundary = aws.String("arn:aws:iam::" + customerID + ":policy" + r.Path + *r.Boundary)
	}
	if _, err := a.CreateRole(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func (a *account) createPolicy(t *testing.T, p access.Policy, path string, document string) {
	t.Helper()
	_, err := a.CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: &p.Name, Path: &path, PolicyDocument: &document})
	if err != nil {
		t.Fatal(err)
	}
}

func profiles() map[string]func(*access.Options) {
	return map[string]func(*access.Options){
		"strict": func(o *access.Options) { o.DeletePermissions = true },
		"compat": func(o *access.Options) { o.Profile = access.Compat },
	}
}

func TestGrant(t *testing.T) {
	t.Parallel()
	for profile, change := range profiles() {
		t.Run("it grants "+profile+" once, and finds nothing to do again", func(t *testing.T) {
			t.Parallel()
			a, set := newAccount(t, awsidentity.Options{}), generate(t, change)
			steps := len(access.GrantSteps(a, set, vendor.Default()))
			if got, want := actions(plan(t, grantRunner(a, set), step.Present)), fmt.Sprintf("create %d", steps); got != want {
				t.Fatalf("got plan %s, want %s", got, want)
			}
			grant(t, a, set)
			if got, want := actions(plan(t, grantRunner(a, set), step.Present)), fmt.Sprintf("keep %d", steps); got != want {
				t.Errorf("got plan %s, want %s", got, want)
			}
		})
	}

	t.Run("it waits for what IAM does not show yet", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{ConsistencyDelay: 400 * time.Millisecond}), generate(t, nil)
		grant(t, a, set)
		if got := plan(t, grantRunner(a, set), step.Present); len(got.With(step.Keep)) != len(got.Steps) {
			t.Errorf("got plan %s, want everything kept", actions(got))
		}
	})

	t.Run("it may run twice at the same time", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		first := plan(t, grantRunner(a, set), step.Present)
		var both sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			both.Go(func() { errs[i] = grantRunner(a, set).Apply(t.Context(), first) })
		}
		both.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("got %v, want none", err)
		}
	})

	t.Run("it adopts what somebody else made as wanted, and then revokes it", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		role := set.Roles[0]
		if set.Boundary != nil {
			a.createPolicy(t, *set.Boundary, role.Path, string(set.Boundary.Document))
		}
		// The same meaning in another spelling.
		a.createRole(t, role, json.RawMessage(strings.Replace(string(role.Trust.Document), `"Effect"`, `  "Sid":"byHand", "Effect"`, 1)))
		before := plan(t, grantRunner(a, set), step.Present)
		if got := len(before.With(step.Adopt)); got != 2 {
			t.Errorf("got plan %s, want 2 to adopt", actions(before))
		}
		grant(t, a, set)
		revoke(t, a)
		if got := a.names(t); len(got) != 0 {
			t.Errorf("got %v left, want nothing", got)
		}
	})

	refusals := map[string]func(t *testing.T, a *account, set *access.Set){
		"it refuses a role that trusts somebody else": func(t *testing.T, a *account, set *access.Set) {
			a.createRole(t, access.Role{Name: set.Roles[0].Name, Path: set.Roles[0].Path},
				json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::999988887777:root"},"Action":"sts:AssumeRole"}]}`))
		},
		"it refuses a policy with another document": func(t *testing.T, a *account, set *access.Set) {
			for _, p := range set.Roles[0].Policies {
				a.createPolicy(t, p, set.Roles[0].Path, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
				break
			}
		},
		"it refuses what was granted with another external ID": func(t *testing.T, a *account, _ *access.Set) {
			grant(t, a, generate(t, func(o *access.Options) { o.ExternalID = "another-customer" }))
		},
		"it refuses what was granted for another region": func(t *testing.T, a *account, _ *access.Set) {
			grant(t, a, generate(t, func(o *access.Options) { o.Region = "us-east-1" }))
		},
		"it refuses what was granted with another policy": func(t *testing.T, a *account, _ *access.Set) {
			grant(t, a, generate(t, func(o *access.Options) { o.Profile = access.Compat }))
		},
		"it refuses a role that was given more": func(t *testing.T, a *account, set *access.Set) {
			grant(t, a, set)
			_, err := a.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{
				RoleName: &set.Roles[0].Name, PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")})
			if err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, prepare := range refusals {
		t.Run(name+", and changes nothing", func(t *testing.T) {
			t.Parallel()
			a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
			prepare(t, a, set)
			before := a.names(t)
			r := grantRunner(a, set)
			p := plan(t, r, step.Present)
			err := r.Apply(t.Context(), p)
			var refused *step.RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a RefusedError; plan %s", err, actions(p))
			}
			for _, s := range p.With(step.Refuse) {
				if len(s.Details) < 2 || s.Hint == "" {
					t.Errorf("got details %q and hint %q, want the difference and the next thing to try", s.Details, s.Hint)
				}
			}
			if got := a.names(t); !slices.Equal(got, before) {
				t.Errorf("got %v, want what was there before: %v", got, before)
			}
		})
	}
}

func revoke(t *testing.T, a *account) (step.Plan, []string) {
	t.Helper()
	steps, left, err := access.RevokeSteps(t.Context(), a, "aws", customerID, vendor.Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := step.Runner{Steps: steps, Patience: 20 * time.Second}
	p := plan(t, r, step.Absent)
	if err := r.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p, left
}

func TestRevoke(t *testing.T) {
	t.Parallel()

	for profile, change := range profiles() {
		t.Run("it removes all of "+profile+" and nothing else", func(t *testing.T) {
			t.Parallel()
			a, set := newAccount(t, awsidentity.Options{}), generate(t, change)
			a.createRole(t, access.Role{Name: "theirs", Path: "/"}, set.Roles[0].Trust.Document)
			a.createPolicy(t, access.Policy{Name: "theirs"}, "/", string(set.Roles[0].Policies[0].Document))
			before := a.names(t)
			grant(t, a, set)
			_, left := revoke(t, a)
			if got := a.names(t); !slices.Equal(got, before) || len(left) != 0 {
				t.Errorf("got %v and left %v, want %v and nothing", got, left, before)
			}
			if p, _ := revoke(t, a); p.Writes() {
				t.Errorf("got plan %s the second time, want nothing to do", actions(p))
			}
		})
	}

	t.Run("it removes what was granted for another region, with its two roles", func(t *testing.T) {
		t.Parallel()
		a := newAccount(t, awsidentity.Options{})
		grant(t, a, generate(t, func(o *access.Options) { o.Region = "ap-southeast-2" }))
		revoke(t, a)
		if got := a.names(t); len(got) != 0 {
			t.Errorf("got %v left, want nothing", got)
		}
	})

	t.Run("it takes a role out of an instance profile, which stays", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		profile := aws.String("theirs")
		if _, err := a.CreateInstanceProfile(t.Context(), &iam.CreateInstanceProfileInput{InstanceProfileName: profile}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.AddRoleToInstanceProfile(t.Context(), &iam.AddRoleToInstanceProfileInput{InstanceProfileName: profile, RoleName: &set.Roles[0].Name}); err != nil {
			t.Fatal(err)
		}
		p, _ := revoke(t, a)
		if got := a.names(t); len(got) != 0 {
			t.Errorf("got %v left, want nothing", got)
		}
		if text := fmt.Sprint(p.Steps); !strings.Contains(text, "out of instance profile theirs") {
			t.Errorf("got %s, want the plan to say so", text)
		}
		if _, err := a.GetInstanceProfile(t.Context(), &iam.GetInstanceProfileInput{InstanceProfileName: profile}); err != nil {
			t.Errorf("got %v, want the profile to be there", err)
		}
	})

	t.Run("it detaches a policy of the customer's, which stays", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		a.createPolicy(t, access.Policy{Name: "theirs"}, "/", string(set.Roles[0].Policies[0].Document))
		_, err := a.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{
			RoleName: &set.Roles[0].Name, PolicyArn: aws.String("arn:aws:iam::" + customerID + ":policy/theirs")})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := revoke(t, a)
		if got, want := a.names(t), []string{"policy theirs"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if text := fmt.Sprint(p.Steps); !strings.Contains(text, "detach arn:aws:iam::111122223333:policy/theirs") {
			t.Errorf("got %s, want the plan to say what is detached", text)
		}
	})

	t.Run("it leaves a role of our name that somebody else made", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		a.createRole(t, access.Role{Name: set.Roles[0].Name, Path: "/"}, set.Roles[0].Trust.Document)
		p, _ := revoke(t, a)
		if got := actions(p); got != "leave 1" {
			t.Errorf("got plan %s, want leave 1", got)
		}
	})

	t.Run("it leaves the boundary while a role of the vendor's carries it, and lists both", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		made := access.Role{Name: "union-dp1-node", Path: set.Roles[0].Path, Boundary: &set.Boundary.Name}
		a.createRole(t, made, set.Roles[0].Trust.Document)
		p, left := revoke(t, a)
		want := []string{"policy " + set.Boundary.Name, "role union-dp1-node"}
		if got := a.names(t); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if len(p.With(step.Leave)) != 1 || len(left) != 1 {
			t.Errorf("got %v and %v, want one of each listed", p.With(step.Leave), left)
		}
	})

	t.Run("it deletes every version of a policy", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		grant(t, a, set)
		for range 4 {
			_, err := a.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{
				PolicyArn:      aws.String("arn:aws:iam::" + customerID + ":policy" + set.Roles[0].Path + set.Roles[0].Policies[0].Name),
				PolicyDocument: aws.String(string(set.Roles[0].Policies[0].Document)), SetAsDefault: true})
			if err != nil {
				t.Fatal(err)
			}
		}
		revoke(t, a)
		if got := a.names(t); len(got) != 0 {
			t.Errorf("got %v left, want nothing", got)
		}
	})
}

func TestPreflight(t *testing.T) {
	t.Parallel()

	t.Run("it passes in a new account", func(t *testing.T) {
		t.Parallel()
		a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
		if err := access.Preflight(t.Context(), a, set, plan(t, grantRunner(a, set), step.Present)); err != nil {
			t.Errorf("got %v, want none", err)
		}
	})

	for name, quota := range map[string]map[string]int32{
		"it refuses a trust policy that the account is too small for":     {"AssumeRolePolicySizeQuota": 100},
		"it refuses more attachments than the account allows":             {"AttachedPoliciesPerRoleQuota": 0},
		"it refuses more roles than the account has room for":             {"RolesQuota": 1000, "Roles": 999},
		"it refuses more policies than the account has room for":          {"PoliciesQuota": 1500, "Policies": 1500},
		"it refuses a policy that is larger than the account's own limit": {"PolicySizeQuota": 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, set := newAccount(t, awsidentity.Options{}), generate(t, nil)
			small := smallAccount{IAM: a, quota: quota}
			err := access.Preflight(t.Context(), small, set, plan(t, grantRunner(a, set), step.Present))
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != usererr.Refused || said.Hint == "" {
				t.Errorf("got %v, want a refusal with a hint", err)
			}
		})
	}
}

// smallAccount is an account with other limits.
type smallAccount struct {
	access.IAM
	quota map[string]int32
}

func (s smallAccount) GetAccountSummary(ctx context.Context, in *iam.GetAccountSummaryInput, o ...func(*iam.Options)) (*iam.GetAccountSummaryOutput, error) {
	out, err := s.IAM.GetAccountSummary(ctx, in, o...)
	if err != nil {
		return nil, err
	}
	for key, n := range s.quota {
		out.SummaryMap[key] = n
	}
	return out, nil
}

func TestCheckGrantable(t *testing.T) {
	t.Parallel()
	t.Run("it refuses the published documents, with the numbers", func(t *testing.T) {
		t.Parallel()
		err := access.CheckGrantable(generate(t, func(o *access.Options) { o.Profile, o.PrivateEndpoint = access.Seed, false }))
		if err == nil || !strings.Contains(err.Error(), "10,515") || !strings.Contains(err.Error(), "10,240") {
			t.Errorf("got %v, want 10,515 and 10,240", err)
		}
	})
	for profile, change := range profiles() {
		t.Run("it admits "+profile, func(t *testing.T) {
			t.Parallel()
			if err := access.CheckGrantable(generate(t, change)); err != nil {
				t.Errorf("got %v, want none", err)
			}
		})
	}
}
