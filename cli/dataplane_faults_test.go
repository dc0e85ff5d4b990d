package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/rogpeppe/go-internal/testscript"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/provisiontest"
)

// account is the double of a transcript, and what is to happen to it during a run.
type account struct {
	mu     sync.Mutex
	double *awsdouble.Double
	due    map[string][]func() // by call: eks:CreateNodegroup
	failed error               // of what happened by itself
	ahead  atomic.Int64        // nanoseconds that AWS's clock is ahead of the machine's

	narrowed map[string]string // see spoiler
}

// accountKey is under what a transcript keeps its account.
const accountKey = "account"

func accountOf(ts *testscript.TestScript) *account {
	a := ts.Value(accountKey).(*account)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.double == nil {
		ts.Fatalf("there is no double: begin with awsdouble")
	}
	ts.Check(a.failed)
	return a
}

// hook does what is due at a call, before the call is performed.
func (a *account) hook(call awsdouble.Call) awsdouble.Verdict {
	name := call.Service + ":" + call.Operation
	a.mu.Lock()
	var do func()
	if list := a.due[name]; len(list) > 0 {
		do, a.due[name] = list[0], list[1:]
	}
	a.mu.Unlock()
	if do != nil {
		do()
	}
	return awsdouble.Proceed()
}

// armFault is the transcripts' command
//
//	fault RULE...
//
// after which the double has these faults besides.
func armFault(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fault RULE...")
	}
	for _, rule := range args {
		fault, err := awsdouble.ParseFault(rule)
		ts.Check(err)
		accountOf(ts).double.Arm(fault)
	}
}

// snapshot is the transcripts' command
//
//	snapshot FILE
//
// which writes everything that is in the account into a file, without what differs
// between two runs anyway.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: snapshot FILE")
	}
	text, err := provisiontest.Describe(context.Background(), accountOf(ts).customer())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// customer is a configuration with the keys of the account's administrator.
func (a *account) customer() aws.Config {
	key := a.double.Accounts().Customer.Credentials
	return aws.Config{Region: provisiontest.Region, BaseEndpoint: aws.String(a.double.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")}
}

// upon is the transcripts' command
//
//	upon CALL damage WHAT [ARG]
//	upon CALL signal NAME [then CALL signal NAME]...
//
// which does something once, when the double is next asked for a call such as
// eks:CreateNodegroup and before it performs it: what damage does, or sending a signal to
// the process whose id is in the file pid.
func upon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: upon CALL damage WHAT [ARG], upon CALL signal NAME [then CALL signal NAME]...")
	}
	accountOf(ts).upon(ts, args, false)
}

// upon does so; again is the last signal of several, which ends the process.
func (a *account) upon(ts *testscript.TestScript, args []string, again bool) {
	var do func() error
	next := args[3:]
	switch what := args[2]; args[1] {
	case "damage":
		do, next = a.damage(ts, what, next), nil
	case "signal":
		number, known := map[string]syscall.Signal{"INT": syscall.SIGINT, "HUP": syscall.SIGHUP}[what]
		if !known {
			ts.Fatalf("there is no signal %s", what)
		}
		file := ts.MkAbs("pid")
		do = func() error {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				return err
			}
			if !again {
				return syscall.Kill(pid, number)
			}
			// Two that come within a millisecond are one to the program, so the last one is
			// sent until it is heard.
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if err := syscall.Kill(pid, number); errors.Is(err, syscall.ESRCH) {
					return nil
				} else if err != nil {
					return err
				}
			}
			return fmt.Errorf("process %d bears it", pid)
		}
	default:
		ts.Fatalf("nothing is %s", args[1])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due == nil {
		a.due = map[string][]func(){}
	}
	a.due[args[0]] = append(a.due[args[0]], func() {
		if len(next) > 3 { // then CALL signal NAME, which may come at once
			a.upon(ts, next[1:], len(next) == 4)
		}
		if err := do(); err != nil {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.failed = errors.Join(a.failed, fmt.Errorf("upon %s: %w", strings.Join(args, " "), err))
		}
	})
}

// damage is the transcripts' command
//
//	damage WHAT [ARG]
//
// with which somebody spoils something of the data plane demo in the account; see the
// table below.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: damage WHAT [ARG]")
	}
	ts.Check(accountOf(ts).damage(ts, args[0], args[1:])())
}

func (a *account) damage(ts *testscript.TestScript, what string, args []string) func() error {
	do, known := map[string]func(*spoiler, context.Context) error{
		"routes":      (*spoiler).routes,     // the private subnets' ways out are deleted
		"gateways":    (*spoiler).gateways,   // the NAT gateways are deleted, and leave black holes
		"names":       (*spoiler).names,      // DNS hostnames are switched off
		"name-server": (*spoiler).nameServer, // the DHCP options name another one
		"node-policy": (*spoiler).nodePolicy, // the nodes' role loses its policy
		"node-entry":  (*spoiler).nodeEntry,  // the nodes' role is let in, but not as nodes
		"endpoint":    (*spoiler).endpoint,   // the API server listens to one address outside
		"subnet":      (*spoiler).subnet,     // the second private subnet is deleted
		"grant":       (*spoiler).grant,      // ARG, an action, is taken out of the access policies
		"regrant":     (*spoiler).regrant,    // and put back

		"default-dns":       (*spoiler).defaultNames,    // what hints say of the name server
		"forget-node-entry": (*spoiler).forgetNodeEntry, // and of the entry
	}[what]
	if !known {
		ts.Fatalf("nothing is known of %q", what)
	}
	return func() error {
		cfg := a.customer()
		s := &spoiler{ec2: ec2.NewFromConfig(cfg), eks: eks.NewFromConfig(cfg), iam: iam.NewFromConfig(cfg), args: args, narrowed: a.narrowed}
		return do(s, context.Background())
	}
}

// spoiler is somebody in the customer's account.
type spoiler struct {
	ec2  *ec2.Client
	eks  *eks.Client
	iam  *iam.Client
	args []string

	narrowed map[string]string // the version that a policy had, by ARN
}

var (
	demo     = aws.String("union-demo")
	nodeRole = aws.String("union-demo-node")

	nodeRoleARN = aws.String("arn:aws:iam::123456789012:role/union/union-demo-node")
)

// network is the data plane's.
func (s *spoiler) network(ctx context.Context) (*string, error) {
	out, err := s.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []ec2types.Filter{{Name: aws.String("tag:union:data-plane-id"), Values: []string{"demo"}}}})
	if err != nil {
		return nil, err
	}
	if len(out.Vpcs) != 1 {
		return nil, fmt.Errorf("got %d networks, want one", len(out.Vpcs))
	}
	return out.Vpcs[0].VpcId, nil
}

func (s *spoiler) in(ctx context.Context) ([]ec2types.Filter, error) {
	vpc, err := s.network(ctx)
	if err != nil {
		return nil, err
	}
	return []ec2types.Filter{{Name: aws.String("vpc-id"), Values: []string{*vpc}}}, nil
}

func (s *spoiler) routes(ctx context.Context) error {
	in, err := s.in(ctx)
	if err != nil {
		return err
	}
	tables, err := s.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: in})
	if err != nil {
		return err
	}
	for _, table := range tables.RouteTables {
		for _, route := range table.Routes {
			if route.NatGatewayId != nil {
				if _, err := s.ec2.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: table.RouteTableId, DestinationCidrBlock: route.DestinationCidrBlock}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *spoiler) gateways(ctx context.Context) error {
	in, err := s.in(ctx)
	if err != nil {
		return err
	}
	gateways, err := s.ec2.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{Filter: in})
	if err != nil {
		return err
	}
	for _, gateway := range gateways.NatGateways {
		if gateway.State != ec2types.NatGatewayStateAvailable {
			continue
		}
		if _, err := s.ec2.DeleteNatGateway(ctx, &ec2.DeleteNatGatewayInput{NatGatewayId: gateway.NatGatewayId}); err != nil {
			return err
		}
	}
	return nil
}

func (s *spoiler) names(ctx context.Context) error {
	vpc, err := s.network(ctx)
	if err != nil {
		return err
	}
	_, err = s.ec2.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{VpcId: vpc, EnableDnsHostnames: &ec2types.AttributeBooleanValue{Value: aws.Bool(false)}})
	return err
}

func (s *spoiler) nameServer(ctx context.Context) error { return s.serveNames(ctx, "10.0.0.53") }

func (s *spoiler) defaultNames(ctx context.Context) error {
	return s.serveNames(ctx, "AmazonProvidedDNS")
}

func (s *spoiler) serveNames(ctx context.Context, server string) error {
	vpc, err := s.network(ctx)
	if err != nil {
		return err
	}
	made, err := s.ec2.CreateDhcpOptions(ctx, &ec2.CreateDhcpOptionsInput{DhcpConfigurations: []ec2types.NewDhcpConfiguration{{Key: aws.String("domain-name-servers"), Values: []string{server}}}})
	if err != nil {
		return err
	}
	_, err = s.ec2.AssociateDhcpOptions(ctx, &ec2.AssociateDhcpOptionsInput{VpcId: vpc, DhcpOptionsId: made.DhcpOptions.DhcpOptionsId})
	return err
}

func (s *spoiler) nodePolicy(ctx context.Context) error {
	_, err := s.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: nodeRole, PolicyArn: aws.String("arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy")})
	return err
}

func (s *spoiler) nodeEntry(ctx context.Context) error {
	if err := s.forgetNodeEntry(ctx); err != nil {
		return err
	}
	_, err := s.eks.CreateAccessEntry(ctx, &eks.CreateAccessEntryInput{ClusterName: demo, PrincipalArn: nodeRoleARN, Type: aws.String("STANDARD")})
	return err
}

func (s *spoiler) forgetNodeEntry(ctx context.Context) error {
	_, err := s.eks.DeleteAccessEntry(ctx, &eks.DeleteAccessEntryInput{ClusterName: demo, PrincipalArn: nodeRoleARN})
	return err
}

func (s *spoiler) endpoint(ctx context.Context) error {
	_, err := s.eks.UpdateClusterConfig(ctx, &eks.UpdateClusterConfigInput{Name: demo, ResourcesVpcConfig: &ekstypes.VpcConfigRequest{
		EndpointPublicAccess: aws.Bool(true), EndpointPrivateAccess: aws.Bool(false), PublicAccessCidrs: []string{"203.0.113.7/32"}}})
	if err != nil {
		return err
	}
	return active(ctx, s.eks, demo)
}

func (s *spoiler) subnet(ctx context.Context) error {
	in, err := s.in(ctx)
	if err != nil {
		return err
	}
	subnets, err := s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: in})
	if err != nil {
		return err
	}
	for _, subnet := range subnets.Subnets {
		if aws.ToString(subnet.CidrBlock) == "10.0.64.0/18" {
			_, err := s.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: subnet.SubnetId})
			return err
		}
	}
	return errors.New("the second private subnet is not there")
}

// grant takes an action out of every policy of the access, as somebody does to whom it
// seems too much.
func (s *spoiler) grant(ctx context.Context) error {
	quoted := strconv.Quote(s.args[0])
	taken := 0
	pages := iam.NewListPoliciesPaginator(s.iam, &iam.ListPoliciesInput{Scope: iamtypes.PolicyScopeTypeLocal})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, p := range page.Policies {
			version, err := s.iam.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: p.Arn, VersionId: p.DefaultVersionId})
			if err != nil {
				return err
			}
			text, err := url.QueryUnescape(aws.ToString(version.PolicyVersion.Document))
			if err != nil {
				return err
			}
			less := strings.NewReplacer(quoted+",", "", ","+quoted, "", ", "+quoted, "", quoted, `"sts:GetCallerIdentity"`).Replace(text)
			if less == text {
				continue
			}
			taken++
			s.narrowed[aws.ToString(p.Arn)] = aws.ToString(p.DefaultVersionId)
			if _, err := s.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: p.Arn, PolicyDocument: &less, SetAsDefault: true}); err != nil {
				return err
			}
		}
	}
	if taken == 0 {
		return fmt.Errorf("no policy has %s", quoted)
	}
	return nil
}

// foreign is the transcripts' command
//
//	foreign KIND NAME
//
// with which somebody else makes a thing that has the name of one of the data plane's.
func foreign(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: foreign KIND NAME")
	}
	ctx, cfg, name := context.Background(), accountOf(ts).customer(), aws.String(args[1])
	var err error
	switch args[0] {
	case "bucket":
		_, err = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: name,
			CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: provisiontest.Region}})
	case "role":
		_, err = iam.NewFromConfig(cfg).CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"eks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)})
	case "log-group":
		_, err = cloudwatchlogs.NewFromConfig(cfg).CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: name})
	case "key-alias":
		var key *kms.CreateKeyOutput
		if key, err = kms.NewFromConfig(cfg).CreateKey(ctx, &kms.CreateKeyInput{}); err == nil {
			_, err = kms.NewFromConfig(cfg).CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: key.KeyMetadata.KeyId})
		}
	case "cluster": // with the role that was made before
		var subnets []string
		if subnets, err = twoSubnets(ctx, ec2.NewFromConfig(cfg)); err == nil {
			_, err = eks.NewFromConfig(cfg).CreateCluster(ctx, &eks.CreateClusterInput{Name: name, RoleArn: aws.String("arn:aws:iam::123456789012:role/foreign"),
				ResourcesVpcConfig: &ekstypes.VpcConfigRequest{SubnetIds: subnets}})
		}
		if err == nil {
			err = active(ctx, eks.NewFromConfig(cfg), name)
		}
	case "load-balancer":
		var subnets []string
		if subnets, err = twoSubnets(ctx, ec2.NewFromConfig(cfg)); err == nil {
			_, err = elb.NewFromConfig(cfg).CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: name, Type: elbtypes.LoadBalancerTypeEnumNetwork,
				Scheme: elbtypes.LoadBalancerSchemeEnumInternal, Subnets: subnets})
		}
	case "ecs-cluster":
		_, err = ecs.NewFromConfig(cfg).CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: name})
	default:
		err = fmt.Errorf("nothing is known of %q", args[0])
	}
	ts.Check(err)
}

// twoSubnets are in a network of their own, in two zones.
func twoSubnets(ctx context.Context, c *ec2.Client) ([]string, error) {
	vpc, err := c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.9.0.0/16")})
	if err != nil {
		return nil, err
	}
	var ids []string
	for i, zone := range []string{"euc1-az1", "euc1-az2"} {
		made, err := c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(fmt.Sprintf("10.9.%d.0/24", i)), AvailabilityZoneId: &zone})
		if err != nil {
			return nil, err
		}
		ids = append(ids, *made.Subnet.SubnetId)
	}
	return ids, nil
}

func (s *spoiler) regrant(ctx context.Context) error {
	for arn, version := range s.narrowed {
		narrow, err := s.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
		if err != nil {
			return err
		}
		if _, err := s.iam.SetDefaultPolicyVersion(ctx, &iam.SetDefaultPolicyVersionInput{PolicyArn: &arn, VersionId: &version}); err != nil {
			return err
		}
		if _, err := s.iam.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: &arn, VersionId: narrow.Policy.DefaultVersionId}); err != nil {
			return err
		}
		delete(s.narrowed, arn)
	}
	return nil
}

// active waits until a cluster is, by the double's fast clock.
func active(ctx context.Context, c *eks.Client, name *string) error {
	waiter := eks.NewClusterActiveWaiter(c, func(o *eks.ClusterActiveWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 50*time.Millisecond
	})
	return waiter.Wait(ctx, &eks.DescribeClusterInput{Name: name}, time.Minute)
}
