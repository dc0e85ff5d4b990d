package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
)

func (a *app) completion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that lets your shell complete biplane's commands and flags",
		Example: `  # For this shell only
  source <(biplane completion bash)

  # For every new shell
  biplane completion bash > ~/.local/share/bash-completion/completions/biplane
  biplane completion zsh > "${fpath[1]}/_biplane"
  biplane completion fish > ~/.config/fish/completions/biplane.fish`,
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usererr.New(usererr.Invalid, "%q needs the name of one shell", cmd.CommandPath()).WithHint("it knows %s", list(shells))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.Out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.Out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.Out, true)
			}
			return usererr.New(usererr.Invalid, "no completion for %q", args[0]).WithHint("it knows %s", list(shells))
		},
	}
}

var profileHeading = regexp.MustCompile(`(?m)^\[(?:profile\s+)?"?([^\s"\]]+)"?\s*\]`)

// profileNames are the headings of the AWS configuration files. The SDK reads
// one profile by its name and lists none.
func profileNames() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // then the variables may still name the files
	}
	var names []string
	for variable, standard := range map[string]string{"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"} {
		file := os.Getenv(variable)
		if file == "" {
			file = filepath.Join(home, ".aws", standard)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue // nothing to offer, which is no reason to fail
		}
		for _, heading := range profileHeading.FindAllSubmatch(text, -1) {
			names = append(names, string(heading[1]))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
