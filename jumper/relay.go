package jumper

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// A buffer is 32 KiB: a stream whose reader has paused keeps one in each direction
// that is stuck, and is to stay below 60 KiB with it. It is enough to be faster than
// HAProxy (docs/jumper.md).
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// relay copies from src to dst until src has said all, and then tells dst so. It
// counts what it has passed. Of the two errors one at most is set.
//
// It takes a buffer only once there is something to read, so that an idle stream
// has none. io.Copy between two TCP connections splices instead, with a pipe for
// each direction that it keeps while it waits: two more descriptors, and, of an
// unprivileged user, memory that the kernel soon refuses (pipe-user-pages-soft).
func relay(dst *net.TCPConn, src *side, passed *atomic.Int64) (reading, writing error) {
	raw, err := src.conn.SyscallConn()
	if err != nil {
		return err, nil
	}
	var (
		buffer *[32 << 10]byte
		n      int
		failed error
	)
	read := func(fd uintptr) bool {
		buffer = buffers.Get().(*[32 << 10]byte)
		for {
			n, failed = syscall.Read(int(fd), buffer[:])
			if failed != syscall.EINTR {
				break
			}
		}
		if failed == syscall.EAGAIN {
			buffers.Put(buffer)
			return false // wait, with nothing in hand
		}
		return true
	}
	for {
		if err := raw.Read(read); err != nil {
			return err, nil
		}
		if failed == nil && n > 0 {
			m, err := dst.Write(buffer[:n])
			passed.Add(int64(m))
			buffers.Put(buffer)
			if err != nil {
				return nil, err
			}
			continue
		}
		buffers.Put(buffer)
		if failed != nil {
			return failed, nil
		}
		src.said.Store(true)
		if err := dst.CloseWrite(); err != nil {
			return nil, err
		}
		return nil, nil
	}
}
