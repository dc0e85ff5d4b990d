package access

import (
	"slices"
	"strings"
)

// Region is an AWS region with what its partition decides.
type Region struct {
	Name      string `json:"name"`
	Partition string `json:"partition"`
	// DNSSuffix ends the names of the partition's services.
	DNSSuffix string `json:"dnsSuffix"`
}

// regionTable lists the regions of the three partitions in which there can be
// a vendor account. Source: partitions.json of the AWS SDK for Go 1.48 (2026-11).
// The sovereign and isolated partitions are left out: an account there cannot be
// reached from outside, and the vendor profile has no account in them.
var regionTable = []struct {
	partition, dnsSuffix string
	names                []string
}{
	{"aws", "amazonaws.com", []string{
		"af-south-1",
		"ap-east-1", "ap-east-2",
		"ap-northeast-1", "ap-northeast-2", "ap-northeast-3",
		"ap-south-1", "ap-south-2",
		"ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7",
		"ca-central-1", "ca-west-1",
		"eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
		"il-central-1", "me-central-1", "me-south-1", "me-west-1", "mx-central-1",
		"sa-east-1", "sa-west-1",
		"us-east-1", "us-east-2", "us-west-1", "us-west-2",
	}},
	{"aws-us-gov", "amazonaws.com", []string{"us-gov-east-1", "us-gov-west-1"}},
	{"aws-cn", "amazonaws.com.cn", []string{"cn-north-1", "cn-northwest-1"}},
}

// Regions returns every region that documents can be made for.
func Regions() []Region {
	var all []Region
	for _, p := range regionTable {
		for _, name := range p.names {
			all = append(all, Region{Name: name, Partition: p.partition, DNSSuffix: p.dnsSuffix})
		}
	}
	return all
}

// LookUpRegion finds a region by its name.
func LookUpRegion(name string) (Region, bool) {
	all := Regions()
	i := slices.IndexFunc(all, func(r Region) bool { return r.Name == name })
	if i < 0 {
		return Region{}, false
	}
	return all[i], true
}

// nearestRegion is the region that shares the longest start and end with name,
// whatever its case and the space around it.
func nearestRegion(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	best, most := "us-east-1", -1
	for _, r := range Regions() {
		shared := 0
		for shared < min(len(name), len(r.Name)) && name[shared] == r.Name[shared] {
			shared++
		}
		for i := 1; i <= min(len(name), len(r.Name))-shared && name[len(name)-i] == r.Name[len(r.Name)-i]; i++ {
			shared++
		}
		if shared > most {
			best, most = r.Name, shared
		}
	}
	return best
}
