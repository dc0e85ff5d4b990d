package access

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/vendor"
)

const (
	account  = "123456789012"
	stranger = "999999999999"
)

// strictSet is a strict set with all switches on, and its parts to decide with.
type strictSet struct {
	*target
	set        *Set
	table      []operations.Operation
	names      operations.Names
	boundary   *iampolicy.Document
	evaluators map[operations.Roles]*iampolicy.Evaluator
	roles      map[operations.Roles]Role
}

func newStrictSet(t *testing.T, region string) *strictSet {
	t.Helper()
	target, err := Options{Account: account, Region: region, PrivateEndpoint: true, DeletePermissions: true, ExternalID: "a-good-external-id"}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	set, err := target.strict()
	if err != nil {
		t.Fatal(err)
	}
	s := &strictSet{
		target: target, set: set, table: operations.Operations(),
		names:      operations.StrictNames(target.place(), target.Vendor),
		evaluators: map[operations.Roles]*iampolicy.Evaluator{},
		roles:      map[operations.Roles]Role{},
	}
	if s.boundary, err = iampolicy.Parse("boundary", set.Boundary.Document); err != nil {
		t.Fatal(err)
	}
	for _, r := range strictRoles {
		i := slices.IndexFunc(set.Roles, func(role Role) bool { return role.Name == target.Vendor.RoleName+r.suffix })
		if i < 0 {
			t.Fatalf("got no role %s, want one", target.Vendor.RoleName+r.suffix)
		}
		s.roles[r.who] = set.Roles[i]
		if s.evaluators[r.who], err = evaluator(set.Roles[i]); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// may decides one action on one resource for a role; context is key, value, …
func (s *strictSet) may(who operations.Roles, action, resource string, context ...string) iampolicy.Decision {
	c := iampolicy.Context{}
	for i := 0; i < len(context); i += 2 {
		c.Set(context[i], context[i+1])
	}
	return s.evaluators[who].Decide(&iampolicy.Request{Principal: s.session(s.roles[who]), Action: action, Resource: resource, Context: c})
}

// call decides a row of the table: every action on every resource that its grants
// name for the role, with the context that the grant's conditions ask for. Where a
// call has several grants for one pair, as for a security group that is ours or
// the cluster's, each alone must do.
func (s *strictSet) call(who operations.Roles, op operations.Operation) error {
	for _, g := range op.Grants {
		context := iampolicy.Context{}
		for _, c := range g.When {
			c = s.names.Condition(c)
			switch {
			case c.Operator == "Null" && c.Values[0] == "true": // the key stays away
			case c.Operator == "Null":
				context.Set(c.Key, "Name")
			case strings.HasPrefix(c.Values[0], "${"):
				context.Set(c.Key, "the-session")
				context.Set("aws:userid", "the-session")
			default:
				context.Set(c.Key, strings.ReplaceAll(c.Values[0], "*", "acme"))
			}
		}
		for _, action := range g.Actions {
			for _, resource := range g.Resources {
				r := &iampolicy.Request{Principal: s.session(s.roles[who]), Action: action, Resource: s.names.Example(resource), Context: context}
				if got := s.evaluators[who].Decide(r); got != iampolicy.Allowed {
					return fmt.Errorf("%s on %s with %v: %v", action, r.Resource, context, got)
				}
			}
		}
	}
	return nil
}

var vendorRoles = []operations.Roles{operations.Provision, operations.Operate, operations.Observe, operations.Teardown, operations.BreakGlass}

func TestStrictAllowsEveryCallToTheRolesThatMakeIt(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		calls := 0
		for _, op := range s.table {
			for _, who := range vendorRoles {
				if op.Roles.Has(who) {
					calls++
					if err := s.call(who, op); err != nil {
						t.Errorf("%s: %s as %s: got %v, want allowed", region, op.Call, who, err)
					}
				}
			}
		}
		t.Logf("%s: %d calls allowed", region, calls)
	}
}

// A call that a role does not make is refused to it, unless all of its rights are
// also those of a call that the role does make.
func TestStrictRefusesEveryCallToTheRolesThatDoNotMakeIt(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		refused := 0
		for _, who := range vendorRoles {
			var has []pair
			for _, op := range s.table {
				if op.Roles.Has(who) {
					has = append(has, s.pairsOf(op)...)
				}
			}
			covered := func(p pair) bool {
				return slices.ContainsFunc(has, func(h pair) bool { return h.action == p.action && iampolicy.Covers(h.resource, p.resource) })
			}
			for _, op := range s.table {
				if op.Roles.Has(who) || !byVendor(op) {
					continue
				}
				shared := !slices.ContainsFunc(s.pairsOf(op), func(p pair) bool { return !covered(p) })
				err := s.call(who, op)
				if err == nil && !shared {
					t.Errorf("%s: %s as %s: got allowed, want refused", region, op.Call, who)
				}
				if err != nil {
					refused++
				}
			}
		}
		t.Logf("%s: %d calls refused", region, refused)
	}
}

// pairsOf are the actions and resources of a row, without conditions.
func (s *strictSet) pairsOf(op operations.Operation) []pair {
	var pairs []pair
	for _, g := range op.Grants {
		for _, action := range g.Actions {
			for _, resource := range g.Resources {
				pairs = append(pairs, pair{action: action, resource: s.names.Pattern(resource)})
			}
		}
	}
	return pairs
}

// A grant that no call needs is reported.
func TestStrictGrantsNothingThatNoCallNeeds(t *testing.T) {
	t.Parallel()
	s := newStrictSet(t, "eu-central-1")
	for _, r := range strictRoles {
		needed := map[string]bool{}
		for _, op := range s.table {
			if op.Roles.Has(r.who) {
				for _, g := range op.Grants {
					for _, action := range g.Actions {
						for _, resource := range g.Resources {
							needed[action+" "+s.names.Pattern(resource)] = true
						}
					}
				}
			}
		}
		for _, p := range s.roles[r.who].Policies {
			d, err := iampolicy.Parse(p.Name, p.Document)
			if err != nil {
				t.Fatal(err)
			}
			for _, st := range d.Statements {
				if st.Effect != iampolicy.Allow {
					continue
				}
				for _, action := range st.Action {
					for _, resource := range st.Resource {
						if !needed[action+" "+resource] {
							t.Errorf("%s: got %s on %s, which no call needs", p.Name, action, resource)
						}
					}
				}
			}
		}
	}
}

// A condition on a key that IAM does not fill in denies without a word, and a deny
// on an action that does not exist protects nothing.
func TestStrictNamesOnlyWhatExists(t *testing.T) {
	t.Parallel()
	reference := sar.Default()
	s := newStrictSet(t, "eu-central-1")
	documents := []*iampolicy.Document{s.boundary}
	for _, r := range s.set.Roles {
		for _, p := range r.Policies {
			d, err := iampolicy.Parse(p.Name, p.Document)
			if err != nil {
				t.Fatal(err)
			}
			documents = append(documents, d)
		}
	}
	for _, d := range documents {
		for i, st := range d.Statements {
			for _, pattern := range slices.Concat(st.Action, st.NotAction) {
				actions := reference.Expand(pattern)
				if len(actions) == 0 {
					t.Errorf("%s statement %d: got action %s, want one that exists", d.Name, i, pattern)
				}
				for _, c := range st.Condition {
					known := slices.ContainsFunc(actions, func(a *sar.Action) bool { _, ok := reference.ActionKey(a, c.Key); return ok })
					if _, global := reference.GlobalKey(c.Key); !global && !known {
						t.Errorf("%s statement %d: got condition %s, which IAM does not fill in for %s", d.Name, i, c.Key, pattern)
					}
				}
			}
		}
	}
}

func TestStrictTrustsOneRoleOfTheVendorWithTheExternalID(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		vendorAccount := s.vendorAccount
		controlPlane := "arn:" + s.region.Partition + ":iam::" + vendorAccount + ":role/biplane-controlplane"
		for _, tc := range []struct {
			name       string
			role       string
			account    string
			externalID string
			want       iampolicy.Decision
		}{
			{"lets the control plane in with the external ID", controlPlane, vendorAccount, "a-good-external-id", iampolicy.Allowed},
			{"refuses another external ID", controlPlane, vendorAccount, "another-external-id", iampolicy.ImplicitDeny},
			{"refuses no external ID", controlPlane, vendorAccount, "", iampolicy.ImplicitDeny},
			{"refuses another role of the vendor", strings.Replace(controlPlane, "biplane-controlplane", "developer", 1), vendorAccount, "a-good-external-id", iampolicy.ImplicitDeny},
			{"refuses a role with the name below a path", strings.Replace(controlPlane, "role/", "role/x/", 1), vendorAccount, "a-good-external-id", iampolicy.ImplicitDeny},
			{"refuses another account's role of the same name", strings.Replace(controlPlane, vendorAccount, stranger, 1), stranger, "a-good-external-id", iampolicy.ImplicitDeny},
		} {
			for _, who := range vendorRoles {
				want := tc.want
				if who == operations.BreakGlass {
					want = iampolicy.ExplicitDeny // it is off
				}
				trust, err := iampolicy.Parse("trust", s.roles[who].Trust.Document)
				if err != nil {
					t.Fatal(err)
				}
				caller, err := iampolicy.Parse("caller", []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`))
				if err != nil {
					t.Fatal(err)
				}
				e, err := iampolicy.Compile(iampolicy.Policies{Identity: []*iampolicy.Document{caller}, Resource: trust})
				if err != nil {
					t.Fatal(err)
				}
				context := iampolicy.Context{}
				context.Set("aws:PrincipalArn", tc.role)
				context.Set("aws:PrincipalAccount", tc.account)
				if tc.externalID != "" {
					context.Set("sts:ExternalId", tc.externalID)
				}
				got := e.Decide(&iampolicy.Request{
					Principal: iampolicy.Principal{Type: iampolicy.AWS, Account: tc.account, RoleARN: tc.role,
						ARN: "arn:" + s.region.Partition + ":sts::" + tc.account + ":assumed-role/x/session"},
					Action: "sts:AssumeRole", Resource: s.session(s.roles[who]).RoleARN, ResourceAccount: account, Context: context,
				})
				if got != want {
					t.Errorf("%s: the trust of %s %s: got %v, want %v", region, who, tc.name, got, want)
				}
			}
		}
	}
}

func TestStrictHasTheTeardownRoleOnlyWithDeletePermissions(t *testing.T) {
	t.Parallel()
	for _, with := range []bool{false, true} {
		set, err := Generate(Options{Account: account, Region: "eu-central-1", DeletePermissions: with})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(set.Roles, func(r Role) bool { return strings.HasSuffix(r.Name, "-teardown") })
		if got != with {
			t.Errorf("delete permissions %v: got teardown role %v", with, got)
		}
	}
}

// Every set fits, in every region, with every switch: a document has a tenth to
// spare, so that a name may grow or a call may come without a new layout.
func TestEverySetFitsInEveryRegion(t *testing.T) {
	t.Parallel()
	sets, documents, largest := 0, 0, 0
	check := func(region, what string, size, limit int, text []byte) {
		t.Helper()
		documents++
		if size > limit {
			t.Errorf("%s: %s has %d characters, want at most %d", region, what, size, limit)
		}
		if got, err := iampolicy.Size(text); err != nil || got != size {
			t.Errorf("%s: %s: got size %d (%v), want %d", region, what, size, err, got)
		}
	}
	for _, region := range Regions() {
		for _, o := range []Options{
			{Profile: Strict}, {Profile: Strict, PrivateEndpoint: true}, {Profile: Strict, DeletePermissions: true}, {Profile: Strict, PrivateEndpoint: true, DeletePermissions: true},
			{Profile: Compat}, {Profile: Compat, PrivateEndpoint: true},
		} {
			o.Account, o.Region, o.ExternalID = account, region.Name, "a-good-external-id-of24-"
			set, err := Generate(o)
			if err != nil {
				t.Fatal(err)
			}
			sets++
			limit := iampolicy.ManagedLimit
			if o.Profile == Strict {
				limit = iampolicy.ManagedLimit * 9 / 10
				largest = max(largest, set.Boundary.Size)
				check(region.Name, set.Boundary.Name, set.Boundary.Size, limit, set.Boundary.Document)
			}
			for _, r := range set.Roles {
				check(region.Name, r.Name+" trust", r.Trust.Size, 2048, r.Trust.Document)
				if len(r.Name) > 64 {
					t.Errorf("%s: got role %s of %d characters, want at most 64", region.Name, r.Name, len(r.Name))
				}
				managed := len(r.Attached)
				for _, p := range r.Policies {
					if p.Kind == "managed" {
						managed++
					}
					if o.Profile == Strict {
						largest = max(largest, p.Size)
					}
					check(region.Name, p.Name, p.Size, limit, p.Document)
				}
				if managed > 10 {
					t.Errorf("%s: got %d policies on %s, want at most 10", region.Name, managed, r.Name)
				}
			}
		}
	}
	t.Logf("%d sets, %d documents; the largest of strict has %d characters", sets, documents, largest)
}

var update = flag.Bool("update", false, "write the golden files anew")

// The documents of one region, as a reviewer reads them: every change shows.
func TestStrictDocumentsAreThoseInTestdata(t *testing.T) {
	t.Parallel()
	s := newStrictSet(t, "eu-central-1")
	got := map[string][]byte{"boundary.json": s.set.Boundary.Document}
	for _, r := range s.set.Roles {
		got[r.Name+".trust.json"] = r.Trust.Document
		for _, p := range r.Policies {
			got[p.Name+".json"] = p.Document
		}
	}
	dir := filepath.Join("testdata", "strict")
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range got {
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
		d, err := iampolicy.Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		text = append(d.Indented(), '\n')
		if *update {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v; run 'go test ./provision/access -update' and read the difference", err)
			continue
		}
		if string(want) != string(text) {
			t.Errorf("%s is not what testdata has; run 'go test ./provision/access -update' and read the difference", name)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(got) {
		t.Errorf("got %d documents, want %d as in %s", len(got), len(files), dir)
	}
}

// other is a vendor that shares no name with the default.
func other() *vendor.Profile {
	return &vendor.Profile{
		APIVersion: vendor.APIVersion, Kind: vendor.Kind, Product: "Zephyr & Sons",
		Accounts:         map[string]string{"aws": "111122223333", "aws-us-gov": "111122224444", "aws-cn": "111122225555"},
		ControlPlaneRole: "team/zephyr-control", RoleName: "zephyr-access", Path: "/zephyr/", PolicyName: "ZephyrAccess", StackName: "ZephyrStack", TemplateURL: "https://zephyr-public.s3.amazonaws.com/templates/",
		TagPrefix: "zephyr/", Prefix: "zeph-", CompatPrefix: "oldz-", EndpointPrefix: "zeph-endpoint-", ProxyLogGroup: "/ecs/zephyr/front-",
		Repository: "zephyr/images/", QueuePrefix: "Scaler", AdminRole: "zadmin", UserRole: "zuser", Namespace: "zephyr",
	}
}

func TestNoNameOfTheDefaultVendorIsLeftUnderAnother(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Profile: Strict, PrivateEndpoint: true, DeletePermissions: true}, {Profile: Compat, PrivateEndpoint: true}, {Profile: Seed, PrivateEndpoint: true},
	} {
		for _, region := range []string{"eu-central-1", "us-gov-east-1", "cn-north-1"} {
			o.Account, o.Region, o.Vendor = account, region, other()
			set, err := Generate(o)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(set)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"union", "opta-", "karpenter\"", "Karpenter*", "479331373192", "adminflyterole", "userflyterole", "biplane-controlplane"} {
				if strings.Contains(strings.ToLower(string(text)), strings.ToLower(name)) {
					t.Errorf("%s %s: got %q in the set, want no name of the default vendor", o.Profile, region, name)
				}
			}
			if !strings.Contains(string(text), "zephyr") {
				t.Errorf("%s %s: got no name of the vendor in the set", o.Profile, region)
			}
		}
	}
}
