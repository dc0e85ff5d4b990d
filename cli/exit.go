package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/internal/usererr"
)

// exit ends a command line: it returns the exit status, and says why.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		// Whatever failed, failed because we were told to stop.
		return a.say(usererr.New(usererr.Interrupted, "interrupted; run the same command again to finish").Because(err))
	}
	var told toldAlready
	if errors.As(err, &told) {
		return int(told)
	}
	return a.say(err)
}

// say prints err for the person, logs its chain, and returns the exit status
// that it asks for.
func (a *app) say(err error) int {
	a.log.Debug("failed", "error", usererr.Chain(err))
	err = awsSentence(err)
	status, hint := 2, ""
	var said *usererr.Error
	if errors.As(err, &said) {
		status, hint = said.Kind.ExitStatus(), said.Hint
	}
	fmt.Fprintf(a.Err, "biplane: %s\n", oneLine(err.Error()))
	if hint != "" {
		fmt.Fprintf(a.Err, "hint: %s\n", oneLine(hint))
	}
	return status
}

// toldAlready ends a command with an exit status and no sentence.
type toldAlready int

const (
	errFound    = toldAlready(1) // what was found is on stdout
	errCouldNot = toldAlready(2) // say has said why
)

func (e toldAlready) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// oneLine keeps a hostile file name or a library's long error from drawing on
// the terminal or taking more than its line.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}

// flagError puts pflag's errors into our words.
func flagError(cmd *cobra.Command, err error) error {
	help := fmt.Sprintf("run '%s --help' for its flags", cmd.CommandPath())

	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			return usererr.New(usererr.Invalid, "unknown flag -%s for %q", name, cmd.CommandPath()).WithHint("%s", help).Because(err)
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if sub, _, err := cmd.Find([]string{name}); err == nil && sub != cmd {
			help = fmt.Sprintf("did you mean '%s'?", sub.CommandPath())
		} else if near := meant(name, names); near != "" {
			help = fmt.Sprintf("did you mean '--%s'?", near)
		}
		return usererr.New(usererr.Invalid, "unknown flag --%s for %q", name, cmd.CommandPath()).WithHint("%s", help).Because(err)
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		return usererr.New(usererr.Invalid, "--%s needs a value", missing.GetFlag().Name).WithHint("%s", help).Because(err)
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		flag := invalid.GetFlag()
		sentence := usererr.New(usererr.Invalid, "--%s cannot be %q", flag.Name, invalid.GetValue()).Because(err)
		var choices *notAllowed
		if errors.As(err, &choices) {
			if near := meant(choices.word, choices.allowed); near != "" {
				return sentence.WithHint("did you mean %q? It takes %s", near, list(choices.allowed))
			}
			return sentence.WithHint("it takes %s", list(choices.allowed))
		}
		var number *strconv.NumError
		if errors.As(err, &number) {
			return sentence.WithHint("it takes a whole number")
		}
		return usererr.New(usererr.Invalid, "--%s cannot be %q: %v", flag.Name, invalid.GetValue(), invalid.Unwrap()).WithHint("%s", help).Because(err)
	}
	return usererr.New(usererr.Invalid, "%v", err).WithHint("%s", help).Because(err)
}

// list is "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// meant returns the word of words that was probably meant: one that is spelt nearly
// so, or that begins so. It is empty where there is none.
func meant(word string, words []string) string {
	words = slices.Sorted(slices.Values(words))
	if near := nearest.Within(word, words, min(2, len(word)/2)); near != "" || word == "" {
		return near
	}
	begins := func(w string) bool { return strings.HasPrefix(strings.ToLower(w), strings.ToLower(word)) }
	if i := slices.IndexFunc(words, begins); i >= 0 {
		return words[i]
	}
	return ""
}

// noArguments refuses words where a command takes flags only.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usererr.New(usererr.Invalid, "%q takes no argument, got %q", cmd.CommandPath(), args[0]).
		WithHint("run '%s --help' for its flags", cmd.CommandPath())
}

// required refuses a command line that lacks a flag.
func required(cmd *cobra.Command, flag, value, example string) error {
	if value != "" {
		return nil
	}
	return usererr.New(usererr.Invalid, "%q needs --%s", cmd.CommandPath(), flag).
		WithHint("give it as --%s %s", flag, example)
}
