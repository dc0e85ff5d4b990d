package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

func (a *app) sandboxLogs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs COMPONENT",
		Short: "Print what a component of the sandbox wrote",
		Long: `Print what a component of the sandbox wrote, from the oldest line that is kept;
the supervisor, which starts and watches the components, has a log too. They are
files, so they can be read when the sandbox is stopped. What a pod writes is
elsewhere: 'kubectl logs'.`,
		Example: `  biplane sandbox logs kube-apiserver

  # Until Ctrl-C
  biplane sandbox logs s3 --follow`,
		Args: oneComponent,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			folder, err := a.folder()
			if err != nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			names, _ := logNames(folder) // no logs, nothing to offer
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.logs(cmd.Context(), args[0], follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it writes next, until Ctrl-C")
	return cmd
}

func (a *app) logs(ctx context.Context, name string, follow bool) error {
	folder, err := a.folder()
	if err != nil {
		return err
	}
	if exists, err := folder.Exists(); err != nil {
		return err
	} else if !exists {
		return a.notUp(sandbox.Absent)
	}
	known, err := logNames(folder)
	if err != nil {
		return err
	}
	if !slices.Contains(known, name) {
		if len(known) == 0 {
			return usererr.New(usererr.NotFound, "sandbox %s has no logs yet", a.where.name).WithHint("start it with '%s'", a.command("up"))
		}
		return unknownComponent(name, known)
	}
	err = printLog(ctx, a.Out, folder.Log(name), follow)
	if errors.Is(err, fs.ErrPermission) {
		return usererr.New(usererr.Denied, "the logs of sandbox %s are another user's", a.where.name).
			WithHint("name a sandbox of yours with --name or --dir").Because(err)
	}
	return err
}

// logNames are the components that have a log.
func logNames(folder sandbox.Folder) ([]string, error) {
	entries, err := os.ReadDir(folder.Logs())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, usererr.New(usererr.Denied, "cannot look into %s", folder.Logs()).
			WithHint("name a sandbox of yours with --name or --dir").Because(err)
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), ".log"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// printLog writes a log with those that it replaced (FILE.1), and with follow
// what comes, until ctx ends. A log that reaches its limit is renamed and begun
// anew: what is open is read to its end before the next one is opened. Where it
// cannot be renamed it is emptied.
func printLog(ctx context.Context, out io.Writer, name string, follow bool) error {
	// Opened first: when it is renamed now, it is still what comes last.
	current, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("opening a log: %w", err)
	}
	defer func() { current.Close() }()
	older, err := replaced(name, current)
	if err != nil {
		return err
	}
	for _, file := range older {
		if err := copyFile(out, file); err != nil && !errors.Is(err, fs.ErrNotExist) { // replaced meanwhile
			return fmt.Errorf("reading a log: %w", err)
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		next, err := successor(name, current) // looked for before the end is read, so that nothing is between
		if err != nil {
			return fmt.Errorf("looking for the log's next file: %w", err)
		}
		if _, err := io.Copy(out, current); err != nil {
			return fmt.Errorf("reading a log: %w", err)
		}
		if next != nil {
			current.Close()
			current = next
			continue
		}
		if !follow {
			return nil
		}
		if err := rewindEmptied(current); err != nil {
			return fmt.Errorf("reading a log: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil // Ctrl-C is how it is meant to end
		case <-tick.C:
		}
	}
}

// rewindEmptied goes back to the start of a file that is shorter than what was
// read of it.
func rewindEmptied(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	at, err := file.Seek(0, io.SeekCurrent)
	if err == nil && info.Size() < at {
		_, err = file.Seek(0, io.SeekStart)
	}
	return err
}

// replaced are the files that current has replaced, the oldest first.
func replaced(name string, current *os.File) ([]string, error) {
	files, err := filepath.Glob(name + ".*")
	if err != nil {
		return nil, fmt.Errorf("looking for older logs: %w", err)
	}
	open, err := current.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at a log: %w", err)
	}
	changed := map[string]time.Time{}
	files = slices.DeleteFunc(files, func(file string) bool {
		info, err := os.Stat(file)
		if err != nil || os.SameFile(info, open) {
			return true
		}
		changed[file] = info.ModTime()
		return false
	})
	slices.SortFunc(files, func(a, b string) int { return changed[a].Compare(changed[b]) })
	return files, nil
}

// successor opens the file that has taken current's name; nil when none has.
func successor(name string, current *os.File) (*os.File, error) {
	open, err := current.Stat()
	if err != nil {
		return nil, err
	}
	next, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) { // renamed, and not begun anew yet
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info, err := next.Stat(); err != nil || os.SameFile(info, open) {
		next.Close()
		return nil, err
	}
	return next, nil
}

func copyFile(out io.Writer, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(out, file)
	return err
}
