package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/vendor"
)

// granted is what access.Generate makes, and what a stack of the template makes.
func granted(t *testing.T, o access.Options, body []byte) (byHand, byStack *access.Set) {
	t.Helper()
	byHand, err := access.Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	byStack, err = Resolve(body, Parameters(o), o.Account, o.Region)
	if err != nil {
		t.Fatal(err)
	}
	return byHand, byStack
}

// documents are all of a set by name.
func documents(set *access.Set) map[string][]byte {
	all := map[string][]byte{}
	if set.Boundary != nil {
		all["boundary "+set.Boundary.Name] = set.Boundary.Document
	}
	for _, r := range set.Roles {
		all["trust "+r.Name] = r.Trust.Document
		for _, p := range r.Policies {
			all[p.Kind+" "+r.Name+" "+p.Name] = p.Document
		}
	}
	return all
}

// The manual way and the stack give the same permissions: each document means the same
// by the engine, has the size that was counted, and nothing else is there.
func TestAStackGrantsWhatIsGrantedByHand(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			made := made(t, v.Options)
			compared, toTheLetter := 0, 0
			for i, region := range access.Regions() {
				o := v.Options
				o.Account, o.Region, o.ExternalID = account, region.Name, externalID
				if i%2 == 1 {
					o.PreviousExternalID = "the-one-before"
				}
				byHand, byStack := granted(t, o, made.Bytes(Formats[i%2]))
				if lines := access.Differences(byStack, byHand); len(lines) > 0 {
					t.Errorf("%s: got\n%s\nwant no difference", region.Name, strings.Join(lines, "\n"))
				}
				got, want := documents(byStack), documents(byHand)
				if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
					t.Fatalf("%s: got %v, want %v", region.Name, g, w)
				}
				for name := range want {
					if string(got[name]) == string(want[name]) {
						compared, toTheLetter = compared+1, toTheLetter+1
						continue
					}
					g, err := iampolicy.Parse(name, got[name])
					if err != nil {
						t.Fatal(err)
					}
					w, err := iampolicy.Parse(name, want[name])
					if err != nil {
						t.Fatal(err)
					}
					if !iampolicy.Equal(g, w) {
						t.Errorf("%s: %s: got another meaning", region.Name, name)
					}
					compared++
				}
				if byStack.Profile != byHand.Profile || byStack.Partition != byHand.Partition {
					t.Errorf("%s: got %s in %s, want %s in %s", region.Name, byStack.Profile, byStack.Partition, byHand.Profile, byHand.Partition)
				}
			}
			t.Logf("%d documents alike in %d regions, %d of them to the letter", compared, len(access.Regions()), toTheLetter)
		})
	}
}

func TestDifferencesNameAnActionThatIsDropped(t *testing.T) {
	t.Parallel()
	o := access.Options{Account: account, Region: "eu-central-1", ExternalID: externalID, PrivateEndpoint: true, DeletePermissions: true}
	body := string(made(t, o).Bytes(JSON))
	for _, action := range []string{"eks:CreateCluster", "ec2:CreateVpc", "iam:PassRole", "sts:AssumeRole"} {
		dropped := strings.Replace(body, `"`+action+`"`, `"none:None"`, 1)
		if dropped == body {
			t.Fatalf("got no %s in the template, want some", action)
		}
		byHand, byStack := granted(t, o, []byte(dropped))
		lines := strings.Join(access.Differences(byStack, byHand), "\n")
		if !strings.Contains(lines, "it lacks: ") || !strings.Contains(lines, " "+action+" on ") {
			t.Errorf("got\n%s\nwant %s named", lines, action)
		}
	}
}

// The tags of a role that a stack made are those of one made by hand, with the stack's name.
func TestAStackTagsItsRolesAsGrantDoes(t *testing.T) {
	t.Parallel()
	v := vendor.Default()
	o := access.Options{Account: account, Region: "eu-central-1", ExternalID: externalID, PrivateEndpoint: true, Vendor: v}
	tree, err := read(made(t, o).Bytes(JSON))
	if err != nil {
		t.Fatal(err)
	}
	set, err := access.Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	want := set.Tags(v)
	want["union:stack"] = stackName
	s := &stack{template: tree, words: map[string]string{"AWS::Region": o.Region, "AWS::StackName": stackName}}
	ids := RoleIDs(set, v)
	for _, r := range set.Roles {
		tags, _ := get(child(child(child(tree, "Resources"), ids[r.Name]), "Properties"), "Tags")
		resolved, err := s.value(tags)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, tag := range resolved.(list) {
			key, _ := textOf(tag.(object), "Key")
			got[key], _ = textOf(tag.(object), "Value")
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", r.Name, got, want)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	o := access.Options{Profile: access.Compat, Account: account, Region: "eu-central-1", ExternalID: externalID}
	body := string(made(t, o).Bytes(JSON))
	all := Parameters(o)
	for _, tc := range []struct {
		name, body string
		parameters map[string]string
		want       string
	}{
		{"what is no template", "7", all, "mapping"},
		{"what cannot be parsed", "{", all, "reading the template"},
		{"somebody else's template", `{"Resources": {}}`, all, "not one of ours"},
		{"a condition that asks for itself", strings.Replace(body, `"Rotating": `, `"Rotating": {"Fn::Equals": [{"Fn::If": ["Rotating", "a", "b"]}, "a"]}, "Other": `, 1), all, "no condition"},
		{"a condition that is not there", strings.Replace(body, `"Rotating": `, `"Other": `, 1), all, "no condition Rotating"},
		{"aliases, which can grow without end", "a: &a [1]\nb: *a\n", all, "alias"},
		{"more than CloudFormation takes", body + strings.Repeat(" ", URLLimit), all, "bytes"},
		{"a parameter that is missing", body, nil, "ExternalId has neither"},
		{"a function that our templates do not have", strings.Replace(body, `{"Ref": "Policy1"}`, `{"Fn::ImportValue": "x"}`, 1), all, "Fn::ImportValue"},
		{"a reference to nothing", strings.Replace(body, `{"Ref": "Policy1"}`, `{"Ref": "Nothing"}`, 1), all, "no policy Nothing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Resolve([]byte(tc.body), tc.parameters, account, "eu-central-1")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
