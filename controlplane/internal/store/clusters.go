package store

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
)

// Cluster is a data plane.
type Cluster struct {
	Organization         string
	Name                 string
	Draining             bool // takes no new runs
	CreatedAt            time.Time
	JoinedAt             time.Time // zero until it has
	CertificateSerial    string    // the newest
	CertificateExpiresAt time.Time
	RelayPort            uint16 // 0 until one is set

	LastHeartbeat time.Time
	// Report is the last heartbeat, nil before the first: version, peers, capacity,
	// data plane, configuration in force, round trip.
	Report *tunnelv1.HeartbeatRequest

	Position      uint64
	Pending       uint32    // hand-overs that are not acknowledged
	OldestPending time.Time // zero when there are none
}

const (
	clusterColumns = `c.organization, c.name, c.draining, c.created_at, c.joined_at, c.certificate_serial, c.certificate_expires_at,
		c.relay_port, h.received_at, h.report, p.position,
		(SELECT count(*) FROM outbox o WHERE o.organization = c.organization AND o.cluster = c.name),
		(SELECT COALESCE(min(o.created_at), 0) FROM outbox o WHERE o.organization = c.organization AND o.cluster = c.name)`
	fromClusters = `FROM clusters c JOIN cluster_positions p ON p.organization = c.organization AND p.cluster = c.name
		JOIN cluster_reports h ON h.organization = c.organization AND h.cluster = c.name WHERE c.organization = $1`
)

func scanCluster(scan scanner) (Cluster, error) {
	var c Cluster
	var created, joined, expires, heartbeat, oldest int64
	var report []byte
	err := scan(&c.Organization, &c.Name, &c.Draining, &created, &joined, &c.CertificateSerial, &expires,
		&c.RelayPort, &heartbeat, &report, &c.Position, &c.Pending, &oldest)
	if err != nil {
		return Cluster{}, err
	}
	c.CreatedAt, c.JoinedAt, c.CertificateExpiresAt = fromMicros(created), fromMicros(joined), fromMicros(expires)
	c.LastHeartbeat, c.OldestPending = fromMicros(heartbeat), fromMicros(oldest)
	c.Report, err = decode[tunnelv1.HeartbeatRequest](report)
	return c, err
}

// getCluster reads one, inside of a transaction or outside. *NotFoundError.
func getCluster(ctx context.Context, c conn, organization, name string) (cluster Cluster, err error) {
	found, err := c.one(ctx, `SELECT `+clusterColumns+` `+fromClusters+` AND c.name = $2`, []any{organization, name}, func(scan scanner) (err error) {
		cluster, err = scanCluster(scan)
		return err
	})
	if err == nil && !found {
		err = &NotFoundError{"cluster", name}
	}
	return cluster, err
}

func (t *tx) requireCluster(ctx context.Context, organization, name string) error {
	var one int
	found, err := t.one(ctx, `SELECT 1 FROM clusters WHERE organization = $1 AND name = $2`, []any{organization, name}, scanInto(&one))
	if err == nil && !found {
		err = &NotFoundError{"cluster", name}
	}
	return err
}

// AddCluster registers a data plane with the token by which it may join, or gives
// one that has not joined another; the one before is void then. One that was away
// until its certificate had expired is given another too: it keeps its runs.
// *ExistsError once it has joined, *NotFoundError for an unknown organisation.
func (s *Store) AddCluster(ctx context.Context, organization, name string, token JoinToken, expires time.Time) (cluster Cluster, err error) {
	err = s.change(ctx, func(t *tx) error {
		var one int
		found, err := t.one(ctx, `SELECT 1 FROM organizations WHERE name = $1`, []any{organization}, scanInto(&one))
		if err != nil {
			return err
		}
		if !found {
			return &NotFoundError{"organization", organization}
		}
		made, err := t.exec(ctx, `INSERT INTO clusters (organization, name, draining, created_at, joined_at, token_id, token_hash,
				token_key, token_expires_at, certificate_serial, certificate_expires_at, relay_port, proxy_names, handovers)
			VALUES ($1, $2, FALSE, $3, 0, $4, $5, '', $6, '', 0, 0, '', 0)
			ON CONFLICT (organization, name) DO UPDATE SET token_id = excluded.token_id, token_hash = excluded.token_hash,
				token_key = '', token_expires_at = excluded.token_expires_at
			WHERE clusters.joined_at = 0 OR clusters.certificate_expires_at <= excluded.created_at`,
			organization, name, t.now, token.id, token.hash(), micros(expires))
		if err != nil {
			return err
		}
		if made == 0 {
			return &ExistsError{"cluster", name}
		}
		for _, insert := range []string{
			`INSERT INTO cluster_positions (organization, cluster, epoch, position) VALUES ($1, $2, '', 0) ON CONFLICT (organization, cluster) DO NOTHING`,
			`INSERT INTO cluster_reports (organization, cluster, received_at, report) VALUES ($1, $2, 0, '') ON CONFLICT (organization, cluster) DO NOTHING`,
		} {
			if _, err := t.exec(ctx, insert, organization, name); err != nil {
				return err
			}
		}
		cluster, err = getCluster(ctx, t.conn, organization, name)
		return err
	})
	return cluster, err
}

// Certificate is what is recorded of one that was signed.
type Certificate struct {
	Serial    string
	ExpiresAt time.Time
	Key       string   // a digest of its public key, see Join
	Issuer    string   // the fingerprint of the CA that signed it
	Trusts    []string // those of the CAs that the data plane is told of with it
}

// Join spends a token: sign is called for the cluster that the token is of, and
// the certificate is recorded in the transaction that spends the token. Either
// both are done or neither; sign may be called again where that could not be
// committed. The position of the cluster's states begins anew, since its etcd may.
//
// The answer to a data plane that has joined may be lost. So until a token expires,
// it is good again for the same key, of which the request that is signed proves
// the possession. ErrToken, or what sign returns.
func (s *Store) Join(ctx context.Context, token JoinToken, sign func(Cluster) (Certificate, error)) (cluster Cluster, err error) {
	err = s.change(ctx, func(t *tx) error {
		var organization, name, key string
		var hash []byte
		var expires int64
		// The one statement without an organisation: only the token knows which.
		found, err := t.one(ctx, `SELECT organization, name, token_hash, token_key, token_expires_at FROM clusters WHERE token_id = $1 AND token_id <> ''`,
			[]any{token.id}, scanInto(&organization, &name, &hash, &key, &expires))
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(hash, token.hash()) != 1 || !found || expires <= t.now {
			return ErrToken
		}
		if cluster, err = getCluster(ctx, t.conn, organization, name); err != nil {
			return err
		}
		certificate, err := sign(cluster)
		if err != nil {
			return err
		}
		if certificate.Key == "" {
			return errors.New("a certificate without the digest of its key was signed")
		}
		if key != "" && key != certificate.Key {
			return ErrToken
		}
		spent, err := t.exec(ctx, `UPDATE clusters SET token_key = $4, joined_at = $5
			WHERE organization = $1 AND name = $2 AND token_id = $3 AND token_key IN ('', $4)`, organization, name, token.id, certificate.Key, t.now)
		if err != nil {
			return err
		}
		if spent == 0 { // by somebody else meanwhile
			return ErrToken
		}
		if _, err := t.exec(ctx, `UPDATE cluster_positions SET epoch = '', position = 0 WHERE organization = $1 AND cluster = $2`, organization, name); err != nil {
			return err
		}
		if err := t.recordCertificate(ctx, organization, name, certificate); err != nil {
			return err
		}
		cluster, err = getCluster(ctx, t.conn, organization, name)
		return err
	})
	return cluster, err
}

func (t *tx) recordCertificate(ctx context.Context, organization, cluster string, c Certificate) error {
	if _, err := t.exec(ctx, `INSERT INTO certificates (organization, cluster, serial, expires_at, revoked, issuer, trusts)
		VALUES ($1, $2, $3, $4, FALSE, $5, $6)`,
		organization, cluster, c.Serial, micros(c.ExpiresAt), c.Issuer, strings.Join(c.Trusts, "\n")); err != nil {
		return err
	}
	_, err := t.exec(ctx, `UPDATE clusters SET certificate_serial = $3, certificate_expires_at = $4 WHERE organization = $1 AND name = $2`,
		organization, cluster, c.Serial, micros(c.ExpiresAt))
	t.wake(ClusterTopic(organization, cluster))
	return err
}

// RecordCertificate records a renewed certificate beside the one in force, which
// stays good until it expires. ErrCertificate when the one in force is not.
func (s *Store) RecordCertificate(ctx context.Context, organization, cluster, inForce string, renewed Certificate) error {
	return s.change(ctx, func(t *tx) error {
		if err := checkCertificate(ctx, t.conn, organization, cluster, inForce, t.now); err != nil {
			return err
		}
		return t.recordCertificate(ctx, organization, cluster, renewed)
	})
}

// CheckCertificate is nil for a serial that is the cluster's, not revoked and not
// expired, ErrCertificate otherwise. Ask it at every new connection, and again
// whenever ClusterTopic wakes.
func (s *Store) CheckCertificate(ctx context.Context, organization, cluster, serial string) error {
	return checkCertificate(ctx, s.database.reads, organization, cluster, serial, time.Now().UnixMicro())
}

func checkCertificate(ctx context.Context, c conn, organization, cluster, serial string, now int64) error {
	var one int
	found, err := c.one(ctx, `SELECT 1 FROM certificates WHERE organization = $1 AND cluster = $2 AND serial = $3 AND NOT revoked AND expires_at > $4`,
		[]any{organization, cluster, serial, now}, scanInto(&one))
	if err == nil && !found {
		err = ErrCertificate
	}
	return err
}

// GetCluster reads one. *NotFoundError.
func (s *Store) GetCluster(ctx context.Context, organization, name string) (Cluster, error) {
	return getCluster(ctx, s.database.reads, organization, name)
}

// ListClusters gives a page and the token of the next. Fields to filter by: name,
// created_at; to sort by: name, created_at. Default sort: name, ascending.
// *QueryError.
func (s *Store) ListClusters(ctx context.Context, organization string, q Query) ([]Cluster, string, error) {
	return pages[Cluster]{
		list:    clusterList,
		scope:   organization,
		columns: clusterColumns,
		from:    fromClusters,
		args:    []any{organization},
		tie:     []string{"c.name"},
		scan:    scanCluster,
	}.read(ctx, s.database.reads, q)
}

var clusterList = list{
	name: "clusters",
	columns: map[string]column{
		"name":       {sql: "c.name", sorted: true},
		"created_at": {sql: "c.created_at", kind: moment, sorted: true},
	},
	sort:      "name",
	direction: common.Sort_ASCENDING,
}

// SetDraining stops or starts that the cluster takes new runs. *NotFoundError.
func (s *Store) SetDraining(ctx context.Context, organization, name string, draining bool) (cluster Cluster, err error) {
	err = s.change(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `UPDATE clusters SET draining = $3 WHERE organization = $1 AND name = $2`, organization, name, draining); err != nil {
			return err
		}
		t.wake(ClusterTopic(organization, name))
		cluster, err = getCluster(ctx, t.conn, organization, name)
		return err
	})
	return cluster, err
}

// RemoveCluster forgets a cluster, drops what was to be handed to it and revokes
// its certificates. *RefusedError while runs on it have not ended, unless forced:
// then they are recorded as ABORTED. *NotFoundError.
func (s *Store) RemoveCluster(ctx context.Context, organization, name string, force bool) error {
	if force {
		if _, err := s.SetDraining(ctx, organization, name, true); err != nil {
			return err
		}
		if err := s.abortRunsOf(ctx, organization, name); err != nil {
			return err
		}
	}
	return s.change(ctx, func(t *tx) error {
		// Locked, so that a run which is being made is either seen or finds no cluster.
		found, err := t.exec(ctx, `UPDATE clusters SET draining = TRUE WHERE organization = $1 AND name = $2`, organization, name)
		if err != nil {
			return err
		}
		if found == 0 {
			return &NotFoundError{"cluster", name}
		}
		live := ""
		if _, err := t.one(ctx, `SELECT name FROM runs WHERE organization = $1 AND cluster = $2 AND ended_at = 0 LIMIT 1`,
			[]any{organization, name}, scanInto(&live)); err != nil {
			return err
		}
		if live != "" {
			return &RefusedError{fmt.Sprintf("cluster %q has runs that have not ended, such as %q", name, live)}
		}
		for _, statement := range []string{
			`DELETE FROM outbox WHERE organization = $1 AND cluster = $2`,
			`DELETE FROM wanted_specs WHERE organization = $1 AND cluster = $2`,
			`DELETE FROM cluster_positions WHERE organization = $1 AND cluster = $2`,
			`DELETE FROM tunnel_holders WHERE organization = $1 AND cluster = $2`,
			`DELETE FROM cluster_reports WHERE organization = $1 AND cluster = $2`,
			`UPDATE certificates SET revoked = TRUE WHERE organization = $1 AND cluster = $2`,
			`DELETE FROM clusters WHERE organization = $1 AND name = $2`,
		} {
			if _, err := t.exec(ctx, statement, organization, name); err != nil {
				return err
			}
		}
		t.wake(ClusterTopic(organization, name))
		return nil
	})
}

// abortRunsOf aborts what a cluster runs, a hundred at a time. Since it is draining,
// there will be no others.
func (s *Store) abortRunsOf(ctx context.Context, organization, cluster string) error {
	for {
		var runs []RunKey
		err := s.database.reads.each(ctx, `SELECT project, domain, name FROM runs WHERE organization = $1 AND cluster = $2 AND ended_at = 0 LIMIT 100`,
			[]any{organization, cluster}, func(scan scanner) error {
				run := RunKey{Organization: organization}
				err := scan(&run.Project, &run.Domain, &run.Name)
				runs = append(runs, run)
				return err
			})
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, run := range runs {
			if _, err := s.AbortRun(ctx, run, fmt.Sprintf("its cluster %q was removed", cluster), nil); err != nil {
				return err
			}
		}
	}
}

// reportToKeep is a report without what a newer data plane says in it, which nobody
// has decided about, and with texts of a bounded length.
func reportToKeep(report *tunnelv1.HeartbeatRequest) *tunnelv1.HeartbeatRequest {
	const maxPeers = 32
	keep := proto.CloneOf(report)
	dropUnknown(keep.ProtoReflect())
	keep.Version = bound(keep.GetVersion(), maxName)
	keep.Peers = keep.GetPeers()[:min(len(keep.GetPeers()), maxPeers)]
	for _, peer := range keep.GetPeers() {
		peer.Name, peer.Version, peer.Message = bound(peer.GetName(), maxName), bound(peer.GetVersion(), maxName), bound(peer.GetMessage(), maxText)
	}
	return keep
}

// Heartbeat records what a data plane says of itself. *NotFoundError.
func (s *Store) Heartbeat(ctx context.Context, organization, cluster string, report *tunnelv1.HeartbeatRequest) error {
	encoded, err := encode(reportToKeep(report))
	if err != nil {
		return err
	}
	return s.change(ctx, func(t *tx) error {
		found, err := t.exec(ctx, `UPDATE cluster_reports SET received_at = $3, report = $4 WHERE organization = $1 AND cluster = $2`,
			organization, cluster, t.now, encoded)
		if err == nil && found == 0 {
			err = &NotFoundError{"cluster", cluster}
		}
		return err
	})
}

// SetRelayPort keeps the port by which clients reach the cluster's proxy.
// *ExistsError when another cluster has it, *NotFoundError.
func (s *Store) SetRelayPort(ctx context.Context, organization, cluster string, port uint16) error {
	err := s.change(ctx, func(t *tx) error {
		found, err := t.exec(ctx, `UPDATE clusters SET relay_port = $3 WHERE organization = $1 AND name = $2`, organization, cluster, port)
		if err == nil && found == 0 {
			err = &NotFoundError{"cluster", cluster}
		}
		return err
	})
	if err != nil && s.database.taken(err) {
		return &ExistsError{"relay port", strconv.Itoa(int(port))}
	}
	return err
}
