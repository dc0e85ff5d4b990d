package iampolicy

import (
	"encoding/base64"
	"strings"
)

// The words of the policy grammar, spelt as IAM's reference spells them.
var (
	documentElements  = []string{"Version", "Id", "Statement"}
	statementElements = []string{
		"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
	}
	principalKeys = []string{"AWS", "Service", "Federated", "CanonicalUser"}

	// operators without prefix and suffix, each with what its values must be.
	operators = map[string]func(string) string{
		"StringEquals": nil, "StringNotEquals": nil,
		"StringEqualsIgnoreCase": nil, "StringNotEqualsIgnoreCase": nil,
		"StringLike": nil, "StringNotLike": nil,
		"NumericEquals": notNumber, "NumericNotEquals": notNumber,
		"NumericLessThan": notNumber, "NumericLessThanEquals": notNumber,
		"NumericGreaterThan": notNumber, "NumericGreaterThanEquals": notNumber,
		"DateEquals": notDate, "DateNotEquals": notDate,
		"DateLessThan": notDate, "DateLessThanEquals": notDate,
		"DateGreaterThan": notDate, "DateGreaterThanEquals": notDate,
		"Bool": notBool, "Null": notBool,
		"BinaryEquals": notBinary,
		"IpAddress":    notAddress, "NotIpAddress": notAddress,
		"ArnEquals": notARN, "ArnNotEquals": notARN, "ArnLike": notARN, "ArnNotLike": notARN,
	}
)

const (
	allValuesPrefix = "ForAllValues:"
	anyValuePrefix  = "ForAnyValue:"
	ifExistsSuffix  = "IfExists"
)

// spelling finds the word that given is, whatever its case; false if none.
func spelling(given string, words []string) (string, bool) {
	for _, w := range words {
		if strings.EqualFold(w, given) {
			return w, true
		}
	}
	return "", false
}

// operatorSpelling returns a condition operator as IAM's reference spells it,
// with prefix and suffix, and its bare form; false if IAM knows no such operator.
func operatorSpelling(given string) (full, bare string, ok bool) {
	rest := given
	var prefix, suffix string
	for _, p := range []string{allValuesPrefix, anyValuePrefix} {
		if len(rest) >= len(p) && strings.EqualFold(rest[:len(p)], p) {
			prefix, rest = p, rest[len(p):]
		}
	}
	if i := len(rest) - len(ifExistsSuffix); i > 0 && strings.EqualFold(rest[i:], ifExistsSuffix) {
		suffix, rest = ifExistsSuffix, rest[:i]
	}
	for name := range operators {
		if strings.EqualFold(name, rest) {
			if name == "Null" && prefix+suffix != "" { // Null asks whether the key exists; there is nothing to add
				return "", "", false
			}
			return prefix + name + suffix, name, true
		}
	}
	return "", "", false
}

// conditionValueFault says why value does not fit a bare operator, or "". A
// value with a policy variable is known only when a request comes.
func conditionValueFault(bare, value string) string {
	judge := operators[bare]
	if judge == nil || strings.Contains(value, "${") {
		return ""
	}
	return judge(value)
}

// Numbers, dates and addresses are judged by what the evaluator reads.

func notNumber(v string) string {
	if _, ok := parseNumber(v); !ok {
		return "is not a number, such as 3 or 0.5"
	}
	return ""
}

func notDate(v string) string {
	if _, ok := parseDate(v); !ok {
		return "is not a date, such as 2026-01-31T00:00:00Z"
	}
	return ""
}

func notBool(v string) string {
	if !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
		return "is neither true nor false"
	}
	return ""
}

func notBinary(v string) string {
	if _, err := base64.StdEncoding.DecodeString(v); err != nil {
		return "is not base64"
	}
	return ""
}

func notAddress(v string) string {
	if _, ok := parsePrefix(v); !ok {
		return "is neither an IP address nor a range such as 203.0.113.0/24"
	}
	return ""
}

func notARN(v string) string {
	if v == "*" {
		return ""
	}
	if !strings.HasPrefix(v, "arn:") {
		return `does not begin with "arn:"`
	}
	if _, ok := ParseARN(v); !ok {
		return "has fewer than the six fields of arn:partition:service:region:account:resource"
	}
	return ""
}

// actionFault says why s is no action or pattern of actions, or "".
func actionFault(s string) string {
	if s == "*" {
		return ""
	}
	service, name, found := strings.Cut(s, ":")
	switch {
	case !found:
		return "has no service prefix"
	case service == "" || !onlyWord(service, "-*?"):
		return "has a service prefix that no service can have"
	case name == "" || !onlyWord(name, "-*?_"):
		return "has an action name that no action can have"
	}
	return ""
}

// onlyWord reports whether s holds only ASCII letters, digits and others.
func onlyWord(s, others string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// principalFault says why value cannot stand under a principal key, or "".
func principalFault(key, value string) string {
	switch key {
	case "AWS":
		return awsPrincipalFault(value)
	case "Service":
		if value == "*" || (strings.Contains(value, ".") && onlyWord(value, ".-")) {
			return ""
		}
		return "is no service name such as ec2.amazonaws.com"
	case "Federated":
		if arn, ok := ParseARN(value); ok && arn.Account != "" && arn.Resource != "" {
			return ""
		}
		if value == "*" || (strings.Contains(value, ".") && onlyWord(value, ".-")) {
			return ""
		}
		return "is neither a provider's ARN nor its domain name"
	}
	if value == "*" || (len(value) == 64 && onlyWord(value, "")) {
		return ""
	}
	return "is no canonical user ID, which has 64 hexadecimal digits"
}

func awsPrincipalFault(value string) string {
	switch {
	case value == "*", isAccount(value), isUniqueID(value):
		return ""
	case strings.HasPrefix(value, "arn:"):
		arn, ok := ParseARN(value)
		if !ok || !knownPartition(arn.Partition) || arn.Account == "" || arn.Resource == "" {
			return "is an incomplete ARN"
		}
		if arn.Service != "iam" && arn.Service != "sts" {
			return "is an ARN of " + quote(arn.Service) + ", and only iam and sts have principals"
		}
		if strings.ContainsAny(value, "*?") {
			return "has a wildcard, which IAM allows in a principal only as a whole"
		}
		return ""
	}
	return "is neither an ARN nor an account of 12 digits nor *"
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// isUniqueID reports whether s is what IAM shows in place of a principal that
// was deleted: AROA…, AIDA…
func isUniqueID(s string) bool {
	return len(s) >= 16 && s[0] == 'A' && onlyWord(s, "") && strings.ToUpper(s) == s
}
