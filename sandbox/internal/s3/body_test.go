package s3_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// TestChunkedBodies sends what boto3 does: HTTP's chunks around AWS's own.
func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	bucket := w.bucket(t, "chunked")
	arn := w.role(t, "chunked", trust("StringEquals", "union:executor"), "")
	key, err := w.session(t, arn, w.keys.token("union:executor").signed(t)).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, query, body string) string {
		r, err := http.NewRequestWithContext(t.Context(), method, w.s3+"/"+bucket+"/key"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		hash := "UNSIGNED-PAYLOAD"
		if body != "" {
			hash = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), -1
			r.Header.Set("X-Amz-Decoded-Content-Length", "1048576")
			r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
		}
		r.Header.Set("X-Amz-Content-Sha256", hash)
		if err := v4.NewSigner().SignHTTP(t.Context(), key, r, hash, "s3", region, time.Now()); err != nil {
			t.Fatal(err)
		}
		answer, err := w.client.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		defer answer.Body.Close()
		return codeIn(t, answer)
	}
	content := "100000\r\n" + strings.Repeat("x", 1<<20) + "\r\n0\r\n\r\n"
	for range 20 {
		if got := ask(http.MethodPut, "", content); got != "AccessDenied" {
			t.Fatalf("a refused upload: got %q, want AccessDenied", got)
		}
		if got := ask(http.MethodDelete, "", ""); got != "AccessDenied" {
			t.Fatalf("what follows it on the connection: got %q, want AccessDenied", got)
		}
	}
	if got := ask(http.MethodPut, "?tagging", "<Tagging/>"); got != "NotImplemented" {
		t.Errorf("tags in chunks, which no policy would see: got %q, want NotImplemented", got)
	}
}
