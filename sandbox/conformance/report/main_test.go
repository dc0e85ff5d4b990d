package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const known = "# words\n[sig] a b known\n  because of\n  two lines\n"

func spoken(state, leaf, message string) string {
	return `{"ContainerHierarchyTexts":["[sig] a","b"],"LeafNodeText":"` + leaf + `","LeafNodeType":"It","State":"` + state + `","Failure":{"Message":"` + message + `"}}`
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		does  string
		specs []string
		ok    bool
		want  []string
	}{
		{"counts what passes", []string{spoken("passed", "one", ""), spoken("passed", "two", ""), spoken("skipped", "other", "")}, true, []string{"2 of 2 specs pass; 0 fail for known reasons, 0 for unknown ones; 0 skip themselves"}},
		{"says why a known failure fails", []string{spoken("passed", "one", ""), spoken("failed", "known", "x")}, true, []string{"[sig] a b known\n    because of two lines", "1 of 2 specs pass; 1 fail for known"}},
		{"fails for an unknown one", []string{spoken("passed", "one", ""), spoken("panicked", "new", "what\\n happened")}, false, []string{"[sig] a b new\n    what happened", "1 for unknown"}},
		{"fails for a known one that passes", []string{spoken("passed", "known", "")}, false, []string{"remove them from"}},
		{"says what skips itself", []string{spoken("passed", "one", ""), spoken("skipped", "two", "no such thing here")}, true, []string{"no such thing here", "1 skip themselves"}},
		{"fails when nothing was run", nil, false, []string{"0 of 0"}},
		{"fails when the suite itself does", []string{spoken("passed", "one", ""), `{"LeafNodeType":"SynchronizedBeforeSuite","State":"failed","Failure":{"Message":"no nodes"}}`}, false, []string{"SynchronizedBeforeSuite: no nodes"}},
	} {
		t.Run(c.does, func(t *testing.T) {
			dir := t.TempDir()
			file, list := filepath.Join(dir, "report.json"), filepath.Join(dir, "known.txt")
			write := func(file, text string) {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(file, `[{"SpecReports":[`+strings.Join(c.specs, ",")+`]}]`)
			write(list, known)
			var out bytes.Buffer
			ok, err := report(list, []string{file}, &out)
			if err != nil {
				t.Fatal(err)
			}
			if ok != c.ok {
				t.Errorf("got %v, want %v", ok, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got\n%s\nwant %q in it", out.String(), want)
				}
			}
		})
	}
	t.Run("refuses a known failure without a reason", func(t *testing.T) {
		if _, err := readKnown(strings.NewReader("one\ntwo\n  why\n")); err == nil {
			t.Error("got no error")
		}
	})
}
