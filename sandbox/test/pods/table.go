package pods

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Write writes results as Read reads them: a line with the case's name, and one
// for each observation, indented.
func Write(out io.Writer, node string, results []Result) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "# what was observed on %s\n", node)
	for _, result := range results {
		fmt.Fprintf(w, "a pod %s\n", result.Name)
		for _, o := range result.Observations {
			fmt.Fprintf(w, "  %s: %s\n", o.Key, o.Value)
		}
	}
	return w.Flush()
}

// Read reads what Write wrote.
func Read(in io.Reader) (node string, results []Result, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if after, ok := strings.CutPrefix(line, "# what was observed on "); ok {
			node = after
			continue
		}
		if name, ok := strings.CutPrefix(line, "a pod "); ok {
			results = append(results, Result{Name: name})
			continue
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "  "), ": ")
		if !ok {
			key, ok = strings.CutSuffix(strings.TrimPrefix(line, "  "), ":") // nothing was seen
		}
		if !ok || !strings.HasPrefix(line, "  ") || len(results) == 0 {
			return "", nil, fmt.Errorf("line %d is neither a case nor an observation: %q", n, line)
		}
		last := &results[len(results)-1]
		last.Observations = append(last.Observations, Observation{key, value})
	}
	return node, results, lines.Err()
}

// Difference is an observation that two nodes do not share. What one of them has
// not observed is "".
type Difference struct{ Case, Key, Kubelet, Process string }

// Row is an observation of both nodes.
type Row = Difference

// Rows puts the observations of two nodes beside each other, case by case.
func Rows(kubelet, process []Result) []Row {
	other := map[string]Result{}
	for _, r := range process {
		other[r.Name] = r
	}
	var rows []Row
	for _, k := range kubelet {
		p := other[k.Name]
		delete(other, k.Name)
		rows = append(rows, beside(k.Name, k.Observations, p.Observations)...)
	}
	for _, p := range process {
		if _, left := other[p.Name]; left {
			rows = append(rows, beside(p.Name, nil, p.Observations)...)
		}
	}
	return rows
}

func beside(name string, kubelet, process []Observation) []Row {
	values := map[string]string{}
	var keys []string
	for _, o := range process {
		values[o.Key] = o.Value
		keys = append(keys, o.Key)
	}
	var rows []Row
	for _, o := range kubelet {
		rows = append(rows, Row{name, o.Key, o.Value, values[o.Key]})
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == o.Key })
	}
	for _, key := range keys {
		rows = append(rows, Row{name, key, "", values[key]})
	}
	return rows
}

// Differences are the rows that differ.
func Differences(rows []Row) []Difference {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Kubelet == r.Process })
}

// Print prints the rows side by side, and marks those that differ.
func Print(out io.Writer, rows []Row) {
	const width = 70
	name := ""
	for _, r := range rows {
		if r.Case != name {
			name = r.Case
			fmt.Fprintf(out, "\na pod %s\n", name)
		}
		mark := " "
		if r.Kubelet != r.Process {
			mark = "≠"
		}
		left, right := wrap(r.Kubelet, width), wrap(r.Process, width)
		for i := range max(len(left), len(right)) {
			var l, p string
			if i < len(left) {
				l = left[i]
			}
			if i < len(right) {
				p = right[i]
			}
			key := r.Key
			if i > 0 {
				key, mark = "", " "
			}
			fmt.Fprintf(out, "%s %-18s | %-*s | %s\n", mark, key, width, l, p)
		}
	}
}

func wrap(s string, width int) []string {
	runes := []rune(s)
	lines := []string{""}
	for chunk := range slices.Chunk(runes, width) {
		if lines[0] == "" {
			lines = nil
		}
		lines = append(lines, string(chunk))
	}
	return lines
}

// listHeader heads the table in docs/sandbox-node-differences.md.
const listHeader = "| a pod … | what | kubelet | process | why |"

// Listed reads the differences that a document lists, each with its reason.
func Listed(in io.Reader) (map[Difference]string, error) {
	listed := map[Difference]string{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	inTable := false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == listHeader {
			inTable = true
			continue
		}
		if !inTable || strings.HasPrefix(line, "|---") {
			continue
		}
		if !strings.HasPrefix(line, "|") {
			inTable = false
			continue
		}
		cells := cells(line)
		if len(cells) != 5 {
			return nil, fmt.Errorf("%d cells where a difference has 5: %s", len(cells), line)
		}
		d := Difference{cells[0], cells[1], cells[2], cells[3]}
		if cells[4] == "" {
			return nil, fmt.Errorf("no reason for: %s", line)
		}
		listed[d] = cells[4]
	}
	return listed, lines.Err()
}

var (
	escape   = strings.NewReplacer(`|`, `&#124;`, "`", "&#96;")
	unescape = strings.NewReplacer(`&#124;`, `|`, "&#96;", "`")
)

func cells(line string) []string {
	var out []string
	for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		cell = strings.TrimSpace(cell)
		if len(cell) > 1 && cell[0] == '`' {
			cell = strings.Trim(cell, "`")
		}
		out = append(out, unescape.Replace(cell))
	}
	return out
}

// Line is the difference as a row of that table.
func (d Difference) Line(why string) string {
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + escape.Replace(s) + "`"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", d.Case, d.Key, code(d.Kubelet), code(d.Process), why)
}

func sorted[K cmp.Ordered](set map[K]bool) []K { return slices.Sorted(maps.Keys(set)) }
