package s3

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
)

// How much of a body that nobody wanted is read, and for how long. Clients see
// the answer only once they have sent all, and AWS's own send parts of 8 MiB at
// a time.
const (
	maxUnwanted  = 64 << 20
	unwantedIdle = 5 * time.Second
	unwantedTime = 30 * time.Second
)

// chunkedLength is fasthttp's ContentLength of a body in HTTP's own chunks, as
// boto3 sends every upload.
const chunkedLength = -1

// chunkedBody remembers that it ended: fasthttp's own would wait for one more
// chunk.
type chunkedBody struct {
	io.Reader
	ended bool
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.Reader.Read(p)
	b.ended = errors.Is(err, io.EOF)
	return n, err
}

// checkBody refuses bodies that S3 does not take, and that would hide from the
// condition keys what is in them.
func checkBody(ctx fiber.Ctx, one *facts) s3err.S3Error {
	length := ctx.Request().Header.ContentLength()
	document := one.key == "" || slices.ContainsFunc([]string{"tagging", "acl", "retention", "legal-hold"}, one.has)
	switch {
	case length == chunkedLength && (ctx.Method() != http.MethodPut || document || ctx.Get("X-Amz-Decoded-Content-Length") == ""):
		return s3err.APIError{Code: "NotImplemented", HTTPStatusCode: http.StatusNotImplemented,
			Description: "A header you provided implies functionality that is not implemented: Transfer-Encoding"}
	case ctx.Method() == http.MethodPut && document && length > maxDocument:
		return s3err.APIError{Code: "MaxMessageLengthExceeded", HTTPStatusCode: http.StatusBadRequest, Description: "Your request was too big."}
	}
	return nil
}

// readWholeBody prepares a request so that readRest can find its end: versitygw
// reads an object's content by the reader that it is handed.
func readWholeBody(ctx fiber.Ctx) {
	request := ctx.Request()
	if stream := request.BodyStream(); stream != nil && request.Header.ContentLength() == chunkedLength {
		utils.ContextKeyBodyReader.Set(ctx, io.Reader(&chunkedBody{Reader: stream}))
		ctx.Locals(bodyKey{}, utils.ContextKeyBodyReader.Get(ctx))
	}
}

// bodyKey is where readRest finds a body in chunks.
type bodyKey struct{}

// readRest reads what is left of a body. Else it would be taken for the next
// request of the connection, or its sender be cut off before it sees the answer.
// versitygw does that for short bodies of known length.
func readRest(ctx fiber.Ctx) {
	stream, conn := ctx.Request().BodyStream(), ctx.RequestCtx().Conn()
	if stream == nil {
		return
	}
	if chunked, ok := ctx.Locals(bodyKey{}).(io.Reader); ok {
		stream = chunked
		if utils.ContextKeyPublicBucket.IsSet(ctx) {
			// versitygw has read it by itself: its end would be waited for.
			ctx.Response().Header.SetConnectionClose()
			return
		}
	}
	defer conn.SetReadDeadline(time.Time{})
	until := time.Now().Add(unwantedTime) // of the connection's own clock
	buffer := make([]byte, 32<<10)
	for read := 0; read <= maxUnwanted; {
		idle := time.Now().Add(unwantedIdle)
		if idle.After(until) {
			idle = until
		}
		if conn.SetReadDeadline(idle) != nil {
			break
		}
		n, err := stream.Read(buffer)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			break
		}
		read += n
	}
	ctx.Response().Header.SetConnectionClose()
}
