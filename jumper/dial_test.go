package jumper

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ends is a connection that knows whether it was closed.
type ends struct{ closed bool }

func (e *ends) Close() error { e.closed = true; return nil }

func TestDialAny(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for _, c := range []struct {
		name    string
		takes   []time.Duration // of each attempt, in the order they are made; negative: refuses after that
		want    time.Duration   // to the end
		begins  []time.Duration
		refused bool
	}{
		{"takes the first that answers", []time.Duration{10 * time.Millisecond, time.Hour}, 10 * time.Millisecond, []time.Duration{0}, false},
		{"tries the next at once when one fails", []time.Duration{-10 * time.Millisecond, 20 * time.Millisecond}, 30 * time.Millisecond, []time.Duration{0, 10 * time.Millisecond}, false},
		{"tries the next after 250 ms when one is silent", []time.Duration{time.Hour, time.Hour, 10 * time.Millisecond}, 510 * time.Millisecond,
			[]time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}, false},
		{"takes the first when it answers after the second was tried", []time.Duration{300 * time.Millisecond, time.Hour}, 300 * time.Millisecond, []time.Duration{0, 250 * time.Millisecond}, false},
		{"fails after all", []time.Duration{-time.Millisecond, -time.Millisecond}, 2 * time.Millisecond, []time.Duration{0, time.Millisecond}, true},
		{"fails without addresses", nil, 0, nil, true},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var (
					mu     sync.Mutex
					begins []time.Duration
					tried  []netip.Addr
					made   []*ends
				)
				connect := func(ctx context.Context, to netip.Addr) (*ends, netip.AddrPort, error) {
					mu.Lock()
					takes := c.takes[len(begins)]
					begins = append(begins, time.Since(start))
					tried = append(tried, to)
					mu.Unlock()
					time.Sleep(min(max(takes, -takes), time.Second)) // a connection that comes late all the same
					if takes < 0 {
						return nil, netip.AddrPort{}, refused
					}
					mu.Lock()
					defer mu.Unlock()
					made = append(made, &ends{})
					return made[len(made)-1], netip.AddrPortFrom(to, 443), nil
				}
				all := ips("10.0.0.1", "10.0.0.2", "10.0.0.3")[:len(c.takes)]
				var took time.Duration
				won, at, err := dialAny(t.Context(), all, func(ctx context.Context, to netip.Addr) (*ends, netip.AddrPort, error) {
					conn, at, err := connect(ctx, to)
					if ctx.Err() == nil {
						took = time.Since(start)
					}
					return conn, at, err
				})
				if (err != nil) != c.refused {
					t.Fatalf("got %v, want an error: %v", err, c.refused)
				}
				if took != c.want || !slices.Equal(begins, c.begins) {
					t.Errorf("got the end after %v with attempts at %v, want %v and %v", took, begins, c.want, c.begins)
				}
				slices.SortFunc(tried, netip.Addr.Compare)
				if len(slices.Compact(tried)) != len(c.begins) {
					t.Errorf("got attempts at %v, want each address once", tried)
				}
				for _, conn := range made {
					if conn.closed == (conn == won) {
						t.Errorf("got closed: %v of the connection that won: %v", conn.closed, conn == won)
					}
				}
				if err == nil && at.Port() != 443 {
					t.Errorf("got %v, want where it is connected", at)
				}
			})
		})
	}

	t.Run("it finds the one that answers among hundreds that refuse", func(t *testing.T) {
		t.Parallel()
		all := ips(hundreds()...)
		_, at, err := dialAny(t.Context(), all, func(_ context.Context, to netip.Addr) (*ends, netip.AddrPort, error) {
			if to != all[7] {
				return nil, netip.AddrPort{}, refused
			}
			return &ends{}, netip.AddrPortFrom(to, 443), nil
		})
		if err != nil || at.Addr() != all[7] {
			t.Errorf("got %v, %v, want %v", at, err, all[7])
		}
		_, _, err = dialAny(t.Context(), all, func(context.Context, netip.Addr) (*ends, netip.AddrPort, error) {
			return nil, netip.AddrPort{}, refused
		})
		if err == nil || len(err.Error()) > 200 || !strings.HasSuffix(err.Error(), "and 492 more") {
			t.Errorf("got %v, want some of the errors, and how many there are", err)
		}
	})

	t.Run("it tries addresses in any order", func(t *testing.T) {
		t.Parallel()
		first := map[netip.Addr]int{}
		for range 200 {
			_, at, err := dialAny(t.Context(), ips("10.0.0.1", "10.0.0.2"), func(_ context.Context, to netip.Addr) (*ends, netip.AddrPort, error) {
				return &ends{}, netip.AddrPortFrom(to, 443), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			first[at.Addr()]++
		}
		if len(first) != 2 {
			t.Errorf("got %v first of 200 times, want both", first)
		}
	})
}
