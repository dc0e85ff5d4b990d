package identity

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
)

// Command is the program `identity`; the package's comment describes its flags.
func Command() *cobra.Command {
	var cfg Config
	cmd := &cobra.Command{
		Use:           "identity",
		Short:         "IAM and STS, and who may do what",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.complete(); err != nil {
				return err
			}
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Dir, "dir", "", "folder of the state file")
	flags.StringVar(&cfg.Account, "account", "123456789012", "the account's number: twelve digits")
	flags.StringVar(&cfg.Region, "region", "us-east-1", "the account's region")
	flags.StringVar(&cfg.AdminKeyFile, "admin-key-file", "", "access key of the account's administrator: a file of mode 0600 with {\"id\",\"secret\"}")
	flags.StringVar(&cfg.GatewayKeyFile, "gateway-key-file", "", "access key that calls over the socket are signed with, likewise")
	flags.StringVar(&cfg.Socket, "socket", "identity.sock", "socket that S3 servers ask over")
	flags.StringVar(&cfg.IAMAddress, "iam-address", "127.0.0.1:0", "host:port of IAM")
	flags.StringVar(&cfg.STSAddress, "sts-address", "", "host:port of STS")
	flags.StringVar(&cfg.WebhookAddress, "webhook-address", "", "host:port of the pod identity webhook")
	flags.StringVar(&cfg.CertFile, "tls-cert-file", "", "serving certificate")
	flags.StringVar(&cfg.KeyFile, "tls-private-key-file", "", "its key")
	flags.StringVar(&cfg.CAFile, "ca-file", "", "CA of the API server and of the serving certificate")
	flags.StringVar(&cfg.Issuer, "issuer", "", "issuer of the cluster's tokens, as in them")
	flags.StringVar(&cfg.JWKSURL, "jwks-url", "", "where the cluster's keys are: https://HOST:PORT/openid/v1/jwks of its API server")
	flags.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "file with the API server's address and credentials, to register the webhook with")
	flags.StringVar(&cfg.S3Endpoint, "s3-endpoint", "", "address of S3 that pods are told")
	flags.StringVar(&cfg.STSEndpoint, "sts-endpoint", "", "address of STS that pods are told (default: https://STS-ADDRESS)")
	flags.StringVar(&cfg.IAMEndpoint, "iam-endpoint", "", "address of IAM that pods are told (default: https://IAM-ADDRESS)")
	flags.StringVar(&cfg.CABundleFile, "ca-bundle-file", "", "roots that pods are told to trust")
	return cmd
}

// complete checks the flags and fills in what follows from others.
func (cfg *Config) complete() error {
	required := []struct{ flag, value string }{
		{"--dir", cfg.Dir}, {"--admin-key-file", cfg.AdminKeyFile}, {"--gateway-key-file", cfg.GatewayKeyFile}, {"--socket", cfg.Socket},
		{"--iam-address", cfg.IAMAddress}, {"--tls-cert-file", cfg.CertFile}, {"--tls-private-key-file", cfg.KeyFile},
	}
	if cfg.JWKSURL != "" {
		required = append(required, []struct{ flag, value string }{{"--issuer", cfg.Issuer}, {"--ca-file", cfg.CAFile}}...)
	}
	if cfg.Kubeconfig != "" {
		required = append(required, []struct{ flag, value string }{
			{"--webhook-address", cfg.WebhookAddress}, {"--ca-file", cfg.CAFile}, {"--s3-endpoint", cfg.S3Endpoint}, {"--ca-bundle-file", cfg.CABundleFile},
		}...)
	}
	for _, one := range required {
		if one.value == "" {
			return usererr.New(usererr.Invalid, "the program identity was started without %s", one.flag).WithHint("see 'biplane-sandbox identity --help'")
		}
	}
	if cfg.STSAddress == "" {
		cfg.STSAddress = cfg.IAMAddress
	}
	if cfg.IAMEndpoint == "" {
		cfg.IAMEndpoint = "https://" + cfg.IAMAddress
	}
	if cfg.STSEndpoint == "" {
		cfg.STSEndpoint = "https://" + cfg.STSAddress
	}
	return nil
}
