package provisiontest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"biplane.dev/biplane/provision/fault"
)

// Describe is everything in an account that a data plane has things of, as text, one
// thing a line, without what differs between two runs anyway: ids, times, and the order
// of lists. Two accounts in the same state have the same text.
func Describe(ctx context.Context, cfg aws.Config) (string, error) {
	d := &describer{ctx: ctx}
	d.network(ec2.NewFromConfig(cfg))
	d.cluster(eks.NewFromConfig(cfg))
	d.identity(iam.NewFromConfig(cfg))
	d.data(cfg)
	slices.Sort(d.lines)
	return strings.Join(d.lines, "\n") + "\n", d.err
}

type describer struct {
	ctx   context.Context
	lines []string
	err   error
}

// add adds a line for each thing of a list, and takes the error of the call that listed them.
func (d *describer) add(kind string, things any, err error) {
	if err != nil {
		if !fault.Gone(err) && d.err == nil {
			d.err = fmt.Errorf("describing %s: %w", kind, err)
		}
		return
	}
	list := reflect.ValueOf(things)
	for i := range list.Len() {
		d.line(kind, list.Index(i).Interface())
	}
}

func (d *describer) line(kind string, thing any) {
	text, err := json.Marshal(thing)
	if err != nil {
		d.err = err
		return
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		d.err = err
		return
	}
	text, err = json.Marshal(lasting(plain))
	if err != nil {
		d.err = err
	}
	d.lines = append(d.lines, kind+" "+string(text))
}

func (d *describer) network(c *ec2.Client) {
	vpcs, err := c.DescribeVpcs(d.ctx, &ec2.DescribeVpcsInput{})
	d.add("vpc", list(vpcs, func(o *ec2.DescribeVpcsOutput) any { return o.Vpcs }), err)
	subnets, err := c.DescribeSubnets(d.ctx, &ec2.DescribeSubnetsInput{})
	d.add("subnet", list(subnets, func(o *ec2.DescribeSubnetsOutput) any { return o.Subnets }), err)
	gateways, err := c.DescribeInternetGateways(d.ctx, &ec2.DescribeInternetGatewaysInput{})
	d.add("internet gateway", list(gateways, func(o *ec2.DescribeInternetGatewaysOutput) any { return o.InternetGateways }), err)
	addresses, err := c.DescribeAddresses(d.ctx, &ec2.DescribeAddressesInput{})
	d.add("address", list(addresses, func(o *ec2.DescribeAddressesOutput) any { return o.Addresses }), err)
	tables, err := c.DescribeRouteTables(d.ctx, &ec2.DescribeRouteTablesInput{})
	d.add("route table", list(tables, func(o *ec2.DescribeRouteTablesOutput) any { return o.RouteTables }), err)
	endpoints, err := c.DescribeVpcEndpoints(d.ctx, &ec2.DescribeVpcEndpointsInput{})
	d.add("endpoint", list(endpoints, func(o *ec2.DescribeVpcEndpointsOutput) any { return o.VpcEndpoints }), err)
	groups, err := c.DescribeSecurityGroups(d.ctx, &ec2.DescribeSecurityGroupsInput{})
	d.add("security group", list(groups, func(o *ec2.DescribeSecurityGroupsOutput) any { return o.SecurityGroups }), err)
	flows, err := c.DescribeFlowLogs(d.ctx, &ec2.DescribeFlowLogsInput{})
	d.add("flow log", list(flows, func(o *ec2.DescribeFlowLogsOutput) any { return o.FlowLogs }), err)
	templates, err := c.DescribeLaunchTemplates(d.ctx, &ec2.DescribeLaunchTemplatesInput{})
	d.add("launch template", list(templates, func(o *ec2.DescribeLaunchTemplatesOutput) any { return o.LaunchTemplates }), err)
	interfaces, err := c.DescribeNetworkInterfaces(d.ctx, &ec2.DescribeNetworkInterfacesInput{})
	d.add("interface", list(interfaces, func(o *ec2.DescribeNetworkInterfacesOutput) any { return o.NetworkInterfaces }), err)
	nats, err := c.DescribeNatGateways(d.ctx, &ec2.DescribeNatGatewaysInput{})
	if err != nil {
		d.add("NAT gateway", nil, err)
		return
	}
	for _, nat := range nats.NatGateways {
		if nat.State != "deleted" && nat.State != "failed" { // shown for an hour
			d.line("NAT gateway", nat)
		}
	}
}

// list is a field of an output that may be nil.
func list[T any](out *T, field func(*T) any) any {
	if out == nil {
		return []int{}
	}
	return field(out)
}

func (d *describer) cluster(c *eks.Client) {
	clusters, err := c.ListClusters(d.ctx, &eks.ListClustersInput{})
	if err != nil {
		d.add("cluster", nil, err)
		return
	}
	for _, name := range clusters.Clusters {
		if out, err := c.DescribeCluster(d.ctx, &eks.DescribeClusterInput{Name: &name}); err == nil {
			d.line("cluster", out.Cluster)
		}
		addons, err := c.ListAddons(d.ctx, &eks.ListAddonsInput{ClusterName: &name})
		for _, addon := range list(addons, func(o *eks.ListAddonsOutput) any { return o.Addons }).([]string) {
			if out, err := c.DescribeAddon(d.ctx, &eks.DescribeAddonInput{ClusterName: &name, AddonName: &addon}); err == nil {
				d.line("add-on", out.Addon)
			}
		}
		d.add("add-on", []int{}, err)
		groups, err := c.ListNodegroups(d.ctx, &eks.ListNodegroupsInput{ClusterName: &name})
		for _, group := range list(groups, func(o *eks.ListNodegroupsOutput) any { return o.Nodegroups }).([]string) {
			if out, err := c.DescribeNodegroup(d.ctx, &eks.DescribeNodegroupInput{ClusterName: &name, NodegroupName: &group}); err == nil {
				d.line("node group", out.Nodegroup)
			}
		}
		d.add("node group", []int{}, err)
		entries, err := c.ListAccessEntries(d.ctx, &eks.ListAccessEntriesInput{ClusterName: &name})
		if fault.Code(err) == "InvalidRequestException" {
			err = nil // a cluster of somebody else's, which has none
		}
		d.add("access entry", list(entries, func(o *eks.ListAccessEntriesOutput) any { return o.AccessEntries }), err)
		pairs, err := c.ListPodIdentityAssociations(d.ctx, &eks.ListPodIdentityAssociationsInput{ClusterName: &name})
		d.add("pod identity", list(pairs, func(o *eks.ListPodIdentityAssociationsOutput) any { return o.Associations }), err)
	}
}

func (d *describer) identity(c *iam.Client) {
	pages := iam.NewGetAccountAuthorizationDetailsPaginator(c, &iam.GetAccountAuthorizationDetailsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(d.ctx)
		if err != nil {
			d.add("IAM", nil, err)
			return
		}
		d.add("role", page.RoleDetailList, nil)
		d.add("policy", page.Policies, nil)
	}
	providers, err := c.ListOpenIDConnectProviders(d.ctx, &iam.ListOpenIDConnectProvidersInput{})
	d.add("OIDC provider", list(providers, func(o *iam.ListOpenIDConnectProvidersOutput) any { return o.OpenIDConnectProviderList }), err)
	profiles, err := c.ListInstanceProfiles(d.ctx, &iam.ListInstanceProfilesInput{})
	d.add("instance profile", list(profiles, func(o *iam.ListInstanceProfilesOutput) any { return o.InstanceProfiles }), err)
}

func (d *describer) data(cfg aws.Config) {
	keys := kms.NewFromConfig(cfg)
	all, err := keys.ListKeys(d.ctx, &kms.ListKeysInput{})
	d.add("key", []int{}, err)
	if err == nil {
		for _, key := range all.Keys {
			if out, err := keys.DescribeKey(d.ctx, &kms.DescribeKeyInput{KeyId: key.KeyId}); err == nil {
				d.line("key", out.KeyMetadata)
			}
		}
	}
	aliases, err := keys.ListAliases(d.ctx, &kms.ListAliasesInput{})
	d.add("key alias", list(aliases, func(o *kms.ListAliasesOutput) any { return o.Aliases }), err)
	groups, err := cloudwatchlogs.NewFromConfig(cfg).DescribeLogGroups(d.ctx, &cloudwatchlogs.DescribeLogGroupsInput{})
	d.add("log group", list(groups, func(o *cloudwatchlogs.DescribeLogGroupsOutput) any { return o.LogGroups }), err)
	repositories, err := ecr.NewFromConfig(cfg).DescribeRepositories(d.ctx, &ecr.DescribeRepositoriesInput{})
	d.add("repository", list(repositories, func(o *ecr.DescribeRepositoriesOutput) any { return o.Repositories }), err)
	queues, err := sqs.NewFromConfig(cfg).ListQueues(d.ctx, &sqs.ListQueuesInput{})
	d.add("queue", list(queues, func(o *sqs.ListQueuesOutput) any { return o.QueueUrls }), err)
	rules, err := eventbridge.NewFromConfig(cfg).ListRules(d.ctx, &eventbridge.ListRulesInput{})
	d.add("rule", list(rules, func(o *eventbridge.ListRulesOutput) any { return o.Rules }), err)
	d.buckets(s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }))
}

func (d *describer) buckets(c *s3.Client) {
	buckets, err := c.ListBuckets(d.ctx, &s3.ListBucketsInput{})
	if err != nil {
		d.add("bucket", nil, err)
		return
	}
	for _, b := range buckets.Buckets {
		about := map[string]any{"name": b.Name}
		note := func(what string, value any, err error) {
			if err == nil {
				about[what] = value
			}
		}
		tags, err := c.GetBucketTagging(d.ctx, &s3.GetBucketTaggingInput{Bucket: b.Name})
		note("tags", tags, err)
		versioning, err := c.GetBucketVersioning(d.ctx, &s3.GetBucketVersioningInput{Bucket: b.Name})
		note("versioning", versioning, err)
		encryption, err := c.GetBucketEncryption(d.ctx, &s3.GetBucketEncryptionInput{Bucket: b.Name})
		note("encryption", encryption, err)
		lifecycle, err := c.GetBucketLifecycleConfiguration(d.ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b.Name})
		note("lifecycle", lifecycle, err)
		cors, err := c.GetBucketCors(d.ctx, &s3.GetBucketCorsInput{Bucket: b.Name})
		note("cors", cors, err)
		public, err := c.GetPublicAccessBlock(d.ctx, &s3.GetPublicAccessBlockInput{Bucket: b.Name})
		note("public access", public, err)
		owner, err := c.GetBucketOwnershipControls(d.ctx, &s3.GetBucketOwnershipControlsInput{Bucket: b.Name})
		note("ownership", owner, err)
		d.line("bucket", about)
	}
}

// What differs between two runs: fields by name, and ids, addresses and tokens by form.
var (
	fleeting = regexp.MustCompile(`(?i)(time|timestamp|date|defaultforaz|createdat|modifiedat|token|resultmetadata|roleid|policyid|userid|instanceprofileid|rolelastused|macaddress|privatednsname|publicip|carrierip|certificateauthority|availableipaddresscount|etag)$`)
	ids      = regexp.MustCompile(`\b(vpc|subnet|igw|nat|eipalloc|eipassoc|rtb|rtbassoc|vpce|sg|sgr|fl|lt|eni|eni-attach|ela-attach|acl|dopt|pl|i|vpc-cidr-assoc|ngw|a|asg|r)-[0-9a-f]{8,20}\b`)
	uuids    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	issuers  = regexp.MustCompile(`\b[0-9A-F]{32}\b`)
	hashes   = regexp.MustCompile(`(eks-cluster-sg-[a-z0-9-]+|eks-[a-z0-9-]+)-[0-9a-f]{8,36}\b`)
	hosts    = regexp.MustCompile(`\bip-\d+-\d+-\d+-\d+\b`)
	ips      = regexp.MustCompile(`\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b($|[^/])`)
)

// lasting leaves out what differs anyway, and sorts lists.
func lasting(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if key, ok := v["Key"].(string); ok && strings.Contains(key, ":lease-") {
			return nil
		}
		for key, value := range v {
			if fleeting.MatchString(key) {
				delete(v, key)
				continue
			}
			if strings.Contains(key, ":lease-") {
				delete(v, key)
				continue
			}
			v[key] = lasting(value)
		}
	case []any:
		for i := range v {
			v[i] = lasting(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	case string:
		if decoded, err := url.PathUnescape(v); err == nil {
			v = decoded
		}
		v = ids.ReplaceAllString(v, "$1-…")
		v = uuids.ReplaceAllString(v, "…")
		v = hashes.ReplaceAllString(v, "$1-…")
		v = hosts.ReplaceAllString(v, "ip-…")
		v = issuers.ReplaceAllString(v, "…")
		return ips.ReplaceAllString(v, "…$1")
	}
	return v
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
