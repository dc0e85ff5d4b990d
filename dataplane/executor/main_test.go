package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/taskpod"
	"biplane.dev/biplane/dataplane/internal/clustertest"
)

const (
	// namespace is the workspace that a sandbox has; its pods may use the bucket.
	namespace = "flytesnacks-development"
	// image has this test's own program as its only file, which is a task there.
	image   = "biplane.test/task:1"
	program = "/bin/task"
)

// world is the sandbox of all tests, and an executor that works in it.
type world struct {
	*clustertest.Cluster
	cfg   *config.Config
	store *bucket.Store // as the executor sees it

	watching client.WithWatch
	image    string // its folder

	mu   sync.Mutex
	stop func() error // the executor's reconcilers
	told func() uint64
}

var w *world

func TestMain(m *testing.M) {
	if os.Args[0] == program {
		os.Exit(task(os.Args[1:]))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil { // they wait for pods, most of the time
		panic(err)
	}
	ctrllog.SetLogger(logr.Discard())
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int {
		code, err := inWorld(c, m.Run)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}, "kubernetes", "s3", "node"))
}

func inWorld(c *clustertest.Cluster, run func() int) (int, error) {
	folder := filepath.Dir(c.Kubeconfig)
	for name, value := range map[string]string{
		"SSL_CERT_FILE":               filepath.Join(folder, "aws", "ca-bundle.crt"),
		"AWS_WEB_IDENTITY_TOKEN_FILE": filepath.Join(folder, "aws", "tokens", "executor"),
		"AWS_ROLE_ARN":                "arn:aws:iam::111122223333:role/union/union-sandbox-adminflyterole-executor",
	} {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	w = &world{Cluster: c, told: func() uint64 { return math.MaxUint64 }, cfg: &config.Config{
		Namespace: "union",
		Storage: config.Storage{
			Region: c.Sandbox.S3.Region, Endpoint: c.Sandbox.S3.Endpoint, STSEndpoint: c.Sandbox.STS.Endpoint,
			MetadataBucket: c.Sandbox.Buckets.Metadata, FastRegistrationBucket: c.Sandbox.Buckets.FastRegistration, KeepLogs: time.Hour,
		},
		Executor: config.Executor{
			Process: config.Process{Endpoint: "executor.union.svc.cluster.local:8443"},
			Workers: 32, DefaultCPU: "50m", DefaultMemory: "256Mi", SystemRetries: 3, KeepFinished: time.Hour, ImagePullGrace: 2 * time.Second,
			Env: map[string]string{"AWS_EC2_METADATA_DISABLED": "true"},
		},
	}}
	w.store = bucket.New(w.cfg.Storage, os.Getenv)
	var err error
	if w.watching, err = client.NewWithWatch(c.Config, client.Options{Scheme: c.Client.Scheme()}); err != nil {
		return 0, err
	}
	defer func() { os.RemoveAll(w.image) }()
	if err := w.prepare(folder); err != nil {
		return 0, err
	}
	if err := w.startExecutor(); err != nil {
		return 0, err
	}
	code := run()
	return code, w.stopExecutor()
}

// prepare makes what the rest of a data plane would: the client's configuration in
// the workspace. And the image.
func (w *world) prepare(folder string) error {
	client := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: taskpod.ClientConfig},
		Data:       map[string]string{"config.yaml": "admin: {endpoint: operator.union.svc.cluster.local:8443}\n"},
	}
	if err := w.Client.Create(context.Background(), client); err != nil {
		return fmt.Errorf("making the client's configuration: %w", err)
	}
	root, err := os.MkdirTemp("", "executor-image")
	if err != nil {
		return err
	}
	w.image = root
	if err := os.Mkdir(filepath.Join(root, "bin"), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Link(own, filepath.Join(root, program)); err != nil {
		if err := copyFile(own, filepath.Join(root, program)); err != nil {
			return err
		}
	}
	biplane := "../../bin/biplane"
	out, err := exec.Command(biplane, "sandbox", "image", "map", image, root, "--dir", filepath.Dir(folder), "--name", filepath.Base(folder)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mapping the image: %w: %s", err, out)
	}
	return nil
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}

// startExecutor starts all of it but its API and its reports, which have tests of
// their own.
func (w *world) startExecutor() error {
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if file := os.Getenv("EXECUTOR_LOG"); file != "" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			cancel()
			return err
		}
		log = slog.New(slog.NewTextHandler(f, nil))
	}
	p, err := newParts(w.cfg, w.Config, log)
	if err == nil {
		p.told = func() uint64 { w.mu.Lock(); defer w.mu.Unlock(); return w.told() }
		err = p.reconcileActions(ctx)
	}
	if err == nil {
		err = p.keepLogs(ctx)
	}
	if err == nil {
		err = p.removeOld(ctx)
	}
	if err != nil {
		cancel()
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- p.manager.Start(ctx) }()
	w.stop = func() error { cancel(); return <-ended }
	return nil
}

func (w *world) stopExecutor() error { return w.stop() }

func (w *world) base(run string) string {
	return "s3://" + w.cfg.Storage.MetadataBucket + "/flytesnacks/development/" + run
}

// runName is of the test alone, and short enough for what is put behind it.
func runName(t *testing.T) string {
	sum := sha256.Sum256([]byte(t.Name()))
	return "r" + hex.EncodeToString(sum[:8])
}

func toStruct(fields map[string]any) (*structpb.Struct, error) { return structpb.NewStruct(fields) }
