package cli

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// sandbox groups what runs a data plane's surroundings on this machine. The
// work is done by biplane-sandbox, which is started here and asked over a
// socket in the sandbox's folder.
func (a *app) sandbox() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run a real Kubernetes and an S3 that enforces roles on this machine",
		Long: `Run what an AWS account gives in production on this machine: a real Kubernetes
API, object storage that refuses what a role does not grant, web-identity
federation between them, and a node that runs pods. It needs no AWS account, no
root, no container engine, and downloads nothing.

There can be several: --name says which is meant. Each keeps all it has in one
folder of its own and listens on 127.0.0.1 alone.`,
		Example: `  biplane sandbox up
  eval "$(biplane sandbox env)"
  kubectl get pods --all-namespaces
  aws --profile executor s3 ls
  biplane sandbox down`,
	}
	flags := cmd.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&a.where.name, "name", sandbox.DefaultName, "`NAME` of the sandbox")
	flags.StringVar(&a.where.dir, "dir", "", "`DIR` in which sandboxes have their folders (default: biplane/sandbox in the XDG state folder)")
	a.where.dirGiven = func() bool { return flags.Changed("dir") }
	complete(cmd, "name", a.sandboxNames)
	cmd.AddCommand(
		a.sandboxUp(),     // start it, or join one that runs
		a.sandboxStatus(), // what runs, where, and how it is
		a.sandboxEnv(),    // so that kubectl and aws speak to it
		a.sandboxLogs(),   // what a component wrote
		a.sandboxStop(),   // take one component away, to see what happens
		a.sandboxStart(),  // and give it back
		a.sandboxImage(),  // what pods may run
		a.sandboxDown(),   // stop all of it
	)
	a.hintHere(cmd)
	return cmd
}

// hintHere makes the commands in hints of a command and those below it such that
// are about the sandbox that was meant: what gave the hint does not know by which
// flags it was chosen, and typed as it stands, it would be about another one.
func (a *app) hintHere(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		a.hintHere(sub)
	}
	run := cmd.RunE
	if run == nil {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		var said *usererr.Error
		if errors.As(err, &said) {
			said.Hint = hintedCommand.ReplaceAllStringFunc(said.Hint, func(quoted string) string {
				words := hintedCommand.FindStringSubmatch(quoted)[1]
				if strings.Contains(words, "--name ") || strings.Contains(words, "--dir ") || strings.Contains(words, "--help") {
					return quoted
				}
				return "'" + a.command(words) + "'"
			})
		}
		return err
	}
}

var hintedCommand = regexp.MustCompile(`'biplane sandbox ([^']*)'`)

// sandboxFlags say which sandbox is meant.
type sandboxFlags struct {
	name     string
	dir      string
	dirGiven func() bool // as "", too, which is a mistake and not the default
}

// folder is that of the sandbox that is meant. It may not exist.
func (a *app) folder() (sandbox.Folder, error) {
	parent, err := a.sandboxParent()
	if err != nil {
		return "", err
	}
	return sandbox.FolderOf(parent, a.where.name)
}

func (a *app) sandboxParent() (string, error) {
	if a.where.dirGiven() {
		return a.where.dir, nil
	}
	return sandbox.DefaultDir(os.Getenv)
}

// command is a command about the same sandbox, as it is typed: with the flags
// that choose it, where they are not the default.
func (a *app) command(words string) string {
	words = "biplane sandbox " + words
	if a.where.name != sandbox.DefaultName {
		words += " --name " + shellQuoted(a.where.name)
	}
	if a.where.dirGiven() {
		words += " --dir " + shellQuoted(a.where.dir)
	}
	return words
}

// running is the status of a sandbox that must be up.
func (a *app) running(ctx context.Context, folder sandbox.Folder) (sandbox.Status, error) {
	status, err := sandbox.Read(ctx, folder)
	if err == nil && (status.State == sandbox.Absent || status.State == sandbox.Stopped) {
		return status, a.notUp(status.State)
	}
	return status, err
}

func (a *app) notUp(state sandbox.State) error {
	return usererr.New(usererr.NotFound, "sandbox %s is %s", a.where.name, state).WithHint("start it with '%s'", a.command("up"))
}

// oneComponent insists on one word; whether it is a component shows the sandbox.
func oneComponent(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return usererr.New(usererr.Invalid, "%q takes the name of one component, got %d", cmd.CommandPath(), len(args)).
		WithHint("'biplane sandbox status' lists them")
}

// unknownComponent names the word back, and what there is.
func unknownComponent(word string, known []string) error {
	err := usererr.New(usererr.Invalid, "there is no component %q", word)
	if near := meant(word, known); near != "" {
		return err.WithHint("did you mean %q? There are %s", near, and(known))
	}
	return err.WithHint("there are %s", and(known))
}

// and is "a, b and c".
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// component finds a component of a sandbox that is up.
func component(status sandbox.Status, name string) (sandbox.Component, error) {
	var known []string
	for _, c := range status.Components {
		if c.Name == name {
			return c, nil
		}
		known = append(known, c.Name)
	}
	return sandbox.Component{}, unknownComponent(name, known)
}

// completion of words asks the sandbox, which may not be there or not answer.
const completionTime = time.Second

// completeComponents offers the components for which offer says so.
func (a *app) completeComponents(offer func(sandbox.Component) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		folder, err := a.folder()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		status, err := sandbox.Read(ctx, folder)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, c := range status.Components {
			if offer(c) {
				names = append(names, cobra.CompletionWithDesc(c.Name, string(c.State)))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// sandboxNames are those that have a folder.
func (a *app) sandboxNames() []string {
	parent, err := a.sandboxParent()
	if err != nil {
		return nil // nothing to offer, which is no reason to fail
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		folder, err := sandbox.FolderOf(parent, entry.Name())
		if err != nil || !entry.IsDir() {
			continue
		}
		if _, err := os.Lstat(folder.LockFile()); err == nil {
			names = append(names, entry.Name())
		}
	}
	return names
}

// shellQuoted is a word as a shell reads it.
func shellQuoted(word string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-./:=@%+,", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
