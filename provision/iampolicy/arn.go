package iampolicy

import "strings"

// ARN is an Amazon Resource Name in its six fields, or a pattern of one. The
// resource may hold colons; the five fields before it may not, except inside a
// policy variable.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// ParseARN splits s. It reports false when s has not six fields with "arn" as
// the first; the fields themselves are not judged.
func ParseARN(s string) (ARN, bool) {
	var fields [5]string
	rest := s
	for i := range fields {
		end := colon(rest)
		if end < 0 {
			return ARN{}, false
		}
		fields[i], rest = rest[:end], rest[end+1:]
	}
	if fields[0] != "arn" {
		return ARN{}, false
	}
	return ARN{fields[1], fields[2], fields[3], fields[4], rest}, true
}

func (a ARN) String() string {
	return strings.Join([]string{"arn", a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}

// colon finds the first colon of s that is not inside ${…}; -1 if none.
func colon(s string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == ':':
			return i
		case strings.HasPrefix(s[i:], "${"):
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				continue
			}
			i += end
		}
	}
	return -1
}

// arnFault says what is wrong with a pattern that should name resources, or
// "" if nothing is.
func arnFault(s string) string {
	if !strings.HasPrefix(s, "arn:") {
		return `does not begin with "arn:"`
	}
	arn, ok := ParseARN(s)
	switch {
	case !ok:
		return "has fewer than the six fields of arn:partition:service:region:account:resource"
	case !knownPartition(arn.Partition):
		return "names the partition " + quote(arn.Partition) + ", which does not exist"
	case arn.Service == "":
		return "names no service"
	case arn.Resource == "" && !strings.HasSuffix(arn.Account, "*"): // a * at a field's end may reach further; IAM takes it
		return "names no resource after the account"
	}
	return ""
}

// knownPartition accepts the partitions of today and tomorrow: all begin with
// "aws". A wildcard or a variable may stand for one.
func knownPartition(p string) bool {
	return strings.ContainsAny(p, "*?$<") || p == "aws" || strings.HasPrefix(p, "aws-")
}
