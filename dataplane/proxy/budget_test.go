package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	upload := func(size int64, encoding string) *http.Request {
		r := httptest.NewRequest(http.MethodPost, dataproxyconnect.DataProxyServiceUploadInputsProcedure, strings.NewReader(""))
		r.ContentLength = size
		r.Header.Set("Content-Encoding", encoding)
		return r
	}

	t.Run("it lets a call wait until what is held is given back", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			release, entered := make(chan struct{}), 0
			handler := newBudget().wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				entered++
				<-release
			}))
			for range 3 {
				go handler.ServeHTTP(httptest.NewRecorder(), upload(maxPayload/2, ""))
			}
			synctest.Wait()
			if entered != 2 {
				t.Errorf("got %d calls at once, want 2", entered)
			}
			release <- struct{}{}
			synctest.Wait()
			if entered != 3 {
				t.Errorf("got %d calls, want the third when the first has ended", entered)
			}
			close(release)
		})
	})

	t.Run("it lets other calls pass", func(t *testing.T) {
		t.Parallel()
		b := newBudget()
		if err := b.Acquire(t.Context(), maxPayload); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		b.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "passed") })).
			ServeHTTP(w, httptest.NewRequest(http.MethodPost, dataproxyconnect.DataProxyServiceTailLogsProcedure, nil))
		if w.Body.String() != "passed" {
			t.Errorf("got %q, want it passed", w.Body)
		}
	})

	for _, test := range []struct {
		name     string
		size     int64
		encoding string
		want     int64
	}{
		{"takes what is said", 5000, "", 5000},
		{"takes the most there may be where nothing is said", -1, "", maxRequest},
		{"takes no more than there may be", 1 << 40, "", maxRequest},
		{"thinks of what a compressed call may become", 5000, "gzip", 5000 * 1032},
		{"thinks of that up to the limit", 5 << 20, "gzip", maxRequest},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			if got := uploadSize(upload(test.size, test.encoding)); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}
