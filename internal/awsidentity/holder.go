package awsidentity

import (
	"crypto/subtle"
	"errors"
	"maps"
	"time"

	bolt "go.etcd.io/bbolt"

	"biplane.dev/biplane/internal/sigv4"
	"biplane.dev/biplane/provision/iampolicy"
)

// Why there is no Holder of an access key and a session token. Services word
// these differently, each with codes of its own.
var (
	ErrNoSuchKey    = errors.New("no such access key") // or it is inactive, or whose it was is gone
	ErrBadToken     = errors.New("the session token is not the one of the access key")
	ErrTokenExpired = errors.New("the session is over")
)

// Holder is whose an access key is, with all that a service in another process
// has to know to decide as this one would: Decide and Explain of an Evaluator
// that Compile made, on requests that Complete completed. There is no secret in
// it. It is true until something is written, see Options.Written, or until
// Expires.
type Holder struct {
	Type      CallerType
	Account   string
	Partition string
	ARN       string // as GetCallerIdentity gives it
	UserID    string
	RoleARN   string            `json:",omitempty"` // of a role's session
	Expires   time.Time         `json:",omitzero"`  // of a session
	Keys      iampolicy.Context // condition keys that come from who it is
	Grants    Grants
}

// Holder finds whose an access key is. token is the session's; "" for a
// long-lived key. The error is one of the three above where it is the caller's.
func (s *Service) Holder(accessKeyID, token string) (*Holder, error) {
	holder, _, err := s.holder(accessKeyID, token)
	return holder, err
}

// SigningKey is Holder, with the key that checks the signatures of one day,
// region and service. date is as in a signature's scope: 20260131.
func (s *Service) SigningKey(accessKeyID, token, date, region, service string) ([]byte, *Holder, error) {
	holder, secret, err := s.holder(accessKeyID, token)
	if err != nil {
		return nil, nil, err
	}
	return sigv4.SigningKey(secret, date, region, service), holder, nil
}

// KnownKey says what ARN an access key has, without a proof that the asker
// holds it, and whether it is a session's. ok is false for a key that would not
// be accepted.
func (s *Service) KnownKey(accessKeyID string) (arn string, session, ok bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		v := s.visible(tx)
		caller, _, err := s.lookUp(v, accessKeyID)
		if err != nil {
			return err
		}
		arn, session = caller.ARN, caller.session != nil
		ok = !session || !v.now.After(caller.Expires)
		return nil
	})
	if errors.Is(err, ErrNoSuchKey) {
		err = nil
	}
	return arn, session, ok, err
}

func (s *Service) holder(accessKeyID, token string) (holder *Holder, secret string, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		v := s.visible(tx)
		var caller *Caller
		if caller, secret, err = s.lookUp(v, accessKeyID); err != nil {
			return err
		}
		switch one := caller.session; {
		case one == nil && token != "":
			return ErrBadToken
		case one != nil && token == "":
			return ErrNoSuchKey // as S3 has it: the key alone is no credential
		case one != nil && subtle.ConstantTimeCompare([]byte(one.Token), []byte(token)) != 1:
			return ErrBadToken
		case one != nil && v.now.After(one.Expires):
			return ErrTokenExpired
		}
		texts, tags, err := s.policiesOf(v, caller)
		if err != nil {
			return err
		}
		holder = &Holder{
			Type: caller.Type, Account: caller.Account, Partition: caller.Partition, ARN: caller.ARN, UserID: caller.UserID,
			Expires: caller.Expires, Keys: s.keysOf(caller, nil), Grants: texts,
		}
		if caller.Type == RoleCaller {
			holder.RoleARN = caller.PrincipalARN
		}
		tagKeys(holder.Keys, "aws:PrincipalTag/", tags)
		return nil
	})
	return holder, secret, err
}

// lookUp finds whose a key is, whatever it is presented with.
func (s *Service) lookUp(v *view, accessKeyID string) (caller *Caller, secret string, err error) {
	caller = &Caller{AccessKeyID: accessKeyID}
	one, err := get[session](v, "", sessions, accessKeyID)
	if err == nil {
		err = fillSession(v, caller, one)
		secret = one.Secret
	} else if absent(err) {
		var key *accessKey
		if key, err = get[accessKey](v, "", accessKeys, accessKeyID); err == nil {
			if key.Status != "Active" {
				return nil, "", ErrNoSuchKey
			}
			err = fillUser(v, caller, key.Account, key.User, key.UserID)
			secret = key.Secret
		}
	}
	var refused *Error
	if absent(err) || errors.As(err, &refused) {
		return nil, "", ErrNoSuchKey
	}
	return caller, secret, err
}

// Compile makes the holder's policies ready to decide by, with the policy on
// the resource where there is one (else nil).
func (h *Holder) Compile(resource *iampolicy.Document) (*iampolicy.Evaluator, error) {
	return compile(h.Grants, resource)
}

// CompileWithoutSession leaves the session's policies out, and
// CompileSession the others: for who combines the two himself.
func (h *Holder) CompileWithoutSession() (*iampolicy.Evaluator, error) {
	return compile(Grants{Identity: h.Grants.Identity, Boundary: h.Grants.Boundary, SCP: h.Grants.SCP}, nil)
}

// CompileSession returns nil where no session policy was passed.
func (h *Holder) CompileSession() (*iampolicy.Evaluator, error) {
	if !h.Grants.Restricted {
		return nil, nil
	}
	return compile(Grants{Identity: h.Grants.Session}, nil)
}

// Complete adds who asks and when to a request that says what is asked, of
// which resource, and in its context how. What the context says of the holder
// does not count.
func (h *Holder) Complete(req *iampolicy.Request, now time.Time) {
	who := iampolicy.Principal{Type: iampolicy.AWS, ARN: h.ARN, Account: h.Account, RoleARN: h.RoleARN}
	complete(req, who, maps.Clone(h.Keys), now)
}

// PrincipalExists says whether a policy on a resource may name an ARN or an
// account: AWS refuses to store a policy with a principal that is not there.
// What belongs to an account that this service does not have is taken as it is.
func (s *Service) PrincipalExists(principal string) (exists bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		_, err := namedPrincipal(s.visible(tx), principal)
		return err
	})
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	return err == nil, err
}
