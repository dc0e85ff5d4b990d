package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubeletevents "k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/kubernetes/pkg/probe"
	grpcprobe "k8s.io/kubernetes/pkg/probe/grpc"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
	tcpprobe "k8s.io/kubernetes/pkg/probe/tcp"

	"biplane.dev/biplane/sandbox/internal/container"
)

// probe asks a container, as its spec says, whether it has started, is ready and
// is alive, until it ends.
func (w *worker) probe(ctx context.Context, s *slot, a *attempt) {
	ctx, a.stopProbes = context.WithCancel(ctx)
	a.started = s.spec.StartupProbe == nil
	a.ready = s.spec.ReadinessProbe == nil
	pod := w.pod
	if s.spec.StartupProbe != nil {
		go w.n.watch(ctx, pod, s, a, "Startup", s.spec.StartupProbe, func(healthy bool) (goOn bool) {
			w.do(func() {
				if !healthy {
					w.unhealthy(ctx, s, a, "startup", s.spec.StartupProbe)
				} else if !a.started && a.ended == nil {
					a.started = true
					w.probeStarted(ctx, s, a, pod)
				}
			})
			return false // once is enough either way
		})
		return
	}
	w.probeStarted(ctx, s, a, pod)
}

// probeStarted begins with what waits for a container's start.
func (w *worker) probeStarted(ctx context.Context, s *slot, a *attempt, pod *v1.Pod) {
	if s.spec.ReadinessProbe != nil {
		go w.n.watch(ctx, pod, s, a, "Readiness", s.spec.ReadinessProbe, func(healthy bool) bool {
			w.do(func() { a.ready = healthy && a.ended == nil })
			return true
		})
	}
	if s.spec.LivenessProbe != nil {
		go w.n.watch(ctx, pod, s, a, "Liveness", s.spec.LivenessProbe, func(healthy bool) bool {
			if !healthy {
				w.do(func() { w.unhealthy(ctx, s, a, "liveness", s.spec.LivenessProbe) })
			}
			return healthy
		})
	}
}

// unhealthy ends a container that failed a probe; whether it is started again is
// for its restart policy.
func (w *worker) unhealthy(ctx context.Context, s *slot, a *attempt, which string, spec *v1.Probe) {
	if a.ended != nil || w.pod.DeletionTimestamp != nil {
		return
	}
	grace := w.grace()
	if spec.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second
	}
	message := fmt.Sprintf("Container %s failed %s probe", s.spec.Name, which)
	if w.pod.Spec.RestartPolicy != v1.RestartPolicyNever || s.kind == sidecar {
		message += ", will be restarted"
	}
	w.kill(ctx, s, grace, message)
}

// watch runs one probe, and tells each time its thresholds make it something
// else than before; it stops when told is false or ctx ends.
func (n *node) watch(ctx context.Context, pod *v1.Pod, s *slot, a *attempt, which string, spec *v1.Probe, tell func(healthy bool) (goOn bool)) {
	if !sleep(ctx, time.Until(a.since.Add(time.Duration(spec.InitialDelaySeconds)*time.Second))) {
		return
	}
	ticks := time.NewTicker(max(time.Duration(spec.PeriodSeconds)*time.Second, time.Second))
	defer ticks.Stop()
	var last, told *bool
	times := int32(0)
	for {
		if healthy, counts := n.probeOnce(ctx, pod, s, a, which, spec); counts {
			if last == nil || *last != healthy {
				last, times = &healthy, 0
			}
			times++
			enough := healthy && times >= spec.SuccessThreshold || !healthy && times >= spec.FailureThreshold
			if enough && (told == nil || *told != healthy) {
				told = &healthy
				if !tell(healthy) {
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// probeOnce asks once. A probe that could not be asked does not count.
func (n *node) probeOnce(ctx context.Context, pod *v1.Pod, s *slot, a *attempt, which string, spec *v1.Probe) (healthy, counts bool) {
	result, output, err := n.ask(ctx, pod, s.spec, a, spec)
	if ctx.Err() != nil {
		return false, false
	}
	switch {
	case err != nil:
		n.events.container(pod, s, v1.EventTypeWarning, kubeletevents.ContainerUnhealthy, "%s probe errored: %v", which, err)
		return false, false
	case result == probe.Success:
		return true, true
	case result == probe.Warning:
		n.events.container(pod, s, v1.EventTypeWarning, kubeletevents.ContainerProbeWarning, "%s probe warning: %s", which, output)
		return true, true
	}
	n.events.container(pod, s, v1.EventTypeWarning, kubeletevents.ContainerUnhealthy, "%s probe failed: %s", which, output)
	return false, true
}

func (n *node) ask(ctx context.Context, pod *v1.Pod, c *v1.Container, a *attempt, spec *v1.Probe) (probe.Result, string, error) {
	timeout := time.Duration(max(spec.TimeoutSeconds, 1)) * time.Second
	switch {
	case spec.Exec != nil:
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		command := kubecontainer.ExpandContainerCommandOnlyStatic(spec.Exec.Command, c.Env)
		output, code, err := a.execute(ctx, command)
		var refused *container.StartError
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return probe.Failure, fmt.Sprintf("command timed out: %q timed out after %v", command, timeout), nil
		case errors.As(err, &refused):
			return probe.Failure, err.Error(), nil
		case err != nil:
			return probe.Unknown, "", err
		case code != 0:
			return probe.Failure, output, nil
		}
		return probe.Success, output, nil

	case spec.HTTPGet != nil:
		request, err := httpprobe.NewRequestForHTTPGetAction(spec.HTTPGet, c, n.ip, "probe")
		if err != nil {
			return probe.Unknown, "", err
		}
		return n.probers.http.Probe(request, timeout)

	case spec.TCPSocket != nil:
		port, err := probe.ResolveContainerPort(spec.TCPSocket.Port, c)
		if err != nil {
			return probe.Unknown, "", err
		}
		host := spec.TCPSocket.Host
		if host == "" {
			host = n.ip
		}
		return n.probers.tcp.Probe(host, port, timeout)

	case spec.GRPC != nil:
		service := ""
		if spec.GRPC.Service != nil {
			service = *spec.GRPC.Service
		}
		return n.probers.grpc.Probe(n.ip, service, int(spec.GRPC.Port), timeout)
	}
	return probe.Unknown, "", fmt.Errorf("missing probe handler for %s:%s", podName(pod), c.Name)
}

// probers are the kubelet's own.
type probers struct {
	http httpprobe.Prober
	tcp  tcpprobe.Prober
	grpc grpcprobe.Prober
}

func newProbers() probers {
	return probers{http: httpprobe.New(false), tcp: tcpprobe.New(), grpc: grpcprobe.New()}
}

// hook runs a lifecycle handler by the kubelet's own code; what it says in its
// error is for the status.
func (n *node) hook(ctx context.Context, pod *v1.Pod, c *v1.Container, a *attempt, handler *v1.LifecycleHandler) error {
	if handler.Sleep == nil && handler.Exec == nil && handler.HTTPGet == nil {
		return nil // tcpSocket: validated, and never done by any kubelet
	}
	runner := lifecycle.NewHandlerRunner(&hookClient{ctx}, hookCommands{a}, hookAddress{n.ip}, n.events.recorder)
	done := make(chan error, 1)
	go func() {
		message, err := runner.Run(ctx, kubecontainer.ContainerID{Type: containerScheme, ID: a.id}, pod, c, handler)
		if err != nil && message != "" {
			err = errors.New(message)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-a.container.Done():
		select {
		case err := <-done:
			return err
		case <-time.After(time.Second): // an exec dies with its container
			return errors.New("the container ended first")
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hookClient makes the requests of httpGet hooks, which the kubelet does not
// verify any certificate for either.
type hookClient struct{ ctx context.Context }

func (c *hookClient) Do(request *http.Request) (*http.Response, error) {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client := http.Client{Timeout: 30 * time.Second, Transport: transport}
	return client.Do(request.WithContext(c.ctx))
}

type hookCommands struct{ a *attempt }

func (h hookCommands) RunInContainer(ctx context.Context, _ kubecontainer.ContainerID, command []string, _ time.Duration) ([]byte, error) {
	output, code, err := h.a.execute(ctx, command)
	if err == nil && code != 0 {
		err = fmt.Errorf("command '%s' exited with %d: %s", strings.Join(command, " "), code, output)
	}
	return []byte(output), err
}

type hookAddress struct{ ip string }

func (h hookAddress) GetPodStatus(context.Context, types.UID, string, string) (*kubecontainer.PodStatus, error) {
	return &kubecontainer.PodStatus{IPs: []string{h.ip}}, nil
}

// execute runs a command beside a container's program and returns the beginning
// of its output.
func (a *attempt) execute(ctx context.Context, command []string) (output string, code int, err error) {
	out := &beginning{most: 10 << 10}
	code, err = a.container.Exec(ctx, command, nil, container.Streams{Out: out, Err: out})
	return out.String(), code, err
}

// beginning keeps the first bytes that are written to it.
type beginning struct {
	most int
	mu   sync.Mutex
	kept bytes.Buffer
}

func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept.Write(p[:min(len(p), max(0, b.most-b.kept.Len()))])
	return len(p), nil
}

func (b *beginning) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept.String()
}
