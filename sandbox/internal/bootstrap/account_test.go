package bootstrap_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/sandbox/internal/bootstrap"
	"biplane.dev/biplane/sandbox/internal/identity"
	"biplane.dev/biplane/sandbox/internal/pki"
	objectstore "biplane.dev/biplane/sandbox/internal/s3"
)

// The identity service and the S3 server, as the supervisor runs them but in this
// process. There is no cluster: what needs one is shown on a whole sandbox, in
// sandbox/test/matrix.
var world struct {
	cfg bootstrap.Config
	iam *iam.Client
	s3  *s3.Client
}

func TestMain(m *testing.M) {
	status, err := withWorld(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func withWorld(run func() int) (status int, err error) {
	dir, err := os.MkdirTemp("", "bootstrap")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	// The S3 server makes its folder this process's working directory.
	keys, err := pki.Open(filepath.Join(dir, "pki"), time.Now())
	if err != nil {
		return 0, err
	}
	serving, err := keys.Pair("serving", pki.Subject{User: "serving", IPs: []string{"127.0.0.1"}})
	if err != nil {
		return 0, err
	}
	adminFile, admin, err := keys.AccessKey("admin")
	if err != nil {
		return 0, err
	}
	gatewayFile, _, err := keys.AccessKey("gateway")
	if err != nil {
		return 0, err
	}
	if err := os.Mkdir(filepath.Join(dir, "aws"), 0o700); err != nil {
		return 0, err
	}
	bundle := filepath.Join(dir, "aws", "ca-bundle.crt")
	if err := keys.Bundle(bundle); err != nil {
		return 0, err
	}
	for _, folder := range []string{"identity", "s3"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return 0, err
		}
	}
	const account, region, issuer = "111122223333", "us-east-2", "https://oidc.eks.us-east-2.amazonaws.com/id/AB12"
	addresses, err := freeAddresses(3)
	if err != nil {
		return 0, err
	}
	socket := filepath.Join(dir, "identity.sock")

	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	failed := make(chan error, 2)
	defer running.Wait()
	defer stop()
	start := func(run func(listened func()) error) error {
		listened := make(chan struct{})
		running.Go(func() {
			if err := run(func() { close(listened) }); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
		select {
		case <-listened:
			return nil
		case err := <-failed:
			return err
		}
	}
	if err := start(func(listened func()) error {
		return identity.Run(ctx, identity.Config{
			Dir: filepath.Join(dir, "identity"), Account: account, Region: region, AdminKeyFile: adminFile, GatewayKeyFile: gatewayFile, Socket: socket,
			IAMAddress: addresses[0], STSAddress: addresses[1], CertFile: serving.Cert, KeyFile: serving.Key, CAFile: keys.CA(), Issuer: issuer,
			CABundleFile: bundle, Log: slog.New(slog.DiscardHandler), Listened: listened,
		})
	}); err != nil {
		return 0, err
	}
	if err := start(func(listened func()) error {
		return objectstore.Run(ctx, objectstore.Config{
			Dir: filepath.Join(dir, "s3"), Address: addresses[2], CertFile: serving.Cert, KeyFile: serving.Key, Account: account, Region: region,
			Socket: socket, GatewayKeyFile: gatewayFile, Log: slog.New(slog.DiscardHandler), Listened: listened,
		})
	}); err != nil {
		return 0, err
	}

	world.cfg = bootstrap.Config{
		Dir: dir, Region: region, Account: account, Issuer: issuer,
		IAM: "https://" + addresses[0], STS: "https://" + addresses[1], S3: "https://" + addresses[2], CABundle: bundle,
		Admin: bootstrap.Key{ID: admin.ID, Secret: admin.Secret},
	}
	text, err := os.ReadFile(bundle)
	if err != nil {
		return 0, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	key := credentials.NewStaticCredentialsProvider(admin.ID, admin.Secret, "")
	world.iam = iam.New(iam.Options{Region: region, BaseEndpoint: &world.cfg.IAM, HTTPClient: client, Credentials: key})
	world.s3 = s3.New(s3.Options{Region: region, BaseEndpoint: &world.cfg.S3, HTTPClient: client, Credentials: key, UsePathStyle: true})
	return run(), nil
}

// freeAddresses are on the loopback interface, and nobody listens there.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// run runs the bootstrap and returns what it reported.
func run(t *testing.T) (bootstrap.Result, []string) {
	t.Helper()
	var said []string
	result, err := bootstrap.Run(t.Context(), world.cfg, func(e bootstrap.Event) { said = append(said, e.Thing+": "+e.Did) })
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(said)
	return result, said
}

const (
	metadata = "union-sandbox-metadata-111122223333"
	executor = "union-sandbox-adminflyterole-executor"
	// What this S3 server does not have. Should it come to have one of them, say so here.
	unsupported = "not supported by this endpoint: public access, encryption, lifecycle"
)

// The cases change one account, so they come one after the other.
func TestRun(t *testing.T) {
	result, said := run(t)
	t.Run("it makes buckets, provider, roles and profiles", func(t *testing.T) {
		if got := result.Buckets; got.Metadata != metadata || got.FastRegistration != "union-sandbox-fast-registration-111122223333" {
			t.Errorf("got buckets %+v, want those of the sandbox's data plane", got)
		}
		if len(result.Roles) != 6 || result.Roles["clusterresource-template"] != "arn:aws:iam::111122223333:role/union/union-sandbox-userflyterole" {
			t.Errorf("got roles %v, want six", result.Roles)
		}
		want := []string{"admin", "flyteadmin", "clustersync-system", "executor", "proxy-system", "operator-system", "flytepropeller-system", "flytepropeller-webhook-system", "clusterresource-template"}
		if !slices.Equal(result.Profiles, want) {
			t.Errorf("got profiles %v, want %v", result.Profiles, want)
		}
		if created := count(said, "create"); created != 9 {
			t.Errorf("got %d things made, want 2 buckets, a provider and 6 roles: %q", created, said)
		}
	})
	t.Run("it changes nothing when it runs again, and says what the endpoint lacks", func(t *testing.T) {
		before := files(t)
		_, said := run(t)
		want := []string{"bucket union-sandbox-fast-registration-111122223333: " + unsupported, "bucket " + metadata + ": " + unsupported}
		if !slices.Equal(said, want) {
			t.Errorf("got %q, want %q", said, want)
		}
		if after := files(t); before != after {
			t.Errorf("got files %s, want those of before, %s", after, before)
		}
	})
	t.Run("it makes again what went", func(t *testing.T) {
		deleteRole(t, executor)
		if _, err := world.s3.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: aws.String(metadata)}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(world.cfg.Dir, "aws", "config")); err != nil {
			t.Fatal(err)
		}
		_, said := run(t)
		for _, want := range []string{"role " + executor + ": create", "bucket " + metadata + ": create"} {
			if !slices.Contains(said, want) {
				t.Errorf("got %q, want %q among it", said, want)
			}
		}
		if _, err := os.Stat(filepath.Join(world.cfg.Dir, "aws", "config")); err != nil {
			t.Error(err)
		}
	})
	t.Run("it finishes a role and a bucket that a killed run left half made", func(t *testing.T) {
		if _, err := world.iam.DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String(executor), PolicyName: aws.String("buckets")}); err != nil {
			t.Fatal(err)
		}
		if _, err := world.s3.DeleteBucketCors(t.Context(), &s3.DeleteBucketCorsInput{Bucket: aws.String(metadata)}); err != nil {
			t.Fatal(err)
		}
		_, said := run(t)
		for _, want := range []string{"role " + executor + ": finish", "bucket " + metadata + ": finish"} {
			if !slices.Contains(said, want) {
				t.Errorf("got %q, want %q among it", said, want)
			}
		}
	})
	t.Run("it finishes what a run left that was ended after any of its steps", func(t *testing.T) {
		for n := 1; n <= 9; n += 2 {
			removeAll(t)
			ctx, end := context.WithCancel(t.Context())
			steps := 0
			_, err := bootstrap.Run(ctx, world.cfg, func(e bootstrap.Event) {
				if e.Did == "create" {
					if steps++; steps == n {
						end()
					}
				}
			})
			end()
			if err != nil && !errors.Is(err, context.Canceled) { // none where all others were in hand already
				t.Fatalf("ended after step %d: got %v, want it to end", n, err)
			}
			run(t)
			if _, said := run(t); count(said, "create")+count(said, "finish") != 0 {
				t.Errorf("ended after step %d, and run again: got %q left to do, want nothing", n, said)
			}
		}
	})
	t.Run("it leaves alone what somebody changed or made, and says so", func(t *testing.T) {
		mine := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListBucket","Resource":"*"}]}`
		trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
		_, err := world.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String(executor), PolicyName: aws.String("buckets"), PolicyDocument: &mine})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := world.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("mine"), AssumeRolePolicyDocument: &trust}); err != nil {
			t.Fatal(err)
		}
		defer deleteRole(t, "mine")
		defer deleteRole(t, executor)
		_, said := run(t)
		if want := "role " + executor + ": left alone: its inline policy buckets is another one"; !slices.Contains(said, want) {
			t.Errorf("got %q, want %q among it", said, want)
		}
		out, err := world.iam.GetRolePolicy(t.Context(), &iam.GetRolePolicyInput{RoleName: aws.String(executor), PolicyName: aws.String("buckets")})
		if err != nil || !strings.Contains(*out.PolicyDocument, "ListBucket") || strings.Contains(*out.PolicyDocument, "PutObject") {
			t.Errorf("got policy %v (%v), want what somebody put there", out, err)
		}
		if _, err := world.iam.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("mine")}); err != nil {
			t.Errorf("got %v, want the role of somebody's own to be there", err)
		}
	})
	t.Run("it keeps everything it writes to its owner", func(t *testing.T) {
		config := filepath.Join(world.cfg.Dir, "aws", "credentials")
		if err := os.Chmod(config, 0o644); err != nil {
			t.Fatal(err)
		}
		_, said := run(t)
		err := filepath.WalkDir(filepath.Join(world.cfg.Dir, "aws"), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() == "ca-bundle.crt" {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("got mode %v for %s, want nothing for others", info.Mode(), path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(world.cfg.Dir, "aws", "config"))
		if err != nil {
			t.Fatal(err)
		}
		everywhere := string(text) + strings.Join(said, "") + fmt.Sprintf("%v %+v %#v", world.cfg, world.cfg, world.cfg)
		if strings.Contains(everywhere, world.cfg.Admin.Secret) {
			t.Error("got the administrator's secret in the configuration, the progress or a log, want it in the credentials only")
		}
	})
	t.Run("it ends with the reason when nobody answers", func(t *testing.T) {
		cfg := world.cfg
		addresses, err := freeAddresses(1)
		if err != nil {
			t.Fatal(err)
		}
		cfg.IAM = "https://" + addresses[0]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = bootstrap.Run(ctx, cfg, nil)
		if err == nil || strings.Contains(err.Error(), cfg.Admin.Secret) {
			t.Errorf("got %v, want an error without the key", err)
		}
	})
}

// removeAll takes away all that bootstrap makes.
func removeAll(t *testing.T) {
	t.Helper()
	roles, err := world.iam.ListRoles(t.Context(), &iam.ListRolesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles.Roles {
		deleteRole(t, *r.RoleName)
	}
	buckets, err := world.s3.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets.Buckets {
		if _, err := world.s3.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: b.Name}); err != nil {
			t.Fatal(err)
		}
	}
	arn := "arn:aws:iam::" + world.cfg.Account + ":oidc-provider/" + strings.TrimPrefix(world.cfg.Issuer, "https://")
	if _, err := world.iam.DeleteOpenIDConnectProvider(t.Context(), &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn}); err != nil {
		t.Fatal(err)
	}
}

func count(said []string, what string) int {
	n := 0
	for _, line := range said {
		if strings.HasSuffix(line, ": "+what) {
			n++
		}
	}
	return n
}

// files are the AWS configuration's files, with the times of their last change.
func files(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(filepath.Join(world.cfg.Dir, "aws"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		fmt.Fprintf(&b, "%s %v\n", path, info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func deleteRole(t *testing.T, name string) {
	t.Helper()
	_, err := world.iam.DeleteRolePolicy(context.Background(), &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: aws.String("buckets")})
	var none *types.NoSuchEntityException
	if err != nil && !errors.As(err, &none) {
		t.Fatal(err)
	}
	if _, err := world.iam.DeleteRole(context.Background(), &iam.DeleteRoleInput{RoleName: &name}); err != nil {
		t.Fatal(err)
	}
}
