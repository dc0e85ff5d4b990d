package awsidentity

import (
	"errors"
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Credentials are a key to sign with.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string    // empty for a long-lived key
	Expires         time.Time // zero for a long-lived key
	ARN             string    // of the caller they make
}

// AccountOptions of an account.
type AccountOptions struct {
	Partition     string // the service's own by default
	Administrator string // the administrator's user name, "administrator" by default
	// Key is the administrator's, made elsewhere; one is made up where it is
	// the zero Credentials. Only its two halves are read.
	Key Credentials
}

// CreateAccount makes an account with an administrator who has a key and
// AdministratorAccess. Where both are there already, after a restart, it
// returns the key that there is, or that of the options.
func (s *Service) CreateAccount(id string, o AccountOptions) (Credentials, error) {
	if !accountClass.MatchString(id) {
		return Credentials{}, fmt.Errorf("account id %q is not twelve digits", id)
	}
	if o.Partition == "" {
		o.Partition = s.partition
	}
	if o.Administrator == "" {
		o.Administrator = "administrator"
	}
	var out Credentials
	err := s.update(func(tx *bolt.Tx) error {
		v := s.seeding(tx)
		acc, err := get[account](v, id, accountsOf, id)
		if absent(err) {
			acc, err = &account{ID: id, Partition: o.Partition}, nil
			if err := put(v, id, accountsOf, id, acc); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if acc.Partition != o.Partition {
			return fmt.Errorf("account %s is in partition %s already, not %s", id, acc.Partition, o.Partition)
		}
		u, err := get[user](v, id, users, index(o.Administrator))
		if absent(err) {
			userID, err2 := newID(s.random, "AIDA")
			if err2 != nil {
				return err2
			}
			u, err = &user{principal{
				Name: o.Administrator, ID: userID, Path: "/", Created: v.now,
				ARN:      "arn:" + acc.Partition + ":iam::" + id + ":user/" + o.Administrator,
				Attached: []string{"arn:" + acc.Partition + ":iam::aws:policy/AdministratorAccess"},
			}}, nil
			if err := put(v, id, users, index(u.Name), u); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		out.ARN = u.ARN
		if o.Key.AccessKeyID != "" {
			out.AccessKeyID, out.SecretAccessKey = o.Key.AccessKeyID, o.Key.SecretAccessKey
			return importKey(v, id, u, o.Key)
		}
		keys, err := keysOfUser(v, u)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if key.Status == "Active" {
				out.AccessKeyID, out.SecretAccessKey = key.ID, key.Secret
				return nil
			}
		}
		key, err := makeKey(s, v, id, u)
		if err != nil {
			return err
		}
		out.AccessKeyID, out.SecretAccessKey = key.ID, key.Secret
		return nil
	})
	if err != nil {
		return Credentials{}, fmt.Errorf("making account %s: %w", id, err)
	}
	return out, nil
}

func keysOfUser(v *view, u *user) ([]*accessKey, error) {
	var out []*accessKey
	err := each(v, "", accessKeys, func(_ string, key *accessKey) error {
		if key.UserID == u.ID {
			out = append(out, key)
		}
		return nil
	})
	return out, err
}

func makeKey(s *Service, v *view, accountID string, u *user) (*accessKey, error) {
	id, err := newID(s.random, "AKIA")
	if err != nil {
		return nil, err
	}
	secret, err := newSecret(s.random, 30)
	if err != nil {
		return nil, err
	}
	key := &accessKey{ID: id, Secret: secret, Account: accountID, User: u.Name, UserID: u.ID, Status: "Active", Created: v.now}
	return key, put(v, "", accessKeys, id, key)
}

// importKey keeps a key that was made elsewhere.
func importKey(v *view, accountID string, u *user, key Credentials) error {
	if have, err := get[accessKey](v, "", accessKeys, key.AccessKeyID); err == nil && have.UserID != u.ID {
		return fmt.Errorf("the access key %s is another user's", key.AccessKeyID)
	} else if err != nil && !absent(err) {
		return err
	}
	return put(v, "", accessKeys, key.AccessKeyID, &accessKey{ID: key.AccessKeyID, Secret: key.SecretAccessKey,
		Account: accountID, User: u.Name, UserID: u.ID, Status: "Active", Created: v.now})
}

// Role is what SeedRole makes.
type Role struct {
	Name     string
	Path     string            // "/" by default
	Trust    string            // a document; the account's root by default
	Inline   map[string]string // policy name to document
	Attached []string          // ARNs
}

// SeedRole makes a role that a test or the demo starts from, visible at once,
// checked as CreateRole would, and returns its ARN. A role that is there already
// stays as it is.
func (s *Service) SeedRole(accountID string, r Role) (string, error) {
	var arn string
	err := s.update(func(tx *bolt.Tx) error {
		v := s.seeding(tx)
		acc, err := get[account](v, accountID, accountsOf, accountID)
		if err != nil {
			return err
		}
		caller := s.accountCaller(acc)
		if r.Trust == "" {
			r.Trust = fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":%q},"Action":"sts:AssumeRole"}]}`, caller.ARN)
		}
		c := &call{s: s, now: v.now, caller: caller, account: accountID, view: v, p: params{
			"RoleName": r.Name, "Path": rootPath(r.Path), "AssumeRolePolicyDocument": r.Trust,
		}}
		if have, err := c.role(); err == nil {
			arn = have.ARN
			return nil
		}
		if _, err := c.createRole(); err != nil {
			return err
		}
		for name, text := range r.Inline {
			c.p = params{"RoleName": r.Name, "PolicyName": name, "PolicyDocument": text}
			if _, err := c.putRolePolicy(); err != nil {
				return err
			}
		}
		for _, policyARN := range r.Attached {
			c.p = params{"RoleName": r.Name, "PolicyArn": policyARN}
			if _, err := c.attachRolePolicy(); err != nil {
				return err
			}
		}
		arn = c.arnOf("role" + rootPath(r.Path) + r.Name)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("making role %s of account %s: %w", r.Name, accountID, err)
	}
	return arn, nil
}

// Session issues credentials of a role with nobody's trust asked, as a service
// of AWS would get them: for profiles of the double, and for pods. The session
// is not a chained one.
func (s *Service) Session(roleARN, sessionName string, length time.Duration) (Credentials, error) {
	if !sessionNameClass.MatchString(sessionName) || len(sessionName) < 2 || len(sessionName) > 64 {
		return Credentials{}, fmt.Errorf("session name %q is not 2 to 64 of letters, digits and +=,.@_-", sessionName)
	}
	var out Credentials
	err := s.db.Update(func(tx *bolt.Tx) error {
		v := s.seeding(tx)
		r, accountID, err := roleByARN(v, roleARN)
		if err != nil {
			return err
		}
		c := &call{s: s, now: v.now, view: v}
		one := &session{Account: accountID, Role: r.Name, RoleID: r.ID, Name: sessionName}
		if err := c.issue(one, int(length/time.Second)); err != nil {
			return err
		}
		out = Credentials{one.AccessKeyID, one.Secret, one.Token, one.Expires, assumed(r, one).Arn}
		return nil
	})
	if errors.Is(err, errAbsent) {
		return Credentials{}, fmt.Errorf("no role %s to make a session of", strings.TrimSpace(roleARN))
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("making a session of %s: %w", roleARN, err)
	}
	return out, nil
}
