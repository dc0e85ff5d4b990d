// Package identity is the sandbox's IAM and STS: internal/awsidentity behind
// TLS in AWS's own protocol, the verification of the cluster's tokens, the
// socket by which an S3 server asks who signed and whether they may, and the
// webhook that gives pods what EKS gives them. It stores no objects and decides
// nothing by itself: awsidentity does, on the policies that it keeps.
//
// Where things are:
//
//	command.go     the program `identity` and its flags
//	identity.go    Config and Run: the pieces in order
//	key.go         access keys in files of mode 0600
//	keyset.go      the keys of the cluster's tokens, fetched from its API server
//	gateway.go     the socket: versitygw's private protocol 1, and Holder
//	generation.go  the number that tells an S3 server to ask again
//	webhook.go     the admission webhook: AWS_ROLE_ARN and the others
//	inject.go      what it adds to a pod
//	tokens.go      whose the tokens are that the API server does not know
//
// The program takes these flags. Addresses may be the same one: then one
// listener answers for them.
//
//	--dir                   folder of the state file, identity.db
//	--account, --region     of the account that the sandbox plays
//	--admin-key-file        JSON {"id","secret"}: key of the account's administrator
//	--gateway-key-file      likewise: key that calls over the socket are signed with
//	--socket                the socket; beside it SOCKET.generation is kept
//	--iam-address, --sts-address, --webhook-address   host:port to listen on
//	--tls-cert-file, --tls-private-key-file           for all three
//	--ca-file               the CA of the API server and of this program
//	--issuer                of the cluster's tokens, as in them; it is never dialled
//	--jwks-url              where the API server has the keys of them
//	--kubeconfig            to register the webhook with; without it there is none
//	--s3-endpoint, --sts-endpoint, --iam-endpoint     what pods are told
//	--ca-bundle-file        the roots that pods are told to trust
//
// GET /healthz answers 200 once it serves. GET /readyz answers 200 once the
// cluster's keys are here and the webhook is registered too, where there is a
// cluster, and else says what is missing.
//
// Start with Run.
package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"biplane.dev/biplane/internal/awsidentity"
)

// Config is what the program is told. See the package's comment.
type Config struct {
	Dir            string
	Account        string
	Region         string
	AdminKeyFile   string
	GatewayKeyFile string
	Socket         string

	IAMAddress     string
	STSAddress     string
	WebhookAddress string
	CertFile       string
	KeyFile        string
	CAFile         string

	Issuer     string
	JWKSURL    string
	Kubeconfig string

	S3Endpoint   string
	STSEndpoint  string
	IAMEndpoint  string
	CABundleFile string

	Log      *slog.Logger
	Clock    func() time.Time // time.Now by default
	Listened func()           // called once everything listens; nothing by default
}

// Run serves until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	admin, err := ReadKey(cfg.AdminKeyFile)
	if err != nil {
		return err
	}
	gatewayKey, err := ReadKey(cfg.GatewayKeyFile)
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("reading the serving certificate: %w", err)
	}
	generation, err := NewGeneration(cfg.Socket)
	if err != nil {
		return err
	}
	defer generation.Close()
	keys, err := newKeySet(cfg)
	if err != nil {
		return err
	}

	service, err := awsidentity.Open(awsidentity.Options{
		File: filepath.Join(cfg.Dir, "identity.db"), Clock: cfg.Clock, Log: cfg.Log,
		Written: generation.Next, FetchKeys: keys.fetchFor,
	})
	if err != nil {
		return err
	}
	defer service.Close()
	keys.found = service.SetKeys
	_, err = service.CreateAccount(cfg.Account, awsidentity.AccountOptions{
		Key: awsidentity.Credentials{AccessKeyID: admin.ID, SecretAccessKey: admin.Secret},
	})
	if err != nil {
		return err
	}
	hook, err := newWebhook(cfg)
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		for _, missing := range []string{keys.missing(), hook.missing()} {
			if missing != "" {
				http.Error(w, missing, http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("POST "+webhookPath, hook)
	mux.Handle("POST "+TokenPath, newTokens(filepath.Dir(cfg.Socket)))
	mux.Handle("/", service)

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	defer running.Wait()
	background := func(what string, run func() error) {
		running.Go(func() {
			if err := run(); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	serve := func(what string, listener net.Listener, handler http.Handler) {
		server := &http.Server{
			Handler: handler, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
			// Whoever connects and says nothing is not waited for.
			ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		}
		background(what, func() error { return server.Serve(listener) })
		context.AfterFunc(ctx, func() { server.Close() })
	}

	socket, err := listenSocket(cfg.Socket)
	if err != nil {
		return err
	}
	defer os.Remove(cfg.Socket)
	serve("serving the socket", socket, newGateway(service, gatewayKey, cfg))

	secure := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	listening := map[string]bool{}
	for _, address := range []string{cfg.IAMAddress, cfg.STSAddress, cfg.WebhookAddress} {
		if address == "" || listening[address] {
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			stop(nil)
			return fmt.Errorf("listening on %s: %w", address, err)
		}
		listening[address] = true
		serve("serving "+address, tls.NewListener(listener, secure), mux)
	}
	background("following the cluster's keys", func() error { return keys.follow(ctx) })
	background("keeping the webhook", func() error { return hook.keep(ctx) })
	if cfg.Listened != nil {
		cfg.Listened()
	}
	cfg.Log.Info("serving", "iam", cfg.IAMAddress, "sts", cfg.STSAddress, "socket", cfg.Socket)

	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
