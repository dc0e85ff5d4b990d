package taskaction

import (
	"math"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/judge"
)

// attempt is the last one; nil before the first.
func (w *work) attempt() *v1alpha1.Attempt {
	if n := len(w.status.Attempts); n > 0 {
		return &w.status.Attempts[n-1]
	}
	return nil
}

// live is the attempt that has not ended; nil where there is none.
func (w *work) live() *v1alpha1.Attempt {
	if a := w.attempt(); a != nil && !a.Phase.Terminal() {
		return a
	}
	return nil
}

// enter notes a phase of an attempt, and gives it to the action.
func (w *work) enter(a *v1alpha1.Attempt, phase v1alpha1.Phase) {
	if a.Phase != phase || len(a.Transitions) == 0 {
		a.Phase = phase
		if len(a.Transitions) < maxTransitions || phase.Terminal() {
			a.Transitions = append(a.Transitions, v1alpha1.Transition{Phase: phase, At: *v1alpha1.At(w.now)})
		}
	}
	if !phase.Terminal() {
		w.status.Phase = phase
	}
}

// end ends the current attempt.
func (w *work) end(a *v1alpha1.Attempt, phase v1alpha1.Phase) {
	w.enter(a, phase)
	a.EndedAt = v1alpha1.At(w.now)
}

// succeed ends the attempt and the action.
func (w *work) succeed(a *v1alpha1.Attempt) {
	w.end(a, v1alpha1.Succeeded)
	w.status.OutputURI, w.status.Error, w.status.CacheStatus = a.OutputURI, nil, a.CacheStatus
	w.finish(v1alpha1.Succeeded, "Completed", "")
}

// fail ends the attempt by a failure, and the action where nothing is left of the
// budget that another attempt would be taken from.
func (w *work) fail(a *v1alpha1.Attempt, f *judge.Failure, phase v1alpha1.Phase) {
	failure := f.ActionError
	failure.Message = cut(failure.Message)
	w.end(a, phase)
	a.Error = &failure
	w.status.CacheStatus = a.CacheStatus
	w.trim()

	strategy := w.metadata().GetRetries()
	last := failure // as the parent raises it
	switch f.Budget {
	case judge.User:
		w.status.UserFailures++
		if retried := w.status.UserFailures - 1; retried < int32(min(strategy.GetRetries(), maxRetries)) {
			w.retry(a, backoff(strategy.GetBackoff(), retried))
			return
		}
		if strategy.GetRetries() > 0 {
			last.Code = "RetriesExhausted|" + failure.Code
		}
	case judge.System:
		w.status.SystemFailures++
		if w.status.SystemFailures <= w.Config.Executor.SystemRetries {
			w.retry(a, systemBackoff(w.status.SystemFailures))
			return
		}
		if w.Config.Executor.SystemRetries > 0 {
			last.Code = "MaxSystemFailuresExceeded"
			last.Message = cut("the last of " + plural(w.status.SystemFailures, "failure") + " of the system was " + failure.Code + ": " + failure.Message)
		}
	}
	last.Recoverable = false
	w.status.Error = &last
	w.say(corev1.EventTypeWarning, "Failed", "attempt %d: %s: %s", a.Number, failure.Code, failure.Message)
	reason := "Failed"
	if phase == v1alpha1.TimedOut {
		reason = "TimedOut"
	}
	w.finish(phase, reason, last.Code+": "+last.Message)
}

// retry leaves the action to launch, which begins the next attempt in its time.
func (w *work) retry(a *v1alpha1.Attempt, pause time.Duration) {
	w.status.Phase = v1alpha1.Queued
	w.status.NotBefore = nil
	w.status.Message = cut("attempt " + decimal(a.Number+1) + " follows: " + a.Error.Code)
	if pause > 0 {
		w.status.NotBefore = v1alpha1.At(w.now.Add(pause))
	}
	w.say(corev1.EventTypeWarning, "AttemptFailed", "attempt %d: %s: %s", a.Number, a.Error.Code, a.Error.Message)
}

// backoff before the n-th retry, from 0: min(base·factorⁿ, cap).
func backoff(policy *core.Backoff, n int32) time.Duration {
	base := policy.GetBase().AsDuration()
	if policy == nil || base <= 0 {
		return 0
	}
	factor := 1.0
	if policy.Factor != nil && *policy.Factor > 1 {
		factor = *policy.Factor
	}
	most := longestPause
	if limit := policy.GetCap().AsDuration(); policy.GetCap() != nil && limit < most {
		most = limit
	}
	if pause := float64(base) * math.Pow(factor, float64(n)); pause < float64(most) {
		return time.Duration(pause)
	}
	return max(most, 0)
}

// longestPause bounds what an author may write. A day is long enough to be a mistake.
const longestPause = 24 * time.Hour

// systemBackoff before the next attempt after n failures of the system: a node that
// goes away takes a moment to be seen by the scheduler.
func systemBackoff(n int32) time.Duration { return min(time.Second<<min(n-1, 5), 30*time.Second) }

// trim keeps a status with a thousand attempts below what etcd takes, 1.5 MB: only
// the last attempts have all of their texts and times.
func (w *work) trim() {
	for i := range max(0, len(w.status.Attempts)-wholeAttempts) {
		a := &w.status.Attempts[i]
		a.Transitions = nil
		if a.Error != nil {
			a.Error.Message = shorten(a.Error.Message, shortError)
		}
	}
}

const (
	maxMessage     = 4 << 10
	maxRetries     = 1000
	maxTransitions = 50 // of an attempt that goes back and forth
	wholeAttempts  = 20
	shortError     = 200
)

// cut keeps the beginning of a message, and more of its end: that is where a
// traceback says what it is about.
func cut(message string) string { return shorten(message, maxMessage) }

func shorten(message string, most int) string {
	if len(message) <= most {
		return message
	}
	const gap = "\n[…]\n"
	head, tail := most/4, most-most/4-len(gap)
	for head > 0 && !utf8.RuneStart(message[head]) {
		head--
	}
	from := len(message) - tail
	for from < len(message) && !utf8.RuneStart(message[from]) {
		from++
	}
	return message[:head] + gap + message[from:]
}

func (w *work) setCondition(c metav1.Condition) {
	c.ObservedGeneration = w.action.Generation
	c.LastTransitionTime = metav1.NewTime(w.now)
	meta.SetStatusCondition(&w.status.Conditions, c)
}
