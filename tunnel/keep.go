package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

// KeepOptions say what Keep dials, and who is told.
type KeepOptions struct {
	Options

	// Address of the gateway: host:port.
	Address string
	// TLS is asked before every dial, so that a renewed certificate is used.
	TLS func(context.Context) (*tls.Config, error)
	// Dialled is told of every try, and Ended of the end of every session, for
	// metrics. Nil: nobody is.
	Dialled func(took time.Duration, err error)
	Ended   func(lived time.Duration, err error)
}

// Between two tries: at first a tenth of a second, doubled up to 5 s, so that a
// data plane is back seconds after its control plane is. Each is shortened by
// up to a half at random, or all data planes of a control plane would return at
// the same moment. A refusal is a person's to mend: it is asked again each 10 s.
const (
	firstBackOff   = 100 * time.Millisecond
	lastBackOff    = 5 * time.Second
	refusedBackOff = 10 * time.Second
	// A session that lived for so long was a good one: the next try is at once.
	goodLife = 10 * time.Second
)

// Keep holds a session to one address until ctx ends: it dials, calls use, and
// dials again when the session ends or is drained by the peer. use gets a
// context that ends with its session and must return then; two run at the same
// time only while a drained session ends and its successor has begun. With the
// end of ctx the sessions are drained, for at most drainLimit. Keep returns when
// every use has.
func Keep(ctx context.Context, options KeepOptions, drainLimit time.Duration, use func(context.Context, *Session)) {
	var running sync.WaitGroup
	defer running.Wait()
	log := options.log().With("gateway", options.Address)
	backOff := firstBackOff
	for ctx.Err() == nil {
		started := time.Now()
		session, err := dialOnce(ctx, options)
		if ctx.Err() != nil && err != nil {
			return
		}
		if options.Dialled != nil {
			options.Dialled(time.Since(started), err)
		}
		if err == nil {
			log.Info("tunnel established", "took", time.Since(started))
			running.Go(func() {
				err := hold(ctx, session, drainLimit, use)
				log.Info("tunnel ended", "lived", time.Since(started), "reason", err)
				if options.Ended != nil {
					options.Ended(time.Since(started), err)
				}
			})
			select {
			case <-session.Draining():
			case <-session.Done():
			case <-ctx.Done():
				return
			}
			if time.Since(started) > goodLife {
				backOff = firstBackOff
			}
		} else {
			log.Warn("tunnel not established", "error", usererr.Chain(err))
		}
		wait := backOff
		if refused := new(RefusedError); errors.As(err, &refused) {
			wait = refusedBackOff
		}
		backOff = min(2*backOff, lastBackOff)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
		}
	}
}

func dialOnce(ctx context.Context, options KeepOptions) (*Session, error) {
	config, err := options.TLS(ctx)
	if err != nil {
		return nil, err
	}
	return Dial(ctx, options.Address, config, options.Options)
}

// hold runs use on one session, to the end of both.
func hold(ctx context.Context, session *Session, drainLimit time.Duration, use func(context.Context, *Session)) error {
	// Not the caller's: that one ends when draining begins, and calls in the
	// tunnel are to end by themselves then.
	inside, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-ctx.Done():
			limited, done := context.WithTimeout(inside, drainLimit)
			defer done()
			session.Drain(limited)
		case <-session.Done():
		}
		cancel()
	})
	use(inside, session)
	session.Close()
	watching.Wait()
	return session.Err()
}
