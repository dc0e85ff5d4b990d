//go:build !linux

package awsdouble

import "syscall"

// ownGroup puts a child into a process group of its own. Only Linux can end it
// together with a parent that was killed.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
