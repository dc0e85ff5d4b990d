// Package store keeps what a control plane knows: names, states, times, URIs and
// kinds of error, in SQLite or PostgreSQL.
//
// It is not for code, inputs, outputs, signal values, logs, secrets or error
// texts: those stay in the data planes, and what of them is sent here all the
// same is cleared before it is written (see ApplyStates and docs/store.md). Nor
// does it know the API: callers translate requests into its arguments and its
// typed errors into Connect codes.
//
// Start with Open; then, one file each:
//
//	projects.go   organisations and their projects
//	tasks.go      deployed tasks, every version, and task specs by digest
//	runs.go       runs: created and handed over in one transaction, read, aborted
//	actions.go    actions: read, aborted, listed, counted by phase
//	groups.go     runs summed up by task
//	states.go     the states that a data plane reports, in order
//	outbox.go     what a data plane has to be told, in order, until acknowledged
//	clusters.go   data planes: tokens, certificates, heartbeats
//	holders.go    which process holds a data plane's tunnel, and by what certificate
//	config.go     what a data plane is to be, as one document with a revision
//	watch.go      wake-ups for whoever waits for a change
//	query.go      filters, sorts and pages of every list
//	retention.go  what is deleted, a bounded batch at a time
//	database.go   transactions and statements, and what both databases share
//	migrate.go    the tables
//
// Every row carries its organisation, and every statement has it in its WHERE.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Store is safe for concurrent use. Several processes may open one PostgreSQL
// database; an SQLite file has one process, since wake-ups do not leave it.
type Store struct {
	database database
	hub      *hub
	listener *listener // nil with SQLite
}

// Open opens sqlite:FILE or postgres://…, without changing anything in it: see
// Migrate. The log never gets the URL, which may hold a password.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	s := &Store{hub: newHub()}
	scheme, rest, _ := strings.Cut(url, ":")
	var err error
	switch scheme {
	case "sqlite":
		s.database, err = openSQLite(ctx, rest, log, s.hub)
	case "postgres", "postgresql":
		s.database, s.listener, err = openPostgres(ctx, url, log, s.hub)
	default:
		return nil, errors.New("a database URL is sqlite:FILE or postgres://…")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the %s database: %w", scheme, err)
	}
	return s, nil
}

// Close ends every watch and every connection.
func (s *Store) Close() error {
	if s.listener != nil {
		s.listener.stop()
	}
	s.hub.close()
	return s.database.close()
}
