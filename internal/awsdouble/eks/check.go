package eks

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// This file has what requests may say wherever they say it. The bounds are those of
// the Amazon EKS API Reference, at the type that each function names.

// oneOf refuses a value that is not among those of its type.
func oneOf(field, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return invalidParameter("%s %s is none of %s", field, value, strings.Join(allowed, ", "))
}

// mostTags is how many tags a resource can have (TagResource).
const mostTags = 50

// tagProblem says what is wrong with tags (Tag), or nothing.
func tagProblem(tags map[string]string) string {
	if len(tags) > mostTags {
		return fmt.Sprintf("%d tags are too many: a resource has %d at most", len(tags), mostTags)
	}
	for key, value := range tags {
		switch {
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return fmt.Sprintf("the tag key %s starts with aws:, which is reserved", key)
		case key == "" || len([]rune(key)) > 128:
			return fmt.Sprintf("the tag key %q needs to have 1 to 128 characters", key)
		case len([]rune(value)) > 256:
			return fmt.Sprintf("the value of tag %s has more than 256 characters", key)
		}
	}
	return ""
}

// checkTags refuses tags that a create cannot give.
func checkTags(tags map[string]string) error {
	if problem := tagProblem(tags); problem != "" {
		return invalidParameter("Tags are not valid: %s", problem)
	}
	return nil
}

// notPublic are ranges that no caller of a public endpoint comes from.
var notPublic = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4")

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// checkPublicCIDRs refuses what cannot be in publicAccessCidrs (VpcConfigRequest;
// Amazon EKS User Guide, Cluster API server endpoint).
func checkPublicCIDRs(cidrs []string) error {
	var invalid, reserved []string
	for _, text := range cidrs {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil || !p.Addr().Is4():
			invalid = append(invalid, text)
		case slices.ContainsFunc(notPublic, func(r netip.Prefix) bool { return r.Bits() <= p.Bits() && r.Overlaps(p) }):
			reserved = append(reserved, text)
		}
	}
	if invalid != nil {
		return invalidParameter("The following CIDRs are invalid in publicAccessCidrs: [%s]", strings.Join(invalid, ", "))
	}
	if reserved != nil {
		return invalidParameter("The following CIDRs are not allowed in publicAccessCidrs: [%s]", strings.Join(reserved, ", "))
	}
	return nil
}

// checkLogging refuses kinds of logs that there are not (LogSetup).
func checkLogging(l *logging) error {
	if l == nil {
		return nil
	}
	for _, setup := range l.ClusterLogging {
		for _, kind := range setup.Types {
			if err := oneOf("log type", kind, logTypes...); err != nil {
				return err
			}
		}
	}
	return nil
}

// reservedLabels cannot begin a label's key: they are Kubernetes' and EKS's own.
var reservedLabels = []string{"kubernetes.io/", "k8s.io/", "eks.amazonaws.com/"}

var labelName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

// checkLabels refuses labels that nodes cannot have (labelKey, labelValue).
func checkLabels(labels map[string]string) error {
	for key, value := range labels {
		if slices.ContainsFunc(reservedLabels, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
			return invalidParameter("Label cannot contain reserved prefixes [%s]: %s", strings.Join(reservedLabels, ", "), key)
		}
		_, name, prefixed := strings.Cut(key, "/")
		if !prefixed {
			name = key
		}
		if !labelName.MatchString(name) || len(key) > 63 || value != "" && !labelName.MatchString(value) || len(value) > 63 {
			return invalidParameter("The label %s=%s is not valid: key and value have 63 letters, digits, hyphens, underscores and dots at most, and start and end with a letter or digit", key, value)
		}
	}
	return nil
}

// mostTaints is how many a node group can have (CreateNodegroup).
const mostTaints = 50

func checkTaints(taints []taint) error {
	if len(taints) > mostTaints {
		return invalidParameter("%d taints are too many: a node group has %d at most", len(taints), mostTaints)
	}
	seen := map[[2]string]bool{}
	for _, t := range taints {
		if t.Key == "" || len(t.Key) > 63 || len(t.Value) > 63 {
			return invalidParameter("The taint %q needs a key of 1 to 63 characters, and a value of 63 at most", t.Key)
		}
		if err := oneOf("The effect of taint "+t.Key, t.Effect, "NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"); err != nil {
			return err
		}
		if seen[[2]string{t.Key, t.Effect}] {
			return invalidParameter("The taint %s is given twice with the effect %s", t.Key, t.Effect)
		}
		seen[[2]string{t.Key, t.Effect}] = true
	}
	return nil
}

// disruption is how many nodes may be away during an update (NodegroupUpdateConfig).
type disruption struct {
	MaxUnavailable           *int   `json:"maxUnavailable,omitempty"`
	MaxUnavailablePercentage *int   `json:"maxUnavailablePercentage,omitempty"`
	Strategy                 string `json:"updateStrategy,omitempty"`
}

func (d *disruption) check() error {
	switch {
	case d.MaxUnavailable != nil && d.MaxUnavailablePercentage != nil:
		return invalidParameter("updateConfig has both maxUnavailable and maxUnavailablePercentage, of which it can have one")
	case d.MaxUnavailable == nil && d.MaxUnavailablePercentage == nil && d.Strategy == "":
		return invalidParameter("updateConfig needs maxUnavailable or maxUnavailablePercentage")
	}
	for field, value := range map[string]*int{"maxUnavailable": d.MaxUnavailable, "maxUnavailablePercentage": d.MaxUnavailablePercentage} {
		if value != nil && (*value < 1 || *value > 100) {
			return invalidParameter("%s %d is not between 1 and 100", field, *value)
		}
	}
	if d.Strategy != "" {
		return oneOf("updateStrategy", d.Strategy, "DEFAULT", "MINIMAL")
	}
	return nil
}

// params are what an update says of it.
func (d *disruption) params() []updateParam {
	var params []updateParam
	if d.MaxUnavailable != nil {
		params = append(params, updateParam{"MaxUnavailable", strconv.Itoa(*d.MaxUnavailable)})
	}
	if d.MaxUnavailablePercentage != nil {
		params = append(params, updateParam{"MaxUnavailablePercentage", strconv.Itoa(*d.MaxUnavailablePercentage)})
	}
	if d.Strategy != "" {
		params = append(params, updateParam{"UpdateStrategy", d.Strategy})
	}
	return params
}

// amiTypes are the images of node groups, and the architecture of each (AMITypes).
var amiTypes = map[string]string{
	"AL2_x86_64": "x86_64", "AL2_x86_64_GPU": "x86_64", "AL2_ARM_64": "arm64", "CUSTOM": "",
	"AL2023_x86_64_STANDARD": "x86_64", "AL2023_ARM_64_STANDARD": "arm64", "AL2023_x86_64_NEURON": "x86_64", "AL2023_x86_64_NVIDIA": "x86_64", "AL2023_ARM_64_NVIDIA": "arm64",
	"BOTTLEROCKET_x86_64": "x86_64", "BOTTLEROCKET_ARM_64": "arm64", "BOTTLEROCKET_x86_64_FIPS": "x86_64", "BOTTLEROCKET_ARM_64_FIPS": "arm64",
	"BOTTLEROCKET_x86_64_NVIDIA": "x86_64", "BOTTLEROCKET_ARM_64_NVIDIA": "arm64", "BOTTLEROCKET_x86_64_NVIDIA_FIPS": "x86_64", "BOTTLEROCKET_ARM_64_NVIDIA_FIPS": "arm64",
	"WINDOWS_CORE_2019_x86_64": "x86_64", "WINDOWS_FULL_2019_x86_64": "x86_64", "WINDOWS_CORE_2022_x86_64": "x86_64", "WINDOWS_FULL_2022_x86_64": "x86_64",
	"WINDOWS_CORE_2025_x86_64": "x86_64", "WINDOWS_FULL_2025_x86_64": "x86_64",
}

const (
	mostTypes    = 20 // instance types of a node group (CreateNodegroup)
	lastOfLinux2 = 32 // the last minor with images of Amazon Linux 2 (Amazon EKS User Guide, AL2 AMI deprecation)
)

// checkImage refuses an image that instances of a group cannot start.
func (s *Service) checkImage(r *request, amiType, version string, types []string) error {
	architecture, known := amiTypes[amiType]
	switch {
	case !known:
		return oneOf("amiType", amiType, slices.Sorted(maps.Keys(amiTypes))...)
	case strings.HasPrefix(amiType, "AL2_") && minor(version) > lastOfLinux2:
		return invalidParameter("AMI Type %s is only supported for kubernetes versions 1.%d or earlier", amiType, lastOfLinux2)
	case len(types) > mostTypes:
		return invalidParameter("%d instance types are too many: a node group has %d at most", len(types), mostTypes)
	case len(types) == 0:
		return nil
	}
	found, err := s.cloud.InstanceTypes(r.ctx, r.Where, types)
	if err != nil {
		return fmt.Errorf("looking at instance types: %w", err)
	}
	var absent, other []string
	for _, one := range types {
		switch architectures := found[one]; {
		case architectures == nil:
			absent = append(absent, one)
		case architecture != "" && !slices.Contains(architectures, architecture):
			other = append(other, one)
		}
	}
	if absent != nil {
		return invalidParameter("The following supplied instance types do not exist: [%s]", strings.Join(absent, ", "))
	}
	if other != nil {
		return invalidParameter("[%s] is not a valid instance type for requested amiType %s", strings.Join(other, ", "), amiType)
	}
	return nil
}

// checkRelease refuses a release of Amazon Linux's image that is not of a version
// (Amazon EKS User Guide, Amazon EKS optimized Amazon Linux AMI versions).
func checkRelease(release, version, amiType string) error {
	if release == "" || !strings.HasPrefix(amiType, "AL") {
		return nil
	}
	patch, date, ok := strings.Cut(strings.TrimPrefix(release, version+"."), "-")
	if _, err := strconv.Atoi(patch); !ok || err != nil || len(date) != len("20260318") || strings.Trim(date, "0123456789") != "" {
		return invalidParameter("Requested release version %s is not valid for kubernetes version %s", release, version)
	}
	return nil
}
