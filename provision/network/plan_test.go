package network_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/network"
)

func TestPlanAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cidr    string
		zones   int
		private string // the first and the last
		public  string
		says    string
	}{
		{"10.0.0.0/16", 2, "10.0.0.0/18 10.0.64.0/18", "10.0.192.0/26 10.0.192.64/26", "2 private subnets of /18 fit"},
		{"10.0.0.0/16", 3, "10.0.0.0/18 10.0.128.0/18", "10.0.192.0/26 10.0.192.128/26", "3 private subnets of /18 fit"},
		{"10.0.0.0/16", 4, "10.0.0.0/19 10.0.96.0/19", "10.0.224.0/26 10.0.224.192/26", "4 × 16,384 are all addresses of a /16"},
		{"10.0.0.0/16", 6, "10.0.0.0/19 10.0.160.0/19", "10.0.224.0/26 10.0.225.64/26", "6 private subnets of /18 do not fit"},
		{"10.0.0.0/16", 7, "10.0.0.0/19 10.0.192.0/19", "10.0.224.0/26 10.0.225.128/26", "7 private subnets of /18 do not fit"},
		{"172.31.0.0/20", 3, "172.31.0.0/22 172.31.8.0/22", "172.31.12.0/26 172.31.12.128/26", "do not fit"},
		{"172.31.0.0/20", 6, "172.31.0.0/23 172.31.10.0/23", "172.31.14.0/26 172.31.15.64/26", "do not fit"},
		{"100.64.0.0/17", 3, "100.64.0.0/19 100.64.64.0/19", "100.64.96.0/26 100.64.96.128/26", "a /17 has room for 1"},
		{"172.17.0.0/16", 3, "172.17.0.0/18 172.17.128.0/18", "172.17.192.0/26 172.17.192.128/26", "Docker"},
		{"10.100.0.0/16", 3, "10.100.0.0/18 10.100.128.0/18", "10.100.192.0/26 10.100.192.128/26", "EKS will take 172.20.0.0/16"},
		{"9.0.0.0/16", 3, "9.0.0.0/18 9.0.128.0/18", "9.0.192.0/26 9.0.192.128/26", "is no private range"},
	} {
		t.Run(fmt.Sprintf("it shares %s among %d zones", c.cidr, c.zones), func(t *testing.T) {
			t.Parallel()
			plan, err := network.PlanAddresses(c.cidr, c.zones)
			if err != nil {
				t.Fatal(err)
			}
			ends := func(blocks []network.Block) string {
				return blocks[0].CIDR.String() + " " + blocks[len(blocks)-1].CIDR.String()
			}
			if got := ends(plan.Private); got != c.private {
				t.Errorf("got private %s, want %s", got, c.private)
			}
			if got := ends(plan.Public); got != c.public {
				t.Errorf("got public %s, want %s", got, c.public)
			}
			if !strings.Contains(strings.Join(plan.Notes, "\n"), c.says) {
				t.Errorf("got notes %q, want one that says %q", plan.Notes, c.says)
			}
			sound(t, plan, c.zones)
		})
	}
}

// sound checks what must be true of every plan.
func sound(t *testing.T, plan *network.AddressPlan, zones int) {
	t.Helper()
	var all []netip.Prefix
	for _, blocks := range [][]network.Block{plan.Private, plan.Public, plan.ControlPlane} {
		if len(blocks) != zones {
			t.Errorf("got %d blocks, want %d", len(blocks), zones)
		}
		for i, b := range blocks {
			if b.Zone != i || b.CIDR != b.CIDR.Masked() || !plan.VPC.Contains(b.CIDR.Addr()) || b.CIDR.Bits() < plan.VPC.Bits() {
				t.Errorf("got block %d %s of zone %d, want one in %s", i, b.CIDR, b.Zone, plan.VPC)
			}
			for _, other := range all {
				if other.Overlaps(b.CIDR) {
					t.Errorf("got %s and %s, which overlap", other, b.CIDR)
				}
			}
			all = append(all, b.CIDR)
		}
	}
}

func TestPlanAddressesOfEverySize(t *testing.T) {
	t.Parallel()
	fit := 0
	for bits := 16; bits <= 20; bits++ {
		for zones := 2; zones <= 12; zones++ {
			plan, err := network.PlanAddresses(fmt.Sprintf("10.64.0.0/%d", bits), zones)
			if err != nil {
				continue
			}
			fit++
			sound(t, plan, zones)
			again, err := network.PlanAddresses(fmt.Sprintf("10.64.0.0/%d", bits), zones)
			if err != nil || text(again) != text(plan) {
				t.Errorf("got %s the second time, want %s", text(again), text(plan))
			}
		}
	}
	if fit < 40 {
		t.Errorf("got %d plans, want most of 55 to fit", fit)
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestPlanAddressesRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cidr  string
		zones int
		exit  int
		says  string
	}{
		{"ten", 3, 2, "is no CIDR"},
		{"", 3, 2, "is no CIDR"},
		{"10.0.0.0", 3, 2, "is no CIDR"},
		{"10.0.0.0/33", 3, 2, "is no CIDR"},
		{"10.0.0.256/16", 3, 2, "is no CIDR"},
		{"10.0.0.1/16", 3, 2, "is the address of a host"},
		{"fd00::/56", 3, 2, "is of IPv6"},
		{"::ffff:10.0.0.0/112", 3, 2, "is of IPv6"},
		{"10.0.0.0/8", 3, 1, "is larger than a network"},
		{"10.0.0.0/21", 3, 1, "is too small"},
		{"10.0.0.0/28", 3, 1, "is too small"},
		{"10.0.0.0/20", 7, 1, "do not fit"},
		{"10.0.0.0/20", 9, 1, "do not fit"},
		{"10.0.0.0/16", 1000, 1, "do not fit"},
		{"10.0.0.0/16", 1 << 40, 1, "do not fit"},
		{"169.254.0.0/16", 3, 1, "AWS's own"},
		{"240.0.0.0/16", 3, 1, "reserved"},
		{"10.0.0.0/16", 1, 1, "EKS wants 2"},
		{"10.0.0.0/16", 0, 2, "EKS wants 2"},
		{"10.0.0.0/16", -1, 2, "EKS wants 2"},
	} {
		_, err := network.PlanAddresses(c.cidr, c.zones)
		var said *usererr.Error
		if !errors.As(err, &said) || said.Kind.ExitStatus() != c.exit || said.Hint == "" || !strings.Contains(said.Error(), c.says) {
			t.Errorf("%s, %d zones: got %v, want exit status %d, %q and a hint", c.cidr, c.zones, err, c.exit, c.says)
		}
	}
}
