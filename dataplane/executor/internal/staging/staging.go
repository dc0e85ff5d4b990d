// Package staging brings code bundles to where tasks read them. A client uploads
// one into the fast-registration bucket, which is all that its URL is signed for,
// while the URI that its task carries names the metadata bucket: the executor, and
// nobody else, may read the one and write the other.
//
// Start with New and Stage.
package staging

import (
	"context"
	"errors"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/utils/lru"

	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/taskpod"
)

// ErrNoBundle is what Stage returns where nobody uploaded it.
var ErrNoBundle = errors.New("the code bundle is in neither bucket")

// Stager copies each bundle once.
type Stager struct {
	store   *bucket.Store
	storage config.Storage
	flights singleflight.Group
	staged  *lru.Cache // of URIs; what falls out of it is looked for again
}

const (
	// remembered is for as many bundles as a busy cluster has in use.
	remembered = 4096
	// goodFor is until it is looked again whether a bundle is there: a bucket may have
	// rules by which old objects go.
	goodFor = time.Hour
)

// New returns a stager.
func New(store *bucket.Store, storage config.Storage) *Stager {
	return &Stager{store: store, storage: storage, staged: lru.New(remembered)}
}

// Stage returns once every bundle that the task names is there.
func (s *Stager) Stage(ctx context.Context, spec *task.TaskSpec) error {
	for _, uri := range s.bundles(spec) {
		if at, ok := s.staged.Get(uri); ok && time.Since(at.(time.Time)) < goodFor {
			continue
		}
		// A hundred children of one bundle begin at once.
		_, err, _ := s.flights.Do(uri, func() (any, error) { return nil, s.stage(ctx, uri) })
		if err != nil {
			return err
		}
		s.staged.Add(uri, time.Now())
	}
	return nil
}

func (s *Stager) stage(ctx context.Context, uri string) error {
	there, _, err := s.store.Exists(ctx, uri)
	if there || err != nil {
		return err
	}
	_, key, err := bucket.Split(uri)
	if err != nil {
		return err
	}
	err = s.store.Copy(ctx, "s3://"+s.storage.FastRegistrationBucket+"/"+key, uri)
	if errors.Is(err, bucket.ErrNone) {
		return ErrNoBundle
	}
	return err
}

// bundles are the URIs in a task's arguments, and its own word for it, that have a
// bundle's name below the uploads of the metadata bucket. Where they have another
// name or place, somebody wrote them there.
func (s *Stager) bundles(spec *task.TaskSpec) []string {
	var uris []string
	prefix := "s3://" + s.storage.MetadataBucket + "/uploads/"
	for _, text := range append(taskpod.Arguments(spec), spec.GetTaskTemplate().GetMetadata().GetCodeBundleUri()) {
		if strings.HasPrefix(text, prefix) && isBundle(path.Base(text)) {
			uris = append(uris, text)
		}
	}
	return uris
}

func isBundle(name string) bool {
	return name == "code_bundle.pkl.gz" || strings.HasPrefix(name, "fast") && strings.HasSuffix(name, ".tar.gz")
}
