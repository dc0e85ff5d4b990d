package image

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"biplane.dev/biplane/internal/usererr"
)

// Python says where the environment of the `host` images with Python comes
// from: the first that is set, else that of `flyte` on PATH.
type Python struct {
	Flag   string // --python
	Active string // VIRTUAL_ENV at up
}

// errNoPython is the cause when none of the three is there.
var errNoPython = errors.New("no Python environment")

// find returns the environment's folder. It is looked for each time, so that an
// environment that was made after `up` is found.
func (p Python) find() (string, error) {
	for _, named := range []struct{ dir, by string }{{p.Flag, "named by --python"}, {p.Active, "that was active at 'biplane sandbox up'"}} {
		if named.dir == "" {
			continue
		}
		if !isEnvironment(named.dir) {
			return "", usererr.New(usererr.NotFound, "the Python environment %s, %s, has no bin/python", named.dir, named.by).
				WithHint("make it with 'python3 -m venv %s', or run 'biplane sandbox up --python DIR' with another one", named.dir)
		}
		return filepath.Abs(named.dir)
	}
	if flyte, err := exec.LookPath("flyte"); err == nil {
		if dir := environmentOf(flyte); dir != "" {
			return dir, nil
		}
	}
	return "", usererr.New(usererr.NotFound, "there is no Python environment for this image: none was given, none was active, and no 'flyte' is on PATH").
		WithHint("run 'biplane sandbox up --python DIR' with an environment that has flyte installed ('python3 -m venv DIR && DIR/bin/pip install flyte')").
		Because(errNoPython)
}

func isEnvironment(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, "bin/python"))
	return err == nil && !info.IsDir()
}

// environmentOf returns the environment that a Python program was installed in:
// the one that it lies in, by way of links, or that its first line names.
func environmentOf(program string) string {
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return ""
	}
	if real, err = filepath.Abs(real); err != nil {
		return ""
	}
	if dir := filepath.Dir(filepath.Dir(real)); isEnvironment(dir) {
		return dir
	}
	f, err := os.Open(real)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 256).ReadString('\n')
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if err != nil || len(words) == 0 || !strings.HasPrefix(line, "#!") {
		return ""
	}
	if dir := filepath.Dir(filepath.Dir(words[0])); isEnvironment(dir) {
		return dir
	}
	return ""
}
