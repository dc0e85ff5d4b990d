package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/internal/usererr"
)

// Imported is told of an image that was imported into the sandbox in a folder,
// under its full name: nodes that have a store of their own take it up.
type Imported func(ctx context.Context, sandbox, name string, image v1.Image) error

// Run is the program `image`: Command, its errors printed as `biplane` prints
// its own, which executes it. It returns the exit status.
func Run(args []string, imported Imported) int {
	cmd := Command(imported)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	var people *usererr.Error
	if !errors.As(err, &people) {
		fmt.Fprintf(os.Stderr, "biplane: %v\n", err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "biplane: %v\n", people)
	if people.Hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", people.Hint)
	}
	return people.Kind.ExitStatus()
}

// Command is `biplane-sandbox image`, which `biplane sandbox image` executes.
func Command(imported Imported) *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:           "image list|map|import",
		Short:         "the images that the sandbox's node runs",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			return usererr.New(usererr.Invalid, "%q is none of list, map and import", strings.Join(args, " ")).WithHint("run 'biplane sandbox image --help'")
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			if dir == "" {
				return usererr.New(usererr.Invalid, "the program image was started without --dir").WithHint("see 'biplane sandbox image --help'")
			}
			switch output {
			case "table", "json", "yaml":
			default:
				return usererr.New(usererr.Invalid, "--output is %q", output).WithHint("give table, json or yaml")
			}
			dir, err = filepath.Abs(dir)
			return err
		},
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "the sandbox's folder")
	cmd.PersistentFlags().StringVar(&output, "output", "table", "table, json or yaml")
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "what each name stands for", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readFile(dir)
			if err != nil {
				return err
			}
			return printEntries(cmd.OutOrStdout(), output, dir, f.Images)
		}},
		&cobra.Command{Use: "map NAME DIR|host", Short: "let a name stand for a folder or for this machine", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
			e, err := mapName(dir, args[0], args[1])
			if err != nil {
				return err
			}
			return printEntries(cmd.OutOrStdout(), output, dir, []entry{e})
		}},
		&cobra.Command{Use: "import NAME FILE", Short: "unpack an image from an archive", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
			e, err := importArchive(cmd.Context(), dir, args[0], args[1], imported)
			if err != nil {
				return err
			}
			return printEntries(cmd.OutOrStdout(), output, dir, []entry{e})
		}},
	)
	return cmd
}

// Map lets a name or pattern stand for a folder in the sandbox of a folder, for
// who has an image of its own there.
func Map(dir, name, to string) error {
	_, err := mapName(dir, name, to)
	return err
}

// mapName lets a name or pattern stand for a folder, or for this machine.
func mapName(dir, name, to string) (entry, error) {
	full, err := parsePattern(name)
	if err != nil {
		return entry{}, err
	}
	e := entry{Name: name, Root: to, full: full}
	if to != host {
		if e.Root, err = filepath.Abs(to); err != nil {
			return entry{}, err
		}
		info, err := os.Stat(e.Root)
		if err != nil || !info.IsDir() {
			return entry{}, usererr.New(usererr.NotFound, "there is no folder %s", e.Root).
				WithHint("name a folder that holds a container's root, or 'host' for this machine's programs").Because(err)
		}
		if holds(e.Root, dir) {
			return entry{}, usererr.New(usererr.Refused, "the sandbox with its keys lies in %s, which containers must not see", e.Root).
				WithHint("name a folder that holds a container's root, or 'host' for this machine's programs")
		}
	}
	return e, change(dir, func(f *file) error {
		for _, old := range f.Images {
			if old.full == full && old.Root == host && to == host {
				e.Python = old.Python // mapped to the host already, as by default
			}
		}
		f.set(e)
		return nil
	})
}

// shown is an entry in JSON and YAML.
type shown struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // host, folder or imported
	Root   string `json:"root"` // "host", or the folder
	Python string `json:"python,omitempty"`
	ID     string `json:"id,omitempty"`
	Digest string `json:"digest,omitempty"`
}

func printEntries(out io.Writer, output, dir string, entries []entry) error {
	list := make([]shown, 0, len(entries))
	for _, e := range entries {
		s := shown{Name: e.Name, Kind: "folder", Root: e.Root, ID: e.Imported, Digest: e.Digest}
		switch {
		case e.Imported != "":
			s.Kind, s.Root = "imported", filepath.Join(importedFolder(dir, e.Imported), "root")
		case e.Root == host:
			s.Kind, s.Python = "host", e.Python
			if s.Python == "" {
				s.Python = pythonOptional
			}
		}
		list = append(list, s)
	}
	switch output {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(map[string]any{"images": list})
	case "yaml":
		text, err := yaml.Marshal(map[string]any{"images": list})
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKIND\tROOT\tPYTHON")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Kind, s.Root, s.Python)
	}
	return w.Flush()
}
