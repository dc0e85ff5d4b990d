package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access/announce"
	"biplane.dev/biplane/provision/fault"
)

type receiveFlags struct {
	listen  string
	url     string
	expect  string
	state   string
	tlsCert string
	tlsKey  string
	verify  bool
	once    bool
}

func (a *app) accessReceive() *cobra.Command {
	var f receiveFlags
	cmd := &cobra.Command{
		Use:   "receive --url URL --expect FILE",
		Short: "Receive the role ARNs that customers' stacks announce",
		Long: `Receive the role ARNs that customers' stacks announce, as the vendor, so that
nobody has to copy one.

A stack that was granted with --announce-url says its role to that URL, signed by
a role of the stack's own. STS is asked whose signature it is. What is believed
is written to stdout, one line of JSON for each, whatever --output says. What is
refused is logged on stderr, and its sender is told why.

FILE lists the customers that are expected, with the external IDs that were made
for them; nobody else may read it. It is read again when it changes:

  apiVersion: biplane.dev/v1
  kind: ExpectedCustomers
  customers:
  - name: acme
    externalIds: [5Zq0v3l1x8mTfKcW2hYbNg]
    account: "123456789012"     # where it is known already

It listens on this machine alone, to stand behind a proxy that ends TLS, unless it
has a certificate itself. What was received is remembered in a folder for as long
as it could be sent again, through a restart too. It stops on Ctrl-C or SIGTERM,
with exit status 0.`,
		Example: `  # Behind a proxy
  biplane access receive --url https://vendor.example.com/announcements --expect customers.yaml >> announced.jsonl

  # With TLS of its own, until the first, whose role is tried at once
  biplane access receive --url https://vendor.example.com:8443/ --expect customers.yaml \
    --listen :8443 --tls-cert tls.crt --tls-key tls.key --verify --once`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "url", f.url, "https://vendor.example.com/announcements, by which stacks reach it"); err != nil {
				return err
			}
			if err := required(cmd, "expect", f.expect, "customers.yaml"); err != nil {
				return err
			}
			return a.receive(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "`URL` that stacks are given with --announce-url, as they write it")
	flags.StringVar(&f.expect, "expect", "", "YAML `FILE` of the customers that are expected")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8443", "`ADDRESS` to listen on; other than this machine's only with TLS")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "PEM `FILE` of the certificate and those above it, read for each connection")
	flags.StringVar(&f.tlsKey, "tls-key", "", "PEM `FILE` of its key")
	flags.StringVar(&f.state, "state", "", "`FOLDER` that remembers what was received (default: FILE of --expect with .seen)")
	flags.BoolVar(&f.verify, "verify", false, "assume each announced role with its external ID, and say whether that works")
	flags.BoolVar(&f.once, "once", false, "end after the first")
	return cmd
}

// How a receiver ends, and how many may be connected to it.
const (
	receiverConnections = 256
	receiverGoodbye     = 10 * time.Second
)

func (a *app) receive(ctx context.Context, f receiveFlags) error {
	o := announce.Options{Log: a.log, Now: time.Now}
	var err error
	if o.URL, err = announce.ParseURL(f.url); err != nil {
		return err
	}
	certificate, err := f.certificate()
	if err != nil {
		return err
	}
	if o.Customers, err = announce.ReadCustomers(f.expect); err != nil {
		return err
	}
	if f.state == "" {
		f.state = f.expect + ".seen"
	}
	if o.Seen, err = announce.OpenSeen(f.state); err != nil {
		return usererr.New(usererr.Invalid, "what was received cannot be remembered in %s: %v", called(f.state), last(err)).
			WithHint("name a folder that you may write to with --state").Because(err)
	}
	cfg, err := a.receiverConfig(ctx, f.verify)
	if err != nil {
		return err
	}
	o.Endpoint = aws.ToString(sts.NewFromConfig(cfg).Options().BaseEndpoint)
	if f.verify {
		waits, err := clock.FromEnvironment()
		if err != nil {
			return err
		}
		client := sts.NewFromConfig(cfg)
		o.Verify = func(ctx context.Context, roleARN, externalID string) error {
			return tryRole(ctx, client, waits, roleARN, externalID)
		}
	}
	ended := make(chan error, 1)
	o.Receive = func(r announce.Received) error {
		err := json.NewEncoder(a.Out).Encode(r)
		if err != nil || f.once {
			select {
			case ended <- err:
			default: // somebody has ended it already
			}
		}
		return err
	}

	listener, err := f.listenTo(ctx, certificate != nil)
	if err != nil {
		return err
	}
	if !a.quiet {
		fmt.Fprintf(a.Err, "Listening on %s for announcements to %s\n", listener.Addr(), o.URL)
	}
	listener = netutil.LimitListener(listener, receiverConnections)
	if certificate != nil {
		listener = tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate})
	}
	server := announce.New(o).Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case <-ctx.Done():
	case err = <-ended:
	case err = <-served:
		return fmt.Errorf("serving announcements: %w", err)
	}
	goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), receiverGoodbye)
	defer cancel()
	if server.Shutdown(goodbye) != nil {
		server.Close()
	}
	<-served
	return err
}

// receiverConfig is the SDK's, with credentials only where there is something to do with them.
func (a *app) receiverConfig(ctx context.Context, credentials bool) (aws.Config, error) {
	if credentials {
		return a.awsConfig(ctx)
	}
	cfg, err := a.loadConfig(ctx, a.aws.profile)
	if err != nil {
		return aws.Config{}, err
	}
	return cfg, checkEndpoints(cfg)
}

// certificate reads the certificate for each connection, so that a new one needs no
// restart; nil is none.
func (f *receiveFlags) certificate() (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	if f.tlsCert == "" && f.tlsKey == "" {
		return nil, nil
	}
	if f.tlsCert == "" || f.tlsKey == "" {
		return nil, usererr.New(usererr.Invalid, "--tls-cert and --tls-key go together, and one is missing").
			WithHint("give both, or neither behind a proxy that ends TLS")
	}
	read := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
		return &pair, err
	}
	if _, err := read(nil); err != nil {
		return nil, usererr.New(usererr.Invalid, "the certificate %s with the key %s cannot be used: %v", called(f.tlsCert), called(f.tlsKey), last(err)).
			WithHint("name PEM files of a certificate and of its key").Because(err)
	}
	return read, nil
}

// listenTo opens the port. Without TLS only this machine may connect.
func (f *receiveFlags) listenTo(ctx context.Context, encrypted bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "--listen %q is no address", f.listen).WithHint("write it like 127.0.0.1:8443")
	}
	if ip := net.ParseIP(host); !encrypted && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usererr.New(usererr.Invalid, "--listen %q is not on this machine alone, and there is no TLS", f.listen).
			WithHint("give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that ends TLS")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		var cause *os.SyscallError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, usererr.New(usererr.Invalid, "--listen %s cannot be listened on: %v", f.listen, last(err)).WithHint("choose another port, or 0 for a free one").Because(err)
	}
	return listener, nil
}

// newRolePatience is how long IAM may take to show a role that was just made. The sender
// waits for it.
const newRolePatience = 8 * time.Second

// tryRole assumes a role and throws the session away.
func tryRole(ctx context.Context, client *sts.Client, waits clock.Clock, roleARN, externalID string) error {
	ctx, cancel := context.WithTimeout(ctx, newRolePatience)
	defer cancel()
	for {
		_, err := client.AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: &roleARN, ExternalId: &externalID, RoleSessionName: aws.String("biplane-receive"), DurationSeconds: aws.Int32(900),
		})
		if err == nil || ctx.Err() != nil || !fault.Denied(err) {
			return err
		}
		if waits.Sleep(ctx, time.Second) != nil {
			return err
		}
	}
}

// addAnnounceURL is for the commands by which a stack gets one.
func addAnnounceURL(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "announce-url", "", "`URL` of the vendor's 'biplane access receive', to which the stack says its role (default: to nobody)")
}

func checkAnnounceURL(text string) error {
	if text == "" {
		return nil
	}
	_, err := announce.ParseURL(text)
	return err
}
