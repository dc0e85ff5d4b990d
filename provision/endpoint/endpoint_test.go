package endpoint_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/jumper"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/endpoint"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// image is the one that really runs: the double starts this test as the jumper.
const image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/union/biplane-jumper:test"

// One account serves every test; each has a data plane of its own in it.
var account *provisiontest.Account

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if filepath.Base(os.Args[0]) == "biplane-jumper" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		return jumper.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if os.Getenv(killed) != "" {
		if err := program(); err != nil {
			return say(err)
		}
		return 0
	}
	dir, err := os.MkdirTemp("", "endpoint")
	if err != nil {
		return say(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return say(err)
	}
	program := filepath.Join(dir, "biplane-jumper")
	if err := os.Symlink(self, program); err != nil {
		return say(err)
	}
	account, err = provisiontest.Start(context.Background(), awsdouble.Options{Clock: clock.Scaled(1000), Tasks: map[string]string{image: program}}, spec.Strict)
	if err != nil {
		return say(err)
	}
	status := m.Run()
	if err := account.Double.Stop(); err != nil {
		return say(err)
	}
	return status
}

func say(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// place is the data plane of a test: its network and cluster are there.
type place struct {
	dp  *spec.DataPlane
	api *httptest.Server // stands for the cluster's API server, if it is not nil
}

// newPlace makes a network and a cluster, and the vendor's network.
func newPlace(t *testing.T, vendorSide bool) *place {
	t.Helper()
	w := &place{dp: account.DataPlane()}
	w.dp.Spec.Network.Create = &spec.NetworkToMake{CIDR: "10.0.0.0/16", Zones: 2, NAT: spec.NATSingle, Endpoints: spec.GatewayOnly}
	w.dp.Spec.PrivateEndpoint.Enabled = true
	w.dp.Defaults()
	if vendorSide {
		vpc, subnets := vendorNetwork(t)
		w.dp.Spec.PrivateEndpoint.Vendor = &spec.VendorSide{VPC: vpc, Subnets: subnets}
	}
	base, _ := w.base(t, operations.Provision)
	account.Reach(t, base, step.Present)
	return w
}

// base are the steps of the network and the cluster that a private endpoint needs.
func (w *place) base(t *testing.T, who operations.Roles) ([]step.Step, *plane.Plane) {
	t.Helper()
	p := account.Open(t, w.dp, who)
	ways := network.Steps(p)
	var subnets []string
	for _, s := range ways {
		if strings.HasPrefix(s.Name(), "subnet private") {
			subnets = append(subnets, s.Name())
		}
	}
	all := slices.Concat(ways, cluster.Steps(p, cluster.After{Subnets: subnets, Ways: subnets}))
	wanted := append(subnets, cluster.StepName(p))
	var base []step.Step
	for i := 0; i < len(wanted); i++ {
		for _, s := range all {
			if s.Name() == wanted[i] && !slices.ContainsFunc(base, func(have step.Step) bool { return have.Name() == s.Name() }) {
				base = append(base, s)
				wanted = append(wanted, s.Needs()...)
			}
		}
	}
	return base, p
}

// steps are those of the private endpoint, and with base those that it needs too.
func (w *place) steps(t *testing.T, who operations.Roles) (all []step.Step, p *plane.Plane) {
	t.Helper()
	base, p := w.base(t, who)
	after := endpoint.After{Network: w.subnets(base), Cluster: cluster.StepName(p)}
	if w.api != nil {
		base = append(base, &elsewhere{p, w.api})
		after.Cluster = (*elsewhere)(nil).Name()
	}
	own, err := endpoint.Steps(p, after)
	if err != nil {
		t.Fatal(err)
	}
	return append(base, own...), p
}

func (w *place) subnets(base []step.Step) []string {
	var names []string
	for _, s := range base {
		if strings.HasPrefix(s.Name(), "subnet private") {
			names = append(names, s.Name())
		}
	}
	return names
}

// elsewhere tells of another API server than the cluster's, at which something answers.
type elsewhere struct {
	p   *plane.Plane
	api *httptest.Server
}

func (*elsewhere) Name() string      { return "another API server" }
func (e *elsewhere) Needs() []string { return []string{cluster.StepName(e.p)} }
func (e *elsewhere) Look(context.Context, step.Goal) (step.Found, error) {
	e.p.Know(plane.ClusterAddress, e.api.URL)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.api.Certificate().Raw})
	e.p.Know(plane.ClusterCA, base64.StdEncoding.EncodeToString(ca))
	return nothing{}, nil
}
func (e *elsewhere) Check(context.Context) error { return nil }

type nothing struct{}

func (nothing) Plan() step.Change            { return step.Change{Action: step.Keep} }
func (nothing) Make(context.Context) error   { return nil }
func (nothing) Remove(context.Context) error { return nil }

var ranges atomic.Int64

// vendorNetwork makes a network in the vendor's account.
func vendorNetwork(t *testing.T) (vpc string, subnets []string) {
	t.Helper()
	api := ec2.NewFromConfig(account.Vendor())
	cidr := fmt.Sprintf("10.%d", 100+ranges.Add(1))
	made, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String(cidr + ".0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ModifyVpcAttribute(t.Context(), &ec2.ModifyVpcAttributeInput{VpcId: made.Vpc.VpcId, EnableDnsHostnames: &ec2types.AttributeBooleanValue{Value: aws.Bool(true)}}); err != nil {
		t.Fatal(err)
	}
	for i, zone := range []string{"a", "b", "b"} { // the third is of no use: one is enough in a zone
		s, err := api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: made.Vpc.VpcId, CidrBlock: aws.String(fmt.Sprintf("%s.%d.0/24", cidr, i)), AvailabilityZone: aws.String(provisiontest.Region + zone)})
		if err != nil {
			t.Fatal(err)
		}
		subnets = append(subnets, *s.Subnet.SubnetId)
	}
	return *made.Vpc.VpcId, subnets
}

// zone makes a hosted zone of the vendor's.
func zone(t *testing.T, name string, private bool) string {
	t.Helper()
	in := &route53.CreateHostedZoneInput{Name: &name, CallerReference: aws.String(fmt.Sprint(t.Name(), name, private))}
	if private {
		vpc, _ := vendorNetwork(t)
		in.HostedZoneConfig, in.VPC = &r53types.HostedZoneConfig{PrivateZone: true}, &r53types.VPC{VPCId: &vpc, VPCRegion: provisiontest.Region}
	}
	out, err := route53.NewFromConfig(account.Vendor()).CreateHostedZone(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(*out.HostedZone.Id, "/hostedzone/")
}

// changes are the steps of a plan that would do something.
func changes(plan step.Plan) []string {
	var out []string
	for _, s := range plan.Steps {
		if s.Action.Writes() || s.Action == step.Refuse || s.Action == step.Leave {
			out = append(out, fmt.Sprintf("%s %s: %s", s.Action, s.Name, strings.Join(s.Details, "; ")))
		}
	}
	return out
}

// It is made with the strict grants and nothing else, found as it is by those who look,
// passes TLS to what stands for the API server, and goes without a trace.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newPlace(t, true)
	w.api = apiServer(t)
	e := &w.dp.Spec.PrivateEndpoint
	e.Image, e.PrivateDNSName = image, w.dp.Metadata.Name+".life.example"
	e.Vendor.PublicZone, e.Vendor.PrivateZone = zone(t, "life.example", false), zone(t, "life.example", true)

	steps, p := w.steps(t, operations.Provision)
	account.Reach(t, steps, step.Present)
	for _, who := range []operations.Roles{operations.Observe, operations.Provision, operations.Operate} {
		again, _ := w.steps(t, who)
		if got := changes(account.Plan(t, again, step.Present)); len(got) > 0 {
			t.Errorf("%s: got %s, want nothing to do", who, strings.Join(got, "\n"))
		}
	}

	findings, err := endpoint.Health(t.Context(), p, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	var way string
	for _, f := range findings {
		if ip, ok := strings.CutPrefix(f.Of, "jumper "); ok {
			way = ip + ":8443"
		}
		// The endpoint's own name leads nowhere from here.
		if f.Status != endpoint.OK && f.Of != "way to the API server" {
			t.Errorf("got %+v, want it ok", f)
		}
	}
	findings, err = endpoint.Health(t.Context(), p, nil, way)
	if err != nil {
		t.Fatal(err)
	}
	if last := findings[len(findings)-1]; last.Status != endpoint.OK || !strings.Contains(last.Message, "/readyz answers 200") {
		t.Errorf("got %+v, want the way through the jumper at %s to the API server", last, way)
	}

	down, _ := w.steps(t, operations.Teardown)
	account.Reach(t, down, step.Absent)
	again, _ := w.steps(t, operations.Teardown)
	for _, s := range account.Plan(t, again, step.Absent).Steps {
		if s.Action.Writes() {
			t.Errorf("got %s %s: %v, want it gone", s.Action, s.Name, s.Details)
		}
	}
}

// apiServer is a TLS server with names that an API server's certificate has.
func apiServer(t *testing.T) *httptest.Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"kubernetes"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	api.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	api.StartTLS()
	t.Cleanup(api.Close)
	return api
}

// proofOf is what proves the private name, and how far that is.
func proofOf(t *testing.T, w *place) (label, value, state string) {
	t.Helper()
	_, p := w.base(t, operations.Observe)
	out, err := p.AWS.EC2.DescribeVpcEndpointServiceConfigurations(t.Context(), &ec2.DescribeVpcEndpointServiceConfigurationsInput{Filters: []ec2types.Filter{{Name: aws.String("tag:union:data-plane-id"), Values: []string{w.dp.Metadata.Name}}}})
	if err != nil || len(out.ServiceConfigurations) != 1 || out.ServiceConfigurations[0].PrivateDnsNameConfiguration == nil {
		t.Fatalf("got %v, %v, want one endpoint service with a private name", out, err)
	}
	proof := out.ServiceConfigurations[0].PrivateDnsNameConfiguration
	return *proof.Name, *proof.Value, string(proof.State)
}

// It turns away who is not expected, lets in whom the operator names, and goes on
// without a proof that somebody else is to make.
func TestSideOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w := newPlace(t, false)
	name := w.dp.Metadata.Name + ".else.example"
	w.dp.Spec.PrivateEndpoint.PrivateDNSName = name
	steps, p := w.steps(t, operations.Provision)
	account.Reach(t, steps, step.Present)

	// The name: AWS was asked, has found nothing, and the plan says what is to be made.
	label, value, _ := proofOf(t, w)
	again, _ := w.steps(t, operations.Observe)
	if got := strings.Join(changes(account.Plan(t, again, step.Present)), "\n"); !strings.Contains(got, label+"."+name) || !strings.Contains(got, value) {
		t.Errorf("got the plan %s, want the record that proves the name", got)
	}
	public := zone(t, "else.example", false)
	if _, err := route53.NewFromConfig(account.Vendor()).ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{HostedZoneId: &public, ChangeBatch: &r53types.ChangeBatch{Changes: []r53types.Change{{
		Action: r53types.ChangeActionCreate, ResourceRecordSet: &r53types.ResourceRecordSet{Name: aws.String(label + "." + name), Type: r53types.RRTypeTxt, TTL: aws.Int64(60),
			ResourceRecords: []r53types.ResourceRecord{{Value: aws.String(`"` + value + `"`)}}}}}}}); err != nil {
		t.Fatal(err)
	}
	for state := ""; state != "verified"; _, _, state = proofOf(t, w) {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		if state != "pendingVerification" {
			steps, _ = w.steps(t, operations.Provision)
			account.Reach(t, steps, step.Present)
		}
	}

	// Who connects: two endpoints of the vendor's account, and one of the customer's own.
	service, err := p.AWS.EC2.DescribeVpcEndpointServiceConfigurations(t.Context(), &ec2.DescribeVpcEndpointServiceConfigurationsInput{Filters: []ec2types.Filter{{Name: aws.String("tag:union:data-plane-id"), Values: []string{w.dp.Metadata.Name}}}})
	if err != nil {
		t.Fatal(err)
	}
	connect := func(cfg aws.Config, vpc string, subnets []string) string {
		t.Helper()
		out, err := ec2.NewFromConfig(cfg).CreateVpcEndpoint(t.Context(), &ec2.CreateVpcEndpointInput{VpcId: &vpc, SubnetIds: subnets, VpcEndpointType: ec2types.VpcEndpointTypeInterface,
			ServiceName: service.ServiceConfigurations[0].ServiceName, PrivateDnsEnabled: aws.Bool(false)})
		if err != nil {
			t.Fatal(err)
		}
		return *out.VpcEndpoint.VpcEndpointId
	}
	vpc, subnets := vendorNetwork(t)
	theirs, other := connect(account.Vendor(), vpc, subnets[:1]), connect(account.Vendor(), vpc, subnets[1:])
	strange := connect(account.Customer(), p.One(plane.VPC), p.All(plane.PrivateSubnets)[:1])

	// apply is a run with --accept.
	apply := func(accept ...string) {
		t.Helper()
		base, p := w.base(t, operations.Provision)
		own, err := endpoint.Steps(p, endpoint.After{Network: w.subnets(base), Cluster: cluster.StepName(p), Accept: accept})
		if err != nil {
			t.Fatal(err)
		}
		account.Reach(t, append(base, own...), step.Present)
	}
	states := func() map[string]string {
		t.Helper()
		out, err := p.AWS.EC2.DescribeVpcEndpointConnections(t.Context(), &ec2.DescribeVpcEndpointConnectionsInput{Filters: []ec2types.Filter{{Name: aws.String("service-id"), Values: []string{*service.ServiceConfigurations[0].ServiceId}}}})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, c := range out.VpcEndpointConnections {
			got[*c.VpcEndpointId] = string(c.VpcEndpointState)
		}
		return got
	}
	apply()
	if got, want := states(), (map[string]string{theirs: "pendingAcceptance", other: "pendingAcceptance", strange: "rejected"}); !maps.Equal(got, want) {
		t.Errorf("got connections %v, want %v", got, want)
	}
	apply(theirs)
	if got, want := states(), (map[string]string{theirs: "available", other: "pendingAcceptance", strange: "rejected"}); !maps.Equal(got, want) {
		t.Errorf("got connections %v, want %v", got, want)
	}

	if _, err := ec2.NewFromConfig(account.Customer()).DeleteVpcEndpoints(t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{strange}}); err != nil {
		t.Fatal(err) // it would keep its subnet
	}
	// What is connected is turned away before the endpoint service goes.
	down, _ := w.steps(t, operations.Teardown)
	account.Reach(t, down, step.Absent)
}

// It finds what somebody changed, field by field, and puts it back.
func TestDrift(t *testing.T) {
	t.Parallel()
	w := newPlace(t, true)
	steps, _ := w.steps(t, operations.Provision)
	account.Reach(t, steps, step.Present)

	ctx, customer := t.Context(), account.Customer()
	name := "unionai-access-" + w.dp.Metadata.Name
	balancers := elb.NewFromConfig(customer)
	found, err := balancers.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{name}})
	must(t, err)
	_, err = balancers.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: found.LoadBalancers[0].LoadBalancerArn,
		Attributes: []elbtypes.LoadBalancerAttribute{{Key: aws.String("load_balancing.cross_zone.enabled"), Value: aws.String("false")}}})
	must(t, err)
	_, err = ecs.NewFromConfig(customer).UpdateService(ctx, &ecs.UpdateServiceInput{Cluster: &name, Service: aws.String("proxy"), DesiredCount: aws.Int32(1)})
	must(t, err)
	api := ec2.NewFromConfig(customer)
	groups, err := api.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []ec2types.Filter{{Name: aws.String("group-name"), Values: []string{name + "-jumper"}}}})
	must(t, err)
	_, err = api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: groups.SecurityGroups[0].GroupId, IpPermissions: []ec2types.IpPermission{{
		IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), IpRanges: []ec2types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}})
	must(t, err)
	offers, err := api.DescribeVpcEndpointServiceConfigurations(ctx, &ec2.DescribeVpcEndpointServiceConfigurationsInput{Filters: []ec2types.Filter{{Name: aws.String("tag:union:data-plane-id"), Values: []string{w.dp.Metadata.Name}}}})
	must(t, err)
	offer := offers.ServiceConfigurations[0].ServiceId
	_, err = api.ModifyVpcEndpointServicePermissions(ctx, &ec2.ModifyVpcEndpointServicePermissionsInput{ServiceId: offer, AddAllowedPrincipals: []string{"*"}})
	must(t, err)
	_, err = api.ModifyVpcEndpointServiceConfiguration(ctx, &ec2.ModifyVpcEndpointServiceConfigurationInput{ServiceId: offer, AcceptanceRequired: aws.Bool(false)})
	must(t, err)

	again, _ := w.steps(t, operations.Observe)
	account.Plan(t, again, step.Present)
	got := map[string]string{}
	for _, s := range again {
		if d, ok := s.(step.Drifter); ok {
			drift, err := d.Drift(ctx)
			must(t, err)
			for _, one := range drift {
				got[s.Name()+": "+one.Field] = one.Got
			}
		}
	}
	want := map[string]string{
		"load balancer " + name + ": load_balancing.cross_zone.enabled": "false",
		"service of the jumpers: tasks":                                 "1",
		"security group of the jumpers: admittance":                     "tcp 22 0.0.0.0/0",
		"permission of the vendor: others":                              "*",
		"endpoint service: acceptance":                                  "not required",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got drift %v, want %v", got, want)
	}
	// Another image is another revision, which the service goes over to.
	w.dp.Spec.PrivateEndpoint.Image = "example.com/biplane-jumper:2"
	steps, _ = w.steps(t, operations.Provision)
	account.Reach(t, steps, step.Present)
	again, _ = w.steps(t, operations.Provision)
	if got := changes(account.Plan(t, again, step.Present)); len(got) > 0 {
		t.Errorf("got %s, want nothing to do", strings.Join(got, "\n"))
	}
	if revisions, err := ecs.NewFromConfig(customer).ListTaskDefinitions(ctx, &ecs.ListTaskDefinitionsInput{FamilyPrefix: &name}); err != nil || len(revisions.TaskDefinitionArns) != 2 {
		t.Errorf("got revisions %v, %v, want two", revisions.TaskDefinitionArns, err)
	}
	w.dp.Spec.PrivateEndpoint.Image = "example.com/biplane-jumper:3"
	steps, _ = w.steps(t, operations.Provision)
	account.Reach(t, steps, step.Present)
	if revisions, err := ecs.NewFromConfig(customer).ListTaskDefinitions(ctx, &ecs.ListTaskDefinitionsInput{FamilyPrefix: &name}); err != nil || len(revisions.TaskDefinitionArns) != 2 || strings.HasSuffix(revisions.TaskDefinitionArns[0], ":1") {
		t.Errorf("got revisions %v, %v, want the last two", revisions.TaskDefinitionArns, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// It refuses what cannot be built, in one sentence.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*spec.DataPlane)
		want   string
	}{
		{"a name without room in a load balancer's", func(dp *spec.DataPlane) { dp.Metadata.Name = "a-name-of-18-chars" },
			`metadata.name: "a-name-of-18-chars" has 18 characters, and a load balancer's name, unionai-access-… with at most 32, leaves room for 17`},
		{"a vendor's network in another region", func(dp *spec.DataPlane) {
			dp.Spec.PrivateEndpoint.Vendor = &spec.VendorSide{VPC: "vpc-1", Subnets: []string{"subnet-1"}, Region: "eu-west-1"}
		}, `spec.privateEndpoint.vendor.region: "eu-west-1" is not the data plane's eu-central-1, and PrivateLink between regions is not granted`},
		{"a vendor's side without subnets", func(dp *spec.DataPlane) { dp.Spec.PrivateEndpoint.Vendor = &spec.VendorSide{VPC: "vpc-1"} },
			"spec.privateEndpoint.vendor has no vpc or no subnets"},
		{"zones without a name", func(dp *spec.DataPlane) {
			dp.Spec.PrivateEndpoint.Vendor = &spec.VendorSide{VPC: "vpc-1", Subnets: []string{"subnet-1"}, PublicZone: "Z1"}
		}, "spec.privateEndpoint.vendor has a zone, and privateDnsName is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dp := account.DataPlane()
			tc.change(dp)
			p, err := plane.New(dp, nil, account.Clock)
			must(t, err)
			if _, err := endpoint.Steps(p, endpoint.After{}); err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// A record that AWS does not see at first keeps the run waiting, not failing.
func TestProofThatIsSeenLate(t *testing.T) {
	t.Parallel()
	w := newPlace(t, true)
	name := w.dp.Metadata.Name + ".late.example"
	e := &w.dp.Spec.PrivateEndpoint
	e.PrivateDNSName, e.Vendor.PublicZone = name, zone(t, "late.example", true) // a private zone is one that AWS does not see
	steps, _ := w.steps(t, operations.Provision)
	r := account.Runner(steps)
	var failures int
	r.Progress = func(event step.Event) {
		if event.Step != "proof of the private name" || event.Stage != step.Waiting || !strings.Contains(event.Err.Error(), "has not found the record") {
			return
		}
		if failures++; failures != 2 {
			return
		}
		label, value, _ := proofOf(t, w)
		public := zone(t, "late.example", false)
		_, err := route53.NewFromConfig(account.Vendor()).ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{HostedZoneId: &public, ChangeBatch: &r53types.ChangeBatch{Changes: []r53types.Change{{
			Action: r53types.ChangeActionCreate, ResourceRecordSet: &r53types.ResourceRecordSet{Name: aws.String(label + "." + name), Type: r53types.RRTypeTxt, TTL: aws.Int64(60),
				ResourceRecords: []r53types.ResourceRecord{{Value: aws.String(`"` + value + `"`)}}}}}}})
		if err != nil {
			t.Error(err)
		}
	}
	must(t, r.Apply(t.Context(), account.Plan(t, steps, step.Present)))
	if _, _, state := proofOf(t, w); state != "verified" || failures < 2 {
		t.Errorf("got the name %s after %d failures, want it verified after two", state, failures)
	}
}

// It refuses, before anything is made, when the roles of the tasks are not as they are to be.
func TestRolesThatAreMissing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, trust, policy, want string }{
		{"it is there", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":["x.amazonaws.com","ecs-tasks.amazonaws.com"]},"Action":"sts:AssumeRole"}}`, "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy", ""},
		{"another trust", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`, "", "it does not trust ecs-tasks.amazonaws.com"},
		{"no policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`, "", "it does not carry AWS's policy service-role/AmazonECSTaskExecutionRolePolicy"},
		{"no role", "", "", "it is not there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			double, err := awsdouble.Start(t.Context(), awsdouble.Options{Region: provisiontest.Region})
			must(t, err)
			t.Cleanup(func() { must(t, double.Stop()) })
			key, url := double.Accounts().Customer.Credentials, double.URL()
			cfg := aws.Config{Region: provisiontest.Region, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")}
			dp := account.DataPlane()
			p, err := plane.New(dp, nil, account.Clock)
			must(t, err)
			p.AWS = plane.NewClients(cfg)
			if name := "unionai-access-eu-central-1-ecs-execution-role"; tc.trust != "" {
				_, err := p.AWS.IAM.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &tc.trust})
				must(t, err)
				if tc.policy != "" {
					_, err := p.AWS.IAM.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: &name, PolicyArn: &tc.policy})
					must(t, err)
				}
			}
			steps, err := endpoint.Steps(p, endpoint.After{})
			must(t, err)
			found, err := steps[0].Look(t.Context(), step.Present)
			must(t, err)
			change := found.Plan()
			if got := strings.Join(change.Details, ""); got != tc.want || (change.Action == step.Refuse) != (tc.want != "") || tc.want != "" && !strings.Contains(change.Hint, "--private-endpoint") {
				t.Errorf("got %+v, want %q", change, tc.want)
			}
		})
	}
}

// A network that is the customer's is told of by its one step; nothing of it is changed.
func TestGivenNetwork(t *testing.T) {
	t.Parallel()
	w := newPlace(t, true)
	account.Reach(t, network.Steps(account.Open(t, w.dp, operations.Provision)), step.Present) // the rest of it, with the 14 endpoints
	_, p := w.base(t, operations.Provision)
	account.Plan(t, network.Steps(p), step.Present)
	given := *w.dp
	given.Spec.Network = spec.Network{Existing: &spec.NetworkThatIs{VPC: p.One(plane.VPC), PublicSubnets: p.All(plane.PublicSubnets), PrivateSubnets: p.All(plane.PrivateSubnets)}}
	w.dp = &given
	account.Reach(t, w.all(t, operations.Provision, step.Present), step.Present)
	for _, change := range changes(account.Plan(t, w.all(t, operations.Observe, step.Present), step.Present)) {
		t.Errorf("got %s, want nothing to do", change)
	}
	account.Reach(t, w.all(t, operations.Teardown, step.Absent), step.Absent)
}
