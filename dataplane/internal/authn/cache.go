package authn

import (
	"container/list"
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// A token whose pod is gone is good for so long after it was last asked about:
	// the price of asking once a minute and not once a request.
	keepGood = time.Minute
	// A bad token may become good (a pod's own was reviewed before the API server
	// knew the pod), so that is asked again soon.
	keepBad = 5 * time.Second
	// How many answers are kept, some 2 MB: more callers than that are asked about
	// more often.
	maxAnswers = 10_000
	// An API server that takes longer does not answer.
	reviewTimeout = 10 * time.Second
)

// question names one token by its digest, so that none rests in memory, and
// what is asked about it.
type question struct {
	token [32]byte
	about string
}

// cache keeps answers until they expire; the ones asked for longest ago go first.
type cache struct {
	now     func() time.Time
	flights singleflight.Group

	mu      sync.Mutex
	entries map[question]*list.Element // of entry
	recent  *list.List
}

type entry struct {
	question question
	answer   identity
	until    time.Time
}

func newCache() *cache {
	return &cache{now: time.Now, entries: map[question]*list.Element{}, recent: list.New()}
}

// get returns the answer to a question, and asks when there is none. A good
// answer is kept no longer than notAfter. Those who ask the same at the same
// time share one answer, and one who gives up spoils it for nobody.
func (c *cache) get(ctx context.Context, q question, notAfter time.Time, ask func(context.Context) (identity, error)) (identity, error) {
	if answer, ok := c.lookup(q); ok {
		return answer, nil
	}
	flight := c.flights.DoChan(string(q.token[:])+q.about, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		answer, err := ask(ctx)
		if err == nil {
			c.keep(q, answer, notAfter)
		}
		return answer, err
	})
	select {
	case <-ctx.Done():
		return identity{}, ctx.Err()
	case result := <-flight:
		if result.Err != nil {
			return identity{}, result.Err
		}
		return result.Val.(identity), nil
	}
}

func (c *cache) lookup(q question) (identity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[q]
	if !ok {
		return identity{}, false
	}
	e := element.Value.(entry)
	if !c.now().Before(e.until) {
		c.remove(element)
		return identity{}, false
	}
	c.recent.MoveToFront(element)
	return e.answer, true
}

func (c *cache) keep(q question, answer identity, notAfter time.Time) {
	until := c.now().Add(keepBad)
	if answer.valid {
		until = c.now().Add(keepGood)
		if notAfter.Before(until) {
			until = notAfter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[q]; ok {
		c.remove(element)
	}
	c.entries[q] = c.recent.PushFront(entry{question: q, answer: answer, until: until})
	if c.recent.Len() > maxAnswers {
		c.remove(c.recent.Back())
	}
}

// remove is called with the lock held.
func (c *cache) remove(element *list.Element) {
	delete(c.entries, element.Value.(entry).question)
	c.recent.Remove(element)
}

// expiry is when a token says that it expires. It is used for nothing but to
// forget a good answer in time, so it does not matter that a token may lie: one
// that does is not good. Without expiry it is in the past, and the answer is not
// kept.
func expiry(token string) time.Time {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expiry float64 `json:"exp"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expiry), 0)
}
