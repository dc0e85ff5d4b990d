// Package kwok is fake nodes: pods that are scheduled to them go through the
// states of a life without anything being run, thousands of them, by the stages
// of KWOK. Scheduling, admission, Jobs, quotas and statuses are real. For pods
// whose programs matter there is package node.
//
// A pod whose restart policy is Never or OnFailure ends: after the time of its
// annotation biplane.dev/duration ("1.5s"; at once without it), with the exit
// code of biplane.dev/exit-code. Any other runs until it is deleted.
//
// Start with Command; stages.yaml is the lives, nodes.go the Nodes, api.go what
// kubectl logs and exec are told.
package kwok

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	nodes "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	pods "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/apis/v1alpha1"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/gotpl"
	"sigs.k8s.io/yaml"
)

// Annotations of a pod.
const (
	Duration = "biplane.dev/duration"
	ExitCode = "biplane.dev/exit-code"
)

// Config is the fake nodes of one process.
type Config struct {
	Kubeconfig string
	Names      []string // of the Nodes
	Address    string   // host:port of the kubelet's API, which says that there is none
	Cert, Key  string   // files: its serving certificate
	Log        *slog.Logger
}

// Command is the program.
func Command() *cobra.Command {
	var cfg Config
	var prefix string
	var count int
	cmd := &cobra.Command{
		Use:           "kwok",
		Short:         "fake nodes, on which pods live without anything being run",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			if count < 0 || count > 5000 {
				return fmt.Errorf("flag --nodes is %d, and must be between 0 and 5000", count)
			}
			for i := range count {
				cfg.Names = append(cfg.Names, fmt.Sprintf("%s-%d", prefix, i+1))
			}
			if len(cfg.Names) == 0 {
				return errors.New("no node is named: give --names or --nodes")
			}
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Kubeconfig, "kubeconfig", "", "file with the API server's address and credentials")
	flags.StringSliceVar(&cfg.Names, "names", nil, "names of the Nodes")
	flags.IntVar(&count, "nodes", 0, "how many more Nodes, called after --prefix")
	flags.StringVar(&prefix, "prefix", "kwok", "what the Nodes of --nodes are called: PREFIX-1, PREFIX-2, …")
	flags.StringVar(&cfg.Address, "address", "127.0.0.1:0", "host:port of the kubelet's API")
	flags.StringVar(&cfg.Cert, "tls-cert-file", "", "serving certificate of the kubelet's API")
	flags.StringVar(&cfg.Key, "tls-private-key-file", "", "its key")
	return cmd
}

// Run plays the nodes until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	restConfig, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	restConfig.QPS = -1 // the API server has its own limits
	restConfig.UserAgent = "biplane-sandbox/kwok"
	restConfig.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return fmt.Errorf("making the client of the API server: %w", err)
	}
	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return fmt.Errorf("listening for the kubelet's API: %w", err)
	}
	api, err := serve(listener, cfg)
	if err != nil {
		return err
	}
	defer api.Close()

	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return fmt.Errorf("reading the address of the kubelet's API: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("reading the port of the kubelet's API: %w", err)
	}
	played, err := stages()
	if err != nil {
		return err
	}
	id, err := controllers.Identity()
	if err != nil {
		return fmt.Errorf("naming this process: %w", err)
	}
	ours := controllers.Config{
		TypedClient:              client,
		RESTClient:               client.RESTClient(),
		LocalStages:              played,
		FuncMap:                  gotpl.FuncMap{"ExitCode": exitCode},
		CIDR:                     "10.245.0.1/16",
		NodeIP:                   host,
		NodePort:                 number,
		PodPlayStageParallelism:  16,
		NodePlayStageParallelism: 4,
		NodeLeaseDurationSeconds: 40,
		NodeLeaseParallelism:     4,
		ID:                       id,
	}
	if len(cfg.Names) == 1 {
		ours.ManageSingleNode = cfg.Names[0] // and watch its pods only
	} else {
		ours.ManageNodesWithLabelSelector = label + "=" + cfg.Names[0]
	}
	controller, err := controllers.NewController(ours)
	if err != nil {
		return fmt.Errorf("making KWOK's controller: %w", err)
	}
	if err := register(ctx, client, cfg, host, int32(number)); err != nil {
		return err
	}
	// KWOK tells each state of each pod; what it fails at is enough.
	if err := controller.Start(kwoklog.NewContext(ctx, kwoklog.NewLogger(os.Stderr, kwoklog.LevelWarn))); err != nil {
		return fmt.Errorf("starting KWOK's controller: %w", err)
	}
	cfg.Log.Info("playing nodes", "count", len(cfg.Names), "first", cfg.Names[0], "api", listener.Addr())
	<-ctx.Done()
	return nil
}

//go:embed stages.yaml
var ends string

// stages are the lives of nodes and pods: KWOK's own, and the end of a pod.
func stages() (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	all := map[internalversion.StageResourceRef][]*internalversion.Stage{}
	for _, text := range []string{nodes.DefaultNodeInit, pods.DefaultPodReady, pods.DefaultPodDelete, ends} {
		var published v1alpha1.Stage
		if err := yaml.UnmarshalStrict([]byte(text), &published); err != nil {
			return nil, fmt.Errorf("reading a stage: %w", err)
		}
		stage, err := internalversion.ConvertToInternalStage(&published)
		if err != nil {
			return nil, fmt.Errorf("converting stage %s: %w", published.Name, err)
		}
		all[stage.Spec.ResourceRef] = append(all[stage.Spec.ResourceRef], stage)
	}
	return all, nil
}

// exitCode is that of a pod's annotations. What is no exit code is 1: a pod
// that was to fail must not succeed for a misspelling.
func exitCode(annotations any) int {
	all, _ := annotations.(map[string]any)
	text, given := all[ExitCode]
	if !given {
		return 0
	}
	code, err := strconv.Atoi(strings.TrimSpace(fmt.Sprint(text)))
	if err != nil || code < 0 || code > 255 {
		return 1
	}
	return code
}
