package awsdouble

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsdouble/typical"
)

// zoneChanges are the operations whose answers tell of a change that is under way.
var zoneChanges = []string{"CreateHostedZone", "DeleteHostedZone", "ChangeResourceRecordSets", "AssociateVPCWithHostedZone", "DisassociateVPCFromHostedZone"}

// route53 performs a decided call of Route 53. moto's changes are there at once, and
// have one ID for all.
func (d *Double) route53(ctx context.Context, c *call) (*http.Response, error) {
	n := d.network
	var err error
	switch c.Operation {
	case "GetChange":
		return n.zoneChange(c)
	case "CreateHostedZone":
		err = d.zoneFits(ctx, c)
	case "AssociateVPCWithHostedZone":
		err = d.zoneVPC(ctx, c)
	case "ChangeResourceRecordSets":
		err = d.recordsFit(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	answer, err := d.forward(ctx, c)
	if err != nil || !slices.Contains(zoneChanges, c.Operation) {
		return answer, err
	}
	return edit(c, answer, func(root *node) error {
		id := "C" + strings.ToUpper(randomHex(20))
		info := root.child("ChangeInfo")
		info.set("Id", "/change/"+id)
		info.set("Status", "PENDING")
		n.lock.Lock()
		defer n.lock.Unlock()
		n.changes[id] = n.clock.Now()
		return nil
	})
}

// zoneChange answers GetChange by the clock.
func (n *network) zoneChange(c *call) (*http.Response, error) {
	id := base(c.params.one("Id"))
	n.lock.Lock()
	at, ok := n.changes[id]
	n.lock.Unlock()
	if !ok {
		return nil, &refusal{"NoSuchChange", "A change with the specified change ID " + id + " does not exist.", http.StatusNotFound}
	}
	status := "PENDING"
	if !n.clock.Now().Before(at.Add(typical.ChangeZone)) {
		status = "INSYNC"
	}
	return inXML(c, branch("", branch("ChangeInfo", leaf("Id", "/change/"+id), leaf("Status", status), leaf("SubmittedAt", at.UTC().Format(time.RFC3339))))), nil
}

// zones asks moto's Route 53 in the account of a call.
func (d *Double) zones(ctx context.Context, c *call, path string) (*node, error) {
	text, err := d.world.raw(ctx, c.Account, c.Region, want{service: "route53", operation: "Get", path: "/2013-04-01/" + path})
	if err != nil || text == nil {
		return &node{}, err
	}
	return fromMoto(text)
}

// zoneFits refuses a caller reference that was used, and a private zone that cannot be
// (CreateHostedZone).
func (d *Double) zoneFits(ctx context.Context, c *call) error {
	zones, err := d.zones(ctx, c, "hostedzone")
	if err != nil {
		return err
	}
	for _, zone := range zones.at("HostedZones.HostedZone") {
		if zone.one("CallerReference") == c.params.one("CallerReference") {
			return &refusal{"HostedZoneAlreadyExists", "A hosted zone has already been created with the specified caller reference.", http.StatusConflict}
		}
	}
	return d.zoneVPC(ctx, c)
}

// zoneVPC refuses a VPC that is not there, or that has a zone of the name already.
func (d *Double) zoneVPC(ctx context.Context, c *call) error {
	id, region := c.params.one("VPC.VPCId"), c.params.one("VPC.VPCRegion")
	if id == "" {
		return nil
	}
	vpc, err := d.world.VPC(ctx, eks.Where{Partition: c.Partition, Account: c.Account, Region: region}, id)
	if err != nil {
		return err
	}
	if vpc == nil {
		return &refusal{"InvalidVPCId", "The VPC ID that you specified, " + id + " in " + region + ", either isn't a valid ID or the current account is not authorized to access this VPC.", http.StatusBadRequest}
	}
	name := c.params.one("Name")
	if name == "" { // of the zone that is associated
		zone, err := d.zones(ctx, c, "hostedzone/"+url.PathEscape(base(c.params.one("Id"))))
		if err != nil {
			return err
		}
		name = zone.one("HostedZone.Name")
	}
	there, err := d.zones(ctx, c, "hostedzonesbyvpc?vpcid="+url.QueryEscape(id)+"&vpcregion="+url.QueryEscape(region))
	if err != nil {
		return err
	}
	for _, zone := range there.at("HostedZoneSummaries.HostedZoneSummary") {
		if dotted(zone.one("Name")) == dotted(name) {
			return &refusal{"ConflictingDomainExists", "The VPC " + id + " in region " + region + " has already been associated with the hosted zone " + zone.one("HostedZoneId") + " with the same domain name.", http.StatusBadRequest}
		}
	}
	return nil
}

func dotted(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

// recordsFit refuses to delete what is not there as it is given, and texts without
// quotation marks (ChangeResourceRecordSets).
func (d *Double) recordsFit(ctx context.Context, c *call) error {
	invalid := func(text string) error {
		return &refusal{"InvalidChangeBatch", "[" + text + "]", http.StatusBadRequest}
	}
	var there *node
	for _, change := range c.params.at("ChangeBatch.Changes.Change") {
		set := change.get("ResourceRecordSet")
		name, kind, values := dotted(set.one("Name")), set.one("Type"), set.all("ResourceRecords.ResourceRecord.Value")
		about := "name='" + name + "', type='" + kind + "'"
		for _, value := range values {
			if kind == "TXT" && !(len(value) > 1 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`)) {
				return invalid("Invalid Resource Record: 'FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks) encountered with '" + value + "''")
			}
		}
		if change.one("Action") != "DELETE" {
			continue
		}
		if there == nil {
			var err error
			if there, err = d.zones(ctx, c, "hostedzone/"+url.PathEscape(base(c.params.one("Id")))+"/rrset"); err != nil {
				return err
			}
		}
		found, same := false, false
		for _, record := range there.at("ResourceRecordSets.ResourceRecordSet") {
			if dotted(record.one("Name")) != name || record.one("Type") != kind || record.one("SetIdentifier") != set.one("SetIdentifier") {
				continue
			}
			found = true
			have := record.all("ResourceRecords.ResourceRecord.Value")
			slices.Sort(have)
			slices.Sort(values)
			same = record.one("TTL") == set.one("TTL") && slices.Equal(have, values) && record.one("AliasTarget.DNSName") == set.one("AliasTarget.DNSName")
		}
		switch {
		case !found:
			return invalid("Tried to delete resource record set [" + about + "] but it was not found")
		case !same:
			return invalid("Tried to delete resource record set [" + about + "] but the values provided do not match the current values")
		}
	}
	return nil
}
