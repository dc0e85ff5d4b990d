package store

import (
	"context"
	"strings"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
)

// GetConfig is what the cluster is to be: the workspaces of its organisation, the
// archived ones suspended, and the names for its proxy's certificate. The
// revision grows in every transaction that changes any of it. *NotFoundError.
func (s *Store) GetConfig(ctx context.Context, organization, cluster string) (*tunnelv1.Config, error) {
	// One statement, so that the revision is that of the workspaces.
	config := &tunnelv1.Config{Organization: organization, Cluster: cluster}
	found := false
	err := s.database.reads.each(ctx, `SELECT o.config_revision, c.proxy_names, COALESCE(p.id, ''), COALESCE(p.state, 0)
		FROM clusters c JOIN organizations o ON o.name = c.organization LEFT JOIN projects p ON p.organization = c.organization
		WHERE c.organization = $1 AND c.name = $2 ORDER BY p.id`, []any{organization, cluster}, func(scan scanner) error {
		var names, id string
		var state project.ProjectState
		if err := scan(&config.Revision, &names, &id, &state); err != nil {
			return err
		}
		config.ProxyNames, found = splitLines(names), true
		if id == "" {
			return nil
		}
		for _, domain := range Domains() {
			config.Workspaces = append(config.Workspaces, &tunnelv1.Workspace{Project: id, Domain: domain, Suspended: archived(state)})
		}
		return nil
	})
	if err == nil && !found {
		err = &NotFoundError{"cluster", cluster}
	}
	return config, err
}

// SetProxyNames keeps the DNS names and IP addresses for the certificate of the
// cluster's proxy; setting the same again changes nothing. *NotFoundError.
func (s *Store) SetProxyNames(ctx context.Context, organization, cluster string, names []string) error {
	lines := strings.Join(names, "\n")
	return s.change(ctx, func(t *tx) error {
		changed, err := t.exec(ctx, `UPDATE clusters SET proxy_names = $3 WHERE organization = $1 AND name = $2 AND proxy_names <> $3`,
			organization, cluster, lines)
		if err != nil {
			return err
		}
		if changed == 0 {
			return t.requireCluster(ctx, organization, cluster)
		}
		return t.changeConfig(ctx, organization)
	})
}

// changeConfig counts a change of what the organisation's clusters are to be. It
// locks the organisation, so it comes last in its transaction.
func (t *tx) changeConfig(ctx context.Context, organization string) error {
	changed, err := t.exec(ctx, `UPDATE organizations SET config_revision = config_revision + 1 WHERE name = $1`, organization)
	if err == nil && changed == 0 {
		err = &NotFoundError{"organization", organization}
	}
	t.wake(ConfigTopic(organization))
	return err
}
