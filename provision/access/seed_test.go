package access

import (
	"strings"
	"testing"
)

// The sizes of the published documents are known; they must be met exactly, or
// the text is not the published one.
func TestSeedHasThePublishedSizes(t *testing.T) {
	t.Parallel()
	for region, want := range map[string][2]int{
		"us-east-1": {10395, 5461}, "us-east-2": {10395, 5461}, "us-west-2": {10395, 5461},
		"eu-west-1": {10395, 5461}, "eu-west-2": {10395, 5461}, "eu-central-1": {10515, 5512}, "ap-northeast-1": {10595, 5546},
	} {
		set, err := Generate(Options{Profile: Seed, Account: account, Region: region, PrivateEndpoint: true})
		if err != nil {
			t.Fatal(err)
		}
		policies := set.Roles[0].Policies
		if got := [2]int{policies[0].Size, policies[1].Size}; got != want {
			t.Errorf("%s: got sizes %v, want %v", region, got, want)
		}
		if policies[0].Kind != "inline" || policies[0].Name != "UnionIAMPolicyManual" {
			t.Errorf("got %s policy %s, want inline UnionIAMPolicyManual", policies[0].Kind, policies[0].Name)
		}
	}
}

func TestSeedTrustsTheWholeVendorAccount(t *testing.T) {
	t.Parallel()
	set, err := Generate(Options{Profile: Seed, Account: account, Region: "eu-central-1", ExternalID: "not-in-the-seed"})
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Roles) != 1 || set.Boundary != nil {
		t.Errorf("got %d roles and boundary %v, want one role and none", len(set.Roles), set.Boundary)
	}
	got := string(set.Roles[0].Trust.Document)
	want := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::479331373192:root"},"Action":"sts:AssumeRole"}]}`
	if got != want {
		t.Errorf("got trust %s, want %s", got, want)
	}
}

func TestThePrivateEndpointHasItsTwoRoles(t *testing.T) {
	t.Parallel()
	for _, profile := range []ProfileName{Strict, Compat, Seed} {
		set, err := Generate(Options{Profile: profile, Account: account, Region: "eu-central-1", PrivateEndpoint: true})
		if err != nil {
			t.Fatal(err)
		}
		var execution, task *Role
		for i, r := range set.Roles {
			switch r.Name {
			case "unionai-access-eu-central-1-ecs-execution-role":
				execution = &set.Roles[i]
			case "unionai-access-eu-central-1-ecs-task-role":
				task = &set.Roles[i]
			}
		}
		if execution == nil || task == nil {
			t.Fatalf("%s: got no ECS roles, want two", profile)
		}
		if len(execution.Attached) != 1 || execution.Attached[0] != "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy" {
			t.Errorf("%s: got attached %v, want AWS's own policy", profile, execution.Attached)
		}
		if len(task.Policies) != 1 || !strings.Contains(string(task.Policies[0].Document), "ssmmessages:OpenDataChannel") {
			t.Errorf("%s: got task policies %v, want the session's channels", profile, task.Policies)
		}
		for _, r := range []*Role{execution, task} {
			if got := strings.Contains(string(r.Trust.Document), `"aws:SourceAccount":"123456789012"`); got != (profile == Strict) {
				t.Errorf("%s: %s: got a limit to the account's own tasks %v, want it under strict alone", profile, r.Name, got)
			}
		}
	}
}
