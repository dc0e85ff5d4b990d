package matrix_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/bootstrap"
)

const roleAnnotation = "eks.amazonaws.com/role-arn"

// bootstrapAgain runs the bootstrap on the running sandbox and returns what it did,
// without what it says of the endpoint each time.
func bootstrapAgain(t *testing.T) []string {
	t.Helper()
	did := []string{}
	_, err := bootstrap.Run(t.Context(), cfg, func(e bootstrap.Event) {
		if !strings.HasPrefix(e.Did, "not supported") {
			did = append(did, e.Thing+": "+e.Did)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(did)
	return did
}

func TestBootstrap(t *testing.T) {
	accounts := client.CoreV1().ServiceAccounts("union")
	t.Run("it changes nothing when it runs again", func(t *testing.T) {
		if got := bootstrapAgain(t); len(got) != 0 {
			t.Errorf("got %q, want nothing done", got)
		}
	})
	t.Run("it annotates the accounts that have a role, and no others", func(t *testing.T) {
		for _, p := range published {
			account, err := client.CoreV1().ServiceAccounts(p.namespace).Get(t.Context(), p.kubernetes, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := "arn:aws:iam::" + cfg.Account + ":role/union/union-sandbox-adminflyterole-" + p.account
			switch {
			case p.account == "clusterresource-template":
				want = "arn:aws:iam::" + cfg.Account + ":role/union/union-sandbox-userflyterole"
			case p.metadata+p.fastRegistration == "............":
				want = ""
			}
			if got := account.Annotations[roleAnnotation]; got != want {
				t.Errorf("%s: got role %q, want %q", p.account, got, want)
			}
		}
	})
	t.Run("it makes again what went in the cluster", func(t *testing.T) {
		if err := accounts.Delete(t.Context(), "executor", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := accounts.Patch(t.Context(), "proxy-system", types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+roleAnnotation+`":null}}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		want := []string{"service account union/executor: create", "service account union/proxy-system: give it its role"}
		if got := bootstrapAgain(t); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("it leaves alone an account to which somebody gave another role", func(t *testing.T) {
		give := func(role string) {
			t.Helper()
			patch := []byte(`{"metadata":{"annotations":{"` + roleAnnotation + `":"` + role + `"}}}`)
			if _, err := accounts.Patch(context.Background(), "executor", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		defer give("arn:aws:iam::" + cfg.Account + ":role/union/union-sandbox-adminflyterole-executor")
		give("arn:aws:iam::" + cfg.Account + ":role/mine")
		want := []string{"service account union/executor: left alone: it has the role arn:aws:iam::" + cfg.Account + ":role/mine"}
		if got := bootstrapAgain(t); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("it refuses by a profile whose account has no role, whatever else there is", func(t *testing.T) {
		for _, profile := range []string{"clustersync-system", "flytepropeller-webhook-system"} {
			cmd := exec.CommandContext(t.Context(), filepath.Join(venv, "bin", "aws"), "--profile", profile, "sts", "get-caller-identity")
			// Keys that would be found next, were this no end of the search.
			cmd.Env = append(environment("admin"), "AWS_ACCESS_KEY_ID="+cfg.Admin.ID, "AWS_SECRET_ACCESS_KEY="+cfg.Admin.Secret)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), profile+" has no role") {
				t.Errorf("got %v and %s, want it refused with the reason", err, out)
			}
		}
	})
}

func TestTokens(t *testing.T) {
	folder := sandbox.Folder(status.Dir)
	file := filepath.Join(folder.AWSTokens(), "executor")
	// keep runs KeepTokens until the file is another one.
	keep := func(t *testing.T) string {
		t.Helper()
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
		defer stop()
		var log bytes.Buffer
		ended := make(chan error, 1)
		go func() { ended <- bootstrap.KeepTokens(ctx, cfg, slog.New(slog.NewTextHandler(&log, nil))) }()
		defer func() {
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want it to end with its context; its log: %s", err, &log)
			}
		}()
		for {
			after, err := os.ReadFile(file)
			if err == nil && !bytes.Equal(after, before) {
				return string(after)
			}
			select {
			case <-ctx.Done():
				t.Fatal("got the same token for 20 seconds, want it renewed")
			case <-time.After(10 * time.Millisecond): // between two looks at a file
			}
		}
	}
	t.Run("it renews a token that has not long to live", func(t *testing.T) {
		seconds := int64(600)
		short, err := client.CoreV1().ServiceAccounts("union").CreateToken(t.Context(), "executor", &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"sts.amazonaws.com"}, ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(short.Status.Token), 0o600); err != nil {
			t.Fatal(err)
		}
		assume(t, keep(t), "executor", "")
	})
	t.Run("it replaces what is no token, and what is open to others", func(t *testing.T) {
		if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
		keep(t)
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		assume(t, keep(t), "executor", "")
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("got mode %v, want 0600", info.Mode())
		}
	})

	token := func(namespace, account, audience string) string {
		t.Helper()
		out, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return out.Status.Token
	}
	right := token("union", "executor", "sts.amazonaws.com")
	for _, c := range []struct{ name, token, role, code string }{
		{"it lets an account have its role", right, "executor", ""},
		{"it refuses it another's", right, "proxy-system", "AccessDenied"},
		{"it refuses a token for the cluster itself", token("union", "executor", "https://kubernetes.default.svc"), "executor", "InvalidIdentityToken"},
		{"it refuses an account of that name in another namespace", token("flytesnacks-development", "default", "sts.amazonaws.com"), "executor", "AccessDenied"},
		{"it refuses a token that was changed", right[:len(right)-6] + "AAAAAA", "executor", "InvalidIdentityToken"},
	} {
		t.Run(c.name, func(t *testing.T) { assume(t, c.token, c.role, c.code) })
	}
}

// assume takes a role on with a token, and wants an error code; "" for none.
func assume(t *testing.T, token, account, want string) {
	t.Helper()
	text, err := os.ReadFile(cfg.CABundle)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer web.CloseIdleConnections()
	api := sts.New(sts.Options{Region: cfg.Region, BaseEndpoint: &cfg.STS, HTTPClient: web})
	_, err = api.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String("arn:aws:iam::" + cfg.Account + ":role/union/union-sandbox-adminflyterole-" + account), RoleSessionName: aws.String("test"), WebIdentityToken: &token})
	var refused smithy.APIError
	got := ""
	if errors.As(err, &refused) {
		got = refused.ErrorCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// What a sandbox logs is read by whoever helps, so no secret is in it.
func TestNoSecretIsLogged(t *testing.T) {
	folder := sandbox.Folder(status.Dir)
	var secrets []string
	secrets = append(secrets, cfg.Admin.Secret)
	tokens, err := filepath.Glob(filepath.Join(folder.AWSTokens(), "*"))
	if err != nil || len(tokens) != 6 {
		t.Fatalf("got %d tokens (%v), want 6", len(tokens), err)
	}
	for _, file := range tokens {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, string(text))
	}
	logs, err := filepath.Glob(filepath.Join(folder.Logs(), "*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("got %d logs (%v), want some", len(logs), err)
	}
	for _, file := range append(logs, folder.AWSConfig()) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("got a secret in %s, want none", file)
			}
		}
	}
}
