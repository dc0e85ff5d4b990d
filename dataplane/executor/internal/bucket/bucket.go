// Package bucket is the executor's hold on S3: small files of runs, copies
// between the two buckets, and logs that are written while they are read.
//
// It knows URIs (s3://BUCKET/KEY) and not what is behind them. Credentials are
// the pod's own: the role of its service account, by web identity. Start with New.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/semaphore"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/podrole"
)

// ErrNone is what Get and Copy return where there is no such object.
var ErrNone = errors.New("there is no such object")

// ErrTooLarge is what Get returns of an object that is larger than its limit.
var ErrTooLarge = errors.New("the object is too large")

// ErrExists is what PutNew returns where there is one already.
var ErrExists = errors.New("there is such an object already")

// Store is S3, as one service account sees it.
type Store struct {
	S3 *s3.Client

	large *semaphore.Weighted // see Get
}

// New takes its credentials from what environment names: a role and its token
// (AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE), as EKS gives them to a pod, or
// else a key.
func New(storage config.Storage, environment func(string) string) *Store {
	return &Store{large: semaphore.NewWeighted(largeAtOnce), S3: s3.New(s3.Options{
		Region:       storage.Region,
		BaseEndpoint: podrole.Endpoint(storage.Endpoint),
		UsePathStyle: storage.Endpoint != "", // other stores have no DNS name for each bucket
		Credentials:  podrole.Credentials(storage, environment, "biplane-executor"),
		HTTPClient: awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = answerTime
			t.MaxIdleConnsPerHost = connections
		}),
	})}
}

const (
	// answerTime until a store that says nothing is asked again.
	answerTime = 30 * time.Second
	// connections that stay: there are that many who ask at once.
	connections = 64
	// What Get reads is mostly of some kilobytes. Of larger files a few are in memory at
	// once, however many actions end together.
	largeFile   = 1 << 20
	largeAtOnce = 4
)

// Split takes a URI apart.
func Split(uri string) (bucket, key string, err error) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	bucket, key, found := strings.Cut(rest, "/")
	if !ok || !found || bucket == "" || key == "" {
		return "", "", fmt.Errorf("%q is no URI of an object: it must be s3://BUCKET/KEY", uri)
	}
	return bucket, key, nil
}

// Exists says whether there is an object, and since when.
func (s *Store) Exists(ctx context.Context, uri string) (bool, time.Time, error) {
	bucket, key, err := Split(uri)
	if err != nil {
		return false, time.Time{}, err
	}
	head, err := s.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
	if status(err) == 404 {
		return false, time.Time{}, nil
	}
	if err != nil {
		return false, time.Time{}, fmt.Errorf("looking for %s: %w", uri, err)
	}
	return true, aws.ToTime(head.LastModified), nil
}

// Get reads a file of at most limit bytes; a larger one is an error.
func (s *Store) Get(ctx context.Context, uri string, limit int64) ([]byte, error) {
	bucket, key, err := Split(uri)
	if err != nil {
		return nil, err
	}
	object, err := s.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if status(err) == 404 {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", uri, err)
	}
	defer object.Body.Close()
	if aws.ToInt64(object.ContentLength) > largeFile {
		if err := s.large.Acquire(ctx, 1); err != nil {
			return nil, fmt.Errorf("waiting to read %s: %w", uri, err)
		}
		defer s.large.Release(1)
	}
	content, err := io.ReadAll(io.LimitReader(object.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", uri, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", uri, limit, ErrTooLarge)
	}
	return content, nil
}

// Put writes a file.
func (s *Store) Put(ctx context.Context, uri string, content []byte) error {
	return s.put(ctx, uri, content, nil)
}

// PutNew writes a file unless there is one: ErrExists then.
func (s *Store) PutNew(ctx context.Context, uri string, content []byte) error {
	return s.put(ctx, uri, content, aws.String("*"))
}

func (s *Store) put(ctx context.Context, uri string, content []byte, unless *string) error {
	bucket, key, err := Split(uri)
	if err != nil {
		return err
	}
	_, err = s.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content), IfNoneMatch: unless})
	if unless != nil && (status(err) == 412 || status(err) == 409) {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", uri, err)
	}
	return nil
}

// Copy copies an object within S3. ErrNone where there is none.
func (s *Store) Copy(ctx context.Context, from, to string) error {
	fromBucket, fromKey, err := Split(from)
	if err != nil {
		return err
	}
	bucket, key, err := Split(to)
	if err != nil {
		return err
	}
	// Encoded so that nobody reads it in another way: some take + for a blank.
	source := fromBucket + "/" + strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(fromKey))
	_, err = s.S3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &bucket, Key: &key, CopySource: &source})
	if status(err) == 404 {
		return ErrNone
	}
	if err != nil {
		return fmt.Errorf("copying %s to %s: %w", from, to, err)
	}
	return nil
}

// partSize is the memory that an Upload takes. S3 wants at least 5 MiB.
const partSize = 8 << 20

// Upload writes what is read, in parts, so that it is never all in memory.
func (s *Store) Upload(ctx context.Context, uri string, r io.Reader) error {
	bucket, key, err := Split(uri)
	if err != nil {
		return err
	}
	var buffer bytes.Buffer
	more, err := fill(&buffer, r)
	if err != nil {
		return fmt.Errorf("reading what goes to %s: %w", uri, err)
	}
	if !more {
		return s.Put(ctx, uri, buffer.Bytes())
	}
	upload, err := s.S3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("beginning %s: %w", uri, err)
	}
	var parts []types.CompletedPart
	for number := int32(1); ; number++ {
		part, err := s.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &bucket, Key: &key, UploadId: upload.UploadId, PartNumber: &number, Body: bytes.NewReader(buffer.Bytes())})
		if err == nil {
			parts = append(parts, types.CompletedPart{ETag: part.ETag, PartNumber: &number})
			if !more {
				break
			}
			more, err = fill(&buffer, r)
		}
		if err != nil {
			s.abandon(ctx, bucket, key, upload.UploadId)
			return fmt.Errorf("writing part %d of %s: %w", number, uri, err)
		}
	}
	_, err = s.S3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &bucket, Key: &key, UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	if err != nil {
		s.abandon(ctx, bucket, key, upload.UploadId)
		return fmt.Errorf("completing %s: %w", uri, err)
	}
	return nil
}

// abandon must go on when the upload ended because its context did: what is left
// of one costs money, and nobody sees it.
func (s *Store) abandon(ctx context.Context, bucket, key string, id *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.S3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: id})
}

// fill replaces what is in the buffer by the next part; more says that there may
// be another behind it.
func fill(buffer *bytes.Buffer, r io.Reader) (more bool, err error) {
	buffer.Reset()
	_, err = io.CopyN(buffer, r, partSize)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return true, err
}

// DeleteOlder deletes what is below a folder and was written before a time. It
// returns how much that was.
func (s *Store) DeleteOlder(ctx context.Context, folder string, before time.Time) (int, error) {
	bucket, prefix, err := Split(folder)
	if err != nil {
		return 0, err
	}
	deleted := 0
	pages := s3.NewListObjectsV2Paginator(s.S3, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return deleted, fmt.Errorf("listing %s: %w", folder, err)
		}
		var old []types.ObjectIdentifier
		for _, object := range page.Contents {
			if aws.ToTime(object.LastModified).Before(before) {
				old = append(old, types.ObjectIdentifier{Key: object.Key})
			}
		}
		if len(old) == 0 {
			continue
		}
		answer, err := s.S3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: old, Quiet: aws.Bool(true)}})
		if err != nil {
			return deleted, fmt.Errorf("deleting below %s: %w", folder, err)
		}
		if len(answer.Errors) > 0 {
			first := answer.Errors[0]
			return deleted, fmt.Errorf("deleting %s: %s: %s", aws.ToString(first.Key), aws.ToString(first.Code), aws.ToString(first.Message))
		}
		deleted += len(old)
	}
	return deleted, nil
}

func status(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
