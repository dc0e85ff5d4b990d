package vendor_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/vendor"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vendor.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDefaultHasThePublishedNames(t *testing.T) {
	t.Parallel()
	p := vendor.Default()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		p.RoleName: "union-ai-admin", p.ControlPlaneRole: "biplane-controlplane", p.Accounts["aws"]: "479331373192",
		p.PolicyName: "UnionIAMPolicy", p.StackName: "UnionCloudAccess", p.ManagedByKey(): "union:managed-by",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, partition := range []string{"aws", "aws-us-gov", "aws-cn"} {
		if account, err := p.Account(partition); err != nil || len(account) != 12 {
			t.Errorf("%s: got %q, %v, want an account", partition, account, err)
		}
	}
	if p == vendor.Default() {
		t.Error("got the same profile twice, want one that the caller may change")
	}
}

func TestTheDefaultFileLoadsAsTheDefault(t *testing.T) {
	t.Parallel()
	if _, err := vendor.Load(write(t, string(vendor.DefaultYAML()))); err != nil {
		t.Fatal(err)
	}
	// Each field has a comment, so that the file explains itself.
	for _, line := range bytes.Split(vendor.DefaultYAML(), []byte("\n\n")) {
		if !bytes.Contains(line, []byte("#")) {
			t.Errorf("got %q without a comment", line)
		}
	}
}

func TestLoadKeepsTheDefaultOfWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	p, err := vendor.Load(write(t, "apiVersion: biplane.dev/v1\nkind: VendorProfile\nroleName: other\naccounts:\n  aws: \"111122223333\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p.RoleName != "other" || p.Path != "/union/" || p.Accounts["aws"] != "111122223333" {
		t.Errorf("got %+v, want the role and the account changed and the path as it was", p)
	}
	if _, err := p.Account("aws-cn"); err == nil {
		t.Error("got an account in aws-cn, want none: the accounts are replaced as a whole")
	}
	if p, err := vendor.Load(write(t, "roleName: alone\n")); err != nil || p.RoleName != "alone" {
		t.Errorf("got %v, %v, want a file of one field taken", p, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, sentence, hint string }{
		{"a misspelt key, with its line and the right one", "roleName: x\npolicyNmae: y\n", `:2: there is no key "policyNmae"`, `"policyName"`},
		{"a key in the wrong case", "rolename: x\n", `:1: there is no key "rolename"`, `"roleName"`},
		{"a partition that does not exist", "accounts:\n  aws: \"111122223333\"\n  aws-gov: \"111122223333\"\n", `:3: there is no partition "aws-gov"`, `"aws-us-gov"`},
		{"a key that is there twice", "roleName: x\nroleName: y\n", "roleName", ""},
		{"an account that is a number with too few digits", "accounts:\n  aws: 12345\n", `accounts.aws cannot be "12345"`, "twelve digits"},
		{"accounts that are no mapping", "accounts: 111122223333\n", ":1: accounts", "aws:"},
		{"no accounts", "accounts: {}\n", "accounts is empty", "at least one"},
		{"another version", "apiVersion: biplane.dev/v2\n", `apiVersion cannot be "biplane.dev/v2"`, "biplane.dev/v1"},
		{"another kind", "kind: Profile\n", `kind cannot be "Profile"`, "VendorProfile"},
		{"a role name that leaves no room for -break-glass", "roleName: " + strings.Repeat("r", 53) + "\n", "roleName cannot be", "52"},
		{"a role name that would lock what the vendor makes", "roleName: union\n", `roleName cannot be "union", because prefix, "union-"`, "longer roleName"},
		{"a policy name that would lock what the vendor makes", "policyName: union-\n", `policyName cannot be "union-"`, "longer policyName"},
		{"the path of the whole account", "path: /\n", `path cannot be "/"`, "/union/"},
		{"a path without its last slash", "path: /union\n", `path cannot be "/union"`, "/union/"},
		{"a wildcard in a prefix", "prefix: \"*-\"\n", `prefix cannot be "*-"`, "hyphen"},
		{"a wildcard in a role name", "roleName: \"*\"\n", `roleName cannot be "*"`, "role name"},
		{"a prefix that no bucket can have", "prefix: Union-\n", `prefix cannot be "Union-"`, "lower-case"},
		{"an empty prefix", "prefix: \"\"\n", `prefix cannot be ""`, "lower-case"},
		{"a folder of templates without its last slash", "templateUrl: https://b.s3.amazonaws.com/t\n", "templateUrl cannot be", "slash at its end"},
		{"a folder of templates that is no https address", "templateUrl: s3://b/t/\n", `templateUrl cannot be "s3://b/t/"`, "https"},
		{"a tag prefix of AWS's own", "tagPrefix: \"aws:\"\n", `tagPrefix cannot be "aws:"`, "not aws:"},
		{"a control-plane role that is an ARN", "controlPlaneRole: arn:aws:iam::1:role/x\n", "controlPlaneRole cannot be", "team/"},
		{"a list where a name belongs", "product: Acme\nroleName: [a, b]\n", ":2: roleName must be one piece of text", "quotes"},
		{"a list below the line of its name", "product: Acme\nroleName:\n  - a\n", ": roleName must be one piece of text", "quotes"},
		{"a mapping where a name belongs", "roleName: {a: b}\n", ":1: roleName must be one piece of text", "quotes"},
		{"a list where an account belongs", "accounts:\n  aws: [\"111122223333\"]\n", ": accounts must be one piece of text", "quotes"},
		{"an account that YAML reads as octal", "accounts:\n  aws: 012345670123\n", "accounts.aws cannot be 012345670123", "quotes"},
		{"what is not YAML", "roleName: [\n", "is not YAML", ""},
		{"an empty file", "", "one YAML document", ""},
		{"two documents", "roleName: a\n---\nroleName: b\n", "one YAML document", ""},
		{"a list", "- a\n", "mapping", ""},
		{"a file without end", strings.Repeat("#", 65<<10), "larger than", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := vendor.Load(write(t, tc.text))
			var said *usererr.Error
			if !errors.As(err, &said) {
				t.Fatalf("got %v, want a *usererr.Error", err)
			}
			if !strings.Contains(said.Error(), tc.sentence) || !strings.Contains(said.Hint, tc.hint) || said.Hint == "" {
				t.Errorf("got %q, hint %q; want %q and %q in them", said.Error(), said.Hint, tc.sentence, tc.hint)
			}
			if strings.Contains(said.Error(), "\n") {
				t.Errorf("got %q, want one line", said.Error())
			}
		})
	}
	_, err := vendor.Load(filepath.Join(t.TempDir(), "absent.yaml"))
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
}
