package awsdouble

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"biplane.dev/biplane/provision/iampolicy"
)

// buckets is what the double knows of moto's buckets: who has them, which moto
// tells, and their policies, which are kept here. moto would enforce a policy
// without looking at its conditions, and so refuse what AWS allows.
type buckets struct {
	lock     sync.Mutex
	owners   map[string]string // account by bucket, of those that were looked up
	policies map[string]bucketPolicy
}

type bucketPolicy struct {
	text     string
	document *iampolicy.Document
}

// reset forgets everything, with the moto that had the buckets.
func (b *buckets) reset() {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.owners, b.policies = map[string]string{}, map[string]bucketPolicy{}
}

func (b *buckets) forget(bucket string) {
	b.lock.Lock()
	defer b.lock.Unlock()
	delete(b.owners, bucket)
	delete(b.policies, bucket)
}

// policy is the policy on a bucket, or nil.
func (b *buckets) policy(bucket string) *iampolicy.Document {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.policies[bucket].document
}

// policyCall answers the three operations on a bucket's policy.
func (b *buckets) policyCall(c *call) (*http.Response, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	bucket := c.params.one("Bucket")
	if b.owners[bucket] == "" {
		return nil, &refusal{"NoSuchBucket", "The specified bucket does not exist", http.StatusNotFound}
	}
	switch c.Operation {
	case "PutBucketPolicy":
		document, err := iampolicy.Parse("the policy of bucket "+bucket, c.body)
		if err != nil {
			return nil, &refusal{"MalformedPolicy", capital(err.Error()) + ".", http.StatusBadRequest}
		}
		b.policies[bucket] = bucketPolicy{string(c.body), document}
	case "DeleteBucketPolicy":
		delete(b.policies, bucket)
	case "GetBucketPolicy":
		policy, ok := b.policies[bucket]
		if !ok {
			return nil, &refusal{"NoSuchBucketPolicy", "The bucket policy does not exist", http.StatusNotFound}
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(policy.text))}, nil
	}
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, nil
}

// bucketOwner is the account that has a bucket, or "".
func (w *world) bucketOwner(ctx context.Context, c *call, bucket string) (string, error) {
	b := &w.buckets
	b.lock.Lock()
	owner, ok := b.owners[bucket]
	b.lock.Unlock()
	if ok {
		return owner, nil
	}
	for account := range w.identity.keys {
		text, err := w.listBuckets(ctx, account, c.Region)
		if err != nil {
			return "", err
		}
		list, err := fromXML(text)
		if err != nil {
			return "", fmt.Errorf("reading moto's buckets: %w", err)
		}
		for _, name := range list.all("Buckets.Bucket.Name") {
			if name == bucket {
				b.lock.Lock()
				b.owners[bucket] = account
				b.lock.Unlock()
				return account, nil
			}
		}
	}
	return "", nil
}

func (w *world) listBuckets(ctx context.Context, account, region string) ([]byte, error) {
	if w.backed != nil && w.backed.account == account {
		return w.backed.listBuckets(ctx)
	}
	return w.raw(ctx, account, region, want{service: "s3", operation: "ListBuckets", path: "/"})
}
