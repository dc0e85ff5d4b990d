package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/spec"
)

func (a *app) dataplaneInit() *cobra.Command {
	f := initFlags{
		policy:   choice{value: string(spec.Strict), allowed: []string{string(spec.Strict), string(spec.Compat)}},
		endpoint: choice{value: string(spec.PublicAddress), allowed: []string{string(spec.PublicAddress), string(spec.PrivateAddress)}},
	}
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a first dataplane.yaml, with comments",
		Long: `Write a first file of a data plane, dataplane.yaml by default, with a comment at each
choice. In a terminal it asks for what no flag gives; elsewhere --name, --account,
--region and --external-id are needed. Nothing is asked of AWS.

The file can be read by you alone. One that is there is replaced only with --force.`,
		Example: `  biplane dataplane init
  biplane dataplane init production.yaml --name production --account 123456789012 --region eu-central-1 --external-id ID
  biplane dataplane init --name demo --account 123456789012 --region eu-central-1 --external-id ID \
    --vpc vpc-0123456789abcdef0 --private-subnets subnet-0123456789abcdef0,subnet-0123456789abcdef1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return oneFile(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "dataplane.yaml"
			if len(args) == 1 {
				name = args[0]
			}
			return a.initPlane(cmd.Context(), cmd, name, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Name, "name", "", "the data plane's `NAME`: 1 to 21 lower-case letters, digits and hyphens")
	flags.StringVar(&f.Account, "account", "", "the customer's AWS account, twelve `DIGITS`")
	flags.StringVar(&f.Region, "region", "", "the AWS `REGION` that it will be in")
	flags.StringVar(&f.ExternalID, "external-id", "", "the `ID` that the access was granted with")
	flags.StringVar(&f.RoleARN, "role-arn", "", "`ARN` of the provision role (default: as 'biplane access grant' names it)")
	flags.Var(&f.policy, "policy", "the profile that the access was granted with")
	flags.StringVar(&f.CIDR, "cidr", "10.0.0.0/16", "`RANGE` of a network to make")
	flags.IntVar(&f.Zones, "zones", 3, "`NUMBER` of zones of a network to make")
	flags.StringVar(&f.VPC, "vpc", "", "`ID` of a network that is there, in place of a new one")
	flags.StringSliceVar(&f.PublicSubnets, "public-subnets", nil, "`IDS` of its public subnets, with commas between them")
	flags.StringSliceVar(&f.PrivateSubnets, "private-subnets", nil, "`IDS` of its private subnets")
	flags.StringVar(&f.Kubernetes, "kubernetes", spec.CurrentKubernetes, "`VERSION` of Kubernetes")
	flags.Var(&f.endpoint, "endpoint", "where the cluster's API server is reached")
	flags.StringVar(&f.ControlPlane, "control-plane", "", "`URL` of the control plane's gateway, which the data plane joins (default: none)")
	flags.StringVar(&f.TokenFile, "token-file", "token", "`FILE` with the token that it joins with")
	flags.BoolVar(&f.force, "force", false, "replace a file that is there")
	complete(cmd, "policy", func() []string { return f.policy.allowed })
	complete(cmd, "endpoint", func() []string { return f.endpoint.allowed })
	return cmd
}

type initFlags struct {
	spec.Draft
	policy, endpoint choice
	force            bool
}

// initResult is what init prints, as JSON.
type initResult struct {
	File string `json:"file"`
}

func (a *app) initPlane(ctx context.Context, cmd *cobra.Command, name string, f initFlags) error {
	if _, err := os.Lstat(name); err == nil && !f.force {
		return usererr.New(usererr.Refused, "%s is there already", called(name)).WithHint("name another file, or replace it with --force")
	}
	v, err := a.vendor()
	if err != nil {
		return err
	}
	d := f.Draft
	d.Policy, d.ClusterEndpoint, d.Roles = spec.Policy(f.policy.value), spec.ClusterAddress(f.endpoint.value), spec.PerServiceAccount
	role := func(account, region string) string {
		path, partition := v.Path, "aws"
		if d.Policy == spec.Compat {
			path = "/"
		}
		if r, ok := access.LookUpRegion(region); ok {
			partition = r.Partition
		}
		return "arn:" + partition + ":iam::" + account + ":role" + path + v.RoleName
	}
	if file, ok := a.In.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		if err := ask(ctx, bufio.NewReader(a.In), a.Err, &d, questions(cmd.Flags().Changed), role); err != nil {
			return err
		}
	}
	for _, r := range []struct{ flag, value, example string }{
		{"name", d.Name, "demo"}, {"account", d.Account, "123456789012"}, {"region", d.Region, "eu-central-1"}, {"external-id", d.ExternalID, "ID, as the access was granted with"},
	} {
		if err := required(cmd, r.flag, r.value, r.example); err != nil {
			return err
		}
	}
	if err := checkRegion(d.Region); err != nil {
		return err
	}
	if d.RoleARN == "" {
		d.RoleARN = role(d.Account, d.Region)
	}
	text, err := d.Text()
	if err != nil {
		return err
	}
	if err := writeOwn(name, text, f.force); err != nil {
		return err
	}
	return a.print(initResult{name}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is written. Next: biplane dataplane plan %s\n", name, shellQuoted(name))
	})
}

// writeOwn writes a file for its owner alone: whole or not at all, and, unless it may be
// replaced, not over one that somebody made in the meantime.
func writeOwn(name string, text []byte, replace bool) error {
	unfinished, err := os.CreateTemp(filepath.Dir(name), ".unfinished-*") // 0600
	if err == nil {
		defer os.Remove(unfinished.Name())
		_, err = unfinished.Write(text)
		err = errors.Join(err, unfinished.Sync(), unfinished.Close())
		switch {
		case err != nil:
		case replace:
			err = os.Rename(unfinished.Name(), name)
		default:
			err = os.Link(unfinished.Name(), name)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return usererr.New(usererr.Refused, "%s is there already", called(name)).WithHint("name another file, or replace it with --force")
	}
	if err != nil {
		return usererr.New(usererr.Invalid, "cannot write %s: %v", called(name), last(err)).
			WithHint("name a file in a folder that is there, that you may write to, and with room").Because(err)
	}
	return nil
}

// question is one thing that a file cannot do without.
type question struct {
	text     string
	fallback string // what an empty answer means
	set      func(*spec.Draft, string)
}

// questions are those that no flag has answered.
func questions(given func(flag string) bool) []question {
	all := []struct {
		flag string
		question
	}{
		{"name", question{"Name of the data plane", "demo", func(d *spec.Draft, s string) { d.Name = s }}},
		{"account", question{"AWS account of the customer, twelve digits", "", func(d *spec.Draft, s string) { d.Account = s }}},
		{"region", question{"AWS region", "eu-central-1", func(d *spec.Draft, s string) { d.Region = s }}},
		{"external-id", question{"External ID that the access was granted with", "", func(d *spec.Draft, s string) { d.ExternalID = s }}},
		{"control-plane", question{"Address of the control plane's gateway, https://HOST:PORT, or none", "none", func(d *spec.Draft, s string) {
			if d.ControlPlane = s; s == "none" {
				d.ControlPlane = ""
			}
		}}},
	}
	if !given("vpc") {
		all = append(all, struct {
			flag string
			question
		}{"cidr", question{"Range of the network to make", "10.0.0.0/16", func(d *spec.Draft, s string) { d.CIDR = s }}})
	}
	var out []question
	for _, q := range all {
		if !given(q.flag) {
			out = append(out, q.question)
		}
	}
	return out
}

// ask puts the questions, each until its answer can be used, with what no answer is
// given to yet taken as good.
func ask(ctx context.Context, in *bufio.Reader, out io.Writer, d *spec.Draft, questions []question, role func(account, region string) string) error {
	for _, q := range questions {
		for {
			fmt.Fprint(out, q.text)
			if q.fallback != "" {
				fmt.Fprintf(out, " [%s]", q.fallback)
			}
			fmt.Fprint(out, ": ")
			line, err := interruptible(ctx, func() (string, error) { return in.ReadString('\n') })
			if err != nil && (err != io.EOF || line == "") {
				return usererr.New(usererr.Refused, "not all questions were answered; nothing was written").WithHint("give the answers as flags: see --help").Because(err)
			}
			answer := strings.TrimSpace(line)
			if answer == "" {
				answer = q.fallback
			}
			q.set(d, answer)
			wrong := usable(*d, answer, role)
			if wrong == nil {
				break
			}
			fmt.Fprintf(out, "  %v\n", wrong)
		}
	}
	return nil
}

// usable tries the answers so far in a whole file.
func usable(d spec.Draft, answer string, role func(account, region string) string) error {
	if answer == "" {
		return errors.New("there is no default for it")
	}
	for value, otherwise := range map[*string]string{&d.Name: "demo", &d.Account: "123456789012", &d.Region: "eu-central-1", &d.ExternalID: "-"} {
		if *value == "" {
			*value = otherwise
		}
	}
	if d.RoleARN == "" {
		d.RoleARN = role(d.Account, d.Region)
	}
	if err := checkRegion(d.Region); err != nil {
		return err
	}
	_, err := d.Text()
	return err
}
