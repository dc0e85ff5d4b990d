package iampolicy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// mayCover may only save work: what Covers affirms it must let through.
func TestMayCoverMissesNothing(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "b", "*", "?", "${x}", "${*}", "$", "ab"}
	pattern := func() string {
		var s strings.Builder
		s.WriteString("arn:aws:s3:::")
		for range random.IntN(6) {
			s.WriteString(parts[random.IntN(len(parts))])
		}
		return s.String()
	}
	covered := 0
	for range 50_000 {
		wide, narrow := pattern(), pattern()
		if wide == narrow || !Covers(wide, narrow) {
			continue
		}
		covered++
		if !mayCover(wide, narrow) {
			t.Errorf("got no for %s over %s, want yes", wide, narrow)
		}
	}
	if covered < 500 {
		t.Errorf("got %d covering pairs, want enough to mean something", covered)
	}
}

// A document of 800 statements of wildcards, ten times what IAM would store.
func BenchmarkCanonicalOfWildcards(b *testing.B) {
	d := &Document{Version: currentVersion}
	for i := range 800 {
		d.Statements = append(d.Statements, Statement{
			Effect:   Allow,
			Action:   []string{fmt.Sprintf("s3:*A%d*", i), fmt.Sprintf("s3:B%d", i)},
			Resource: []string{fmt.Sprintf("arn:aws:s3:::*b%d*", i), "*"},
		})
	}
	for b.Loop() {
		Canonical(d)
	}
}

func BenchmarkMinifySeed(b *testing.B) {
	both := Merge(seedDocument(b, "main", "us-east-1"), seedDocument(b, "private", "us-east-1"))
	for b.Loop() {
		Minify(both)
	}
}
