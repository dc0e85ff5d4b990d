package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func cat(files []string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			fmt.Printf("%s: %s\n", file, say(err))
			continue
		}
		fmt.Printf("%s: %q\n", file, text)
	}
	return nil
}

// list prints what is in a folder, sorted, without the names that begin with two
// dots, which are the machinery of atomic updates.
func list(dirs []string) error {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			fmt.Printf("%s: %s\n", dir, say(err))
			continue
		}
		fmt.Printf("%s has", dir)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "..") {
				fmt.Printf(" %s", e.Name())
			}
		}
		fmt.Println()
	}
	return nil
}

// stat prints kind, mode and owner of what a path leads to.
func stat(paths []string) error {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Printf("%s: %s\n", path, say(err))
			continue
		}
		s := info.Sys().(*syscall.Stat_t)
		fmt.Printf("%s: %s %d:%d\n", path, info.Mode(), s.Uid, s.Gid)
	}
	return nil
}

func mount(paths []string) error {
	for _, path := range paths {
		var s unix.Statfs_t
		if err := unix.Statfs(path, &s); err != nil {
			return err
		}
		kind := "disk"
		if s.Type == unix.TMPFS_MAGIC {
			kind = "memory"
		}
		access := "read-write"
		if s.Flags&unix.ST_RDONLY != 0 {
			access = "read-only"
		}
		fmt.Printf("%s: %s %s\n", path, kind, access)
	}
	return nil
}

func write(args []string) error {
	return put(args, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, "wrote")
}

func appendTo(args []string) error {
	return put(args, os.O_CREATE|os.O_APPEND|os.O_WRONLY, "appended to")
}

func put(args []string, how int, did string) error {
	f, err := os.OpenFile(args[0], how, 0o644)
	if err != nil {
		fmt.Printf("%s: %s\n", args[0], say(err))
		return nil
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, strings.Join(args[1:], " ")); err != nil {
		return err
	}
	fmt.Println(did, args[0])
	return nil
}

func mkdir(args []string) error { return os.MkdirAll(args[0], 0o755) }

func remove(args []string) error { return os.RemoveAll(args[0]) }

func has(paths []string) error {
	for _, path := range paths {
		_, err := os.Lstat(path)
		fmt.Printf("%s: %v\n", path, err == nil)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// poll is how often files are looked at. Watching them would depend on how a
// node writes them.
const poll = 20 * time.Millisecond

func waitFile(args []string) error {
	for {
		if matches, _ := filepath.Glob(args[0]); len(matches) > 0 {
			return nil
		}
		time.Sleep(poll)
	}
}

func waitGone(args []string) error {
	for {
		if _, err := os.Lstat(args[0]); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(poll)
	}
}

func waitText(args []string) error {
	for {
		text, err := os.ReadFile(args[0])
		if err == nil && strings.TrimSpace(string(text)) == args[1] {
			return nil
		}
		time.Sleep(poll)
	}
}
