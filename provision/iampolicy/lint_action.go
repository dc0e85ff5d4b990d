package iampolicy

import (
	"fmt"
	"slices"
	"strings"

	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/provision/iampolicy/sar"
)

// lintActions finds actions and services that do not exist.
func (l *linter) lintActions() {
	for i := range l.doc.Statements {
		s := &l.doc.Statements[i]
		l.lintActionList(i, "Action", s.Action)
		l.lintActionList(i, "NotAction", s.NotAction)
	}
}

func (l *linter) lintActionList(i int, element string, patterns []string) {
	for n, pattern := range patterns {
		if actionFault(pattern) != "" || isEveryAction(pattern) {
			continue // the first is a Problem already
		}
		service, _, _ := strings.Cut(pattern, ":")
		path := l.entry(i, element, n)
		if strings.ContainsAny(service, "*?") {
			l.report("wildcard-service", i, path, quote(pattern)+" has a wildcard in the service part, which IAM refuses",
				"name each service")
			continue
		}
		if _, ok := l.reference.Service(service); !ok {
			remedy := "correct the part before the colon"
			if meant := near(service, l.reference.Services()); meant != "" {
				remedy = "did you mean " + meant + "?"
			}
			l.report("unknown-service", i, path, "there is no service "+quote(service)+" in the reference of "+sar.Date, remedy)
			continue
		}
		if len(l.reference.Expand(pattern)) == 0 {
			l.report("unknown-action", i, path, "there is no action "+quote(pattern)+" in the reference of "+sar.Date, l.nearestAction(pattern))
		}
	}
}

func (l *linter) nearestAction(pattern string) string {
	if strings.ContainsAny(pattern, "*?") {
		return "no action's name fits the wildcards; correct or remove it"
	}
	prefix, name, _ := strings.Cut(pattern, ":")
	service, _ := l.reference.Service(prefix)
	var names []string
	for _, action := range service.Actions {
		names = append(names, action.Name)
	}
	if meant := near(name, names); meant != "" {
		return "did you mean " + service.Prefix + ":" + meant + "?"
	}
	return "look the name up in AWS's Service Authorization Reference of " + service.Prefix
}

// isEveryAction is whether the pattern matches all actions of all services.
func isEveryAction(pattern string) bool {
	service, name, cut := strings.Cut(pattern, ":")
	return isAny(service) && (!cut || isAny(name))
}

// expand is the actions that a pattern names; none for a pattern that IAM
// refuses or that matches everything.
func (l *linter) expand(pattern string) []*sar.Action {
	service, _, _ := strings.Cut(pattern, ":")
	if actionFault(pattern) != "" || strings.ContainsAny(service, "*?") {
		return nil
	}
	return l.reference.Expand(pattern)
}

// lintBreadth finds statements that allow more than they name.
func (l *linter) lintBreadth() {
	l.each(Allow, func(i int, s *Statement) {
		for n, pattern := range s.Action {
			if isEveryAction(pattern) {
				l.report("all-actions", i, l.entry(i, "Action", n), "the statement allows every action of every service, those of tomorrow included",
					"list the actions that are needed")
			}
		}
		for _, not := range []struct {
			element, code, allows, remedy string
			there                         bool
		}{
			{"NotAction", "allow-not-action", "every action but those listed, iam and sts included", "list the actions that are needed under Action", s.NotAction != nil},
			{"NotResource", "allow-not-resource", "every resource but those listed", "list the resources that are needed under Resource", s.NotResource != nil},
			{"NotPrincipal", "allow-not-principal", "every principal but those listed, anonymous ones included", "name the principals under Principal", s.NotPrincipal != nil},
		} {
			if not.there {
				l.report(not.code, i, fmt.Sprintf("Statement[%d].%s", i, not.element), "Allow with "+not.element+" allows "+not.allows, not.remedy)
			}
		}
		if l.kind == identityKind {
			l.lintUnconditioned(i, s)
		}
	})
}

// lintUnconditioned finds writes on "*" that could name a resource. Those that
// AWS cannot limit to one are left out: "*" is the only way to allow them.
func (l *linter) lintUnconditioned(i int, s *Statement) {
	star := slices.IndexFunc(s.Resource, everything)
	if star < 0 && s.NotResource == nil || slices.ContainsFunc(s.Condition, func(c Condition) bool { return canFail(&c) }) {
		return
	}
	resource, at, reach := "*", fmt.Sprintf("Statement[%d].NotResource", i), "every resource of the account but those listed"
	if star >= 0 {
		resource, at, reach = s.Resource[star], l.entry(i, "Resource", star), "every resource of the account"
	}
	var writes []string
	if s.NotAction != nil {
		writes = append(writes, "every action but "+some(s.NotAction))
	}
	for _, pattern := range s.Action {
		if isEveryAction(pattern) {
			continue
		}
		named := false
		for _, action := range l.expand(pattern) {
			if action.AccessLevel != sar.List && action.AccessLevel != sar.Read && len(action.Resources) > 0 &&
				l.canMatch(action, resource) != sar.Never && !l.denied(action, resource) {
				named = true
			}
		}
		if named && !slices.Contains(writes, pattern) {
			writes = append(writes, pattern)
		}
	}
	if len(writes) > 0 {
		l.report("unconditioned-write", i, at, some(writes)+" may change "+reach+", with no condition",
			"list the ARNs, or limit it by a condition such as aws:ResourceTag")
	}
}

// everything is whether a pattern is "*", or an ARN that leaves region, account
// and resource open.
func everything(pattern string) bool {
	arn, ok := ParseARN(pattern)
	open := func(field string) bool { return field == "" || isAny(field) }
	return isAny(pattern) || ok && open(arn.Region) && open(arn.Account) && isAny(strings.ReplaceAll(arn.Resource, "/", ""))
}

// canFail is whether a condition can refuse a request at all: one that lets in
// every value and an absent key too cannot.
func canFail(c *Condition) bool {
	set, bare, ifExists := cutOperator(c.Operator)
	lenient := ifExists || set == allValuesPrefix
	return !lenient || bare != "StringLike" && bare != "ArnLike" || !slices.ContainsFunc(c.Values, isAny)
}

// near is the name most like the given one, or "" where none is near.
func near(given string, names []string) string {
	return nearest.Within(given, names, max(1, min(4, len(given)/4)))
}
