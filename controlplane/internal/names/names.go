// Package names says what organisations, projects, tasks, runs and clusters may
// be called, and who hears it in one sentence when one may not.
//
// It is not for whether they exist. Start with Run.
package names

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits are Flyte's own, but Project's.
const (
	maxLabel    = 63
	maxRun      = 30
	maxTaskName = 255
	maxText     = 2048
	// MaxProject leaves room for a hyphen and the longest domain in the name of
	// a workspace's namespace, which Kubernetes bounds at 63.
	MaxProject = maxLabel - 1 - len("development")
)

var (
	label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	run   = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
)

// Error is a name that cannot be. Its text is for a person.
type Error struct{ sentence string }

func (e *Error) Error() string { return e.sentence }

func refuse(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// Organization checks the name of an organisation.
func Organization(name string) error { return checkLabel("the organization", name, maxLabel) }

// Project checks a project's id.
func Project(name string) error { return checkLabel("the project", name, MaxProject) }

// Cluster checks the name of a data plane.
func Cluster(name string) error { return checkLabel("the cluster", name, maxLabel) }

// Domain checks that there is such a domain.
func Domain(name string, domains []string) error {
	if slices.Contains(domains, name) {
		return nil
	}
	return refuse("there is no domain %q; the domains are %s", short(name), strings.Join(domains, ", "))
}

// Run checks a name that somebody wants for a run.
func Run(name string) error {
	switch {
	case name == "":
		return refuse("the run's name is empty; leave the run's id out to have one made")
	case len(name) > maxRun:
		return refuse("the run's name %q has %d characters; choose one of at most %d", short(name), len(name), maxRun)
	case !run.MatchString(name):
		return refuse("the run's name %q must begin with a lower-case letter, and have only lower-case letters, digits and hyphens", short(name))
	}
	return nil
}

// Action checks the name of an action.
func Action(name string) error { return checkLabel("the action's name", name, maxRun) }

// Task checks what a task is called and its version.
func Task(name, version string) error {
	if err := TaskName(name); err != nil {
		return err
	}
	return text("the version of task "+short(name), version, 1, maxLabel)
}

// TaskName checks what a task is called.
func TaskName(name string) error { return text("the task's name", name, 1, maxTaskName) }

// Short checks a text that names or describes something, of at most so many
// bytes; what says which it is.
func Short(what, value string, most int) error { return text(what, value, 0, most) }

// Reason cuts what somebody gave as the reason for an abort.
func Reason(reason string) string {
	for len(reason) > maxText {
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	return reason
}

func checkLabel(what, name string, most int) error {
	switch {
	case name == "":
		return refuse("%s is not given", what)
	case len(name) > most:
		return refuse("%s %q has %d characters; choose one of at most %d", what, short(name), len(name), most)
	case !label.MatchString(name):
		return refuse("%s %q must have only lower-case letters, digits and hyphens, with a letter or digit at both ends", what, short(name))
	}
	return nil
}

func text(what, value string, least, most int) error {
	switch {
	case len(value) < least:
		return refuse("%s is empty", what)
	case len(value) > most:
		return refuse("%s %q has %d bytes; choose one of at most %d", what, short(value), len(value), most)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return refuse("%s %q has characters that cannot be printed", what, short(value))
	}
	return nil
}

// short keeps a hostile name from filling the sentence that refuses it.
func short(name string) string {
	const most = 80
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}
