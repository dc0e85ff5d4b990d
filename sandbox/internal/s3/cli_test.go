package s3_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandLine is the AWS command line as it is, with environment variables
// alone, as a pod or a person would have it.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	aws, err := filepath.Abs("../../../.cache/venv/bin/aws")
	if err == nil {
		_, err = os.Stat(aws)
	}
	if err != nil {
		if aws, err = exec.LookPath("aws"); err != nil {
			t.Skip("NOT RUN: the AWS command line is not here; 'make setup' installs it")
		}
	}
	w := shared.get(t)
	dir := t.TempDir()
	arn := w.role(t, "cli", trust("StringEquals", "union:executor"), policy(
		`{"Effect":"Allow","Action":["s3:ListBucket","s3:GetObject","s3:PutObject"],"Resource":["arn:aws:s3:::cli-bucket","arn:aws:s3:::cli-bucket/*"]}`))
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(w.keys.token("union:executor").signed(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "hello.txt")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	bucket := w.bucket(t, "cli-bucket")
	environment := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region, "AWS_CA_BUNDLE=" + w.pki.CA(),
		"AWS_ENDPOINT_URL_S3=" + w.s3, "AWS_ENDPOINT_URL_STS=" + w.sts, "AWS_ENDPOINT_URL_IAM=" + w.iam, "AWS_EC2_METADATA_DISABLED=true"}
	asRole := append(environment[:len(environment):len(environment)], "AWS_ROLE_ARN="+arn, "AWS_WEB_IDENTITY_TOKEN_FILE="+token, "AWS_ROLE_SESSION_NAME=cli")
	asAdmin := append(environment[:len(environment):len(environment)], "AWS_ACCESS_KEY_ID="+w.admin.ID, "AWS_SECRET_ACCESS_KEY="+w.admin.Secret)
	for _, c := range []struct {
		name string
		as   []string
		args []string
		want string // in what it prints
	}{
		{"says who it is", asRole, []string{"sts", "get-caller-identity"}, "assumed-role/cli/cli"},
		{"uploads", asRole, []string{"s3", "cp", file, "s3://" + bucket + "/a/hello.txt"}, "upload:"},
		{"lists", asRole, []string{"s3", "ls", "s3://" + bucket + "/a/"}, "hello.txt"},
		{"downloads", asRole, []string{"s3", "cp", "s3://" + bucket + "/a/hello.txt", "-"}, "hello"},
		{"is refused what the role may not", asRole, []string{"s3", "rm", "s3://" + bucket + "/a/hello.txt"}, "AccessDenied"},
		{"reads the role", asAdmin, []string{"iam", "get-role", "--role-name", "cli"}, arn},
		{"deletes as the administrator", asAdmin, []string{"s3", "rm", "--recursive", "s3://" + bucket}, "delete:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), aws, c.args...)
			command.Env = c.as
			text, err := command.CombinedOutput()
			if !strings.Contains(string(text), c.want) {
				t.Errorf("got %s (%v), want %q in it", text, err, c.want)
			}
		})
	}
}
