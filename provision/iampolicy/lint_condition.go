package iampolicy

import (
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// lintConditions looks at each condition: whether its key exists and the
// actions know it, whether its operator fits the key, and whether it holds
// where the key is absent although its author will not expect that.
func (l *linter) lintConditions() {
	for i := range l.doc.Statements {
		s := &l.doc.Statements[i]
		var actions []*sar.Action
		exact := true // no wildcard hides which actions are meant
		for _, pattern := range s.Action {
			actions = append(actions, l.expand(pattern)...)
			exact = exact && !strings.ContainsAny(pattern, "*?")
		}
		for n := range s.Condition {
			c := &s.Condition[n]
			if !strings.Contains(c.Key, ":") {
				continue // a Problem already
			}
			path := l.condition(i, c)
			key, known := l.lintKey(i, path, c, s, actions, exact)
			if known {
				l.lintOperator(i, path, c, key)
			}
			if s.Effect == Allow {
				l.lintSetOperator(i, path, c, s, key)
			}
		}
	}
}

// lintKey looks the key up. It is false where nothing is known of it.
func (l *linter) lintKey(i int, path string, c *Condition, s *Statement, actions []*sar.Action, exact bool) (sar.ConditionKey, bool) {
	global, isGlobal := l.reference.GlobalKey(c.Key)
	tagInRequest := isGlobal && (strings.HasPrefix(strings.ToLower(c.Key), "aws:requesttag/") || strings.EqualFold(c.Key, "aws:TagKeys"))
	if isGlobal && !tagInRequest {
		return global, true
	}
	if !l.knownKey(c.Key) {
		if len(placeholders(c.Key)) == 0 {
			l.report("unknown-condition-key", i, path, "there is no condition key "+quote(c.Key)+" in the reference of "+sar.Date+", so it is never in a request",
				l.nearestKey(c.Key))
		}
		return sar.ConditionKey{}, false
	}
	var key sar.ConditionKey
	var without []string
	for _, action := range actions {
		if k, ok := l.reference.ActionKey(action, c.Key); ok {
			key = k
		} else if !slices.Contains(without, action.String()) {
			without = append(without, action.String())
		}
	}
	if isGlobal {
		key = global
	}
	// In a trust policy the keys of one call are there for all the actions of
	// that call; and a condition that holds where the key is absent loses nothing.
	if l.kind == trustKind || len(actions) == 0 || !needsKey(c) {
		return key, key.Key != ""
	}
	// Of a few keys the reference does not say which actions have them, such as
	// aws-marketplace:ProductId: they prove nothing.
	if !isGlobal && !l.reference.KeyHasAction(c.Key) {
		return key, key.Key != ""
	}
	switch {
	case len(without) == len(actions):
		effect := "so the statement allows nothing"
		if s.Effect == Deny {
			effect = "so the statement denies nothing"
		}
		l.report("condition-key-never-there", i, path, "no action of the statement has the condition key "+c.Key+", "+effect,
			"remove the condition, or use a key that the actions have")
	case len(without) > 0 && exact && s.Effect == Allow:
		l.report("condition-key-not-for-action", i, path, some(without)+" never carries the condition key "+c.Key+", so the statement does not allow it",
			"move it to a statement without this condition")
	}
	return key, key.Key != ""
}

// needsKey is whether the condition fails where the key is absent.
func needsKey(c *Condition) bool {
	set, bare, ifExists := cutOperator(c.Operator)
	if bare == "Null" {
		return slices.ContainsFunc(c.Values, func(v string) bool { return strings.EqualFold(v, "false") })
	}
	_, negated, _ := baseOperator(bare)
	return !negated && !ifExists && set != allValuesPrefix
}

// cutOperator splits an operator as Scan spells it.
func cutOperator(operator string) (set, bare string, ifExists bool) {
	bare = operator
	for _, prefix := range []string{allValuesPrefix, anyValuePrefix} {
		if rest, ok := strings.CutPrefix(bare, prefix); ok {
			set, bare = prefix, rest
		}
	}
	bare, ifExists = strings.CutSuffix(bare, ifExistsSuffix)
	return set, bare, ifExists
}

// knownKey is whether there is such a key: a global one, one of the service
// that its prefix names, one of STS's federation keys, or the key of an OIDC
// provider, whose prefix is the provider's domain.
func (l *linter) knownKey(key string) bool {
	if _, ok := l.reference.GlobalKey(key); ok {
		return true
	}
	prefix, _, _ := strings.Cut(key, ":")
	if _, ok := l.reference.ServiceKey(prefix, key); ok {
		return true
	}
	if _, ok := l.reference.ServiceKey("sts", key); ok {
		return true
	}
	if strings.Contains(prefix, ".") {
		return true
	}
	// Keys that go by another name than their service's prefix.
	return slices.Contains([]string{"identitycenter", "identitystore", "catalog", "saml", "cognito-identity-auth", "cognito-identity-unauth"}, strings.ToLower(prefix)) ||
		l.keyOfAnotherService(key)
}

// keyOfAnotherService finds keys that some service borrows from another, as
// ec2-instance-connect does from ec2.
func (l *linter) keyOfAnotherService(key string) bool {
	for i := range l.doc.Statements {
		for _, pattern := range l.doc.Statements[i].Action {
			service, _, _ := strings.Cut(pattern, ":")
			if _, ok := l.reference.ServiceKey(service, key); ok {
				return true
			}
		}
	}
	return false
}

func (l *linter) nearestKey(key string) string {
	prefix, _, _ := strings.Cut(key, ":")
	var names []string
	if service, ok := l.reference.Service(prefix); ok {
		for _, k := range service.ConditionKeys {
			names = append(names, k.Key)
		}
	}
	names = append(names, l.reference.GlobalKeys()...)
	if meant := near(key, names); meant != "" {
		return "did you mean " + meant + "?"
	}
	return "look the name up in AWS's Service Authorization Reference, or among the global condition context keys"
}

// lintOperator finds operators that cannot compare the key's values.
func (l *linter) lintOperator(i int, path string, c *Condition, key sar.ConditionKey) {
	_, bare, _ := cutOperator(c.Operator)
	family := ""
	switch {
	case strings.HasPrefix(bare, "Numeric"):
		family = "Numeric"
	case strings.HasPrefix(bare, "Date"):
		family = "Date"
	case strings.HasSuffix(bare, "IpAddress"):
		family = "IPAddress"
	case bare == "Bool":
		family = "Bool"
	case strings.HasPrefix(bare, "Arn"):
		family = "ARN"
	case strings.HasPrefix(bare, "String"):
		family = "String"
	default:
		return
	}
	fits := family == key.Type
	switch family {
	case "String": // compares any value as text, which for these is not what is meant
		fits = key.Type != "IPAddress" && key.Type != "Date" && key.Type != "Numeric"
	case "ARN": // the reference calls some ARNs strings
		fits = key.Type == "ARN" || key.Type == "String"
	case "Numeric", "Date": // aws:EpochTime is both
		fits = fits || strings.EqualFold(c.Key, "aws:EpochTime")
	}
	if !fits {
		l.report("operator-for-another-type", i, path, c.Key+" holds "+typeName(key.Type)+", which "+bare+" does not compare",
			"use an operator for "+typeName(key.Type))
	}
}

func typeName(of string) string {
	switch of {
	case "IPAddress":
		return "an IP address"
	case "ARN":
		return "an ARN"
	case "Bool":
		return "true or false"
	case "Numeric":
		return "a number"
	case "Date":
		return "a date"
	}
	return "text"
}

// lintSetOperator finds ForAllValues on a key that may be absent, in an Allow:
// it then holds, because none of no values is wrong.
func (l *linter) lintSetOperator(i int, path string, c *Condition, s *Statement, key sar.ConditionKey) {
	set, bare, _ := cutOperator(c.Operator)
	if set != allValuesPrefix || key.Always || strings.EqualFold(c.Key, externalID) {
		return // lintTrust has its own words for the external ID
	}
	if strings.EqualFold(c.Key, "aws:TagKeys") && l.onlyTags(s) {
		return
	}
	for n := range s.Condition {
		other := &s.Condition[n]
		if other == c || !needsKey(other) {
			continue
		}
		if strings.EqualFold(other.Key, c.Key) ||
			strings.EqualFold(c.Key, "aws:TagKeys") && strings.HasPrefix(strings.ToLower(other.Key), "aws:requesttag/") {
			return // the key must be there
		}
	}
	remedy := `add "Null": {"` + c.Key + `": "false"}`
	if !key.Multivalued && key.Key != "" {
		remedy = "write " + bare + ", for the key has one value"
	}
	l.report("for-all-values", i, path, "ForAllValues holds where "+c.Key+" is absent, so a request without it is allowed", remedy)
}

// onlyTags is whether the statement is about setting and removing tags, whose
// calls always have keys. ec2:DeleteTags without keys removes all.
func (l *linter) onlyTags(s *Statement) bool {
	for _, pattern := range s.Action {
		for _, action := range l.expand(pattern) {
			if action.AccessLevel != sar.Tagging || action.String() == "ec2:DeleteTags" {
				return false
			}
		}
	}
	return len(s.Action) > 0
}
