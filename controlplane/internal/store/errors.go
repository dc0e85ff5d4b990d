package store

import (
	"errors"
	"fmt"
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
