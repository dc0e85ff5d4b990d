package template

import (
	"fmt"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// Whatever names the places have of which a template is made, it is the same, and
// none of them is in it.
func TestNoStandInIsLeft(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		var first string
		for choice := range 3 {
			resources, _, err := everywhereBy(v.Options, choice)
			if err != nil {
				t.Fatal(err)
			}
			text := string(compact(resources))
			if first == "" {
				first = text
			}
			if text != first {
				t.Errorf("%s: got another template with choice %d", v.name, choice)
			}
			elsewhere, inChina, err := standIns(v.Vendor, choice)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []standIn{elsewhere, inChina} {
				for _, name := range []string{s.region, s.account, s.vendorAccount, s.roleName, s.previousExternalID, s.externalID, "aws-us-gov"} {
					if name == "" || strings.Contains(text, name) {
						t.Errorf("%s: got %q in the template", v.name, name)
					}
				}
			}
		}
	}
}

// Names that look like those of a place, lengths at their limits, other accounts.
func otherVendors() map[string]*vendor.Profile {
	with := func(change func(*vendor.Profile)) *vendor.Profile {
		p := vendor.Default()
		change(p)
		return p
	}
	elsewhere, inChina, err := standIns(vendor.Default(), 0)
	if err != nil {
		panic(err)
	}
	return map[string]*vendor.Profile{
		"one whose names have regions in them": with(func(p *vendor.Profile) {
			p.Path, p.ProxyLogGroup, p.ControlPlaneRole = "/"+elsewhere.region+"/", "/"+inChina.region+"/", "eu-central-1"
		}),
		"one whose names have accounts in them": with(func(p *vendor.Profile) {
			p.Path, p.Prefix, p.TagPrefix = "/"+elsewhere.account+"/", elsewhere.vendorAccount+"-", inChina.account+":"
		}),
		"one whose names are those of variables": with(func(p *vendor.Profile) {
			p.RoleName, p.PolicyName, p.QueuePrefix = "AWS.Region", "ExternalId", "CrossAccountRoleName"
		}),
		"one with long names": with(func(p *vendor.Profile) {
			p.RoleName, p.PolicyName = strings.Repeat("r", roleNameLimit), strings.Repeat("p", 80)
		}),
		"one with short names": with(func(p *vendor.Profile) {
			p.RoleName, p.PolicyName, p.Path, p.TagPrefix, p.Prefix, p.CompatPrefix = "r", "p", "/v/", "t:", "v-", "w-"
		}),
		"one with an account for each partition": with(func(p *vendor.Profile) {
			p.Accounts = map[string]string{"aws": "012345678901", "aws-us-gov": "222233334444", "aws-cn": "333344445555"}
		}),
		"one with one account": with(func(p *vendor.Profile) { p.Accounts = map[string]string{"aws": "111122223333"} }),
	}
}

func TestATemplateOfAnotherVendorGrantsWhatIsGrantedByHand(t *testing.T) {
	t.Parallel()
	for name, v := range otherVendors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, profile := range []access.ProfileName{access.Strict, access.Compat} {
				o := access.Options{Profile: profile, Vendor: v, PrivateEndpoint: true, DeletePermissions: profile == access.Strict}
				made := made(t, o)
				for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1"} {
					o := o
					o.Account, o.Region, o.ExternalID = account, region, externalID
					if place, _ := access.LookUpRegion(region); v.Accounts[place.Partition] == "" {
						_, err := Resolve(made.Bytes(YAML), Parameters(o), account, region)
						if want := fmt.Sprintf(`the mapping "Vendor" has no %s`, place.Partition); err == nil || !strings.Contains(err.Error(), want) {
							t.Errorf("%s in %s: got %v, want %s", profile, region, err, want)
						}
						continue
					}
					byHand, byStack := granted(t, o, made.Bytes(YAML))
					if lines := access.Differences(byStack, byHand); len(lines) > 0 {
						t.Errorf("%s in %s: got\n%s\nwant no difference", profile, region, strings.Join(lines, "\n"))
					}
				}
			}
		})
	}
}

// The name of the role is a parameter: the others follow it, and so does what locks them.
func TestARoleNameIsAParameter(t *testing.T) {
	t.Parallel()
	o := access.Options{Account: account, Region: "eu-central-1", ExternalID: externalID, DeletePermissions: true, Vendor: vendor.Default()}
	body := made(t, o).Bytes(JSON)
	renamed := *o.Vendor
	renamed.RoleName = "the-name-of-another-role"
	o.Vendor = &renamed
	byHand, byStack := granted(t, o, body)
	if lines := access.Differences(byStack, byHand); len(lines) > 0 {
		t.Errorf("got\n%s\nwant no difference", strings.Join(lines, "\n"))
	}
}

func TestVariablesOfIAMStay(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"plain":                                  `"plain"`,
		"${!aws:userid}":                         `"${aws:userid}"`,
		"${AWS::AccountId}":                      `{"Ref": "AWS::AccountId"}`,
		"${AWS::Region}-x":                       `{"Fn::Sub": "${AWS::Region}-x"}`,
		"x-${AWS::Region}":                       `{"Fn::Sub": "x-${AWS::Region}"}`,
		"${AWS::Region}${AWS::AccountId}":        `{"Fn::Sub": "${AWS::Region}${AWS::AccountId}"}`,
		"${AWS::Region}/${!aws:PrincipalTag/x}":  `{"Fn::Sub": "${AWS::Region}/${!aws:PrincipalTag/x}"}`,
		"${!aws:PrincipalTag/x}/${!aws:userid}!": `"${aws:PrincipalTag/x}/${aws:userid}!"`,
	} {
		if got := string(compact(text(words).intrinsic())); got != want {
			t.Errorf("%s: got %s, want %s", words, got, want)
		}
	}
	s := &stack{words: map[string]string{"AWS::Region": "eu-central-1"}}
	got, err := s.value(text("${AWS::Region}/${!aws:PrincipalTag/x}").intrinsic())
	if err != nil || got != "eu-central-1/${aws:PrincipalTag/x}" {
		t.Errorf("got %v, %v, want IAM's variable as IAM reads it", got, err)
	}
}

// What only one of the places has is an error, not a template that is wrong somewhere.
func TestPlacesThatDifferMakeNoTemplate(t *testing.T) {
	t.Parallel()
	same := object{{Key: "Action", Value: list{text("a:B"), text("c:D")}}}
	for name, other := range map[string]any{
		"another word":        object{{Key: "Action", Value: list{text("a:B"), text("c:E")}}},
		"another key":         object{{Key: "NotAction", Value: same[0].Value}},
		"one word less":       object{{Key: "Action", Value: list{text("a:B")}}},
		"one key more":        append(object{same[0]}, member{Key: "Resource", Value: text("*")}),
		"a word for the list": object{{Key: "Action", Value: text("a:B")}},
		"a number":            7,
	} {
		if got, err := merge(same, other); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
	if _, err := merge(same, same); err != nil {
		t.Error(err)
	}
}
