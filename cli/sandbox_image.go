package cli

import (
	"context"
	"errors"
	"os/exec"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// sandboxImage groups what there is to do with the images of the process node.
// biplane-sandbox does it, which knows what an image is.
func (a *app) sandboxImage() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "List, map and import the images that the sandbox's node runs",
		Long: `List, map and import the images that the sandbox's node runs.

The process node pulls nothing: an image is a name that stands for a folder on
this machine, in which the container finds its root. A name may be a pattern,
such as 'ghcr.io/flyteorg/flyte:*'; the longest that fits counts. A pod with an
image that has no entry waits with ErrImagePull, and its event says what to
type.`,
		Example: `  biplane sandbox image list
  biplane sandbox image map 'example.com/team/*' host
  biplane sandbox image import example.com/team/tool:1 tool.tar`,
	}
	cmd.AddCommand(a.imageList(), a.imageMap(), a.imageImport())
	return cmd
}

func (a *app) imageList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the images and what each stands for",
		Example: `  biplane sandbox image list

  # Names alone
  biplane sandbox image list -o json | jq -r '.images[].name'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.image(cmd.Context(), "list") },
	}
}

func (a *app) imageMap() *cobra.Command {
	return &cobra.Command{
		Use:   "map NAME DIR|host",
		Short: "Let an image's name stand for a folder, or for this machine",
		Long: `Let an image's name stand for a folder, which becomes the container's root, or
for this machine ('host'): its programs and libraries, read-only, with the
Python environment of the sandbox first on PATH. NAME may be a pattern.`,
		Example: `  # Every tag of Flyte's image runs on this machine's programs
  biplane sandbox image map 'ghcr.io/flyteorg/flyte:*' host

  # A root directory that you made
  biplane sandbox image map example.com/busybox:1 ./busybox-root`,
		Args: twoArguments("the image's name", "a folder, or 'host'"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.image(cmd.Context(), append([]string{"map"}, args...)...)
		},
	}
}

func (a *app) imageImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import NAME FILE.tar",
		Short: "Unpack an image from an archive: what 'docker save' writes, or an OCI layout",
		Example: `  docker save example.com/team/tool:1 -o tool.tar
  biplane sandbox image import example.com/team/tool:1 tool.tar`,
		Args: twoArguments("the image's name", "an archive"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.image(cmd.Context(), append([]string{"import"}, args...)...)
		},
	}
}

// twoArguments insists on both words.
func twoArguments(first, second string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 2 {
			return nil
		}
		return usererr.New(usererr.Invalid, "%q takes two words, %s and %s; got %d", cmd.CommandPath(), first, second, len(args)).
			WithHint("run '%s --help' for examples", cmd.CommandPath())
	}
}

// image runs biplane-sandbox image, which prints its own results and errors.
func (a *app) image(ctx context.Context, args ...string) error {
	folder, err := a.folder()
	if err != nil {
		return err
	}
	program, err := sandbox.FindProgram()
	if err != nil {
		return err
	}
	words := append([]string{"image", args[0], "--dir", string(folder), "--output", a.output.value, "--"}, args[1:]...)
	cmd := exec.CommandContext(ctx, program, words...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	var ended *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &ended) && ended.ExitCode() > 0:
		return toldAlready(ended.ExitCode())
	case err != nil:
		return usererr.New(usererr.Unavailable, "%s could not be run", program).WithHint("run 'make build' again").Because(err)
	}
	return nil
}
