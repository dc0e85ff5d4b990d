package iampolicy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	userARN    = "arn:aws:iam::111111111111:user/ann"
	roleARN    = "arn:aws:iam::111111111111:role/path/dev"
	sessionARN = "arn:aws:sts::111111111111:assumed-role/dev/ann"
	rootARN    = "arn:aws:iam::111111111111:root"
	objectARN  = "arn:aws:s3:::bucket/key"
)

var (
	aUser      = Principal{Type: AWS, ARN: userARN, Account: "111111111111"}
	aSession   = Principal{Type: AWS, ARN: sessionARN, RoleARN: roleARN, Account: "111111111111"}
	aService   = Principal{Type: Service, ARN: "ecs-tasks.amazonaws.com"}
	aFederated = Principal{Type: Federated, ARN: "arn:aws:iam::111111111111:oidc-provider/issuer/id"}
	nobody     = Principal{Type: Anonymous}
)

// doc parses one or more statements as a document of the current Version.
func doc(t testing.TB, statements ...string) *Document {
	t.Helper()
	return versionDoc(t, "2012-10-17", statements...)
}

func versionDoc(t testing.TB, version string, statements ...string) *Document {
	t.Helper()
	d, err := Parse("test", fmt.Appendf(nil, `{"Version":%q,"Statement":[%s]}`, version, strings.Join(statements, ",")))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// decide answers and checks on the way that Explain agrees and gives reasons.
func decide(t testing.TB, p Policies, r *Request) Decision {
	t.Helper()
	e, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	d := e.Decide(r)
	checkExplanation(t, e, r, d)
	return d
}

func checkExplanation(t testing.TB, e *Evaluator, r *Request, d Decision) {
	t.Helper()
	x := e.Explain(r)
	if x.Decision != d {
		t.Errorf("Explain: got %v, want %v as Decide", x.Decision, d)
	}
	if (len(x.Statements) > 0) != (d != ImplicitDeny) {
		t.Errorf("Explain: got %d statements for %v", len(x.Statements), d)
	}
	if (x.MissingPart != "") != (d == ImplicitDeny) {
		t.Errorf("Explain: got missing part %q for %v", x.MissingPart, d)
	}
	if len(x.NearMisses) > maxNearMisses || d == Allowed && len(x.NearMisses) > 0 {
		t.Errorf("Explain: got %d near misses for %v", len(x.NearMisses), d)
	}
	for _, m := range x.NearMisses {
		if m.Element == "" || m.Reason == "" {
			t.Errorf("Explain: got a near miss without element or reason: %+v", m)
		}
	}
}

const (
	allowGet = `{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`
	allowPut = `{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}`
	allowAll = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	denyGet  = `{"Effect":"Deny","Action":"s3:GetObject","Resource":"*"}`
)

func bucketPolicy(t testing.TB, effect, principal string) *Document {
	t.Helper()
	return doc(t, fmt.Sprintf(`{"Effect":%q,%s,"Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}`, effect, principal))
}

func aws(arns ...string) string {
	return `"Principal":{"AWS":["` + strings.Join(arns, `","`) + `"]}`
}

func notAWS(arns ...string) string {
	return strings.Replace(aws(arns...), "Principal", "NotPrincipal", 1)
}

func TestDecideAcrossParts(t *testing.T) {
	t.Parallel()
	get, put, all, deny := doc(t, allowGet), doc(t, allowPut), doc(t, allowAll), doc(t, denyGet)
	bucket := func(principal string) *Document { return bucketPolicy(t, "Allow", principal) }
	const own, other = "111111111111", "222222222222"
	ids := []*Document{get}

	for name, c := range map[string]struct {
		policies Policies
		caller   Principal
		account  string // of the resource
		want     Decision
	}{
		"denies where nothing allows":                {Policies{}, aUser, own, ImplicitDeny},
		"allows by an identity policy":               {Policies{Identity: ids}, aUser, own, Allowed},
		"allows by any of them":                      {Policies{Identity: []*Document{put, get}}, aUser, own, Allowed},
		"lets a deny win":                            {Policies{Identity: []*Document{get, deny}}, aUser, own, ExplicitDeny},
		"lets the boundary limit":                    {Policies{Identity: ids, Boundary: put}, aUser, own, ImplicitDeny},
		"lets the boundary allow":                    {Policies{Identity: ids, Boundary: all}, aUser, own, Allowed},
		"grants nothing by the boundary":             {Policies{Boundary: all}, aUser, own, ImplicitDeny},
		"lets the boundary deny":                     {Policies{Identity: ids, Boundary: deny}, aUser, own, ExplicitDeny},
		"takes a boundary without statements as one": {Policies{Identity: ids, Boundary: &Document{}}, aUser, own, ImplicitDeny},
		"lets the session policy limit":              {Policies{Identity: ids, Session: []*Document{put}}, aSession, own, ImplicitDeny},
		"takes session policies together":            {Policies{Identity: ids, Session: []*Document{put, get}}, aSession, own, Allowed},
		"lets a session policy deny":                 {Policies{Identity: ids, Session: []*Document{all, deny}}, aSession, own, ExplicitDeny},
		"asks every SCP level":                       {Policies{Identity: ids, SCP: [][]*Document{{all}, {put}}}, aUser, own, ImplicitDeny},
		"allows by one SCP of a level":               {Policies{Identity: ids, SCP: [][]*Document{{all}, {put, get}}}, aUser, own, Allowed},
		"lets an SCP deny":                           {Policies{Identity: ids, SCP: [][]*Document{{all, deny}}}, aUser, own, ExplicitDeny},
		"denies where an SCP level is bare":          {Policies{Identity: ids, SCP: [][]*Document{{all}, {}}}, aUser, own, ImplicitDeny},

		// Within one account.
		"allows by a bucket policy that names the user":                {Policies{Resource: bucket(aws(userARN))}, aUser, own, Allowed},
		"allows by an identity policy whatever the bucket policy":      {Policies{Identity: ids, Resource: bucket(aws(rootARN + "x"))}, aUser, own, Allowed},
		"lets the bucket policy deny":                                  {Policies{Identity: ids, Resource: bucketPolicy(t, "Deny", aws(userARN))}, aUser, own, ExplicitDeny},
		"does not limit a named user by the boundary":                  {Policies{Boundary: put, Resource: bucket(aws(userARN))}, aUser, own, Allowed},
		"lets the boundary deny a named user":                          {Policies{Boundary: deny, Resource: bucket(aws(userARN))}, aUser, own, ExplicitDeny},
		"does not limit a named session":                               {Policies{Boundary: put, Session: []*Document{put}, Resource: bucket(aws(sessionARN))}, aSession, own, Allowed},
		"allows a session of a named role":                             {Policies{Resource: bucket(aws(roleARN))}, aSession, own, Allowed},
		"limits a named role by the boundary":                          {Policies{Boundary: put, Resource: bucket(aws(roleARN))}, aSession, own, ImplicitDeny},
		"limits a named role by the session policy":                    {Policies{Session: []*Document{put}, Resource: bucket(aws(roleARN))}, aSession, own, ImplicitDeny},
		"limits a named user by an SCP":                                {Policies{SCP: [][]*Document{{put}}, Resource: bucket(aws(userARN))}, aUser, own, ImplicitDeny},
		"takes a named account as leave to be allowed":                 {Policies{Resource: bucket(aws(rootARN))}, aUser, own, ImplicitDeny},
		"takes a named account with an identity policy":                {Policies{Identity: ids, Resource: bucket(aws(own))}, aUser, own, Allowed},
		"takes everyone as the user itself":                            {Policies{Boundary: put, Resource: bucket(`"Principal":"*"`)}, aUser, own, Allowed},
		"takes AWS * as everyone":                                      {Policies{Resource: bucket(aws("*"))}, aSession, own, Allowed},
		"does not take one user for another":                           {Policies{Resource: bucket(aws(userARN + "e"))}, aUser, own, ImplicitDeny},
		"does not take a role of the same name of another account":     {Policies{Resource: bucket(aws("arn:aws:iam::222222222222:role/dev"))}, aSession, own, ImplicitDeny},
		"minds the path of a role":                                     {Policies{Resource: bucket(aws("arn:aws:iam::111111111111:role/dev"))}, aSession, own, ImplicitDeny},
		"knows the role of a session by its name":                      {Policies{Resource: bucket(aws(roleARN))}, Principal{Type: AWS, ARN: sessionARN}, own, Allowed},
		"takes the account's root user as named by the account":        {Policies{Resource: bucket(aws(rootARN))}, Principal{Type: AWS, ARN: rootARN, Account: own}, own, Allowed},
		"does not let a role name end another":                         {Policies{Resource: bucket(aws("arn:aws:iam::111111111111:role/xdev"))}, Principal{Type: AWS, ARN: sessionARN}, own, ImplicitDeny},
		"takes the resource's account from the caller where S3 is mum": {Policies{Resource: bucket(aws(userARN))}, aUser, "", Allowed},

		// Across accounts.
		"needs an identity policy across accounts":       {Policies{Resource: bucket(aws(userARN))}, aUser, other, ImplicitDeny},
		"needs a resource policy across accounts":        {Policies{Identity: ids, Resource: bucket(aws(userARN + "e"))}, aUser, other, ImplicitDeny},
		"allows by both across accounts":                 {Policies{Identity: ids, Resource: bucket(aws(userARN))}, aUser, other, Allowed},
		"allows by the account across accounts":          {Policies{Identity: ids, Resource: bucket(aws(own))}, aUser, other, Allowed},
		"limits a named user by the boundary elsewhere":  {Policies{Identity: ids, Boundary: put, Resource: bucket(aws(userARN))}, aUser, other, ImplicitDeny},
		"limits a named session by its session policy":   {Policies{Identity: ids, Session: []*Document{put}, Resource: bucket(aws(sessionARN))}, aSession, other, ImplicitDeny},
		"needs an identity policy where everyone is let": {Policies{Resource: bucket(`"Principal":"*"`)}, aUser, other, ImplicitDeny},

		// Callers without identity policies.
		"allows a service by the resource policy alone":    {Policies{SCP: [][]*Document{{put}}, Resource: bucket(`"Principal":{"Service":"ecs-tasks.amazonaws.com"}`)}, aService, own, Allowed},
		"tells services apart":                             {Policies{Resource: bucket(`"Principal":{"Service":"ec2.amazonaws.com"}`)}, aService, own, ImplicitDeny},
		"allows nobody without a resource policy":          {Policies{Identity: ids}, nobody, own, ImplicitDeny},
		"allows nobody by *":                               {Policies{Resource: bucket(`"Principal":"*"`)}, nobody, own, Allowed},
		"allows nobody by AWS *":                           {Policies{Resource: bucket(aws("*"))}, nobody, own, Allowed},
		"keeps nobody out of an account":                   {Policies{Resource: bucket(aws(own))}, nobody, own, ImplicitDeny},
		"allows a federated user by its provider":          {Policies{Resource: bucket(`"Principal":{"Federated":"` + aFederated.ARN + `"}`)}, aFederated, own, Allowed},
		"lets the resource policy deny a service":          {Policies{Resource: doc(t, `{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}`)}, aService, own, ExplicitDeny},
		"does not take a provider's account for its users": {Policies{Resource: bucket(aws(own))}, aFederated, own, ImplicitDeny},

		// NotPrincipal.
		"denies everyone who is not left out":           {Policies{Identity: ids, Resource: bucketPolicy(t, "Deny", notAWS(userARN+"e", rootARN))}, aUser, own, ExplicitDeny},
		"leaves a user out with its account":            {Policies{Identity: ids, Resource: bucketPolicy(t, "Deny", notAWS(userARN, rootARN))}, aUser, own, Allowed},
		"denies a user whose account is not left out":   {Policies{Identity: ids, Resource: bucketPolicy(t, "Deny", notAWS(userARN))}, aUser, own, ExplicitDeny},
		"denies a session whose role is not left out":   {Policies{Identity: ids, Resource: bucketPolicy(t, "Deny", notAWS(sessionARN, own))}, aSession, own, ExplicitDeny},
		"denies a session that is not left out itself":  {Policies{Identity: ids, Resource: bucketPolicy(t, "Deny", notAWS(roleARN, own))}, aSession, own, ExplicitDeny},
		"leaves a session out with role and account":    {Policies{Identity: ids, Resource: bucketPolicy(t, "Deny", notAWS(sessionARN, roleARN, own))}, aSession, own, Allowed},
		"allows everyone by an Allow with NotPrincipal": {Policies{Resource: bucketPolicy(t, "Allow", notAWS(userARN+"e", own))}, nobody, own, Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &Request{Principal: c.caller, Action: "s3:GetObject", Resource: objectARN, ResourceAccount: c.account}
			if got := decide(t, c.policies, r); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestDecideTrust(t *testing.T) {
	t.Parallel()
	trust := func(principal, condition string) *Document {
		return doc(t, fmt.Sprintf(`{"Effect":"Allow",%s,"Action":"sts:AssumeRole"%s}`, principal, condition))
	}
	ids := []*Document{doc(t, `{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}`)}
	const target, foreign = "arn:aws:iam::111111111111:role/target", "arn:aws:iam::222222222222:role/target"
	const externalID = `,"Condition":{"StringEquals":{"sts:ExternalId":["abc","old"]}}`

	for name, c := range map[string]struct {
		policies Policies
		role     string
		caller   Principal
		context  Context
		want     Decision
	}{
		"needs the trust policy in the same account too":       {Policies{Identity: ids, Resource: trust(aws(userARN+"e"), "")}, target, aUser, nil, ImplicitDeny},
		"lets the trust policy name a user of its account":     {Policies{Resource: trust(aws(userARN), "")}, target, aUser, nil, Allowed},
		"lets the trust policy leave it to the account":        {Policies{Resource: trust(aws(rootARN), "")}, target, aUser, nil, ImplicitDeny},
		"asks the identity policy where the account is named":  {Policies{Identity: ids, Resource: trust(aws(rootARN), "")}, target, aUser, nil, Allowed},
		"needs both across accounts":                           {Policies{Resource: trust(aws(roleARN), "")}, foreign, aSession, nil, ImplicitDeny},
		"allows a session of the role across accounts":         {Policies{Identity: ids, Resource: trust(aws(roleARN), "")}, foreign, aSession, nil, Allowed},
		"refuses an absent external ID":                        {Policies{Identity: ids, Resource: trust(aws(roleARN), externalID)}, foreign, aSession, nil, ImplicitDeny},
		"refuses a wrong external ID":                          {Policies{Identity: ids, Resource: trust(aws(roleARN), externalID)}, foreign, aSession, Context{"sts:externalid": {"xyz"}}, ImplicitDeny},
		"allows the right external ID":                         {Policies{Identity: ids, Resource: trust(aws(roleARN), externalID)}, foreign, aSession, Context{"sts:externalid": {"old"}}, Allowed},
		"lets ForAllValues pass an absent external ID":         {Policies{Identity: ids, Resource: trust(aws(roleARN), strings.Replace(externalID, "StringEquals", "ForAllValues:StringEquals", 1))}, foreign, aSession, nil, Allowed},
		"lets ForAllValues refuse a wrong external ID":         {Policies{Identity: ids, Resource: trust(aws(roleARN), strings.Replace(externalID, "StringEquals", "ForAllValues:StringEquals", 1))}, foreign, aSession, Context{"sts:externalid": {"xyz"}}, ImplicitDeny},
		"lets a service in without an identity policy":         {Policies{Resource: trust(`"Principal":{"Service":"ecs-tasks.amazonaws.com"}`, "")}, target, aService, nil, Allowed},
		"does not mind the trust policy when none is given":    {Policies{Identity: ids}, target, aUser, nil, Allowed},
		"refuses another action than the trust policy's":       {Policies{Resource: doc(t, `{"Effect":"Allow","Principal":{"Federated":"`+aFederated.ARN+`"},"Action":"sts:AssumeRoleWithWebIdentity"}`)}, target, aFederated, nil, ImplicitDeny},
		"compares the role's ARN by aws:PrincipalArn, with *":  {Policies{Identity: ids, Resource: trust(aws(rootARN), `,"Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/path/*"}}`)}, foreign, aSession, Context{"aws:principalarn": {roleARN}}, Allowed},
		"refuses another principal of the account by that key": {Policies{Identity: ids, Resource: trust(aws(rootARN), `,"Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/path/*"}}`)}, foreign, aUser, Context{"aws:principalarn": {userARN}}, ImplicitDeny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &Request{Principal: c.caller, Action: "sts:AssumeRole", Resource: c.role, Context: c.context}
			if got := decide(t, c.policies, r); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestDecideKeyPolicy(t *testing.T) {
	t.Parallel()
	ids := []*Document{doc(t, allowAll)}
	key := func(principal string) *Document {
		return doc(t, fmt.Sprintf(`{"Effect":"Allow",%s,"Action":"kms:*","Resource":"*"}`, principal))
	}
	for name, c := range map[string]struct {
		key  *Document
		want Decision
	}{
		"needs the key policy in its own account too":   {key(aws(userARN + "e")), ImplicitDeny},
		"asks the identity policy where it is left to":  {key(aws(rootARN)), Allowed},
		"allows by the identity policy without any key": {nil, Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &Request{Principal: aUser, Action: "kms:Decrypt", Resource: "arn:aws:kms:eu-west-1:111111111111:key/k"}
			if got := decide(t, Policies{Identity: ids, Resource: c.key}, r); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestDecideStatements(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statement, action, resource string
		want                        bool
	}{
		"compares actions without case":                     {`"Action":"S3:getobject","Resource":"*"`, "s3:GetObject", objectARN, true},
		"takes wildcards in actions":                        {`"Action":"s3:*Object","Resource":"*"`, "s3:GetObject", objectARN, true},
		"takes ? in actions":                                {`"Action":"s3:?etObject","Resource":"*"`, "s3:GetObject", objectARN, true},
		"finds a wildcard beside a literal of the action":   {`"Action":["s3:PutObject","s3:Get*"],"Resource":"*"`, "s3:GetObject", objectARN, true},
		"keeps services apart":                              {`"Action":"ec2:*","Resource":"*"`, "s3:GetObject", objectARN, false},
		"takes * for every action":                          {`"Action":"*","Resource":"*"`, "s3:GetObject", objectARN, true},
		"leaves out NotAction":                              {`"NotAction":"s3:Get*","Resource":"*"`, "s3:GetObject", objectARN, false},
		"takes what NotAction does not list":                {`"NotAction":"s3:Get*","Resource":"*"`, "s3:PutObject", objectARN, true},
		"takes other services by NotAction":                 {`"NotAction":"s3:*","Resource":"*"`, "ec2:RunInstances", "*", true},
		"leaves out NotResource":                            {`"Action":"s3:*","NotResource":"arn:aws:s3:::bucket/*"`, "s3:GetObject", objectARN, false},
		"takes what NotResource does not list":              {`"Action":"s3:*","NotResource":"arn:aws:s3:::other/*"`, "s3:GetObject", objectARN, true},
		"does not match an ARN to a call without resource":  {`"Action":"s3:*","Resource":"arn:aws:s3:::*"`, "s3:ListAllMyBuckets", "*", false},
		"matches * to a call without resource":              {`"Action":"s3:*","Resource":"*"`, "s3:ListAllMyBuckets", "*", true},
		"matches NotResource to a call without resource":    {`"Action":"s3:*","NotResource":"arn:aws:s3:::bucket"`, "s3:ListAllMyBuckets", "*", true},
		"keeps a wildcard in the region":                    {`"Action":"ec2:*","Resource":"arn:aws:ec2:*:111111111111:vpc/*"`, "ec2:DeleteVpc", "arn:aws:ec2:eu-west-1:111111111111:vpc/v", true},
		"keeps accounts apart":                              {`"Action":"ec2:*","Resource":"arn:aws:ec2:*:111111111111:vpc/*"`, "ec2:DeleteVpc", "arn:aws:ec2:eu-west-1:222222222222:vpc/v", false},
		"takes an action that no list foresaw":              {`"Action":"newservice:*","Resource":"*"`, "newservice:" + strings.Repeat("Long", 40), "*", true},
		"finds a very long action":                          {`"Action":"newservice:` + strings.Repeat("Long", 40) + `","Resource":"*"`, "newservice:" + strings.Repeat("LONG", 40), "*", true},
		"matches no action without a service but by *":      {`"Action":"s3:*","Resource":"*"`, "GetObject", objectARN, false},
		"takes resource wildcards in the request literally": {`"Action":"s3:*","Resource":"arn:aws:s3:::bucket/a"`, "s3:GetObject", "arn:aws:s3:::bucket/*", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Policies{Identity: []*Document{doc(t, `{"Effect":"Allow",`+c.statement+`}`)}}
			r := &Request{Principal: aUser, Action: c.action, Resource: c.resource}
			if got := decide(t, p, r) == Allowed; got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestDecideVariables(t *testing.T) {
	t.Parallel()
	const home = `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::bucket/${aws:username}/*"}`
	const team = `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::bucket/${aws:PrincipalTag/team, 'company-wide'}/*"}`
	condition := func(operator, value string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{%q:{"s3:prefix":%q}}}`, operator, value)
	}
	ann := Context{"aws:username": {"ann"}}
	for name, c := range map[string]struct {
		version, statement, resource string
		context                      Context
		want                         Decision
	}{
		"fills in a variable":                         {"", home, "arn:aws:s3:::bucket/ann/x", ann, Allowed},
		"keeps others out":                            {"", home, "arn:aws:s3:::bucket/bob/x", ann, ImplicitDeny},
		"matches nothing without the key":             {"", home, "arn:aws:s3:::bucket/ann/x", nil, ImplicitDeny},
		"has no value for a key of several":           {"", home, "arn:aws:s3:::bucket/ann/x", Context{"aws:username": {"ann", "bob"}}, ImplicitDeny},
		"takes a * of the value as a star":            {"", home, "arn:aws:s3:::bucket/bob/x", Context{"aws:username": {"*"}}, ImplicitDeny},
		"finds the star itself":                       {"", home, "arn:aws:s3:::bucket/*/x", Context{"aws:username": {"*"}}, Allowed},
		"fills in nothing before 2012-10-17":          {"2008-10-17", home, "arn:aws:s3:::bucket/ann/x", ann, ImplicitDeny},
		"takes the text itself before 2012-10-17":     {"2008-10-17", strings.ReplaceAll(home, "/*", "/x"), "arn:aws:s3:::bucket/${aws:username}/x", ann, Allowed},
		"uses the value before the default":           {"", team, "arn:aws:s3:::bucket/data/x", Context{"aws:principaltag/team": {"data"}}, Allowed},
		"uses the default without the key":            {"", team, "arn:aws:s3:::bucket/company-wide/x", nil, Allowed},
		"does not use the default with the key":       {"", team, "arn:aws:s3:::bucket/company-wide/x", Context{"aws:principaltag/team": {"data"}}, ImplicitDeny},
		"fills in an empty value":                     {"", home, "arn:aws:s3:::bucket//x", Context{"aws:username": {""}}, Allowed},
		"fills in a condition":                        {"", condition("StringLike", "home/${aws:username}/*"), objectARN, Context{"aws:username": {"ann"}, "s3:prefix": {"home/ann/x"}}, Allowed},
		"fills in StringEqualsIgnoreCase":             {"", condition("StringEqualsIgnoreCase", "home/${aws:username}"), objectARN, Context{"aws:username": {"ann"}, "s3:prefix": {"HOME/Ann"}}, Allowed},
		"fills in a number":                           {"", condition("NumericLessThan", "${aws:username}"), objectARN, Context{"aws:username": {"9"}, "s3:prefix": {"8"}}, Allowed},
		"fails a condition without the key":           {"", condition("StringEquals", "${aws:username}"), objectARN, Context{"s3:prefix": {"${aws:username}"}}, ImplicitDeny},
		"fails a negated condition without the key":   {"", condition("StringNotEquals", "${aws:username}"), objectARN, Context{"s3:prefix": {"x"}}, ImplicitDeny},
		"reads ${*} as a star":                        {"", condition("StringLike", "a${*}"), objectARN, Context{"s3:prefix": {"a*"}}, Allowed},
		"does not read ${*} as a wildcard":            {"", condition("StringLike", "a${*}"), objectARN, Context{"s3:prefix": {"ab"}}, ImplicitDeny},
		"reads ${?} as a question mark":               {"", condition("StringLike", "a${?}"), objectARN, Context{"s3:prefix": {"a?"}}, Allowed},
		"reads ${$} as a dollar":                      {"", condition("StringEquals", "a${$}"), objectARN, Context{"s3:prefix": {"a$"}}, Allowed},
		"compares the key of a variable without case": {"", strings.ReplaceAll(home, "aws:username", "AWS:UserName"), "arn:aws:s3:::bucket/ann/x", ann, Allowed},
		"leaves NotResource without a value alone":    {"", strings.ReplaceAll(home, `"Resource"`, `"NotResource"`), "arn:aws:s3:::bucket/ann/x", nil, ImplicitDeny},
		"applies NotResource with a value":            {"", strings.ReplaceAll(home, `"Resource"`, `"NotResource"`), "arn:aws:s3:::bucket/bob/x", ann, Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			version := c.version
			if version == "" {
				version = "2012-10-17"
			}
			p := Policies{Identity: []*Document{versionDoc(t, version, c.statement)}}
			r := &Request{Principal: aUser, Action: "s3:GetObject", Resource: c.resource, Context: c.context}
			if got := decide(t, p, r); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	statement := func(change func(*Statement)) *Document {
		s := Statement{Effect: Allow, Action: []string{"s3:*"}, Resource: []string{"*"}}
		change(&s)
		return &Document{Name: "d", Version: "2012-10-17", Statements: []Statement{s}}
	}
	for name, p := range map[string]Policies{
		"an identity policy with a Principal":   {Identity: []*Document{statement(func(s *Statement) { s.Principal = &Principals{Any: true} })}},
		"a resource policy without a Principal": {Resource: statement(func(*Statement) {})},
		"a boundary without a Resource":         {Boundary: statement(func(s *Statement) { s.Resource = nil })},
		"a statement without an Action":         {Identity: []*Document{statement(func(s *Statement) { s.Action = nil })}},
		"both Action and NotAction":             {Identity: []*Document{statement(func(s *Statement) { s.NotAction = s.Action })}},
		"both Resource and NotResource":         {SCP: [][]*Document{{statement(func(s *Statement) { s.NotResource = s.Resource })}}},
		"a statement without an Effect":         {Session: []*Document{statement(func(s *Statement) { s.Effect = "" })}},
		"an operator that IAM does not know": {Identity: []*Document{statement(func(s *Statement) {
			s.Condition = []Condition{{Operator: "StringMatches", Key: "aws:username", Values: []string{"a"}}}
		})}},
		"Null with IfExists": {Identity: []*Document{statement(func(s *Statement) {
			s.Condition = []Condition{{Operator: "NullIfExists", Key: "aws:username", Values: []string{"true"}}}
		})}},
		"a network that is none": {Identity: []*Document{statement(func(s *Statement) {
			s.Condition = []Condition{{Operator: "NotIpAddress", Key: "aws:SourceIp", Values: []string{"10.0.0.0/33"}}}
		})}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Compile(p); !errors.Is(err, ErrCompile) {
				t.Errorf("got %v, want ErrCompile", err)
			}
		})
	}
}
