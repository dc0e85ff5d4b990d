package clock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"biplane.dev/biplane/internal/clock"
)

func TestScaled(t *testing.T) {
	c := clock.Scaled(1000)
	before := c.Now()
	if err := c.Sleep(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if passed := c.Now().Sub(before); passed < 20*time.Second {
		t.Errorf("after a sleep of 20 s, %v had passed", passed)
	}
	if got := c.Machine(30 * time.Second); got != 30*time.Millisecond {
		t.Errorf("30 s are %v of the machine's time", got)
	}
	if got := c.Machine(time.Millisecond); got != time.Millisecond {
		t.Errorf("1 ms is %v of the machine's time: it would spin", got)
	}
}

func TestZeroIsTheMachine(t *testing.T) {
	var c clock.Clock
	if got := c.Machine(time.Hour); got != time.Hour || c.Factor() != 1 {
		t.Errorf("an hour is %v, the factor %v", got, c.Factor())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a sleep that was ended returned %v", err)
	}
}

func TestFromEnvironment(t *testing.T) {
	for text, want := range map[string]float64{"": 1, "1": 1, "600": 600, "1e3": 1000} {
		t.Setenv(clock.Variable, text)
		c, err := clock.FromEnvironment()
		if err != nil || c.Factor() != want {
			t.Errorf("%q: factor %v, error %v", text, c.Factor(), err)
		}
	}
	scaled := clock.Scaled(1000)
	t.Setenv(clock.Variable, scaled.Environment())
	other, err := clock.FromEnvironment()
	if apart := other.Now().Sub(scaled.Now()); err != nil || apart.Abs() > 10*time.Second {
		t.Errorf("the same clock in another process is %v apart, error %v", apart, err)
	}
	for _, text := range []string{"1000@", "1000@soon", "1000@99999999999", "@1", "fast", "0", "-1", "0.5", "1e7", "NaN", "Inf"} {
		t.Setenv(clock.Variable, text)
		if _, err := clock.FromEnvironment(); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
