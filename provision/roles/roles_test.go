package roles_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/vendor"
)

const (
	account  = "123456789012"
	region   = "eu-central-1"
	issuer   = "https://oidc.eks.eu-central-1.amazonaws.com/id/5C1D8E2F4A6B7C9D0E1F2A3B4C5D6E7F"
	metadata = "union-demo-metadata-123456789012"
	fast     = "union-demo-fast-registration-123456789012"
)

func config(change ...func(*roles.Config)) roles.Config {
	cfg := roles.Config{
		DataPlane: "demo", Partition: "aws", Account: account, Issuer: issuer,
		Metadata: metadata, FastRegistration: fast, Workspaces: []string{"flytesnacks-development"},
	}
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

func generate(t *testing.T, change ...func(*roles.Config)) *roles.Set {
	t.Helper()
	set, err := roles.Generate(config(change...))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func shared(c *roles.Config) { c.Mode = roles.Shared }

// strict is the boundary, and the name of it.
func strict(t *testing.T) (string, *iampolicy.Document) {
	t.Helper()
	set, err := access.Generate(access.Options{Account: account, Region: region, ExternalID: "5Zq0v3l1x8mTfKcW2hYbNg"})
	if err != nil {
		t.Fatal(err)
	}
	document, err := iampolicy.Parse("boundary", set.Boundary.Document)
	if err != nil {
		t.Fatal(err)
	}
	return operations.BoundaryARN(operations.Place{Partition: "aws", Account: account}, vendor.Default()), document
}

// The published table, written here once more: what each account may do in the
// metadata bucket and in the fast-registration bucket, in the order list, get,
// put, delete, presigned get, presigned put.
var published = map[string][2]string{
	"flyteadmin":                    {"....gp", "....gp"},
	"clustersync-system":            {"......", "......"},
	"executor":                      {"lgpdgp", "lgpdgp"},
	"proxy-system":                  {"lg..g.", "......"},
	"operator-system":               {"lgpdgp", "......"},
	"flytepropeller-system":         {"lgpdgp", "......"},
	"flytepropeller-webhook-system": {"......", "......"},
	"clusterresource-template":      {"lgpdgp", "......"},
}

// cells are the six calls, as IAM is asked about them.
var cells = []struct {
	letter    string
	action    string
	object    bool
	presigned bool
}{
	{"l", "s3:ListBucket", false, false},
	{"g", "s3:GetObject", true, false},
	{"p", "s3:PutObject", true, false},
	{"d", "s3:DeleteObject", true, false},
	{"g", "s3:GetObject", true, true},
	{"p", "s3:PutObject", true, true},
}

// judge asks the engine for all cells of a role; age is that of presigned URLs.
func judge(t *testing.T, role roles.Role, boundary *iampolicy.Document, owner string, age time.Duration) [2]string {
	t.Helper()
	document, err := iampolicy.Parse(role.Name, role.Policy)
	if err != nil {
		t.Fatal(err)
	}
	e, err := iampolicy.Compile(iampolicy.Policies{Identity: []*iampolicy.Document{document}, Boundary: boundary})
	if err != nil {
		t.Fatal(err)
	}
	var got [2]string
	for i, bucket := range []string{metadata, fast} {
		for _, c := range cells {
			r := iampolicy.Request{
				Principal: iampolicy.Principal{Type: iampolicy.AWS, Account: account, RoleARN: role.ARN, ARN: "arn:aws:sts::" + account + ":assumed-role/" + role.Name + "/s"},
				Action:    c.action, Resource: "arn:aws:s3:::" + bucket, Context: iampolicy.Context{},
			}
			if c.object {
				r.Resource += "/run/output.pb"
			}
			r.Context.Set("aws:ResourceAccount", owner)
			r.Context.Set("aws:FederatedProvider", "arn:aws:iam::"+account+":oidc-provider/"+strings.TrimPrefix(issuer, "https://"))
			r.Context.Set("s3:authType", "REST-HEADER")
			if c.presigned {
				r.Context.Set("s3:authType", "REST-QUERY-STRING")
				r.Context.Set("s3:signatureAge", fmt.Sprint(age.Milliseconds()))
			}
			letter := "."
			if e.Decide(&r) == iampolicy.Allowed {
				letter = c.letter
			}
			got[i] += letter
		}
	}
	return got
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	boundaryARN, boundary := strict(t)
	for _, bound := range []struct {
		name     string
		arn      string
		document *iampolicy.Document
	}{{"without a boundary", "", nil}, {"under the boundary of strict", boundaryARN, boundary}} {
		for name, want := range published {
			t.Run("it gives "+name+" what is published, "+bound.name, func(t *testing.T) {
				t.Parallel()
				set := generate(t, func(c *roles.Config) { c.Boundary = bound.arn })
				role, ok := set.RoleOf(name)
				if !ok {
					if want != [2]string{"......", "......"} || !slices.Contains(set.Without, name) {
						t.Errorf("got no role, want rights %v", want)
					}
					return
				}
				if role.Boundary != bound.arn {
					t.Errorf("got boundary %q, want %q", role.Boundary, bound.arn)
				}
				if got := judge(t, role, bound.document, account, time.Minute); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}

	t.Run("it refuses URLs that are too old, for flyteadmin only", func(t *testing.T) {
		t.Parallel()
		set := generate(t)
		admin, _ := set.RoleOf("flyteadmin")
		if got := judge(t, admin, nil, account, 61*time.Minute); got != [2]string{"......", "......"} {
			t.Errorf("got %v for URLs of 61 minutes, want nothing", got)
		}
		young := generate(t, func(c *roles.Config) { c.SignatureAge = time.Minute })
		admin, _ = young.RoleOf("flyteadmin")
		if got := judge(t, admin, nil, account, 61*time.Second); got != [2]string{"......", "......"} {
			t.Errorf("got %v for URLs of 61 seconds, want nothing", got)
		}
	})

	t.Run("it gives nothing in a bucket that is another account's", func(t *testing.T) {
		t.Parallel()
		for _, role := range generate(t).Roles {
			if got := judge(t, role, nil, "999988887777", time.Minute); got != [2]string{"......", "......"} {
				t.Errorf("got %v for %s, want nothing", got, role.Name)
			}
		}
	})

	t.Run("it takes exactly its cells away with a statement", func(t *testing.T) {
		t.Parallel()
		for _, role := range generate(t).Roles {
			whole, err := iampolicy.Parse(role.Name, role.Policy)
			if err != nil {
				t.Fatal(err)
			}
			before := judge(t, role, nil, account, time.Minute)
			for i, taken := range whole.Statements {
				rest := *whole
				rest.Statements = slices.Delete(slices.Clone(whole.Statements), i, i+1)
				got := [2]string{"......", "......"} // of no statement at all, which is no document
				if len(rest.Statements) > 0 {
					without := role
					without.Policy = rest.Text()
					got = judge(t, without, nil, account, time.Minute)
				}
				for b, bucket := range []string{metadata, fast} {
					for c, cell := range cells {
						resource := "arn:aws:s3:::" + bucket
						if cell.object {
							resource += "/*"
						}
						gone := slices.Contains(taken.Action, cell.action) && slices.Contains(taken.Resource, resource)
						want := before[b][c]
						if gone {
							want = '.'
						}
						if got[b][c] != want {
							t.Errorf("%s without statement %d: got %q for %s on %s, want %q", role.Name, i, got[b][c], cell.action, bucket, want)
						}
					}
				}
			}
		}
	})

	t.Run("it names roles by data plane and account", func(t *testing.T) {
		t.Parallel()
		var got []string
		for _, r := range generate(t).Roles {
			got = append(got, r.ARN)
		}
		want := []string{
			"arn:aws:iam::123456789012:role/union/union-demo-adminflyterole-flyteadmin",
			"arn:aws:iam::123456789012:role/union/union-demo-adminflyterole-executor",
			"arn:aws:iam::123456789012:role/union/union-demo-adminflyterole-proxy-system",
			"arn:aws:iam::123456789012:role/union/union-demo-adminflyterole-operator-system",
			"arn:aws:iam::123456789012:role/union/union-demo-adminflyterole-flytepropeller-system",
			"arn:aws:iam::123456789012:role/union/union-demo-userflyterole",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("it has documents that the linter has nothing against", func(t *testing.T) {
		t.Parallel()
		for _, set := range []*roles.Set{generate(t), generate(t, shared)} {
			for _, r := range set.Roles {
				for _, text := range [][]byte{r.Trust, r.Policy} {
					findings, err := iampolicy.Lint(r.Name, text, iampolicy.LintOptions{})
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range findings {
						t.Errorf("%s: got finding %v, want none", r.Name, f)
					}
				}
			}
		}
	})

	t.Run("it keeps documents as small as they can be", func(t *testing.T) {
		t.Parallel()
		for _, set := range []*roles.Set{generate(t), generate(t, shared), generate(t, func(c *roles.Config) { c.Workspaces, c.Domains = nil, []string{"development", "staging", "production"} })} {
			for _, r := range set.Roles {
				t.Logf("%-18s %-50s trust %4d of %d, policy %4d of %d", set.Mode, r.Name, r.TrustSize(), iampolicy.TrustLimit, r.PolicySize(), iampolicy.InlineLimit)
				if r.TrustSize() > 900 || r.PolicySize() > 700 {
					t.Errorf("got trust %d and policy %d for %s, want at most 900 and 700", r.TrustSize(), r.PolicySize(), r.Name)
				}
			}
		}
	})
}

// trusted asks whether a token with these claims may take a role on.
func trusted(t *testing.T, role roles.Role, provider, aud, sub string) bool {
	t.Helper()
	trust, err := iampolicy.Parse("trust", role.Trust)
	if err != nil {
		t.Fatal(err)
	}
	e, err := iampolicy.Compile(iampolicy.Policies{Resource: trust})
	if err != nil {
		t.Fatal(err)
	}
	provider = strings.TrimPrefix(provider, "https://")
	r := iampolicy.Request{
		Principal: iampolicy.Principal{Type: iampolicy.Federated, ARN: "arn:aws:iam::" + account + ":oidc-provider/" + provider},
		Action:    "sts:AssumeRoleWithWebIdentity", Resource: role.ARN, ResourceAccount: account, Context: iampolicy.Context{},
	}
	r.Context.Set(provider+":aud", aud)
	r.Context.Set(provider+":sub", sub)
	return e.Decide(&r) == iampolicy.Allowed
}

func TestTrust(t *testing.T) {
	t.Parallel()
	set := generate(t)
	executor, _ := set.RoleOf("executor")
	task, _ := set.RoleOf("clusterresource-template")
	const right = "system:serviceaccount:union:executor"
	controlPlane := "https://oidc.eks.us-west-2.amazonaws.com/id/CP"
	apart := generate(t, func(c *roles.Config) { c.ControlPlaneIssuer = controlPlane })
	admin, _ := apart.RoleOf("flyteadmin")
	both := generate(t, shared, func(c *roles.Config) { c.ControlPlaneIssuer = controlPlane }).Roles[0]
	domains := generate(t, func(c *roles.Config) { c.Workspaces, c.Domains = nil, []string{"development", "staging", "production"} })
	many, _ := domains.RoleOf("clusterresource-template")
	for _, c := range []struct {
		name               string
		role               roles.Role
		provider, aud, sub string
		want               bool
	}{
		{"it lets the account itself in", executor, issuer, "sts.amazonaws.com", right, true},
		{"it refuses another account of the namespace", executor, issuer, "sts.amazonaws.com", "system:serviceaccount:union:proxy-system", false},
		{"it refuses the account's name in another namespace", executor, issuer, "sts.amazonaws.com", "system:serviceaccount:default:executor", false},
		{"it refuses a longer name", executor, issuer, "sts.amazonaws.com", right + "2", false},
		{"it refuses another audience", executor, issuer, "kubernetes.default.svc", right, false},
		{"it refuses another cluster", executor, issuer + "0", "sts.amazonaws.com", right, false},
		{"it refuses a star as the subject", executor, issuer, "sts.amazonaws.com", "system:serviceaccount:*", false},
		{"it lets tasks in by the namespace's default account", task, issuer, "sts.amazonaws.com", "system:serviceaccount:flytesnacks-development:default", true},
		{"it refuses the default account of another namespace", task, issuer, "sts.amazonaws.com", "system:serviceaccount:kube-system:default", false},
		{"it refuses another account of the workspace", task, issuer, "sts.amazonaws.com", "system:serviceaccount:flytesnacks-development:executor", false},
		{"it takes flyteadmin from the control plane's cluster", admin, controlPlane, "sts.amazonaws.com", "system:serviceaccount:union:flyteadmin", true},
		{"it refuses flyteadmin from the data plane's cluster then", admin, issuer, "sts.amazonaws.com", "system:serviceaccount:union:flyteadmin", false},
		{"it trusts each issuer of a shared role for its own", both, controlPlane, "sts.amazonaws.com", right, false},
		{"it lets any project's namespace of a domain in", many, issuer, "sts.amazonaws.com", "system:serviceaccount:new-project-staging:default", true},
		{"it refuses a namespace of no domain", many, issuer, "sts.amazonaws.com", "system:serviceaccount:kube-system:default", false},
		{"it refuses another account in one", many, issuer, "sts.amazonaws.com", "system:serviceaccount:flytesnacks-development:executor", false},
		{"it refuses another audience with domains too", many, issuer, "sts.amazonaws.co", "system:serviceaccount:flytesnacks-development:default", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := trusted(t, c.role, c.provider, c.aud, c.sub); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestShared(t *testing.T) {
	t.Parallel()
	set := generate(t, shared)
	t.Run("it keeps the two published names", func(t *testing.T) {
		t.Parallel()
		if len(set.Roles) != 2 || set.Roles[0].Name != "adminflyterole" || set.Roles[1].Name != "userflyterole" {
			t.Errorf("got %d roles, want adminflyterole and userflyterole", len(set.Roles))
		}
		if n := len(set.Roles[0].Accounts); n != 7 {
			t.Errorf("got %d accounts under adminflyterole, want 7", n)
		}
	})
	t.Run("it lists exactly what is granted beyond the table", func(t *testing.T) {
		t.Parallel()
		// Worked out here by cells, there by rights.
		want := []string{}
		for _, a := range roles.Table() {
			role, _ := set.RoleOf(a.Name)
			has := judge(t, role, nil, account, time.Minute)
			for i, bucket := range []roles.Bucket{roles.Metadata, roles.FastRegistration} {
				if has[i] != published[a.Name][i] {
					want = append(want, a.Name+" "+string(bucket))
				}
			}
		}
		got := []string{}
		for _, o := range set.OverGranted {
			got = append(got, o.Account+" "+string(o.Bucket))
			if o.Table == o.Shared {
				t.Errorf("got %v, want a difference", o)
			}
		}
		if !slices.Equal(got, want) || len(got) != 10 {
			t.Errorf("got %q, want %q, 10 in all", got, want)
		}
	})
	t.Run("it over-grants nothing with a role for each", func(t *testing.T) {
		t.Parallel()
		if got := generate(t).OverGranted; len(got) != 0 {
			t.Errorf("got %v, want none", got)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	namespaces := func(n int) func(*roles.Config) {
		return func(c *roles.Config) {
			c.Workspaces = nil
			for i := range n {
				c.Workspaces = append(c.Workspaces, fmt.Sprintf("workspace-namespace-%02d", i)) // 22 characters
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*roles.Config)
		says   string // "" where it is fine
	}{
		{"it takes 29 namespaces", namespaces(29), ""},
		{"it refuses 30 namespaces, with the numbers", namespaces(30), "and IAM takes 2048"},
		{"it takes a data plane of 21 characters", func(c *roles.Config) { c.DataPlane = strings.Repeat("d", 21) }, ""},
		{"it refuses one of 22, with how long it may be", func(c *roles.Config) { c.DataPlane = strings.Repeat("d", 22) }, "would have 65 characters"},
		{"it refuses a data plane whose roles would be locked", func(c *roles.Config) { c.DataPlane = "ai-admin" }, "start as the access roles do"},
		{"it refuses a data plane that is no name", func(c *roles.Config) { c.DataPlane = "Demo" }, `"Demo"`},
		{"it refuses no data plane", func(c *roles.Config) { c.DataPlane = "" }, `""`},
		{"it refuses an account that is none", func(c *roles.Config) { c.Account = "12345" }, `"12345"`},
		{"it refuses a partition that is none", func(c *roles.Config) { c.Partition = "aws-eu" }, `"aws-eu"`},
		{"it refuses an issuer with a port", func(c *roles.Config) { c.Issuer = "https://127.0.0.1:6443" }, "127.0.0.1:6443"},
		{"it refuses no issuer", func(c *roles.Config) { c.Issuer = "" }, `issuer ""`},
		{"it refuses a bucket that is none", func(c *roles.Config) { c.Metadata = "A_B" }, `"A_B"`},
		{"it refuses a bucket with a wildcard", func(c *roles.Config) { c.FastRegistration = "union-*" }, `"union-*"`},
		{"it refuses no namespace", func(c *roles.Config) { c.Workspaces = nil }, "no workspace namespace"},
		{"it refuses a namespace with a wildcard", func(c *roles.Config) { c.Workspaces = []string{"*"} }, `"*"`},
		{"it refuses a namespace that is named twice", func(c *roles.Config) { c.Workspaces = []string{"a", "a"} }, "named twice"},
		{"it refuses a domain that a system's namespace ends with", func(c *roles.Config) { c.Domains = []string{"system"} }, "kube-system"},
		{"it refuses a domain that is named twice", func(c *roles.Config) { c.Domains = []string{"a", "a"} }, "named twice"},
		{"it refuses a domain with a wildcard", func(c *roles.Config) { c.Domains = []string{"*"} }, `"*"`},
		{"it refuses a mode that is none", func(c *roles.Config) { c.Mode = "both" }, `"both"`},
		{"it refuses signatures that last for ever", func(c *roles.Config) { c.SignatureAge = 8 * 24 * time.Hour }, "192h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := roles.Generate(config(c.change))
			var said *usererr.Error
			switch {
			case c.says == "" && err != nil:
				t.Errorf("got %v, want none", err)
			case c.says != "" && (!errors.As(err, &said) || !strings.Contains(err.Error(), c.says) || said.Hint == ""):
				t.Errorf("got %v, want a sentence with %s, and a hint", err, c.says)
			}
		})
	}
}
