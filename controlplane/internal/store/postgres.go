package store

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// maxIdle is how many connections are kept for the next call.
const maxIdle = 8

// channel is that of NOTIFY. Its payload is the name of a topic.
const channel = "biplane"

func openPostgres(ctx context.Context, url string, log *slog.Logger, hub *hub) (database, *listener, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		// pgx's own text has the URL in it, which may hold a password.
		return database{}, nil, errors.New("its URL cannot be read: it is postgres://USER@HOST:PORT/DATABASE?OPTIONS")
	}
	listener, err := listen(ctx, config, log, hub)
	if err != nil {
		return database{}, nil, err
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(24)
	pool.SetMaxIdleConns(maxIdle)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	d := database{
		dialect: goose.DialectPostgres,
		reads:   conn{pool, log, postgresArgs}, pool: pool, writer: pool,
		clock: `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`,
		log:   log, again: postgresAgain, taken: postgresTaken, hub: hub,
	}
	// In the transaction, so that a wake-up is sent exactly if the change is made. It
	// costs PostgreSQL a lock around the commits of such transactions; sent behind the
	// commit, a wake-up would be lost with the process that had to send it.
	d.announce = func(ctx context.Context, t *tx, topics []string) error {
		_, err := t.exec(ctx, `SELECT pg_notify('`+channel+`', topic) FROM unnest(CAST($1 AS TEXT[])) AS topic`, topics)
		return err
	}
	return d, listener, nil
}

// postgresAgain is true for a deadlock and for a transaction that could not be put
// into an order with another.
func postgresAgain(err error) bool {
	var failed *pgconn.PgError
	return errors.As(err, &failed) && (failed.Code == "40P01" || failed.Code == "40001")
}

// postgresArgs is large, since each statement is a round trip. PostgreSQL takes 65,535.
const postgresArgs = 8000

func postgresTaken(err error) bool {
	var failed *pgconn.PgError
	return errors.As(err, &failed) && failed.Code == "23505"
}

// listener is the one connection that waits for notifications.
type listener struct {
	config *pgx.ConnConfig
	log    *slog.Logger
	hub    *hub
	cancel context.CancelFunc
	done   chan struct{}
}

// listen returns once it listens.
func listen(ctx context.Context, config *pgx.ConnConfig, log *slog.Logger, hub *hub) (*listener, error) {
	l := &listener{config: config, log: log, hub: hub, done: make(chan struct{})}
	first, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	go l.run(running, first)
	return l, nil
}

func (l *listener) stop() {
	l.cancel()
	<-l.done
}

func (l *listener) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	connection, err := pgx.ConnectConfig(ctx, l.config)
	if err != nil {
		return nil, err
	}
	if _, err := connection.Exec(ctx, "LISTEN "+channel); err != nil {
		connection.Close(ctx)
		return nil, err
	}
	return connection, nil
}

func (l *listener) run(ctx context.Context, connection *pgx.Conn) {
	defer close(l.done)
	for {
		err := l.follow(ctx, connection)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		connection.Close(closing)
		cancel()
		if ctx.Err() != nil {
			return
		}
		l.log.WarnContext(ctx, "wake-ups from the database interrupted", "error", err)
		for connection = nil; connection == nil; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(100*time.Millisecond + rand.N(900*time.Millisecond)):
			}
			if connection, err = l.connect(ctx); err != nil {
				l.log.DebugContext(ctx, "listening again failed", "error", err)
			}
		}
		l.log.InfoContext(ctx, "wake-ups from the database restored")
		// Nobody knows what was missed.
		l.hub.wakeAll()
	}
}

// follow passes notifications on until the connection fails. A quiet one is asked
// now and then, since a peer that vanished says nothing either.
func (l *listener) follow(ctx context.Context, connection *pgx.Conn) error {
	const quiet, answer = 15 * time.Second, 5 * time.Second
	for {
		waiting, cancel := context.WithTimeout(ctx, quiet)
		notification, err := connection.WaitForNotification(waiting)
		silent := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			l.hub.wake(notification.Payload)
		case !silent:
			return err
		default:
			asking, cancel := context.WithTimeout(ctx, answer)
			err := connection.Ping(asking)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
