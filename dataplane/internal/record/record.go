// Package record is what is kept in the bucket of an action that has ended, so
// that its texts can be read when its object and its pods are gone: the status
// with its messages, and what Kubernetes said of the pods. None of it ever
// leaves the data plane but to a client that asks.
//
// It is not the outputs, and not the logs: those have files of their own. The
// executor calls Write, once, before the object may go; the proxy calls Read.
package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// MaxBytes bounds a record, written or read. A status is less than an object of
// etcd's, and so are the events that are worth keeping beside it.
const MaxBytes = 4 << 20

// ErrNone is what Read returns where no record was written, or it is gone.
var ErrNone = errors.New("no record of this action is kept")

// Record is the file.
type Record struct {
	Status v1alpha1.TaskActionStatus `json:"status"`
	Events []Event                   `json:"events,omitempty"` // the oldest first
	Traces []Trace                   `json:"traces,omitempty"` // of a task: what it traced and need not do again
}

// Trace is one that succeeded, as it is made again in a run that recovers this one.
type Trace struct {
	Action    string `json:"action"`
	ShortName string `json:"shortName,omitempty"`
	Group     string `json:"group,omitempty"`
	InputURI  string `json:"inputURI,omitempty"`
	Trace     []byte `json:"trace"` // flyteidl2.workflow.TraceAction, binary
}

// Event is one of Kubernetes', about a pod of one attempt.
type Event struct {
	Attempt    int32     `json:"attempt"`
	OccurredAt time.Time `json:"occurredAt"`
	Type       string    `json:"type,omitempty"` // Normal, Warning
	Reason     string    `json:"reason,omitempty"`
	Message    string    `json:"message,omitempty"`
	Source     string    `json:"source,omitempty"`
	Count      int32     `json:"count,omitempty"`
}

// Key of an action's record, below the key of the action's folder
// ({run output base}/{action}, without the bucket and with no slash at its end).
func Key(actionFolder string) string { return actionFolder + "/_biplane/record.json" }

// Writer is the one call of S3's that Write makes.
type Writer interface {
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

// Reader is the one call of S3's that Read makes.
type Reader interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
}

// Write keeps a record. Where it would be larger than MaxBytes, the oldest events
// are left out, and then traces, which are only done again.
func Write(ctx context.Context, bucket Writer, name, actionFolder string, r Record) error {
	body, err := json.Marshal(r)
	for err == nil && len(body) > MaxBytes && len(r.Events)+len(r.Traces) > 0 {
		if len(r.Events) > 0 {
			r.Events = r.Events[(len(r.Events)+1)/2:]
		} else {
			r.Traces = r.Traces[:len(r.Traces)/2]
		}
		body, err = json.Marshal(r)
	}
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", actionFolder, err)
	}
	_, err = bucket.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String(name), Key: aws.String(Key(actionFolder)),
		Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))), ContentType: aws.String("application/json"),
	})
	if err != nil {
		return fmt.Errorf("keeping the record of %s: %w", actionFolder, err)
	}
	return nil
}

// Read finds a record again. ErrNone where there is none.
func Read(ctx context.Context, bucket Reader, name, actionFolder string) (Record, error) {
	var r Record
	object, err := bucket.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(name), Key: aws.String(Key(actionFolder))})
	if none := (*types.NoSuchKey)(nil); errors.As(err, &none) {
		return r, ErrNone
	}
	if err != nil {
		return r, fmt.Errorf("reading the record of %s: %w", actionFolder, err)
	}
	defer object.Body.Close()
	body, err := io.ReadAll(io.LimitReader(object.Body, MaxBytes+1))
	if err != nil {
		return r, fmt.Errorf("reading the record of %s: %w", actionFolder, err)
	}
	if len(body) > MaxBytes {
		return r, fmt.Errorf("the record of %s is larger than %d bytes", actionFolder, MaxBytes)
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("reading the record of %s: %w", actionFolder, err)
	}
	return r, nil
}
