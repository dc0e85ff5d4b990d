package network

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/spec"
)

// AddressPlan is how the addresses of a network are shared out among its zones. It
// follows from the range and the number of zones alone, so that everybody who works
// it out has the same.
type AddressPlan struct {
	VPC     netip.Prefix `json:"vpc"`
	Private []Block      `json:"private"` // one a zone, all of one size
	Public  []Block      `json:"public"`  // one a zone, /26
	// ControlPlane is room for the cluster's own interfaces, one /28 a zone, for who wants
	// them in subnets of their own. Nothing is made in it.
	ControlPlane []Block `json:"controlPlane"`
	// Notes are sentences about the plan: why /18 fits or does not, what is left, and what the
	// range is in the way of.
	Notes []string `json:"notes"`
}

// Block is a part of the network for one zone.
type Block struct {
	Zone int          `json:"zone"` // its place among the zones, by id, from 0
	CIDR netip.Prefix `json:"cidr"`
}

// The sizes, as prefix lengths. AWS takes networks from /16 to /28; below /20 a
// private subnet has too few addresses for pods.
const (
	largestNetwork   = 16
	smallestNetwork  = 20
	largestPrivate   = 18 // recommended, and enough: 16,379 pods a zone
	publicBits       = 26 // a load balancer wants /27 or larger, beside the NAT gateway
	controlPlaneBits = 28
	leastZones       = 2 // of EKS
)

// reservedAddresses are those that AWS keeps in every subnet.
const reservedAddresses = 5

// PlanAddresses shares out a range among a number of zones. Its errors are
// *usererr.Error: of kind Invalid for what is no range of a network, Refused for what
// cannot hold a data plane.
func PlanAddresses(cidr string, zones int) (*AddressPlan, error) {
	vpc, err := parseRange("the network's range", cidr)
	if err != nil {
		return nil, err
	}
	refuse := func(hint, format string, args ...any) (*AddressPlan, error) {
		return nil, usererr.New(usererr.Refused, format, args...).WithHint("%s", hint)
	}
	switch {
	case zones < 1:
		return nil, usererr.New(usererr.Invalid, "the number of zones is %d, and EKS wants %d or more", zones, leastZones).WithHint("give 3, which is recommended")
	case zones < leastZones:
		return refuse("give 3, which is recommended", "one zone is too few: EKS wants %d or more", leastZones)
	case vpc.Bits() < largestNetwork:
		return refuse(fmt.Sprintf("give a /%d of it, such as %s", largestNetwork, netip.PrefixFrom(vpc.Addr(), largestNetwork)),
			"%s is larger than a network of AWS can be, which is /%d", vpc, largestNetwork)
	case vpc.Bits() > smallestNetwork:
		return refuse("give a range from /16 to /20; /16 is recommended",
			"%s is too small: it has %s addresses, and each pod takes one", vpc, count(vpc.Bits()))
	}
	for _, unusable := range unusableRanges {
		if vpc.Overlaps(unusable.prefix) {
			return refuse("give a private range, such as 10.0.0.0/16", "%s cannot be a network: %s is %s", vpc, unusable.prefix, unusable.what)
		}
	}

	// One more part than there are zones: the last is for all that is small.
	private := vpc.Bits() + bits.Len(uint(zones))
	private = max(private, largestPrivate)
	const smaller = "give a larger range or fewer zones; no region has more than 6"
	if private > publicBits {
		return refuse(smaller, "%d zones do not fit in %s: private subnets would be smaller than /%d", zones, vpc, publicBits)
	}
	public := addresses(publicBits) * zones
	if small := public + addresses(controlPlaneBits)*zones; small > addresses(private) {
		return refuse(smaller, "%d zones do not fit in %s: private subnets would be /%d, and what is small, a /%d and a /%d each zone, needs %d addresses of the %d that are left",
			zones, vpc, private, publicBits, controlPlaneBits, small, addresses(private))
	}
	last := nth(vpc, private, 1<<(private-vpc.Bits())-1)
	plan := &AddressPlan{VPC: vpc}
	for zone := range zones {
		plan.Private = append(plan.Private, Block{zone, nth(vpc, private, zone)})
		plan.Public = append(plan.Public, Block{zone, nth(last, publicBits, zone)})
		plan.ControlPlane = append(plan.ControlPlane, Block{zone, nth(last, controlPlaneBits, public/addresses(controlPlaneBits)+zone)})
	}
	plan.Notes = notes(vpc, zones, private)
	return plan, nil
}

// notes say what a person should know of the plan.
func notes(vpc netip.Prefix, zones, private int) []string {
	var lines []string
	parts := 1 << max(largestPrivate-vpc.Bits(), 0)
	switch {
	case vpc.Bits() > largestNetwork:
		lines = append(lines, fmt.Sprintf("%d private subnets of /18 do not fit: a /%d has room for %d, and a /18 is what is recommended for each zone", zones, vpc.Bits(), max(parts-1, 0)))
	case zones < parts:
		lines = append(lines, fmt.Sprintf("%d private subnets of /18 fit: a /16 has four /18, and %s left for public subnets and growth", zones, left(parts-zones)))
	case zones == parts:
		lines = append(lines, fmt.Sprintf("%d private subnets of /18 do not fit: %d × 16,384 are all addresses of a /16, and no public subnet would have room", zones, zones))
	default:
		lines = append(lines, fmt.Sprintf("%d private subnets of /18 do not fit: a /16 has only four /18", zones))
	}
	lines = append(lines, fmt.Sprintf("each private subnet is a /%d with room for %s pods, one address each", private, thousands(addresses(private)-reservedAddresses)))
	if spare := 1<<(private-vpc.Bits()) - 1 - zones; spare > 0 {
		lines = append(lines, fmt.Sprintf("%d more /%d %s free for further zones", spare, private, map[bool]string{true: "is", false: "are"}[spare == 1]))
	} else if private > largestPrivate {
		lines = append(lines, "for more pods, add a second range such as 100.64.0.0/16")
	}
	lines = append(lines, "zones are counted in the order of their ids, without those that EKS refuses: "+strings.Join(spec.RefusedZones, ", "))
	if !private4(vpc) {
		lines = append(lines, fmt.Sprintf("%s is no private range: hosts on the internet with these addresses cannot be reached", vpc))
	}
	for _, taken := range takenRanges {
		if vpc.Overlaps(taken.prefix) {
			lines = append(lines, fmt.Sprintf("%s overlaps %s: %s", vpc, taken.prefix, taken.what))
		}
	}
	return lines
}

func left(n int) string {
	if n == 1 {
		return "one is"
	}
	return "two are"
}

// rangeOfUse is a range with what it is for.
type rangeOfUse struct {
	prefix netip.Prefix
	what   string
}

// unusableRanges are those that AWS or the protocol keeps for itself.
var unusableRanges = []rangeOfUse{
	{netip.MustParsePrefix("0.0.0.0/8"), "no address of a host"},
	{netip.MustParsePrefix("127.0.0.0/8"), "every host's own"},
	{netip.MustParsePrefix("169.254.0.0/16"), "AWS's own, for names, time and credentials"},
	{netip.MustParsePrefix("224.0.0.0/3"), "for multicast, or reserved"},
}

// takenRanges are those that something in a cluster uses by default.
var takenRanges = []rangeOfUse{
	{dockerBridge, "Docker's own network on each node, so that its addresses are not reached from there"},
	{serviceRanges[0], "EKS will take 172.20.0.0/16 for services"},
	{serviceRanges[1], "EKS will take 10.100.0.0/16 for services"},
}

var dockerBridge = netip.MustParsePrefix("172.17.0.0/16")

// serviceRanges are the two that EKS chooses from for services.
var serviceRanges = []netip.Prefix{netip.MustParsePrefix("10.100.0.0/16"), netip.MustParsePrefix("172.20.0.0/16")}

// privateRanges are not routed on the internet (RFC 1918, RFC 6598).
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
}

// private4 reports whether all of a range is private.
func private4(p netip.Prefix) bool {
	return slices.ContainsFunc(privateRanges, func(r netip.Prefix) bool { return contains(r, p) })
}

// contains reports whether all of b is in a.
func contains(a, b netip.Prefix) bool { return a.Bits() <= b.Bits() && a.Contains(b.Addr()) }

// parseRange reads an IPv4 range; what names it in a sentence.
func parseRange(what, text string) (netip.Prefix, error) {
	const example = "give an IPv4 range such as 10.0.0.0/16"
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, usererr.New(usererr.Invalid, "%s, %q, is no CIDR", what, text).WithHint(example)
	case !p.Addr().Is4():
		return netip.Prefix{}, usererr.New(usererr.Invalid, "%s, %s, is of IPv6; nodes and pods have IPv4 addresses", what, text).WithHint(example)
	case p != p.Masked():
		return netip.Prefix{}, usererr.New(usererr.Invalid, "%s, %s, is the address of a host in a range", what, text).WithHint("give the range itself: %s", p.Masked())
	}
	return p, nil
}

// halves are the two parts of a range of more than one address.
func halves(p netip.Prefix) (lower, upper netip.Prefix) {
	return nth(p, p.Bits()+1, 0), nth(p, p.Bits()+1, 1)
}

// addresses is how many a range has.
func addresses(bits int) int { return 1 << (32 - bits) }

func count(bits int) string { return thousands(addresses(bits)) }

func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// nth is the nth part of a range when it is cut into parts of a size.
func nth(p netip.Prefix, bits, n int) netip.Prefix {
	four := p.Addr().As4()
	start := uint32(four[0])<<24 | uint32(four[1])<<16 | uint32(four[2])<<8 | uint32(four[3])
	start += uint32(n) * uint32(addresses(bits))
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(start >> 24), byte(start >> 16), byte(start >> 8), byte(start)}), bits)
}
