package s3

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
)

// Command is the program `s3`; the package's comment describes its flags.
func Command() *cobra.Command {
	var cfg Config
	cmd := &cobra.Command{
		Use:           "s3",
		Short:         "the object store, which refuses what a policy does not grant",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, one := range []struct{ flag, value string }{
				{"--dir", cfg.Dir}, {"--tls-cert-file", cfg.CertFile}, {"--tls-private-key-file", cfg.KeyFile}, {"--gateway-key-file", cfg.GatewayKeyFile},
			} {
				if one.value == "" {
					return usererr.New(usererr.Invalid, "the program s3 was started without %s", one.flag).WithHint("see 'biplane-sandbox s3 --help'")
				}
			}
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Dir, "dir", "", "folder of the objects")
	flags.StringVar(&cfg.Address, "address", "127.0.0.1:0", "host:port to listen on")
	flags.StringVar(&cfg.CertFile, "tls-cert-file", "", "serving certificate")
	flags.StringVar(&cfg.KeyFile, "tls-private-key-file", "", "its key")
	flags.StringVar(&cfg.Account, "account", "123456789012", "the account's number: twelve digits")
	flags.StringVar(&cfg.Region, "region", "us-east-1", "the account's region")
	flags.StringVar(&cfg.Socket, "identity-socket", "identity.sock", "socket of the identity program")
	flags.StringVar(&cfg.GatewayKeyFile, "gateway-key-file", "", "access key that calls over the socket are signed with: a file of mode 0600 with {\"id\",\"secret\"}")
	flags.StringVar(&cfg.VirtualDomain, "virtual-domain", "", "domain below which the first label of a host name is a bucket")
	return cmd
}
