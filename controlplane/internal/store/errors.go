package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite "modernc.org/sqlite"
)

// The errors that callers branch on. Each text is a sentence for a person, with
// no capital and no full stop. Whatever else is returned is a failure of the
// database, whose text is for the log.

// NotFoundError says that a thing which was named does not exist in the
// organisation.
type NotFoundError struct {
	Kind string // run, action, task, project, cluster, organization, task spec
	Name string // as a person writes it, such as project/domain/name
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no %s %q", e.Kind, e.Name) }

// ExistsError says that a name is taken.
type ExistsError struct {
	Kind string
	Name string
}

func (e *ExistsError) Error() string { return fmt.Sprintf("%s %q exists already", e.Kind, e.Name) }

// RefusedError says that a thing exists and is not in the state for what was
// asked: an archived project, a draining cluster, a cluster with runs.
type RefusedError struct {
	Sentence string
}

func (e *RefusedError) Error() string { return e.Sentence }

// QueryError says what is wrong with a filter, a sort or a page token.
type QueryError struct {
	Sentence string
}

func (e *QueryError) Error() string { return e.Sentence }

// ErrToken is returned for a join token that is unknown, spent, void or expired;
// which of these is not said.
var ErrToken = errors.New("the join token is not valid, or no longer")

// ErrCertificate is returned for a certificate that is unknown, revoked or
// another cluster's.
var ErrCertificate = errors.New("the certificate is not, or no longer, one of this cluster")

// Unreachable says whether what failed may be done when it is tried again a moment
// later: the database could not be reached, was restarted, or was locked by a backup
// for too long. Whether the last transaction was committed is not known then.
func Unreachable(err error) bool {
	var (
		postgres *pgconn.PgError
		file     *sqlite.Error
		network  *net.OpError
		connect  *pgconn.ConnectError
	)
	switch {
	case errors.As(err, &postgres):
		// admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections,
		// read_only_sql_transaction (of the one that was the primary)
		return slices.Contains([]string{"57P01", "57P02", "57P03", "53300", "25006"}, postgres.Code)
	case errors.As(err, &file):
		return sqliteAgain(err)
	case errors.As(err, &connect), errors.As(err, &network), pgconn.SafeToRetry(err):
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn)
}
