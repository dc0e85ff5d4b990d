package awsidentity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// kind is the name of a bucket. Objects of an account lie in
// accounts/<id>/<kind>; credentials, which are found before the account is
// known, in buckets of their own at the top.
type kind string

const (
	roles      kind = "roles"      // by name in lower case, as IAM compares them
	policies   kind = "policies"   // likewise
	users      kind = "users"      // likewise
	profiles   kind = "profiles"   // likewise
	providers  kind = "providers"  // by ARN
	accountsOf kind = "account"    // one object, by the account's id
	accessKeys kind = "accessKeys" // top: by access key id
	sessions   kind = "sessions"   // top: by access key id
	expiries   kind = "expiries"   // top: time and access key id, to find what has expired
)

// openStore opens the file, or one that is gone when the process is where file
// is empty. The file holds secret access keys, hence 0600.
func openStore(file string) (db *bolt.DB, remove func() error, err error) {
	cleanUp := func() error { return nil }
	options := &bolt.Options{Timeout: 2 * time.Second}
	if file == "" {
		dir, err := os.MkdirTemp("", "awsidentity-")
		if err != nil {
			return nil, nil, fmt.Errorf("making a directory for the identity store: %w", err)
		}
		cleanUp = func() error { return os.RemoveAll(dir) }
		file = filepath.Join(dir, "identity.db")
		options.NoSync = true
	}
	// The file is mapped into memory: reading a page that was cut off is a fault,
	// which is made a panic here, as bbolt makes of pages that are not in order.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the identity store %s is damaged (%v); move it away to start with an empty one", file, r)
		}
		if err != nil {
			cleanUp()
		}
	}()
	db, err = bolt.Open(file, 0o600, options)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, nil, fmt.Errorf("the identity store %s is in use by another process; stop that one or name another file: %w", file, err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("the identity store %s is damaged or not an identity store; move it away to start with an empty one: %w", file, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, fmt.Errorf("the identity store %s may not be opened by this user: %w", file, err)
	case err != nil:
		return nil, nil, fmt.Errorf("opening the identity store %s: %w", file, err)
	}
	if err := whole(db, file); err != nil {
		db.Close()
		return nil, nil, err
	}
	if err := os.Chmod(file, 0o600); err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("closing the identity store %s to others: %w", file, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"accounts", string(accessKeys), string(sessions), string(expiries)} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("preparing the identity store %s: %w", file, err)
	}
	return db, cleanUp, nil
}

// whole refuses a file that is shorter than it says, before a read finds out.
func whole(db *bolt.DB, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("looking at the identity store %s: %w", file, err)
	}
	return db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("the identity store %s is damaged (it has %d bytes of %d); move it away to start with an empty one", file, info.Size(), tx.Size())
		}
		return nil
	})
}

// errAbsent is what get returns for an object that is not there. Operations
// turn it into NoSuchEntity with the object's name.
var errAbsent = errors.New("no such object")

// view is the store within one transaction, as it was at a moment: asOf is now
// for a writer, and earlier by the consistency delay for a reader.
type view struct {
	tx    *bolt.Tx
	asOf  time.Time
	now   time.Time
	delay time.Duration // zero where what is written is to be seen at once
}

// version is one state of an object. Older ones are kept as long as a reader
// may still have to see them. Value is null for a deletion.
type version struct {
	At    int64           `json:"at"`
	Value json.RawMessage `json:"value"`
}

func (v *view) bucket(account string, k kind, create bool) (*bolt.Bucket, error) {
	if account == "" {
		return v.tx.Bucket([]byte(k)), nil
	}
	all := v.tx.Bucket([]byte("accounts"))
	if create {
		one, err := all.CreateBucketIfNotExists([]byte(account))
		if err != nil {
			return nil, err
		}
		return one.CreateBucketIfNotExists([]byte(k))
	}
	one := all.Bucket([]byte(account))
	if one == nil {
		return nil, nil
	}
	return one.Bucket([]byte(k)), nil
}

// pick returns the newest value that is visible, nil for none.
func (v *view) pick(raw []byte) (json.RawMessage, error) {
	var versions []version
	if err := json.Unmarshal(raw, &versions); err != nil {
		return nil, fmt.Errorf("reading an object of the identity store: %w", err)
	}
	for i := len(versions) - 1; i >= 0; i-- {
		if versions[i].At <= v.asOf.UnixNano() {
			if bytes.Equal(versions[i].Value, []byte("null")) {
				return nil, nil
			}
			return versions[i].Value, nil
		}
	}
	return nil, nil
}

// get reads an object, or returns errAbsent.
func get[T any](v *view, account string, k kind, key string) (*T, error) {
	b, err := v.bucket(account, k, false)
	if err != nil {
		return nil, err
	}
	if b == nil || key == "" {
		return nil, errAbsent
	}
	raw := b.Get([]byte(key))
	if raw == nil {
		return nil, errAbsent
	}
	value, err := v.pick(raw)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, errAbsent
	}
	out := new(T)
	if err := json.Unmarshal(value, out); err != nil {
		return nil, fmt.Errorf("reading %s %q of the identity store: %w", k, key, err)
	}
	return out, nil
}

// each calls fn with every visible object of a kind in the order of their keys.
func each[T any](v *view, account string, k kind, fn func(key string, object *T) error) error {
	b, err := v.bucket(account, k, false)
	if err != nil || b == nil {
		return err
	}
	return b.ForEach(func(key, raw []byte) error {
		value, err := v.pick(raw)
		if err != nil || value == nil {
			return err
		}
		out := new(T)
		if err := json.Unmarshal(value, out); err != nil {
			return fmt.Errorf("reading %s %q of the identity store: %w", k, key, err)
		}
		return fn(string(key), out)
	})
}

// count is how many objects of a kind are visible.
func count(v *view, account string, k kind) (n int, err error) {
	b, err := v.bucket(account, k, false)
	if err != nil || b == nil {
		return 0, err
	}
	err = b.ForEach(func(_, raw []byte) error {
		if v.asOf.Equal(v.now) {
			// The newest version is the one that counts; a quota is asked for at
			// every creation, so it is not worth decoding a thousand roles.
			if !bytes.HasSuffix(raw, []byte(`"value":null}]`)) {
				n++
			}
			return nil
		}
		value, err := v.pick(raw)
		if value != nil {
			n++
		}
		return err
	})
	return n, err
}

// put writes an object; a nil object deletes. With no delay there is one
// version, visible always. With a delay the ones that a reader may still have
// to see are kept beside it.
func put[T any](v *view, account string, k kind, key string, object *T) error {
	b, err := v.bucket(account, k, true)
	if err != nil {
		return err
	}
	value := json.RawMessage("null")
	if object != nil {
		if value, err = json.Marshal(object); err != nil {
			return fmt.Errorf("writing %s %q: %w", k, key, err)
		}
	}
	if v.delay == 0 && object == nil {
		return b.Delete([]byte(key))
	}
	var versions []version
	if raw := b.Get([]byte(key)); raw != nil && v.delay > 0 {
		if err := json.Unmarshal(raw, &versions); err != nil {
			return fmt.Errorf("reading %s %q of the identity store: %w", k, key, err)
		}
		first := 0
		for i, one := range versions {
			if one.At <= v.now.Add(-v.delay).UnixNano() {
				first = i
			}
		}
		versions = versions[first:]
	}
	var at int64
	if v.delay > 0 {
		at = v.now.UnixNano()
	}
	raw, err := json.Marshal(append(versions, version{At: at, Value: value}))
	if err != nil {
		return fmt.Errorf("writing %s %q: %w", k, key, err)
	}
	return b.Put([]byte(key), raw)
}
