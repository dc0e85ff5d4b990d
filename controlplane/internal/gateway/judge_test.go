package gateway

import (
	"errors"
	"testing"

	"connectrpc.com/connect"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	of := func(code connect.Code) error { return connect.NewError(code, errors.New("no")) }
	for name, c := range map[string]struct {
		enqueue bool
		err     error
		faults  int
		want    verdict
	}{
		"takes yes for done":                          {true, nil, 0, delivered},
		"takes a run that is there for done":          {true, of(connect.CodeAlreadyExists), 0, delivered},
		"takes an abort of nothing for done":          {false, of(connect.CodeNotFound), 0, delivered},
		"gives up an enqueue into nothing":            {true, of(connect.CodeNotFound), 0, refused},
		"gives up what is invalid":                    {true, of(connect.CodeInvalidArgument), 0, refused},
		"gives up what the state does not allow":      {true, of(connect.CodeFailedPrecondition), 0, refused},
		"gives up what is not known there":            {false, of(connect.CodeUnimplemented), 0, refused},
		"tries a fault again":                         {true, of(connect.CodeInternal), maxFaults - 1, again},
		"gives up a fault that stays":                 {true, of(connect.CodeInternal), maxFaults, refused},
		"gives up an account that stays refused":      {true, of(connect.CodePermissionDenied), maxFaults, refused},
		"never gives up who cannot be reached":        {true, of(connect.CodeUnavailable), 1000, again},
		"never gives up who is busy":                  {true, of(connect.CodeResourceExhausted), 1000, again},
		"never gives up who is slow":                  {true, of(connect.CodeDeadlineExceeded), 1000, again},
		"never gives up a call that was broken off":   {true, of(connect.CodeCanceled), 1000, again},
		"takes an error without a code for a fault":   {true, errors.New("no"), 0, again},
		"gives up an error without a code that stays": {true, errors.New("no"), maxFaults, refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(c.enqueue, c.err, c.faults); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}
