package access

import (
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
)

// By AWS's reference 282 pairs of the main policy can match and 124 of the private
// endpoint's. In each there is one more that is known to work although the
// reference has no resource for it: logs:DescribeLogGroups, acm:RequestCertificate.
func TestCompatKnowsWhichPairsAreLive(t *testing.T) {
	t.Parallel()
	target, err := Options{Profile: Compat, Account: account, Region: "us-east-1"}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{publishedMain: 282 + 1, publishedEndpoint: 124 + 1} {
		live, err := target.livePairs([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		if len(live) != want {
			t.Errorf("%s: got %d live pairs, want %d", name, len(live), want)
		}
	}
}

// Compat is the published grants, restricted to the pairs that can match: for
// every action of theirs, and every ARN that could tell the two apart, both decide
// alike. The reference is built here from the published text, statement by
// statement, and shares no grouping or packing with the profile.
func TestCompatAllowsExactlyWhatThePublishedGrantsCanMatch(t *testing.T) {
	t.Parallel()
	reference := sar.Default()
	for _, region := range []string{"us-east-1", "eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		for _, private := range []bool{false, true} {
			o := Options{Profile: Compat, Account: account, Region: region, PrivateEndpoint: private}
			set, err := Generate(o)
			if err != nil {
				t.Fatal(err)
			}
			compat, err := evaluator(set.Roles[0])
			if err != nil {
				t.Fatal(err)
			}
			target, err := o.resolve()
			if err != nil {
				t.Fatal(err)
			}
			live, actions, patterns := publishedLive(t, target, reference, private)
			e, err := iampolicy.Compile(iampolicy.Policies{Identity: []*iampolicy.Document{live}})
			if err != nil {
				t.Fatal(err)
			}
			probes := probeARNs(patterns, target)
			compared, allowed := 0, 0
			for _, action := range actions {
				for _, arn := range probes {
					r := &iampolicy.Request{Principal: target.session(set.Roles[0]), Action: action, Resource: arn, Context: iampolicy.Context{}}
					got, want := compat.Decide(r), e.Decide(r)
					compared++
					if want == iampolicy.Allowed {
						allowed++
					}
					if got != want {
						t.Errorf("%s, private endpoint %v: %s on %s: got %v, want %v", region, private, action, arn, got, want)
					}
				}
			}
			t.Logf("%s, private endpoint %v: %d decisions alike, %d of them allowed, %d policies", region, private, compared, allowed, len(set.Roles[0].Policies))
		}
	}
}

// publishedLive is the published documents with one statement for each pair that
// can match, all actions that they name, wildcards spelt out, and all their ARNs.
func publishedLive(t *testing.T, target *target, reference *sar.Reference, private bool) (live *iampolicy.Document, actions, patterns []string) {
	t.Helper()
	names := []string{publishedMain}
	if private {
		names = append(names, publishedEndpoint)
	}
	live = &iampolicy.Document{Name: "published", Version: "2012-10-17"}
	for _, name := range names {
		d, err := iampolicy.Parse(name, target.publishedText(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range d.Statements {
			patterns = append(patterns, st.Resource...)
			for _, written := range st.Action {
				for _, action := range reference.Expand(written) {
					actions = append(actions, action.String())
					for _, resource := range st.Resource {
						// Where all of a service is allowed, an action that has no
						// resource of the kind is allowed too, and comes to nothing.
						if strings.Contains(written, "*") || reference.CanMatch(action, resource) != sar.Never {
							live.Statements = append(live.Statements, iampolicy.Statement{Effect: iampolicy.Allow, Action: []string{action.String()}, Resource: []string{resource}})
						}
					}
				}
			}
		}
	}
	// Actions that nobody was given, to find what compat might allow beyond.
	actions = append(actions, "iam:CreateUser", "ec2:TerminateInstances", "eks:AssociateAccessPolicy", "kms:Decrypt", "ecr:PutImage", "logs:PutLogEvents", "sqs:ReceiveMessage")
	slices.Sort(actions)
	slices.Sort(patterns)
	return live, slices.Compact(actions), slices.Compact(patterns)
}

// probeARNs are instances of each pattern, and the same just outside of it: with
// another prefix, account or region, and as the pattern's own text.
func probeARNs(patterns []string, target *target) []string {
	probes := []string{"*"}
	for _, p := range patterns {
		if p == "*" {
			continue
		}
		for _, fill := range []string{"acme", "x/y", ""} {
			probes = append(probes, strings.ReplaceAll(p, "*", fill))
		}
		inside := strings.ReplaceAll(p, "*", "acme")
		fields := strings.SplitN(inside, ":", 6)
		kind, _, cut := strings.Cut(fields[5], "/")
		if cut {
			probes = append(probes, strings.Join(fields[:5], ":")+":"+kind+"/elsewhere", strings.Join(fields[:5], ":")+":"+kind+"/elsewhere/b/c")
		}
		probes = append(probes,
			strings.Replace(inside, target.Account, stranger, 1),
			strings.Replace(inside, ":"+target.Region+":", ":af-south-1:", 1),
			strings.Replace(inside, "opta-", "union-", 1), strings.Replace(inside, "union-", "opta-", 1),
			inside+":more", inside+"/more", "a"+inside)
	}
	slices.Sort(probes)
	return slices.Compact(probes)
}

func TestCompatDropsWhatCannotMatch(t *testing.T) {
	t.Parallel()
	o := Options{Profile: Compat, Account: account, Region: "eu-central-1", PrivateEndpoint: true}
	set, err := Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	e, err := evaluator(set.Roles[0])
	if err != nil {
		t.Fatal(err)
	}
	target, err := o.resolve()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		action, resource string
		want             iampolicy.Decision
	}{
		{"eks:DescribeAccessEntry", "arn:aws:eks:eu-central-1:123456789012:cluster/opta-acme", iampolicy.ImplicitDeny},
		{"iam:UpdateAssumeRolePolicy", "arn:aws:iam::123456789012:instance-profile/x", iampolicy.ImplicitDeny},
		{"iam:UpdateAssumeRolePolicy", "arn:aws:iam::123456789012:role/x", iampolicy.ImplicitDeny},
		{"eks:DescribeAddonVersions", "*", iampolicy.ImplicitDeny},
		{"ecr:PutReplicationConfiguration", "*", iampolicy.ImplicitDeny},
		{"logs:StopQuery", "*", iampolicy.ImplicitDeny},
		{"logs:DescribeLogGroups", "arn:aws:logs:eu-central-1:123456789012:log-group::log-stream:", iampolicy.Allowed},
		{"acm:RequestCertificate", "arn:aws:acm:eu-central-1:123456789012:certificate/*", iampolicy.Allowed},
		{"s3:GetObject", "arn:aws:s3:::union-acme-metadata/x", iampolicy.Allowed},
		{"s3:PutBucketPolicy", "arn:aws:s3:::opta-acme", iampolicy.Allowed},
		{"dynamodb:Scan", "arn:aws:dynamodb:eu-central-1:123456789012:table/opta-acme", iampolicy.Allowed},
		{"iam:AttachRolePolicy", "arn:aws:iam::123456789012:role/union-ai-admin", iampolicy.Allowed},
	} {
		r := &iampolicy.Request{Principal: target.session(set.Roles[0]), Action: tc.action, Resource: tc.resource, Context: iampolicy.Context{}}
		if got := e.Decide(r); got != tc.want {
			t.Errorf("%s on %s: got %v, want %v", tc.action, tc.resource, got, tc.want)
		}
	}
}

// Without the private endpoint, DescribeLogGroups works through one ARN alone.
func TestCompatKeepsTheTwoExceptions(t *testing.T) {
	t.Parallel()
	set, err := Generate(Options{Profile: Compat, Account: account, Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, p := range set.Roles[0].Policies {
		text += string(p.Document)
	}
	for _, want := range []string{"log-group::log-stream*", `"logs:DescribeLogGroups"`} {
		if !strings.Contains(text, want) {
			t.Errorf("got no %s, want it", want)
		}
	}
	if got := len(set.Roles[0].Policies); got != 2 {
		t.Errorf("got %d policies, want 2", got)
	}
	want := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::479331373192:root"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"EXTERNAL-ID"}}}]}`
	if got := string(set.Roles[0].Trust.Document); got != want {
		t.Errorf("got trust %s, want %s", got, want)
	}
}

// A template has no region, so that what it grants must be divided over the same
// policies everywhere.
func TestCompatIsPackedAlikeInEveryRegion(t *testing.T) {
	t.Parallel()
	placeless := func(region Region, text []byte) string {
		return strings.NewReplacer(region.Name, "REGION", "arn:"+region.Partition+":", "arn:PARTITION:").Replace(string(text))
	}
	for _, private := range []bool{false, true} {
		var first []string
		for _, region := range Regions() {
			set, err := Generate(Options{Profile: Compat, Account: account, Region: region.Name, PrivateEndpoint: private})
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, p := range set.Roles[0].Policies {
				texts = append(texts, placeless(region, p.Document))
			}
			if first == nil {
				first = texts
			}
			if !slices.Equal(texts, first) {
				t.Errorf("%s, private endpoint %v: got other documents than in %s", region.Name, private, Regions()[0].Name)
			}
		}
	}
}
