package kubernetes

import "net/netip"

// firstAddress is the address of the Service "kubernetes": the API server gives
// it the first of the range.
func firstAddress(services string) string {
	return netip.MustParsePrefix(services).Addr().Next().String()
}
