// Package logs follows the log of one container from its beginning to its end,
// wherever it is: at the kubelet while there is a pod, in the bucket afterwards.
// Each line is given out once, and none is left out, when it moves from one to
// the other or a connection breaks in the middle.
//
// It knows neither who asks nor how it is told: Follow hands lines to a function
// and waits for it, so that a slow reader slows the source down. line.go takes a
// source apart, position.go finds the place in another.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Line of a log, or a piece of one that is too long to be held.
type Line struct {
	At time.Time
	// Text has a newline at its end but where another piece of the line follows.
	Text string
}

// Kind of a place.
type Kind int

const (
	// Nowhere: there is no log, and there will be none.
	Nowhere Kind = iota
	// Running: the kubelet has it, and it grows.
	Running
	// Ended: the kubelet has it, whole.
	Ended
	// Kept: it is in the bucket, whole.
	Kept
)

// Sources are where a log is read.
type Sources interface {
	// Where waits until it is known where the log is. It is asked again whenever
	// what it said is found to be over. Its error is the end, but ErrUnknown.
	Where(ctx context.Context) (Kind, error)
	// Live reads at the kubelet, with timestamps; the lines of since and later, if
	// it is not zero, and as they come, if the container is running.
	Live(ctx context.Context, since time.Time, follow bool) (io.ReadCloser, error)
	// Kept reads in the bucket, from an offset on.
	Kept(ctx context.Context, offset int64) (io.ReadCloser, error)
}

var (
	// ErrGone is what Live and Kept return where the log is no longer there.
	ErrGone = errors.New("the log is no longer there")
	// ErrUnknown is what Where returns where it may know more in a moment.
	ErrUnknown = errors.New("where the log is cannot be told now")
)

const (
	// attempts to go on from where a source broke, none of which gave a line.
	attempts = 12
	// pause before the second of them; it doubles up to maxPause.
	pause    = 10 * time.Millisecond
	maxPause = 5 * time.Second
)

// Follow gives out the lines of a log, the first first, and returns when it has
// ended. The error may be emit's, or ErrGone.
func Follow(ctx context.Context, sources Sources, emit func(Line) error) error {
	f := follower{sources: sources, emit: emit}
	for fruitless := 0; ; fruitless++ {
		before := f.at
		done, err := f.next(ctx)
		switch {
		case f.refused != nil:
			return f.refused
		case done && err == nil:
			return f.finish()
		case done:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case f.at != before:
			fruitless = 0
		case err != nil && fruitless >= attempts:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(pause<<min(fruitless, 10), maxPause)):
		}
	}
}

// follower goes through sources, one after the other.
type follower struct {
	sources Sources
	emit    func(Line) error

	at      position
	rest    []byte // of the last line, which has no newline yet
	restAt  time.Time
	refused error // emit's
}

// next reads whichever source has the log now, up to its end. It is done when no
// other can have more.
func (f *follower) next(ctx context.Context) (done bool, err error) {
	kind, err := f.sources.Where(ctx)
	if err != nil {
		return !errors.Is(err, ErrUnknown), err
	}
	switch kind {
	case Running:
		// Where it ended is not seen here: whether by the container's end, or by
		// that of a connection. The next round knows.
		return false, f.live(ctx, true)
	case Ended:
		// Once more, to its end: what was read before may have been cut short.
		err := f.live(ctx, false)
		return err == nil, err
	case Kept:
		err := f.kept(ctx)
		return err == nil || errors.Is(err, ErrGone), err
	}
	return true, nil
}

func (f *follower) live(ctx context.Context, follow bool) error {
	open := func(since time.Time) (*reader, error) {
		body, err := f.sources.Live(ctx, since, follow)
		if err != nil {
			return nil, fmt.Errorf("reading a pod's log: %w", err)
		}
		r := newReader(body)
		r.stamped = true
		return r, nil
	}
	r, err := open(f.at.second)
	if err != nil {
		return err
	}
	defer func() { r.close() }()
	found, err := f.at.skipLines(r)
	if err != nil {
		return err
	}
	if !found { // the kubelet began a new file
		r.close()
		if r, err = open(f.at.second); err != nil {
			return err
		}
		r.after = f.at.last.at
	}
	return f.read(r)
}

func (f *follower) kept(ctx context.Context) error {
	open := func(offset int64) (*reader, error) {
		body, err := f.sources.Kept(ctx, offset)
		if err != nil {
			return nil, fmt.Errorf("reading a log that was kept: %w", err)
		}
		return newReader(body), nil
	}
	r, err := open(f.at.offset - f.at.last.length)
	if err != nil {
		return err
	}
	defer func() { r.close() }()
	found, err := f.at.skipLast(r)
	if err != nil {
		return err
	}
	if !found { // what was kept does not begin where the kubelet's did
		r.close()
		if r, err = open(0); err != nil {
			return err
		}
		r.after = f.at.last.at
	}
	return f.read(r)
}

// read gives out what a reader still has.
func (f *follower) read(r *reader) error {
	f.rest = nil
	seen := int64(0) // of this line's text
	for {
		p, err := r.piece()
		if err != nil && err != io.EOF {
			return err
		}
		fresh := p.text[min(max(f.at.inLine-seen, 0), int64(len(p.text))):]
		if err == io.EOF {
			f.rest, f.restAt = append([]byte(nil), fresh...), p.at
			return nil
		}
		if len(fresh) > 0 {
			if f.refused = f.emit(Line{At: p.at, Text: string(fresh)}); f.refused != nil {
				return f.refused
			}
		}
		if seen += int64(len(p.text)); p.ends {
			seen = 0
			f.at.next(p.line)
		} else {
			f.at.inLine = max(f.at.inLine, seen)
		}
	}
}

// finish gives out a last line that never had a newline.
func (f *follower) finish() error {
	if len(f.rest) == 0 && f.at.inLine == 0 {
		return nil
	}
	return f.emit(Line{At: f.restAt, Text: string(f.rest) + "\n"})
}
