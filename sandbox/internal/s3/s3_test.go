package s3_test

import (
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

// It stores and gives back, with the account's administrator.
func TestStores(t *testing.T) {
	t.Parallel()
	w := shared.get(t)
	admin := w.s3As(w.adminKey())
	bucket := w.bucket(t, "stores")
	w.put(t, admin, bucket, "a/b.txt", "hello")
	out, err := admin.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: aws.String("a/b.txt")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	var text strings.Builder
	if _, err := io.Copy(&text, out.Body); err != nil {
		t.Fatal(err)
	}
	if text.String() != "hello" {
		t.Errorf("got %q, want %q", text.String(), "hello")
	}
}
