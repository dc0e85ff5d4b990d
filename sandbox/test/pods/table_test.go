package pods_test

import (
	"bytes"
	"flag"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/sandbox/test/pods"
)

var (
	both    = flag.Bool("kubelet", false, "run the kubelet's node too, and compare it with what was recorded")
	record  = flag.Bool("record", false, "run the kubelet's node too, and write what it does into testdata")
	program = flag.String("program", "../../../bin/biplane-sandbox", "executable to bring sandboxes up with")
)

// Two tables of one case: c differs, only the kubelet has k, only the process
// node has p.
var (
	kubeletTable = []pods.Result{{Name: "ends", Observations: []pods.Observation{{"phase", "Failed"}, {"c", "exit | `7`"}, {"k", "x: y"}, {"empty", ""}}}}
	processTable = []pods.Result{{Name: "ends", Observations: []pods.Observation{{"phase", "Failed"}, {"c", "exit 8"}, {"p", "z"}, {"empty", ""}}}}
)

func TestTable(t *testing.T) {
	t.Run("reads what it wrote", func(t *testing.T) {
		var text bytes.Buffer
		if err := pods.Write(&text, "v1, runtime", kubeletTable); err != nil {
			t.Fatal(err)
		}
		node, results, err := pods.Read(&text)
		if err != nil {
			t.Fatal(err)
		}
		if node != "v1, runtime" || len(results) != 1 || !slices.Equal(results[0].Observations, kubeletTable[0].Observations) {
			t.Errorf("got %q %v, want %v", node, results, kubeletTable)
		}
	})
	t.Run("refuses a line that is none of its own", func(t *testing.T) {
		if _, _, err := pods.Read(strings.NewReader("  key: value\n")); err == nil {
			t.Error("got no error for an observation without a case")
		}
	})
	want := []pods.Difference{{"ends", "c", "exit | `7`", "exit 8"}, {"ends", "k", "x: y", ""}, {"ends", "p", "", "z"}}
	t.Run("finds what differs and what only one has", func(t *testing.T) {
		if got := pods.Differences(pods.Rows(kubeletTable, processTable)); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("finds a case that only one has", func(t *testing.T) {
		got := pods.Differences(pods.Rows(nil, processTable[:1]))
		if len(got) != 3 { // the empty one is as good as none
			t.Errorf("got %v, want the three observations of the process node", got)
		}
	})
	t.Run("reads from a document the differences that it writes", func(t *testing.T) {
		document := "# Words\n\n| a pod … | what | kubelet | process | why |\n|---|---|---|---|---|\n"
		for _, d := range want {
			document += d.Line("because") + "\n"
		}
		listed, err := pods.Listed(strings.NewReader(document + "\nmore words | with a bar\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range want {
			if listed[d] != "because" {
				t.Errorf("got %v, want %v in it", listed, d)
			}
		}
		if len(listed) != len(want) {
			t.Errorf("got %d listed, want %d", len(listed), len(want))
		}
	})
	t.Run("refuses a difference without a reason", func(t *testing.T) {
		if _, err := pods.Listed(strings.NewReader("| a pod … | what | kubelet | process | why |\n|---|---|---|---|---|\n" + want[0].Line("") + "\n")); err == nil {
			t.Error("got no error")
		}
	})
	t.Run("has cases with names of their own", func(t *testing.T) {
		seen := map[string]bool{}
		for _, c := range pods.Cases() {
			if seen[c.Name] {
				t.Errorf("two cases say %q", c.Name)
			}
			seen[c.Name] = true
		}
	})
}
