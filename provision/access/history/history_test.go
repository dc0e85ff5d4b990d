package history_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"biplane.dev/biplane/provision/access/history"
)

func entry(change string, outcome history.Outcome) history.Entry {
	return history.Entry{
		Time: time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC), Change: change, Account: "123456789012", Region: "eu-central-1",
		Command: "grant", Method: "iam", Who: "arn:aws:iam::123456789012:user/admin", Outcome: outcome, PolicyVersion: "1.0.0",
	}
}

// in is a file of a folder that is not there yet.
func in(t *testing.T) string {
	return filepath.Join(t.TempDir(), "state", "biplane", "access-history.jsonl")
}

func write(t *testing.T, file string, entries ...history.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := history.Append(file, e); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, file string) history.Changes {
	t.Helper()
	all, err := history.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHistory(t *testing.T) {
	t.Parallel()
	t.Run("it makes one change of two lines, the newest first", func(t *testing.T) {
		file := in(t)
		write(t, file, entry("a", history.Began), entry("b", history.Began), entry("a", history.Done))
		got := read(t, file)
		if len(got.Changes) != 2 || got.Changes[0].Change != "b" || got.Changes[0].Outcome != history.Unfinished || got.Changes[1].Outcome != history.Done {
			t.Errorf("got %+v, want b unfinished, then a done", got.Changes)
		}
	})
	t.Run("it shows the file to its owner alone", func(t *testing.T) {
		file := in(t)
		write(t, file, entry("a", history.Began))
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		write(t, file, entry("a", history.Done))
		for name, want := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700} {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("got mode %v of %s, want %v", got, filepath.Base(name), want)
			}
		}
	})
	t.Run("it goes on behind a line that was cut off", func(t *testing.T) {
		file := in(t)
		write(t, file, entry("a", history.Began), entry("a", history.Done))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text[:len(text)-20], 0o600); err != nil {
			t.Fatal(err)
		}
		write(t, file, entry("b", history.Done))
		got := read(t, file)
		if len(got.Changes) != 2 || got.Damaged != 1 || got.Changes[0].Change != "b" || got.Changes[1].Outcome != history.Unfinished {
			t.Errorf("got %+v, want b done, a unfinished and one line damaged", got)
		}
	})
	t.Run("it blots out what is hidden, wherever it stands", func(t *testing.T) {
		file := in(t)
		const secret = "5Zq0v3l1x8mTfKcW2hYbNg"
		e := entry("a", history.Failed)
		e.Hidden = []string{secret, ""}
		e.Widened, e.Narrowed = []string{"trusts " + secret}, []string{secret}
		e.Reason, e.Error = "for "+secret, "AWS refuses "+secret+"\nand "+secret
		write(t, file, e)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), secret) || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), "trusts …") {
			t.Errorf("got %s, want one line without the external ID", text)
		}
	})
	t.Run("it bounds a line", func(t *testing.T) {
		file := in(t)
		e := entry("a", history.Failed)
		e.Error = strings.Repeat("ü", 1<<20)
		for i := range 10000 {
			e.Widened = append(e.Widened, fmt.Sprint("right ", i))
		}
		write(t, file, e)
		got := read(t, file).Changes[0]
		if len(got.Error) > 5000 || len(got.Widened) != 201 || got.Widened[200] != "and 9800 more" {
			t.Errorf("got %d bytes and %d rights, the last %q; want less", len(got.Error), len(got.Widened), got.Widened[len(got.Widened)-1])
		}
	})
	t.Run("it loses no line of several who write at once", func(t *testing.T) {
		file := in(t)
		var writers sync.WaitGroup
		for i := range 8 {
			writers.Go(func() {
				for j := range 20 {
					if err := history.Append(file, entry(fmt.Sprint(i, ".", j), history.Done)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if got := read(t, file); len(got.Changes) != 160 || got.Damaged != 0 {
			t.Errorf("got %d changes and %d damaged, want 160 and 0", len(got.Changes), got.Damaged)
		}
	})
	t.Run("it follows no link, waits for no pipe and says where there is no place", func(t *testing.T) {
		dir := t.TempDir()
		link, target, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "target"), filepath.Join(dir, "pipe")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{link, pipe, "", filepath.Join(pipe, "below")} {
			if err := history.Append(file, entry("a", history.Began)); err == nil {
				t.Errorf("got no error for %q, want one", file)
			}
		}
		if _, err := os.Stat(target); err == nil {
			t.Error("got a file behind the link, want none")
		}
		if _, err := history.Read(pipe); err == nil {
			t.Error("got no error from reading a pipe, want one")
		}
		if got := read(t, filepath.Join(dir, "none")); len(got.Changes) != 0 {
			t.Errorf("got %+v of no file, want nothing", got)
		}
	})
}

func TestFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ state, home, want string }{
		{"/state", "/h", "/state/biplane/access-history.jsonl"},
		{"relative", "/h", "/h/.local/state/biplane/access-history.jsonl"},
		{"", "relative", ""},
		{"", "", ""},
	} {
		got := history.File(func(name string) string { return map[string]string{"XDG_STATE_HOME": c.state, "HOME": c.home}[name] })
		if got != c.want {
			t.Errorf("got %q for %+v, want %q", got, c, c.want)
		}
	}
}
