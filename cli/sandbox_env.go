package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

func (a *app) sandboxEnv() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print the variables by which flyte, kubectl, aws and every AWS SDK use the sandbox",
		Long: `Print the variables by which flyte, kubectl, aws and every AWS SDK use the
sandbox, as lines that a shell evaluates. They hold paths and addresses, and no
secret.

The AWS configuration has the profile admin, who may do everything, and one for
each service account, which assumes that account's role as a pod does:
executor, proxy-system, operator-system, flytepropeller-system, flyteadmin, and
clusterresource-template for the pods of tasks. Keys in the environment
(AWS_ACCESS_KEY_ID) are not looked at when --profile names one.`,
		Example: `  eval "$(biplane sandbox env)"
  flyte run hello.py main
  kubectl get nodes
  aws --profile admin s3 ls
  AWS_PROFILE=proxy-system python3 -c 'import boto3; print(boto3.client("sts").get_caller_identity()["Arn"])'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folder, err := a.folder()
			if err != nil {
				return err
			}
			status, err := a.running(cmd.Context(), folder)
			if err != nil {
				return err
			}
			if status.State == sandbox.Starting {
				return usererr.New(usererr.Unavailable, "sandbox %s is still starting", a.where.name).
					WithHint("'%s' waits until it is ready", a.command("up"))
			}
			if status.ControlPlane != nil {
				// A data plane may have joined since. Of a control plane that does not answer,
				// what it told before holds.
				if err := sandbox.Dial(folder).Trust(cmd.Context()); err != nil {
					a.log.Warn("the roots were not written anew", "error", err)
				}
			}
			env := environment(folder, status)
			return a.print(env, env.exports)
		},
	}
}

// environment is what a shell needs in order to use a sandbox. What the sandbox
// was started without is left out.
func environment(folder sandbox.Folder, status sandbox.Status) variables {
	var env variables
	set := func(name, value string) { env = append(env, variable{name, value}) }
	if status.Kubernetes != nil {
		set("KUBECONFIG", status.Kubernetes.Kubeconfig)
	}
	if status.ControlPlane != nil {
		set("FLYTECTL_CONFIG", status.ControlPlane.Config)
	}
	if status.S3 == nil && status.STS == nil && status.IAM == nil {
		if status.ControlPlane != nil {
			set("SSL_CERT_FILE", folder.CABundle())
		}
		return env
	}
	set("AWS_CONFIG_FILE", folder.AWSConfig())
	set("AWS_SHARED_CREDENTIALS_FILE", folder.AWSCredentials())
	if status.S3 != nil {
		set("AWS_ENDPOINT_URL_S3", status.S3.Endpoint)
		set("AWS_REGION", status.S3.Region)
		set("AWS_DEFAULT_REGION", status.S3.Region) // the one that Python's SDK reads
	}
	if status.STS != nil {
		set("AWS_ENDPOINT_URL_STS", status.STS.Endpoint)
	}
	if status.IAM != nil {
		set("AWS_ENDPOINT_URL_IAM", status.IAM.Endpoint)
	}
	set("AWS_CA_BUNDLE", folder.CABundle())
	set("SSL_CERT_FILE", folder.CABundle())
	set("AWS_EC2_METADATA_DISABLED", "true")
	return env
}

// variables are an object in JSON, and keep their order.
type variables []variable

type variable struct{ name, value string }

// exports are lines for a shell.
func (v variables) exports(w io.Writer) {
	for _, variable := range v {
		fmt.Fprintf(w, "export %s='%s'\n", variable.name, strings.ReplaceAll(variable.value, "'", `'\''`))
	}
}

// MarshalJSON is what encoding/json calls.
func (v variables) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	text.WriteByte('{')
	for i, variable := range v {
		if i > 0 {
			text.WriteByte(',')
		}
		for j, part := range []string{variable.name, variable.value} {
			word, err := json.Marshal(part)
			if err != nil {
				return nil, err
			}
			text.Write(word)
			if j == 0 {
				text.WriteByte(':')
			}
		}
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}
