package authn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCache(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	about := func(n byte) question { return question{token: [32]byte{n}} }

	for _, test := range []struct {
		name   string
		answer identity
		expiry time.Duration // of the token
		kept   time.Duration
	}{
		{"keeps a good answer for a minute", identity{valid: true}, time.Hour, time.Minute},
		{"keeps no answer beyond the token's own end", identity{valid: true}, 10 * time.Second, 10 * time.Second},
		{"keeps a bad answer for seconds", identity{}, time.Hour, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			now, asked := start, 0
			c := newCache()
			c.now = func() time.Time { return now }
			ask := func() {
				t.Helper()
				got, err := c.get(t.Context(), about(1), start.Add(test.expiry), func(context.Context) (identity, error) {
					asked++
					return test.answer, nil
				})
				if err != nil || got.valid != test.answer.valid {
					t.Fatalf("got %v %v, want %v", got, err, test.answer)
				}
			}
			ask()
			now = start.Add(test.kept - time.Nanosecond)
			ask()
			if asked != 1 {
				t.Errorf("got %d questions before %s, want 1", asked, test.kept)
			}
			now = start.Add(test.kept)
			ask()
			if asked != 2 {
				t.Errorf("got %d questions at %s, want 2", asked, test.kept)
			}
		})
	}

	t.Run("keeps a bounded number of answers, those used last", func(t *testing.T) {
		t.Parallel()
		c := newCache()
		for i := range maxAnswers + 100 {
			q := question{token: [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}}
			c.keep(q, identity{valid: true}, start.AddDate(1000, 0, 0))
			c.lookup(question{}) // the first one
		}
		if got := len(c.entries); got != maxAnswers || c.recent.Len() != maxAnswers {
			t.Errorf("got %d and %d answers, want %d", got, c.recent.Len(), maxAnswers)
		}
		if _, ok := c.lookup(question{}); !ok {
			t.Error("got none for the one that was used all the time, want it kept")
		}
		if _, ok := c.lookup(about(1)); ok {
			t.Error("got the oldest, want it gone")
		}
	})

	t.Run("asks once for all who ask at the same time", func(t *testing.T) {
		t.Parallel()
		c := newCache()
		var asked atomic.Int64
		release := make(chan struct{})
		ask := func(context.Context) (identity, error) {
			asked.Add(1)
			<-release
			return identity{valid: true}, nil
		}
		canceled, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := c.get(canceled, about(1), time.Now().Add(time.Hour), ask)
			gaveUp <- err
		}()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got, err := c.get(t.Context(), about(1), time.Now().Add(time.Hour), ask); err != nil || !got.valid {
					t.Errorf("got %v %v, want a good answer", got, err)
				}
			})
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v for who gave up, want %v", err, context.Canceled)
		}
		close(release)
		all.Wait()
		if got := asked.Load(); got != 1 {
			t.Errorf("got %d questions, want 1", got)
		}
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		token string
		want  int64
	}{
		"reads exp": {"e30.eyJleHAiOjE3MDAwMDAwMDB9.x", 1700000000},
		"takes a token without exp for an expired one": {"e30.e30.x", 0},
	} {
		if got := expiry(test.token).Unix(); got != test.want {
			t.Errorf("it %s: got %d, want %d", name, got, test.want)
		}
	}
	if got := expiry("no.token.x"); got.After(time.Unix(0, 0)) {
		t.Errorf("got %v for what is no token, want the past", got)
	}
}
