package iampolicy

import "slices"

// Code is what a Finding's code means.
type Code struct {
	Code     string
	Severity Severity
	Meaning  string // one sentence
}

// Codes returns every code that Lint reports, in the order of docs/lint.md,
// which is made from it.
func Codes() []Code {
	return []Code{
		// The document's form: IAM refuses it, or reads it otherwise than its author.
		{duplicateKey, Error, "A key is twice in one object; only one of them counts."},
		{duplicateSid, Error, "Two statements have the same Sid."},
		{unknownElement, Error, "The grammar has no such element or kind of principal."},
		{wrongCase, Error, "An element, effect or operator is spelt in another case."},
		{badType, Error, "A value has the wrong JSON type."},
		{missingElement, Error, "Statement, Effect, Action or Resource is missing."},
		{conflictingElement, Error, "A statement has both of a pair such as Action and NotAction."},
		{emptyList, Error, "A list that must have an entry has none."},
		{badVersion, Error, "Version is neither 2012-10-17 nor 2008-10-17."},
		{badEffect, Error, "Effect is neither Allow nor Deny."},
		{badSid, Error, "A Sid of an identity policy has other characters than letters and digits."},
		{badAction, Error, "An action is not of the form service:Name."},
		{badARN, Error, "A resource is neither * nor an ARN."},
		{badPrincipal, Error, "A principal is not complete, or has a wildcard inside."},
		{badOperator, Error, "There is no such condition operator."},
		{badConditionKey, Error, "A condition key has no service prefix."},
		{badConditionValue, Error, "A condition's value does not fit its operator."},
		{badText, Error, "A text has a character that stands for nothing."},
		{byteOrderMarkCode, Error, "The file begins with a byte order mark."},
		{"resource-in-trust", Error, "A trust policy has a Resource."},
		{"action-in-trust", Error, "A trust policy has an action of another service than STS."},
		{"missing-principal", Error, "A statement of a trust or resource policy has no Principal."},
		{"missing-version", Warning, "The document has no Version, so policy variables are plain text."},
		{"old-version", Warning, "Version is 2008-10-17, so policy variables are plain text."},
		{"variable-in-old-version", Error, "A policy variable stands in a document whose Version has none."},
		{"unknown-variable", Error, "A policy variable names no condition key."},
		{"template", Info, "The document has placeholders that must be filled in before IAM is given it."},

		// Size, for each region where the document is a template.
		{"size-any", Error, "The document is larger than any policy that an AWS service takes; nothing but its form was looked at."},
		{"size-inline", Error, "The document is over the limit of a role's inline policies, and so of every identity policy."},
		{"size-managed", Warning, "The document is over the limit of a managed policy; inline it fits."},
		{"size-session", Error, "The document is over the limit of a session policy."},
		{"size-trust", Error, "The document is over the default limit of a trust policy."},

		// What exists and what matches.
		{"wildcard-service", Error, "An action has a wildcard in the service part."},
		{"unknown-service", Error, "There is no such service."},
		{"unknown-action", Error, "There is no such action."},
		{"dead-grant", Error, "A grant can never match, because action and resource are of different kinds, and nothing else in the document grants it."},
		{"dead-grant-covered", Info, "A grant can never match, and another statement of the document grants the action."},
		{"dead-grant-live", Info, "A grant can never match by AWS's reference, but the live authorizer is known to accept it."},
		{"dead-deny", Error, "A denial can never match, so nothing is denied."},
		{"dead-resource", Warning, "No action of the statement acts on a resource that it lists."},
		{"incomplete-grant", Warning, "An action needs several resource types in one call, of which the document grants some only."},

		// What is allowed more than once.
		{"redundant-grant", Info, "Another entry allows, or denies, the same action on the same or more."},
		{"redundant-resource", Info, "Another resource of the statement matches all that this one matches."},
		{"redundant-statement", Info, "Other statements say all that the statement says."},

		// Breadth.
		{"all-actions", Error, "A statement allows every action of every service."},
		{"allow-not-action", Warning, "Allow with NotAction allows all but a few actions."},
		{"allow-not-resource", Warning, "Allow with NotResource allows all but a few resources."},
		{"allow-not-principal", Error, "Allow with NotPrincipal allows all but a few principals."},
		{"unconditioned-write", Warning, "Write actions that could be limited to a resource are allowed on *, with no condition."},

		// Conditions.
		{"unknown-condition-key", Error, "There is no such condition key."},
		{"condition-key-never-there", Error, "No action of the statement has the condition key, so the statement never applies."},
		{"condition-key-not-for-action", Warning, "Some actions of the statement do not have the condition key and so are not allowed."},
		{"operator-for-another-type", Warning, "The operator does not compare values of the key's type."},
		{"for-all-values", Warning, "ForAllValues, in an Allow, holds where the key is absent."},

		// Privilege escalation: from the grant to the whole account.
		{"escalate-attach-role-policy", Error, "AttachRolePolicy without iam:PolicyARN or iam:PermissionsBoundary: attach AdministratorAccess to a role."},
		{"escalate-put-role-policy", Error, "PutRolePolicy without iam:PermissionsBoundary: write any permission into a role."},
		{"escalate-attach-user-policy", Error, "AttachUserPolicy or AttachGroupPolicy without iam:PolicyARN or iam:PermissionsBoundary."},
		{"escalate-put-user-policy", Error, "PutUserPolicy or PutGroupPolicy without iam:PermissionsBoundary."},
		{"escalate-create-role", Error, "CreateRole without iam:PermissionsBoundary: a role that trusts anybody and has no boundary."},
		{"escalate-remove-boundary", Error, "DeleteRolePermissionsBoundary or DeleteUserPermissionsBoundary."},
		{"escalate-change-boundary", Error, "PutRolePermissionsBoundary or PutUserPermissionsBoundary without iam:PermissionsBoundary."},
		{"escalate-policy-version", Error, "CreatePolicyVersion or SetDefaultPolicyVersion on every policy of the account."},
		{"escalate-pass-role", Error, "PassRole on a pattern of roles, without iam:PassedToService: run code as such a role."},
		{"escalate-update-trust", Error, "UpdateAssumeRolePolicy on every role of the account."},
		{"escalate-identity-provider", Error, "Create or change an identity provider of any name: a way back in."},
		{"escalate-add-user-to-group", Error, "AddUserToGroup on every group."},
		{"escalate-access-key", Error, "CreateAccessKey for every user."},
		{"escalate-login-profile", Error, "CreateLoginProfile or UpdateLoginProfile for every user."},
		{"escalate-lambda-code", Error, "Change the code or configuration of every Lambda function, and so run as its role."},
		{"escalate-assume-role", Error, "AssumeRole on every role."},

		// Blast radius: from the grant to things that have nothing to do with it.
		{"kms-any-key", Warning, "Take over or destroy every KMS key, with no aws:ResourceTag or kms:ResourceAliases."},
		{"bucket-by-prefix", Warning, "Objects of every bucket whose name begins alike."},
		{"eks-any-cluster", Warning, "Change, open or empty every EKS cluster."},
		{"network-any", Warning, "Delete or reroute every network, with no aws:ResourceTag, ec2:ResourceTag or ec2:Vpc."},
		{"retag-any", Warning, "Set tags on anything, which defeats rules that go by tags."},
		{"shell-any-host", Warning, "Open a shell or run a command on every managed host, task or instance."},
		{"ebs-encryption-default", Warning, "Turn off or redirect the account's default encryption of volumes."},
		{"ecr-delete-any-region", Warning, "Delete container images in every region."},

		// Trust policies.
		{"trust-anyone", Error, "Every AWS account may assume the role."},
		{"trust-without-external-id", Error, "Another account may assume the role without an external ID."},
		{"external-id-for-all-values", Error, "ForAllValues on sts:ExternalId holds where there is none."},
		{"external-id-optional", Error, "The condition on sts:ExternalId holds where there is none."},
		{"external-id-pattern", Warning, "sts:ExternalId is compared by a pattern or without its case."},
		{"service-trust-open", Info, "A service may assume the role for any account's sake, although it sends aws:SourceAccount."},
		{"web-identity-without-subject", Error, "Every token of an identity provider is let in."},
		{"web-identity-any-subject", Error, "The subject of the token is a pattern that every subject matches."},
		{"web-identity-without-audience", Warning, "Tokens made for another audience are let in."},

		// Resource policies.
		{"open-to-everyone", Warning, "A resource is open to everybody, with no condition that says whom."},
	}
}

// severityOf is the severity of a code of Codes.
func severityOf(code string) Severity {
	codes := Codes()
	if i := slices.IndexFunc(codes, func(c Code) bool { return c.Code == code }); i >= 0 {
		return codes[i].Severity
	}
	panic("iampolicy: code " + code + " is not in Codes")
}
