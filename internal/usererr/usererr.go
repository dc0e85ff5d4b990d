// Package usererr holds errors that are written for people: one sentence that
// names the field, the value and what is wrong with it, and a hint with the
// next thing to try. The chain below it is for the log.
//
// It is not for errors that code branches on: those are types or values of the
// package that returns them. Nor does it print: the command line does, at the
// edge, once. Start with New.
package usererr

import (
	"errors"
	"fmt"
)

// Kind says what sort of end it is. The command line turns it into an exit
// status, see ExitStatus.
type Kind int

// The kinds. Found and Refused are answers: we could look, and this is what we
// saw. With the others there is no answer.
const (
	Found       Kind = iota + 1 // we looked and found something to object to
	Refused                     // the thing asked for is not allowed, or not as it should be
	Invalid                     // what was typed or a file that was named cannot be used
	NotFound                    // a thing that was named does not exist
	Denied                      // AWS does not let this caller do it, or does not know the caller
	Unavailable                 // a service cannot be reached, or is too busy
	Interrupted                 // somebody pressed Ctrl-C
)

// ExitStatus is 1 where something was found or refused and 2 where the command
// could not run.
func (k Kind) ExitStatus() int {
	switch k {
	case Found, Refused:
		return 1
	}
	return 2
}

// Error is one sentence for a person.
type Error struct {
	Kind Kind
	Hint string // the next thing to try; may be empty

	sentence string
	cause    error
}

// New returns an error with one sentence: no capital at its start, no full
// stop at its end, since it is printed behind the program's name.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, sentence: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy of e with the next thing to try.
func (e *Error) WithHint(format string, args ...any) *Error {
	hinted := *e
	hinted.Hint = fmt.Sprintf(format, args...)
	return &hinted
}

// Because returns a copy of e with the error that led to it. The person does
// not see it; errors.Is, errors.As and the log do.
func (e *Error) Because(cause error) *Error {
	caused := *e
	caused.cause = cause
	return &caused
}

// Error returns the sentence alone.
func (e *Error) Error() string { return e.sentence }

// Unwrap returns what was given to Because.
func (e *Error) Unwrap() error { return e.cause }

// Chain is what the log gets: every text from err down to its first cause.
func Chain(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	// An Error hides its cause's text, which a %w wrapper around it repeats
	// from the Error's sentence only: hence the walk to the next Error.
	var said *Error
	for errors.As(err, &said) && said.cause != nil {
		text += ": " + said.cause.Error()
		err = said.cause
	}
	return text
}
