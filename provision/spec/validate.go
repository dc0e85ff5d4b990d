package spec

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/internal/usererr"
)

// Forms of what a file names.
var (
	nameForm       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	accountForm    = regexp.MustCompile(`^\d{12}$`)
	roleForm       = regexp.MustCompile(`^arn:aws(-[a-z-]+)?:iam::\d{12}:role/([!-.0-~]+/)*[\w+=,.@-]{1,64}$`)
	versionForm    = regexp.MustCompile(`^1\.\d{2,3}$`)
	zoneForm       = regexp.MustCompile(`^[a-z]{3,4}\d-az\d$`)
	vpcForm        = regexp.MustCompile(`^vpc-[0-9a-f]{8,17}$`)
	subnetForm     = regexp.MustCompile(`^subnet-[0-9a-f]{8,17}$`)
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+([._/-][a-z0-9]+)*$`)
	typeForm       = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+$`)
)

// RefusedZones are those in which EKS places no cluster, by id: names are each account's
// own. Source: EKS user guide, network requirements, subnet requirements.
var RefusedZones = []string{"use1-az3", "usw1-az2", "cac1-az3"}

// longestName leaves room in 64 characters of a role's name for the prefix, the base
// name of the roles and the longest service account.
const longestName = 21

// retention are the days that CloudWatch Logs takes (PutRetentionPolicy).
var retention = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// validate refuses what cannot be built, with the field, the value and the next thing to
// try. What only AWS knows, such as which regions and versions there are, is asked later.
func (dp *DataPlane) validate() error {
	for _, check := range []func(*Spec) error{
		func(s *Spec) error { return checkName(dp.Metadata.Name) },
		checkAccess, checkControlPlane, checkNetwork, checkCluster, checkRanges, checkNodeGroups, checkRegistry, checkEndpoint, checkTags,
	} {
		if err := check(&dp.Spec); err != nil {
			return err
		}
	}
	return nil
}

func invalid(field, value, wrong, hint string) error {
	return usererr.New(usererr.Invalid, "%s: %q %s", field, value, wrong).WithHint("%s", hint)
}

// missing is for a field that there is no default for.
func missing(field, hint string) error {
	return usererr.New(usererr.Invalid, "%s is missing", field).WithHint("%s", hint)
}

// oneOf refuses a word that is none of those.
func oneOf[T ~string](field string, word T, words ...T) error {
	if slices.Contains(words, word) {
		return nil
	}
	plain := make([]string, len(words))
	for i, w := range words {
		plain[i] = string(w)
	}
	return invalid(field, string(word), "is not one of "+strings.Join(plain, ", "), fmt.Sprintf("did you mean %q?", nearest.Of(string(word), plain)))
}

func checkName(name string) error {
	switch {
	case name == "":
		return missing("metadata.name", "name it with lower-case letters, digits and hyphens: demo")
	case !nameForm.MatchString(name):
		return invalid("metadata.name", name, "is no name", "use lower-case letters, digits and hyphens, the first and last no hyphen")
	case len(name) > longestName:
		return invalid("metadata.name", name, fmt.Sprintf("has %d characters, and the names made of it leave room for %d", len(name), longestName), "shorten it")
	}
	return nil
}

func checkAccess(s *Spec) error {
	switch {
	case s.Account == "":
		return missing("spec.account", "write the twelve digits of the customer's AWS account, between quotes")
	case !accountForm.MatchString(s.Account):
		return invalid("spec.account", s.Account, "is not an AWS account", "write its twelve digits between quotes, so that none is lost")
	case s.Region == "":
		return missing("spec.region", "write a region such as eu-central-1")
	case s.Access.RoleARN == "":
		return missing("spec.access.roleArn", "write the ARN that 'biplane access grant' printed")
	case !roleForm.MatchString(s.Access.RoleARN):
		return invalid("spec.access.roleArn", s.Access.RoleARN, "is not the ARN of a role", "write the ARN that 'biplane access grant' printed")
	case !strings.Contains(s.Access.RoleARN, ":"+s.Account+":"):
		return invalid("spec.access.roleArn", s.Access.RoleARN, "is not of spec.account "+s.Account, "correct one of the two")
	case s.Access.ExternalID == "":
		return missing("spec.access.externalId", "write the ID that the access was granted with")
	}
	if err := oneOf("spec.access.policy", s.Access.Policy, Strict, Compat); err != nil {
		return err
	}
	return oneOf("spec.workspaceRoles", s.WorkspaceRoles, PerServiceAccount, SharedRoles)
}

func checkControlPlane(s *Spec) error {
	c := s.ControlPlane
	switch {
	case c == nil:
	case c.Endpoint == "":
		return missing("spec.controlPlane.endpoint", "write the address of the control plane's gateway, https://HOST:PORT, or leave controlPlane out")
	case !strings.HasPrefix(c.Endpoint, "https://"):
		return invalid("spec.controlPlane.endpoint", c.Endpoint, "is not an https address", "write it as https://HOST:PORT")
	case c.Cluster == "":
		return missing("spec.controlPlane.cluster", "write the name that 'biplane cluster add NAME' was given")
	case c.TokenFile == "":
		return missing("spec.controlPlane.tokenFile", "write the file that 'biplane cluster add NAME --token-file FILE' wrote")
	}
	return nil
}

func checkNetwork(s *Spec) error {
	n := &s.Network
	for _, cidr := range n.OnPremises {
		if _, err := prefix("spec.network.onPremises", cidr); err != nil {
			return err
		}
	}
	switch {
	case n.Create == nil && n.Existing == nil:
		return missing("spec.network", "write create: {cidr: 10.0.0.0/16, zones: 3}, or existing: with a VPC and its subnets")
	case n.Create != nil && n.Existing != nil:
		return usererr.New(usererr.Invalid, "spec.network has both create and existing").WithHint("keep one: a network is made, or given")
	case n.Existing != nil:
		return checkGiven(n.Existing)
	}
	c := n.Create
	cidr, err := prefix("spec.network.create.cidr", c.CIDR)
	switch {
	case err != nil:
		return err
	case cidr.Bits() < 16 || cidr.Bits() > 20:
		return invalid("spec.network.create.cidr", c.CIDR, "is not between /16 and /20", "write a /16, which is what is recommended: 'biplane network plan' shows what fits")
	case c.Zones < 2 || c.Zones > 6:
		return invalid("spec.network.create.zones", fmt.Sprint(c.Zones), "is not between 2 and 6", "write 3: EKS needs two, and three are recommended")
	case len(c.ZoneIDs) > 0 && len(c.ZoneIDs) != c.Zones:
		return usererr.New(usererr.Invalid, "spec.network.create.zoneIds has %d zones, and zones is %d", len(c.ZoneIDs), c.Zones).WithHint("make them agree, or leave zoneIds out")
	case c.FlowLogDays != nil && *c.FlowLogDays != 0 && !slices.Contains(retention, *c.FlowLogDays):
		return badRetention("spec.network.create.flowLogDays", *c.FlowLogDays)
	}
	for i, zone := range c.ZoneIDs {
		if !zoneForm.MatchString(zone) {
			return invalid("spec.network.create.zoneIds", zone, "is not the id of a zone", "write ids (euc1-az1), not names (eu-central-1a), which differ from account to account; 'aws ec2 describe-availability-zones' shows both")
		}
		if slices.Contains(RefusedZones, zone) {
			return invalid("spec.network.create.zoneIds", zone, "is a zone in which EKS places no cluster", "choose among the others of the region")
		}
		if slices.Contains(c.ZoneIDs[:i], zone) {
			return invalid("spec.network.create.zoneIds", zone, "is named twice", "name each zone once")
		}
	}
	if err := oneOf("spec.network.create.nat", c.NAT, NATPerZone, NATSingle, NATNone); err != nil {
		return err
	}
	if err := oneOf("spec.network.create.endpoints", c.Endpoints, RecommendedEndpoints, AllEndpoints, GatewayOnly); err != nil {
		return err
	}
	if c.NAT == NATNone && c.Endpoints != AllEndpoints {
		return usererr.New(usererr.Invalid, "spec.network.create.nat is none, and endpoints is %s, so nodes could reach no image and no cluster", c.Endpoints).
			WithHint("write endpoints: all, or nat: single")
	}
	return nil
}

func checkGiven(n *NetworkThatIs) error {
	if !vpcForm.MatchString(n.VPC) {
		return invalid("spec.network.existing.vpc", n.VPC, "is not the id of a VPC", "write it as vpc-0123456789abcdef0")
	}
	if len(n.PrivateSubnets) < 2 {
		return usererr.New(usererr.Invalid, "spec.network.existing.privateSubnets has %d subnets, and EKS needs two, in two zones", len(n.PrivateSubnets)).
			WithHint("name one private subnet for each zone")
	}
	all := append(slices.Clone(n.PrivateSubnets), n.PublicSubnets...)
	for i, subnet := range all {
		if !subnetForm.MatchString(subnet) {
			return invalid("spec.network.existing", subnet, "is not the id of a subnet", "write it as subnet-0123456789abcdef0")
		}
		if slices.Contains(all[:i], subnet) {
			return invalid("spec.network.existing", subnet, "is named twice", "name each subnet once, as public or as private")
		}
	}
	return nil
}

const serviceField = "spec.cluster.serviceCidr"

// serviceRanges are those of which EKS takes one for services where it is told none
// (Amazon EKS User Guide, Amazon EKS networking requirements for VPC and subnets).
var serviceRanges = []string{"10.100.0.0/16", "172.20.0.0/16"}

// checkRanges refuses two ranges that share addresses: of the network, of what is behind
// a VPN, of the cluster's services. The fields are known to be ranges.
func checkRanges(s *Spec) error {
	type ranges struct {
		field string
		list  []string
	}
	var all []ranges
	if n := s.Network.Create; n != nil {
		all = append(all, ranges{"spec.network.create.cidr", []string{n.CIDR}}, ranges{"spec.network.create.secondaryCidrs", n.SecondaryCIDRs})
	}
	all = append(all, ranges{"spec.network.onPremises", s.Network.OnPremises})
	if s.Cluster.ServiceCIDR != "" {
		all = append(all, ranges{serviceField, []string{s.Cluster.ServiceCIDR}})
	}
	type taken struct {
		netip.Prefix
		field string
	}
	var before []taken
	for _, r := range all {
		for _, text := range r.list {
			p, err := prefix(r.field, text)
			if err != nil {
				return err
			}
			for _, t := range before {
				if t.Overlaps(p) {
					return invalid(r.field, text, fmt.Sprintf("overlaps %s of %s", t.Prefix, t.field), "choose ranges that share no address")
				}
			}
			before = append(before, taken{p, r.field})
		}
	}
	if s.Cluster.ServiceCIDR != "" {
		return nil
	}
	for _, text := range s.Network.OnPremises {
		for _, service := range serviceRanges {
			if netip.MustParsePrefix(text).Overlaps(netip.MustParsePrefix(service)) {
				return invalid("spec.network.onPremises", text, "overlaps "+service+", which EKS may take for the cluster's services", "write "+serviceField+": a private range of /12 to /24 that nothing uses")
			}
		}
	}
	return nil
}

func prefix(field, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case text == "":
		return p, missing(field, "write a range such as 10.0.0.0/16")
	case err != nil || !p.Addr().Is4():
		return p, invalid(field, text, "is not an IPv4 range", "write it as 10.0.0.0/16")
	case p != p.Masked():
		return p, invalid(field, text, "has bits behind its prefix", "write "+p.Masked().String())
	}
	return p, nil
}

func badRetention(field string, days int) error {
	i, _ := slices.BinarySearch(retention, days)
	return invalid(field, fmt.Sprint(days), "is no retention that CloudWatch Logs has", fmt.Sprintf("write %d", retention[min(i, len(retention)-1)]))
}

func checkCluster(s *Spec) error {
	c := &s.Cluster
	switch {
	case c.Version == "":
		return missing("spec.cluster.version", `write a Kubernetes version, between quotes: "1.34"`)
	case !versionForm.MatchString(c.Version):
		return invalid("spec.cluster.version", c.Version, "is no Kubernetes version of EKS", `write it as "1.34", between quotes, without a patch`)
	case !slices.Contains(retention, c.LogDays):
		return badRetention("spec.cluster.logDays", c.LogDays)
	case c.KeyDeletionDays < 7 || c.KeyDeletionDays > 30:
		return invalid("spec.cluster.keyDeletionDays", fmt.Sprint(c.KeyDeletionDays), "is not between 7 and 30", "write 30, which is what KMS takes by itself")
	}
	for _, cidr := range c.PublicCIDRs {
		if _, err := prefix("spec.cluster.publicCidrs", cidr); err != nil {
			return err
		}
	}
	if c.ServiceCIDR != "" {
		service, err := prefix(serviceField, c.ServiceCIDR)
		if err != nil {
			return err
		}
		if service.Bits() < 12 || service.Bits() > 24 || !service.Addr().IsPrivate() {
			return invalid("spec.cluster.serviceCidr", c.ServiceCIDR, "is not a private range between /12 and /24", "write one such as 172.20.0.0/16, or leave it to EKS")
		}
	}
	return oneOf("spec.cluster.endpoint", c.Endpoint, PublicAddress, PrivateAddress)
}

func checkNodeGroups(s *Spec) error {
	seen := map[string]bool{}
	for i, g := range s.Cluster.NodeGroups {
		field := fmt.Sprintf("spec.cluster.nodeGroups[%d]", i)
		switch {
		case g.Name == "":
			return missing(field+".name", "name it: system")
		case !nameForm.MatchString(g.Name) || len(g.Name) > 63:
			return invalid(field+".name", g.Name, "is no name of a node group", "use at most 63 lower-case letters, digits and hyphens")
		case seen[g.Name]:
			return invalid(field+".name", g.Name, "is there twice", "give each node group a name of its own")
		case g.Min < 1 || g.Min > g.Max || g.Max > 450:
			return usererr.New(usererr.Invalid, "%s: min %d and max %d do not fit: 1 to 450, and min not above max", field, g.Min, g.Max).WithHint("write min: 2 and max: 4")
		case g.DiskGiB < 20 || g.DiskGiB > 16384:
			return invalid(field+".diskGiB", fmt.Sprint(g.DiskGiB), "is not between 20 and 16384", "write 80")
		}
		seen[g.Name] = true
		for _, t := range g.InstanceTypes {
			if !typeForm.MatchString(t) {
				return invalid(field+".instanceTypes", t, "is not an instance type", "write one such as m6i.xlarge")
			}
		}
		for _, t := range g.Taints {
			if t.Key == "" {
				return missing(field+".taints.key", "write the taint's key")
			}
			if err := oneOf(field+".taints.effect", t.Effect, "NoSchedule", "PreferNoSchedule", "NoExecute"); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkRegistry(s *Spec) error {
	for i, name := range s.Registry.Repositories {
		if !repositoryForm.MatchString(name) || len(name) > 200 {
			return invalid("spec.registry.repositories", name, "is no name of a repository", "use lower-case letters, digits and single . _ - / between them")
		}
		if slices.Contains(s.Registry.Repositories[:i], name) {
			return invalid("spec.registry.repositories", name, "is named twice", "name each repository once")
		}
	}
	if s.Registry.UntaggedDays < 1 {
		return invalid("spec.registry.untaggedDays", fmt.Sprint(s.Registry.UntaggedDays), "is less than a day", "write 14")
	}
	return nil
}

func checkEndpoint(s *Spec) error {
	e := &s.PrivateEndpoint
	switch {
	case !e.Enabled:
	case s.Cluster.Endpoint != PrivateAddress && s.Cluster.Endpoint != PublicAddress:
	case e.Tasks < 1 || e.Tasks > 10:
		return invalid("spec.privateEndpoint.tasks", fmt.Sprint(e.Tasks), "is not between 1 and 10", "write 2")
	case e.VendorRoleARN != "" && !roleForm.MatchString(e.VendorRoleARN):
		return invalid("spec.privateEndpoint.vendorRoleArn", e.VendorRoleARN, "is not the ARN of one role", "write the ARN of the one role of the vendor that may connect")
	}
	return nil
}

func checkTags(s *Spec) error {
	if len(s.Tags) > 30 {
		return usererr.New(usererr.Invalid, "spec.tags has %d tags, and AWS takes 50 with those of the data plane and its services", len(s.Tags)).WithHint("keep at most 30")
	}
	for key, value := range s.Tags {
		switch {
		case key == "" || len(key) > 128 || len(value) > 256:
			return invalid("spec.tags", key, "is too long or empty: 1 to 128 characters, its value up to 256", "shorten it")
		case strings.HasPrefix(strings.ToLower(key), "aws:") || strings.HasPrefix(key, "kubernetes.io/") || strings.HasPrefix(key, "karpenter.sh/") || strings.HasPrefix(key, "eks:"):
			return invalid("spec.tags", key, "is a key of AWS's or of the cluster's own", "choose another key")
		}
	}
	return nil
}
