package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// say is what an error comes down to, without paths and addresses.
func say(err error) string {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

func echo(args []string) error {
	fmt.Println(strings.Join(args, " "))
	return nil
}

func echoError(args []string) error {
	fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	return nil
}

func printRaw(args []string) error {
	fmt.Print(strings.Join(args, " "))
	return nil
}

func flood(args []string) error {
	n, length := number(args[0]), number(args[1])
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	line := strings.Repeat("x", length)
	for i := range n {
		fmt.Fprintf(out, "%d %s\n", i, line)
	}
	return out.Flush()
}

func tick(args []string) error {
	every, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		fmt.Println("tick", i)
		time.Sleep(every)
	}
}

func countLines([]string) error {
	n := 0
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("read", in.Text())
		n++
	}
	fmt.Println("lines", n)
	return in.Err()
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe: %q is no number\n", s)
		os.Exit(2)
	}
	return n
}

func signalNamed(name string) syscall.Signal {
	n := unix.SignalNum("SIG" + name)
	if n == 0 {
		fmt.Fprintf(os.Stderr, "probe: %q is no signal\n", name)
		os.Exit(2)
	}
	return n
}

func exit(args []string) error {
	os.Exit(number(args[0]))
	return nil
}

// crash gives SIGSEGV back to the kernel, which Go handles, and then faults.
func crash([]string) error {
	if err := untrap([]string{"SEGV"}); err != nil {
		return err
	}
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	page[0] = 1
	return nil
}

func trap(args []string) error {
	got := make(chan os.Signal, 1)
	signal.Notify(got, signalNamed(args[0]))
	go func() {
		<-got
		fmt.Println("got", args[0])
		for _, file := range args[2:] { // what somebody left for us to tell
			cat([]string{file})
		}
		os.Exit(number(args[1]))
	}()
	return nil
}

func ignore(args []string) error {
	signal.Ignore(signalNamed(args[0]))
	return nil
}

// untrap is what signal.Reset is not: Go keeps a handler that ends the program.
func untrap(args []string) error {
	type sigaction struct {
		handler, flags, restorer, mask uint64
	}
	var none sigaction
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signalNamed(args[0])), uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func sendSignal(args []string) error {
	return syscall.Kill(number(args[1]), signalNamed(args[0]))
}

func sleep(args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	time.Sleep(d)
	return nil
}

func waitForEver([]string) error {
	for {
		time.Sleep(time.Hour)
	}
}

func retry(args []string) error {
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprint(f, "x")
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Println("try", info.Size())
	if int(info.Size()) < number(args[1]) {
		os.Exit(1)
	}
	return nil
}

func alloc(args []string) error {
	var kept [][]byte
	for range number(args[0]) {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
		time.Sleep(2 * time.Millisecond)
	}
	fmt.Println("allocated", len(kept), "MiB")
	return nil
}

// spawn starts a grandchild in a session of its own whose parent ends.
func spawn([]string) error {
	if os.Getenv("PROBE_DAEMON") == "" {
		child := exec.Command("/proc/self/exe", "spawn")
		child.Env = append(os.Environ(), "PROBE_DAEMON=1")
		return child.Run()
	}
	daemon := exec.Command("/proc/self/exe", "wait")
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return daemon.Start()
}

// environment prints variables: those named, or the names of all but those that
// Services make.
func environment(names []string) error {
	if len(names) > 0 {
		for _, name := range names {
			value, ok := os.LookupEnv(name)
			if !ok {
				value = "(unset)"
			}
			fmt.Printf("%s=%s\n", name, value)
		}
		return nil
	}
	var all []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "KUBERNETES_") {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	fmt.Println(strings.Join(all, " "))
	return nil
}

func arguments(args []string) error {
	for i, a := range args {
		fmt.Printf("%d %q\n", i, a)
	}
	return nil
}

func identity([]string) error {
	fmt.Println("uid", os.Getuid(), "gid", os.Getgid())
	return nil
}

func groups([]string) error {
	groups, err := os.Getgroups()
	slices.Sort(groups)
	fmt.Println("groups", groups)
	return err
}

func workingDirectory([]string) error {
	dir, err := os.Getwd()
	fmt.Println(dir)
	return err
}

func hostname([]string) error {
	name, err := os.Hostname()
	fmt.Println(name)
	return err
}

func processID([]string) error {
	fmt.Println("pid", os.Getpid(), "parent", os.Getppid())
	return nil
}

func processes([]string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		name, err := os.ReadFile("/proc/" + e.Name() + "/comm")
		if err != nil {
			continue // it has ended
		}
		names = append(names, strings.TrimSpace(string(name)))
	}
	slices.Sort(names)
	fmt.Println(strings.Join(names, " "))
	return nil
}

// namespaces prints the ids, which the suite compares with those of others.
func namespaces([]string) error {
	for _, kind := range []string{"mnt", "pid", "user", "uts", "ipc", "net"} {
		id, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return err
		}
		fmt.Println(id)
	}
	return nil
}

func terminal([]string) error {
	size, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
	if err != nil {
		fmt.Println("no terminal")
		return nil
	}
	fmt.Println("a terminal of", size.Col, "by", size.Row)
	return nil
}

func waitTerminal([]string) error {
	for {
		size, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
		if err != nil || size.Col > 0 {
			return err
		}
		time.Sleep(poll)
	}
}

// cgroupLimit prints a limit of v2 or v1, whichever this machine has.
func cgroupLimit(files []string) error {
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			fmt.Println(strings.TrimSpace(string(text)))
			return nil
		}
	}
	fmt.Println("none")
	return nil
}

func token(args []string) error {
	raw, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	parts := strings.Split(string(raw), ".")
	if len(parts) != 3 {
		return fmt.Errorf("%d parts", len(parts))
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return err
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	var head struct{ Alg string }
	var claims struct {
		Audience   []string `json:"aud"`
		Subject    string   `json:"sub"`
		Issued     int64    `json:"iat"`
		Expires    int64    `json:"exp"`
		Kubernetes struct {
			Namespace string
			Pod, Node struct{ Name, UID string }
			Account   struct{ Name, UID string } `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	if err := errors.Join(json.Unmarshal(header, &head), json.Unmarshal(body, &claims)); err != nil {
		return err
	}
	fmt.Println("alg", head.Alg, "aud", claims.Audience, "lives", claims.Expires-claims.Issued)
	k := claims.Kubernetes
	fmt.Println("sub", claims.Subject)
	fmt.Println("namespace", k.Namespace, "pod", k.Pod.Name, "account", k.Account.Name, "node", k.Node.Name, "uids", k.Pod.UID != "" && k.Account.UID != "")
	return nil
}
