package eks

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// cluster is one cluster: what DescribeCluster shows, and what is behind it.
type cluster struct {
	Name                    string            `json:"name"`
	ARN                     string            `json:"arn"`
	CreatedAt               timestamp         `json:"createdAt"`
	Version                 string            `json:"version"`
	Endpoint                string            `json:"endpoint,omitempty"`
	RoleARN                 string            `json:"roleArn"`
	ResourcesVPCConfig      vpcConfig         `json:"resourcesVpcConfig"`
	KubernetesNetworkConfig map[string]any    `json:"kubernetesNetworkConfig"`
	Logging                 logging           `json:"logging"`
	Identity                map[string]any    `json:"identity,omitempty"`
	Status                  string            `json:"status"`
	CertificateAuthority    map[string]any    `json:"certificateAuthority"`
	ClientRequestToken      string            `json:"clientRequestToken,omitempty"`
	PlatformVersion         string            `json:"platformVersion"`
	Tags                    map[string]string `json:"tags"`
	EncryptionConfig        []encryption      `json:"encryptionConfig,omitempty"`
	Health                  map[string]any    `json:"health"`
	AccessConfig            accessConfig      `json:"accessConfig"`
	UpgradePolicy           map[string]string `json:"upgradePolicy"`
	DeletionProtection      bool              `json:"deletionProtection"`
	ZonalShiftConfig        *switched         `json:"zonalShiftConfig,omitempty"`

	where      Where
	due        time.Time // of CREATING and DELETING
	fail       bool      // it ends FAILED
	interfaces []string  // of the control plane
	nodegroups map[string]*nodegroup
	addons     map[string]*addon
	entries    map[string]*entry       // by principal
	identities map[string]*podIdentity // by id
	updates    []*update
	refresh    time.Time // when insights were last asked for anew
}

type vpcConfig struct {
	SubnetIDs              []string `json:"subnetIds"`
	SecurityGroupIDs       []string `json:"securityGroupIds"`
	ClusterSecurityGroupID string   `json:"clusterSecurityGroupId,omitempty"`
	VPCID                  string   `json:"vpcId"`
	EndpointPublicAccess   bool     `json:"endpointPublicAccess"`
	EndpointPrivateAccess  bool     `json:"endpointPrivateAccess"`
	PublicAccessCIDRs      []string `json:"publicAccessCidrs"`
}

type logging struct {
	ClusterLogging []logSetup `json:"clusterLogging"`
}

type logSetup struct {
	Types   []string `json:"types"`
	Enabled bool     `json:"enabled"`
}

type encryption struct {
	Resources []string `json:"resources"`
	Provider  struct {
		KeyARN string `json:"keyArn"`
	} `json:"provider"`
}

type accessConfig struct {
	Bootstrap bool   `json:"bootstrapClusterCreatorAdminPermissions"`
	Mode      string `json:"authenticationMode"`
}

// switched is what is on or off.
type switched struct {
	Enabled bool `json:"enabled"`
}

// vpcRequest are the parameters on a cluster's network.
type vpcRequest struct {
	SubnetIDs             []string `json:"subnetIds"`
	SecurityGroupIDs      []string `json:"securityGroupIds"`
	EndpointPublicAccess  *bool    `json:"endpointPublicAccess"`
	EndpointPrivateAccess *bool    `json:"endpointPrivateAccess"`
	PublicAccessCIDRs     []string `json:"publicAccessCidrs"`
}

var (
	clusterName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$`)
	logTypes    = []string{"api", "audit", "authenticator", "controllerManager", "scheduler"}
	modes       = []string{"CONFIG_MAP", "API_AND_CONFIG_MAP", "API"} // a cluster only ever goes to a later one
	// refusedZones cannot have a control plane (Amazon EKS User Guide, Amazon EKS
	// networking requirements for VPC and subnets).
	refusedZones = []string{"use1-az3", "usw1-az2", "cac1-az3"}
	// atLeastFree are the addresses that a subnet must have (the same page).
	atLeastFree = 6
)

const (
	interfacesOf = 2 // two to four; each in another zone
	mostGroups   = 5 // security groups besides the cluster's own (CreateCluster)
)

func (s *Service) createCluster(r *request) (any, error) {
	var in struct {
		Name                    string       `json:"name"`
		RoleARN                 string       `json:"roleArn"`
		Version                 string       `json:"version"`
		ResourcesVPCConfig      vpcRequest   `json:"resourcesVpcConfig"`
		Logging                 *logging     `json:"logging"`
		EncryptionConfig        []encryption `json:"encryptionConfig"`
		KubernetesNetworkConfig struct {
			ServiceIPv4CIDR string   `json:"serviceIpv4Cidr"`
			IPFamily        string   `json:"ipFamily"`
			LoadBalancing   switched `json:"elasticLoadBalancing"`
		} `json:"kubernetesNetworkConfig"`
		ComputeConfig switched `json:"computeConfig"`
		StorageConfig struct {
			BlockStorage switched `json:"blockStorage"`
		} `json:"storageConfig"`
		ZonalShiftConfig *switched `json:"zonalShiftConfig"`
		AccessConfig     struct {
			Bootstrap *bool  `json:"bootstrapClusterCreatorAdminPermissions"`
			Mode      string `json:"authenticationMode"`
		} `json:"accessConfig"`
		UpgradePolicy struct {
			SupportType string `json:"supportType"`
		} `json:"upgradePolicy"`
		DeletionProtection bool              `json:"deletionProtection"`
		Tags               map[string]string `json:"tags"`
		ClientRequestToken string            `json:"clientRequestToken"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	arn, remember, err := s.again(r)
	if err != nil {
		return nil, err
	}
	there := s.clusters[r.Where][in.Name]
	if arn != "" && there != nil && there.ARN == arn {
		return map[string]any{"cluster": there.view()}, nil
	}
	if !clusterName.MatchString(in.Name) {
		return nil, invalidParameter("The name %q of a cluster needs to start with a letter or digit, and has letters, digits, hyphens and underscores, 100 at most.", in.Name)
	}
	if there != nil {
		return nil, inUse("Cluster already exists with name: %s", in.Name)
	}
	version := cmp.Or(in.Version, defaultVersion)
	if !supported(version) {
		return nil, invalidParameter("unsupported Kubernetes version")
	}
	if err := errors.Join(checkTags(in.Tags), checkLogging(in.Logging)); err != nil {
		return nil, err
	}
	switch auto := [3]bool{in.ComputeConfig.Enabled, in.StorageConfig.BlockStorage.Enabled, in.KubernetesNetworkConfig.LoadBalancing.Enabled}; auto {
	case [3]bool{}:
	case [3]bool{true, true, true}:
		return nil, notImplemented("The AWS double has no EKS Auto Mode.")
	default:
		return nil, invalidParameter("For EKS Auto Mode, please ensure that all required configs, including computeConfig, kubernetesNetworkConfig, and blockStorage are all either fully enabled or fully disabled.")
	}
	for _, one := range []string{"outpostConfig", "remoteNetworkConfig"} {
		if r.Input[one] != nil {
			return nil, notImplemented("The AWS double has no " + one + " of clusters.")
		}
	}
	subnets, vpc, err := s.subnetsFor(r, in.Name, in.ResourcesVPCConfig.SubnetIDs)
	if err != nil {
		return nil, err
	}
	if err := s.groupsIn(r, vpc.ID, in.ResourcesVPCConfig.SecurityGroupIDs); err != nil {
		return nil, err
	}
	if err := s.assumable(r, in.RoleARN, "eks.amazonaws.com"); err != nil {
		return nil, err
	}
	if len(in.EncryptionConfig) > 1 {
		return nil, invalidParameter("encryptionConfig has one entry at most")
	}
	for _, one := range in.EncryptionConfig {
		if err := s.usableKey(r, one); err != nil {
			return nil, err
		}
	}
	switch in.KubernetesNetworkConfig.IPFamily {
	case "", "ipv4":
	case "ipv6":
		return nil, notImplemented("The AWS double has no clusters of the ipFamily ipv6.")
	default:
		return nil, oneOf("ipFamily", in.KubernetesNetworkConfig.IPFamily, "ipv4", "ipv6")
	}
	serviceCIDR, err := serviceRange(in.KubernetesNetworkConfig.ServiceIPv4CIDR, vpc)
	if err != nil {
		return nil, err
	}
	mode := cmp.Or(in.AccessConfig.Mode, "CONFIG_MAP")
	support := cmp.Or(in.UpgradePolicy.SupportType, "EXTENDED")
	if err := errors.Join(oneOf("authenticationMode", mode, modes...), oneOf("supportType", support, "STANDARD", "EXTENDED")); err != nil {
		return nil, err
	}
	bootstrap := in.AccessConfig.Bootstrap == nil || *in.AccessConfig.Bootstrap
	if mode == "CONFIG_MAP" && !bootstrap {
		return nil, invalidParameter("bootstrapClusterCreatorAdminPermissions must be true if cluster authentication mode is set to CONFIG_MAP")
	}
	c := &cluster{
		Name: in.Name, ARN: r.Where.arn("eks", "cluster/"+in.Name), CreatedAt: timestamp(r.now), Version: version, RoleARN: in.RoleARN,
		KubernetesNetworkConfig: map[string]any{"serviceIpv4Cidr": serviceCIDR, "ipFamily": "ipv4", "elasticLoadBalancing": map[string]any{"enabled": false}},
		Logging:                 mergeLogging(logging{ClusterLogging: []logSetup{{logTypes, false}}}, in.Logging),
		Status:                  "CREATING", CertificateAuthority: map[string]any{}, ClientRequestToken: in.ClientRequestToken, PlatformVersion: platformOf(version),
		Tags: tagsOf(in.Tags), EncryptionConfig: in.EncryptionConfig, Health: map[string]any{"issues": []any{}},
		AccessConfig:       accessConfig{Bootstrap: bootstrap, Mode: mode},
		UpgradePolicy:      map[string]string{"supportType": support},
		DeletionProtection: in.DeletionProtection,
		ZonalShiftConfig:   in.ZonalShiftConfig,
		ResourcesVPCConfig: vpcConfig{
			SubnetIDs: in.ResourcesVPCConfig.SubnetIDs, SecurityGroupIDs: nonNil(in.ResourcesVPCConfig.SecurityGroupIDs), VPCID: vpc.ID,
			EndpointPublicAccess:  in.ResourcesVPCConfig.EndpointPublicAccess == nil || *in.ResourcesVPCConfig.EndpointPublicAccess,
			EndpointPrivateAccess: in.ResourcesVPCConfig.EndpointPrivateAccess != nil && *in.ResourcesVPCConfig.EndpointPrivateAccess,
			PublicAccessCIDRs:     in.ResourcesVPCConfig.PublicAccessCIDRs,
		},
		where: r.Where, due: r.now.Add(typical.CreateCluster), fail: r.Fail,
		nodegroups: map[string]*nodegroup{}, addons: map[string]*addon{}, entries: map[string]*entry{}, identities: map[string]*podIdentity{},
	}
	if err := checkAccess(&c.ResourcesVPCConfig); err != nil {
		return nil, err
	}
	if c.AccessConfig.Bootstrap && mode != "CONFIG_MAP" {
		c.letIn(r, r.Principal, "STANDARD", nil, "", nil).associate(r, "AmazonEKSClusterAdminPolicy")
	}
	if err := s.logs(r.ctx, c); err != nil {
		return nil, err
	}
	if err := s.connect(r.ctx, c, subnets); err != nil {
		return nil, err
	}
	if s.clusters[r.Where] == nil {
		s.clusters[r.Where] = map[string]*cluster{}
	}
	s.clusters[r.Where][in.Name] = c
	remember(c.ARN)
	return map[string]any{"cluster": c.view()}, nil
}

// connect makes the control plane's security group, unless there is one, and its
// interfaces in the subnets.
func (s *Service) connect(ctx context.Context, c *cluster, subnets []Subnet) error {
	group := c.ResourcesVPCConfig.ClusterSecurityGroupID
	if group == "" {
		var err error
		name := "eks-cluster-sg-" + c.Name + "-" + randomHex(8)
		group, err = s.cloud.CreateSecurityGroup(ctx, c.where, c.ResourcesVPCConfig.VPCID, name,
			"EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, as well as any managed workloads.",
			map[string]string{"Name": name, "aws:eks:cluster-name": c.Name, "kubernetes.io/cluster/" + c.Name: "owned"})
		if err != nil {
			return fmt.Errorf("making the security group of cluster %s: %w", c.Name, err)
		}
		c.ResourcesVPCConfig.ClusterSecurityGroupID = group
	}
	for _, subnet := range spread(subnets, interfacesOf) {
		id, err := s.cloud.CreateInterface(ctx, c.where, subnet.ID, "Amazon EKS "+c.Name, append([]string{group}, c.ResourcesVPCConfig.SecurityGroupIDs...))
		if err != nil {
			return fmt.Errorf("making an interface of cluster %s: %w", c.Name, err)
		}
		c.interfaces = append(c.interfaces, id)
	}
	return nil
}

// spread picks n subnets in as many zones.
func spread(subnets []Subnet, n int) []Subnet {
	var picked []Subnet
	seen := map[string]bool{}
	for _, subnet := range subnets {
		if len(picked) < n && !seen[subnet.Zone] {
			picked, seen[subnet.Zone] = append(picked, subnet), true
		}
	}
	return picked
}

// logs has EKS make the log group that it writes to, unless it is there.
func (s *Service) logs(ctx context.Context, c *cluster) error {
	for _, one := range c.Logging.ClusterLogging {
		if one.Enabled && len(one.Types) > 0 {
			if err := s.cloud.CreateLogGroup(ctx, c.where, "/aws/eks/"+c.Name+"/cluster"); err != nil {
				return fmt.Errorf("making the log group of cluster %s: %w", c.Name, err)
			}
		}
	}
	return nil
}

// view is what is shown: a cluster that is not ready has no address yet.
func (c *cluster) view() *cluster {
	shown := *c
	if c.Status == "CREATING" {
		shown.Endpoint, shown.Identity, shown.CertificateAuthority = "", nil, map[string]any{}
		shown.ResourcesVPCConfig.ClusterSecurityGroupID = ""
	}
	return &shown
}

// settleCluster brings a cluster and what is in it to the state that is due.
func (s *Service) settleCluster(ctx context.Context, c *cluster, now time.Time) (gone bool, err error) {
	switch {
	case c.Status == "CREATING" && !now.Before(c.due):
		s.start(c)
	case c.Status == "DELETING" && !now.Before(c.due):
		for len(c.interfaces) > 0 {
			if err := s.cloud.DeleteInterface(ctx, c.where, c.interfaces[0]); err != nil {
				return false, err
			}
			c.interfaces = c.interfaces[1:]
		}
		return true, s.cloud.DeleteSecurityGroup(ctx, c.where, c.ResourcesVPCConfig.ClusterSecurityGroupID)
	}
	for _, u := range c.updates {
		if done, err := u.settle(ctx, now); err != nil {
			return false, err
		} else if done {
			c.Status = "ACTIVE"
		}
	}
	for name, n := range c.nodegroups {
		if gone, err := s.settleNodegroup(ctx, c, n, now); err != nil {
			return false, err
		} else if gone {
			delete(c.nodegroups, name)
		}
	}
	for name, a := range c.addons {
		if gone, err := c.settleAddon(ctx, a, now); err != nil {
			return false, err
		} else if gone {
			delete(c.addons, name)
		}
	}
	return false, nil
}

// start gives a new cluster its address, or has it fail.
func (s *Service) start(c *cluster) {
	c.Status = "ACTIVE"
	if c.fail {
		c.Status = "FAILED"
		c.Health = map[string]any{"issues": []any{map[string]any{
			"code": "InternalFailure", "message": "The control plane could not be started.", "resourceIds": []string{c.ARN}}}}
		return
	}
	id := strings.ToUpper(randomHex(32))
	backing, ok := s.backing(c.where, c.Name)
	if !ok {
		suffix := "amazonaws.com"
		if c.where.Partition == "aws-cn" {
			suffix = "amazonaws.com.cn"
		}
		backing = Backing{Endpoint: "https://" + id + ".gr7." + c.where.Region + ".eks." + suffix, Issuer: "https://oidc.eks." + c.where.Region + "." + suffix + "/id/" + id}
	}
	c.Endpoint = backing.Endpoint
	c.Identity = map[string]any{"oidc": map[string]any{"issuer": backing.Issuer}}
	c.CertificateAuthority = map[string]any{"data": s.ca()}
	if backing.CA != nil {
		c.CertificateAuthority = map[string]any{"data": base64.StdEncoding.EncodeToString(backing.CA)}
	}
}

// find returns a cluster by the parameter that names it.
func (s *Service) find(r *request) (*cluster, error) {
	name, _ := r.Input["name"].(string)
	c := s.clusters[r.Where][name]
	if c == nil {
		return nil, notFound("No cluster found for name: %s.", name)
	}
	return c, nil
}

// findActive is find for what needs a cluster that works.
func (s *Service) findActive(r *request) (*cluster, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	if c.Status != "ACTIVE" && c.Status != "UPDATING" {
		return nil, invalidRequest("Cluster '%s' is not in ACTIVE status", c.Name)
	}
	return c, nil
}

func (s *Service) describeCluster(r *request) (any, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"cluster": c.view()}, nil
}

func (s *Service) listClusters(r *request) (any, error) {
	var in paging
	if err := r.into(&in); err != nil {
		return nil, err
	}
	part, next, err := page(slices.Sorted(maps.Keys(s.clusters[r.Where])), in, 100)
	return map[string]any{"clusters": part, "nextToken": next}, err
}

func (s *Service) deleteCluster(r *request) (any, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	switch {
	case len(c.nodegroups) > 0:
		return nil, inUse("Cluster has nodegroups attached")
	case c.DeletionProtection && c.Status != "FAILED" && c.Status != "DELETING":
		return nil, invalidRequest("Cluster %s cannot be deleted because deletion protection is enabled.", c.Name)
	case c.Status == "CREATING" || c.Status == "UPDATING":
		return nil, inUse("Cannot delete cluster %s because it currently has an update in progress or is being created", c.Name)
	case c.Status != "DELETING":
		c.Status, c.due = "DELETING", r.now.Add(typical.DeleteCluster)
		clear(c.addons)
		clear(c.identities)
	}
	return map[string]any{"cluster": c.view()}, nil
}

// subnetsFor checks the subnets of a control plane.
func (s *Service) subnetsFor(r *request, name string, ids []string) ([]Subnet, *VPC, error) {
	subnets, err := s.cloud.Subnets(r.ctx, r.Where, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("looking at the subnets of cluster %s: %w", name, err)
	}
	zones, vpcs := map[string]bool{}, map[string]bool{}
	for i, id := range ids {
		if i >= len(subnets) || subnets[i].ID != id {
			return nil, nil, invalidParameter("The subnet ID '%s' does not exist (Service: AmazonEC2; Status Code: 400; Error Code: InvalidSubnetID.NotFound)", id)
		}
		if slices.Contains(refusedZones, subnets[i].ZoneID) {
			return nil, nil, s.unsupportedZone(r, name, subnets[i].Zone)
		}
		if subnets[i].Free < atLeastFree {
			return nil, nil, invalidParameter("Subnet %s has %d free IP addresses, and needs %d at least.", id, subnets[i].Free, atLeastFree)
		}
		zones[subnets[i].Zone], vpcs[subnets[i].VPC] = true, true
	}
	if len(zones) < 2 {
		return nil, nil, invalidParameter("Subnets specified must be in at least two different AZs")
	}
	if len(vpcs) > 1 {
		return nil, nil, invalidParameter("Subnets specified must belong to the same VPC")
	}
	vpc, err := s.cloud.VPC(r.ctx, r.Where, subnets[0].VPC)
	if err != nil || vpc == nil {
		return nil, nil, fmt.Errorf("looking at VPC %s: %w", subnets[0].VPC, err)
	}
	return subnets, vpc, nil
}

func (s *Service) unsupportedZone(r *request, name, zone string) error {
	zones, err := s.cloud.Zones(r.ctx, r.Where)
	if err != nil {
		return fmt.Errorf("looking at the zones of %s: %w", r.Where.Region, err)
	}
	var valid []string
	for _, one := range slices.Sorted(maps.Keys(zones)) {
		if !slices.Contains(refusedZones, zones[one]) {
			valid = append(valid, one)
		}
	}
	return &Error{"UnsupportedAvailabilityZoneException", fmt.Sprintf(
		"Cannot create cluster '%s' because %s, the targeted availability zone, does not currently have sufficient capacity to support the cluster. Retry and choose from these availability zones: %s",
		name, zone, strings.Join(valid, ", ")), 400, map[string]any{"clusterName": name, "validZones": valid}}
}

// groupsIn checks that security groups are there, in the cluster's VPC.
func (s *Service) groupsIn(r *request, vpc string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if len(ids) > mostGroups {
		return invalidParameter("%d security groups are too many: a cluster has %d at most", len(ids), mostGroups)
	}
	found, err := s.cloud.SecurityGroups(r.ctx, r.Where, ids)
	if err != nil {
		return fmt.Errorf("looking at security groups: %w", err)
	}
	for _, id := range ids {
		if found[id] == "" {
			return invalidParameter("The security group ID '%s' does not exist", id)
		}
		if found[id] != vpc {
			return invalidParameter("Security group %s is not in the VPC %s of the subnets", id, vpc)
		}
	}
	return nil
}

// assumable checks that a role is there, and lets a service take it. A role that
// was made a moment ago is not there yet: that is what callers wait for.
func (s *Service) assumable(r *request, arn, service string) error {
	role, err := s.cloud.Role(r.ctx, arn)
	if err != nil {
		return fmt.Errorf("looking at role %s: %w", arn, err)
	}
	if role == nil || !slices.Contains(role.Trusts, service) {
		return invalidParameter("Role with arn: %s, could not be assumed because it does not exist or the trusted entity is not correct", arn)
	}
	return nil
}

func (s *Service) usableKey(r *request, e encryption) error {
	if !slices.Equal(e.Resources, []string{"secrets"}) {
		return invalidParameter("encryptionConfig needs to be of the resources [secrets]")
	}
	ok, err := s.cloud.Key(r.ctx, r.Where, e.Provider.KeyARN)
	if err != nil {
		return fmt.Errorf("looking at key %s: %w", e.Provider.KeyARN, err)
	}
	if !ok {
		return invalidParameter("The keyArn in encryptionConfig provider is invalid: %s is no symmetric key that is enabled", e.Provider.KeyARN)
	}
	return nil
}

// serviceRange is the range of services' addresses: 10.100.0.0/16, or 172.20.0.0/16
// where the VPC has the other.
func serviceRange(asked string, vpc *VPC) (string, error) {
	overlaps := func(p netip.Prefix) bool {
		for _, cidr := range vpc.CIDRs {
			if other, err := netip.ParsePrefix(cidr); err == nil && other.Overlaps(p) {
				return true
			}
		}
		return false
	}
	if asked == "" {
		if first := netip.MustParsePrefix("10.100.0.0/16"); !overlaps(first) {
			return first.String(), nil
		}
		return "172.20.0.0/16", nil
	}
	p, err := netip.ParsePrefix(asked)
	if err != nil || p != p.Masked() || p.Bits() < 12 || p.Bits() > 24 || !p.Addr().IsPrivate() {
		return "", invalidParameter("serviceIpv4Cidr %s needs to be between /12 and /24, within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16", asked)
	}
	if overlaps(p) {
		return "", invalidParameter("serviceIpv4Cidr %s overlaps the VPC's", asked)
	}
	return asked, nil
}

// checkAccess fills in who may reach the API server, and refuses nobody.
func checkAccess(v *vpcConfig) error {
	if !v.EndpointPrivateAccess && !v.EndpointPublicAccess {
		return invalidParameter("Private and public endpoint access cannot be false")
	}
	if err := checkPublicCIDRs(v.PublicAccessCIDRs); err != nil {
		return err
	}
	if len(v.PublicAccessCIDRs) == 0 {
		v.PublicAccessCIDRs = []string{"0.0.0.0/0"}
	}
	return nil
}

// mergeLogging applies a change to which logs are written.
func mergeLogging(old logging, change *logging) logging {
	on := map[string]bool{}
	for _, setups := range []*logging{&old, change} {
		if setups == nil {
			continue
		}
		for _, one := range setups.ClusterLogging {
			for _, kind := range one.Types {
				on[kind] = one.Enabled
			}
		}
	}
	var enabled, disabled []string
	for _, kind := range logTypes {
		if on[kind] {
			enabled = append(enabled, kind)
		} else {
			disabled = append(disabled, kind)
		}
	}
	var out logging
	if len(enabled) > 0 {
		out.ClusterLogging = append(out.ClusterLogging, logSetup{enabled, true})
	}
	if len(disabled) > 0 {
		out.ClusterLogging = append(out.ClusterLogging, logSetup{disabled, false})
	}
	return out
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
