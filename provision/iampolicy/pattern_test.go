package iampolicy

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMatchARN(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pattern, arn string
		want         bool
	}{
		"lets * match an ARN":                              {"*", "arn:aws:s3:::b/k", true},
		"lets * match the resource *":                      {"*", "*", true},
		"keeps an ARN pattern from the resource *":         {"arn:aws:s3:::*", "*", false},
		"keeps an open ARN pattern from the resource *":    {"arn:*:*:*:*:*", "*", false},
		"matches literally":                                {"arn:aws:s3:::b", "arn:aws:s3:::b", true},
		"minds case":                                       {"arn:aws:s3:::b", "arn:aws:s3:::B", false},
		"lets * cross a slash":                             {"arn:aws:s3:::b/*", "arn:aws:s3:::b/x/y", true},
		"lets * cross a colon of the resource":             {"arn:aws:logs:*:1:log-group:*", "arn:aws:logs:r:1:log-group:a:log-stream:b", true},
		"keeps * inside the region":                        {"arn:aws:ec2:*:instance/i", "arn:aws:ec2:r:1:instance/i", false},
		"keeps * from swallowing two fields":               {"arn:aws:ec2:*:instance/*", "arn:aws:ec2:r:1:instance/i", false},
		"keeps ? inside its field":                         {"arn:aws:s3?::b", "arn:aws:s3:::b", false},
		"lets ? match one character":                       {"arn:aws:s3:::b?", "arn:aws:s3:::bx", true},
		"lets ? match one character of several bytes":      {"arn:aws:s3:::b?", "arn:aws:s3:::bé", true},
		"does not count bytes":                             {"arn:aws:s3:::b??", "arn:aws:s3:::bé", false},
		"does not count bytes after a star":                {"arn:aws:s3:::*??", "arn:aws:s3:::€", false},
		"lets * match nothing":                             {"arn:aws:s3:*:*:b", "arn:aws:s3:::b", true},
		"wants a character for ?":                          {"arn:aws:s3:?::b", "arn:aws:s3:::b", false},
		"opens the fields after a trailing *":              {"arn:aws:s3:*", "arn:aws:s3:::b/k", true},
		"does not open fields without one":                 {"arn:aws:s3", "arn:aws:s3:::b", false},
		"takes wildcards of the request as they are":       {"arn:aws:s3:::b/*", "arn:aws:s3:::b/*", true},
		"does not let the request's wildcards match":       {"arn:aws:s3:::b/k", "arn:aws:s3:::b/*", false},
		"goes back to the last star":                       {"arn:aws:s3:::*ab*ac", "arn:aws:s3:::xababac", true},
		"wants the end to match":                           {"arn:aws:s3:::*a", "arn:aws:s3:::ab", false},
		"does not take the empty log stream for the group": {"arn:aws:logs:r:1:log-group::log-stream", "arn:aws:logs:r:1:log-group::log-stream:", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := MatchARN(c.pattern, c.arn); got != c.want {
				t.Errorf("MatchARN(%q, %q): got %v, want %v", c.pattern, c.arn, got, c.want)
			}
		})
	}
}

func TestMatchAction(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pattern, action string
		want            bool
	}{
		"ignores case":                      {"EC2:createvpc", "ec2:CreateVpc", true},
		"takes wildcards":                   {"ec2:*Vpc", "ec2:CreateVpc", true},
		"lets * match all":                  {"*", "ec2:CreateVpc", true},
		"lets service:* match the service":  {"ec2:*", "ec2:CreateVpc", true},
		"tells services apart":              {"ec2:*", "ecs:CreateCluster", false},
		"keeps * out of the name":           {"e*Vpc", "ec2:CreateVpc", false},
		"does not take a prefix for a name": {"ec2:Create", "ec2:CreateVpc", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := MatchAction(c.pattern, c.action); got != c.want {
				t.Errorf("MatchAction(%q, %q): got %v, want %v", c.pattern, c.action, got, c.want)
			}
		})
	}
}

func TestOverlapsAndCovers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a, b                 string
		overlaps, aCov, bCov bool
	}{
		"sees equal patterns":                  {"a*b", "a*b", true, true, true},
		"sees the wider":                       {"a*", "ab*", true, true, false},
		"sees crossing patterns":               {"a*", "*b", true, false, false},
		"sees two that never meet":             {"a*", "b*", false, false, false},
		"sees that only lengths differ":        {"??", "???", false, false, false},
		"counts characters through stars":      {"?*?", "?", false, false, false},
		"takes ?* for *?":                      {"?*", "*?", true, true, true},
		"sees a length that is always reached": {"?*", "*a", true, true, false},
		"sees no cover by a literal":           {"*a*", "*", true, false, true},
		"sees a cover across several stars":    {"*a*b*", "xa*ya*b", true, true, false},
		"backs off a false start":              {"*ab*", "a*ab", true, true, false},
		"sees no cover where a star may end":   {"*aa*", "a*a", true, false, false},
		"sees a literal inside stars":          {"a*c", "abc", true, true, false},
		"needs both ends":                      {"ab*ba", "aba", false, false, false},
		"lets a variable be anything":          {"a/${aws:username}", "a/x", true, false, false},
		"covers a variable by a star":          {"a/*", "a/${aws:username}", true, true, false},
		"covers a variable by itself":          {"a/${aws:username}/*", "a/${AWS:UserName}/b", true, true, false},
		"does not cover a variable by ?":       {"a/?", "a/${aws:username}", true, false, false},
		"reads escaped wildcards":              {"a${*}", "a*", true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := "arn:aws:s3:::"+c.a, "arn:aws:s3:::"+c.b
			if got := Overlaps(a, b); got != c.overlaps {
				t.Errorf("Overlaps(%q, %q): got %v, want %v", a, b, got, c.overlaps)
			}
			if got := Overlaps(b, a); got != c.overlaps {
				t.Errorf("Overlaps(%q, %q): got %v, want %v", b, a, got, c.overlaps)
			}
			if got := Covers(a, b); got != c.aCov {
				t.Errorf("Covers(%q, %q): got %v, want %v", a, b, got, c.aCov)
			}
			if got := Covers(b, a); got != c.bCov {
				t.Errorf("Covers(%q, %q): got %v, want %v", b, a, got, c.bCov)
			}
		})
	}
}

// TestPatternsExhaustively compares Overlaps and Covers with every text of up
// to six letters. The third letter is in no pattern, which makes the small
// alphabet as telling as a large one.
func TestPatternsExhaustively(t *testing.T) {
	t.Parallel()
	var texts, patterns []string
	var grow func(s, alphabet string, n int, to *[]string)
	grow = func(s, alphabet string, n int, to *[]string) {
		*to = append(*to, s)
		if n == 0 {
			return
		}
		for _, r := range alphabet {
			grow(s+string(r), alphabet, n-1, to)
		}
	}
	grow("", "abz", 6, &texts)
	grow("", "ab?*", 3, &patterns)

	matched := map[string][]bool{}
	for _, p := range patterns {
		for _, text := range texts {
			matched[p] = append(matched[p], globMatch(p, text, false))
		}
	}
	pairs := 0
	for _, a := range patterns {
		for _, b := range patterns {
			pairs++
			overlaps, covers := false, true
			for i := range texts {
				overlaps = overlaps || matched[a][i] && matched[b][i]
				covers = covers && (matched[a][i] || !matched[b][i])
			}
			if got := globsOverlap(parseGlob(a), parseGlob(b)); got != overlaps {
				t.Fatalf("overlap of %q and %q: got %v, want %v", a, b, got, overlaps)
			}
			if got := newBudget().globCovers(parseGlob(a), parseGlob(b)); got != covers {
				t.Fatalf("%q covers %q: got %v, want %v", a, b, got, covers)
			}
		}
	}
	t.Logf("%d pairs of patterns on %d texts", pairs, len(texts))
}

func FuzzPattern(f *testing.F) {
	f.Add("arn:aws:s3:::a*", "arn:aws:s3:::*b", "arn:aws:s3:::ab")
	f.Add("arn:aws:ec2:*:1:vpc/*", "arn:aws:ec2:r:*:vpc/vpc-?", "arn:aws:ec2:r:1:vpc/vpc-1")
	f.Add("*", "arn:*", "*")
	f.Fuzz(func(t *testing.T, a, b, arn string) {
		for _, s := range []string{a, b, arn} {
			if len(s) > 200 || !utf8.ValidString(s) || strings.Contains(s, "${") {
				return
			}
		}
		overlaps, covers := Overlaps(a, b), Covers(a, b)
		if overlaps != Overlaps(b, a) {
			t.Errorf("Overlaps(%q, %q) depends on the order", a, b)
		}
		if !Covers(a, a) || !Covers("*", a) {
			t.Errorf("Covers(%q, itself) or by *: got false, want true", a)
		}
		if covers && Covers(b, a) && MatchARN(a, arn) != MatchARN(b, arn) {
			t.Errorf("%q and %q cover each other, but differ on %q", a, b, arn)
		}
		inA, inB := MatchARN(a, arn), MatchARN(b, arn)
		if inA && inB && !overlaps {
			t.Errorf("both match %q: got Overlaps(%q, %q) false, want true", arn, a, b)
		}
		if inB && !inA && covers {
			t.Errorf("only %q matches %q: got Covers(%q, it) true, want false", b, arn, a)
		}
		template := newARNTemplate(a, true)
		split := splitARN{text: arn}
		if got := template.match(&split, nil); got != inA {
			t.Errorf("compiled %q on %q: got %v, want %v as MatchARN", a, arn, got, inA)
		}
	})
}

// Work is counted, so that this says the same on every machine.
func TestCoversGivesUp(t *testing.T) {
	t.Parallel()
	const wide, narrow = "arn:aws:sqs:*:*:*a?*", "arn:aws:sqs:*:*:*ab*c?"
	if !Covers(wide, narrow) {
		t.Errorf("got no, want that %s covers %s", wide, narrow)
	}
	if poor := (&budget{20}); poor.covers(wide, narrow) || poor.left < 0 {
		t.Errorf("got yes or a debt (%d left), want no where the work is too much", poor.left)
	}
	rich := newBudget()
	for range 3 {
		before := rich.left
		rich.covers("arn:aws:sqs:*:*:"+strings.Repeat("*?a", 300), "arn:aws:sqs:*:*:"+strings.Repeat("?*a?", 300))
		if spent := before - rich.left; spent <= 0 || spent > maxPairWork {
			t.Errorf("got %d spent on one pair, want 1 to %d", spent, maxPairWork)
		}
	}
}
