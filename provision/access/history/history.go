// Package history keeps what was changed in accounts' access on this machine: a
// line of JSON when a change begins and one when it ends. Nothing depends on it:
// what an account has is read from the account, and a change that cannot be
// written down is made all the same. It knows nothing of AWS.
//
// Start with Entry and Append. What is where:
//
//	history.go  Entry, Append: one line
//	read.go     Read: the changes, each of its two lines
package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// Outcome is what became of a change.
type Outcome string

// The outcomes. A file has the first three; Read finds the last.
const (
	Began      Outcome = "began"
	Done       Outcome = "done"
	Failed     Outcome = "failed"
	Unfinished Outcome = "unfinished" // begun, with no end: killed, or still at work
)

// Entry is one line of the file. Its JSON is read by other programs. No secret may be
// in it: what Hidden names is blotted out wherever it stands.
type Entry struct {
	Time          time.Time `json:"time"`
	Change        string    `json:"change"` // the same in both lines of a change
	Account       string    `json:"account"`
	Region        string    `json:"region"`
	Command       string    `json:"command"`
	Method        string    `json:"method"` // iam or cloudformation
	Who           string    `json:"who"`    // the ARN whose credentials were used
	Outcome       Outcome   `json:"outcome"`
	PolicyVersion string    `json:"policyVersion"` // of the documents as the change leaves them
	Widened       []string  `json:"widened"`
	Narrowed      []string  `json:"narrowed"`
	Reason        string    `json:"reason"`
	Error         string    `json:"error"`

	Hidden []string `json:"-"`
}

// File is where the lines are, below the XDG state folder; "" where there is no place
// for them. The parameter is os.Getenv.
func File(getenv func(string) string) string {
	state := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the XDG specification: a relative path is to be ignored
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "biplane", "access-history.jsonl")
}

const (
	longestText = 2000 // characters of one text; IAM's errors may quote a document
	mostLines   = 200  // of what a change widens, or narrows
	patience    = 2 * time.Second
)

// Append writes an entry as one line, in one write behind whatever other processes write.
// A last line that was cut off is left as it is, and the entry begins on a line of its own.
func Append(file string, e Entry) error {
	if file == "" {
		return errors.New("neither XDG_STATE_HOME nor HOME names a folder")
	}
	line, err := json.Marshal(e.kept())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	// Without NONBLOCK a pipe in its place would be waited for; a link might lead anywhere.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // what was written is there or not by then
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "write", Path: file, Err: errors.New("it is not a regular file")}
	case info.Mode().Perm()&0o077 != 0:
		if err := f.Chmod(0o600); err != nil {
			return err
		}
	}
	if err := lock(f); err != nil {
		return err
	}
	text := append(line, '\n')
	if end, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	} else if end > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// lock waits for others who write, but not for one who is stopped.
func lock(f *os.File) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("another process has it locked")
		}
	}
}

// kept is the entry as it is written: bounded, without what is hidden, and with no null
// for a list.
func (e Entry) kept() Entry {
	var blots []string
	for _, secret := range e.Hidden {
		if secret != "" {
			blots = append(blots, secret, "…")
		}
	}
	blot := strings.NewReplacer(blots...)
	text := func(s *string) {
		*s = blot.Replace(strings.ToValidUTF8(*s, "\uFFFD"))
		if utf8.RuneCountInString(*s) > longestText {
			*s = string([]rune(*s)[:longestText]) + "…"
		}
	}
	list := func(l *[]string) {
		kept := append([]string{}, *l...)
		if more := len(kept) - mostLines; more > 0 {
			kept = append(kept[:mostLines], fmt.Sprintf("and %d more", more))
		}
		for i := range kept {
			text(&kept[i])
		}
		*l = kept
	}
	for _, s := range []*string{&e.Change, &e.Account, &e.Region, &e.Command, &e.Method, &e.Who, &e.PolicyVersion, &e.Reason, &e.Error} {
		text(s)
	}
	list(&e.Widened)
	list(&e.Narrowed)
	e.Time = e.Time.UTC().Truncate(time.Second)
	return e
}
