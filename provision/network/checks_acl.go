package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// anywhere is every address.
var anywhere = netip.MustParsePrefix("0.0.0.0/0")

// ports is a range of them, both ends in it.
type ports struct{ from, to int32 }

var (
	allPorts = ports{0, 65535}
	https    = ports{443, 443}
	// ephemeral are those that answers come to: AWS's NAT gateways use all of them.
	ephemeral = ports{1024, 65535}
)

// A demand is traffic that must get through an access list. They are stateless, so that
// each direction is a demand of its own.
type demand struct {
	what   string
	egress bool
	peers  []netip.Prefix
	ports  ports
	remedy string // the port range of a rule that admits it
}

func checkAccessLists(f *facts) []Finding {
	return f.eachSubnet(func(id string, s types.Subnet) []Finding {
		i := slices.IndexFunc(f.acls, func(a types.NetworkAcl) bool {
			return slices.ContainsFunc(a.Associations, func(b types.NetworkAclAssociation) bool { return aws.ToString(b.SubnetId) == id })
		})
		if i < 0 {
			return []Finding{{Status: CannotTell, Message: "no access list that " + callACLs + " shows is associated with it"}}
		}
		acl := f.acls[i]
		name := aws.ToString(acl.NetworkAclId)
		own := f.ranges()
		demands := []demand{
			{"what comes from the network", false, own, allPorts, "From=0,To=65535"},
			{"what goes to the network", true, own, allPorts, "From=0,To=65535"},
			{"HTTPS to the outside, port 443", true, []netip.Prefix{anywhere}, https, "From=443,To=443"},
			{"answers from the outside, ports 1024 to 65535", false, []netip.Prefix{anywhere}, ephemeral, "From=1024,To=65535"},
		}
		if slices.Contains(f.PublicSubnets, id) {
			demands = append(demands,
				demand{"HTTPS from the outside, port 443", false, []netip.Prefix{anywhere}, https, "From=443,To=443"},
				demand{"answers to the outside, ports 1024 to 65535", true, []netip.Prefix{anywhere}, ephemeral, "From=1024,To=65535"})
		}
		var found []Finding
		for _, d := range demands {
			some, all := false, true
			for _, peer := range d.peers {
				allowed, refused := through(acl.Entries, d.egress, peer, d.ports)
				some, all = some || allowed, all && !refused
			}
			if all {
				continue
			}
			direction := "--ingress"
			if d.egress {
				direction = "--egress"
			}
			remedy := fmt.Sprintf("aws ec2 create-network-acl-entry --network-acl-id %s %s --rule-number NUMBER --protocol tcp --port-range %s --cidr-block %s --rule-action allow, before the rule that denies it",
				name, direction, d.remedy, d.peers[0])
			if some {
				found = append(found, fail(Warning, id, remedy, "its access list %s denies a part of %s", name, d.what))
			} else {
				found = append(found, fail(Error, id, remedy, "its access list %s denies %s", name, d.what))
			}
		}
		if len(found) == 0 {
			found = append(found, pass(id, "its access list is %s", name))
		}
		return found
	})
}

// through follows an access list's rules for TCP between a subnet and a range of peers:
// whether any of it is allowed, and whether any is refused.
func through(entries []types.NetworkAclEntry, egress bool, peer netip.Prefix, want ports) (allowed, refused bool) {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e types.NetworkAclEntry) bool {
		return aws.ToBool(e.Egress) != egress || aws.ToString(e.CidrBlock) == "" || !slices.Contains([]string{"-1", "6", "tcp", "all"}, strings.ToLower(aws.ToString(e.Protocol)))
	})
	slices.SortFunc(entries, func(a, b types.NetworkAclEntry) int {
		return int(aws.ToInt32(a.RuleNumber)) - int(aws.ToInt32(b.RuleNumber))
	})
	// Between two neighbours of the rules' ends, all ports have the same fate.
	starts := []int32{want.from}
	for _, e := range entries {
		r := portsOf(e)
		for _, start := range []int32{r.from, r.to + 1} {
			if start > want.from && start <= want.to {
				starts = append(starts, start)
			}
		}
	}
	for _, port := range starts {
		a, r := portThrough(entries, peer, port)
		allowed, refused = allowed || a, refused || r
	}
	return allowed, refused
}

// portThrough is through for one port. A rule for a part of the peers settles that part only.
func portThrough(entries []types.NetworkAclEntry, peer netip.Prefix, port int32) (allowed, refused bool) {
	for _, e := range entries {
		r := portsOf(e)
		cidr, err := netip.ParsePrefix(aws.ToString(e.CidrBlock))
		if err != nil || port < r.from || port > r.to || !cidr.Overlaps(peer) {
			continue
		}
		allows := e.RuleAction == types.RuleActionAllow
		allowed, refused = allowed || allows, refused || !allows
		if contains(cidr, peer) {
			return allowed, refused
		}
	}
	return allowed, true // what no rule is for is denied
}

func portsOf(e types.NetworkAclEntry) ports {
	protocol := aws.ToString(e.Protocol)
	if protocol == "-1" || protocol == "all" || e.PortRange == nil {
		return allPorts
	}
	return ports{aws.ToInt32(e.PortRange.From), aws.ToInt32(e.PortRange.To)}
}
