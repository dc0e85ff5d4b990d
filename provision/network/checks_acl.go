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
	dns      = ports{53, 53}
	// ephemeral are those that answers come to: AWS's NAT gateways use all of them.
	ephemeral = ports{1024, 65535}
)

// A demand is traffic that must get through an access list. They are stateless, so that
// each direction is a demand of its own.
type demand struct {
	what     string
	egress   bool
	peers    []netip.Prefix
	but      []netip.Prefix // parts of the peers that do not count
	protocol string         // tcp, udp
	ports    ports
	remedy   string // the port range of a rule that admits it
	// bearable: where all of it is denied, that is a warning.
	bearable bool
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
		within := func(what string, egress bool) demand {
			return demand{what: what, egress: egress, peers: own, protocol: "tcp", ports: allPorts, remedy: "From=0,To=65535"}
		}
		// The outside is what is on the internet: a rule for private addresses lets nobody out.
		outside := func(what string, egress bool, p ports, remedy string) demand {
			return demand{what: what, egress: egress, peers: []netip.Prefix{anywhere}, but: slices.Concat(privateRanges, own), protocol: "tcp", ports: p, remedy: remedy}
		}
		// Names within a cluster go from node to node, by UDP.
		names := func(what string, egress bool) demand {
			return demand{what: what, egress: egress, peers: own, protocol: "udp", ports: dns, remedy: "From=53,To=53", bearable: true}
		}
		demands := []demand{
			within("what comes from the network", false),
			within("what goes to the network", true),
			outside("HTTPS to the outside, port 443", true, https, "From=443,To=443"),
			outside("answers from the outside, ports 1024 to 65535", false, ephemeral, "From=1024,To=65535"),
			names("questions for names from the network, UDP port 53", false),
			names("questions for names to the network, UDP port 53", true),
		}
		if slices.Contains(f.PublicSubnets, id) {
			demands = append(demands,
				outside("HTTPS from the outside, port 443", false, https, "From=443,To=443"),
				outside("answers to the outside, ports 1024 to 65535", true, ephemeral, "From=1024,To=65535"))
		}
		var found []Finding
		for _, d := range demands {
			some, all := false, true
			for _, peer := range d.peers {
				allowed, refused := through(acl.Entries, d, peer)
				some, all = some || allowed, all && !refused
			}
			if all {
				continue
			}
			direction := "--ingress"
			if d.egress {
				direction = "--egress"
			}
			remedy := fmt.Sprintf("aws ec2 create-network-acl-entry --network-acl-id %s %s --rule-number NUMBER --protocol %s --port-range %s --cidr-block %s --rule-action allow, before the rule that denies it",
				name, direction, d.protocol, d.remedy, d.peers[0])
			switch {
			case d.bearable:
				found = append(found, fail(Warning, id, remedy, "its access list %s denies %s", name, d.what))
			case some:
				found = append(found, fail(Warning, id, remedy, "its access list %s denies a part of %s", name, d.what))
			default:
				found = append(found, fail(Error, id, remedy, "its access list %s denies %s", name, d.what))
			}
		}
		if len(found) == 0 {
			found = append(found, pass(id, "its access list is %s", name))
		}
		return found
	})
}

// numbers are those of the protocols, by which access lists name them.
var numbers = map[string]string{"tcp": "6", "udp": "17"}

// through follows an access list's rules for what is demanded between a subnet and a range
// of peers: whether any of it is allowed, and whether any is refused.
func through(entries []types.NetworkAclEntry, d demand, peer netip.Prefix) (allowed, refused bool) {
	want := d.ports
	entries = slices.DeleteFunc(slices.Clone(entries), func(e types.NetworkAclEntry) bool {
		return aws.ToBool(e.Egress) != d.egress || aws.ToString(e.CidrBlock) == "" ||
			!slices.Contains([]string{"-1", "all", d.protocol, numbers[d.protocol]}, strings.ToLower(aws.ToString(e.Protocol)))
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
		a, r := portThrough(entries, peer, d.but, port)
		allowed, refused = allowed || a, refused || r
	}
	return allowed, refused
}

// portThrough is through for one port. A rule or an exception for a part of the peers
// settles that part only, so that the rest is asked about again.
func portThrough(entries []types.NetworkAclEntry, peer netip.Prefix, but []netip.Prefix, port int32) (allowed, refused bool) {
	apart := func() (bool, bool) {
		lower, upper := halves(peer)
		a, r := portThrough(entries, lower, but, port)
		a2, r2 := portThrough(entries, upper, but, port)
		return a || a2, r || r2
	}
	for _, b := range but {
		if contains(b, peer) {
			return false, false
		}
	}
	for _, e := range entries {
		r := portsOf(e)
		cidr, err := netip.ParsePrefix(aws.ToString(e.CidrBlock))
		if err != nil || port < r.from || port > r.to || !cidr.Overlaps(peer) {
			continue
		}
		if !contains(cidr, peer) || slices.ContainsFunc(but, peer.Overlaps) {
			return apart()
		}
		allows := e.RuleAction == types.RuleActionAllow
		return allows, !allows
	}
	if slices.ContainsFunc(but, peer.Overlaps) {
		return apart()
	}
	return false, true // what no rule is for is denied
}

func portsOf(e types.NetworkAclEntry) ports {
	protocol := aws.ToString(e.Protocol)
	if protocol == "-1" || protocol == "all" || e.PortRange == nil {
		return allPorts
	}
	return ports{aws.ToInt32(e.PortRange.From), aws.ToInt32(e.PortRange.To)}
}
