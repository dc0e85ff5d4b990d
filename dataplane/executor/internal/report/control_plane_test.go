package report_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
)

// controlPlane records as the real one does: states and position together, each
// position once, and never one behind another of the same epoch.
type controlPlane struct {
	tunnelv1connect.UnimplementedLinkServiceHandler
	t *testing.T

	mu       sync.Mutex
	changed  *sync.Cond
	epoch    string
	position uint64
	states   map[string]*tunnelv1.ActionState // by namespace/run-action
	told     map[string]int                   // how often each was recorded
	specs    map[string]bool                  // by digest; false is missing
	batches  int

	away   bool                                         // does not answer
	before func(*tunnelv1.ReportStatesRequest) error    // fails before it records
	after  func(*tunnelv1.ReportStatesRequest) error    // fails after it has recorded
	define func(*tunnelv1.RecordTaskSpecsRequest) error // fails to record definitions
}

func newControlPlane(t *testing.T) *controlPlane {
	c := &controlPlane{t: t, states: map[string]*tunnelv1.ActionState{}, told: map[string]int{}, specs: map[string]bool{}}
	c.changed = sync.NewCond(&c.mu)
	return c
}

var errAway = connect.NewError(connect.CodeUnavailable, errors.New("away"))

// link is a client of it, over HTTP.
func (c *controlPlane) link() tunnelv1connect.LinkServiceClient {
	mux := http.NewServeMux()
	mux.Handle(tunnelv1connect.NewLinkServiceHandler(c))
	server := httptest.NewServer(mux)
	c.t.Cleanup(server.Close)
	return tunnelv1connect.NewLinkServiceClient(server.Client(), server.URL)
}

func (c *controlPlane) GetPosition(context.Context, *tunnelv1.GetPositionRequest) (*tunnelv1.GetPositionResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, errAway
	}
	return &tunnelv1.GetPositionResponse{Position: c.position, Epoch: c.epoch}, nil
}

func (c *controlPlane) ReportStates(_ context.Context, r *tunnelv1.ReportStatesRequest) (*tunnelv1.ReportStatesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	if c.away {
		return nil, errAway
	}
	if c.before != nil {
		if err := c.before(r); err != nil {
			return nil, err
		}
	}
	if r.Epoch != c.epoch {
		c.epoch, c.position = r.Epoch, 0
	}
	var last uint64
	for _, s := range r.States {
		if s.Position <= last || s.Position > r.Position {
			c.t.Errorf("got position %d after %d in a batch up to %d, want them in order", s.Position, last, r.Position)
		}
		last = s.Position
		if s.Position <= c.position {
			continue
		}
		key := s.Id.Run.Project + "-" + s.Id.Run.Domain + "/" + s.Id.Run.Name + "-" + s.Id.Name
		if was := c.states[key]; was != nil && was.Version > s.Version {
			c.t.Errorf("%s: got version %d after %d", key, s.Version, was.Version)
		}
		c.states[key] = s
		c.told[key]++
		if _, known := c.specs[s.TaskSpecDigest]; !known && s.TaskSpecDigest != "" {
			c.specs[s.TaskSpecDigest] = false
		}
	}
	c.position = max(c.position, r.Position)
	c.batches++
	if c.after != nil {
		if err := c.after(r); err != nil {
			return nil, err
		}
	}
	answer := &tunnelv1.ReportStatesResponse{Position: c.position}
	for digest, known := range c.specs {
		if !known {
			answer.MissingTaskSpecs = append(answer.MissingTaskSpecs, digest)
		}
	}
	return answer, nil
}

func (c *controlPlane) RecordTaskSpecs(_ context.Context, r *tunnelv1.RecordTaskSpecsRequest) (*tunnelv1.RecordTaskSpecsResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	if c.away {
		return nil, errAway
	}
	if c.define != nil {
		if err := c.define(r); err != nil {
			return nil, err
		}
	}
	for _, spec := range r.Specs {
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		digest := sha256.Sum256(text)
		c.specs["sha256:"+hex.EncodeToString(digest[:])] = true
	}
	return &tunnelv1.RecordTaskSpecsResponse{}, nil
}

// with changes how it behaves.
func (c *controlPlane) with(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.changed.Broadcast()
}

// wait until it has recorded what is to be.
func (c *controlPlane) wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.with(func() {}) })
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !is() {
		if ctx.Err() != nil {
			t.Fatalf("got no %s within %v", what, deadline)
		}
		c.changed.Wait()
	}
}
