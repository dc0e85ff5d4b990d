package cli

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		quiet bool
		work  func(*progress)
		want  string
	}{
		{name: "says nothing about what takes less than a second",
			work: func(p *progress) { time.Sleep(900 * time.Millisecond) }},
		{name: "says once what takes longer",
			work: func(p *progress) { time.Sleep(time.Minute) }, want: "creating the roles ...\n"},
		{name: "counts each thing's time from its own start",
			work: func(p *progress) {
				time.Sleep(800 * time.Millisecond)
				p.now("creating the boundary")
				time.Sleep(800 * time.Millisecond)
				p.now("attaching it")
				time.Sleep(2 * time.Second)
			}, want: "attaching it ...\n"},
		{name: "says nothing when it shall be quiet", quiet: true,
			work: func(p *progress) { time.Sleep(time.Minute) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				p := newProgress(&out, time.Second, c.quiet, "creating the roles")
				c.work(p)
				p.stop()
				p.stop()
				if got := out.String(); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}

	t.Run("draws one line on a terminal and takes it away", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := newProgress(&out, time.Second, false, "creating the roles")
			p.terminal = true
			time.Sleep(1100 * time.Millisecond)
			p.now("attaching")
			p.stop()
			if got, want := out.String(), "\r\x1b[Kcreating the roles ... 1s\r\x1b[Kattaching ... 0s\r\x1b[K"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	})
}
