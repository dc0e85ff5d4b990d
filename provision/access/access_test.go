package access

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/vendor"
)

func TestGenerateRefusesWhatCannotBeUsed(t *testing.T) {
	t.Parallel()
	good := Options{Account: account, Region: "eu-central-1", ExternalID: "12345678"}
	for _, tc := range []struct {
		name     string
		change   func(*Options)
		sentence string // a part of it: the field and the value
		hint     string
	}{
		{"refuses a policy that does not exist", func(o *Options) { o.Profile = "stict" }, `no policy "stict"`, "strict"},
		{"refuses an account of eleven digits", func(o *Options) { o.Account = "12345678901" }, `account "12345678901"`, "twelve digits"},
		{"refuses an account with a letter", func(o *Options) { o.Account = "12345678901a" }, `account "12345678901a"`, "twelve digits"},
		{"refuses no account", func(o *Options) { o.Account = "" }, `account ""`, "twelve digits"},
		{"refuses a region that does not exist", func(o *Options) { o.Region = "eu-centrl-1" }, `region "eu-centrl-1"`, "eu-central-1"},
		{"refuses a region of a partition that is not served", func(o *Options) { o.Region = "us-iso-east-1" }, `region "us-iso-east-1"`, "us-"},
		{"refuses no region", func(o *Options) { o.Region = "" }, `region ""`, ""},
		{"refuses an external ID of 7 characters", func(o *Options) { o.ExternalID = "1234567" }, `"1234567"`, "new-external-id"},
		{"refuses an external ID of 25 characters", func(o *Options) { o.ExternalID = strings.Repeat("x", 25) }, "25 characters", "new-external-id"},
		{"refuses an external ID with a space", func(o *Options) { o.ExternalID = "1234 5678" }, `"1234 5678"`, "new-external-id"},
		{"refuses an external ID with a line end", func(o *Options) { o.ExternalID = "12345678\n" }, `"12345678\n"`, "new-external-id"},
		{"refuses the placeholder as an external ID", func(o *Options) { o.ExternalID = PlaceholderExternalID }, "EXTERNAL-ID", "new-external-id"},
		{"refuses delete permissions under compat", func(o *Options) { o.Profile, o.DeletePermissions = Compat, true }, "compat", "strict"},
		{"refuses delete permissions under seed", func(o *Options) { o.Profile, o.DeletePermissions = Seed, true }, "seed", "strict"},
		{"refuses a partition without a vendor account", func(o *Options) {
			o.Region, o.Vendor = "cn-north-1", vendor.Default()
			delete(o.Vendor.Accounts, "aws-cn")
		}, "aws-cn", "accounts.aws-cn"},
		{"refuses a vendor profile that is not valid", func(o *Options) {
			o.Vendor = vendor.Default()
			o.Vendor.RoleName = strings.Repeat("r", 53)
		}, "roleName", "52"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := good
			tc.change(&o)
			_, err := Generate(o)
			var said *usererr.Error
			if !errors.As(err, &said) {
				t.Fatalf("got %v, want a *usererr.Error", err)
			}
			if !strings.Contains(said.Error(), tc.sentence) || !strings.Contains(said.Hint, tc.hint) || said.Hint == "" {
				t.Errorf("got %q, hint %q; want %q and %q in them", said.Error(), said.Hint, tc.sentence, tc.hint)
			}
			if said.Kind.ExitStatus() != 2 {
				t.Errorf("got exit status %d, want 2", said.Kind.ExitStatus())
			}
		})
	}
	for _, id := range []string{"12345678", strings.Repeat("x", 24), "a+b=c,d.e@f:g/h-i_j"} {
		o := good
		o.ExternalID = id
		if _, err := Generate(o); err != nil {
			t.Errorf("%q: got %v, want it taken", id, err)
		}
	}
}

// The longest names that a vendor profile may have.
func longest() *vendor.Profile {
	p := vendor.Default()
	p.Path = "/" + strings.Repeat("p", 62) + "/"
	p.TagPrefix = strings.Repeat("t", 63) + ":"
	p.Prefix, p.EndpointPrefix, p.QueuePrefix = strings.Repeat("u", 23)+"-", strings.Repeat("e", 23)+"-", strings.Repeat("q", 32)
	p.Repository, p.ProxyLogGroup = strings.Repeat("r", 63)+"/", "/"+strings.Repeat("l", 62)+"-"
	p.RoleName, p.PolicyName, p.ControlPlaneRole = strings.Repeat("R", 52), strings.Repeat("P", 80), strings.Repeat("c", 64)
	return p
}

func TestASetThatDoesNotFitIsRefusedBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	for _, region := range Regions() {
		o := Options{Account: account, Region: region.Name, Vendor: longest(), PrivateEndpoint: true, DeletePermissions: true}
		set, err := Generate(o)
		var said *usererr.Error
		switch {
		case err != nil && !errors.As(err, &said):
			t.Errorf("%s: got %v, want a *usererr.Error", region.Name, err)
		case err == nil && fits(set) != nil:
			t.Errorf("%s: got a set that does not fit, want it refused", region.Name)
		}
	}
	set, err := Generate(Options{Account: account, Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, grow := range map[string]func(*Set){
		"a boundary": func(s *Set) { s.Boundary.Size = 6145 },
		"a policy":   func(s *Set) { s.Roles[0].Policies[0].Size = 6145 },
		"a trust":    func(s *Set) { s.Roles[0].Trust.Size = 2049 },
	} {
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var large Set
		if err := json.Unmarshal(text, &large); err != nil {
			t.Fatal(err)
		}
		grow(&large)
		if err := fits(&large); err == nil {
			t.Errorf("%s over its limit: got no error, want one", name)
		}
	}
}

// Other programs read this JSON.
func TestTheSetsJSONIsAContract(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		profile  ProfileName
		boundary bool
	}{{Strict, true}, {Compat, false}, {Seed, false}} {
		set, err := Generate(Options{Profile: tc.profile, Account: account, Region: "eu-central-1", PrivateEndpoint: true})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{"profile": string(tc.profile), "partition": "aws", "account": account, "region": "eu-central-1"} {
			if got[key] != want {
				t.Errorf("%s: %s: got %v, want %v", tc.profile, key, got[key], want)
			}
		}
		if boundary, there := got["boundary"]; !there || (boundary != nil) != tc.boundary {
			t.Errorf("%s: got boundary %v (there: %v), want one: %v", tc.profile, boundary, there, tc.boundary)
		}
		for _, each := range got["roles"].([]any) {
			role := each.(map[string]any)
			for _, key := range []string{"name", "path", "purpose", "trust", "boundary", "policies"} {
				if _, there := role[key]; !there {
					t.Errorf("%s: %v: got no %s, want it, null or empty", tc.profile, role["name"], key)
				}
			}
			if role["policies"] == nil {
				t.Errorf("%s: %v: got policies null, want a list", tc.profile, role["name"])
			}
			for _, p := range role["policies"].([]any) {
				policy := p.(map[string]any)
				if kind := policy["kind"]; kind != "managed" && kind != "inline" {
					t.Errorf("%s: %v: got kind %v", tc.profile, policy["name"], kind)
				}
				if _, ok := policy["document"].(map[string]any); !ok {
					t.Errorf("%s: %v: got document %T, want an object", tc.profile, policy["name"], policy["document"])
				}
			}
		}
		if !strings.Contains(string(text), PlaceholderExternalID) && tc.profile != Seed {
			t.Errorf("%s: got no %s in the trust, want it until an external ID is given", tc.profile, PlaceholderExternalID)
		}
	}
}

func TestDocumentsAreTheSameEveryTime(t *testing.T) {
	t.Parallel()
	for _, profile := range []ProfileName{Strict, Compat, Seed} {
		o := Options{Profile: profile, Account: account, Region: "us-west-2", PrivateEndpoint: true}
		first, err := Generate(o)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			again, err := Generate(o)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := json.Marshal(first)
			b, _ := json.Marshal(again)
			if string(a) != string(b) {
				t.Fatalf("%s: got another set the second time", profile)
			}
		}
	}
}

// What a careful reader would object to in strict is listed here with its reason;
// anything else is a finding of this test.
func TestLintFindsNothingInStrict(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		documents := map[string][]byte{s.set.Boundary.Name: s.set.Boundary.Document}
		for _, r := range s.set.Roles {
			documents[r.Name+" trust"] = r.Trust.Document
			for _, p := range r.Policies {
				documents[p.Name] = p.Document
			}
		}
		for name, text := range documents {
			findings, err := iampolicy.Lint(name, text, iampolicy.LintOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if acceptedFindings[name+" "+f.Code] != "" {
					continue
				}
				t.Errorf("%s: %s: got %s %s at %s: %s", region, name, f.Severity, f.Code, f.Path, f.Message)
			}
		}
	}
}

// acceptedFindings are what strict's documents give, and why they stay.
var acceptedFindings = map[string]string{
	"UnionIAMPolicy-teardown-data bucket-by-prefix": "a bucket's name is all that S3 tells about it before it is emptied; the prefix is the data plane's own",
	"UnionIAMPolicy-boundary bucket-by-prefix":      "the same, and only for sessions of the cluster's workloads and for signed URLs",
	"UnionIAMPolicy-boundary unconditioned-write":   "a node's agent reports itself by ssm:UpdateInstanceInformation, which knows no resource before it has",
	"AllowSSMMessageChannels unconditioned-write":   "the document is as published",
}
