// Package bucket is the proxy's hold on S3, and it can only read: small files
// whole, logs as they come, names below a prefix, and URLs that let a client
// read one object for a while. It sees the metadata bucket and no other.
//
// Keys come from outside: Key is how a URI becomes one. Start with New.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/podrole"
)

// MaxURLLife is how long a signed URL may live.
const MaxURLLife = 15 * time.Minute

var (
	// ErrNone is what is returned where there is no such object.
	ErrNone = errors.New("there is no such object")
	// ErrTooLarge is what Get returns for what is over its limit.
	ErrTooLarge = errors.New("the object is larger than may be read")
)

// Bucket is the metadata bucket, as the proxy's role sees it.
type Bucket struct {
	name   string
	client *s3.Client
	signer *s3.PresignClient
}

// New takes credentials from what environment names: a role and its token
// (AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE), as EKS gives them to a pod, or
// else a key.
func New(storage config.Storage, environment func(string) string) *Bucket {
	// A URL dies with the session that signed it.
	return NewWith(storage, podrole.Credentials(storage, environment, "biplane-proxy",
		func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = MaxURLLife + time.Minute }))
}

// NewWith takes credentials as they are.
func NewWith(storage config.Storage, credentials aws.CredentialsProvider) *Bucket {
	client := func(endpoint string) *s3.Client {
		return s3.New(s3.Options{
			Region:       storage.Region,
			BaseEndpoint: podrole.Endpoint(endpoint),
			UsePathStyle: endpoint != "", // other stores have no DNS name for each bucket
			Credentials:  credentials,
			// A range of an object has no checksum, and a client would have to ask for
			// one by a header.
			ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		})
	}
	return &Bucket{
		name:   storage.MetadataBucket,
		client: client(storage.Endpoint),
		signer: s3.NewPresignClient(client(storage.ClientEndpoint)),
	}
}

// Key is the key in the metadata bucket that a URI names. The error says in one
// sentence what is wrong with the URI.
func (b *Bucket) Key(uri string) (string, error) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	if !ok {
		return "", fmt.Errorf("the URI %q is not of S3", uri)
	}
	name, key, _ := strings.Cut(rest, "/")
	if name != b.name {
		return "", fmt.Errorf("the URI %q is not in the metadata bucket %s", uri, b.name)
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(key, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("the URI %q has an empty part, or . or .. in it", uri)
		}
	}
	return key, nil
}

// URI is the opposite of Key.
func (b *Bucket) URI(key string) string { return "s3://" + b.name + "/" + key }

// Name of the bucket.
func (b *Bucket) Name() string { return b.name }

// Reader is for package record.
func (b *Bucket) Reader() *s3.Client { return b.client }

// Get reads a file of at most limit bytes.
func (b *Bucket) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	object, err := b.Open(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	return object.All(limit)
}

// Object is one that is being read.
type Object struct {
	io.ReadCloser
	Size int64 // of what is still to be read

	key string
}

// All reads the whole of it, if it is at most limit bytes.
func (o *Object) All(limit int64) ([]byte, error) {
	if o.Size > limit {
		return nil, fmt.Errorf("reading %s: %w", o.key, ErrTooLarge)
	}
	content := make([]byte, o.Size)
	if _, err := io.ReadFull(o.ReadCloser, content); err != nil {
		return nil, fmt.Errorf("reading %s: %w", o.key, err)
	}
	return content, nil
}

// Open reads an object from an offset on. An offset at or behind its end reads
// nothing.
func (b *Bucket) Open(ctx context.Context, key string, offset int64) (*Object, error) {
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &key}
	if offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	object, err := b.client.GetObject(ctx, in)
	switch status(err) {
	case 404:
		return nil, fmt.Errorf("reading %s: %w", key, ErrNone)
	case 416:
		return &Object{ReadCloser: io.NopCloser(strings.NewReader("")), key: key}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	return &Object{ReadCloser: object.Body, Size: aws.ToInt64(object.ContentLength), key: key}, nil
}

// Exists says whether there is an object.
func (b *Bucket) Exists(ctx context.Context, key string) (bool, error) {
	_, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if status(err) == 404 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for %s: %w", key, err)
	}
	return true, nil
}

// List returns the first keys below a prefix, at most a thousand.
func (b *Bucket) List(ctx context.Context, prefix string) ([]string, error) {
	page, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", prefix, err)
	}
	keys := make([]string, 0, len(page.Contents))
	for _, object := range page.Contents {
		keys = append(keys, aws.ToString(object.Key))
	}
	return keys, nil
}

// Sign returns a URL by which a client can read one object, until the time that
// is returned.
func (b *Bucket) Sign(ctx context.Context, key string, life time.Duration, now time.Time) (string, time.Time, error) {
	if life <= 0 || life > MaxURLLife {
		life = MaxURLLife
	}
	request, err := b.signer.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key}, s3.WithPresignExpires(life))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("signing the reading of %s: %w", key, err)
	}
	return request.URL, now.Add(life), nil
}

func status(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
