package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// answers is how long the API server may take to say that it is there.
const answers = 10 * time.Second

// config is a way to the cluster's API server: nil where there is none yet. Its token is
// made anew before it runs out, and is written nowhere.
func config(p *plane.Plane) (*rest.Config, error) {
	server, err := p.Server()
	if server == nil || err != nil {
		return nil, err
	}
	bearer := &bearer{plane: p}
	return &rest.Config{
		Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: server.CA, ServerName: server.Name}, UserAgent: "biplane",
		WrapTransport: func(next http.RoundTripper) http.RoundTripper { return &authenticated{next, bearer} },
	}, nil
}

// bearer is the session's token, for as long as it is good.
type bearer struct {
	plane *plane.Plane

	mu      sync.Mutex
	token   string
	expires time.Time
}

func (b *bearer) get(ctx context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.token != "" && time.Until(b.expires) > time.Minute {
		return b.token, nil
	}
	token, expires, err := b.plane.ClusterToken(ctx)
	if err != nil {
		return "", err
	}
	b.token, b.expires = token, expires
	return token, nil
}

// authenticated puts the token on every request.
type authenticated struct {
	next   http.RoundTripper
	bearer *bearer
}

func (a *authenticated) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := a.bearer.get(r.Context())
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return a.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport, whose connections it closes.
func (a *authenticated) WrappedRoundTripper() http.RoundTripper { return a.next }

// target is the data plane for the chart; a zero one with nil for a cluster that has no
// API server yet.
func (r *release) target(ctx context.Context) (chart.Target, kubernetes.Interface, error) {
	cfg, err := config(r.Plane)
	if cfg == nil || err != nil {
		return chart.Target{}, nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return chart.Target{}, nil, fmt.Errorf("making a client of cluster %s: %w", r.ClusterName(), err)
	}
	t := chart.Target{Config: cfg, Namespace: r.Vendor.Namespace, Progress: func(line string) { step.WaitingFor(ctx, line) }}
	return t, client, nil
}

// reach asks the API server for its version, which it tells whoever it lets in.
func (r *release) reach(ctx context.Context, client kubernetes.Interface) error {
	ctx, done := context.WithTimeout(ctx, answers)
	defer done()
	err := client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error()
	if err == nil {
		return nil
	}
	server, readErr := r.Server()
	if readErr != nil {
		return readErr
	}
	if apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
		return usererr.New(usererr.Denied, "the API server at %s does not let this role in", server.Address).
			WithHint("its access entry may have been taken away: run 'biplane dataplane plan'").Because(err)
	}
	return usererr.New(usererr.Unavailable, "the API server at %s does not answer from here: %s", server.Address, lastWords(err)).
		WithHint("run it from where the cluster's network is reached, or name the private endpoint with --through").Because(err)
}

// lastWords are what the network said.
func lastWords(err error) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return err.Error()
}

// awaitReach is reach for a cluster that was made a moment ago: EKS takes a while to know
// a new access entry, and its name a while to be known.
func (r *release) awaitReach(ctx context.Context, client kubernetes.Interface) error {
	const patience = time.Minute
	for end := time.Now().Add(patience); ; {
		err := r.reach(ctx, client)
		if err == nil || time.Now().After(end) {
			return err
		}
		step.WaitingFor(ctx, sentence(err))
		if err := machine.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}
