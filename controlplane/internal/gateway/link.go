package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/controlplane/internal/uploads"
	"biplane.dev/biplane/tunnel"
)

const (
	maxReport  = 32 << 20 // bytes of a call: several task specs of 5 MB
	maxStates  = 5000
	maxEpoch   = 64
	maxPeers   = 16
	maxMessage = 1024
	maxWord    = 128 // a name, a version

	maxHeartbeat = 256 << 10 // bytes; most are the proxy's CA bundle
)

var _ tunnelv1connect.LinkServiceHandler = (*link)(nil)

// link is LinkService for one session.
type link struct {
	tunnelv1connect.UnimplementedLinkServiceHandler
	*cluster
	session *tunnel.Session

	mu       sync.Mutex
	recorded time.Time // the last heartbeat that was
}

// Heartbeat records at most two for each that is due: a data plane that beats
// faster is answered, and costs nothing.
func (l *link) Heartbeat(ctx context.Context, request *tunnelv1.HeartbeatRequest) (*tunnelv1.HeartbeatResponse, error) {
	due := l.gateway.Config.Gateway.Heartbeat
	if size := proto.Size(request); size > maxHeartbeat {
		return nil, refusal.Invalid("the heartbeat has %d bytes; send at most %d", size, maxHeartbeat)
	}
	if len(request.GetPeers()) > maxPeers {
		return nil, refusal.Invalid("peers has %d entries, and a data plane has at most %d processes", len(request.GetPeers()), maxPeers)
	}
	if len(request.GetVersion()) > maxWord {
		return nil, refusal.Invalid("version has %d bytes; send at most %d", len(request.GetVersion()), maxWord)
	}
	for i, peer := range request.GetPeers() {
		if len(peer.GetName()) > maxWord || len(peer.GetVersion()) > maxWord {
			return nil, refusal.Invalid("the name or the version of peers[%d] is too long; send at most %d bytes", i, maxWord)
		}
		if len(peer.GetMessage()) > maxMessage {
			return nil, refusal.Invalid("the message of peer %q has %d bytes; send at most %d", peer.GetName(), len(peer.GetMessage()), maxMessage)
		}
	}
	now := l.gateway.Now()
	l.mu.Lock()
	record := now.Sub(l.recorded) >= due/2
	if record {
		l.recorded = now
	}
	l.mu.Unlock()
	if record {
		if err := l.gateway.Store.Heartbeat(ctx, l.identity.Organization, l.identity.Cluster, request); err != nil {
			return nil, l.gateway.failed(ctx, "cannot record a heartbeat", err)
		}
	}
	return &tunnelv1.HeartbeatResponse{Next: durationpb.New(due)}, nil
}

// WatchConfig sends what the store has now, and again when it has something
// newer: never a change, so none can be lost.
func (l *link) WatchConfig(ctx context.Context, _ *tunnelv1.WatchConfigRequest, stream *connect.ServerStream[tunnelv1.Config]) error {
	organization, name := l.identity.Organization, l.identity.Cluster
	ending := refusal.New(connect.CodeUnavailable, "the control plane ends this tunnel; watch again on the next one")
	woken, stop := l.gateway.Store.Watch(store.ConfigTopic(organization))
	defer stop()
	relay := l.gateway.Config.Relay
	proxyNames := slices.Compact([]string{relay.Host, relay.Address})
	if err := l.gateway.Store.SetProxyNames(ctx, organization, name, proxyNames); err != nil {
		return l.gateway.failed(ctx, "cannot record the proxy's names", err)
	}
	for sent := (*tunnelv1.Config)(nil); ; {
		select {
		case <-ctx.Done():
			return ending
		case <-l.session.Draining():
			return ending
		case _, open := <-woken:
			if !open {
				return ending
			}
		}
		now, err := l.gateway.Store.GetConfig(ctx, organization, name)
		if err != nil {
			return l.gateway.failed(ctx, "cannot read the configuration", err)
		}
		if sent != nil && now.GetRevision() <= sent.GetRevision() {
			continue
		}
		if err := stream.Send(now); err != nil {
			return err
		}
		sent = now
	}
}

// GetPosition is where the data plane goes on.
func (l *link) GetPosition(ctx context.Context, _ *tunnelv1.GetPositionRequest) (*tunnelv1.GetPositionResponse, error) {
	epoch, position, err := l.gateway.Store.GetPosition(ctx, l.identity.Organization, l.identity.Cluster)
	if err != nil {
		return nil, l.gateway.failed(ctx, "cannot read the position", err)
	}
	return &tunnelv1.GetPositionResponse{Epoch: epoch, Position: position}, nil
}

// ReportStates records states.
func (l *link) ReportStates(ctx context.Context, request *tunnelv1.ReportStatesRequest) (*tunnelv1.ReportStatesResponse, error) {
	states := request.GetStates()
	if len(states) > maxStates {
		return nil, refusal.Invalid("states has %d entries; send at most %d in one call", len(states), maxStates)
	}
	if len(request.GetEpoch()) > maxEpoch {
		return nil, refusal.Invalid("epoch has %d characters; send at most %d", len(request.GetEpoch()), maxEpoch)
	}
	for i, state := range states {
		if org := state.GetId().GetRun().GetOrg(); org != l.identity.Organization {
			return nil, refusal.New(connect.CodePermissionDenied, "states[%d] is of the organization %q, and this data plane belongs to %q", i, org, l.identity.Organization)
		}
		if i > 0 && state.GetPosition() < states[i-1].GetPosition() || state.GetPosition() > request.GetPosition() {
			return nil, refusal.Invalid("states[%d] is at position %d, out of order", i, state.GetPosition())
		}
	}
	applied, err := l.gateway.Store.ApplyStates(ctx, l.identity.Organization, l.identity.Cluster, request.GetEpoch(), states, request.GetPosition())
	if err != nil {
		return nil, l.gateway.failed(ctx, "cannot record states", err)
	}
	l.gateway.metrics.states.Add(float64(len(states)))
	if applied.Unknown > 0 {
		l.log.Warn("states of runs that are not this data plane's, or no more", "count", applied.Unknown)
	}
	return &tunnelv1.ReportStatesResponse{Position: applied.Position, MissingTaskSpecs: applied.MissingTaskSpecs}, nil
}

// RecordTaskSpecs records definitions.
func (l *link) RecordTaskSpecs(ctx context.Context, request *tunnelv1.RecordTaskSpecsRequest) (*tunnelv1.RecordTaskSpecsResponse, error) {
	if err := l.gateway.Store.PutTaskSpecs(ctx, l.identity.Organization, request.GetSpecs()); err != nil {
		return nil, l.gateway.failed(ctx, "cannot record task specs", err)
	}
	return &tunnelv1.RecordTaskSpecsResponse{}, nil
}

// SignUpload signs the writing of one object of offloaded inputs, in the
// metadata bucket of this data plane.
func (l *link) SignUpload(ctx context.Context, request *tunnelv1.SignUploadRequest) (*tunnelv1.SignUploadResponse, error) {
	organization := l.identity.Organization
	for _, err := range []error{names.Project(request.GetProject()), names.Domain(request.GetDomain(), store.Domains())} {
		if err != nil {
			return nil, refusal.Invalid("%v", err)
		}
	}
	if err := uploads.CheckInputsKey(organization, request.GetProject(), request.GetDomain(), request.GetKey()); err != nil {
		return nil, err
	}
	if _, err := l.gateway.Store.GetProject(ctx, organization, request.GetProject()); err != nil {
		return nil, l.gateway.failed(ctx, "cannot read a project", err)
	}
	known, err := l.gateway.Store.GetCluster(ctx, organization, l.identity.Cluster)
	if err != nil {
		return nil, l.gateway.failed(ctx, "cannot read a data plane", err)
	}
	plane := known.Report.GetDataPlane()
	signed, err := l.gateway.Uploads.Sign(ctx, l.identity.Cluster, plane, uploads.Put{Bucket: plane.GetMetadataBucket(), Key: request.GetKey()})
	if err != nil {
		return nil, l.gateway.failed(ctx, "cannot sign an upload", err)
	}
	return &tunnelv1.SignUploadResponse{Url: signed.URL, Headers: signed.Headers, ExpiresAt: timestamppb.New(signed.ExpiresAt)}, nil
}
