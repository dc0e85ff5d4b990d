package awsidentity

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"biplane.dev/biplane/internal/sigv4"
	"biplane.dev/biplane/provision/iampolicy"
)

// maxBody bounds the body of a request to IAM, STS, or any service whose
// requests are signed over the whole body.
const maxBody = 1 << 20

// Caller is who signed a request.
type Caller struct {
	Type      CallerType
	Account   string
	Partition string
	ARN       string // as GetCallerIdentity gives it
	UserID    string // AIDA…, or AROA…:session

	// PrincipalARN is the ARN of the role or the user behind the caller, the
	// value of aws:PrincipalArn.
	PrincipalARN string
	UserName     string // of a user and a user's session
	RoleName     string // of a role's session
	SessionName  string

	AccessKeyID string
	Region      string // of the signature
	Service     string // of the signature
	Signature   *sigv4.Signed

	Issued         time.Time // of a session; zero for a long-lived key
	Expires        time.Time
	SourceIdentity string

	session *session // nil for a long-lived key
	keys    iampolicy.Context
	watch   func(iampolicy.Request, iampolicy.Decision) // nil for nobody
}

// CallerType is the value of aws:PrincipalType.
type CallerType string

// The types that callers of this service have. Account is the account itself,
// which seeding acts as; no key signs for it.
const (
	UserCaller    CallerType = "User"
	RoleCaller    CallerType = "AssumedRole"
	AccountCaller CallerType = "Account"
)

// Authenticate finds who signed r, by header or query, and checks the signature.
// The body may be read afterwards: that of a service other than S3 has been
// read, up to 1 MiB, and put back; that of S3 is checked while it is read.
// An error is an *Error with AWS's code, unless the store fails.
func (s *Service) Authenticate(r *http.Request) (*Caller, error) {
	signed, err := sigv4.Parse(r)
	if err != nil {
		answer, _ := asError(err)
		return nil, answer
	}
	var caller *Caller
	err = s.db.View(func(tx *bolt.Tx) error {
		caller, err = s.resolve(s.visible(tx), signed)
		return err
	})
	if err != nil {
		return nil, err
	}
	caller.keys = s.keysOf(caller, r)
	caller.watch = watcher(r.Context())
	return caller, nil
}

// OnBehalf is the holder of an access key as one of AWS's services acts for them,
// such as cloudformation.amazonaws.com: what they may do is decided by their own
// policies, with aws:CalledVia among the keys. The key has to be in force still;
// that its holder asked for it, the service has to know.
func (s *Service) OnBehalf(accessKeyID, service string) (*Caller, error) {
	caller := &Caller{AccessKeyID: accessKeyID}
	err := s.db.View(func(tx *bolt.Tx) error {
		v := s.visible(tx)
		one, err := get[session](v, "", sessions, accessKeyID)
		if err == nil {
			return fillActive(v, caller, one)
		}
		if !errors.Is(err, errAbsent) {
			return err
		}
		key, err := get[accessKey](v, "", accessKeys, accessKeyID)
		if errors.Is(err, errAbsent) || err == nil && key.Status != "Active" {
			return errBadToken()
		}
		if err != nil {
			return err
		}
		return fillUser(v, caller, key.Account, key.User, key.UserID)
	})
	if err != nil {
		return nil, err
	}
	caller.keys = s.keysOf(caller, nil)
	caller.keys.Set("aws:ViaAWSService", "true")
	for _, name := range []string{"aws:CalledVia", "aws:CalledViaFirst", "aws:CalledViaLast"} {
		caller.keys.Set(name, service)
	}
	return caller, nil
}

type watchKey struct{}

// Watch returns a context for a request whose decisions somebody wants to see: all
// that Authorize, and the operations of IAM and STS, decide about its caller, each
// complete with the keys of the caller and the time.
func Watch(ctx context.Context, tell func(iampolicy.Request, iampolicy.Decision)) context.Context {
	return context.WithValue(ctx, watchKey{}, tell)
}

func watcher(ctx context.Context) func(iampolicy.Request, iampolicy.Decision) {
	tell, _ := ctx.Value(watchKey{}).(func(iampolicy.Request, iampolicy.Decision))
	return tell
}

// resolve checks the signature with the secret of its key before it says
// anything about the key's state, so that only its holder learns of it.
func (s *Service) resolve(v *view, signed *sigv4.Signed) (*Caller, error) {
	caller := &Caller{AccessKeyID: signed.AccessKeyID, Region: signed.Region, Service: signed.Service, Signature: signed}
	if one, err := get[session](v, "", sessions, signed.AccessKeyID); err == nil {
		if err := s.verify(signed, one.Secret); err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare([]byte(one.Token), []byte(signed.SessionToken)) != 1 {
			return nil, errBadToken()
		}
		return caller, fillActive(v, caller, one)
	} else if !errors.Is(err, errAbsent) {
		return nil, err
	}

	key, err := get[accessKey](v, "", accessKeys, signed.AccessKeyID)
	if errors.Is(err, errAbsent) {
		return nil, errBadToken()
	}
	if err != nil {
		return nil, err
	}
	if err := s.verify(signed, key.Secret); err != nil {
		return nil, err
	}
	// A long-lived key has no token; one that comes with somebody's token is not
	// what it says.
	if key.Status != "Active" || signed.SessionToken != "" {
		return nil, errBadToken()
	}
	return caller, fillUser(v, caller, key.Account, key.User, key.UserID)
}

func (s *Service) verify(signed *sigv4.Signed, secret string) error {
	if err := signed.Verify(secret, s.now(), maxBody); err != nil {
		answer, internal := asError(err)
		if internal {
			return err
		}
		return answer
	}
	return nil
}

// fillUser and fillSession return InvalidClientTokenId when the user or the role
// is gone, or when another one has its name by now.
func fillUser(v *view, c *Caller, accountID, name, id string) error {
	acc, err := get[account](v, accountID, accountsOf, accountID)
	if err == nil {
		var u *user
		if u, err = get[user](v, accountID, users, index(name)); err == nil && u.ID == id {
			c.Type, c.Account, c.Partition = UserCaller, accountID, acc.Partition
			c.ARN, c.PrincipalARN, c.UserID, c.UserName = u.ARN, u.ARN, u.ID, u.Name
			return nil
		}
	}
	if err == nil || errors.Is(err, errAbsent) {
		return errBadToken()
	}
	return err
}

func fillActive(v *view, c *Caller, one *session) error {
	if v.now.After(one.Expires) {
		return refuse(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
	}
	return fillSession(v, c, one)
}

func fillSession(v *view, c *Caller, one *session) error {
	c.session, c.Issued, c.Expires, c.SourceIdentity = one, one.Issued, one.Expires, one.SourceIdentity
	if one.User != "" {
		return fillUser(v, c, one.Account, one.User, one.UserID)
	}
	acc, err := get[account](v, one.Account, accountsOf, one.Account)
	if err == nil {
		// The role is looked up in its newest state too: a session outlives a
		// deletion only as long as readers do not see it.
		var r *role
		if r, err = get[role](v, one.Account, roles, index(one.Role)); err == nil && r.ID == one.RoleID {
			c.Type, c.Account, c.Partition = RoleCaller, one.Account, acc.Partition
			c.ARN = "arn:" + acc.Partition + ":sts::" + one.Account + ":assumed-role/" + r.Name + "/" + one.Name
			c.PrincipalARN, c.UserID = r.ARN, r.ID+":"+one.Name
			c.RoleName, c.SessionName = r.Name, one.Name
			return nil
		}
	}
	if err == nil || errors.Is(err, errAbsent) {
		return errBadToken()
	}
	return err
}

// accountCaller is the account itself, for seeding.
func (s *Service) accountCaller(acc *account) *Caller {
	arn := "arn:" + acc.Partition + ":iam::" + acc.ID + ":root"
	c := &Caller{Type: AccountCaller, Account: acc.ID, Partition: acc.Partition, ARN: arn, PrincipalARN: arn, UserID: acc.ID}
	c.keys = s.keysOf(c, nil)
	return c
}

// keysOf gives the condition keys that come from the caller and from the request
// as such. r is nil for a call that did not come by HTTP.
//
// aws:SecureTransport is always true: the service stands where AWS's endpoints
// are, which speak nothing but TLS, and the loopback connection in front of it
// replaces that.
func (s *Service) keysOf(c *Caller, r *http.Request) iampolicy.Context {
	keys := iampolicy.Context{}
	keys.Set("aws:PrincipalArn", c.PrincipalARN)
	keys.Set("aws:PrincipalAccount", c.Account)
	keys.Set("aws:PrincipalType", string(c.Type))
	keys.Set("aws:userid", c.UserID)
	keys.Set("aws:PrincipalIsAWSService", "false")
	keys.Set("aws:ViaAWSService", "false")
	keys.Set("aws:SecureTransport", "true")
	if c.UserName != "" {
		keys.Set("aws:username", c.UserName)
	}
	if c.session != nil {
		keys.Set("aws:TokenIssueTime", c.session.Issued.Format(time.RFC3339))
		keys.Set("aws:MultiFactorAuthPresent", "false") // present for sessions only, and nobody here has a device
		if c.session.SourceIdentity != "" {
			keys.Set("aws:SourceIdentity", c.session.SourceIdentity)
		}
		if c.session.Provider != "" {
			keys.Set("aws:FederatedProvider", c.session.Provider)
		}
		for key, values := range c.session.Keys {
			keys.Set(key, values...)
		}
	}
	if c.Region != "" {
		keys.Set("aws:RequestedRegion", c.Region)
	}
	if r != nil {
		if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
			keys.Set("aws:SourceIp", host)
		}
		if agent := r.UserAgent(); agent != "" {
			keys.Set("aws:UserAgent", agent)
		}
		if referer := r.Referer(); referer != "" {
			keys.Set("aws:Referer", referer)
		}
	}
	return keys
}

// tagKeys sets prefix + key for every tag: aws:PrincipalTag/team.
func tagKeys(keys iampolicy.Context, prefix string, tags []Tag) {
	for _, tag := range tags {
		keys.Set(prefix+tag.Key, tag.Value)
	}
}

// principalOf is the caller as the policy engine sees it.
func principalOf(c *Caller) iampolicy.Principal {
	p := iampolicy.Principal{Type: iampolicy.AWS, ARN: c.ARN, Account: c.Account}
	if c.Type == RoleCaller {
		p.RoleARN = c.PrincipalARN
	}
	return p
}

// nameOf is the last part of an ARN's or a path's slashes.
func nameOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
