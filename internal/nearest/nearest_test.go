package nearest_test

import (
	"strings"
	"testing"

	"biplane.dev/biplane/internal/nearest"
)

func TestOf(t *testing.T) {
	t.Parallel()
	words := []string{"storage", "proxy", "store", "operator"}
	for name, one := range map[string]struct{ word, want string }{
		"a letter too few":       {"prxy", "proxy"},
		"one too many":           {"storagee", "storage"},
		"two that changed place": {"opreator", "operator"},
		"another case":           {"PROXY", "proxy"},
		"two that are as near":   {"storae", "storage"},
		"the nearer of two":      {"storg", "store"},
		"nothing like it":        {"qqqqqqqqqqqqq", "storage"},
		"nothing":                {"", "proxy"},
		"what has no end":        {strings.Repeat("proxy", 1<<16), "proxy"},
	} {
		t.Run("it knows "+name, func(t *testing.T) {
			t.Parallel()
			if got := nearest.Of(one.word, words); got != one.want {
				t.Errorf("got %q for %.20q, want %q", got, one.word, one.want)
			}
		})
	}
	if got := nearest.Of("a", nil); got != "" {
		t.Errorf("got %q of no words, want none", got)
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	words := []string{"GetObject", "PutObject", "s3"}
	for _, one := range []struct {
		word string
		most int
		want string
	}{
		{"GetObjekt", 1, "GetObject"},
		{"getobjekts", 1, ""},
		{"getobjekts", 2, "GetObject"},
		{"XutObject", 1, "PutObject"},
		{"S3", 0, "s3"},
		{"s4", 0, ""},
		{"ec2", 1, ""},
	} {
		if got := nearest.Within(one.word, words, one.most); got != one.want {
			t.Errorf("got %q for %q with %d changes, want %q", got, one.word, one.most, one.want)
		}
	}
}

func BenchmarkWithin(b *testing.B) {
	words := make([]string, 20_000) // as all actions of AWS
	for i := range words {
		words[i] = strings.Repeat(string(rune('a'+i%26)), 5+i%30)
	}
	for b.Loop() {
		nearest.Within("DescribeInstances", words, 4)
	}
}
