package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/biplane/cluster/v1/clusterv1connect"
	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// cluster groups what the owner of a control plane does with its data planes.
func (a *app) cluster() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Register data planes with a control plane, and see how they are",
		Long: `Register data planes with a control plane, see how they are, drain and remove
them. A data plane is a Kubernetes cluster in which runs run; the control plane
keeps their names and states, and nothing else.

The control plane is that of the sandbox that runs on this machine, or the one
at --endpoint.`,
		Example: `  # Register one, and install it into the cluster of your kubeconfig
  biplane cluster add production --token-file token
  biplane dataplane chart install --cluster production --token-file token --values values.yaml

  # How are they?
  biplane cluster list`,
	}
	flags := cmd.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&a.server.endpoint, "endpoint", "", "`URL` of the control plane (default: the running sandbox's)")
	flags.StringVar(&a.server.caFile, "ca-file", "", "PEM `FILE` with the CA of its certificate (default: the system's roots, or the sandbox's)")
	flags.StringVar(&a.server.organization, "organization", "", "`NAME` of the organization (default: the server's only one)")
	flags.StringVar(&a.server.sandbox, "sandbox", sandbox.DefaultName, "`NAME` of the sandbox, without --endpoint")
	flags.StringVar(&a.server.sandboxDir, "sandbox-dir", "", "`DIR` in which sandboxes have their folders (default: biplane/sandbox in the XDG state folder)")
	a.server.given = flags.Changed
	cmd.AddCommand(
		a.clusterAdd(),    // a name, and a token to join with
		a.clusterList(),   // all there are
		a.clusterShow(),   // one, with its parts
		a.clusterDrain(),  // no new runs
		a.clusterRemove(), // forget it
	)
	return cmd
}

// serverFlags say which control plane is meant.
type serverFlags struct {
	endpoint     string
	caFile       string
	organization string
	sandbox      string
	sandboxDir   string
	given        func(flag string) bool
}

// callTimeout is for one call; none of them waits for anything.
const callTimeout = 30 * time.Second

// clusterClient speaks to the control plane that is meant.
type clusterClient struct {
	clusterv1connect.ClusterServiceClient
	url          string
	organization string
}

func (a *app) clusters(ctx context.Context) (*clusterClient, error) {
	endpoint, caFile := a.server.endpoint, a.server.caFile
	if !a.server.given("endpoint") {
		var err error
		var bundle string
		if endpoint, bundle, err = a.sandboxControlPlane(ctx); err != nil {
			return nil, err
		}
		caFile = cmp.Or(caFile, bundle)
	}
	base, err := controlPlaneURL(endpoint)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second,
		DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
	}
	if caFile != "" {
		if transport.TLSClientConfig.RootCAs, err = a.readRoots(ctx, caFile); err != nil {
			return nil, err
		}
	}
	client := &http.Client{Transport: transport, Timeout: callTimeout}
	return &clusterClient{
		ClusterServiceClient: clusterv1connect.NewClusterServiceClient(client, base, connect.WithReadMaxBytes(64<<20)),
		url:                  base, organization: a.server.organization,
	}, nil
}

// sandboxControlPlane is where the sandbox's is, and what its certificate is
// trusted by.
func (a *app) sandboxControlPlane(ctx context.Context) (endpoint, caFile string, err error) {
	a.where = sandboxFlags{name: a.server.sandbox, dir: a.server.sandboxDir, dirGiven: func() bool { return a.server.given("sandbox-dir") }}
	folder, err := a.folder()
	if err != nil {
		return "", "", err
	}
	status, err := sandbox.Read(ctx, folder)
	if err != nil {
		return "", "", err
	}
	if status.ControlPlane == nil {
		return "", "", usererr.New(usererr.NotFound, "no control plane to ask: sandbox %s is %s, and has none", a.where.name, status.State).
			WithHint("name one with --endpoint URL, or start the sandbox with '%s'", a.command("up"))
	}
	return status.ControlPlane.Endpoint, folder.CABundle(), nil
}

// controlPlaneURL is https, or http on this machine: a join token is a secret.
func controlPlaneURL(endpoint string) (string, error) {
	refuse := func(why string) *usererr.Error {
		return usererr.New(usererr.Invalid, "--endpoint cannot be %q: %s", endpoint, why).WithHint("give it as https://HOST[:PORT]")
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return "", refuse("it is no URL").Because(err)
	case u.Scheme != "https" && u.Scheme != "http":
		return "", refuse("it must begin with https://")
	case u.Host == "" || u.Hostname() == "":
		return "", refuse("it names no host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return "", refuse("it is a host and a port, and nothing else")
	case u.Scheme == "http" && !onThisMachine(u.Hostname()):
		return "", refuse("a join token must not travel in plain text")
	}
	return u.Scheme + "://" + u.Host, nil
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (a *app) readRoots(ctx context.Context, file string) (*x509.CertPool, error) {
	text, err := a.readAtMost(ctx, file, maxInput, "bundle of certificates")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, usererr.New(usererr.Invalid, "%s has no certificate in it", called(file)).
			WithHint("--ca-file names a PEM file, whose blocks begin with -----BEGIN CERTIFICATE-----")
	}
	return roots, nil
}

// said makes a sentence of what a control plane answered. The hint is for the
// codes that it is about.
func (c *clusterClient) said(err error, hints map[connect.Code]string) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var answer *connect.Error
	if !errors.As(err, &answer) || !connect.IsWireError(err) {
		if code := connect.CodeOf(err); code != connect.CodeUnavailable && code != connect.CodeDeadlineExceeded {
			return usererr.New(usererr.Unavailable, "what answers at %s is no control plane: %s", c.url, rootCause(err)).
				WithHint("see whether --endpoint is right").Because(err)
		}
		sentence := usererr.New(usererr.Unavailable, "cannot reach the control plane at %s: %s", c.url, rootCause(err)).Because(err)
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return sentence.WithHint("name the CA of its certificate with --ca-file FILE")
		}
		return sentence.WithHint("see whether it runs, and whether --endpoint is right")
	}
	kind := usererr.Unavailable
	switch answer.Code() {
	case connect.CodeNotFound:
		kind = usererr.NotFound
	case connect.CodeAlreadyExists, connect.CodeFailedPrecondition, connect.CodeAborted:
		kind = usererr.Refused
	case connect.CodeInvalidArgument, connect.CodeOutOfRange, connect.CodeUnimplemented:
		kind = usererr.Invalid
	case connect.CodePermissionDenied, connect.CodeUnauthenticated:
		kind = usererr.Denied
	}
	sentence := usererr.New(kind, "%s", cmp.Or(answer.Message(), answer.Code().String())).Because(err)
	if hint := hints[answer.Code()]; hint != "" {
		return sentence.WithHint("%s", hint)
	}
	return sentence
}

// rootCause is the innermost error's text: what wraps it repeats the URL.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// oneCluster insists on the name of one.
func oneCluster(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usererr.New(usererr.Invalid, "%q takes the name of one cluster, got %d", cmd.CommandPath(), len(args)).
			WithHint("run '%s --help' for an example", cmd.CommandPath())
	}
	return checkClusterName(args[0])
}

func checkClusterName(name string) error {
	if !clusterName.MatchString(name) {
		return usererr.New(usererr.Invalid, "a cluster cannot be called %q", name).
			WithHint("take up to 63 of a-z, 0-9 and -, with no - at the ends")
	}
	return nil
}

// clusterNames completes the name of a cluster, if a control plane answers at once.
func (a *app) clusterNames(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	var names []cobra.Completion
	if client, err := a.clusters(ctx); err == nil {
		page, err := client.ListClusters(ctx, &clusterv1.ListClustersRequest{Organization: client.organization, Limit: 1000})
		if err == nil {
			for _, one := range page.Clusters {
				names = append(names, cobra.CompletionWithDesc(one.Name, stateWord(one.State)))
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// clusterResult is a cluster as JSON.
type clusterResult struct {
	Name                 string           `json:"name"`
	Organization         string           `json:"organization"`
	State                string           `json:"state"`
	Draining             bool             `json:"draining"`
	Version              string           `json:"version"`
	CreatedAt            *time.Time       `json:"createdAt"`
	JoinedAt             *time.Time       `json:"joinedAt"`
	LastHeartbeat        *time.Time       `json:"lastHeartbeat"`
	RoundTripSeconds     float64          `json:"roundTripSeconds"`
	PendingHandovers     uint32           `json:"pendingHandovers"`
	LagSeconds           float64          `json:"lagSeconds"`
	CertificateExpiresAt *time.Time       `json:"certificateExpiresAt"`
	ProxyEndpoint        string           `json:"proxyEndpoint"`
	CABundle             string           `json:"caBundle"`
	Capacity             *clusterCapacity `json:"capacity"`
	Parts                []clusterPart    `json:"parts"`
}

type clusterCapacity struct {
	MilliCPU    int64 `json:"milliCPU"`
	MemoryBytes int64 `json:"memoryBytes"`
	Pods        int64 `json:"pods"`
	Nodes       int64 `json:"nodes"`
}

type clusterPart struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Version string `json:"version"`
	Message string `json:"message"`
}

func newClusterResult(c *clusterv1.Cluster) clusterResult {
	result := clusterResult{
		Name: c.GetName(), Organization: c.GetOrganization(), State: stateWord(c.GetState()), Draining: c.GetDraining(), Version: c.GetVersion(),
		CreatedAt: timeOf(c.GetCreatedAt()), JoinedAt: timeOf(c.GetJoinedAt()), LastHeartbeat: timeOf(c.GetLastHeartbeat()),
		RoundTripSeconds: c.GetRoundTrip().AsDuration().Seconds(),
		PendingHandovers: c.GetPendingHandovers(), LagSeconds: c.GetLag().AsDuration().Seconds(),
		CertificateExpiresAt: timeOf(c.GetCertificateExpiresAt()), ProxyEndpoint: c.GetProxyEndpoint(), CABundle: c.GetCaBundle(),
		Parts: []clusterPart{},
	}
	if capacity := c.GetCapacity(); capacity != nil {
		result.Capacity = &clusterCapacity{MilliCPU: capacity.MilliCpu, MemoryBytes: capacity.MemoryBytes, Pods: capacity.Pods, Nodes: capacity.Nodes}
	}
	for _, peer := range c.GetPeers() {
		result.Parts = append(result.Parts, clusterPart{Name: peer.Name, Ready: peer.Ready, Version: peer.Version, Message: peer.Message})
	}
	slices.SortFunc(result.Parts, func(a, b clusterPart) int { return cmp.Compare(a.Name, b.Name) })
	return result
}

// stateWord is the state's name without what all have in common.
func stateWord(state clusterv1.ClusterState) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "CLUSTER_STATE_"))
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// ago is how long something is past, for people.
func ago(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return rough(time.Since(*t)) + " ago"
}

// rough is a duration in one unit.
func rough(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(0, d.Milliseconds()))
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// clusterRow is a cluster as a line of a table. Its version is a data plane's word,
// which may be anything.
func clusterRow(w io.Writer, c clusterResult) {
	lag := "-"
	if c.PendingHandovers > 0 {
		lag = fmt.Sprintf("%d for %s", c.PendingHandovers, rough(time.Duration(c.LagSeconds*float64(time.Second))))
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.Name, c.State, cmp.Or(oneLine(c.Version), "-"), ago(c.LastHeartbeat), lag)
}
