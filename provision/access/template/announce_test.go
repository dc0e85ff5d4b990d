package template

import (
	"strings"
	"testing"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/announce"
)

func TestAnnouncing(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		for _, f := range Formats {
			tree, err := read(made(t, v.Options).Bytes(f))
			if err != nil {
				t.Fatal(err)
			}
			resources := child(tree, "Resources")
			if fallback, _ := get(child(child(tree, "Parameters"), AnnounceURLParameter), "Default"); fallback != "" {
				t.Errorf("%s: got %v as the default URL, want it off", v.name, fallback)
			}
			found := 0
			for _, r := range resources {
				condition, conditional := get(r.Value, "Condition")
				if strings.HasPrefix(r.Key.(string), announcing) != (conditional && condition == announces) {
					t.Errorf("%s: got condition %v on %v, want all that announces, and that alone, to be off", v.name, condition, r.Key)
				}
				if conditional {
					found++
				}
			}
			if found != 3 {
				t.Errorf("%s: got %d resources that announce, want 3", v.name, found)
			}
			function := child(child(resources, announceFunction), "Properties")
			if code, _ := get(child(function, "Code"), "ZipFile"); code != announce.Function {
				t.Errorf("%s as %s: got the code\n%v\nwant function.py to the letter", v.name, f, code)
			}
			role := child(child(resources, announceRole), "Properties")
			for _, key := range []string{"Policies", "ManagedPolicyArns"} {
				if got, has := get(role, key); has {
					t.Errorf("%s: got %s %v, want a role that may do nothing", v.name, key, got)
				}
			}
			// It comes last, when every role can be taken on.
			roles := 0
			for _, r := range resources {
				if kind, _ := get(r.Value, "Type"); kind == "AWS::IAM::Role" {
					roles++
				}
			}
			after, _ := get(child(resources, announcement), "DependsOn")
			if waits, _ := after.(list); len(waits) != roles-2 { // by DependsOn; for two by their ARNs
				t.Errorf("%s: got an announcement that waits for %v, want all roles but its own and the announced one", v.name, waits)
			}
		}
	}
}

func TestAnnouncedRoleNameFits(t *testing.T) {
	t.Parallel()
	if n := roleNameLimit + len(announce.RoleSuffix); n > 64 {
		t.Errorf("got a name of %d characters, want at most 64", n)
	}
}

func TestLinkFillsInTheReceiver(t *testing.T) {
	t.Parallel()
	region, _ := access.LookUpRegion("eu-central-1")
	l := Link{Region: region, TemplateURL: "https://b.s3.amazonaws.com/k", StackName: "s", RoleName: "r", AnnounceURL: "https://vendor.example.com/a"}
	if got, want := l.String(), "&param_AnnounceUrl=https%3A%2F%2Fvendor.example.com%2Fa"; !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want it to end with %s", got, want)
	}
}
