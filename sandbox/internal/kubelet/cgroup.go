package kubelet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroup is the node's group, below which the kubelet makes those of its pods:
// one for each sandbox and node of this machine.
func cgroup(o Options) string {
	sum := sha256.Sum256([]byte(o.Dir))
	return fmt.Sprintf("biplane-%s-%x", o.Name, sum[:4])
}

// cgroupFolders are the node's group in each hierarchy: one with cgroup v2, one
// for each controller with v1.
func cgroupFolders(o Options) ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{filepath.Join(cgroupRoot, cgroup(o))}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("listing the cgroup hierarchies: %w", err)
	}
	var folders []string
	for _, e := range entries {
		if e.IsDir() { // cpu and cpuacct may be links to cpu,cpuacct
			folders = append(folders, filepath.Join(cgroupRoot, e.Name(), cgroup(o)))
		}
	}
	return folders, nil
}

func makeCgroups(o Options) error {
	folders, err := cgroupFolders(o)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making the node's cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroups removes the node's groups, trying until deadline: the kernel
// ends processes a moment after their namespace.
func removeCgroups(o Options, deadline time.Time) error {
	folders, err := cgroupFolders(o)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		for {
			err := removeTree(folder)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("removing the node's cgroup: %w", err)
			}
			time.Sleep(20 * time.Millisecond) // the kernel tells nobody
		}
	}
	return nil
}

// removeTree removes folders alone, deepest first; the files in a cgroup are not
// for removing.
func removeTree(root string) error {
	var folders []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(folders, func(a, b string) int { return strings.Compare(b, a) })
	for _, folder := range folders {
		if err := syscall.Rmdir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "rmdir", Path: folder, Err: err}
		}
	}
	return nil
}
