package cli

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"testing"

	"biplane.dev/biplane/provision/access"
)

func TestNewExternalID(t *testing.T) {
	t.Parallel()
	t.Run("makes 22 characters that the trust takes and a shell leaves alone", func(t *testing.T) {
		t.Parallel()
		form := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{21}$`)
		seen := map[string]bool{}
		for range 10_000 {
			id, err := newExternalID(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if !form.MatchString(id) || access.CheckExternalID(id) != nil || seen[id] {
				t.Fatalf("got %q, want a new one of %v", id, form)
			}
			seen[id] = true
		}
	})
	t.Run("throws one away that starts with a dash", func(t *testing.T) {
		t.Parallel()
		// 0xf8 starts with the 62nd character of the alphabet, which is '-'.
		random := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte{0xf8}, 16)), bytes.NewReader(make([]byte, 16)))
		got, err := newExternalID(random)
		if want := "AAAAAAAAAAAAAAAAAAAAAA"; got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
	t.Run("fails when there is no randomness", func(t *testing.T) {
		t.Parallel()
		if _, err := newExternalID(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want %v", err, io.EOF)
		}
	})
}
