package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

// Stage is how far a rotation has come. Two processes may be one stage apart and
// still take each other's certificates, since what a stage begins to do with a
// certificate, all that came before allowed already; so do data planes, which get
// the bundle with each certificate, once they have renewed.
type Stage int

const (
	// Steady is a CA alone.
	Steady Stage = iota
	// Introduced is when the next CA is believed, and signs nothing.
	Introduced
	// Succeeded is when it signs and serves, and the one before is still believed.
	Succeeded
)

// Stage says what the file holds.
func (ca *CA) Stage() Stage {
	switch {
	case ca.next != nil:
		return Introduced
	case ca.old != nil:
		return Succeeded
	}
	return Steady
}

// Rotate takes the next step: from Steady by Introduced and Succeeded to Steady
// again, with another CA. may is asked first, with the CA as it is, and nobody else
// takes a step meanwhile. The file is replaced whole: who is killed has taken the
// step or has not.
func Rotate(folder string, now time.Time, may func(*CA) error) (*CA, error) {
	file := filepath.Join(folder, File)
	unlock, err := lock(folder)
	if err != nil {
		return nil, err
	}
	defer unlock()
	ca, err := read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usererr.New(usererr.NotFound, "there is no CA in %s yet", folder).
			WithHint("the server makes it at its first start").Because(err)
	}
	if err != nil {
		return nil, err
	}
	if err := may(ca); err != nil {
		return nil, err
	}
	var next *CA
	switch ca.Stage() {
	case Steady:
		made, err := newPair(now)
		if err != nil {
			return nil, fmt.Errorf("making the next CA: %w", err)
		}
		next = &CA{pair: ca.pair, next: made}
	case Introduced:
		next = &CA{pair: *ca.next, old: ca.certificate}
	case Succeeded:
		next = &CA{pair: ca.pair}
	}
	if err := replace(file, next); err != nil {
		return nil, fmt.Errorf("replacing %s: %w", file, err)
	}
	return next, nil
}

const replacement = ".next-*"

func replace(file string, ca *CA) error {
	// Of one who was killed: it holds a key.
	left, err := filepath.Glob(file + replacement)
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	temporary, err := written(file, replacement, ca)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, file); err != nil {
		os.Remove(temporary)
		return err
	}
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// lock is on the folder itself, and goes with the process.
func lock(folder string) (unlock func(), err error) {
	f, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usererr.New(usererr.NotFound, "there is no folder %s", folder).
			WithHint("the server makes it at its first start").Because(err)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, usererr.New(usererr.Refused, "somebody else rotates the CA in %s right now", folder).
				WithHint("look at it with 'biplane-controlplane ca show', and run it again").Because(err)
		}
		return nil, fmt.Errorf("locking %s: %w", folder, err)
	}
	return func() { f.Close() }, nil
}
