package cli

import (
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
