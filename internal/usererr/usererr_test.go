package usererr_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"biplane.dev/biplane/internal/usererr"
)

func TestError(t *testing.T) {
	t.Parallel()
	plain := usererr.New(usererr.NotFound, "no file %q", "a.json")
	full := plain.WithHint("try %s", "b.json").Because(fmt.Errorf("opening: %w", fs.ErrNotExist))
	wrapped := fmt.Errorf("reading the boundary: %w", full)

	t.Run("shows the sentence alone to a person", func(t *testing.T) {
		if got, want := full.Error(), `no file "a.json"`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("is found under a wrapper with its hint and kind", func(t *testing.T) {
		var found *usererr.Error
		if !errors.As(wrapped, &found) || found.Hint != "try b.json" || found.Kind != usererr.NotFound {
			t.Errorf("got %+v, want the hint and NotFound", found)
		}
	})
	t.Run("matches its cause", func(t *testing.T) {
		if !errors.Is(wrapped, fs.ErrNotExist) {
			t.Errorf("got no match of %v in %v", fs.ErrNotExist, wrapped)
		}
	})
	t.Run("gives the log the whole chain", func(t *testing.T) {
		want := `reading the boundary: no file "a.json": opening: file does not exist`
		if got := usererr.Chain(wrapped); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("leaves the error it was made from alone", func(t *testing.T) {
		if plain.Hint != "" || plain.Unwrap() != nil {
			t.Errorf("got %+v, want no hint and no cause", plain)
		}
	})
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for kind, want := range map[usererr.Kind]int{
		usererr.Found: 1, usererr.Refused: 1,
		usererr.Invalid: 2, usererr.NotFound: 2, usererr.Denied: 2, usererr.Unavailable: 2, usererr.Interrupted: 2,
	} {
		if got := kind.ExitStatus(); got != want {
			t.Errorf("kind %d: got exit status %d, want %d", kind, got, want)
		}
	}
}
