package jumper

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// oracle is a DNS that says what a test wants, in simulated time.
type oracle struct {
	mu    sync.Mutex
	says  answer
	fails error
	asked []time.Duration // since the start
	start time.Time
}

func (o *oracle) lookup(context.Context) (answer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, time.Since(o.start))
	return answer{slices.Clone(o.says.addresses), o.says.ttl, o.says.missing}, o.fails
}

// now lets it say something else, or fail.
func (o *oracle) now(fails error, says ...netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fails, o.says.addresses = fails, says
}

func ips(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// keep runs addresses against an oracle until the test's end.
func keep(t *testing.T, o *oracle) *addresses {
	o.start = time.Now()
	a := newAddresses(o.lookup, 15*time.Second, time.Hour, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return a
}

func after(d time.Duration) { time.Sleep(d); synctest.Wait() } // of simulated time

func TestAddresses(t *testing.T) {
	t.Parallel()
	seconds := func(all ...int) (ds []time.Duration) {
		for _, s := range all {
			ds = append(ds, time.Duration(s)*time.Second)
		}
		return ds
	}
	for _, c := range []struct {
		name string
		ttl  time.Duration
		want []time.Duration // the first lookups
	}{
		{"asks again when the record's time is over", 4 * time.Second, seconds(0, 4, 8, 12)},
		{"asks again after --refresh if the record holds longer", 5 * time.Minute, seconds(0, 15, 30, 45)},
		{"asks again after a second if the record may not be kept", 0, seconds(0, 1, 2, 3)},
		{"asks again after --refresh if no record says for how long", -1, seconds(0, 15, 30, 45)},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &oracle{says: answer{addresses: ips("10.0.0.1"), ttl: c.ttl}}
				keep(t, o)
				after(c.want[len(c.want)-1])
				if !slices.Equal(o.asked, c.want) {
					t.Errorf("got lookups at %v, want %v", o.asked, c.want)
				}
			})
		})
	}

	t.Run("it knows a new set with the answer that has it", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			o := &oracle{says: answer{addresses: ips("10.0.0.2", "10.0.0.1", "10.0.0.2"), ttl: 5 * time.Second}}
			a := keep(t, o)
			if got, want := a.known(), ips("10.0.0.1", "10.0.0.2"); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			o.now(nil, ips("10.0.0.2", "10.0.0.3")...)
			after(5 * time.Second)
			if got, want := a.known(), ips("10.0.0.2", "10.0.0.3"); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if got := a.state().changes; got != 1 {
				t.Errorf("got %d changes, want 1", got)
			}
		})
	})

	t.Run("it keeps the last set while the DNS is away for a minute", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			o := &oracle{says: answer{addresses: ips("10.0.0.1"), ttl: 5 * time.Second}}
			a := keep(t, o)
			o.now(errors.New("away"))
			for range 60 {
				after(time.Second)
				if got, want := a.known(), ips("10.0.0.1"); !slices.Equal(got, want) {
					t.Fatalf("got %v, want %v", got, want)
				}
			}
			// The record's time, then after 1 s, 2 s, 4 s … and no longer than --refresh.
			if want := seconds(0, 5, 6, 8, 12, 20, 35, 50); !slices.Equal(o.asked, want) {
				t.Errorf("got lookups at %v, want %v", o.asked, want)
			}
			if got := a.state(); got.stale != time.Minute || got.failures != 7 {
				t.Errorf("got %+v, want a minute and 7 failures", got)
			}
			o.now(nil, ips("10.0.0.9")...)
			after(15 * time.Second)
			if got, want := a.known(), ips("10.0.0.9"); !slices.Equal(got, want) {
				t.Errorf("got %v after the DNS came back, want %v", got, want)
			}
			if got := a.state().stale; got != 0 {
				t.Errorf("got stale for %v, want none", got)
			}
		})
	})

	t.Run("it keeps the addresses of which the DNS says nothing while it names others, for --stale", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			o := &oracle{says: answer{addresses: ips("10.0.0.1", "fd00::1"), ttl: 5 * time.Second}}
			a := keep(t, o)
			o.mu.Lock()
			o.says = answer{addresses: ips("10.0.0.2"), ttl: 5 * time.Second, missing: netip.Addr.Is6}
			o.mu.Unlock()
			for _, step := range []struct {
				after time.Duration
				want  []netip.Addr
			}{{5 * time.Second, ips("10.0.0.2", "fd00::1")}, {50 * time.Minute, ips("10.0.0.2", "fd00::1")}, {15 * time.Minute, ips("10.0.0.2")}} {
				after(step.after)
				if got := a.known(); !slices.Equal(got, step.want) {
					t.Errorf("got %v, want %v", got, step.want)
				}
			}
		})
	})

	t.Run("it has no addresses when the DNS has been away for longer than --stale", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			o := &oracle{says: answer{addresses: ips("10.0.0.1"), ttl: 5 * time.Second}}
			a := keep(t, o)
			o.now(errors.New("away"))
			after(time.Hour - time.Second)
			if got := a.known(); len(got) != 1 {
				t.Errorf("got %v a second before, want the one", got)
			}
			after(16 * time.Second)
			if got := a.known(); len(got) != 0 {
				t.Errorf("got %v, want none", got)
			}
		})
	})

	t.Run("it asks at once for who waits, once for all of them and not more than ten times a second", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			o := &oracle{says: answer{addresses: ips("10.0.0.1"), ttl: time.Minute}}
			a := keep(t, o)
			after(5 * time.Second)
			o.now(nil, ips("10.0.0.2")...)
			for range 3 {
				got := make(chan []netip.Addr, 100)
				for range 100 {
					go func() {
						known, _ := a.ask(t.Context())
						got <- known
					}()
				}
				for range 100 {
					if known := <-got; !slices.Equal(known, ips("10.0.0.2")) {
						t.Errorf("got %v, want the new one", known)
					}
				}
			}
			// 100 questions a round; one that came while a lookup was on its way may cost
			// one more.
			if n := len(o.asked); n > 8 {
				t.Errorf("got %d lookups for 3 rounds of questions, want about one for each", n)
			}
			for i := 1; i < len(o.asked); i++ {
				if gap := o.asked[i] - o.asked[i-1]; gap < lookupGap {
					t.Errorf("got %v between two lookups, want %v or more", gap, lookupGap)
				}
			}
		})
	})

	t.Run("it gives who waits an end when the DNS does not answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			stuck := func(ctx context.Context) (answer, error) { <-ctx.Done(); return answer{}, ctx.Err() }
			a := newAddresses(stuck, 15*time.Second, time.Hour, slog.New(slog.DiscardHandler))
			running, stop := context.WithCancel(t.Context())
			go a.run(running)
			waiting, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if known, err := a.ask(waiting); err == nil {
				t.Errorf("got %v, want an error", known)
			}
			stop()
			synctest.Wait()
		})
	})
}
