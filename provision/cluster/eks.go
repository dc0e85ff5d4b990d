package cluster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// logTypes are all of the control plane's logs.
var logTypes = []types.LogType{types.LogTypeApi, types.LogTypeAudit, types.LogTypeAuthenticator, types.LogTypeControllerManager, types.LogTypeScheduler}

func (c *cluster) eks() *resource.Resource {
	name := c.ClusterName()
	wanted := c.Spec.Cluster
	purpose := []string{
		"Kubernetes " + wanted.Version + ", its API server at a " + string(wanted.Endpoint) + " address",
		"secrets encrypted with the data plane's key, all five logs of the control plane",
		"who is let in is said by access entries",
	}
	return &resource.Resource{
		Plane: c.Plane, Title: StepName(c.Plane), Component: component, LogicalID: "cluster",
		Requires: slices.Concat(c.after.Subnets, []string{linkedRolesTitle, KeyTitle, c.logGroupTitle(), resource.RoleTitle(c.clusterRole())}),
		About: step.Description{
			Service: "eks",
			Creates: []string{"eks:CreateCluster"}, Updates: []string{"eks:UpdateClusterConfig"}, Removes: []string{"eks:DeleteCluster"},
			Monthly: 73, Cost: "0.10 USD an hour; 0.60 once its Kubernetes version is in extended support",
			ToMake: 9 * time.Minute, ToRemove: 4 * time.Minute, Patience: 40 * time.Minute,
		},
		Purpose: purpose,
		Find:    c.findCluster,
		Create:  c.createCluster,
		Tag: func(ctx context.Context, tags map[string]string) error {
			_, err := c.AWS.EKS.TagResource(ctx, &eks.TagResourceInput{ResourceArn: aws.String(c.ARN("eks", "cluster/"+name)), Tags: tags})
			return err
		},
		ByHand: fmt.Sprintf("aws eks delete-cluster --name %s --region %s", name, c.Place.Region),
		Delete: func(ctx context.Context, _ *resource.State) error {
			_, err := c.AWS.EKS.DeleteCluster(ctx, &eks.DeleteClusterInput{Name: &name})
			return err
		},
		Wait: func(ctx context.Context) error {
			waiter := eks.NewClusterActiveWaiter(c.AWS.EKS, func(o *eks.ClusterActiveWaiterOptions) {
				o.MinDelay, o.MaxDelay = c.Clock.Machine(4*time.Second), c.Clock.Machine(6*time.Second)
			})
			return waiter.Wait(ctx, &eks.DescribeClusterInput{Name: &name}, c.Clock.Machine(40*time.Minute))
		},
		Tell: func(s *resource.State) {
			if s == nil {
				for _, fact := range []plane.Fact{plane.ClusterAddress, plane.ClusterCA, plane.ClusterIssuer, plane.ClusterSecurityGroup, plane.ClusterVersion} {
					c.Know(fact)
				}
				return
			}
			cl := s.Value.(*types.Cluster)
			c.know(plane.ClusterAddress, cl.Endpoint)
			c.know(plane.ClusterVersion, cl.Version)
			if cl.CertificateAuthority != nil {
				c.know(plane.ClusterCA, cl.CertificateAuthority.Data)
			}
			if cl.Identity != nil && cl.Identity.Oidc != nil {
				c.know(plane.ClusterIssuer, cl.Identity.Oidc.Issuer)
			}
			if cl.ResourcesVpcConfig != nil {
				c.know(plane.ClusterSecurityGroup, cl.ResourcesVpcConfig.ClusterSecurityGroupId)
			}
		},
	}
}

// know passes on what AWS has given already.
func (c *cluster) know(fact plane.Fact, value *string) {
	if aws.ToString(value) == "" {
		c.Know(fact)
		return
	}
	c.Know(fact, *value)
}

func (c *cluster) createCluster(ctx context.Context, tags map[string]string) error {
	wanted := c.Spec.Cluster
	in := &eks.CreateClusterInput{
		Name: aws.String(c.ClusterName()), Version: &wanted.Version, RoleArn: aws.String(c.RoleARN(c.clusterRole())), Tags: tags,
		ResourcesVpcConfig: &types.VpcConfigRequest{
			SubnetIds:            c.All(plane.PrivateSubnets),
			EndpointPublicAccess: aws.Bool(wanted.Endpoint == spec.PublicAddress), EndpointPrivateAccess: aws.Bool(true),
		},
		AccessConfig: &types.CreateAccessConfigRequest{
			AuthenticationMode: types.AuthenticationModeApi,
			// Who may what is in access entries, which can be read and taken back; the creator's own right
			// could not. The published grants give no entry rights, so there it is the only way in.
			BootstrapClusterCreatorAdminPermissions: aws.Bool(c.Spec.Access.Policy == spec.Compat),
		},
		BootstrapSelfManagedAddons: aws.Bool(false), // add-ons of EKS take their place
		EncryptionConfig:           []types.EncryptionConfig{{Resources: []string{"secrets"}, Provider: &types.Provider{KeyArn: aws.String(c.One(plane.EncryptionKey))}}},
		Logging:                    &types.Logging{ClusterLogging: []types.LogSetup{{Enabled: aws.Bool(true), Types: logTypes}}},
	}
	if wanted.Endpoint == spec.PublicAddress {
		in.ResourcesVpcConfig.PublicAccessCidrs = wanted.PublicCIDRs
	}
	if wanted.ServiceCIDR != "" {
		in.KubernetesNetworkConfig = &types.KubernetesNetworkConfigRequest{ServiceIpv4Cidr: &wanted.ServiceCIDR}
	}
	_, err := c.AWS.EKS.CreateCluster(ctx, in)
	return err
}

func (c *cluster) findCluster(ctx context.Context, goal step.Goal) (*resource.State, error) {
	out, err := c.AWS.EKS.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String(c.ClusterName())})
	if fault.Gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cl := out.Cluster
	s := &resource.State{Tags: cl.Tags, Value: cl}
	switch cl.Status {
	case types.ClusterStatusDeleting:
		s.Leaving = "the cluster is DELETING"
	case types.ClusterStatusFailed:
		s.Broken = "EKS says FAILED" + issues(cl.Health)
	case types.ClusterStatusActive:
	default:
		s.Busy = fmt.Sprintf("the cluster is %s", cl.Status)
	}
	if goal == step.Absent || s.Leaving != "" || s.Broken != "" {
		return s, nil
	}
	s.Differ = c.compareCluster(cl)
	return s, nil
}

func issues(health *types.ClusterHealth) string {
	if health == nil {
		return ""
	}
	var b strings.Builder
	for _, issue := range health.Issues {
		fmt.Fprintf(&b, "; %s: %s", issue.Code, aws.ToString(issue.Message))
	}
	return b.String()
}

// compareCluster says how the cluster differs from the file. EKS makes one change at a
// time, so each is a call of its own.
func (c *cluster) compareCluster(cl *types.Cluster) []resource.Difference {
	wanted := c.Spec.Cluster
	var out []resource.Difference
	have := aws.ToString(cl.Version)
	if d := resource.Differ("version", wanted.Version, have, nil); d != nil {
		d[0].Hint = fmt.Sprintf("run 'biplane dataplane upgrade FILE --kubernetes 1.%d': one minor version at a time", minor(have)+1)
		if minor(wanted.Version) < minor(have) {
			d[0].Hint = fmt.Sprintf("write version: %q: Kubernetes is never taken back", have)
		}
		out = append(out, d...)
	}
	fixed := func(field, want, have string) {
		out = append(out, resource.Differ(field, want, have, nil)...)
	}
	if role := c.One(plane.ClusterRole); role != "" {
		fixed("role", role, aws.ToString(cl.RoleArn))
	}
	vpc := cl.ResourcesVpcConfig
	if vpc != nil && c.Spec.Network.Create != nil && c.One(plane.VPC) == "" {
		out = append(out, resource.Difference{Field: "network", Want: "one that is to be made", Have: aws.ToString(vpc.VpcId),
			Hint: "put spec.network back: a cluster stays in its network; or build another data plane"})
	}
	if subnets := c.All(plane.PrivateSubnets); len(subnets) > 0 && vpc != nil {
		fixed("subnets", resource.Joined(subnets), resource.Joined(vpc.SubnetIds))
	}
	if network := cl.KubernetesNetworkConfig; wanted.ServiceCIDR != "" && network != nil {
		fixed("serviceCidr", wanted.ServiceCIDR, aws.ToString(network.ServiceIpv4Cidr))
	}
	if key := c.One(plane.EncryptionKey); key != "" {
		have := ""
		for _, e := range cl.EncryptionConfig {
			if e.Provider != nil {
				have = aws.ToString(e.Provider.KeyArn)
			}
		}
		d := resource.Differ("encryption of secrets", key, have, nil)
		if d != nil && have == "" {
			d[0].Put = func(ctx context.Context) error {
				_, err := c.AWS.EKS.AssociateEncryptionConfig(ctx, &eks.AssociateEncryptionConfigInput{ClusterName: cl.Name,
					EncryptionConfig: []types.EncryptionConfig{{Resources: []string{"secrets"}, Provider: &types.Provider{KeyArn: &key}}}})
				return err
			}
		}
		out = append(out, d...)
	}
	update := func(in *eks.UpdateClusterConfigInput) func(context.Context) error {
		return func(ctx context.Context) error {
			in.Name = cl.Name
			_, err := c.AWS.EKS.UpdateClusterConfig(ctx, in)
			return err
		}
	}
	if vpc != nil {
		public, cidrs := wanted.Endpoint == spec.PublicAddress, []string(nil)
		if public {
			cidrs = wanted.PublicCIDRs
		}
		want, got := address(public, true, cidrs), address(vpc.EndpointPublicAccess, vpc.EndpointPrivateAccess, vpc.PublicAccessCidrs)
		out = append(out, resource.Differ("endpoint", want, got, update(&eks.UpdateClusterConfigInput{ResourcesVpcConfig: &types.VpcConfigRequest{
			EndpointPublicAccess: &public, EndpointPrivateAccess: aws.Bool(true), PublicAccessCidrs: cidrs}}))...)
	}
	out = append(out, resource.Differ("logging", logging(logTypes), enabledLogs(cl.Logging), update(&eks.UpdateClusterConfigInput{
		Logging: &types.Logging{ClusterLogging: []types.LogSetup{{Enabled: aws.Bool(true), Types: logTypes}}}}))...)
	return out
}

// address is where an API server is reached, as one text.
func address(public, private bool, cidrs []string) string {
	switch {
	case public && private:
		return "public from " + resource.Joined(cidrs)
	case public:
		return "public alone, from " + resource.Joined(cidrs)
	}
	return "private"
}

func enabledLogs(l *types.Logging) string {
	var on []types.LogType
	if l != nil {
		for _, setup := range l.ClusterLogging {
			if aws.ToBool(setup.Enabled) {
				on = append(on, setup.Types...)
			}
		}
	}
	return logging(on)
}

func logging(list []types.LogType) string {
	var names []string
	for _, t := range list {
		names = append(names, string(t))
	}
	return resource.Joined(names)
}

// minor is the minor version, 34 of 1.34; -1 of what is none.
func minor(version string) int {
	_, text, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}
