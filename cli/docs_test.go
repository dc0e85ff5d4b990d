package cli_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDocs types what pages say, in the order of the page, in a folder that
// looks like the checkout after `make build setup`. A command must end with 0,
// or with the status that a comment beside it names ("exit status 1"). What a
// page shows of its output must be there, line by line; "..." stands for any
// lines, "…" for any part of one. What a command says on stderr counts where it
// has no result: progress does not.
func TestDocs(t *testing.T) {
	t.Parallel()
	for _, page := range []struct {
		file   string
		double string // the command that starts the double, where the page takes one for granted
		skip   int    // blocks that come before
		after  string // what is left to do where the page stops half-way
	}{
		{file: "README.md", double: "biplane-awsdouble --env-file double.env", after: "bin/biplane sandbox down --purge"},
		{file: "docs/access.md"},
		{file: "docs/awsdouble.md", double: "biplane-awsdouble --env-file double.env", skip: 1},
		{file: "docs/sandbox.md", after: "bin/biplane sandbox down --purge"},
	} {
		t.Run("it does what "+page.file+" says", func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", page.file))
			if err != nil {
				t.Fatal(err)
			}
			commands := typed(string(text), page.skip)
			if len(commands) == 0 {
				t.Fatal("got no commands, want some: did the page change its form?")
			}
			dir := checkout(t)
			before := "make() { :; }\n"
			if page.double != "" {
				before += "PATH=$PWD/bin:$PWD/.cache/venv/bin:$PATH\n" + page.double + " >double.log 2>&1 &\n" +
					"until [ -s double.env ]; do kill -0 $! || exit; sleep 0.1; done\n. ./double.env\n"
			}
			typeThem(t, dir, before, commands, page.after)
			for i, c := range commands {
				c.check(t, dir, i)
			}
		})
	}
}

// typedCommand is one command of a page.
type typedCommand struct {
	text   string
	status int
	shows  []string // of its output; nil where the page shows none
}

var statusNamed = regexp.MustCompile(`#.*exit status ([0-9]+)`)

// typed finds the commands in a page's fenced blocks: every line of sh, and
// what follows "$ " in console.
func typed(page string, skip int) []typedCommand {
	var commands []typedCommand
	for _, block := range regexp.MustCompile("(?ms)^```(sh|console)\n(.*?)^```").FindAllStringSubmatch(page, -1) {
		if skip--; skip >= 0 {
			continue
		}
		continued := false
		for line := range strings.Lines(block[2]) {
			line = strings.TrimSuffix(line, "\n")
			command, starts := line, line != "" && line[0] != '#'
			if block[1] == "console" {
				command, starts = strings.CutPrefix(line, "$ ")
			}
			switch {
			case continued:
				commands[len(commands)-1].text += "\n" + line
			case starts:
				commands = append(commands, typedCommand{text: command})
			case block[1] == "console":
				last := &commands[len(commands)-1]
				last.shows = append(last.shows, line)
			}
			// A quote that is open goes on, as a backslash does.
			if len(commands) > 0 {
				last := &commands[len(commands)-1]
				continued = (starts || continued) && (strings.HasSuffix(line, `\`) || strings.Count(last.text, "'")%2 == 1)
				if found := statusNamed.FindStringSubmatch(last.text); found != nil {
					last.status, _ = strconv.Atoi(found[1])
				}
			}
		}
	}
	return commands
}

// checkout is a folder with this test binary as the programs of this module,
// and the sandbox's as `make build` made it.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := filepath.Abs("../.cache")
	if err != nil {
		t.Fatal(err)
	}
	// A copy, since Flyte bundles no files that lie behind a link.
	if err := os.CopyFS(filepath.Join(dir, "test/e2e/workflows"), os.DirFS("../test/e2e/workflows")); err != nil {
		t.Fatal(err)
	}
	sandbox := filepath.Join(made(t, "../bin", "biplane-sandbox"), "biplane-sandbox")
	made(t, "../.cache/bin", "kubectl")
	made(t, "../.cache/venv/bin", "aws")
	made(t, "../.cache/flyte-2.12.1/bin", "flyte")
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"bin/biplane": self, "bin/biplane-awsdouble": self, "bin/biplane-sandbox": sandbox, ".cache": cache} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// typeThem runs the commands in one shell, so that variables last. Each leaves
// what it printed and its exit status in files.
func typeThem(t *testing.T, dir, before string, commands []typedCommand, after string) {
	t.Helper()
	script := "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n" + before
	t.Cleanup(func() { // whatever became of the shell
		if after == "" {
			return
		}
		cmd := exec.Command("sh", "-c", after)
		cmd.Dir, cmd.Env = dir, shellEnv(dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", after, err, out)
		}
	})
	for i, c := range commands {
		script += fmt.Sprintf("{ %s\n} >out%d 2>err%d </dev/null\necho $? >status%d\n", c.text, i, i, i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = shellEnv(dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the shell: %v\n%s", err, out)
	}
}

// shellEnv is that of somebody whose home is dir.
func shellEnv(dir string) []string {
	return []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER="}
}

func (c typedCommand) check(t *testing.T, dir string, i int) {
	t.Helper()
	left := func(kind string) string { // empty where the shell did not come so far
		text, _ := os.ReadFile(filepath.Join(dir, kind+strconv.Itoa(i)))
		return string(text)
	}
	out := cmp.Or(left("out"), left("err"))
	if got := strings.TrimSpace(left("status")); got != strconv.Itoa(c.status) {
		t.Errorf("got exit status %q of\n%s\nwant %d; it said\n%s%s", got, c.text, c.status, left("out"), left("err"))
		return
	}
	if c.shows == nil {
		return
	}
	pattern := "^"
	for _, line := range c.shows {
		if line == "..." {
			pattern += `(?:.*\n)*`
			continue
		}
		pattern += strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`
	}
	if !regexp.MustCompile(pattern + "$").MatchString(out) {
		t.Errorf("got from\n%s\n\n%s\nwant what the page shows\n%s", c.text, out, strings.Join(c.shows, "\n"))
	}
}
