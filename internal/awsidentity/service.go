package awsidentity

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	bolt "go.etcd.io/bbolt"

	"biplane.dev/biplane/provision/iampolicy"
)

// Options of a Service. The zero value is useful: an empty store that is gone
// with the process.
type Options struct {
	File             string           // the store, made with mode 0600; "" is a temporary one
	Clock            func() time.Time // time.Now by default
	Partition        string           // of accounts that do not name one: "aws" by default, "aws-us-gov", "aws-cn"
	ConsistencyDelay time.Duration    // see the package's comment; 0 by default
	Random           io.Reader        // of ids, keys and tokens; crypto/rand by default
	// SCP are the service control policies of an organization, by member account; see scp.go.
	SCP map[string][]PolicyText
	// Written is called after what a decision depends on was written, before
	// the writer is answered: whoever keeps a Holder has to ask again. Sessions
	// that begin do not count.
	Written func()
	// FetchKeys is called when a token names a key of its issuer that is not
	// known; it may call SetKeys, and the token is looked at once more. It has
	// to bound how often it does more than return: anybody may send tokens.
	FetchKeys func(ctx context.Context, issuer string)
	Log       *slog.Logger // nothing by default
}

// Service is IAM and STS for any number of accounts. Its methods may be called
// from many goroutines.
type Service struct {
	db         *bolt.DB
	removeFile func() error
	clock      func() time.Time
	partition  string
	random     io.Reader
	log        *slog.Logger
	written    func()
	fetchKeys  func(ctx context.Context, issuer string)
	delay      atomic.Int64 // nanoseconds

	operations map[string]operation // see operations.go
	managed    map[string]*policy   // AWS's own policies by ARN without the partition
	scp        map[string][]PolicyText

	keySets   map[string]jose.JSONWebKeySet // by issuer
	keysLock  sync.RWMutex
	evaluated evaluators
	resolved  resolutions
}

// Open opens the store and returns a Service on it. A store that is in use, that
// is damaged or that may not be read is refused with an error that says so.
func Open(o Options) (*Service, error) {
	scp, err := readSCP(o.SCP)
	if err != nil {
		return nil, err
	}
	db, remove, err := openStore(o.File)
	if err != nil {
		return nil, err
	}
	s := &Service{
		db:         db,
		removeFile: remove,
		clock:      o.Clock,
		partition:  o.Partition,
		random:     o.Random,
		log:        o.Log,
		written:    o.Written,
		fetchKeys:  o.FetchKeys,
		operations: operations(),
		managed:    managedPolicies(),
		scp:        scp,
		keySets:    map[string]jose.JSONWebKeySet{},
		evaluated:  evaluators{byKey: map[string]*iampolicy.Evaluator{}},
		resolved:   resolutions{byKey: map[string]resolution{}},
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.partition == "" {
		s.partition = "aws"
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	s.random = &lockedReader{r: s.random}
	if s.written == nil {
		s.written = func() {}
	}
	if s.fetchKeys == nil {
		s.fetchKeys = func(context.Context, string) {}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.SetConsistencyDelay(o.ConsistencyDelay)
	return s, nil
}

// Close closes the store.
func (s *Service) Close() error { return errors.Join(s.db.Close(), s.removeFile()) }

// SetConsistencyDelay changes the delay for what is written from now on. What
// was written with no delay stays visible.
func (s *Service) SetConsistencyDelay(d time.Duration) { s.delay.Store(int64(max(d, 0))) }

// SetKeys gives the keys that tokens of issuer are signed with, for
// AssumeRoleWithWebIdentity; issuer is as in the token, with its scheme. The
// service never fetches keys itself. An empty set forgets the issuer.
func (s *Service) SetKeys(issuer string, keys jose.JSONWebKeySet) {
	s.keysLock.Lock()
	defer s.keysLock.Unlock()
	issuer = strings.TrimSuffix(issuer, "/")
	if len(keys.Keys) == 0 {
		delete(s.keySets, issuer)
		return
	}
	s.keySets[issuer] = keys
}

// update is a writing transaction that decisions depend on.
func (s *Service) update(fn func(*bolt.Tx) error) error {
	err := s.db.Update(fn)
	if err == nil {
		s.written()
	}
	return err
}

func (s *Service) now() time.Time { return s.clock().UTC() }

// lockedReader lets many read from a source of randomness that a test made.
type lockedReader struct {
	lock sync.Mutex
	r    io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return io.ReadFull(l.r, p)
}

// newest is the store as writers see it, visible as readers do.
func (s *Service) newest(tx *bolt.Tx) *view {
	now := s.now()
	return &view{tx: tx, asOf: now, now: now, delay: time.Duration(s.delay.Load())}
}

func (s *Service) visible(tx *bolt.Tx) *view {
	v := s.newest(tx)
	v.asOf = v.now.Add(-v.delay)
	return v
}

// seeding is the store for what a test starts from, which is always visible.
func (s *Service) seeding(tx *bolt.Tx) *view {
	now := s.now()
	return &view{tx: tx, asOf: now, now: now}
}
