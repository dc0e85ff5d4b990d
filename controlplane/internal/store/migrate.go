package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// Migrate brings the tables to this version's form. It may be called again at any
// time, and with PostgreSQL by several processes at once. Those of a newer program
// it leaves as they are, with an error.
func (s *Store) Migrate(ctx context.Context) error {
	provider, err := s.database.migrations()
	if err != nil {
		return err
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	for _, result := range applied {
		s.database.log.InfoContext(ctx, "database migrated", "version", result.Source.Version, "took", result.Duration)
	}
	return s.Ready(ctx)
}

// Ready says whether the database answers and has this version's tables.
func (s *Store) Ready(ctx context.Context) error {
	provider, err := s.database.migrations()
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	needs, has := sources[len(sources)-1].Version, int64(0)
	if _, err := s.database.reads.one(ctx, `SELECT COALESCE(max(version_id), 0) FROM goose_db_version WHERE is_applied`, nil, scanInto(&has)); Unreachable(err) {
		return fmt.Errorf("the database cannot be reached: %w", err)
	} else if err != nil {
		return fmt.Errorf("the database does not say its version; if it is new, run 'biplane-controlplane migrate': %w", err)
	}
	switch {
	case has < needs:
		return fmt.Errorf("the database has version %d and this program needs %d: run 'biplane-controlplane migrate'", has, needs)
	case has > needs:
		return fmt.Errorf("the database has version %d, of a newer program: this one knows %d", has, needs)
	}
	return nil
}

func (d database) migrations() (*goose.Provider, error) {
	var files fs.FS = migrations
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if d.dialect == goose.DialectPostgres {
		files = bytewise{migrations}
		// One process migrates, the others wait for it and find it done.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // every second
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	files, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(d.dialect, d.writer, files, options...)
}

// bytewise gives the migrations as PostgreSQL needs them. It sorts text by the
// database's locale unless told otherwise: a page would then begin elsewhere than
// with SQLite, and an index be wrong once the system's locales are updated.
type bytewise struct {
	embed.FS
}

func (b bytewise) Open(name string) (fs.File, error) {
	file, err := b.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := b.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return migration{file, strings.NewReader(strings.ReplaceAll(string(text), " TEXT ", ` TEXT COLLATE "C" `))}, nil
}

type migration struct {
	fs.File
	text *strings.Reader
}

func (m migration) Read(p []byte) (int, error) { return m.text.Read(p) }
