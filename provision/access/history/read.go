package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// Change is one change, of its two lines: the entry that ended it, or began it where
// there is no end, and when it began. Its JSON is read by other programs.
type Change struct {
	Entry
	Began time.Time `json:"began"`
}

// Changes is what a file has, and how much of it cannot be read.
type Changes struct {
	Changes []Change // the newest first
	Damaged int      // lines that are none of ours
	Older   bool     // there are older lines, which were not read
}

const mostBytes = 16 << 20 // from the end; some ten thousand changes

// Read reads the changes. No file is no changes.
func Read(file string) (Changes, error) {
	if file == "" {
		return Changes{}, nil
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Changes{}, nil
	}
	if err != nil {
		return Changes{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Changes{}, err
	}
	if !info.Mode().IsRegular() {
		return Changes{}, &fs.PathError{Op: "read", Path: file, Err: errors.New("it is not a regular file")}
	}
	var all Changes
	from := max(0, info.Size()-mostBytes)
	text, err := io.ReadAll(io.NewSectionReader(f, from, mostBytes))
	if err != nil {
		return Changes{}, err
	}
	if from > 0 {
		all.Older = true
		_, text, _ = bytes.Cut(text, []byte("\n")) // the end of one
	}
	index := map[string]int{}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var e Entry
		if json.Unmarshal(line, &e) != nil || e.Time.IsZero() || e.Command == "" {
			all.Damaged++
			continue
		}
		at, begun := index[e.Change]
		switch {
		case e.Outcome == Began:
			index[e.Change] = len(all.Changes)
			began := e.Time
			e.Outcome = Unfinished
			all.Changes = append(all.Changes, Change{Entry: e, Began: began})
		case begun:
			all.Changes[at].Entry = e
		default: // its beginning was damaged
			all.Changes = append(all.Changes, Change{Entry: e, Began: e.Time})
		}
	}
	slices.Reverse(all.Changes)
	return all, nil
}
