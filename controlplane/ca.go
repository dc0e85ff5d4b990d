package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/internal/usererr"
)

// ca is the gateway's CA: how it is, and its replacement by another one in three
// steps. Between two of them every data plane has to renew its certificate, by
// which it also learns which CAs to believe; what is awaited is in the store.
func (p *program) ca() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ca COMMAND",
		Short:   "Show or rotate the CA by which data planes and this server know each other",
		Example: `  biplane-controlplane ca show --config controlplane.yaml`,
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(p.caShow(), p.caRotate())
	return cmd
}

func (p *program) caShow() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "show --config FILE",
		Short: "Show the gateway's CA, how far its rotation is, and what is awaited",
		Long: `Show the gateway's CA, how far its rotation is, and what is awaited before the
next step. It changes nothing.`,
		Example: `  biplane-controlplane ca show --config controlplane.yaml`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := p.load(file)
			if err != nil {
				return err
			}
			ca, err := pki.Read(cfg.Folder)
			if errors.Is(err, fs.ErrNotExist) {
				return usererr.New(usererr.NotFound, "there is no CA in %s yet", cfg.Folder).WithHint("the server makes it at its first start").Because(err)
			}
			if err != nil {
				return err
			}
			awaited, err := awaited(cmd.Context(), cfg, log, ca)
			if err != nil {
				return err
			}
			fmt.Fprintln(p.out, caText(ca))
			for _, sentence := range awaited {
				fmt.Fprintln(p.out, "awaited:", sentence)
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func (p *program) caRotate() *cobra.Command {
	var file string
	var force bool
	cmd := &cobra.Command{
		Use:   "rotate --config FILE",
		Short: "Take the next of three steps from the gateway's CA to another one",
		Long: `Take the next of three steps from the gateway's CA to another one. A server that
runs goes on by itself within a second. No data plane is lost: a step is refused
while one has not renewed its certificate since the step before, which each does
after two thirds of gateway.certificateLife.

  1. the next CA is made, and believed; data planes hear of it as they renew
  2. it signs, and data planes know the gateway by it; the old one is still believed
  3. the old one is believed no more: what it signed is refused

Where several servers share a database, bring gateway-ca.pem to all of them after
each step, before the next. It can be stopped at any time, and run again.`,
		Example: `  biplane-controlplane ca rotate --config controlplane.yaml

  # Leave behind a data plane that will not come back: it has to join anew
  biplane-controlplane ca rotate --config controlplane.yaml --force`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := p.load(file)
			if err != nil {
				return err
			}
			ca, err := pki.Rotate(cfg.Folder, time.Now(), func(ca *pki.CA) error {
				awaited, err := awaited(cmd.Context(), cfg, log, ca)
				if err != nil || len(awaited) == 0 || force {
					return err
				}
				return usererr.New(usererr.Refused, "the next step would lose data planes: %s", strings.Join(awaited, "; ")).
					WithHint("run it again later; --force takes it all the same, and what is left behind has to join anew")
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(p.out, caText(ca))
			if ca.Stage() != pki.Steady {
				fmt.Fprintf(p.err, "Next: the same command again, once 'biplane-controlplane ca show --config %s' awaits nothing.\n", file)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "take the step even if data planes are lost by it")
	configFlag(cmd, &file)
	return cmd
}

// caText says how far a rotation is, and what comes next.
func caText(ca *pki.CA) string {
	prints := ca.Fingerprints()
	switch ca.Stage() {
	case pki.Introduced:
		return fmt.Sprintf("the CA %s signs; %s is believed too, and signs from the next step on", prints[0], prints[1])
	case pki.Succeeded:
		return fmt.Sprintf("the CA %s signs; %s is still believed, until the next step", prints[0], prints[1])
	}
	return fmt.Sprintf("the CA %s signs, and no other is believed, until %s", prints[0], ca.Certificate().NotAfter.Format(time.DateOnly))
}

// awaited says, in sentences, what has to come before the next step of a rotation.
func awaited(ctx context.Context, cfg *config.Config, log *slog.Logger, ca *pki.CA) (sentences []string, err error) {
	if ca.Stage() == pki.Steady {
		return nil, nil
	}
	s, err := open(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.Ready(ctx); err != nil {
		return nil, usererr.New(usererr.Unavailable, "the database does not say what data planes know: %v", err).
			WithHint("bring it to this version's form with 'biplane-controlplane migrate'").Because(err)
	}
	organizations, err := s.Organizations(ctx)
	if err != nil {
		return nil, err
	}
	for _, organization := range organizations {
		members, err := s.Members(ctx, organization)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			if why := awaitedOf(ca, m, time.Now(), cfg.Gateway.CertificateLife); why != "" {
				sentences = append(sentences, fmt.Sprintf("cluster %q of %s %s", m.Cluster, organization, why))
			}
		}
	}
	return sentences, nil
}

// awaitedOf is why a data plane would be lost, empty if it would not. One whose
// certificate has expired needs another token anyhow.
func awaitedOf(ca *pki.CA, m store.Member, now time.Time, life time.Duration) string {
	prints := ca.Fingerprints()
	knows := m.Issuer == prints[0] // of the last step: the CA that signs
	if ca.Stage() == pki.Introduced {
		if m.TokenExpiresAt.After(now) {
			return "has a join token that names the CA which signs now, until " + m.TokenExpiresAt.Format(time.RFC3339)
		}
		knows = slices.Contains(m.Trusts, prints[1])
	}
	if knows || !m.ExpiresAt.After(now) {
		return ""
	}
	renews := m.ExpiresAt.Add(-life / 3)
	if renews.Before(now) {
		return "has not renewed its certificate, which it should have by " + renews.Format(time.RFC3339)
	}
	return "has not renewed its certificate since the last step, and does so by " + renews.Format(time.RFC3339)
}
