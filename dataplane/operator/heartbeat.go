package operator

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/serve"
	"biplane.dev/biplane/internal/buildinfo"
)

const (
	heartbeatTimeout = 5 * time.Second
	heartbeatDefault = 2 * time.Second
	heartbeatLeast   = 100 * time.Millisecond
	heartbeatMost    = time.Minute
)

// heartbeat tells the control plane how this data plane is.
type heartbeat struct {
	operator  *Operator
	roundTrip time.Duration // of the last one
}

// Run tells it again and again, as often as the control plane says, until ctx ends.
func (h *heartbeat) Run(ctx context.Context, client tunnelv1connect.LinkServiceClient) {
	for {
		wait := heartbeatDefault
		next, err := h.once(ctx, client)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			h.operator.log.Warn("heartbeat not answered", "error", err)
		} else if next > 0 {
			wait = min(max(next, heartbeatLeast), heartbeatMost)
		}
		h.operator.metrics.heartbeat(h.roundTrip, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (h *heartbeat) once(ctx context.Context, client tunnelv1connect.LinkServiceClient) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	request := h.request(ctx)
	started := time.Now()
	answer, err := client.Heartbeat(ctx, request)
	if err != nil {
		return 0, err
	}
	h.roundTrip = time.Since(started)
	return answer.GetNext().AsDuration(), nil
}

func (h *heartbeat) request(ctx context.Context) *tunnelv1.HeartbeatRequest {
	o := h.operator
	version := buildinfo.Read().Version
	self := &clusterv1.Peer{Name: "operator", Ready: true, Version: version}
	if err := o.Ready(); err != nil {
		self.Ready, self.Message = false, err.Error()
	}
	request := &tunnelv1.HeartbeatRequest{
		Version:        version,
		Peers:          append([]*clusterv1.Peer{self}, o.health.Peers()...),
		Capacity:       o.view.capacity(ctx),
		ConfigRevision: o.received.Revision(),
		DataPlane: &tunnelv1.DataPlane{
			Region:                 o.config.Storage.Region,
			MetadataBucket:         o.config.Storage.MetadataBucket,
			FastRegistrationBucket: o.config.Storage.FastRegistrationBucket,
			S3Endpoint:             o.config.Storage.ClientEndpoint,
			StsEndpoint:            o.config.Storage.STSEndpoint,
			UploadRoleArn:          o.config.Storage.UploadRoleARN,
			Namespace:              o.config.Namespace,
		},
	}
	if bundle, err := o.certificates.bundle(); err == nil {
		request.DataPlane.ProxyCaBundle = string(bundle)
	}
	if h.roundTrip > 0 {
		request.RoundTrip = durationpb.New(h.roundTrip)
	}
	return request
}

const (
	healthInterval = 2 * time.Second
	unwellInterval = 500 * time.Millisecond // while a process is not ready
	healthTimeout  = 2 * time.Second
	// maxSentence of why a process is not ready.
	maxSentence = 300
)

// health asks the other processes whether they are ready. Apart from heartbeats, so
// that a process that does not answer delays none.
type health struct {
	client    *http.Client
	processes []process
	log       *slog.Logger

	mu    sync.Mutex
	peers []*clusterv1.Peer // replaced as a whole
}

// process is one of the data plane's, and where it is.
type process struct{ name, endpoint string }

func processes(cfg *config.Config) []process {
	return []process{
		{"executor", cfg.Executor.Endpoint},
		{"proxy", cfg.Proxy.Endpoint},
		{"clustersync", cfg.Clustersync.Endpoint},
	}
}

func newHealth(cfg *config.Config, transport http.RoundTripper, log *slog.Logger) *health {
	h := &health{client: &http.Client{Transport: transport, Timeout: healthTimeout}, processes: processes(cfg), log: log}
	for _, p := range h.processes {
		h.peers = append(h.peers, &clusterv1.Peer{Name: p.name, Message: "it has not been asked yet"})
	}
	return h
}

// Peers are as they were seconds ago.
func (h *health) Peers() []*clusterv1.Peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.peers
}

// Run asks until ctx ends.
func (h *health) Run(ctx context.Context) {
	for {
		peers := make([]*clusterv1.Peer, len(h.processes))
		var group sync.WaitGroup
		for i, p := range h.processes {
			group.Go(func() { peers[i] = h.ask(ctx, p) })
		}
		group.Wait()
		if ctx.Err() != nil {
			return
		}
		wait := healthInterval
		for i, was := range h.Peers() {
			if !peers[i].Ready {
				wait = unwellInterval
			}
			if was.Ready != peers[i].Ready {
				h.log.Info("a process's readiness changed", "peer", was.Name, "ready", peers[i].Ready, "message", peers[i].Message)
			}
		}
		h.mu.Lock()
		h.peers = peers
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (h *health) ask(ctx context.Context, p process) *clusterv1.Peer {
	peer := &clusterv1.Peer{Name: p.name}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.endpoint+"/readyz", nil)
	if err != nil {
		peer.Message = "its endpoint " + p.endpoint + " is no address"
		return peer
	}
	response, err := h.client.Do(request)
	if err != nil {
		h.log.Debug("a process does not answer", "peer", p.name, "error", err)
		peer.Message = "it does not answer at " + p.endpoint
		return peer
	}
	defer response.Body.Close()
	peer.Version = response.Header.Get(serve.VersionHeader)
	peer.Ready = response.StatusCode == http.StatusOK
	if !peer.Ready {
		line, _ := bufio.NewReader(io.LimitReader(response.Body, maxSentence)).ReadString('\n')
		peer.Message = strings.ToValidUTF8(strings.TrimSpace(line), "")
	}
	return peer
}
