package operations

import (
	"strings"

	"biplane.dev/biplane/provision/vendor"
)

// Place is where a data plane is.
type Place struct {
	Partition string // aws, aws-us-gov, aws-cn
	DNSSuffix string // amazonaws.com, amazonaws.com.cn
	Region    string
	Account   string
}

// Names fills templates in: for one place, one vendor and one of two ways to name
// things.
type Names struct {
	suffixes []string // of service principals
	replace  *strings.Replacer
}

// StrictNames names things as the strict profile has them: one prefix, one path.
func StrictNames(p Place, v *vendor.Profile) Names {
	return newNames(p, v,
		"${Cluster}", v.Prefix,
		"${AccessPath}", v.Path,
		"${Made}", v.Path,
		"${AnyPolicy}", v.Path,
		"${Policy}", v.Path+v.Prefix,
	)
}

// CompatNames names things as the published grants have them: another prefix, and
// no path.
func CompatNames(p Place, v *vendor.Profile) Names {
	return newNames(p, v,
		"${Cluster}", v.CompatPrefix,
		"${AccessPath}", "/",
		"${Made}", "/"+v.CompatPrefix,
		"${AnyPolicy}", "/"+v.CompatPrefix,
		"${Policy}", "/"+v.CompatPrefix,
	)
}

func newNames(p Place, v *vendor.Profile, more ...string) Names {
	n := Names{suffixes: []string{"amazonaws.com"}}
	if p.DNSSuffix != "amazonaws.com" {
		n.suffixes = append(n.suffixes, p.DNSSuffix)
	}
	n.replace = strings.NewReplacer(append([]string{
		"${Partition}", p.Partition,
		"${DNSSuffix}", p.DNSSuffix,
		"${Region}", p.Region,
		"${Account}", p.Account,
		"${Path}", v.Path,
		"${Prefix}", v.Prefix,
		"${Owner}", v.ManagedByKey(),
		"${OwnerValue}", vendor.ManagedByValue,
		"${Boundary}", BoundaryARN(p, v),
		"${RoleName}", v.RoleName,
		"${AdminRole}", v.AdminRole,
		"${Namespace}", v.Namespace,
		"${Endpoint}", v.EndpointPrefix,
		"${ProxyLogs}", v.ProxyLogGroup,
		"${Repository}", v.Repository,
		"${Queue}", v.QueuePrefix,
		"${Stack}", v.StackName,
	}, more...)...)
	return n
}

// BoundaryName is the name of the managed policy that every role made by the
// vendor carries as its boundary.
func BoundaryName(v *vendor.Profile) string { return v.PolicyName + "-boundary" }

// BoundaryARN is its ARN.
func BoundaryARN(p Place, v *vendor.Profile) string {
	return "arn:" + p.Partition + ":iam::" + p.Account + ":policy" + v.Path + BoundaryName(v)
}

// Pattern is the ARN as a policy names it, with * for what is free.
func (n Names) Pattern(t Template) string {
	var b strings.Builder
	for text := n.replace.Replace(string(t)); ; {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, text, _ = strings.Cut(rest, "}")
		b.WriteByte('*')
	}
}

// Example is an ARN that the pattern matches.
func (n Names) Example(t Template) string {
	return strings.NewReplacer("{", "", "}", "").Replace(n.replace.Replace(string(t)))
}

// Condition fills a condition in.
func (n Names) Condition(c Condition) Condition {
	filled := Condition{Operator: c.Operator, Key: n.replace.Replace(c.Key)}
	for _, value := range c.Values {
		service, isService := strings.CutSuffix(value, "${ServiceSuffix}")
		if !isService {
			filled.Values = append(filled.Values, n.replace.Replace(value))
			continue
		}
		for _, suffix := range n.suffixes {
			filled.Values = append(filled.Values, service+suffix)
		}
	}
	return filled
}
