package jumper

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

const (
	outputLines = 8192        // wait at most for who reads the log
	outputBatch = 32 << 10    // bytes that are written at once, about
	outputFlush = time.Second // for what is still to be written at the end
)

var errNobodyReads = errors.New("nobody reads it, and 8192 lines wait")

// output writes lines, and keeps nobody waiting who has one: where the reader of a
// log pauses, connections must not. Lines that do not fit are lost, and counted.
type output struct {
	to     io.Writer
	losing func(error) // told of the first line that is lost, and of the first after one that was not; may be nil
	queue  chan []byte
	stop   chan struct{}
	ended  chan struct{}

	lost    atomic.Int64
	trouble atomic.Bool // the last line was lost
}

// newOutput starts one. It ends with close.
func newOutput(to io.Writer, losing func(error)) *output {
	o := &output{to: to, losing: losing, queue: make(chan []byte, outputLines), stop: make(chan struct{}), ended: make(chan struct{})}
	go o.run()
	return o
}

// Write takes one line or several.
func (o *output) Write(text []byte) (int, error) {
	select {
	case o.queue <- bytes.Clone(text):
	default:
		o.lose(1, errNobodyReads)
	}
	return len(text), nil
}

func (o *output) run() {
	defer close(o.ended)
	for {
		select {
		case line := <-o.queue:
			o.write(line)
		case <-o.stop:
			for len(o.queue) > 0 {
				o.write(<-o.queue)
			}
			return
		}
	}
}

// write writes a line, and those that wait behind it.
func (o *output) write(batch []byte) {
	n := int64(1)
	for ; len(batch) < outputBatch && len(o.queue) > 0; n++ {
		batch = append(batch, <-o.queue...)
	}
	if _, err := o.to.Write(batch); err != nil {
		o.lose(n, err)
	} else {
		o.trouble.Store(false)
	}
}

func (o *output) lose(n int64, err error) {
	o.lost.Add(n)
	if o.trouble.CompareAndSwap(false, true) && o.losing != nil {
		o.losing(err)
	}
}

// close waits until everything is written, but not for a reader who pauses still: a
// write that waits for one cannot be called off.
func (o *output) close() {
	close(o.stop)
	select {
	case <-o.ended:
	case <-time.After(outputFlush):
	}
}
