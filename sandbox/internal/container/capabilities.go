package container

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilityNames are all that Linux has, by number, named as a pod names them.
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
	"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
	"AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	"PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// everyContainer are the capabilities of a container that asks for none: those
// that container engines give. SYS_ADMIN is not among them: with it a container
// could take away what is mounted over parts of /proc.
var everyContainer = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT",
	"MKNOD", "AUDIT_WRITE", "SETFCAP",
}

// capabilities returns the set of a spec, as bits.
func (s *Spec) capabilities() (uint64, error) {
	all := uint64(1)<<len(capabilityNames) - 1
	if s.Privileged {
		return all, nil
	}
	var set uint64
	for _, name := range everyContainer {
		set |= bit(name)
	}
	// A pod's "add" wins over its "drop", except that ALL comes before any single one.
	for _, change := range []struct {
		names []string
		apply func(uint64)
	}{
		{s.Capabilities.Drop, func(b uint64) { set &^= b }},
		{s.Capabilities.Add, func(b uint64) { set |= b }},
	} {
		for _, name := range change.names {
			name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			if name == "ALL" {
				change.apply(all)
				continue
			}
			if !slices.Contains(capabilityNames[:], name) {
				return 0, fmt.Errorf("unknown capability %q", name)
			}
			change.apply(bit(name))
		}
	}
	return set, nil
}

func bit(name string) uint64 { return 1 << slices.Index(capabilityNames[:], name) }

// limit gives the process these capabilities and no way to more.
func (s *script) limit(set uint64, noNewPrivileges bool) {
	for n := range capabilityNames {
		if set&(1<<n) == 0 {
			// EINVAL: an older kernel does not have it.
			s.do("drop capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n)).allowing(unix.EINVAL)
		}
	}
	header := pointer(s, &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	low, high := uint32(set), uint32(set>>32)
	// Not inheritable, so that a program with a user of its own, not 0, has none.
	data := pointer(s, &[2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}})
	s.do("drop capabilities", unix.SYS_CAPSET, header, data)
	if noNewPrivileges {
		s.do("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
}
