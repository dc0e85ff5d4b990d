package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientauth "k8s.io/client-go/pkg/apis/clientauthentication/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/operations"
)

// inCluster are the roles that are let into the cluster, by the words of --as.
var inCluster = map[string]operations.Roles{"observe": operations.Observe, "operate": operations.Operate, "provision": operations.Provision, "teardown": operations.Teardown}

func asFlag(cmd *cobra.Command) *choice {
	as := &choice{value: "observe", allowed: []string{"observe", "operate", "provision", "teardown"}}
	cmd.Flags().Var(as, "as", "the role in the cluster: observe sees all but secrets, the others may do everything")
	complete(cmd, "as", func() []string { return as.allowed })
	return as
}

func (a *app) dataplaneKubeconfig() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "kubeconfig FILE",
		Short: "Print a kubeconfig for the cluster, or add it to one",
		Long: `Print a kubeconfig for the cluster of a data plane. It holds no secret: kubectl runs
'biplane dataplane token' for a token of a quarter of an hour, with the same AWS
credentials and profile as this command.

With --through ADDRESS the API server is reached there, at the private endpoint or a
forwarded port, and is still known by its own name.

With --kubeconfig the entries are written into that file, beside what is in it, and
become its current context.`,
		Example: `  biplane dataplane kubeconfig dataplane.yaml >kubeconfig
  biplane dataplane kubeconfig dataplane.yaml --kubeconfig ~/.kube/config --as operate
  biplane dataplane kubeconfig dataplane.yaml --through k8s.demo.internal.example.com:443 >kubeconfig`,
		Args: oneFile,
	}
	as := asFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		config, err := a.kubeconfig(cmd.Context(), args[0], as.value)
		if err != nil {
			return err
		}
		if file != "" {
			return a.addToKubeconfig(file, config)
		}
		text, err := clientcmd.Write(*config)
		if err != nil {
			return err
		}
		_, err = a.Out.Write(text)
		return err
	}
	a.throughFlag(cmd)
	cmd.Flags().StringVar(&file, "kubeconfig", "", "write into `FILE` and not to stdout")
	return cmd
}

func (a *app) kubeconfig(ctx context.Context, file, as string) (*api.Config, error) {
	p := a.progress("asking for the cluster's address")
	defer p.stop()
	o, err := a.open(ctx, file, operations.Observe)
	if err != nil {
		return nil, err
	}
	if err := look(ctx, o.steps, cluster.StepName(o.Plane)); err != nil {
		return nil, err
	}
	server, err := o.Server()
	if err != nil {
		return nil, err
	}
	if server == nil {
		return nil, usererr.New(usererr.NotFound, "there is no cluster %s yet that could be reached", o.ClusterName()).
			WithHint("'biplane dataplane apply %s' makes it", file)
	}
	where := &api.Cluster{Server: server.URL, CertificateAuthorityData: server.CA}
	if o.Through != "" {
		where.TLSServerName = server.Name
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	args := []string{"dataplane", "token", absolute, "--as", as, "--quiet"}
	if a.aws.profile != "" {
		args = append(args, "--profile", a.aws.profile)
	}
	if a.vendorProfile != "" {
		profile, err := filepath.Abs(a.vendorProfile)
		if err != nil {
			return nil, err
		}
		args = append(args, "--vendor-profile", profile)
	}
	name, user := o.ClusterName(), o.ClusterName()+"-"+as
	config := api.NewConfig()
	config.Clusters[name] = where
	config.AuthInfos[user] = &api.AuthInfo{Exec: &api.ExecConfig{APIVersion: clientauth.SchemeGroupVersion.String(), Command: program, Args: args,
		InteractiveMode: api.IfAvailableExecInteractiveMode, InstallHint: "biplane is not where it was: run 'biplane dataplane kubeconfig' again"}}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	return config, nil
}

// addToKubeconfig writes the entries beside those that are in the file.
func (a *app) addToKubeconfig(file string, config *api.Config) error {
	if is, err := os.Stat(file); err == nil && !is.Mode().IsRegular() {
		return usererr.New(usererr.Invalid, "%s is no file that a kubeconfig can be in", called(file)).WithHint("name a file with --kubeconfig, or leave it out for stdout")
	}
	all, err := clientcmd.LoadFromFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		all = api.NewConfig()
	case err != nil:
		return usererr.New(usererr.Invalid, "%s is no kubeconfig that can be read: %v", called(file), last(err)).WithHint("name another file with --kubeconfig").Because(err)
	}
	for name, value := range config.Clusters {
		all.Clusters[name] = value
	}
	for name, value := range config.AuthInfos {
		all.AuthInfos[name] = value
	}
	for name, value := range config.Contexts {
		all.Contexts[name] = value
	}
	all.CurrentContext = config.CurrentContext
	text, err := clientcmd.Write(*all)
	if err != nil {
		return err
	}
	if err := writeOwn(file, text, true); err != nil {
		return err
	}
	return a.print(initResult{file}, func(w io.Writer) {
		fmt.Fprintf(w, "Context %s is in %s, and is its current one.\n", config.CurrentContext, file)
	})
}

func (a *app) dataplaneToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token FILE",
		Short: "Print a token for the cluster, as kubectl asks for it",
		Long: `Print a token by which one of the access roles is known to the cluster's API server,
for fourteen minutes, as kubectl expects it of a program that a kubeconfig names
(client.authentication.k8s.io/v1). 'biplane dataplane kubeconfig' writes such a one.`,
		Example: `  biplane dataplane token dataplane.yaml --as operate`,
		Args:    oneFile,
	}
	as := asFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := a.readPlane(args[0])
		if err != nil {
			return err
		}
		o, err := a.assume(cmd.Context(), f, inCluster[as.value])
		if err != nil {
			return err
		}
		token, expires, err := o.ClusterToken(cmd.Context())
		if err != nil {
			return err
		}
		text, err := marshalJSON(clientauth.ExecCredential{
			TypeMeta: metav1.TypeMeta{APIVersion: clientauth.SchemeGroupVersion.String(), Kind: "ExecCredential"},
			Status:   &clientauth.ExecCredentialStatus{Token: token, ExpirationTimestamp: &metav1.Time{Time: expires.UTC().Truncate(time.Second)}},
		})
		if err != nil {
			return err
		}
		_, err = a.Out.Write(text)
		return err
	}
	return cmd
}
