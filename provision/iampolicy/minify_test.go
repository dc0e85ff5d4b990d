package iampolicy

import "testing"

func TestMinifySeed(t *testing.T) {
	t.Parallel()
	main, private := seedDocument(t, "main", "us-east-1"), seedDocument(t, "private", "us-east-1")
	// The most that was reached by hand.
	for name, c := range map[string]struct {
		document *Document
		most     int
	}{
		"main": {main, 9357}, "private": {private, 4714}, "both": {Merge(main, private), 13714},
	} {
		got := Minify(c.document)
		t.Logf("%s: %d characters in %d statements, of %d in %d", name, got.Size(), len(got.Statements), c.document.Size(), len(c.document.Statements))
		if got.Size() > c.most {
			t.Errorf("%s: got %d, want at most %d", name, got.Size(), c.most)
		}
		if !Equal(got, c.document) {
			t.Errorf("%s: got a document of another meaning", name)
		}
	}
}
