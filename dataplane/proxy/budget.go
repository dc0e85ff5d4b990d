package proxy

import (
	"context"
	"net/http"

	"golang.org/x/sync/semaphore"

	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
)

// maxPayload is how many bytes of inputs and outputs are held at the same time,
// each in four or five forms at worst: as they came, decoded, encoded, hashed.
// Who comes when it is used up waits. That, the logs and the rest are what the
// memory of the chart's limit is for.
const maxPayload = 2 * maxInputs

// budget is of payload, shared by all calls, and lost by who is too slow.
type budget struct {
	*semaphore.Weighted
	slowest
}

func newBudget() budget { return budget{semaphore.NewWeighted(maxPayload), slowest{grace, leastRate}} }

// lease is what one call has of it. It is taken once, so that no two calls wait
// for what the other has.
type lease struct {
	of    budget
	taken int64
}

type leaseKey struct{}

// wrap gives back what a call took, once its answer has been written. Of what is
// uploaded it takes the size before the first byte is read.
func (b budget) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := &lease{of: b}
		defer func() { b.Release(l.taken) }()
		ctx := context.WithValue(r.Context(), leaseKey{}, l)
		if r.URL.Path == dataproxyconnect.DataProxyServiceUploadInputsProcedure {
			if l.take(ctx, uploadSize(r)) != nil {
				return // the caller is gone
			}
		}
		r = r.WithContext(ctx)
		if procedure := r.URL.Path; procedure == dataproxyconnect.DataProxyServiceUploadInputsProcedure || procedure == dataproxyconnect.DataProxyServiceGetActionDataProcedure {
			paced := b.pace(w, r)
			defer paced.end()
			w = paced
		}
		next.ServeHTTP(w, r)
	})
}

// uploadSize is the most that a request may turn out to be.
func uploadSize(r *http.Request) int64 {
	size := r.ContentLength
	if size < 0 {
		return maxRequest
	}
	for _, header := range []string{"Content-Encoding", "Grpc-Encoding"} {
		if encoding := r.Header.Get(header); encoding != "" && encoding != "identity" {
			const deflate = 1032 // times is the most that it makes of anything
			size *= deflate
			break
		}
	}
	return min(size, maxRequest)
}

func (l *lease) take(ctx context.Context, bytes int64) error {
	bytes = min(bytes, maxPayload)
	if err := l.of.Acquire(ctx, bytes); err != nil {
		return err
	}
	l.taken = bytes
	return nil
}

// takePayload is for a call that knows now how much it will read.
func takePayload(ctx context.Context, bytes int64) error {
	l, ok := ctx.Value(leaseKey{}).(*lease)
	if !ok {
		return nil
	}
	return l.take(ctx, bytes)
}
