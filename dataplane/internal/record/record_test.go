package record_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/record"
)

// bucket is as much of S3 as a record needs.
type bucket map[string][]byte

func (b bucket) PutObject(_ context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	body, err := io.ReadAll(in.Body)
	b[*in.Bucket+"/"+*in.Key] = body
	return &s3.PutObjectOutput{}, err
}

func (b bucket) GetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	body, ok := b[*in.Bucket+"/"+*in.Key]
	if !ok {
		return nil, &types.NoSuchKey{}
	}
	return &s3.GetObjectOutput{Body: io.NopCloser(bytes.NewReader(body))}, nil
}

func TestRecord(t *testing.T) {
	t.Parallel()
	status := v1alpha1.TaskActionStatus{
		Phase: v1alpha1.Failed,
		Error: &v1alpha1.ActionError{Code: "OOMKilled", Kind: v1alpha1.UserError, Message: "the container took more memory than its limit"},
	}
	event := record.Event{Attempt: 2, OccurredAt: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Type: "Warning", Reason: "Failed", Message: "m", Source: "kubelet", Count: 3}

	t.Run("it gives back what was written", func(t *testing.T) {
		t.Parallel()
		b, want := bucket{}, record.Record{Status: status, Events: []record.Event{event}}
		if err := record.Write(t.Context(), b, "metadata", "flytesnacks/development/r1/a0", want); err != nil {
			t.Fatal(err)
		}
		if _, ok := b["metadata/flytesnacks/development/r1/a0/_biplane/record.json"]; !ok {
			t.Errorf("got no file at its place among %v", b)
		}
		got, err := record.Read(t.Context(), b, "metadata", "flytesnacks/development/r1/a0")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	})

	t.Run("it says that there is none", func(t *testing.T) {
		t.Parallel()
		if _, err := record.Read(t.Context(), bucket{}, "metadata", "p/d/r1/a0"); !errors.Is(err, record.ErrNone) {
			t.Errorf("got %v, want %v", err, record.ErrNone)
		}
	})

	t.Run("it leaves the oldest events out of what would be too large", func(t *testing.T) {
		t.Parallel()
		large := record.Record{Status: status}
		for n := range 40 {
			e := event
			e.Count, e.Message = int32(n), strings.Repeat("m", record.MaxBytes/20)
			large.Events = append(large.Events, e)
		}
		b := bucket{}
		if err := record.Write(t.Context(), b, "metadata", "p/d/r1/a0", large); err != nil {
			t.Fatal(err)
		}
		got, err := record.Read(t.Context(), b, "metadata", "p/d/r1/a0")
		if err != nil || len(got.Events) == 0 || got.Events[len(got.Events)-1].Count != 39 {
			t.Errorf("got %d events, %v, want the newest of them", len(got.Events), err)
		}
	})
}
