package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/internal/usererr"
)

func (a *app) clusterAdd() *cobra.Command {
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Register a data plane and print the token that it joins with",
		Long: `Register a data plane and print the token that it joins with, alone on stdout.

The token can be used once, and not for long. Nobody can read it again: run the
same command for a new one, and the old one is void. A data plane that has
joined already is refused; remove it first.`,
		Example: `  # Written to a file that only you can read
  biplane cluster add production --token-file token

  # With another control plane than the sandbox's
  biplane cluster add production --endpoint https://biplane.example.com --ca-file ca.crt --token-file token`,
		Args: oneCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.addCluster(cmd.Context(), args[0], tokenFile)
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "write the token to `FILE`, which only you can read, and not to stdout")
	return cmd
}

// addResult is what add prints, as JSON.
type addResult struct {
	Cluster   clusterResult `json:"cluster"`
	JoinToken string        `json:"joinToken,omitempty"`
	TokenFile string        `json:"tokenFile,omitempty"`
	ExpiresAt *time.Time    `json:"expiresAt"`
}

func (a *app) addCluster(ctx context.Context, name, tokenFile string) error {
	client, err := a.clusters(ctx)
	if err != nil {
		return err
	}
	// Before there is a token that could be lost.
	var file *secretFile
	if tokenFile != "" {
		if file, err = newSecretFile(tokenFile); err != nil {
			return err
		}
		defer file.discard()
	}
	p := a.progress("asking the control plane at " + client.url)
	defer p.stop()
	answer, err := client.AddCluster(ctx, &clusterv1.AddClusterRequest{Organization: client.organization, Name: name})
	p.stop()
	if err != nil {
		return client.said(err, map[connect.Code]string{
			connect.CodeAlreadyExists: fmt.Sprintf("'biplane cluster show %s' tells how it is, 'biplane cluster remove %s' forgets it", name, name),
		})
	}
	result := addResult{Cluster: newClusterResult(answer.Cluster), JoinToken: answer.JoinToken, ExpiresAt: timeOf(answer.ExpiresAt)}
	if file != nil {
		if err := file.keep([]byte(answer.JoinToken + "\n")); err != nil {
			return err
		}
		result.JoinToken, result.TokenFile = "", tokenFile
	}
	err = a.print(result, func(w io.Writer) {
		if file == nil {
			fmt.Fprintln(w, answer.JoinToken)
		}
	})
	if err != nil || a.output.value != "table" || a.quiet {
		return err
	}
	until := ""
	if result.ExpiresAt != nil {
		until = ", until " + result.ExpiresAt.Local().Format("15:04:05")
	}
	where := tokenFile
	if file == nil {
		where = "FILE"
	}
	fmt.Fprintf(a.Err, "Cluster %s is registered. The token can be used once%s.\n", name, until)
	fmt.Fprintf(a.Err, "Next: biplane dataplane chart install --cluster %s --token-file %s --values VALUES\n", name, shellQuoted(where))
	return nil
}

// secretFile is a file that only its owner can read, and that is there when all
// of it is.
type secretFile struct {
	temporary *os.File
	name      string
}

func newSecretFile(name string) (*secretFile, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, usererr.New(usererr.Invalid, "%s is no file that can be replaced", called(name)).WithHint("name another with --token-file")
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), ".token-*") // 0600
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, usererr.New(usererr.Invalid, "cannot write %s: %v", called(name), err).
			WithHint("name a file in a folder that is there, and that you may write to").Because(err)
	}
	return &secretFile{temporary, name}, nil
}

func (f *secretFile) keep(content []byte) error {
	_, err := f.temporary.Write(content)
	err = errors.Join(err, f.temporary.Sync(), f.temporary.Close())
	if err == nil {
		err = os.Rename(f.temporary.Name(), f.name)
	}
	if err != nil {
		return usererr.New(usererr.Invalid, "cannot write %s, so the token is lost", called(f.name)).
			WithHint("run the same command again, with another file, for a new token").Because(err)
	}
	return nil
}

// discard takes away what keep has not kept.
func (f *secretFile) discard() {
	f.temporary.Close()
	os.Remove(f.temporary.Name())
}
