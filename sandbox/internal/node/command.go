package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is the program `node`; the package comment describes its flags.
func Command() *cobra.Command {
	var cfg Config
	cmd := &cobra.Command{
		Use:           "node",
		Short:         "a node whose containers are local processes",
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
	cfg.addFlags(cmd.Flags())
	return cmd
}

// ParseFlags reads a command line of the program, for a caller that runs it
// itself.
func ParseFlags(args []string) (Config, error) {
	var cfg Config
	flags := pflag.NewFlagSet("node", pflag.ContinueOnError)
	cfg.addFlags(flags)
	if err := flags.Parse(args); err != nil {
		return Config{}, err
	}
	return cfg, cfg.complete()
}

func (cfg *Config) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&cfg.Name, "name", "", "name of the Node")
	flags.StringVar(&cfg.Dir, "dir", "", "the node's own folder")
	flags.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "file with the API server's address and the node's credentials")
	flags.StringVar(&cfg.Address, "address", "127.0.0.1:0", "host:port of the kubelet's API; the host is the node's and its pods' IP")
	flags.StringVar(&cfg.Cert, "tls-cert-file", "", "serving certificate of the kubelet's API")
	flags.StringVar(&cfg.Key, "tls-private-key-file", "", "its key")
	flags.StringVar(&cfg.ClientCA, "client-ca-file", "", "whose client certificates the kubelet's API believes")
	flags.StringVar(&cfg.SandboxDir, "sandbox-dir", "", "the sandbox's folder, with images.yaml (default: the one two above --dir)")
	flags.StringVar(&cfg.Python.Flag, "python", "", "Python environment of images that want one")
	flags.StringVar(&cfg.Python.Active, "virtual-env", "", "Python environment that was active when the sandbox was started")
	flags.BoolVar(&cfg.Services, "services", false, "answer on the addresses of Services; of several nodes one does")
	flags.StringSliceVar(&cfg.HostPaths, "host-path", []string{"/tmp", "/usr:ro", "/etc/hosts:ro"}, "folder or file that hostPath volumes may name; PATH:ro: and only read")
}

// complete checks the flags and fills in what follows from others.
func (cfg *Config) complete() error {
	for _, required := range []struct{ flag, value string }{
		{"--name", cfg.Name}, {"--dir", cfg.Dir}, {"--kubeconfig", cfg.Kubeconfig},
		{"--tls-cert-file", cfg.Cert}, {"--tls-private-key-file", cfg.Key}, {"--client-ca-file", cfg.ClientCA},
	} {
		if required.value == "" {
			return errors.New("flag " + required.flag + " is missing")
		}
	}
	// Containers bind-mount what lies below it: a relative name would change its
	// meaning on the way.
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return fmt.Errorf("finding %s: %w", cfg.Dir, err)
	}
	cfg.Dir = dir
	if cfg.SandboxDir == "" {
		cfg.SandboxDir = filepath.Dir(filepath.Dir(dir))
	}
	return nil
}
