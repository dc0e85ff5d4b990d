package awsidentity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"biplane.dev/biplane/provision/iampolicy"
)

// maxChained is the longest session that a session may get.
const maxChained = 3600

type xmlCredentials struct {
	AccessKeyId     string
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

type xmlAssumed struct {
	AssumedRoleId string
	Arn           string
}

func showCredentials(one *session) xmlCredentials {
	return xmlCredentials{one.AccessKeyID, one.Secret, one.Token, stamp(one.Expires)}
}

func (c *call) getCallerIdentity() (any, error) {
	return struct{ Arn, UserId, Account string }{c.caller.ARN, c.caller.UserID, c.caller.Account}, nil
}

func (c *call) getAccessKeyInfo() (any, error) {
	id := c.p.get("AccessKeyId")
	if len(id) < 16 || len(id) > 128 {
		return nil, errInvalid("1 validation error detected: Value '%s' at 'accessKeyId' failed to satisfy constraint: Member must have length between 16 and 128", printable(id))
	}
	if key, err := get[accessKey](c.view, "", accessKeys, id); err == nil {
		return struct{ Account string }{key.Account}, nil
	} else if !absent(err) {
		return nil, err
	}
	one, err := get[session](c.view, "", sessions, id)
	if absent(err) {
		return nil, errInvalid("Invalid access key id: %s", id)
	}
	if err != nil {
		return nil, err
	}
	return struct{ Account string }{one.Account}, nil
}

// getSessionToken needs no permission, but only a user's own key may ask.
func (c *call) getSessionToken() (any, error) {
	if c.caller.session != nil {
		return nil, errDenied("Cannot call GetSessionToken with session credentials")
	}
	seconds, err := c.p.whole("DurationSeconds", 43200, 900, 129600)
	if err != nil {
		return nil, err
	}
	if c.p.has("SerialNumber") || c.p.has("TokenCode") {
		return nil, errDenied("MultiFactorAuthentication failed with invalid MFA one time pass code.")
	}
	one := &session{Account: c.account, User: c.caller.UserName, UserID: c.caller.UserID}
	if err := c.issue(one, seconds); err != nil {
		return nil, err
	}
	return struct{ Credentials xmlCredentials }{showCredentials(one)}, nil
}

// assumption is what AssumeRole and AssumeRoleWithWebIdentity have in common.
type assumption struct {
	roleARN     string
	sessionName string
	seconds     int
	policy      string
	policyARNs  []string
	packed      int // per cent of what session policies and tags may take
}

var sessionNameClass = regexp.MustCompile(`^[\w+=,.@-]*$`)

func (c *call) assumption() (assumption, error) {
	a := assumption{roleARN: c.p.get("RoleArn"), sessionName: c.p.get("RoleSessionName")}
	var err error
	if a.roleARN, err = c.stsText("RoleArn", 20, 2048, nil); err != nil {
		return a, err
	}
	if a.sessionName, err = c.stsText("RoleSessionName", 2, 64, sessionNameClass); err != nil {
		return a, err
	}
	if a.seconds, err = c.p.whole("DurationSeconds", 3600, 900, 43200); err != nil {
		return a, err
	}
	if fields := strings.SplitN(a.roleARN, ":", 6); len(fields) != 6 || fields[0] != "arn" || fields[2] != "iam" || !strings.HasPrefix(fields[5], "role/") {
		return a, errInvalid("%s is invalid", printable(a.roleARN))
	}
	return a, nil
}

// stsText reads a text parameter that has to be there.
func (c *call) stsText(parameter string, low, high int, class *regexp.Regexp) (string, error) {
	value, ok := c.p[parameter]
	switch n := utf8.RuneCountInString(value); {
	case !ok:
		return "", errInvalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", field(parameter))
	case n < low:
		return "", errConstraint(value, field(parameter), fmt.Sprintf("Member must have length greater than or equal to %d", low))
	case n > high:
		return "", errConstraint(value, field(parameter), fmt.Sprintf("Member must have length less than or equal to %d", high))
	case class != nil && !class.MatchString(value):
		pattern := strings.TrimSuffix(strings.TrimPrefix(class.String(), "^"), "$")
		return "", errConstraint(value, field(parameter), "Member must satisfy regular expression pattern: "+pattern)
	}
	return value, nil
}

// sessionPolicies reads Policy and PolicyArns, which narrow the session.
func (c *call) sessionPolicies(a *assumption, roleAccount string, tags []Tag) error {
	text := c.p.get("Policy")
	length := utf8.RuneCountInString(text)
	if c.p.has("Policy") {
		if text == "" {
			return errConstraint(text, "policy", "Member must have length greater than or equal to 1")
		}
		if length > maxSessionPolicy {
			return errConstraint(text, "policy", fmt.Sprintf("Member must have length less than or equal to %d", maxSessionPolicy))
		}
		if _, err := checkDocument(text, false); err != nil {
			return err
		}
		a.policy = text
	}
	for i := 1; ; i++ {
		arn, ok := c.p[fmt.Sprintf("PolicyArns.member.%d.arn", i)]
		if !ok {
			break
		}
		if i > 10 {
			return errInvalid("1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have length less than or equal to 10")
		}
		if _, err := c.s.managedPolicy(c.view, roleAccount, arn); absent(err) {
			return errMalformed("The policy %s does not exist or is not attachable.", printable(arn))
		} else if err != nil {
			return err
		}
		a.policyARNs = append(a.policyARNs, arn)
		length += len(arn)
	}
	for _, tag := range tags {
		length += len(tag.Key) + len(tag.Value)
	}
	// How AWS packs is not published; what is known is that a policy of the
	// full length alone fits. Here a character counts as one of 4,096.
	a.packed = (length*100 + 4095) / 4096
	if a.packed > 100 {
		return refuse(http.StatusBadRequest, "PackedPolicyTooLarge", "Serialized token too large for session: %d%% of the allowed size", a.packed)
	}
	return nil
}

// assumeRole gives a session of a role. A role that is not there and one that
// does not trust the caller are answered alike.
func (c *call) assumeRole() (any, error) {
	a, err := c.assumption()
	if err != nil {
		return nil, err
	}
	keys := iampolicy.Context{}
	keys.Set("sts:RoleSessionName", a.sessionName)
	if c.p.has("ExternalId") {
		id, err := c.stsText("ExternalId", 2, 1224, externalIDClass)
		if err != nil {
			return nil, err
		}
		keys.Set("sts:ExternalId", id)
	}
	tags := c.p.tags("Tags")
	if err := checkTags(tags, maxTags); err != nil {
		return nil, err
	}
	transitive := c.p.list("TransitiveTagKeys")
	sourceIdentity := ""
	if c.p.has("SourceIdentity") {
		if sourceIdentity, err = c.stsText("SourceIdentity", 2, 64, sessionNameClass); err != nil {
			return nil, err
		}
		keys.Set("sts:SourceIdentity", sourceIdentity)
	}
	if one := c.caller.session; one != nil {
		// What an earlier session passed on comes along and may not be changed.
		if one.SourceIdentity != "" {
			if sourceIdentity != "" && sourceIdentity != one.SourceIdentity {
				return nil, errDenied("Cannot change the source identity of the session.")
			}
			sourceIdentity = one.SourceIdentity
			keys.Set("sts:SourceIdentity", sourceIdentity)
		}
		for _, tag := range one.Tags {
			if !slices.Contains(one.Transitive, tag.Key) {
				continue
			}
			if slices.ContainsFunc(tags, func(t Tag) bool { return strings.EqualFold(t.Key, tag.Key) }) {
				return nil, refuse(http.StatusBadRequest, "InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
			}
			tags = append(tags, tag)
			transitive = append(transitive, tag.Key)
		}
	}
	for _, name := range transitive {
		if !slices.ContainsFunc(tags, func(t Tag) bool { return t.Key == name }) {
			return nil, refuse(http.StatusBadRequest, "InvalidParameterValue", "The specified transitive tag key must be included in the requested tags: %s", printable(name))
		}
	}
	setRequestTags(tags, keys)
	if len(transitive) > 0 {
		keys.Set("sts:TransitiveTagKeys", transitive...)
	}

	refused := func(action string) error {
		return errDenied("User: %s is not authorized to perform: %s on resource: %s", c.caller.ARN, action, a.roleARN)
	}
	visible := c.s.visible(c.view.tx)
	r, accountID, err := roleByARN(visible, a.roleARN)
	// Partitions share nothing, account numbers included.
	if absent(err) || err == nil && !strings.HasPrefix(r.ARN, "arn:"+c.caller.Partition+":") {
		return nil, refused("sts:AssumeRole")
	}
	if err != nil {
		return nil, err
	}
	trust, err := trustOf(visible, r)
	if err != nil {
		return nil, err
	}
	tagKeys(keys, "aws:ResourceTag/", r.Tags)
	tagKeys(keys, "iam:ResourceTag/", r.Tags)
	actions := []string{"sts:AssumeRole"}
	if len(tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if sourceIdentity != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	for _, action := range actions {
		req := request(action, r.ARN, keys)
		req.ResourceAccount = accountID
		e, full, err := c.s.evaluator(visible, c.caller, req, trust)
		if err != nil {
			return nil, err
		}
		if e.Decide(&full) != iampolicy.Allowed {
			return nil, refused(action)
		}
	}

	if a.seconds > r.MaxSession {
		return nil, errInvalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	if c.caller.Type == RoleCaller && a.seconds > maxChained {
		return nil, errInvalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if err := c.sessionPolicies(&a, accountID, tags); err != nil {
		return nil, err
	}
	one := &session{
		Account: accountID, Role: r.Name, RoleID: r.ID, Name: a.sessionName, Policy: a.policy, PolicyARNs: a.policyARNs,
		Tags: tags, Transitive: transitive, SourceIdentity: sourceIdentity,
	}
	if err := c.issue(one, a.seconds); err != nil {
		return nil, err
	}
	return struct {
		Credentials      xmlCredentials
		AssumedRoleUser  xmlAssumed
		PackedPolicySize *int   `xml:",omitempty"`
		SourceIdentity   string `xml:",omitempty"`
	}{showCredentials(one), assumed(r, one), packedSize(a), sourceIdentity}, nil
}

func packedSize(a assumption) *int {
	if a.packed == 0 {
		return nil
	}
	return &a.packed
}

func assumed(r *role, one *session) xmlAssumed {
	partition, _, _ := strings.Cut(strings.TrimPrefix(r.ARN, "arn:"), ":")
	return xmlAssumed{r.ID + ":" + one.Name, "arn:" + partition + ":sts::" + one.Account + ":assumed-role/" + r.Name + "/" + one.Name}
}

// roleByARN finds a role of any account.
func roleByARN(v *view, arn string) (*role, string, error) {
	fields := strings.SplitN(arn, ":", 6)
	if len(fields) != 6 || fields[2] != "iam" || fields[3] != "" || !strings.HasPrefix(fields[5], "role/") {
		return nil, "", errAbsent
	}
	r, err := get[role](v, fields[4], roles, index(nameOf(fields[5])))
	if err != nil {
		return nil, "", err
	}
	if r.ARN != arn {
		return nil, "", errAbsent
	}
	return r, fields[4], nil
}

// trustOf is a role's trust policy for the engine. A principal that is gone is
// in it by its id, which no caller has for an ARN. This is done to the parsed
// document, because JSON can spell one ARN in many ways.
func trustOf(v *view, r *role) (*iampolicy.Document, error) {
	d, err := iampolicy.Parse("trust policy of "+r.Name, []byte(r.Trust))
	if err != nil {
		return nil, fmt.Errorf("reading the trust policy of %s: %w", r.ARN, err)
	}
	gone, err := goneFromTrust(v, r)
	if err != nil {
		return nil, err
	}
	for _, one := range d.Statements {
		for _, named := range []*iampolicy.Principals{one.Principal, one.NotPrincipal} {
			if named == nil {
				continue
			}
			for i, arn := range named.AWS {
				if id, ok := gone[arn]; ok {
					named.AWS[i] = id
				}
			}
		}
	}
	return d, nil
}

// issue makes the credentials of a session and stores it. It also forgets
// sessions that expired more than a day ago; until then their holder is told
// ExpiredToken.
func (c *call) issue(one *session, seconds int) error {
	id, err := newID(c.s.random, "ASIA")
	if err != nil {
		return err
	}
	secret, err := newSecret(c.s.random, 30)
	if err != nil {
		return err
	}
	token, err := newSecret(c.s.random, 180)
	if err != nil {
		return err
	}
	one.AccessKeyID, one.Secret, one.Token = id, secret, "IQoJb3JpZ2luX2Vj"+token
	one.Issued = c.now.Truncate(time.Second)
	one.Expires = one.Issued.Add(duration(seconds))
	return storeSession(c.view, one)
}

func storeSession(v *view, one *session) error {
	direct := *v
	direct.delay = 0 // sessions work at once
	if err := put(&direct, "", sessions, one.AccessKeyID, one); err != nil {
		return err
	}
	b := v.tx.Bucket([]byte(expiries))
	if err := b.Put([]byte(one.Expires.UTC().Format(time.RFC3339)+" "+one.AccessKeyID), nil); err != nil {
		return err
	}
	limit := v.now.Add(-24 * time.Hour).UTC().Format(time.RFC3339)
	var old []string
	cursor := b.Cursor()
	for key, _ := cursor.First(); key != nil && string(key) < limit && len(old) < 100; key, _ = cursor.Next() {
		old = append(old, string(key))
	}
	for _, key := range old {
		_, id, _ := strings.Cut(key, " ")
		if err := errors.Join(b.Delete([]byte(key)), put[session](&direct, "", sessions, id, nil)); err != nil {
			return err
		}
	}
	return nil
}

func newSecret(random io.Reader, n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("reading random bytes for a secret: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b), nil
}
