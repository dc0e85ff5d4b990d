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
//	config.go     what a data plane is to be, as one document with a revision
//	watch.go      wake-ups for whoever waits for a change
//	query.go      filters, sorts and pages of every list
//	retention.go  what is deleted, a bounded batch at a time
//
// Every row carries its organisation, and every statement has it in its WHERE.
package store

import (
	"context"
	"database/sql"
	"log/slog"
)

// Store is safe for concurrent use. Several processes may open one PostgreSQL
// database; an SQLite file has one process, since wake-ups do not leave it.
type Store struct {
	log *slog.Logger
}

// Open opens sqlite:FILE or postgres://…, without changing anything in it: see
// Migrate. The log never gets the URL, which may hold a password.
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	return nil, errUnfinished
}

// Migrate brings the tables to this version's form. It may be called by several
// processes at once and again at any time.
func (s *Store) Migrate(ctx context.Context) error { return errUnfinished }

// Ready says whether the database answers and has this version's tables.
func (s *Store) Ready(ctx context.Context) error { return errUnfinished }

// Close ends every watch and every connection.
func (s *Store) Close() error { return errUnfinished }

var _ *sql.DB
