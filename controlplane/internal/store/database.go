package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// database is what the two have in common: every statement of this package runs on
// both as it is written. Where they differ is said here and in sqlite.go and
// postgres.go, and nowhere else.
type database struct {
	dialect goose.Dialect
	reads   conn    // outside of transactions
	pool    *sql.DB // where reads go
	writer  *sql.DB // where transactions go; PostgreSQL's is the pool
	log     *slog.Logger
	// clock is an expression for the database's own time, in microseconds: for what
	// several processes compare.
	clock string
	// again says whether a transaction that failed may succeed when it is run again.
	again func(error) bool
	// taken says whether a value was refused because another row has it.
	taken func(error) bool
	// announce runs before the commit, with the topics to wake; nil: the topics are
	// woken in this process, behind the commit.
	announce func(context.Context, *tx, []string) error
	hub      *hub
}

func (d database) close() error {
	err := d.pool.Close()
	if d.writer != d.pool {
		err = errors.Join(err, d.writer.Close())
	}
	return err
}

// conn runs statements: of a transaction, or outside of one.
type conn struct {
	runner
	log *slog.Logger
	// args is how many arguments one statement of many rows should have.
	args int
}

// rows is how many rows of so many arguments each a statement should have.
func (c conn) rows(arguments int) int { return max(1, c.args/arguments) }

type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// exec runs a statement and says how many rows it changed.
func (c conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	c.log.DebugContext(ctx, "statement", "sql", query)
	result, err := c.ExecContext(ctx, query, clean(args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// scanner is the Scan of a row.
type scanner func(dest ...any) error

// each calls f for every row of the answer.
func (c conn) each(ctx context.Context, query string, args []any, f func(scan scanner) error) error {
	// After a restart of the server every connection that was idle fails once. Outside
	// of a transaction the next one is taken, up to a new one; a watch would end otherwise.
	_, pooled := c.runner.(*sql.DB)
	for attempt := 0; ; attempt++ {
		answered := false
		err := c.read(ctx, query, args, func(scan scanner) error {
			answered = true
			return f(scan)
		})
		var undialled *pgconn.ConnectError
		if !pooled || err == nil || answered || attempt == maxIdle || !Unreachable(err) || errors.As(err, &undialled) || ctx.Err() != nil {
			return err
		}
	}
}

func (c conn) read(ctx context.Context, query string, args []any, f func(scan scanner) error) error {
	c.log.DebugContext(ctx, "statement", "sql", query)
	rows, err := c.QueryContext(ctx, query, clean(args)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one calls f for the only row of the answer, and says whether there was one.
func (c conn) one(ctx context.Context, query string, args []any, f func(scan scanner) error) (found bool, err error) {
	err = c.each(ctx, query, args, func(scan scanner) error {
		found = true
		return f(scan)
	})
	return found, err
}

// scanInto is the f for a row of plain columns.
func scanInto(dest ...any) func(scanner) error {
	return func(scan scanner) error { return scan(dest...) }
}

// clean makes arguments what both drivers take: numbers of one type, and text that
// PostgreSQL can hold, so that no name and no filter makes a statement fail. Nothing
// that is stored equals a text that had to be cleaned.
func clean(args []any) []any {
	cleaned := make([]any, len(args))
	for i, arg := range args {
		switch value := arg.(type) {
		case string:
			arg = strings.ReplaceAll(strings.ToValidUTF8(value, "\uFFFD"), "\x00", "\uFFFD")
		case protoreflect.Enum:
			arg = int64(value.Number())
		case uint16:
			arg = int64(value)
		case uint32:
			arg = int64(value)
		case uint64: // counters of ours and of etcd's, which are int64 there
			arg = int64(min(value, math.MaxInt64))
		}
		cleaned[i] = arg
	}
	return cleaned
}

// tx is a transaction, with the topics that it will wake.
type tx struct {
	conn
	now    int64 // of everything that it writes
	topics map[Topic]struct{}
}

func (t *tx) wake(topics ...Topic) {
	for _, topic := range topics {
		t.topics[topic] = struct{}{}
	}
}

// errNothing, returned by the function of a transaction, undoes it without an error.
var errNothing = errors.New("nothing to do")

// change runs f in a transaction, as often as the database asks for, and wakes
// whoever watches. Locks are taken in one order, which is: the cluster's position;
// runs; actions; task specs; the cluster; the organisation. The last two have
// counters, so they are taken as late as can be.
func (s *Store) change(ctx context.Context, f func(t *tx) error) error {
	const attempts = 6
	for attempt := 1; ; attempt++ {
		err := s.database.try(ctx, f)
		if err == nil || errors.Is(err, errNothing) {
			return nil
		}
		var unbegun *unbegunError
		if attempt == attempts || ctx.Err() != nil || !errors.As(err, &unbegun) && !s.database.again(err) {
			return err
		}
		s.database.log.DebugContext(ctx, "transaction again", "attempt", attempt, "error", err)
		// Not in step with whoever was in the way.
		pause := time.Duration(rand.Int64N(int64(5*time.Millisecond) << attempt))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// unbegunError is the failure of a transaction in which nothing was done yet. The
// connection may have been the last of a server that was started again meanwhile.
type unbegunError struct{ cause error }

func (e *unbegunError) Error() string { return "beginning a transaction: " + e.cause.Error() }
func (e *unbegunError) Unwrap() error { return e.cause }

func (d database) try(ctx context.Context, f func(t *tx) error) error {
	begun, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return &unbegunError{err}
	}
	defer begun.Rollback() // does nothing behind a commit
	t := &tx{conn: conn{begun, d.log, d.reads.args}, now: time.Now().UnixMicro(), topics: map[Topic]struct{}{}}
	if err := f(t); err != nil {
		return err
	}
	names := make([]string, 0, len(t.topics))
	for topic := range t.topics {
		names = append(names, topic.name)
	}
	if d.announce != nil && len(names) > 0 {
		if err := d.announce(ctx, t, names); err != nil {
			return err
		}
	}
	if err := begun.Commit(); err != nil {
		return err
	}
	if d.announce == nil {
		d.hub.wake(names...)
	}
	return nil
}

// micros is how a time is stored: 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// splitLines is how several texts are read that were stored as one.
func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// encode is how a message is stored: no bytes for none.
func encode(m proto.Message) ([]byte, error) {
	if m == nil || !m.ProtoReflect().IsValid() {
		return []byte{}, nil
	}
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{}, m)
}

// decode reads what encode wrote: nil for no bytes. A message that was empty comes
// back as nil, too.
func decode[M any, P interface {
	*M
	proto.Message
}](encoded []byte) (P, error) {
	if len(encoded) == 0 {
		return nil, nil
	}
	m := P(new(M))
	if err := proto.Unmarshal(encoded, m); err != nil {
		return nil, err
	}
	return m, nil
}

// encodeAll encodes several.
func encodeAll(messages ...proto.Message) ([][]byte, error) {
	encoded := make([][]byte, len(messages))
	for i, m := range messages {
		var err error
		if encoded[i], err = encode(m); err != nil {
			return nil, err
		}
	}
	return encoded, nil
}
