// Package refusal makes the errors that clients are answered with: a Connect
// code, and one sentence that names the field, the value and the next thing to
// try. The cause, if there is one, is for the log.
//
// It is not for what the command line prints: see internal/usererr. Start with
// New; the server translates whatever else a handler returns.
package refusal

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"
)

// New returns an error with one sentence.
func New(code connect.Code, format string, args ...any) *connect.Error {
	return connect.NewError(code, fmt.Errorf(format, args...))
}

// Invalid refuses a request as it was written.
func Invalid(format string, args ...any) *connect.Error {
	return New(connect.CodeInvalidArgument, format, args...)
}

// NotFound says that what was named does not exist.
func NotFound(format string, args ...any) *connect.Error {
	return New(connect.CodeNotFound, format, args...)
}

// Because returns a refusal whose cause the log gets, and the client does not.
func Because(cause error, code connect.Code, format string, args ...any) *connect.Error {
	return connect.NewError(code, &caused{sentence: fmt.Sprintf(format, args...), cause: cause})
}

// caused hides its cause's text from the client. Connect sends Error's text
// alone.
type caused struct {
	sentence string
	cause    error
}

func (e *caused) Error() string { return e.sentence }
func (e *caused) Unwrap() error { return e.cause }

// Chain is what the log gets: the sentence, and its cause's text.
func Chain(err error) string {
	text := err.Error()
	var said *caused
	if errors.As(err, &said) {
		return text + ": " + said.cause.Error()
	}
	return text
}
