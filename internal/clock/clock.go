// Package clock is the time that waiting goes by: the machine's, or one that runs
// faster, for a double of AWS in which a cluster takes minutes of that time and
// not of ours. Whoever waits for AWS, and whoever pretends to be AWS, has one.
//
// Limits on the machine's own work (a request's timeout, a retry's pause) are not
// for it: they go by the machine's time. Start with FromEnvironment.
package clock

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

// Variable is the environment variable that says how many times faster than the
// machine's a clock runs, a number from 1 to 1,000,000, and since when, as seconds since
// 1970 behind an @: 1000@1764460800. Unset means 1; without a start it runs faster from
// now on. The double exports it, so that whoever uses the double waits as fast as the
// double works, and agrees with it and with others on the time.
const Variable = "BIPLANE_TIME_FACTOR"

// Clock is one clock. The zero value is the machine's.
type Clock struct {
	factor float64   // 0 means 1
	start  time.Time // when it began to run faster
}

// Scaled returns a clock that shows the machine's time now, to the second, and from
// now on runs factor times as fast.
func Scaled(factor float64) Clock {
	return Clock{factor: factor, start: time.Now().Truncate(time.Second)}
}

// FromEnvironment returns the clock that Variable asks for. Its error is a
// *usererr.Error.
func FromEnvironment() (Clock, error) {
	text := os.Getenv(Variable)
	if text == "" {
		return Clock{}, nil
	}
	number, since, hasStart := strings.Cut(text, "@")
	factor, err := strconv.ParseFloat(number, 64)
	start := time.Now()
	if hasStart && err == nil {
		var seconds int64
		seconds, err = strconv.ParseInt(since, 10, 64)
		start = time.Unix(seconds, 0)
	}
	if err != nil || !(factor >= 1 && factor <= 1e6) || start.After(time.Now().Add(time.Second)) {
		return Clock{}, usererr.New(usererr.Invalid, "%s is %q, which is no number from 1 to 1000000, with or without a start", Variable, text).
			WithHint("unset it, unless you use a double of AWS, which prints the right one")
	}
	return Clock{factor: factor, start: start}, nil
}

// Environment is the value of Variable that gives another process the same clock.
func (c Clock) Environment() string {
	if c.factor <= 1 {
		return "1"
	}
	return fmt.Sprintf("%s@%d", strconv.FormatFloat(c.factor, 'f', -1, 64), c.start.Unix())
}

// Factor is how many times faster than the machine's it runs.
func (c Clock) Factor() float64 { return max(c.factor, 1) }

// Now is the time.
func (c Clock) Now() time.Time {
	if c.factor <= 1 {
		return time.Now()
	}
	return c.start.Add(time.Duration(float64(time.Since(c.start)) * c.factor))
}

// Machine is how long the machine's clock runs while d passes on this one; at
// least a millisecond, so that nobody who waits spins. It is for what takes a
// duration and sleeps by itself, such as the SDK's waiters.
func (c Clock) Machine(d time.Duration) time.Duration {
	if c.factor <= 1 || d <= 0 {
		return d
	}
	return max(time.Duration(float64(d)/c.factor), time.Millisecond)
}

// Sleep waits until d has passed, or returns ctx's error when that ends first.
func (c Clock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(c.Machine(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
