package pods_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// leavesNothing checks, when everything else of the test is over, that the
// machine is as it is now.
func leavesNothing(t *testing.T, folder string) {
	t.Helper()
	before := machine(t)
	t.Cleanup(func() {
		after := machine(t)
		for what, was := range before {
			if is := after[what]; is != was {
				t.Errorf("got other %s after the sandbox than before it:\n%s\nwant:\n%s", what, is, was)
			}
		}
		for _, process := range processes(folder) {
			t.Errorf("got a process that is left: %s", process)
		}
	})
}

// machine is what a kubelet, containerd and kube-proxy change of one.
func machine(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		addresses, _ := l.Addrs()
		state["links"] += l.Name
		for _, a := range addresses {
			state["links"] += " " + a.String()
		}
		state["links"] += "\n"
	}
	for what, file := range map[string]string{
		"routes": "/proc/net/route", "mounts": "/proc/mounts",
		"vm.overcommit_memory": "/proc/sys/vm/overcommit_memory", "vm.panic_on_oom": "/proc/sys/vm/panic_on_oom",
		"kernel.panic": "/proc/sys/kernel/panic", "kernel.panic_on_oops": "/proc/sys/kernel/panic_on_oops",
		"net.ipv4.ip_forward": "/proc/sys/net/ipv4/ip_forward",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		state[what] = string(text)
	}
	// Rules are those of everybody; comments with counters and times are left out.
	if rules, err := exec.Command("iptables-save").Output(); err == nil {
		lines := slices.DeleteFunc(strings.Split(string(rules), "\n"), func(l string) bool {
			return strings.HasPrefix(l, "#") || strings.HasPrefix(l, ":") && strings.Contains(l, "[")
		})
		state["firewall rules"] = strings.Join(lines, "\n")
	}
	for what, pattern := range map[string]string{"cgroups": "/sys/fs/cgroup/*/biplane-*", "cgroups of v2": "/sys/fs/cgroup/biplane-*", "kubelet's folders": "/var/lib/kubelet*", "network namespaces": "/run/netns/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		state[what] = strings.Join(found, "\n")
	}
	return state
}

// processes are those that name a folder in their command lines.
func processes(folder string) []string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), folder) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}
