package eks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// nodegroup is one managed node group. Its instances are not there: whether they
// would join is told from the network and the role, as they are when it is due.
type nodegroup struct {
	Name           string            `json:"nodegroupName"`
	ARN            string            `json:"nodegroupArn"`
	ClusterName    string            `json:"clusterName"`
	Version        string            `json:"version"`
	ReleaseVersion string            `json:"releaseVersion"`
	CreatedAt      timestamp         `json:"createdAt"`
	ModifiedAt     timestamp         `json:"modifiedAt"`
	Status         string            `json:"status"`
	CapacityType   string            `json:"capacityType"`
	ScalingConfig  scaling           `json:"scalingConfig"`
	InstanceTypes  []string          `json:"instanceTypes,omitempty"`
	Subnets        []string          `json:"subnets"`
	AMIType        string            `json:"amiType"`
	NodeRole       string            `json:"nodeRole"`
	Labels         map[string]string `json:"labels"`
	Taints         []taint           `json:"taints,omitempty"`
	Resources      map[string]any    `json:"resources"`
	DiskSize       int               `json:"diskSize,omitempty"`
	Health         health            `json:"health"`
	UpdateConfig   disruption        `json:"updateConfig"`
	RepairConfig   map[string]any    `json:"nodeRepairConfig,omitempty"`
	LaunchTemplate *templateChoice   `json:"launchTemplate,omitempty"`
	Tags           map[string]string `json:"tags"`

	due     time.Time // of CREATING and DELETING
	fail    bool
	failing *issue // why it will end CREATE_FAILED
	updates []*update
}

type scaling struct {
	Min     int `json:"minSize"`
	Max     int `json:"maxSize"`
	Desired int `json:"desiredSize"`
}

type taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

type templateChoice struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
}

type health struct {
	Issues []issue `json:"issues"`
}

type issue struct {
	Code        string   `json:"code"`
	Message     string   `json:"message"`
	ResourceIDs []string `json:"resourceIds"`

	why string // which EKS does not say: it is for the asker to find
}

// skew is how many minor versions nodes may be behind (Kubernetes, Version Skew
// Policy).
const skew = 3

// nodePolicy is without which nodes cannot even find their cluster (Amazon EKS User
// Guide, Amazon EKS node IAM role).
const nodePolicy = "AmazonEKSWorkerNodePolicy"

func (s *Service) createNodegroup(r *request) (any, error) {
	var in struct {
		NodegroupName  string            `json:"nodegroupName"`
		NodeRole       string            `json:"nodeRole"`
		Subnets        []string          `json:"subnets"`
		ScalingConfig  *scalingRequest   `json:"scalingConfig"`
		InstanceTypes  []string          `json:"instanceTypes"`
		AMIType        string            `json:"amiType"`
		CapacityType   string            `json:"capacityType"`
		DiskSize       *int              `json:"diskSize"`
		RemoteAccess   map[string]any    `json:"remoteAccess"`
		Labels         map[string]string `json:"labels"`
		Taints         []taint           `json:"taints"`
		LaunchTemplate *templateChoice   `json:"launchTemplate"`
		UpdateConfig   *disruption       `json:"updateConfig"`
		RepairConfig   map[string]any    `json:"nodeRepairConfig"`
		Version        string            `json:"version"`
		ReleaseVersion string            `json:"releaseVersion"`
		Tags           map[string]string `json:"tags"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	arn, remember, err := s.again(r)
	if err != nil {
		return nil, err
	}
	if n := c.nodegroups[in.NodegroupName]; n != nil {
		if n.ARN == arn {
			return map[string]any{"nodegroup": n}, nil
		}
		return nil, inUse("NodeGroup already exists with name %s and cluster name %s", n.Name, c.Name)
	}
	if c, err = s.findActive(r); err != nil {
		return nil, err
	}
	if len(in.NodegroupName) > 63 || !clusterName.MatchString(in.NodegroupName) {
		return nil, invalidParameter("The name %q of a node group needs to start with a letter or digit, and has letters, digits, hyphens and underscores, 63 at most.", in.NodegroupName)
	}
	version := cmp.Or(in.Version, c.Version)
	if minor(version) > minor(c.Version) || !supported(version) || minor(version) < minor(c.Version)-skew {
		return nil, invalidParameter("Requested Nodegroup Kubernetes version %s is not compatible with the version %s of cluster %s", version, c.Version, c.Name)
	}
	size := in.ScalingConfig.over(scaling{1, 2, 2})
	disk, one := 20, 1
	if in.UpdateConfig == nil {
		in.UpdateConfig = &disruption{MaxUnavailable: &one}
	}
	capacity := cmp.Or(in.CapacityType, "ON_DEMAND")
	if err := errors.Join(size.check(), checkTaints(in.Taints), checkLabels(in.Labels), checkTags(in.Tags), in.UpdateConfig.check(),
		oneOf("capacityType", capacity, "ON_DEMAND", "SPOT", "CAPACITY_BLOCK")); err != nil {
		return nil, err
	}
	if in.DiskSize != nil {
		if disk = *in.DiskSize; disk < 1 {
			return nil, invalidParameter("diskSize %d needs to be 1 at least", disk)
		}
	}
	role, err := s.cloud.Role(r.ctx, in.NodeRole)
	if err != nil {
		return nil, fmt.Errorf("looking at role %s: %w", in.NodeRole, err)
	}
	if role == nil {
		return nil, invalidParameter("Role with arn: %s, could not be assumed because it does not exist or the trusted entity is not correct", in.NodeRole)
	}
	if !slices.Contains(role.Trusts, "ec2.amazonaws.com") {
		return nil, invalidParameter("Following required service principals [ec2.amazonaws.com] were not found in the trust relationships of nodeRole %s", in.NodeRole)
	}
	if len(in.Subnets) == 0 {
		return nil, invalidParameter("Subnets cannot be empty")
	}
	subnets, err := s.cloud.Subnets(r.ctx, r.Where, in.Subnets)
	if err != nil {
		return nil, fmt.Errorf("looking at the subnets of node group %s: %w", in.NodegroupName, err)
	}
	for i, id := range in.Subnets {
		if i >= len(subnets) || subnets[i].ID != id {
			return nil, invalidParameter("The subnet ID '%s' does not exist", id)
		}
		if subnets[i].VPC != c.ResourcesVPCConfig.VPCID {
			return nil, invalidParameter("Subnet %s is not in the VPC %s of cluster %s", id, c.ResourcesVPCConfig.VPCID, c.Name)
		}
	}
	amiType, types := cmp.Or(in.AMIType, "AL2023_x86_64_STANDARD"), in.InstanceTypes
	release := cmp.Or(in.ReleaseVersion, releaseOf(version))
	started := types
	if in.LaunchTemplate != nil {
		template, err := s.template(r, in.LaunchTemplate)
		if err != nil {
			return nil, err
		}
		in.LaunchTemplate = &templateChoice{template.ID, template.Name, template.Version}
		switch {
		case in.DiskSize != nil:
			return nil, invalidParameter("Disk size must be specified within the launch template.")
		case in.RemoteAccess != nil:
			return nil, invalidParameter("Remote access configuration cannot be specified with a launch template.")
		case template.Image != "" && in.AMIType != "" && in.AMIType != "CUSTOM":
			return nil, invalidParameter("You cannot specify an AMI Type other than CUSTOM when the launch template has an image ID")
		case template.Image != "" && (in.Version != "" || in.ReleaseVersion != ""):
			return nil, invalidParameter("You cannot specify a version or a release version when the launch template has an image ID")
		case template.InstanceType != "" && len(types) > 0:
			return nil, invalidParameter("Instance types must be specified in either the launch template or the request, and not in both.")
		case template.Image != "":
			amiType, release = "CUSTOM", template.Image
		case in.AMIType == "CUSTOM":
			return nil, invalidParameter("The AMI Type CUSTOM needs a launch template that has an image ID")
		}
		disk = 0
		if template.InstanceType != "" {
			started = []string{template.InstanceType}
		}
	} else {
		if in.RemoteAccess != nil {
			return nil, notImplemented("The AWS double has no remote access to nodes.")
		}
		if amiType == "CUSTOM" {
			return nil, invalidParameter("The AMI Type CUSTOM needs a launch template that has an image ID")
		}
		if len(types) == 0 {
			types = []string{"t3.medium"}
		}
		started = types
	}
	if err := errors.Join(checkRelease(in.ReleaseVersion, version, amiType), s.checkImage(r, amiType, version, started)); err != nil {
		return nil, err
	}
	id := randomUUID()
	n := &nodegroup{
		Name: in.NodegroupName, ARN: r.Where.arn("eks", "nodegroup/"+c.Name+"/"+in.NodegroupName+"/"+id), ClusterName: c.Name,
		Version: version, ReleaseVersion: release, CreatedAt: timestamp(r.now), ModifiedAt: timestamp(r.now), Status: "CREATING",
		CapacityType: capacity, ScalingConfig: size, InstanceTypes: types, Subnets: in.Subnets, AMIType: amiType, NodeRole: in.NodeRole,
		Labels: tagsOf(in.Labels), Taints: in.Taints, DiskSize: disk, Health: health{Issues: []issue{}}, UpdateConfig: *in.UpdateConfig, RepairConfig: in.RepairConfig, LaunchTemplate: in.LaunchTemplate, Tags: tagsOf(in.Tags),
		Resources: map[string]any{"autoScalingGroups": []any{map[string]any{"name": "eks-" + in.NodegroupName + "-" + id}}},
		fail:      r.Fail,
	}
	if n.failing, err = s.problem(r.ctx, c, n, false); err != nil {
		return nil, err
	}
	n.due = r.now.Add(typical.CreateNodegroup)
	if n.failing != nil && n.failing.Code == "NodeCreationFailure" {
		n.due = r.now.Add(typical.FailNodegroup)
	}
	c.nodegroups[n.Name] = n
	if c.AccessConfig.Mode != "CONFIG_MAP" && c.entries[n.NodeRole] == nil {
		c.letIn(r, n.NodeRole, "EC2_LINUX", []string{"system:nodes"}, "system:node:{{EC2PrivateDNSName}}", nil)
	}
	remember(n.ARN)
	return map[string]any{"nodegroup": n}, nil
}

func (s *Service) template(r *request, choice *templateChoice) (*LaunchTemplate, error) {
	if (choice.ID == "") == (choice.Name == "") {
		return nil, invalidParameter("You must specify either the launch template ID or the launch template name in the request, but not both.")
	}
	template, err := s.cloud.LaunchTemplate(r.ctx, r.Where, choice.ID, choice.Name, cmp.Or(choice.Version, "$Default"))
	if err != nil {
		return nil, fmt.Errorf("looking at launch template %s: %w", choice.ID+choice.Name, err)
	}
	if template == nil {
		return nil, invalidRequest("Launch template %s in version %s doesn't exist", cmp.Or(choice.ID, choice.Name), cmp.Or(choice.Version, "$Default"))
	}
	if template.Refused != "" {
		return nil, invalidParameter("Launch template %s should not specify %s.", cmp.Or(choice.ID, choice.Name), template.Refused)
	}
	return template, nil
}

// endpointsForNodes are what nodes without a way out need (Amazon EKS User Guide,
// Deploy private clusters with limited internet access).
var endpointsForNodes = []string{"ec2", "ecr.api", "ecr.dkr", "s3", "sts"}

// problem says why a group's nodes would not join, by what is there now; made means that
// EKS has made what it makes for them.
func (s *Service) problem(ctx context.Context, c *cluster, n *nodegroup, made bool) (*issue, error) {
	if n.fail {
		return trouble("AsgInstanceLaunchFailures", "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have sufficient "+
			strings.Join(n.InstanceTypes, ", ")+" capacity in the Availability Zone you requested. Launching EC2 instance failed.", n.Name), nil
	}
	role, err := s.cloud.Role(ctx, n.NodeRole)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return trouble("IamNodeRoleNotFound", "The node role "+n.NodeRole+" does not exist.", n.NodeRole), nil
	}
	if !slices.Contains(role.Trusts, "ec2.amazonaws.com") {
		return unjoined("role %s does not trust ec2.amazonaws.com", n.NodeRole), nil
	}
	if !slices.Contains(role.Attached, nodePolicy) {
		return unjoined("role %s does not have the policy %s", n.NodeRole, nodePolicy), nil
	}
	// EKS makes the entry with the group, where there is none for the role.
	if e := c.entries[n.NodeRole]; c.AccessConfig.Mode == "API" && (e == nil && made || e != nil && e.Type != "EC2_LINUX") {
		return unjoined("role %s has no access entry of the type EC2_LINUX in the cluster", n.NodeRole), nil
	}
	vpc, err := s.cloud.VPC(ctx, c.where, c.ResourcesVPCConfig.VPCID)
	if err != nil {
		return nil, err
	}
	if vpc == nil {
		return trouble("Ec2SubnetNotFound", "The VPC "+c.ResourcesVPCConfig.VPCID+" does not exist.", n.Subnets...), nil
	}
	private := c.ResourcesVPCConfig.EndpointPrivateAccess
	if !vpc.DNSSupport || private && !vpc.DNSHostnames {
		return unjoined("the VPC %s does not resolve names: DNS support and DNS hostnames must be on", vpc.ID), nil
	}
	// Amazon EKS User Guide, Cluster API server endpoint: the private address is found by Amazon's name server alone.
	if private && vpc.NameServers != nil && !slices.Contains(vpc.NameServers, "AmazonProvidedDNS") {
		return unjoined("the DHCP options of VPC %s name %s, and not AmazonProvidedDNS", vpc.ID, strings.Join(vpc.NameServers, ", ")), nil
	}
	subnets, err := s.cloud.Subnets(ctx, c.where, n.Subnets)
	if err != nil {
		return nil, err
	}
	if len(subnets) < len(n.Subnets) {
		return trouble("Ec2SubnetNotFound", "One or more of the subnets "+strings.Join(n.Subnets, ", ")+" do not exist.", n.Subnets...), nil
	}
	for _, subnet := range subnets {
		out, err := s.cloud.WayOut(ctx, c.where, subnet.ID)
		if err != nil {
			return nil, err
		}
		if subnet.Free < n.ScalingConfig.Desired {
			return trouble("InsufficientFreeAddresses", "Subnet "+subnet.ID+" does not have enough free IP addresses.", subnet.ID), nil
		}
		if out.Route == "internet" && !subnet.PublicAddresses {
			return trouble("Ec2SubnetInvalidConfiguration", "One or more Amazon EC2 Subnets of ["+subnet.ID+"] for node group "+n.Name+
				" does not automatically assign public IP addresses to instances launched into it. If you want your instances to be assigned a public IP address, then you need to enable auto-assign public IP address for the subnet.", subnet.ID), nil
		}
		if out.Route != "" && !private && len(out.Addresses) > 0 && !c.letsIn(out.Addresses) {
			return unjoined("the public endpoint takes connections from %s alone, and nodes in %s come from %s", strings.Join(c.ResourcesVPCConfig.PublicAccessCIDRs, ", "), subnet.ID, strings.Join(out.Addresses, ", ")), nil
		}
		if out.Route != "" {
			continue
		}
		if !private {
			return unjoined("subnet %s has no way to the cluster's public endpoint: %s", subnet.ID, out.Problem), nil
		}
		for _, endpoint := range endpointsForNodes {
			if !out.Endpoints[endpoint] {
				return unjoined("subnet %s has no way out (%s) and no VPC endpoint for %s", subnet.ID, out.Problem, endpoint), nil
			}
		}
	}
	return nil, nil
}

// letsIn says whether the public endpoint takes connections from all of the addresses.
func (c *cluster) letsIn(addresses []string) bool {
	for _, text := range addresses {
		address, err := netip.ParseAddr(text)
		if err != nil || !slices.ContainsFunc(c.ResourcesVPCConfig.PublicAccessCIDRs, func(cidr string) bool {
			prefix, err := netip.ParsePrefix(cidr)
			return err == nil && prefix.Contains(address)
		}) {
			return false
		}
	}
	return true
}

func trouble(code, message string, resources ...string) *issue {
	return &issue{Code: code, Message: message, ResourceIDs: resources}
}

// unjoined is what EKS says of nodes that do not join.
func unjoined(why string, args ...any) *issue {
	return &issue{"NodeCreationFailure", "Instances failed to join the kubernetes cluster", []string{"i-" + randomHex(17)}, fmt.Sprintf(why, args...)}
}

func (s *Service) settleNodegroup(ctx context.Context, c *cluster, n *nodegroup, now time.Time) (gone bool, err error) {
	switch {
	case n.Status == "DELETING" && !now.Before(n.due):
		return true, nil
	case n.Status == "CREATING" && !now.Before(n.due):
		problem, err := s.problem(ctx, c, n, true)
		if err != nil {
			return false, err
		}
		switch {
		case problem != nil && problem.Code == "NodeCreationFailure" && n.failing == nil:
			// The way out went while they started: EKS waits until it gives up.
			n.failing, n.due = problem, n.due.Add(typical.FailNodegroup-typical.CreateNodegroup)
		case problem != nil:
			s.log.Warn("nodes do not join", "cluster", c.Name, "nodegroup", n.Name, "code", problem.Code, "message", problem.Message, "why", problem.why)
			n.Status, n.Health.Issues = "CREATE_FAILED", []issue{*problem}
		default:
			n.Status = "ACTIVE"
		}
	}
	for _, u := range n.updates {
		if done, err := u.settle(ctx, now); err != nil {
			return false, err
		} else if done && n.Status == "UPDATING" {
			n.Status = "ACTIVE"
		}
	}
	return false, nil
}

func (s *Service) findNodegroup(r *request) (*cluster, *nodegroup, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, nil, err
	}
	name, _ := r.Input["nodegroupName"].(string)
	n := c.nodegroups[name]
	if n == nil {
		return nil, nil, notFound("No node group found for name: %s.", name)
	}
	return c, n, nil
}

func (s *Service) describeNodegroup(r *request) (any, error) {
	_, n, err := s.findNodegroup(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"nodegroup": n}, nil
}

func (s *Service) listNodegroups(r *request) (any, error) {
	var in paging
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	part, next, err := page(slices.Sorted(maps.Keys(c.nodegroups)), in, 100)
	return map[string]any{"nodegroups": part, "nextToken": next}, err
}

func (s *Service) deleteNodegroup(r *request) (any, error) {
	_, n, err := s.findNodegroup(r)
	if err != nil {
		return nil, err
	}
	if n.Status == "UPDATING" || n.Status == "CREATING" {
		return nil, inUse("Nodegroup %s cannot be deleted because it is %s", n.Name, strings.ToLower(n.Status))
	}
	if n.Status != "DELETING" {
		n.Status, n.due = "DELETING", r.now.Add(typical.DeleteNodegroup)
	}
	return map[string]any{"nodegroup": n}, nil
}

// freeNodegroup finds a group of which nothing is changed.
func (s *Service) freeNodegroup(r *request) (c *cluster, n *nodegroup, earlier *update, remember func(string), err error) {
	if c, n, err = s.findNodegroup(r); err != nil {
		return
	}
	id, remember, err := s.again(r)
	if err != nil {
		return
	}
	for _, u := range n.updates {
		if u.ID == id {
			return c, n, u, remember, nil
		}
	}
	if n.Status != "ACTIVE" {
		err = inUse("Nodegroup %s cannot be updated because it is in status %s", n.Name, n.Status)
	}
	return c, n, nil, remember, err
}

func (n *nodegroup) begin(u *update, remember func(string)) (any, error) {
	n.updates, n.Status, n.ModifiedAt = append(n.updates, u), "UPDATING", u.CreatedAt
	remember(u.ID)
	return map[string]any{"update": u}, nil
}

func (s *Service) updateNodegroupConfig(r *request) (any, error) {
	var in struct {
		ScalingConfig *scalingRequest `json:"scalingConfig"`
		Labels        struct {
			AddOrUpdate map[string]string `json:"addOrUpdateLabels"`
			Remove      []string          `json:"removeLabels"`
		} `json:"labels"`
		Taints struct {
			AddOrUpdate []taint `json:"addOrUpdateTaints"`
			Remove      []taint `json:"removeTaints"`
		} `json:"taints"`
		UpdateConfig *disruption    `json:"updateConfig"`
		RepairConfig map[string]any `json:"nodeRepairConfig"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	_, n, earlier, remember, err := s.freeNodegroup(r)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return map[string]any{"update": earlier}, nil
	}
	var params []updateParam
	size := in.ScalingConfig.over(n.ScalingConfig)
	if in.ScalingConfig != nil {
		params = append(params, updateParam{"MinSize", fmt.Sprint(size.Min)}, updateParam{"MaxSize", fmt.Sprint(size.Max)}, updateParam{"DesiredSize", fmt.Sprint(size.Desired)})
	}
	if err := errors.Join(size.check(), checkTaints(in.Taints.AddOrUpdate), checkLabels(in.Labels.AddOrUpdate)); err != nil {
		return nil, err
	}
	for kind, value := range map[string]any{"LabelsToAdd": in.Labels.AddOrUpdate, "LabelsToRemove": in.Labels.Remove, "TaintsToAdd": in.Taints.AddOrUpdate, "TaintsToRemove": in.Taints.Remove} {
		if text := asJSON(value); text != "null" && text != "{}" && text != "[]" {
			params = append(params, updateParam{kind, text})
		}
	}
	if in.UpdateConfig != nil {
		if err := in.UpdateConfig.check(); err != nil {
			return nil, err
		}
		params = append(params, in.UpdateConfig.params()...)
	}
	if in.RepairConfig != nil {
		params = append(params, updateParam{"NodeRepairConfig", asJSON(in.RepairConfig)})
	}
	if len(params) == 0 {
		return nil, invalidParameter("No changes were given for node group %s", n.Name)
	}
	return n.begin(newUpdate(r, "ConfigUpdate", typical.UpdateNodegroupConfig, func(context.Context) error {
		n.ScalingConfig = size
		maps.Copy(n.Labels, in.Labels.AddOrUpdate)
		for _, key := range in.Labels.Remove {
			delete(n.Labels, key)
		}
		for _, one := range append(slices.Clone(in.Taints.Remove), in.Taints.AddOrUpdate...) {
			n.Taints = slices.DeleteFunc(n.Taints, func(t taint) bool { return t.Key == one.Key && t.Effect == one.Effect })
		}
		n.Taints = append(n.Taints, in.Taints.AddOrUpdate...)
		if in.UpdateConfig != nil {
			n.UpdateConfig = *in.UpdateConfig
		}
		if in.RepairConfig != nil {
			n.RepairConfig = in.RepairConfig
		}
		return nil
	}, params...), remember)
}

func (s *Service) updateNodegroupVersion(r *request) (any, error) {
	var in struct {
		Version        string          `json:"version"`
		ReleaseVersion string          `json:"releaseVersion"`
		LaunchTemplate *templateChoice `json:"launchTemplate"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, n, earlier, remember, err := s.freeNodegroup(r)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return map[string]any{"update": earlier}, nil
	}
	if u := running(c.updates); u != nil {
		return nil, inUse("Cannot %s because cluster %s currently has update %s in progress", r.Operation, c.Name, u.ID)
	}
	version := cmp.Or(in.Version, c.Version)
	if in.LaunchTemplate != nil && in.Version == "" {
		version = n.Version
	}
	if minor(version) > minor(c.Version) || minor(version) < minor(n.Version) || !supported(version) {
		return nil, invalidParameter("Nodegroup Kubernetes version cannot go from %s to %s: the cluster %s has %s", n.Version, version, c.Name, c.Version)
	}
	if err := checkRelease(in.ReleaseVersion, version, n.AMIType); err != nil {
		return nil, err
	}
	release, choice := cmp.Or(in.ReleaseVersion, releaseOf(version)), n.LaunchTemplate
	if in.LaunchTemplate != nil {
		if n.LaunchTemplate == nil {
			return nil, invalidParameter("Node group %s was made without a launch template, and cannot be given one", n.Name)
		}
		template, err := s.template(r, in.LaunchTemplate)
		if err != nil {
			return nil, err
		}
		if template.ID != n.LaunchTemplate.ID {
			return nil, invalidParameter("Node group %s cannot be given another launch template than %s, only another version of it", n.Name, n.LaunchTemplate.ID)
		}
		choice = &templateChoice{template.ID, template.Name, template.Version}
		if template.Image != "" {
			if in.Version != "" || in.ReleaseVersion != "" {
				return nil, invalidParameter("You cannot specify a version or a release version when the launch template has an image ID")
			}
			release = template.Image
		}
	}
	params := []updateParam{{"Version", version}, {"ReleaseVersion", release}}
	if in.LaunchTemplate != nil {
		params = append(params, updateParam{"LaunchTemplateName", choice.Name}, updateParam{"LaunchTemplateVersion", choice.Version})
	}
	return n.begin(newUpdate(r, "VersionUpdate", typical.UpdateNodegroupVersion, func(context.Context) error {
		n.Version, n.ReleaseVersion, n.LaunchTemplate = version, release, choice
		return nil
	}, params...), remember)
}

// scalingRequest is a change of it; what is not given stays.
type scalingRequest struct {
	Min     *int `json:"minSize"`
	Max     *int `json:"maxSize"`
	Desired *int `json:"desiredSize"`
}

func (r *scalingRequest) over(c scaling) scaling {
	if r == nil {
		return c
	}
	set := func(to, value *int) {
		if value != nil {
			*to = *value
		}
	}
	set(&c.Min, r.Min)
	set(&c.Max, r.Max)
	set(&c.Desired, r.Desired)
	return c
}

func (c scaling) check() error {
	if c.Min < 0 || c.Max < 1 || c.Min > c.Max {
		return invalidParameter("Minimum capacity %d can't be greater than maximum size %d, which is 1 at least", c.Min, c.Max)
	}
	if c.Desired < c.Min || c.Desired > c.Max {
		return invalidParameter("desired capacity %d must be between the minimum size %d and the maximum size %d", c.Desired, c.Min, c.Max)
	}
	return nil
}

// releaseOf is the release of EKS's node image for a version.
func releaseOf(version string) string { return patchOf(version) + "-20260318" }

// hasNodes says whether anything can run in the cluster.
func (c *cluster) hasNodes() bool {
	for _, n := range c.nodegroups {
		if (n.Status == "ACTIVE" || n.Status == "UPDATING") && n.ScalingConfig.Desired > 0 {
			return true
		}
	}
	return false
}
