package gateway_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

func TestDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("waits for the tunnel and then is at once", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "waits")
		w.run(t, "waits", "before")
		e := newExecutor(nil)
		session := p.dial(t, e.handlers())
		w.run(t, "waits", "during")
		eventually(t, "both runs to be handed over", func() bool { return w.pending(t, "waits") == 0 })
		session.Close()
		w.run(t, "waits", "after")
		p.dial(t, e.handlers())
		eventually(t, "the last run to be handed over", func() bool { return w.pending(t, "waits") == 0 })
		if got := e.heard(); len(got) != 3 {
			t.Errorf("got %q, want each run once", got)
		}
	})

	t.Run("keeps the order of one run and tries again what may yet be", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "order")
		e := newExecutor(func(call string, try int) error {
			if try < 3 {
				return connect.NewError([]connect.Code{connect.CodeUnavailable, connect.CodeInternal}[try%2], errors.New("not yet"))
			}
			return nil
		})
		for i := range 10 {
			key := w.run(t, "order", fmt.Sprint("order", i))
			if _, err := w.store.AbortRun(t.Context(), key, "", nil); err != nil {
				t.Fatal(err)
			}
		}
		p.dial(t, e.handlers())
		eventually(t, "all to be handed over", func() bool { return w.pending(t, "order") == 0 })
		got := e.heard()
		for i := range 10 {
			enqueued, aborted := slices.Index(got, fmt.Sprint("enqueue order", i)), slices.Index(got, fmt.Sprint("abort order", i))
			if enqueued < 0 || aborted < enqueued {
				t.Errorf("got run %d enqueued at %d and aborted at %d, want it in this order", i, enqueued, aborted)
			}
		}
	})

	t.Run("takes that it was done before for done", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "again")
		e := newExecutor(func(call string, _ int) error {
			if strings.HasPrefix(call, "abort") {
				return connect.NewError(connect.CodeNotFound, errors.New("no such action"))
			}
			return connect.NewError(connect.CodeAlreadyExists, errors.New("it is there"))
		})
		key := w.run(t, "again", "again")
		if _, err := w.store.AbortRun(t.Context(), key, "", nil); err != nil {
			t.Fatal(err)
		}
		p.dial(t, e.handlers())
		eventually(t, "both to be acknowledged", func() bool { return w.pending(t, "again") == 0 })
	})

	for _, code := range []connect.Code{connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeNotFound, connect.CodeUnimplemented} {
		t.Run("ends a run that is refused with "+code.String()+", and holds up no other", func(t *testing.T) {
			t.Parallel()
			name := strings.ReplaceAll(code.String(), "_", "-")
			p := w.join(t, name)
			e := newExecutor(func(call string, _ int) error {
				if strings.HasSuffix(call, "-poisoned") {
					return connect.NewError(code, errors.New("a text of the data plane"))
				}
				return nil
			})
			poisoned := w.run(t, name, name[:4]+"-poisoned")
			good := w.run(t, name, name[:4]+"-good")
			p.dial(t, e.handlers())
			eventually(t, "the outbox to be empty", func() bool { return w.pending(t, name) == 0 })
			run, _, err := w.store.GetRun(t.Context(), poisoned)
			if err != nil {
				t.Fatal(err)
			}
			if root := run.Root; root.Phase != common.ActionPhase_ACTION_PHASE_FAILED || root.ErrorKind != workflow.ErrorInfo_KIND_SYSTEM ||
				root.ErrorCode != "HandoverRefused:"+code.String() {
				t.Errorf("got %s, %s, %q, want FAILED of kind SYSTEM with the refusal", root.Phase, root.ErrorKind, root.ErrorCode)
			}
			if got := e.heard(); !slices.Contains(got, "enqueue "+good.Name) {
				t.Errorf("got %q, want the run behind it too", got)
			}
			if strings.Contains(w.log.String(), "a text of the data plane") {
				t.Error("got the data plane's text in the log, want its code alone")
			}
		})
	}

	t.Run("is the process's that holds the tunnel", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "two")
		second := w.beside(t)
		e := newExecutor(nil)
		p.world = second
		p.dial(t, e.handlers())
		if w.Connected(organization, "two") {
			t.Error("got the first process connected, want the second alone")
		}
		for i := range 5 {
			w.run(t, "two", fmt.Sprint("two", i))
		}
		eventually(t, "all to be handed over", func() bool { return w.pending(t, "two") == 0 })
		if got := e.heard(); len(got) != 5 {
			t.Errorf("got %q, want each run once", got)
		}
		p.world = w
		p.dial(t, e.handlers()) // a replica of the operator's
		for i := range 20 {
			w.run(t, "two", fmt.Sprint("both", i))
		}
		eventually(t, "all to be handed over", func() bool { return w.pending(t, "two") == 0 })
		if tries := len(e.heard()); tries < 25 {
			t.Errorf("got %d calls, want every run handed over", tries)
		}
	})

	t.Run("of one run waits for no other's answer", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "hangs")
		asked, hang := make(chan struct{}), make(chan struct{})
		defer close(hang)
		e := newExecutor(nil)
		mux := http.NewServeMux()
		path, handler := actionsconnect.NewActionsServiceHandler(e)
		var once sync.Once
		mux.HandleFunc(path, func(rw http.ResponseWriter, r *http.Request) {
			first := false
			once.Do(func() { first = true })
			if first {
				close(asked)
				<-hang
			}
			handler.ServeHTTP(rw, r)
		})
		w.run(t, "hangs", "hangs")
		p.dial(t, tunnel.Handlers{RPC: mux})
		wait(t, asked, "the first to be asked")
		for i := range 5 {
			w.run(t, "hangs", fmt.Sprint("hangs", i))
		}
		eventually(t, "the others to be handed over", func() bool { return len(e.heard()) == 5 && w.pending(t, "hangs") == 1 })
	})

	t.Run("of one run waits for another's next try no longer than for its own", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "apart")
		e := newExecutor(func(call string, _ int) error {
			if call == "enqueue stuck" {
				return connect.NewError(connect.CodeUnavailable, errors.New("never"))
			}
			return nil
		})
		w.run(t, "apart", "stuck")
		p.dial(t, e.handlers())
		for i := range 5 {
			w.run(t, "apart", fmt.Sprint("apart", i))
		}
		eventually(t, "the others to be handed over", func() bool { return len(e.heard()) == 5 && w.pending(t, "apart") == 1 })
		if run, _, err := w.store.GetRun(t.Context(), store.RunKey{Organization: organization, Project: projectName, Domain: "development", Name: "stuck"}); err != nil || store.Ended(run.Root.Phase) {
			t.Errorf("got %s, %v, want the stuck one to wait", run.Root.Phase, err)
		}
	})
}
