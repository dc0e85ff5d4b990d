package network

import (
	"slices"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/spec"
)

// refusedByEKS reports whether EKS refuses a zone.
func refusedByEKS(id string) bool { return slices.Contains(spec.RefusedZones, id) }

// chooseZones picks n of the zones that there are, by id and without those that EKS
// refuses. Those that are taken come first and stay where they are; "" in taken is a place to
// fill. wanted, when it is not empty, is what the file names.
func chooseZones(there, wanted, taken []string, n int) ([]string, error) {
	zones := make([]string, n)
	copy(zones, taken)
	from := wanted
	if len(wanted) == 0 {
		from = slices.Sorted(slices.Values(there))
		from = slices.DeleteFunc(from, refusedByEKS)
	}
	for _, id := range wanted {
		switch {
		case refusedByEKS(id):
			return nil, usererr.New(usererr.Refused, "spec.network.create.zoneIds: EKS refuses the zone %s", id).WithHint("choose among the others")
		case !slices.Contains(there, id) && !slices.Contains(taken, id):
			return nil, usererr.New(usererr.Refused, "spec.network.create.zoneIds: the account has no zone %s", id).
				WithHint("run 'aws ec2 describe-availability-zones' for those it has")
		}
	}
	for i := range zones {
		if zones[i] != "" {
			continue
		}
		// The wanted zone of this place, or else the first that nobody has.
		next := ""
		if len(wanted) > i && !slices.Contains(zones, wanted[i]) {
			next = wanted[i]
		} else if j := slices.IndexFunc(from, func(id string) bool { return !slices.Contains(zones, id) }); j >= 0 {
			next = from[j]
		}
		if next == "" {
			return nil, usererr.New(usererr.Refused, "spec.network.create.zones: %d zones are wanted, and the region has %d that EKS takes", n, len(from)).
				WithHint("write zones: %d", len(from))
		}
		zones[i] = next
	}
	return zones, nil
}
