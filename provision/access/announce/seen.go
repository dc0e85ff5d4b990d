package announce

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Window is how far the time of a signature may be from the receiver's.
const Window = 5 * time.Minute

// maxSeen is how many announcements of one customer are taken within a Window: each stack
// sends one, and another for each try.
const maxSeen = 100

// Seen remembers announcements for as long as their time would pass: an empty file in a
// folder, named for the digest, with the time of the signature. That a file can be made
// once only is the whole lock, for several receivers on one folder too; and a restart, or
// a power cut, forgets nothing.
type Seen struct{ folder string }

// Errors of take.
var (
	errSeen    = errors.New("it was received before")
	errTooMany = errors.New("too many of one customer")
)

// OpenSeen makes the folder, for its owner alone, where there is none.
func OpenSeen(folder string) (*Seen, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(folder, ".probe-")
	if err != nil {
		return nil, err
	}
	return &Seen{folder}, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// take remembers a digest, once. It forgets those of the same customer that no time would
// let pass any more. It never gives one back: a sender who tries again signs anew.
func (s *Seen) take(customer, digest string, signed, now time.Time) error {
	folder := filepath.Join(s.folder, customer)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	kept := 0
	for _, entry := range entries {
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // another one has just forgotten it
		case err != nil:
			return err
		case now.Sub(info.ModTime()) > 2*Window:
			if err := os.Remove(filepath.Join(folder, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		kept++
	}
	name := filepath.Join(folder, digest)
	if _, err := os.Lstat(name); err == nil {
		return errSeen
	}
	if kept >= maxSeen {
		return errTooMany
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errSeen
	}
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close(), os.Chtimes(name, signed, signed)); err != nil {
		return fmt.Errorf("remembering an announcement: %w", err)
	}
	parent, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
