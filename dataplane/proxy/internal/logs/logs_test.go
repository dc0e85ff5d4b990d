package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"biplane.dev/biplane/dataplane/proxy/internal/logs"
)

// container is a log, in the places it goes through: each of plan is one answer
// of Where, and where the read that follows ends.
type container struct {
	log  []byte // as Kubernetes writes it, with timestamps
	kept []byte // as it was kept: log, unless said otherwise
	plan []stay
	gone string // what the kubelet says instead of a log, if it has none

	offsets []int64
}

type stay struct {
	kind    logs.Kind
	cut     int   // bytes of the whole log that there are by then; -1: all
	err     error // how the connection breaks; nil: cleanly
	unknown error // what Where answers instead, if not nil
}

func (c *container) Where(context.Context) (logs.Kind, error) {
	if err := c.plan[0].unknown; err != nil {
		c.pop()
		return 0, err
	}
	return c.plan[0].kind, nil
}

func (c *container) Live(_ context.Context, since time.Time, _ bool) (io.ReadCloser, error) {
	if c.gone != "" {
		c.pop()
		return io.NopCloser(strings.NewReader(c.gone)), nil
	}
	there := c.log
	if cut := c.plan[0].cut; cut >= 0 {
		there = there[:min(cut, len(there))]
	}
	from := 0
	for !since.IsZero() && from < len(there) { // as the kubelet leaves lines out
		stamp, _, _ := bytes.Cut(there[from:], []byte{' '})
		at, err := time.Parse(time.RFC3339Nano, string(stamp))
		if err != nil || !at.Before(since) {
			break
		}
		end := bytes.IndexByte(there[from:], '\n')
		if end < 0 {
			from = len(there)
			break
		}
		from += end + 1
	}
	return c.body(there[from:]), nil
}

func (c *container) Kept(_ context.Context, offset int64) (io.ReadCloser, error) {
	c.offsets = append(c.offsets, offset)
	kept := c.log
	if c.kept != nil {
		kept = c.kept
	}
	there := kept
	if cut := c.plan[0].cut; cut >= 0 {
		there = there[:min(cut, len(there))]
	}
	return c.body(there[min(int(offset), len(there)):]), nil
}

func (c *container) pop() stay {
	now := c.plan[0]
	if len(c.plan) > 1 {
		c.plan = c.plan[1:]
	}
	return now
}

func (c *container) body(b []byte) io.ReadCloser {
	if err := c.pop().err; err != nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b), broken{err}))
	}
	return io.NopCloser(bytes.NewReader(b))
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

var errBroken = errors.New("the connection broke")

// stamped is a log of lines, several of them in a second and now and then out of
// order, as those of two streams are.
func stamped(random *rand.Rand, lines []string) []byte {
	var b bytes.Buffer
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for _, line := range lines {
		at = at.Add(time.Duration(random.IntN(400_000_000)))
		shown := at
		if random.IntN(10) == 0 {
			shown = at.Add(-time.Duration(random.IntN(1000)))
		}
		fmt.Fprintf(&b, "%s %s\n", shown.Format(time.RFC3339Nano), line)
	}
	return b.Bytes()
}

// follow takes no time, however long the pauses between attempts are.
func follow(t *testing.T, c *container) (text string, err error) {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		err = logs.Follow(t.Context(), c, func(l logs.Line) error {
			out.WriteString(l.Text)
			return nil
		})
	})
	return out.String(), err
}

func TestFollow(t *testing.T) {
	t.Parallel()
	// Whatever the places and however they break, what comes out is the log.
	for seed := range uint64(200) {
		t.Run(fmt.Sprintf("it gives out each line once, seed %d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			var lines []string
			for n := range 1 + random.IntN(40) {
				line := fmt.Sprintf("line %d", n)
				switch random.IntN(12) {
				case 0:
					line = ""
				case 1:
					line = strings.Repeat("x", random.IntN(100_000))
				case 2:
					line = "the same"
				case 3:
					line = strings.Repeat("x☃", random.IntN(20_000))
				}
				lines = append(lines, line)
			}
			lines = append(lines, "the end")
			c := &container{log: stamped(random, lines)}
			want := strings.Join(lines, "\n") + "\n"
			if random.IntN(4) == 0 { // the last line has no newline
				c.log = c.log[:len(c.log)-1]
			}
			cut := 0
			for range random.IntN(3) {
				cut += random.IntN(len(c.log) - cut + 1)
				s := stay{kind: logs.Running, cut: cut}
				if random.IntN(2) == 0 {
					s.err = errBroken
				}
				c.plan = append(c.plan, s)
			}
			last := logs.Ended
			if random.IntN(2) == 0 {
				last = logs.Kept
				c.plan = append(c.plan, stay{kind: logs.Kept, cut: cut + random.IntN(len(c.log)-cut+1), err: errBroken})
			}
			c.plan = append(c.plan, stay{kind: last, cut: -1})
			if got, err := follow(t, c); err != nil || got != want {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
			}
		})
	}

	random := rand.New(rand.NewPCG(7, 7))
	lines := []string{"a", "b", "c", "d", "e"}
	log := stamped(random, lines)
	third := bytes.Index(log, []byte(" c\n")) + 3
	second := bytes.Index(log, []byte(" b\n")) + 3

	t.Run("it reads no more of what was kept than it has to", func(t *testing.T) {
		t.Parallel()
		c := &container{log: log, plan: []stay{{kind: logs.Running, cut: third}, {kind: logs.Kept, cut: -1}}}
		got, err := follow(t, c)
		if want := int64(second); err != nil || got != "a\nb\nc\nd\ne\n" || len(c.offsets) != 1 || c.offsets[0] != want {
			t.Errorf("got %q, %v, from %d, want it from %d", got, err, c.offsets, want)
		}
	})
	t.Run("it goes by time where what was kept begins later", func(t *testing.T) {
		t.Parallel()
		c := &container{log: log, kept: log[second:], plan: []stay{{kind: logs.Running, cut: third}, {kind: logs.Kept, cut: -1}}}
		if got, err := follow(t, c); err != nil || got != "a\nb\nc\nd\ne\n" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("it asks again where nobody knows for a moment, and gives up after a while", func(t *testing.T) {
		t.Parallel()
		now := stay{unknown: logs.ErrUnknown}
		c := &container{log: log, plan: []stay{{kind: logs.Running, cut: third}, now, now, now, {kind: logs.Ended, cut: -1}}}
		if got, err := follow(t, c); err != nil || got != "a\nb\nc\nd\ne\n" {
			t.Errorf("got %q, %v", got, err)
		}
		c = &container{log: log, plan: []stay{now}}
		if got, err := follow(t, c); !errors.Is(err, logs.ErrUnknown) {
			t.Errorf("got %q, %v, want %v", got, err, logs.ErrUnknown)
		}
	})
	t.Run("it ends where it is told to", func(t *testing.T) {
		t.Parallel()
		want := errors.New("there is no such action")
		c := &container{plan: []stay{{unknown: want}}}
		if _, err := follow(t, c); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	})
	t.Run("it ends where there is no log", func(t *testing.T) {
		t.Parallel()
		c := &container{plan: []stay{{kind: logs.Nowhere}}}
		if got, err := follow(t, c); err != nil || got != "" {
			t.Errorf("got %q, %v, want nothing", got, err)
		}
	})
	t.Run("it tells the kubelet's word that there is no log from a log", func(t *testing.T) {
		t.Parallel()
		c := &container{log: log, gone: "unable to retrieve container logs for containerd://0", plan: []stay{{kind: logs.Ended, cut: -1}}}
		if got, err := follow(t, c); !errors.Is(err, logs.ErrGone) || got != "" {
			t.Errorf("got %q, %v, want %v", got, err, logs.ErrGone)
		}
	})
	t.Run("it cuts no character of a long line in two", func(t *testing.T) {
		t.Parallel()
		for shift := range 4 {
			line := strings.Repeat("x", shift) + strings.Repeat("𝄞", 10_000)
			c := &container{log: stamped(random, []string{line, "\xe2\x98", "\xff"}), plan: []stay{{kind: logs.Ended, cut: -1}}}
			pieces, text := 0, ""
			err := logs.Follow(t.Context(), c, func(l logs.Line) error {
				if pieces++; pieces < 4 && !utf8.ValidString(l.Text) {
					t.Errorf("got a piece that ends with %q", l.Text[len(l.Text)-4:])
				}
				text += l.Text
				return nil
			})
			if want := line + "\n\xe2\x98\n\xff\n"; err != nil || text != want || pieces != 5 {
				t.Errorf("got %d bytes in %d pieces, %v, want %d in 5", len(text), pieces, err, len(want))
			}
		}
	})
	t.Run("it stops when its reader does", func(t *testing.T) {
		t.Parallel()
		c := &container{log: log, plan: []stay{{kind: logs.Ended, cut: -1}}}
		want := errors.New("the reader is gone")
		if err := logs.Follow(t.Context(), c, func(logs.Line) error { return want }); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	})
}
