package s3_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// bareCommand is versitygw by itself, with one account, on the same kind of
// store and with the same TLS: what the front is measured against.
func bareCommand() *cobra.Command {
	var dir, address, cert, key, access, secret string
	command := &cobra.Command{Use: "bare", RunE: func(*cobra.Command, []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		objects, versions := filepath.Join(dir, "objects"), filepath.Join(dir, "versions")
		for _, folder := range []string{objects, versions} {
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
		}
		store, err := posix.New(objects, meta.XattrMeta{}, posix.PosixOpts{VersioningDir: versions, CopyObjectThreshold: 5 << 30})
		if err != nil {
			return err
		}
		return embedgw.RunVersityGW(ctx, store, &embedgw.Config{
			RootUserAccess: access, RootUserSecret: secret, Region: region, Ports: []string{address}, CertFile: cert, KeyFile: key,
			MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10000, KeepAlive: true, Quiet: true, HealthPath: "/_healthz",
		})
	}}
	flags := command.Flags()
	flags.StringVar(&dir, "dir", "", "")
	flags.StringVar(&address, "address", "", "")
	flags.StringVar(&cert, "tls-cert-file", "", "")
	flags.StringVar(&key, "tls-private-key-file", "", "")
	flags.StringVar(&access, "access", "", "")
	flags.StringVar(&secret, "secret", "", "")
	return command
}
