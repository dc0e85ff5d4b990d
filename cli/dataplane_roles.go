package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

func (a *app) dataplaneRoles() *cobra.Command {
	mode := choice{allowed: []string{string(spec.PerServiceAccount), string(spec.SharedRoles)}}
	cmd := &cobra.Command{
		Use:   "roles FILE",
		Short: "Print the roles of the service accounts, with trust and permissions",
		Long: `Print the roles by which the service accounts of a data plane reach its buckets:
who takes each on, and what it may do. With shared roles, also what an account may
do then that the published table does not give it.

The issuer of the cluster's tokens and the key of the buckets are asked of the
account (by the observe role), if it can be asked; where there is no cluster yet, or
no AWS credentials, names stand for them that a note explains. Nothing is changed.`,
		Example: `  biplane dataplane roles dataplane.yaml
  biplane dataplane roles dataplane.yaml --mode shared
  biplane dataplane roles dataplane.yaml --output json | jq '.roles[] | {name, trust}'`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.readPlane(args[0])
			if err != nil {
				return err
			}
			if mode.value != "" {
				f.file.Spec.WorkspaceRoles = spec.WorkspaceRoles(mode.value)
			}
			p, err := a.askForFacts(cmd.Context(), f)
			if err != nil {
				return err
			}
			set, err := dataplane.Roles(p)
			if err != nil {
				return err
			}
			if p.One(plane.ClusterIssuer) == "" {
				fmt.Fprintf(a.Err, "note: the issuer of the cluster's tokens is known once there is a cluster; %s stands for it\n", set.Providers[0])
			}
			if p.One(plane.EncryptionKey) == "" {
				fmt.Fprintf(a.Err, "note: the key that encrypts the buckets is known once it is there; key/%s stands for it\n", dataplane.NotYet)
			}
			return a.print(set, func(w io.Writer) { rolesText(w, set) })
		},
	}
	cmd.Flags().Var(&mode, "mode", "a role for each service account, or the two shared ones (default: what the file says)")
	complete(cmd, "mode", func() []string { return mode.allowed })
	return cmd
}

// askForFacts is the data plane with what the account says of its cluster and key. Where
// nobody can be asked, it says so and goes on without.
func (a *app) askForFacts(ctx context.Context, f *planeFile) (*plane.Plane, error) {
	silent, err := plane.New(f.file, f.vendor, f.clock)
	if err != nil {
		return nil, err
	}
	o, err := a.openFile(ctx, f, operations.Observe)
	if err == nil {
		err = look(ctx, o.steps, cluster.KeyTitle, cluster.StepName(o.Plane))
	}
	if err == nil {
		return o.Plane, nil
	}
	var said *usererr.Error
	if ctx.Err() != nil || errors.As(err, &said) && said.Kind == usererr.Invalid {
		return nil, err
	}
	a.log.Debug("asking the account", "error", usererr.Chain(err))
	fmt.Fprintf(a.Err, "note: the account was not asked: %s\n", oneLine(awsSentence(err).Error()))
	return silent, nil
}

// look has some of the steps find their things, so that others know of them.
func look(ctx context.Context, steps []step.Step, titles ...string) error {
	for _, title := range titles {
		for _, s := range steps {
			if s.Name() == title {
				if _, err := s.Look(ctx, step.Present); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func rolesText(w io.Writer, set *roles.Set) {
	fmt.Fprintln(w, "ROLE\tSERVICE ACCOUNTS\tTRUST\tPOLICY")
	for _, r := range set.Roles {
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d of %d\n", r.Name, strings.Join(r.Accounts, ", "), r.TrustSize(), iampolicy.TrustLimit, r.PolicySize(), iampolicy.InlineLimit)
	}
	for _, name := range set.Without {
		fmt.Fprintf(w, "(none)\t%s\t\t\n", name)
	}
	if len(set.OverGranted) > 0 {
		fmt.Fprint(w, "\n# what shared roles give beyond the table\n\nSERVICE ACCOUNT\tBUCKET\tTABLE\tSHARED\n")
		for _, o := range set.OverGranted {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Account, o.Bucket, o.Table, o.Shared)
		}
	}
	for _, r := range set.Roles {
		fmt.Fprintf(w, "\n# role %s%s: %s\n", r.Path, r.Name, r.Purpose)
		for _, d := range []struct {
			name string
			text json.RawMessage
		}{{"trust", r.Trust}, {roles.PolicyName + " (inline)", r.Policy}} {
			fmt.Fprintf(w, "\n## %s\n%s", d.name, indented(d.text))
		}
	}
}
