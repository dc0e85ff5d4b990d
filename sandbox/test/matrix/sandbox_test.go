package matrix_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/bootstrap"
)

var bin = flag.String("bin", "../../../bin", "folder of biplane and biplane-sandbox")

// The one sandbox of all tests.
var (
	status sandbox.Status
	cfg    bootstrap.Config // as the supervisor had it
	venv   string           // a Python environment with boto3 and the AWS CLI
	client *kubernetes.Clientset
	admin  struct {
		iam *iam.Client
		s3  *s3.Client
	}
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withSandbox(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withSandbox(run func() int) (code int, err error) {
	biplane, err := filepath.Abs(filepath.Join(*bin, "biplane"))
	if err != nil {
		return 0, err
	}
	for _, program := range []string{biplane, biplane + "-sandbox"} {
		if _, err := os.Stat(program); err != nil {
			return 0, fmt.Errorf("got no %s, want it made by 'make build setup'", program)
		}
	}
	if out, err := exec.Command("../../../test/python/setup.sh").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("run 'make setup': %s", out)
	}
	if venv, err = filepath.Abs("../../../.cache/venv"); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "matrix")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)

	command := func(limit time.Duration, args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, biplane, append([]string{"sandbox"}, append(args, "--dir", dir, "--name", "matrix")...)...)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("biplane sandbox %s: %w: %s", strings.Join(args, " "), err, &said)
		}
		return out, nil
	}
	if _, err := command(5*time.Minute, "up", "--python", venv); err != nil {
		return 0, err
	}
	defer func() {
		if _, down := command(time.Minute, "down", "--purge"); down != nil && err == nil {
			err = down
		}
	}()
	out, err := command(time.Minute, "status", "--output", "json")
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return 0, err
	}
	if err := connect(); err != nil {
		return 0, err
	}
	return run(), nil
}

// connect makes the administrator's clients, of the files that a person has.
func connect() error {
	folder := sandbox.Folder(status.Dir)
	record, err := sandbox.ReadRecord(folder)
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(folder.AWSCredentials())
	if err != nil {
		return err
	}
	value := func(key string) string {
		for line := range strings.Lines(string(secret)) {
			if name, text, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == key {
				return strings.TrimSpace(text)
			}
		}
		return ""
	}
	cfg = bootstrap.Config{
		Dir: status.Dir, Kubeconfig: status.Kubernetes.Kubeconfig, Region: status.S3.Region, Account: record.Account, Issuer: record.Issuer(),
		S3: status.S3.Endpoint, IAM: status.IAM.Endpoint, STS: status.STS.Endpoint, CABundle: folder.CABundle(),
		Admin: bootstrap.Key{ID: value("aws_access_key_id"), Secret: value("aws_secret_access_key")},
	}
	text, err := os.ReadFile(cfg.CABundle)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	key := credentials.NewStaticCredentialsProvider(cfg.Admin.ID, cfg.Admin.Secret, "")
	admin.iam = iam.New(iam.Options{Region: cfg.Region, BaseEndpoint: &cfg.IAM, HTTPClient: web, Credentials: key})
	admin.s3 = s3.New(s3.Options{Region: cfg.Region, BaseEndpoint: &cfg.S3, HTTPClient: web, Credentials: key, UsePathStyle: true})
	config, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return err
	}
	client, err = kubernetes.NewForConfig(config)
	return err
}

// environment is that of a program which a person runs with a profile: what 'biplane
// sandbox env' prints, and no more of the caller's own than a path and a home.
func environment(profile string) []string {
	folder := sandbox.Folder(status.Dir)
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + status.Dir, "AWS_PROFILE=" + profile, "AWS_CONFIG_FILE=" + folder.AWSConfig(),
		"AWS_SHARED_CREDENTIALS_FILE=" + folder.AWSCredentials(), "AWS_CA_BUNDLE=" + folder.CABundle(), "AWS_EC2_METADATA_DISABLED=true",
	}
}

// python runs the script outside, with a profile.
func python(ctx context.Context, profile string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(venv, "bin", "python"), "cells.py", profile, status.Buckets.Metadata, status.Buckets.FastRegistration)
	cmd.Env = environment(profile)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("profile %s: %w: %s", profile, err, &said)
	}
	return string(out), nil
}
