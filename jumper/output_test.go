package jumper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

func TestOutput(t *testing.T) {
	t.Parallel()

	t.Run("it writes every line in order, and has written all when it is closed", func(t *testing.T) {
		t.Parallel()
		var got bytes.Buffer
		var want strings.Builder
		o := newOutput(&got, nil)
		for i := range outputLines / 2 {
			fmt.Fprintf(&want, "line %d\n", i)
			fmt.Fprintf(o, "line %d\n", i)
		}
		o.close()
		if got.String() != want.String() || o.lost.Load() != 0 {
			t.Errorf("got %d bytes, %d lines lost, want %d bytes, none", got.Len(), o.lost.Load(), want.Len())
		}
	})

	t.Run("it keeps nobody waiting while nobody reads, counts what is lost, tells of it once, and goes on after that", func(t *testing.T) {
		t.Parallel()
		reader, writer := io.Pipe()
		var told atomic.Int64
		o := newOutput(writer, func(err error) {
			if !errors.Is(err, errNobodyReads) {
				t.Errorf("got %v, want %v", err, errNobodyReads)
			}
			told.Add(1)
		})
		const lines = 2*outputLines + outputBatch // more than wait, and more than are written at once
		for range lines {
			_, _ = io.WriteString(o, "x\n")
		}
		if told.Load() != 1 {
			t.Errorf("got told %d times, want once", told.Load())
		}
		read := make(chan int64, 1)
		go func() {
			n, _ := io.Copy(io.Discard, reader)
			read <- n / 2
		}()
		o.close()
		writer.Close()
		if n, lost := <-read, o.lost.Load(); lost == 0 || n+lost != lines {
			t.Errorf("got %d lines and %d lost, want %d together", n, lost, lines)
		}
	})

	t.Run("it goes on after what could not be written", func(t *testing.T) {
		t.Parallel()
		reader, writer := io.Pipe()
		reader.Close()
		told := make(chan error, 2)
		o := newOutput(writer, func(err error) { told <- err })
		_, _ = io.WriteString(o, "one\n")
		if err := <-told; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
		}
		_, _ = io.WriteString(o, "two\n")
		o.close()
		if o.lost.Load() != 2 || len(told) != 0 {
			t.Errorf("got %d lost, told %d times more, want 2 and none", o.lost.Load(), len(told))
		}
	})

	t.Run("it does not wait at its end for who never reads", func(t *testing.T) {
		t.Parallel()
		reader, writer := io.Pipe()
		defer reader.Close()
		o := newOutput(writer, nil)
		_, _ = io.WriteString(o, "never read\n")
		o.close() // or the test ends with its time
	})
}
