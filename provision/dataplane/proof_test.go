package dataplane_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// recorder keeps what the access roles were asked for.
type recorder struct {
	mu      sync.Mutex
	calls   int
	refused []string
	asked   map[string][]question // by role
	seen    map[string]bool
}

// question is one thing that IAM was asked, and the call that asked it.
type question struct {
	call    string
	request iampolicy.Request
}

func (r *recorder) observe(c awsdouble.Call) {
	_, session, ok := strings.Cut(c.Caller, ":assumed-role/")
	if !ok {
		return
	}
	role, _, _ := strings.Cut(session, "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if c.Decision == awsdouble.Refused {
		r.refused = append(r.refused, fmt.Sprintf("%s: %s:%s on %v", role, c.Service, c.Operation, c.Resources))
		return
	}
	for _, asked := range c.Asked {
		// The time and the session differ from call to call and decide nothing here.
		var b strings.Builder
		for _, key := range slices.Sorted(maps.Keys(asked.Context)) {
			if !strings.Contains(key, "time") && !strings.Contains(key, "userid") {
				fmt.Fprintf(&b, " %s=%v", key, asked.Context[key])
			}
		}
		id := role + " " + asked.Action + " " + asked.Resource + b.String()
		if !r.seen[id] {
			r.seen[id] = true
			r.asked[role] = append(r.asked[role], question{c.Service + ":" + c.Operation, asked})
		}
	}
}

// The whole life of data planes, in two forms, runs under the generated strict roles
// without a denial, and without any one statement of theirs a call of it is denied.
func TestProof(t *testing.T) {
	t.Parallel()
	record := &recorder{asked: map[string][]question{}, seen: map[string]bool{}}
	account, err := provisiontest.Start(t.Context(), awsdouble.Options{Clock: clock.Scaled(1000), Observe: record.observe}, spec.Strict)
	if err != nil {
		t.Fatal(err)
	}
	defer account.Double.Stop()
	for _, dp := range lives(account) {
		privateEndpoint(t, account, dp)
		live(t, account, dp)
	}
	// Who looks for a role of a name that nobody has is refused it, since IAM does not know
	// under which path it would be; all else that is refused is a fault.
	for _, refused := range record.refused {
		if !strings.Contains(refused, "iam:Get") {
			t.Errorf("refused: %s", refused)
		}
	}

	set, err := access.Generate(access.Options{Profile: access.Strict, Account: account.ID(), Region: provisiontest.Region, ExternalID: provisiontest.ExternalID,
		DeletePermissions: true, PrivateEndpoint: true})
	if err != nil {
		t.Fatal(err)
	}
	questions, statements, needed, idle, guards := 0, 0, 0, 0, 0
	for _, role := range set.Roles {
		questions += len(record.asked[role.Name])
		var documents []*iampolicy.Document
		for _, p := range role.Policies {
			d, err := iampolicy.Parse(p.Name, p.Document)
			if err != nil {
				t.Fatal(err)
			}
			documents = append(documents, d)
		}
		for i, d := range documents {
			for j, s := range d.Statements {
				if s.Effect == iampolicy.Deny {
					guards++
					continue
				}
				statements++
				name := fmt.Sprintf("%s/%s[%d] %s", role.Name, d.Name, j, s.Sid)
				without := slices.Clone(documents)
				less := *d
				less.Statements = slices.Delete(slices.Clone(d.Statements), j, j+1)
				if without[i] = &less; len(less.Statements) == 0 {
					without = slices.Delete(without, i, i+1)
				}
				denied := firstDenied(t, without, record.asked[role.Name])
				switch why := unusedBecause(role.Name, s); {
				case denied != "":
					needed++
					t.Logf("%s: without it %s is denied", name, denied)
				case why != "":
					idle++
					t.Logf("%s: not used: %s: %s", name, why, strings.Join(s.Action, " "))
				default:
					t.Errorf("%s: no call needs it: %s on %s", name, strings.Join(s.Action, " "), strings.Join(s.Resource, " "))
				}
			}
		}
	}
	t.Logf("%d calls by the roles, %d different questions; %d statements allow: %d needed, %d not used for a reason; %d statements that deny",
		record.calls, questions, statements, needed, idle, guards)
}

func firstDenied(t *testing.T, documents []*iampolicy.Document, asked []question) string {
	t.Helper()
	e, err := iampolicy.Compile(iampolicy.Policies{Identity: documents})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range asked {
		if e.Decide(&q.request) != iampolicy.Allowed {
			return fmt.Sprintf("%s (%s on %s)", q.call, q.request.Action, q.request.Resource)
		}
	}
	return ""
}

// unused are rights that no call of the lives below needs, each with the reason: a
// pattern for "role action resource".
var unused = []struct{ pattern, why string }{
	{`^break-glass `, "support is by hand, and off until the customer switches it on"},
	{` ecs:(UpdateClusterSettings|DescribeTasks|StopTask) `, "the load balancer says how tasks are; one that hangs is looked at and restarted by hand"},
	{` elasticloadbalancing:(ModifyListener|RemoveTags) |^operate (elasticloadbalancing:|ec2:(AcceptVpcEndpointConnections|RejectVpcEndpointConnections|ModifyVpcEndpointServiceConfiguration) )`, "a private endpoint that somebody changed by hand is put right"},
	{`^teardown ec2:RejectVpcEndpointConnections `, "the vendor's side goes first; who is connected then is somebody else"},
	{`ecs-task-role `, "the channel of a support session into a jumper, which is off"},
	{` ec2:DeleteTags `, "a tag that the file no longer names is left on things"},
	{` ec2:(ModifySecurityGroupRules|AuthorizeSecurityGroup|RevokeSecurityGroup|ModifyVpcEndpoint)`, "a group or an endpoint that somebody changed by hand is put right"},
	{`^provision eks:UpdateAddon `, "an upgrade is the operate role's"},
	{` ssm:GetParameter `, "the image of the nodes is EKS's choice unless a file names one"},
	{` iam:UpdateOpenIDConnectProviderThumbprint `, "IAM trusts EKS's issuers by their roots"},
	{` iam:(GetContextKeysForPrincipalPolicy|SimulatePrincipalPolicy|GetPolicy|GetPolicyVersion) `, "'biplane access check' reads and simulates the access roles"},
	{` iam:\w+Polic\w+ .*:policy/union/union-`, "workloads have inline policies; a managed one is for those that outgrow them"},
	{` iam:UpdateRole `, "a role whose sessions somebody made longer is put right"},
	{`^operate ec2:CreateTags .*(instance|network-interface|volume|security-group-rule)/`, "nodes are tagged by their template; those of a rule that is put right"},
	{` eks:(Delete|Update)AccessEntry | eks:DeletePodIdentityAssociation `, "entries and pairs of roles that are gone end with the cluster"},
	{` autoscaling:CreateOrUpdateTags `, "the autoscaler that reads such tags is not installed"},
	{`^operate (kms:CreateGrant|kms:UpdateAlias|events:TagResource|events:PutRule) `, "an alias or a rule that somebody took away is put back; a grant goes with a new cluster"},
	{`^teardown (ec2:(DeleteVolume|DeleteNetworkInterface|DetachNetworkInterface|TerminateInstances|DeleteSecurityGroup) |elasticloadbalancing:DeleteLoadBalancer .*/k8s-)`, "what controllers in the cluster leave behind, and none ran in it"},
	{`^teardown ec2:DescribeVpcAttribute `, "a network is looked at by its id where it is removed"},
	{`^teardown s3:AbortMultipartUpload `, "no upload was left unfinished"},
}

// unusedBecause says why a statement is needed by no call of the lives below.
func unusedBecause(role string, s iampolicy.Statement) string {
	role = strings.TrimPrefix(strings.TrimPrefix(role, "union-ai-admin"), "-")
	if role == "" {
		role = "provision"
	}
	whys := map[string]bool{}
	for _, action := range s.Action {
		for _, resource := range s.Resource {
			i := slices.IndexFunc(unused, func(u struct{ pattern, why string }) bool {
				return regexp.MustCompile(u.pattern).MatchString(role + " " + action + " " + resource)
			})
			if i < 0 {
				return ""
			}
			whys[unused[i].why] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(whys)), "; ")
}

// lives are data planes that differ in what they are made of.
func lives(account *provisiontest.Account) []*spec.DataPlane {
	first := account.DataPlane()
	first.Spec.Cluster.Karpenter, first.Spec.Cluster.Version = true, "1.33"
	return []*spec.DataPlane{first}
}

// live is the life of a data plane: planned, made, checked, changed, upgraded, removed.
func live(t *testing.T, account *provisiontest.Account, dp *spec.DataPlane) {
	t.Helper()
	steps := func(who operations.Roles) []step.Step {
		t.Helper()
		p := account.Open(t, dp, who)
		p.DeleteData = true
		steps, err := dataplane.Steps(p)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	account.Plan(t, steps(operations.Observe), step.Present)
	account.Reach(t, steps(operations.Provision), step.Present)

	looking := account.Open(t, dp, operations.Observe)
	all, err := dataplane.Steps(looking)
	if err != nil {
		t.Fatal(err)
	}
	report, err := dataplane.Check(t.Context(), looking, all, account.Plan(t, all, step.Present))
	if err != nil || len(report.Drift) > 0 || !report.Healthy() {
		t.Errorf("got %+v, error %v, want all as it was made", report, err)
	}

	// Day two: what the file may be changed in, by the role that keeps a data plane, and by
	// the one that makes it.
	for i, who := range []operations.Roles{operations.Operate, operations.Provision} {
		change(dp, i)
		account.Reach(t, steps(who), step.Present)
	}
	upgrade, err := cluster.UpgradeSteps(t.Context(), account.Open(t, dp, operations.Operate), "1.34", false)
	if err != nil {
		t.Fatal(err)
	}
	account.Reach(t, upgrade, step.Present)
	dp.Spec.Cluster.Version = "1.34"

	// Data that is deleted with the data plane.
	buckets, err := dataplane.Buckets(looking)
	if err != nil {
		t.Fatal(err)
	}
	customer := s3.NewFromConfig(account.Customer(), func(o *s3.Options) { o.UsePathStyle = true })
	for range 2 {
		if _, err := customer.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &buckets.Metadata, Key: aws.String("a/key"), Body: strings.NewReader("data")}); err != nil {
			t.Fatal(err)
		}
	}
	account.Reach(t, steps(operations.Teardown), step.Absent)
}

// change has the file want something else of everything that can be changed.
func change(dp *spec.DataPlane, round int) {
	dp.Spec.Tags = map[string]string{"round": fmt.Sprint(round)}
	c := &dp.Spec.Cluster
	c.Endpoint, c.LogDays = []spec.ClusterAddress{spec.PrivateAddress, spec.PublicAddress}[round], []int{60, 90}[round]
	c.NodeGroups[0].Max, c.NodeGroups[0].DiskGiB, c.NodeGroups[0].Labels = 5+round, 100+round, dp.Spec.Tags
	c.NodeGroups = append(c.NodeGroups, spec.NodeGroup{Name: fmt.Sprintf("more%d", round)})
	dp.Spec.Buckets.Origins = []string{fmt.Sprintf("https://console%d.example.com", round)}
	dp.Spec.Registry.UntaggedDays = 7 + round
	if e := &dp.Spec.PrivateEndpoint; e.Enabled {
		e.Image, e.Tasks = fmt.Sprintf("example.com/jumper:%d", round), 3+round
	}
	if n := dp.Spec.Network.Create; n != nil {
		*n.FlowLogDays = c.LogDays
		n.Endpoints = []spec.Endpoints{spec.RecommendedEndpoints, spec.AllEndpoints}[round]
	}
	dp.Defaults()
}
