// Package resultcache keeps what cached tasks gave: for each cache key, where the
// outputs are. An entry is a small object in the metadata bucket; the outputs stay
// in the folder of the action that made them.
//
// It decides nothing: whether a task is cached, and what happens to an action that
// is found here, is the reconciler's. Start with New.
package resultcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
)

// Scope is who shares an entry.
type Scope struct {
	Organization string
	// Project and Domain are empty where the whole organisation does.
	Project, Domain string
}

// Cache is all entries of a metadata bucket.
type Cache struct {
	store  *bucket.Store
	bucket string
}

// New returns the cache in a metadata bucket.
func New(store *bucket.Store, metadataBucket string) *Cache {
	return &Cache{store: store, bucket: metadataBucket}
}

// Answer of a lookup.
type Answer int

// The answers. Stale is an entry that is too old, or whose outputs are gone.
const (
	Miss Answer = iota
	Hit
	Stale
)

// Lookup returns where the outputs are. MaxAge 0 is any; hasOutputs says whether
// there must be a file of them.
func (c *Cache) Lookup(ctx context.Context, scope Scope, key string, maxAge time.Duration, hasOutputs bool) (Answer, string, error) {
	uri := c.entry(scope, key)
	content, err := c.store.Get(ctx, uri, 64<<10)
	if errors.Is(err, bucket.ErrNone) {
		return Miss, "", nil
	}
	if err != nil {
		return Miss, "", err
	}
	entry := &task.OutputReferences{}
	if err := proto.Unmarshal(content, entry); err != nil {
		return Stale, "", nil // whatever this is, the next success replaces it
	}
	if maxAge > 0 {
		there, since, err := c.store.Exists(ctx, uri)
		if err != nil {
			return Miss, "", err
		}
		if !there || time.Since(since) > maxAge {
			return Stale, "", nil
		}
	}
	if hasOutputs {
		there, _, err := c.store.Exists(ctx, entry.GetOutputUri()+"/outputs.pb")
		if err != nil {
			return Miss, "", err
		}
		if !there {
			return Stale, "", nil
		}
	}
	return Hit, entry.GetOutputUri(), nil
}

// Put keeps where the outputs are. Without replace, an entry that somebody else
// made meanwhile stays, since it is as good.
func (c *Cache) Put(ctx context.Context, scope Scope, key, outputURI string, replace bool) error {
	content, err := proto.Marshal(&task.OutputReferences{OutputUri: outputURI})
	if err != nil {
		return fmt.Errorf("encoding a cache entry: %w", err)
	}
	if replace {
		return c.store.Put(ctx, c.entry(scope, key), content)
	}
	if err := c.store.PutNew(ctx, c.entry(scope, key), content); !errors.Is(err, bucket.ErrExists) {
		return err
	}
	return nil
}

// entry hashes the key, which is what a client sent: a path must not be.
func (c *Cache) entry(scope Scope, key string) string {
	sum := sha256.Sum256([]byte(key))
	folder := "s3://" + c.bucket + "/_biplane/cache/" + scope.Organization + "/"
	if scope.Project != "" {
		folder += scope.Project + "/" + scope.Domain + "/"
	}
	return folder + hex.EncodeToString(sum[:]) + ".pb"
}
