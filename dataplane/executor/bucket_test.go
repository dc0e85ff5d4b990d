package executor

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"biplane.dev/biplane/dataplane/executor/internal/bucket"
)

// TestBucket is here, and not in the package's own folder, because the store is.
func TestBucket(t *testing.T) {
	t.Parallel()
	folder := "s3://" + w.cfg.Storage.MetadataBucket + "/test/" + runName(t)
	t.Run("it writes what is larger than a part", func(t *testing.T) {
		t.Parallel()
		for name, size := range map[string]int{"empty": 0, "one": 8 << 20, "one and a bit": 8<<20 + 1, "three": 20 << 20} {
			content := bytes.Repeat([]byte("biplane "), size/8+1)[:size]
			if err := w.store.Upload(t.Context(), folder+"/"+name, iotest.HalfReader(bytes.NewReader(content))); err != nil {
				t.Fatal(err)
			}
			got, err := w.store.Get(t.Context(), folder+"/"+name, 64<<20)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %d bytes, %v, want the %d that were written", len(got), err, size)
			}
		}
	})
	t.Run("it leaves nothing of what could not be read to its end", func(t *testing.T) {
		t.Parallel()
		broken := io.MultiReader(strings.NewReader(strings.Repeat("x", 9<<20)), iotest.ErrReader(errors.New("broken")))
		if err := w.store.Upload(t.Context(), folder+"/broken", broken); err == nil {
			t.Fatal("got no error, want that of the reader")
		}
		if there, _, err := w.store.Exists(t.Context(), folder+"/broken"); there || err != nil {
			t.Errorf("got there: %v, %v, want nothing", there, err)
		}
	})
	t.Run("it does not write over what is there", func(t *testing.T) {
		t.Parallel()
		uri := folder + "/new"
		if err := w.store.PutNew(t.Context(), uri, []byte("1")); err != nil {
			t.Fatal(err)
		}
		if err := w.store.PutNew(t.Context(), uri, []byte("2")); !errors.Is(err, bucket.ErrExists) {
			t.Errorf("got %v, want %v", err, bucket.ErrExists)
		}
		if got, err := w.store.Get(t.Context(), uri, 10); string(got) != "1" {
			t.Errorf("got %q, %v, want the first", got, err)
		}
	})
	t.Run("it copies, whatever the name", func(t *testing.T) {
		t.Parallel()
		from, to := folder+"/a b+c%ä/x", folder+"/copy"
		if err := w.store.Put(t.Context(), from, []byte("1")); err != nil {
			t.Fatal(err)
		}
		if err := w.store.Copy(t.Context(), from, to); err != nil {
			t.Fatal(err)
		}
		if got, err := w.store.Get(t.Context(), to, 10); string(got) != "1" {
			t.Errorf("got %q, %v, want the copy", got, err)
		}
		if err := w.store.Copy(t.Context(), folder+"/absent", to); !errors.Is(err, bucket.ErrNone) {
			t.Errorf("got %v, want %v", err, bucket.ErrNone)
		}
	})
	t.Run("it reads no more than it is to", func(t *testing.T) {
		t.Parallel()
		if err := w.store.Put(t.Context(), folder+"/large", []byte("12345")); err != nil {
			t.Fatal(err)
		}
		if got, err := w.store.Get(t.Context(), folder+"/large", 4); err == nil {
			t.Errorf("got %q, want an error", got)
		}
		if _, err := w.store.Get(t.Context(), folder+"/absent", 4); !errors.Is(err, bucket.ErrNone) {
			t.Errorf("got %v, want %v", err, bucket.ErrNone)
		}
	})
	t.Run("it deletes what is old", func(t *testing.T) {
		t.Parallel()
		old := folder + "/old"
		if err := w.store.Put(t.Context(), old+"/x", nil); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			before time.Duration
			want   int
		}{{-time.Hour, 0}, {time.Hour, 1}} {
			if n, err := w.store.DeleteOlder(t.Context(), old+"/", time.Now().Add(step.before)); n != step.want || err != nil {
				t.Errorf("got %d deleted, %v, want %d", n, err, step.want)
			}
		}
	})
}
