package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what the container uses. ErrNotRunning when it is gone.
func (c *Container) Usage() (Usage, error) {
	var usage Usage
	pids, err := c.processes()
	if err != nil {
		return usage, err
	}
	for _, pid := range pids {
		usage.CPU += c.cpu(pid)
		rollup := c.rollup(pid)
		usage.Memory += rollup["Pss"]
	}
	return usage, nil
}

// processes lists those of the container, by their ids inside: what its own
// /proc holds.
func (c *Container) processes() ([]string, error) {
	proc, err := c.openProc()
	if err != nil {
		return nil, err
	}
	c.procMu.Lock()
	defer c.procMu.Unlock()
	if _, err := proc.Seek(0, io.SeekStart); err != nil {
		return nil, ErrNotRunning // closed with the container
	}
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, ErrNotRunning
	}
	pids := names[:0]
	for _, name := range names {
		if name[0] >= '1' && name[0] <= '9' {
			pids = append(pids, name)
		}
	}
	if len(pids) == 0 {
		return nil, ErrNotRunning
	}
	return pids, nil
}

// openProc opens /proc of the container. One with a limit has handed it out at
// its start, before the program could change its root.
func (c *Container) openProc() (*os.File, error) {
	c.procMu.Lock()
	defer c.procMu.Unlock()
	if c.proc != nil {
		return c.proc, nil
	}
	proc, err := os.Open(fmt.Sprintf("/proc/%d/root/proc", c.process.pid))
	if err != nil {
		return nil, ErrNotRunning
	}
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(proc.Fd()), &stat); err != nil || stat.Type != unix.PROC_SUPER_MAGIC {
		proc.Close()
		return nil, errors.New("the container's program has changed its root")
	}
	select {
	case <-c.done:
		proc.Close()
		return nil, ErrNotRunning
	default:
	}
	c.proc = proc
	return proc, nil
}

// read reads a small file of the container's /proc; nothing when the process
// has gone.
func (c *Container) read(name string) []byte {
	c.procMu.Lock()
	defer c.procMu.Unlock()
	fd, err := unix.Openat(int(c.proc.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	content := make([]byte, 4096)
	n, err := unix.Read(fd, content)
	if err != nil {
		return nil
	}
	return content[:n]
}

// ticks is the unit of CPU times in /proc, the same on every architecture of
// Linux that Go knows.
const ticks = time.Second / 100

// cpu is what a process has used, and those of its children that have ended.
func (c *Container) cpu(pid string) time.Duration {
	stat := c.read(pid + "/stat")
	// The name, in brackets, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return 0
	}
	var sum time.Duration
	for _, f := range fields[11:15] { // utime stime cutime cstime
		n, _ := strconv.ParseInt(f, 10, 64)
		sum += time.Duration(n) * ticks
	}
	return sum
}

// rollup is the memory of a process by kind, in bytes, shared pages in
// proportion.
func (c *Container) rollup(pid string) map[string]int64 {
	sizes := map[string]int64{}
	for line := range strings.Lines(string(c.read(pid + "/smaps_rollup"))) {
		name, value, ok := strings.Cut(line, ":")
		if f := strings.Fields(value); ok && len(f) == 2 && f[1] == "kB" {
			n, _ := strconv.ParseInt(f[0], 10, 64)
			sizes[name] = n << 10
		}
	}
	return sizes
}

// resident is the memory of all processes, shared pages counted for each: cheap
// to ask, and never too little.
func (c *Container) resident() (int64, error) {
	pids, err := c.processes()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		if f := strings.Fields(string(c.read(pid + "/statm"))); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			sum += pages * int64(os.Getpagesize())
		}
	}
	return sum, nil
}

// charged is what the kernel would end a container for: what cannot be read
// again from a file.
func (c *Container) charged() (int64, error) {
	pids, err := c.processes()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		r := c.rollup(pid)
		sum += r["Pss_Anon"] + r["Pss_Shmem"]
	}
	return sum, nil
}

const (
	// fillRate is faster than a program fills memory, bytes a second: the next
	// look is when it could have reached its limit.
	fillRate          = 4 << 30
	shortest, longest = 5 * time.Millisecond, 500 * time.Millisecond
)

// watchMemory kills the container when it is seen above its limit.
func (c *Container) watchMemory() {
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-look.C:
		}
		used, err := c.resident()
		if err == nil && used > c.spec.Memory {
			used, err = c.charged()
		}
		if err != nil {
			return // it has ended
		}
		if used > c.spec.Memory {
			c.oom.Store(true)
			c.Kill()
			return
		}
		room := time.Duration(float64(c.spec.Memory-used) / fillRate * float64(time.Second))
		look.Reset(min(max(room, shortest), longest))
	}
}
