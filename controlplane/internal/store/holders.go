package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Holder is a process that holds the tunnel of a cluster.
type Holder struct {
	Cluster  string
	Process  string
	Endpoint string        // where other processes reach it: host:port
	Since    time.Time     // by the database's clock
	Left     time.Duration // of its lease, when it was read
}

// forgetHolders of processes that have not been heard of for so long.
const forgetHolders = time.Minute

// Hold records that a process holds the tunnels of these clusters of an
// organisation, and of no others, until the lease has passed. To keep them it has
// to say so again before; a cluster that is no more is left out. The lease is
// counted by the database's clock, since the processes' own may differ.
func (s *Store) Hold(ctx context.Context, organization, process, endpoint string, clusters []string, lease time.Duration) error {
	now := s.database.clock
	return s.change(ctx, func(t *tx) error {
		var kept, gone []string
		err := t.each(ctx, `UPDATE tunnel_holders SET endpoint = $3, alive_until = `+now+` + $4
			WHERE organization = $1 AND process = $2 RETURNING cluster`,
			[]any{organization, process, endpoint, lease.Microseconds()}, func(scan scanner) error {
				var cluster string
				err := scan(&cluster)
				if slices.Contains(clusters, cluster) {
					kept = append(kept, cluster)
				} else {
					gone = append(gone, cluster)
				}
				return err
			})
		if err != nil {
			return err
		}
		changed := len(gone) > 0
		for _, cluster := range gone {
			if _, err := t.exec(ctx, `DELETE FROM tunnel_holders WHERE organization = $1 AND cluster = $2 AND process = $3`,
				organization, cluster, process); err != nil {
				return err
			}
		}
		for _, cluster := range clusters {
			if slices.Contains(kept, cluster) {
				continue
			}
			changed = true
			// Later than every other one's, whatever the clock tells apart: SQLite's counts
			// milliseconds.
			since := `(SELECT CASE WHEN COALESCE(max(h.since), 0) < ` + now + ` THEN ` + now + ` ELSE max(h.since) + 1 END
				FROM tunnel_holders h WHERE h.organization = $1 AND h.cluster = $2)`
			if _, err := t.exec(ctx, `INSERT INTO tunnel_holders (organization, cluster, process, endpoint, since, alive_until)
				SELECT organization, name, CAST($3 AS TEXT), CAST($4 AS TEXT), `+since+`, `+now+` + $5
				FROM clusters WHERE organization = $1 AND name = $2`,
				organization, cluster, process, endpoint, lease.Microseconds()); err != nil {
				return err
			}
		}
		if !changed {
			return nil
		}
		t.wake(HoldersTopic(organization))
		_, err = t.exec(ctx, `DELETE FROM tunnel_holders WHERE organization = $1 AND alive_until < `+now+` - $2`,
			organization, forgetHolders.Microseconds())
		return err
	})
}

// Holders gives who holds tunnels of the organisation's clusters, by cluster, the
// newest first. Whose lease has run out is not among them.
func (s *Store) Holders(ctx context.Context, organization string) ([]Holder, error) {
	now := s.database.clock
	var holders []Holder
	err := s.database.reads.each(ctx, `SELECT cluster, process, endpoint, since, alive_until - `+now+` FROM tunnel_holders
		WHERE organization = $1 AND alive_until > `+now,
		[]any{organization}, func(scan scanner) error {
			var h Holder
			var since, left int64
			err := scan(&h.Cluster, &h.Process, &h.Endpoint, &since, &left)
			h.Since, h.Left = fromMicros(since), time.Duration(left)*time.Microsecond
			holders = append(holders, h)
			return err
		})
	slices.SortFunc(holders, func(a, b Holder) int {
		return cmp.Or(strings.Compare(a.Cluster, b.Cluster), b.Since.Compare(a.Since), strings.Compare(a.Process, b.Process))
	})
	return holders, err
}

// Member is a cluster as a rotation of the gateway's CA sees it.
type Member struct {
	Cluster string
	// Issuer and Trusts are those of the certificate by which it began to dial last:
	// what came with that one, the data plane has kept. Empty when it never did.
	Issuer string
	Trusts []string
	// ExpiresAt is when the last certificate that was signed for it does; zero when
	// it never joined.
	ExpiresAt time.Time
	// TokenExpiresAt is when a join token that is not spent does; zero without one.
	TokenExpiresAt time.Time
}

// Members gives every cluster of an organisation, by name.
func (s *Store) Members(ctx context.Context, organization string) ([]Member, error) {
	var members []Member
	err := s.database.reads.each(ctx, `SELECT c.name, c.certificate_expires_at, CASE c.token_key WHEN '' THEN c.token_expires_at ELSE 0 END,
			COALESCE(x.issuer, ''), COALESCE(x.trusts, '')
		FROM clusters c LEFT JOIN certificates x ON x.organization = c.organization AND x.cluster = c.name AND x.serial = (
			SELECT y.serial FROM certificates y WHERE y.organization = c.organization AND y.cluster = c.name
				AND NOT y.revoked AND y.dialled_at > 0 ORDER BY y.dialled_at DESC, y.serial LIMIT 1)
		WHERE c.organization = $1 ORDER BY c.name`, []any{organization}, func(scan scanner) error {
		var m Member
		var expires, token int64
		var trusts string
		err := scan(&m.Cluster, &expires, &token, &m.Issuer, &trusts)
		m.ExpiresAt, m.TokenExpiresAt, m.Trusts = fromMicros(expires), fromMicros(token), splitLines(trusts)
		members = append(members, m)
		return err
	})
	return members, err
}

// RecordDial records that a tunnel was opened with a certificate, when it is the
// first.
func (s *Store) RecordDial(ctx context.Context, organization, cluster, serial string) error {
	return s.change(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE certificates SET dialled_at = $4 WHERE organization = $1 AND cluster = $2 AND serial = $3 AND dialled_at = 0`,
			organization, cluster, serial, t.now)
		return err
	})
}
