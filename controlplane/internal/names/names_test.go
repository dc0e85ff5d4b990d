package names_test

import (
	"errors"
	"strings"
	"testing"

	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/store"
)

func TestNames(t *testing.T) {
	t.Parallel()
	run := func(name string) error { return names.Run(name) }
	for name, c := range map[string]struct {
		check func(string) error
		good  []string
		bad   []string
	}{
		"a run":             {run, []string{"a", "r0", "my-run", strings.Repeat("a", 30)}, []string{"", "0a", "a-", "-a", "A", "a_b", "a.b", strings.Repeat("a", 31), "ä", "a\n"}},
		"an action":         {names.Action, []string{"a0", "0abc", strings.Repeat("z", 30)}, []string{"", "a/b", "..", strings.Repeat("z", 31)}},
		"a project":         {names.Project, []string{"flytesnacks", strings.Repeat("p", 51)}, []string{"", "Flyte", "a b", strings.Repeat("p", 52)}},
		"an organization":   {names.Organization, []string{"default", strings.Repeat("o", 63)}, []string{"", strings.Repeat("o", 64), "o/p"}},
		"a cluster":         {names.Cluster, []string{"east-1"}, []string{"", "East"}},
		"a task":            {names.TaskName, []string{"hello.main", strings.Repeat("t", 255)}, []string{"", "a\x00b", "a\xff", strings.Repeat("t", 256)}},
		"a domain of these": {func(name string) error { return names.Domain(name, store.Domains()) }, []string{"development", "staging", "production"}, []string{"", "dev"}},
	} {
		t.Run("takes what "+name+" may be called, and nothing else", func(t *testing.T) {
			t.Parallel()
			for _, good := range c.good {
				if err := c.check(good); err != nil {
					t.Errorf("got %v for %q, want it taken", err, good)
				}
			}
			for _, bad := range c.bad {
				err := c.check(bad)
				var said *names.Error
				if !errors.As(err, &said) {
					t.Errorf("got %v for %q, want a refusal", err, bad)
				} else if strings.ContainsAny(said.Error(), "\n\x00") || len(said.Error()) > 400 {
					t.Errorf("got %q, want one short sentence", said.Error())
				}
			}
		})
	}
	t.Run("leaves room for every domain in a namespace", func(t *testing.T) {
		t.Parallel()
		for _, domain := range store.Domains() {
			if got := names.MaxProject + 1 + len(domain); got > 63 {
				t.Errorf("got %d characters with %s, want at most 63", got, domain)
			}
			if strings.Contains(domain, "-") {
				t.Errorf("got a hyphen in %s, want none", domain)
			}
		}
	})
	t.Run("cuts a reason between characters", func(t *testing.T) {
		t.Parallel()
		if got := names.Reason(strings.Repeat("ä", 2000)); len(got) > 2048 || strings.Contains(got, "\uFFFD") {
			t.Errorf("got %d bytes, want at most 2048, whole", len(got))
		}
	})
}
