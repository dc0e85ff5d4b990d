package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/pressly/goose/v3"
	sqlite "modernc.org/sqlite"
)

// openSQLite opens the file, which only its owner may read, or makes an empty one.
func openSQLite(ctx context.Context, file string, log *slog.Logger, hub *hub) (database, error) {
	if file == "" || strings.Contains(file, ":memory:") {
		return database{}, errors.New("it needs the name of a file, as in sqlite:/var/lib/biplane/biplane.db")
	}
	made, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return database{}, err
	}
	made.Close()

	open := func(connections int, options ...string) (*sql.DB, error) {
		q := url.Values{"_pragma": {
			"busy_timeout(10000)",
			"journal_mode(WAL)",
			"synchronous(FULL)", // what was returned to a client outlives the machine's power
			"temp_store(MEMORY)",
		}}
		for _, option := range options {
			key, value, _ := strings.Cut(option, "=")
			q.Add(key, value)
		}
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+q.Encode())
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(connections)
		db.SetMaxIdleConns(connections)
		return db, db.PingContext(ctx)
	}
	// SQLite has one writer at a time. One connection makes the others wait in order,
	// where they would look again and again; it locks at the beginning, so that a
	// transaction that has read never finds that it may not write.
	writer, err := open(1, "_txlock=immediate")
	if err != nil {
		return database{}, fmt.Errorf("%s: %w", file, err)
	}
	pool, err := open(8, "_pragma=query_only(1)")
	if err != nil {
		writer.Close()
		return database{}, fmt.Errorf("%s: %w", file, err)
	}
	return database{
		dialect: goose.DialectSQLite3,
		reads:   conn{pool, log, sqliteArgs}, pool: pool, writer: writer,
		clock: `CAST(unixepoch('subsec') * 1000000 AS INTEGER)`,
		log:   log, again: sqliteAgain, taken: sqliteTaken, hub: hub,
	}, nil
}

// sqliteArgs is small, since the driver looks for each argument in all of them, and
// since a statement is no round trip.
const sqliteArgs = 200

func sqliteTaken(err error) bool {
	const constraintUnique = 2067
	var failed *sqlite.Error
	return errors.As(err, &failed) && failed.Code() == constraintUnique
}

// sqliteAgain is true where another process, such as a backup, had the file locked.
func sqliteAgain(err error) bool {
	const busy = 5
	var failed *sqlite.Error
	return errors.As(err, &failed) && failed.Code()&0xff == busy
}
