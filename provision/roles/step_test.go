package roles_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/step/killtest"
)

// TestMain lets the test binary be the program that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_ROLES") != "" {
		if err := program(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// program makes or removes the roles.
func program() error {
	set, err := roles.Generate(config())
	if err != nil {
		return err
	}
	client := newClient(os.Getenv("AWS_ENDPOINT_URL"), os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"))
	r := step.Runner{Steps: roles.Steps(client, set)}
	plan, err := r.Plan(context.Background(), step.Goal(os.Getenv("GOAL")))
	if err != nil {
		return err
	}
	return r.Apply(context.Background(), plan)
}

func newClient(endpoint, key, secret string) *iam.Client {
	return iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider(key, secret, "")})
}

// newAccount is an account on an identity service of its own.
func newAccount(t *testing.T, o awsidentity.Options) *iam.Client {
	t.Helper()
	service, err := awsidentity.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service)
	t.Cleanup(func() { server.Close(); service.Close() })
	admin, err := service.CreateAccount(account, awsidentity.AccountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return newClient(server.URL, admin.AccessKeyID, admin.SecretAccessKey)
}

func plan(t *testing.T, api roles.IAM, set *roles.Set, goal step.Goal) step.Plan {
	t.Helper()
	p, err := step.Runner{Steps: roles.Steps(api, set)}.Plan(t.Context(), goal)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func apply(t *testing.T, api roles.IAM, set *roles.Set, goal step.Goal) {
	t.Helper()
	r := step.Runner{Steps: roles.Steps(api, set), Patience: 20 * time.Second}
	if err := r.Apply(t.Context(), plan(t, api, set, goal)); err != nil {
		t.Fatal(err)
	}
}

// only is the step whose action is not the one of all others.
func only(t *testing.T, p step.Plan, others step.Action) step.Planned {
	t.Helper()
	rest := slices.DeleteFunc(slices.Clone(p.Steps), func(s step.Planned) bool { return s.Action == others })
	if len(rest) != 1 {
		t.Fatalf("got %d steps that are not to %s, want 1: %s", len(rest), others, p.Summary())
	}
	return rest[0]
}

func TestSteps(t *testing.T) {
	t.Parallel()
	for _, mode := range []roles.Mode{roles.PerServiceAccount, roles.Shared} {
		t.Run("it makes "+string(mode)+" roles once, and removes them without a trace", func(t *testing.T) {
			t.Parallel()
			api, set := newAccount(t, awsidentity.Options{}), generate(t, func(c *roles.Config) { c.Mode = mode; c.Org = "acme" })
			if got, want := len(plan(t, api, set, step.Present).With(step.Create)), 1+len(set.Roles); got != want {
				t.Fatalf("got %d to create, want %d", got, want)
			}
			apply(t, api, set, step.Present)
			if p := plan(t, api, set, step.Present); len(p.With(step.Keep)) != len(p.Steps) {
				t.Errorf("got %s, want all unchanged", p.Summary())
			}
			for _, r := range set.Roles {
				out, err := api.GetRole(t.Context(), &iam.GetRoleInput{RoleName: &r.Name})
				if err != nil {
					t.Fatal(err)
				}
				if *out.Role.Arn != r.ARN {
					t.Errorf("got ARN %s, want %s", *out.Role.Arn, r.ARN)
				}
			}
			apply(t, api, set, step.Absent)
			left, err := api.ListRoles(t.Context(), &iam.ListRolesInput{})
			if err != nil {
				t.Fatal(err)
			}
			if len(left.Roles) != 0 {
				t.Errorf("got %d roles left, want none", len(left.Roles))
			}
			if p := plan(t, api, set, step.Absent); len(p.With(step.None)) != len(p.Steps) {
				t.Errorf("got %s, want nothing to do", p.Summary())
			}
		})
	}

	t.Run("it waits for what IAM does not show yet", func(t *testing.T) {
		t.Parallel()
		api, set := newAccount(t, awsidentity.Options{ConsistencyDelay: 300 * time.Millisecond}), generate(t)
		apply(t, api, set, step.Present)
		if p := plan(t, api, set, step.Present); len(p.With(step.Keep)) != len(p.Steps) {
			t.Errorf("got %s, want all unchanged", p.Summary())
		}
	})

	t.Run("it may run twice at the same time", func(t *testing.T) {
		t.Parallel()
		api, set := newAccount(t, awsidentity.Options{}), generate(t)
		p := plan(t, api, set, step.Present)
		var both sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			both.Go(func() {
				errs[i] = step.Runner{Steps: roles.Steps(api, set), Patience: 20 * time.Second}.Apply(t.Context(), p)
			})
		}
		both.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("got %v, want none", err)
		}
	})

	t.Run("it updates a trust when a workspace is added", func(t *testing.T) {
		t.Parallel()
		api := newAccount(t, awsidentity.Options{})
		apply(t, api, generate(t), step.Present)
		more := generate(t, func(c *roles.Config) { c.Workspaces = append(c.Workspaces, "flytesnacks-staging") })
		if got := only(t, plan(t, api, more, step.Present), step.Keep); got.Action != step.Update || got.Name != "role union-demo-userflyterole" {
			t.Fatalf("got %s %s, want the tasks' role updated", got.Action, got.Name)
		}
		apply(t, api, more, step.Present)
		if p := plan(t, api, more, step.Present); len(p.With(step.Keep)) != len(p.Steps) {
			t.Errorf("got %s, want all unchanged", p.Summary())
		}
	})

	const executor = "union-demo-adminflyterole-executor"
	open := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	changes := map[string]struct {
		change func(t *testing.T, api *iam.Client)
		want   step.Action
	}{
		"it puts a policy back that was changed": {func(t *testing.T, api *iam.Client) {
			_, err := api.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String(executor), PolicyName: aws.String(roles.PolicyName), PolicyDocument: &open})
			must(t, err)
		}, step.Update},
		"it puts a policy back that was deleted": {func(t *testing.T, api *iam.Client) {
			_, err := api.DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String(executor), PolicyName: aws.String(roles.PolicyName)})
			must(t, err)
		}, step.Finish},
		"it puts a trust back that was changed": {func(t *testing.T, api *iam.Client) {
			_, err := api.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String(executor),
				PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"sts:AssumeRole"}]}`)})
			must(t, err)
		}, step.Update},
		"it puts the length of sessions back": {func(t *testing.T, api *iam.Client) {
			_, err := api.UpdateRole(t.Context(), &iam.UpdateRoleInput{RoleName: aws.String(executor), MaxSessionDuration: aws.Int32(43200)})
			must(t, err)
		}, step.Update},
		"it puts tags back": {func(t *testing.T, api *iam.Client) {
			_, err := api.UntagRole(t.Context(), &iam.UntagRoleInput{RoleName: aws.String(executor), TagKeys: []string{"union:spec-version"}})
			must(t, err)
		}, step.Finish},
		"it refuses a role that was given more": {func(t *testing.T, api *iam.Client) {
			_, err := api.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: aws.String(executor), PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")})
			must(t, err)
		}, step.Refuse},
		"it refuses a role with another inline policy": {func(t *testing.T, api *iam.Client) {
			_, err := api.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String(executor), PolicyName: aws.String("more"), PolicyDocument: &open})
			must(t, err)
		}, step.Refuse},
		"it refuses a role that lost its owner": {func(t *testing.T, api *iam.Client) {
			_, err := api.UntagRole(t.Context(), &iam.UntagRoleInput{RoleName: aws.String(executor), TagKeys: []string{"union:managed-by"}})
			must(t, err)
		}, step.Refuse},
	}
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, set := newAccount(t, awsidentity.Options{}), generate(t)
			apply(t, api, set, step.Present)
			c.change(t, api)
			got := only(t, plan(t, api, set, step.Present), step.Keep)
			if got.Action != c.want || got.Name != "role "+executor || len(got.Details) == 0 {
				t.Fatalf("got %s %s %q, want %s, and what of it", got.Action, got.Name, got.Details, c.want)
			}
			if c.want == step.Refuse {
				if got.Hint == "" {
					t.Error("got no hint, want the next thing to try")
				}
				return
			}
			apply(t, api, set, step.Present)
			if p := plan(t, api, set, step.Present); len(p.With(step.Keep)) != len(p.Steps) {
				t.Errorf("got %s, want all unchanged", p.Summary())
			}
		})
	}

	t.Run("it puts the boundary on roles that lack it", func(t *testing.T) {
		t.Parallel()
		api := newAccount(t, awsidentity.Options{})
		apply(t, api, generate(t), step.Present)
		out, err := api.CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: aws.String("bound"), PolicyDocument: &open})
		must(t, err)
		bounded := generate(t, func(c *roles.Config) { c.Boundary = *out.Policy.Arn })
		if p := plan(t, api, bounded, step.Present); len(p.With(step.Update)) != 6 {
			t.Fatalf("got %s, want 6 to update", p.Summary())
		}
		apply(t, api, bounded, step.Present)
		role, err := api.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String(executor)})
		must(t, err)
		if b := role.Role.PermissionsBoundary; b == nil || *b.PermissionsBoundaryArn != *out.Policy.Arn {
			t.Errorf("got boundary %v, want %s", b, *out.Policy.Arn)
		}
		if p := plan(t, api, generate(t), step.Present); len(p.With(step.Refuse)) != 6 {
			t.Errorf("got %s, want 6 refused: a boundary is not taken away", p.Summary())
		}
	})

	t.Run("it adopts what is as wanted, where that is asked for", func(t *testing.T) {
		t.Parallel()
		api, set := newAccount(t, awsidentity.Options{}), generate(t)
		role := set.Roles[1]
		_, err := api.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &role.Name, Path: &role.Path, AssumeRolePolicyDocument: aws.String(string(role.Trust))})
		must(t, err)
		if got := plan(t, api, set, step.Present).With(step.Refuse); len(got) != 1 || got[0].Hint == "" {
			t.Fatalf("got %d refused, want 1 with a hint", len(got))
		}
		adopting := generate(t, func(c *roles.Config) { c.Adopt = true })
		if got := plan(t, api, adopting, step.Present).With(step.Adopt); len(got) != 1 {
			t.Fatalf("got %d to adopt, want 1", len(got))
		}
		apply(t, api, adopting, step.Present)
		if p := plan(t, api, set, step.Present); len(p.With(step.Keep)) != len(p.Steps) {
			t.Errorf("got %s, want all unchanged", p.Summary())
		}
	})

	t.Run("it refuses another data plane's shared roles", func(t *testing.T) {
		t.Parallel()
		api := newAccount(t, awsidentity.Options{})
		apply(t, api, generate(t, shared), step.Present)
		other := generate(t, shared, func(c *roles.Config) { c.DataPlane = "other"; c.Adopt = true })
		got := plan(t, api, other, step.Present).With(step.Refuse)
		if len(got) != 2 || !strings.Contains(strings.Join(got[0].Details, " "), "data plane demo") {
			t.Errorf("got %+v, want both refused, naming data plane demo", got)
		}
		if left := plan(t, api, other, step.Absent).With(step.Leave); len(left) != 3 {
			t.Errorf("got %d left when the other is removed, want 3", len(left))
		}
	})

	t.Run("it uses a provider that somebody else made, and never removes it", func(t *testing.T) {
		t.Parallel()
		api, set := newAccount(t, awsidentity.Options{}), generate(t)
		_, err := api.CreateOpenIDConnectProvider(t.Context(), &iam.CreateOpenIDConnectProviderInput{Url: aws.String(issuer), ClientIDList: []string{"sts.amazonaws.com", "other"}})
		must(t, err)
		apply(t, api, set, step.Present)
		apply(t, api, set, step.Absent)
		arn := "arn:aws:iam::" + account + ":oidc-provider/" + strings.TrimPrefix(issuer, "https://")
		if _, err := api.GetOpenIDConnectProvider(t.Context(), &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn}); err != nil {
			t.Errorf("got %v, want it still there", err)
		}
	})

	t.Run("it refuses a provider for another audience, with the command that adds ours", func(t *testing.T) {
		t.Parallel()
		api, set := newAccount(t, awsidentity.Options{}), generate(t)
		_, err := api.CreateOpenIDConnectProvider(t.Context(), &iam.CreateOpenIDConnectProviderInput{Url: aws.String(issuer), ClientIDList: []string{"other"}})
		must(t, err)
		got := plan(t, api, set, step.Present).With(step.Refuse)
		if len(got) != 1 || !strings.Contains(got[0].Hint, "add-client-id-to-open-id-connect-provider") {
			t.Errorf("got %+v, want the provider refused", got)
		}
	})

	t.Run("it leaves roles that others made when it removes", func(t *testing.T) {
		t.Parallel()
		api, set := newAccount(t, awsidentity.Options{}), generate(t)
		apply(t, api, set, step.Present)
		trust := aws.String(string(set.Roles[0].Trust))
		_, err := api.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("mine"), AssumeRolePolicyDocument: trust, Path: aws.String("/union/")})
		must(t, err)
		apply(t, api, set, step.Absent)
		left, err := api.ListRoles(t.Context(), &iam.ListRolesInput{})
		must(t, err)
		if len(left.Roles) != 1 || *left.Roles[0].RoleName != "mine" {
			t.Errorf("got %d roles left, want only the one that is not ours", len(left.Roles))
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKill kills making and removing, loses responses of theirs, and finishes them.
func TestKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	link := filepath.Join(t.TempDir(), "roles")
	must(t, os.Symlink(self, link))
	for _, goal := range []step.Goal{step.Present, step.Absent} {
		t.Run("it finishes a run to "+string(goal), func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{
				Path: link,
				World: func(ctx context.Context) (*killtest.World, error) {
					double, err := awsdouble.Start(ctx, awsdouble.Options{CustomerAccount: account})
					if err != nil {
						return nil, err
					}
					key := double.Accounts().Customer.Credentials
					client := newClient(double.URL(), key.AccessKeyID, key.SecretAccessKey)
					if goal == step.Absent {
						r := step.Runner{Steps: roles.Steps(client, generate(t))}
						p, err := r.Plan(ctx, step.Present)
						if err == nil {
							err = r.Apply(ctx, p)
						}
						if err != nil {
							return nil, err
						}
					}
					return &killtest.World{
						Endpoint: double.URL(),
						Env:      append(double.Env(), "RUN_ROLES=1", "GOAL="+string(goal), "GOMAXPROCS=1", "GOGC=off"),
						State:    func(ctx context.Context) (string, error) { return state(ctx, client) },
						Close:    func() { double.Stop() },
					}, nil
				},
			})
		})
	}
}

// state is all roles and providers of the account as text, without ids and times.
func state(ctx context.Context, api *iam.Client) (string, error) {
	var b strings.Builder
	list, err := api.ListRoles(ctx, &iam.ListRolesInput{})
	if err != nil {
		return "", err
	}
	for _, r := range list.Roles {
		role, err := api.GetRole(ctx, &iam.GetRoleInput{RoleName: r.RoleName})
		if err != nil {
			return "", err
		}
		policies, err := api.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: r.RoleName})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %s %s\n", *role.Role.Arn, decoded(role.Role.AssumeRolePolicyDocument), tagText(role.Role.Tags))
		for _, name := range policies.PolicyNames {
			policy, err := api.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: r.RoleName, PolicyName: &name})
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "  %s %s\n", name, decoded(policy.PolicyDocument))
		}
	}
	providers, err := api.ListOpenIDConnectProviders(ctx, &iam.ListOpenIDConnectProvidersInput{})
	if err != nil {
		return "", err
	}
	for _, p := range providers.OpenIDConnectProviderList {
		one, err := api.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: p.Arn})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %v %s\n", *p.Arn, one.ClientIDList, tagText(one.Tags))
	}
	return b.String(), nil
}

func decoded(document *string) string {
	text, err := url.PathUnescape(aws.ToString(document))
	if err != nil {
		return err.Error()
	}
	return text
}

func tagText(tags []types.Tag) string {
	m := map[string]string{}
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	text, _ := json.Marshal(m)
	return string(text)
}

func TestEveryCallOfTheStepsIsInTheTable(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, op := range operations.Operations() {
		if op.Roles.Has(operations.Vendor) {
			listed = append(listed, operations.Name(op.Call))
		}
	}
	client := reflect.TypeFor[roles.IAM]()
	for i := range client.NumMethod() {
		if call := "iam:" + client.Method(i).Name; !slices.Contains(listed, call) {
			t.Errorf("got %s, which the table does not have", call)
		}
	}
}
