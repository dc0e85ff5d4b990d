package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func checkEndpoints(f *facts) []Finding {
	var found []Finding
	for _, e := range f.endpoints {
		if e.VpcEndpointType != types.VpcEndpointTypeInterface || gone(e) {
			continue
		}
		service := shortName(f.Region, aws.ToString(e.ServiceName))
		if !slices.Contains(allServices, service) {
			continue // of something that is none of a data plane's business
		}
		found = append(found, f.endpoint(e, service)...)
	}

	_, direct := f.privateTables()
	severity := Error
	for _, d := range direct {
		if d {
			severity = Warning // what has no endpoint is reached by that way out
		}
	}
	wanted := recommendedServices
	if f.PrivateEndpoint {
		wanted = privateServices
	}
	if severity == Error {
		wanted = allServices
	}
	for _, service := range f.missingServices(wanted) {
		s := severity
		if slices.Contains(withoutNAT, service) {
			s = Warning // not every data plane has a use for it
		}
		why := "without one, its traffic goes through the NAT gateway and costs"
		if severity == Error {
			why = "without one it cannot be reached, since private subnets have no way out"
		}
		found = append(found, fail(s, f.VPC,
			"aws ec2 create-vpc-endpoint --vpc-id "+f.VPC+" --vpc-endpoint-type Interface --service-name "+serviceName(f.Region, service)+
				" --subnet-ids "+strings.Join(f.PrivateSubnets, " ")+" --security-group-ids SG --private-dns-enabled",
			"it has no endpoint of %s; %s", service, why))
	}
	if err := f.failed[callServices]; err != nil {
		found = append(found, Finding{Status: CannotTell, Message: "in which zones AWS offers the services is not known: it takes " + whyNot(callServices, err)})
	}
	if len(found) == 0 {
		return []Finding{notApplicable("there is no endpoint of a service, and none is wanted")}
	}
	return found
}

// gone reports whether an endpoint is deleted, or will be in a moment.
func gone(e types.VpcEndpoint) bool {
	return strings.EqualFold(string(e.State), "deleted") || strings.EqualFold(string(e.State), "deleting")
}

// endpoint judges an interface endpoint that is there. With a private name, all of the
// network goes by it, and there is no falling back: so a fault is an error.
func (f *facts) endpoint(e types.VpcEndpoint, service string) []Finding {
	id := aws.ToString(e.VpcEndpointId)
	named := aws.ToBool(e.PrivateDnsEnabled)
	severity := Warning
	if named {
		severity = Error
	}
	if !strings.EqualFold(string(e.State), "available") {
		remedy := "aws ec2 describe-vpc-endpoints --vpc-endpoint-ids " + id
		if strings.EqualFold(string(e.State), "failed") {
			remedy = "aws ec2 delete-vpc-endpoints --vpc-endpoint-ids " + id + ", and make it again"
		}
		return []Finding{fail(severity, id, remedy, "the endpoint of %s is %s, not available", service, strings.ToLower(string(e.State)))}
	}
	var found []Finding
	if !named {
		found = append(found, fail(Warning, id, "aws ec2 modify-vpc-endpoint --vpc-endpoint-id "+id+" --private-dns-enabled", "the endpoint of %s has no private name, so that nothing uses it", service))
	}

	var groups []string
	for _, g := range e.Groups {
		groups = append(groups, aws.ToString(g.GroupId))
	}
	ranges, lists := f.admitted(groups)
	for _, subnet := range f.PrivateSubnets {
		cidr, err := netip.ParsePrefix(aws.ToString(f.subnets[subnet].CidrBlock))
		if err != nil || !f.mine(subnet) || cover(ranges, cidr) {
			continue
		}
		if len(lists) > 0 {
			found = append(found, Finding{Status: CannotTell, Severity: severity, Resource: id,
				Message: fmt.Sprintf("the endpoint of %s admits port 443 from the prefix list %s; compare it with %s, %s: it takes ec2:GetManagedPrefixListEntries, which a check does not call", service, lists[0], subnet, cidr)}.in(f.zoneOf(subnet)))
			continue
		}
		group := "SG"
		if len(groups) > 0 {
			group = groups[0]
		}
		found = append(found, fail(severity, id, "aws ec2 authorize-security-group-ingress --group-id "+group+" --protocol tcp --port 443 --cidr "+cidr.String(),
			"the endpoint of %s does not admit port 443 from %s, %s", service, subnet, cidr).in(f.zoneOf(subnet)))
	}

	var has []string
	for _, subnet := range e.SubnetIds {
		has = append(has, f.zoneOf(subnet))
	}
	for _, zone := range f.zonesOf(f.PrivateSubnets) {
		if slices.Contains(has, zone) {
			continue
		}
		if offered := f.offered(aws.ToString(e.ServiceName), zone); !offered {
			continue
		}
		found = append(found, fail(Warning, id, "aws ec2 modify-vpc-endpoint --vpc-endpoint-id "+id+" --add-subnet-ids SUBNET-IN-"+zone,
			"the endpoint of %s is not in zone %s: traffic from there crosses zones, and ends when the others do", service, zone).in(zone))
	}
	if len(found) == 0 {
		found = append(found, pass(id, "the endpoint of %s is available", service))
	}
	return found
}

// offered reports whether a service can have an endpoint in a zone; true when that is not known.
func (f *facts) offered(service, zone string) bool {
	names, known := f.services[service]
	if !known || len(names) == 0 || f.failed[callServices] != nil || f.failed[callZones] != nil {
		return true
	}
	return slices.ContainsFunc(f.zones, func(z types.AvailabilityZone) bool {
		return aws.ToString(z.ZoneId) == zone && slices.Contains(names, aws.ToString(z.ZoneName))
	})
}

// admitted are the ranges from which the groups let HTTPS in, and the lists of ranges.
func (f *facts) admitted(groups []string) (ranges []netip.Prefix, lists []string) {
	for _, g := range f.groups {
		if !slices.Contains(groups, aws.ToString(g.GroupId)) {
			continue
		}
		for _, p := range g.IpPermissions {
			if protocol := aws.ToString(p.IpProtocol); protocol != "-1" && protocol != "6" && protocol != "tcp" ||
				protocol != "-1" && (aws.ToInt32(p.FromPort) > 443 || aws.ToInt32(p.ToPort) < 443) {
				continue
			}
			for _, r := range p.IpRanges {
				if cidr, err := netip.ParsePrefix(aws.ToString(r.CidrIp)); err == nil {
					ranges = append(ranges, cidr)
				}
			}
			for _, l := range p.PrefixListIds {
				lists = append(lists, aws.ToString(l.PrefixListId))
			}
		}
	}
	return ranges, lists
}

// cover reports whether ranges, together, have all of another one.
func cover(ranges []netip.Prefix, whole netip.Prefix) bool {
	if !slices.ContainsFunc(ranges, whole.Overlaps) {
		return false
	}
	if slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return contains(r, whole) }) {
		return true
	}
	lower, upper := halves(whole)
	return cover(ranges, lower) && cover(ranges, upper)
}

// missingServices are those of wanted that have no interface endpoint in the network.
func (f *facts) missingServices(wanted []string) []string {
	var missing []string
	for _, service := range wanted {
		if !slices.ContainsFunc(f.endpoints, func(e types.VpcEndpoint) bool {
			return e.VpcEndpointType == types.VpcEndpointTypeInterface && isOf(aws.ToString(e.ServiceName), f.Region, service) && !gone(e)
		}) {
			missing = append(missing, service)
		}
	}
	return missing
}

// shortName is a service's name without the region's part.
func shortName(region, name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "cn."), "com.amazonaws."+region+".")
}

// narrows reports whether an endpoint's policy is another than the one that allows all.
func narrows(policy string) bool {
	if policy == "" {
		return false
	}
	var document struct {
		Statement json.RawMessage
	}
	if json.Unmarshal([]byte(policy), &document) != nil {
		return true
	}
	type statement struct {
		Effect            string
		Action, Resource  any
		Principal         any
		Condition         json.RawMessage
		NotAction         any
		NotResource       any
		NotPrincipal, Sid any
	}
	var list []statement
	if json.Unmarshal(document.Statement, &list) != nil {
		list = make([]statement, 1)
		if json.Unmarshal(document.Statement, &list[0]) != nil {
			return true
		}
	}
	is := func(v any, text string) bool {
		if l, ok := v.([]any); ok && len(l) == 1 {
			v = l[0]
		}
		return v == text
	}
	open := func(s statement) bool {
		return s.Effect == "Allow" && (is(s.Action, "*") || is(s.Action, "s3:*")) && is(s.Resource, "*") && is(s.Principal, "*") && s.Condition == nil
	}
	return !slices.ContainsFunc(list, open) || slices.ContainsFunc(list, func(s statement) bool { return s.Effect == "Deny" })
}

// rulesOfGroup is how many rules a group may have in each direction, by default.
const rulesOfGroup = 60

func checkGroups(f *facts) []Finding {
	var found []Finding
	for _, g := range f.groups {
		if aws.ToString(g.VpcId) != f.VPC {
			continue
		}
		id := aws.ToString(g.GroupId)
		if aws.ToString(g.GroupName) == "default" {
			var users []string
			for _, i := range f.interfaces {
				if f.ofNAT(aws.ToString(i.NetworkInterfaceId)) {
					continue // no group has a say there
				}
				if slices.ContainsFunc(i.Groups, func(of types.GroupIdentifier) bool { return aws.ToString(of.GroupId) == id }) {
					users = append(users, aws.ToString(i.NetworkInterfaceId))
				}
			}
			if n := len(users); n > 0 {
				found = append(found, fail(Warning, id, "aws ec2 modify-network-interface-attribute --network-interface-id "+users[0]+" --groups SG",
					"the network's default group is in use by %d interfaces, such as %s: whoever names no group is among them", n, users[0]))
			} else {
				found = append(found, pass(id, "the network's default group is unused"))
			}
		}
		for _, side := range []struct {
			name  string
			rules []types.IpPermission
		}{{"in", g.IpPermissions}, {"out", g.IpPermissionsEgress}} {
			n := 0
			for _, p := range side.rules {
				n += len(p.IpRanges) + len(p.PrefixListIds) + len(p.UserIdGroupPairs)
			}
			if n >= rulesOfGroup*9/10 {
				found = append(found, fail(Warning, id, "aws service-quotas request-service-quota-increase --service-code vpc --quota-code L-0EA8095F --desired-value 100",
					"group %s has %d rules for what goes %s, and may have %d", aws.ToString(g.GroupName), n, side.name, rulesOfGroup))
			}
		}
	}
	return found
}

// ofNAT reports whether an interface is a NAT gateway's.
func (f *facts) ofNAT(id string) bool {
	return slices.ContainsFunc(f.nats, func(n types.NatGateway) bool {
		return slices.ContainsFunc(n.NatGatewayAddresses, func(a types.NatGatewayAddress) bool { return aws.ToString(a.NetworkInterfaceId) == id })
	})
}

// quota is a limit of an account, with what of it a data plane wants.
type quota struct {
	service, code, name string
	wants               float64 // of what a given network may lack; what it has already needs no more
	used                func(*facts) float64
}

// quotas are the limits that a data plane comes near to. Codes are those of Service
// Quotas; each is the same in every account and region.
var quotas = []quota{
	{"ec2", "L-0263D0A3", "elastic IP addresses", 0, func(f *facts) float64 { return float64(f.addresses) }},
	{"vpc", "L-FE5A380F", "NAT gateways in a zone", 0, func(f *facts) float64 { return float64(f.natsInFullestZone()) }},
	{"vpc", "L-29B6F2EB", "interface endpoints in a network", 0, func(f *facts) float64 { return float64(f.interfaceEndpoints()) }},
	{"vpc", "L-E79EC296", "security groups", 5, func(f *facts) float64 { return float64(len(f.groups)) }},
	{"eks", "L-1194D53C", "EKS clusters", 1, func(f *facts) float64 { return float64(f.clusters) }},
	// What runs cannot be seen without looking at every instance; two small nodes must fit.
	{"ec2", "L-1216C47A", "vCPUs of standard instances", 8, func(*facts) float64 { return 0 }},
}

func checkQuotas(f *facts) []Finding {
	var found []Finding
	var unknown []string
	for _, q := range quotas {
		limit, known := f.quotas[q.code]
		if !known {
			unknown = append(unknown, q.name)
			continue
		}
		if used := q.used(f); used+q.wants > limit || used >= limit {
			found = append(found, fail(Warning, f.VPC,
				fmt.Sprintf("aws service-quotas request-service-quota-increase --service-code %s --quota-code %s --desired-value %.0f", q.service, q.code, max(2*limit, used+q.wants)),
				"%.0f %s are in use, the account may have %.0f, and a data plane wants %.0f more", used, q.name, limit, q.wants))
		}
	}
	if len(found) == 0 && len(unknown) < len(quotas) {
		found = append(found, pass(f.VPC, "none of %d limits is near", len(quotas)-len(unknown)))
	}
	if len(unknown) > 0 {
		why := callQuota
		if err := f.failed[callQuota]; err != nil {
			why = whyNot(callQuota, err)
		}
		found = append(found, Finding{Status: CannotTell, Message: "the limits of " + strings.Join(unknown, ", ") + " are not known: it takes " + why})
	}
	return found
}

func (f *facts) interfaceEndpoints() int {
	n := 0
	for _, e := range f.endpoints {
		if e.VpcEndpointType == types.VpcEndpointTypeInterface {
			n++
		}
	}
	return n
}

func (f *facts) natsInFullestZone() int {
	zones := map[string]int{}
	fullest := 0
	for _, n := range f.nats {
		if n.State == types.NatGatewayStateDeleted || n.State == types.NatGatewayStateFailed || aws.ToString(n.VpcId) != f.VPC {
			continue
		}
		zone := f.zoneOf(aws.ToString(n.SubnetId))
		zones[zone]++
		fullest = max(fullest, zones[zone])
	}
	return fullest
}
