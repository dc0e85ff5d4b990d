// Command report reads what the end-to-end tests reported and the failures that
// are known, and prints how many specs pass and why each other does not:
//
//	report KNOWN.txt REPORT.json…
//
// A failure that is not known exits 1, and so does a known one that passes.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: report KNOWN.txt REPORT.json…")
		os.Exit(2)
	}
	ok, err := report(os.Args[1], os.Args[2:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// spec is what of Ginkgo's report of one is needed.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeText            string
	LeafNodeType            string
	State                   string
	Failure                 struct{ Message string }
	RunTime                 int64
}

func (s spec) name() string {
	return strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
}

type suite struct{ SpecReports []spec }

func readReports(files []string) ([]suite, error) {
	var all []suite
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var suites []suite
		if err := json.Unmarshal(text, &suites); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		all = append(all, suites...)
	}
	return all, nil
}

func report(knownFile string, reports []string, out io.Writer) (ok bool, err error) {
	suites, err := readReports(reports)
	if err != nil {
		return false, err
	}
	k, err := os.Open(knownFile)
	if err != nil {
		return false, err
	}
	defer k.Close()
	known, err := readKnown(k)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", knownFile, err)
	}
	passed := 0
	var failed, unknown, skipped, better []string
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			if s.LeafNodeType != "It" {
				if s.State != "passed" && s.State != "skipped" {
					unknown = append(unknown, s.LeafNodeType+": "+oneLine(s.Failure.Message))
				}
				continue
			}
			why, isKnown := known[s.name()]
			switch {
			case s.State == "skipped" && s.Failure.Message == "": // not asked for
			case s.State == "skipped":
				skipped = append(skipped, s.name()+"\n    "+oneLine(s.Failure.Message))
			case s.State == "passed" && isKnown:
				passed++
				better = append(better, s.name())
			case s.State == "passed":
				passed++
			case isKnown:
				failed = append(failed, s.name()+"\n    "+why)
			default:
				unknown = append(unknown, s.name()+"\n    "+oneLine(s.Failure.Message))
			}
		}
	}
	print := func(what string, list []string) {
		if len(list) == 0 {
			return
		}
		slices.Sort(list)
		fmt.Fprintf(out, "%s:\n", what)
		for _, l := range list {
			fmt.Fprintf(out, "  %s\n", l)
		}
	}
	print("Fail, and it is known why", failed)
	print("Skip themselves", skipped)
	print("Pass, though they are known to fail: remove them from "+knownFile, better)
	print("Fail, and it is not known why", unknown)
	fmt.Fprintf(out, "%d of %d specs pass; %d fail for known reasons, %d for unknown ones; %d skip themselves\n",
		passed, passed+len(failed)+len(unknown), len(failed), len(unknown), len(skipped))
	return len(unknown) == 0 && len(better) == 0 && passed > 0, nil
}

// oneLine is the beginning of a message.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 400 {
		text = text[:400] + "…"
	}
	return text
}

// readKnown reads names of specs, each followed by an indented line that says why.
func readKnown(in io.Reader) (map[string]string, error) {
	known := map[string]string{}
	name := ""
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
		case !strings.HasPrefix(line, " "):
			if name != "" && known[name] == "" {
				return nil, fmt.Errorf("no reason for %q", name)
			}
			name = line
		case name == "":
			return nil, fmt.Errorf("a reason without a spec: %q", line)
		default:
			known[name] = strings.TrimSpace(known[name] + " " + strings.TrimSpace(line))
		}
	}
	if name != "" && known[name] == "" {
		return nil, fmt.Errorf("no reason for %q", name)
	}
	return known, lines.Err()
}
