package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/iampolicy"
)

func (a *app) accessPolicy() *cobra.Command {
	var set setFlags
	var dir string
	cmd := &cobra.Command{
		Use:   "policy --account ID --region REGION",
		Short: "Print the documents that the vendor's roles need, with their sizes",
		Long: `Print the documents that the vendor's roles need in one account and region:
trust, permission policies and boundaries, each with its size as IAM counts it.
Nothing is asked of AWS and nothing is changed.

Until an external ID is given, the trust shows EXTERNAL-ID in its place. What
--policy compat and seed do not allow although a step needs it is listed on stderr.`,
		Example: `  # Read everything before anything is granted
  biplane access policy --account 123456789012 --region eu-central-1

  # Write one file for each document, and look for what a reviewer would object to
  biplane access policy --account 123456789012 --region eu-central-1 --out documents
  biplane access lint documents/*/*.json

  # The size of every policy
  biplane access policy --account 123456789012 --region eu-central-1 -o json |
    jq -r '.roles[].policies[] | "\(.size) \(.name)"'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := set.options(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			documents, err := access.Generate(options)
			if err != nil {
				return err
			}
			if err := a.warnMissing(options); err != nil {
				return err
			}
			var files map[string][]byte
			if dir != "" {
				if files, err = writeDocuments(dir, documents); err != nil {
					return err
				}
				a.warnOthers(dir, files)
			}
			return a.print(documents, func(w io.Writer) {
				sizeTable(w, documents)
				if dir == "" {
					documentTexts(w, documents)
				}
			})
		},
	}
	set.addAccount(cmd)
	set.add(cmd)
	set.addExternalID(cmd, "what the vendor must say to assume a role, 8 to 24 characters")
	cmd.Flags().StringVar(&dir, "out", "", "write one file for each document into `DIR` (files of the same name are replaced)")
	return cmd
}

// document is one document of a set, wherever it stands.
type document struct {
	role  string // empty for the set's boundary
	name  string
	kind  string // trust, managed, inline, boundary
	size  int
	limit int
	text  json.RawMessage
}

// file is where --out puts it.
func (d document) file() string { return filepath.Join(d.role, d.name+".json") }

// documentsOf lists the documents in the order in which they are read: who may
// come in, then what he may do.
func documentsOf(set *access.Set) []document {
	var all []document
	if b := set.Boundary; b != nil {
		all = append(all, document{name: b.Name, kind: "boundary", size: b.Size, limit: iampolicy.ManagedLimit, text: b.Document})
	}
	for _, role := range set.Roles {
		all = append(all, document{role: role.Name, name: "trust", kind: "trust", size: role.Trust.Size, limit: iampolicy.TrustLimit, text: role.Trust.Document})
		for _, policy := range role.Policies {
			limit := iampolicy.ManagedLimit
			if policy.Kind == "inline" {
				limit = iampolicy.InlineLimit
			}
			all = append(all, document{role: role.Name, name: policy.Name, kind: policy.Kind, size: policy.Size, limit: limit, text: policy.Document})
		}
	}
	return all
}

// sizeTable has a line for each document, and one for all inline policies of a
// role that has several, since they share a limit.
func sizeTable(w io.Writer, set *access.Set) {
	fmt.Fprintf(w, "ROLE\tDOCUMENT\tKIND\tSIZE\tLIMIT\tUSED\n")
	inline := map[string]document{}
	last := map[string]int{}
	all := documentsOf(set)
	for i, d := range all {
		if d.kind == "inline" {
			sum := document{role: d.role, name: "(all inline)", kind: d.kind, limit: d.limit, size: inline[d.role].size + d.size}
			inline[d.role] = sum
			last[d.role] = i
		}
	}
	for i, d := range all {
		sizeLine(w, d)
		if sum := inline[d.role]; d.kind == "inline" && last[d.role] == i && sum.size > d.size {
			sizeLine(w, sum)
		}
	}
}

func sizeLine(w io.Writer, d document) {
	role, note := d.role, ""
	if role == "" {
		role = "(made later)"
	}
	if d.size > d.limit {
		note = "  too large for IAM"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%.1f%%%s\n", role, d.name, d.kind, d.size, d.limit, 100*float64(d.size)/float64(d.limit), note)
}

// documentTexts prints every document under a heading that says what it is for.
func documentTexts(w io.Writer, set *access.Set) {
	purposes := map[string]string{"": "what every role that the vendor makes can do at most"}
	for _, role := range set.Roles {
		purposes[role.Name] = fmt.Sprintf("role %s%s: %s", role.Path, role.Name, role.Purpose)
	}
	heading := "none yet"
	for _, d := range documentsOf(set) {
		if d.role != heading {
			heading = d.role
			fmt.Fprintf(w, "\n# %s\n", purposes[d.role])
		}
		fmt.Fprintf(w, "\n## %s (%s)\n%s", d.name, d.kind, indented(d.text))
	}
}

// indented leaves every character of the text but white space as it is.
func indented(text json.RawMessage) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return append(bytes.Clone(text), '\n')
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// writeDocuments writes one file for each document: whole or not at all, and
// for everybody to read, since nothing in them is secret.
func writeDocuments(dir string, set *access.Set) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, d := range documentsOf(set) {
		files[d.file()] = indented(d.text)
	}
	for name, text := range files {
		if err := writeFile(filepath.Join(dir, name), text); err != nil {
			return nil, cannotWrite(dir, err)
		}
	}
	return files, nil
}

// writeFile replaces a file by renaming a finished one over it.
func writeFile(name string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	unfinished, err := os.CreateTemp(filepath.Dir(name), ".unfinished-*")
	if err != nil {
		return err
	}
	defer os.Remove(unfinished.Name()) // gone already when all went well
	_, err = unfinished.Write(text)
	if err := errors.Join(err, unfinished.Chmod(0o644), unfinished.Close()); err != nil {
		return err
	}
	return os.Rename(unfinished.Name(), name)
}

func cannotWrite(dir string, err error) error {
	reason := err
	var path *fs.PathError
	if errors.As(err, &path) {
		reason = path.Err
	}
	return usererr.New(usererr.Invalid, "cannot write into folder %q: %v", dir, reason).
		WithHint("give --out a folder that you can write to").Because(err)
}

// warnMissing lists, by step, the calls that the published grants do not allow
// although the step makes them. Strict leaves out what it does on purpose.
func (a *app) warnMissing(options access.Options) error {
	if options.Profile == access.Strict {
		return nil
	}
	missing, err := access.Missing(options)
	if err != nil || len(missing) == 0 {
		return err
	}
	fmt.Fprintf(a.Err, "note: --policy %s does not allow %s that a step makes:\n", options.Profile, count(len(missing), "call"))
	w := tabwriter.NewWriter(a.Err, 0, 8, 2, ' ', 0)
	for _, m := range missing {
		_, step, _ := strings.Cut(m.Phase, " ") // without the letter that orders it
		fmt.Fprintf(w, "  %s\t%s\t%s\n", step, m.Call, m.Purpose)
	}
	return w.Flush()
}

// warnOthers names documents in dir that this run did not write: an earlier
// run's, with other roles, which somebody might take for a part of this set.
func (a *app) warnOthers(dir string, written map[string][]byte) {
	var others []string
	for _, pattern := range []string{"*.json", "*/*.json"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			continue // a folder whose name is a bad pattern: nothing is lost but the warning
		}
		for _, name := range found {
			if relative, err := filepath.Rel(dir, name); err == nil && written[relative] == nil {
				others = append(others, relative)
			}
		}
	}
	if slices.Sort(others); len(others) > 0 {
		fmt.Fprintf(a.Err, "note: %s also holds documents that are not part of this set: %s\n", dir, strings.Join(others, ", "))
	}
}
