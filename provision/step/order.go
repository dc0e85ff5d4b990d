package step

import (
	"fmt"
	"strings"
)

// inOrder returns the steps so that each comes after those it needs; steps
// that don't need each other stay as they were listed. A need that no step
// has the name of, two steps of one name, and needs in a circle are errors of
// the program, found at its first run.
func inOrder(steps []Step) ([]Step, error) {
	byName := make(map[string]Step, len(steps))
	for _, s := range steps {
		if _, twice := byName[s.Name()]; twice {
			return nil, fmt.Errorf("two steps are named %q", s.Name())
		}
		byName[s.Name()] = s
	}

	out := make([]Step, 0, len(steps))
	const onPath, placed = 1, 2
	mark := map[string]int{}
	var path []string
	var place func(s Step) error
	place = func(s Step) error {
		switch mark[s.Name()] {
		case placed:
			return nil
		case onPath:
			return fmt.Errorf("steps need each other in a circle: %s", strings.Join(append(path, s.Name()), " → "))
		}
		mark[s.Name()] = onPath
		path = append(path, s.Name())
		for _, need := range s.Needs() {
			needed, ok := byName[need]
			if !ok {
				return fmt.Errorf("step %q needs %q, which is not a step", s.Name(), need)
			}
			if err := place(needed); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		mark[s.Name()] = placed
		out = append(out, s)
		return nil
	}
	for _, s := range steps {
		if err := place(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// needsOf returns the needs of every step as indices into steps.
func needsOf(steps []Step) [][]int {
	index := make(map[string]int, len(steps))
	for i, s := range steps {
		index[s.Name()] = i
	}
	needs := make([][]int, len(steps))
	for i, s := range steps {
		for _, need := range s.Needs() {
			needs[i] = append(needs[i], index[need])
		}
	}
	return needs
}

// inverted turns "is made after" into "is removed before".
func inverted(needs [][]int) [][]int {
	out := make([][]int, len(needs))
	for i, of := range needs {
		for _, need := range of {
			out[need] = append(out[need], i)
		}
	}
	return out
}
