package iampolicy

import (
	"fmt"
	"slices"
	"strings"
)

const externalID = "sts:ExternalId"

// lintTrust looks at who may assume the role.
func (l *linter) lintTrust() {
	l.each(Allow, func(i int, s *Statement) {
		l.lintExternalID(i, s)
		if s.Principal == nil {
			return
		}
		if allowsSTS(s, "sts:AssumeRole") {
			l.lintAccounts(i, s)
			l.lintServices(i, s)
		}
		if allowsSTS(s, "sts:AssumeRoleWithWebIdentity") {
			l.lintWebIdentity(i, s)
		}
	})
}

func allowsSTS(s *Statement, action string) bool {
	return slices.ContainsFunc(s.Action, func(pattern string) bool { return MatchAction(pattern, action) })
}

// lintExternalID finds conditions on the external ID that let other callers in.
func (l *linter) lintExternalID(i int, s *Statement) {
	for n := range s.Condition {
		c := &s.Condition[n]
		if !strings.EqualFold(c.Key, externalID) {
			continue
		}
		path := l.condition(i, c)
		set, bare, ifExists := cutOperator(c.Operator)
		compare, negated, _ := baseOperator(bare)
		remedy := `write "StringEquals": {"` + externalID + `": …} with the external ID that the vendor gave`
		switch {
		case set == allValuesPrefix:
			l.report("external-id-for-all-values", i, path, "ForAllValues holds where there is no external ID, so the role can be assumed without one", remedy)
		case ifExists, negated, compare == null:
			if compare == null && needsKey(c) {
				if !slices.ContainsFunc(s.Condition, func(other Condition) bool {
					return strings.EqualFold(other.Key, externalID) && other.Operator != c.Operator
				}) {
					l.report("external-id-pattern", i, path, "any external ID will do, because nothing says which", remedy)
				}
				continue
			}
			l.report("external-id-optional", i, path, c.Operator+" holds where there is no external ID, so the role can be assumed without one", remedy)
		case compare == stringLike && slices.ContainsFunc(c.Values, func(v string) bool { return strings.ContainsAny(v, "*?") }):
			l.report("external-id-pattern", i, path, "the external ID is a pattern, "+quote(strings.Join(c.Values, ", "))+", which others can match", remedy)
		case compare == stringLike, compare == stringEqualsIgnoreCase:
			l.report("external-id-pattern", i, path, bare+" compares the external ID less strictly than StringEquals does", remedy)
		}
	}
}

// limits is whether a condition of the statement demands one of the keys and
// limits it.
func (s *Statement) limits(keys ...string) bool {
	return slices.ContainsFunc(s.Condition, func(c Condition) bool {
		return slices.ContainsFunc(keys, func(name string) bool { return pathKey{name: strings.ToLower(name)}.limitsAllow(&c, "*") })
	})
}

// lintAccounts finds AWS principals outside the account that need no external ID.
func (l *linter) lintAccounts(i int, s *Statement) {
	path := fmt.Sprintf("Statement[%d].Principal", i)
	anyone := s.Principal.Any
	for n, principal := range s.Principal.AWS {
		if principal == "*" {
			anyone, path = true, l.entry(i, "Principal.AWS", n)
		}
	}
	if anyone && !s.limits("aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalOrgID", "aws:PrincipalOrgPaths") {
		l.report("trust-anyone", i, path, "every AWS account of the world may assume the role", "name the account or role that may")
		return
	}
	// The external ID stops a vendor from being used against its own customer.
	// It has no use inside an organization, nor for a person with a second factor.
	guarded := s.names(externalID) || s.limits("aws:PrincipalOrgID", "aws:PrincipalOrgPaths") ||
		slices.ContainsFunc(s.Condition, func(c Condition) bool {
			return strings.EqualFold(c.Key, "aws:MultiFactorAuthPresent") && c.Operator == "Bool" && slices.Equal(c.Values, []string{"true"})
		})
	if guarded {
		return
	}
	const remedy = `add "Condition": {"StringEquals": {"sts:ExternalId": …}} with the external ID that the vendor gave`
	if anyone {
		l.report("trust-without-external-id", i, path, "principals of other accounts may assume the role without an external ID", remedy)
		return
	}
	for n, principal := range s.Principal.AWS {
		account := principal
		if arn, ok := ParseARN(principal); ok {
			account = arn.Account
		}
		if account == "" || account == l.options.Account || ownAccount(account) || isUniqueID(principal) {
			continue
		}
		l.report("trust-without-external-id", i, l.entry(i, "Principal.AWS", n),
			"account "+account+" may assume the role without an external ID, so whoever can make it act may use it against this account", remedy)
		return
	}
}

// ownAccount is whether a placeholder stands for the account that the template
// is used in.
func ownAccount(account string) bool { return strings.EqualFold(account, "${AWS::AccountId}") }

// names is whether a condition has the key, in whatever way: what is wrong
// with it has its own finding.
func (s *Statement) names(key string) bool {
	return slices.ContainsFunc(s.Condition, func(c Condition) bool { return strings.EqualFold(c.Key, key) })
}

// sendsSource are the services of which AWS's guides say that they send
// aws:SourceAccount and aws:SourceArn when they assume a role.
func sendsSource() []string {
	return []string{
		"apigateway.amazonaws.com", "bedrock.amazonaws.com", "bedrock-agentcore.amazonaws.com", "codebuild.amazonaws.com", "config.amazonaws.com",
		"delivery.logs.amazonaws.com", "ecs-tasks.amazonaws.com", "firehose.amazonaws.com", "logs.amazonaws.com", "monitoring.rds.amazonaws.com",
		"pipes.amazonaws.com", "scheduler.amazonaws.com", "ssm.amazonaws.com", "states.amazonaws.com", "vpc-flow-logs.amazonaws.com",
	}
}

// lintServices finds services that could be made to use the role on behalf of
// another account.
func (l *linter) lintServices(i int, s *Statement) {
	if s.limits("aws:SourceAccount", "aws:SourceArn", "aws:SourceOrgID", "aws:SourceOrgPaths") {
		return
	}
	for n, service := range s.Principal.Service {
		if slices.Contains(sendsSource(), service) {
			l.report("service-trust-open", i, l.entry(i, "Principal.Service", n), service+" may assume the role for any account's sake",
				"add aws:SourceAccount or aws:SourceArn, which the service sends")
		}
	}
}

// lintWebIdentity finds tokens of an identity provider that are let in although
// they were made for something else.
func (l *linter) lintWebIdentity(i int, s *Statement) {
	if len(s.Principal.Federated) == 0 && !s.Principal.Any {
		return
	}
	path := l.entry(i, "Principal.Federated", 0)
	audience, subject := false, false
	for n := range s.Condition {
		c := &s.Condition[n]
		key := strings.ToLower(c.Key)
		name := key[strings.LastIndexByte(key, ':')+1:]
		if !strings.Contains(key, ".") || !needsKey(c) || strings.HasSuffix(c.Operator, "Null") {
			continue
		}
		switch name {
		case "aud", "oaud", "app_id", "azp":
			audience = true
		case "sub", "amr", "user_id", "id":
			subject = true
			if strings.Contains(c.Operator, "Like") && slices.ContainsFunc(c.Values, anySubject) {
				l.report("web-identity-any-subject", i, l.condition(i, c), "the subject "+quote(strings.Join(c.Values, ", "))+" is everybody whom the provider knows",
					"name the subject in full, or at least what it belongs to")
			}
		}
	}
	if !subject {
		l.report("web-identity-without-subject", i, path, "whoever has a token of the provider may assume the role",
			`add "StringEquals": {"PROVIDER:sub": …}`)
	}
	if !audience {
		l.report("web-identity-without-audience", i, path, "a token that the provider made for another audience is let in too",
			`add "StringEquals": {"PROVIDER:aud": "sts.amazonaws.com"}`)
	}
}

// anySubject is whether a pattern of subjects has nothing in it but the form
// that all subjects of a provider have.
func anySubject(pattern string) bool {
	for _, form := range []string{"system:serviceaccount:", "repo:", "project_path:", "organization:", "auth0|"} {
		pattern = strings.TrimPrefix(pattern, form)
	}
	return pattern != "" && strings.Contains(pattern, "*") && strings.Trim(pattern, "*?:/@") == ""
}

// lintOpenResource finds resource policies that let everybody in.
func (l *linter) lintOpenResource() {
	l.each(Allow, func(i int, s *Statement) {
		if s.Principal == nil {
			return
		}
		path := fmt.Sprintf("Statement[%d].Principal", i)
		anyone := s.Principal.Any
		for n, principal := range s.Principal.AWS {
			if principal == "*" {
				anyone, path = true, l.entry(i, "Principal.AWS", n)
			}
		}
		if anyone && !s.limits(
			"aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalOrgID", "aws:PrincipalOrgPaths", "aws:PrincipalServiceName",
			"aws:SourceArn", "aws:SourceAccount", "aws:SourceOwner", "aws:SourceOrgID", "aws:SourceVpc", "aws:SourceVpce", "aws:SourceIp",
			"aws:VpceAccount", "aws:VpceOrgID", "aws:VpcSourceIp", "aws:userid", "kms:CallerAccount", "kms:ViaService", "s3:DataAccessPointAccount", "s3:DataAccessPointArn",
			"elasticfilesystem:AccessedViaMountTarget", "aws:PrincipalTag/",
		) {
			l.report("open-to-everyone", i, path, "everybody, without an account too, is allowed "+some(s.Action), "name the principals, or limit them by a condition such as aws:PrincipalOrgID")
		}
	})
}
