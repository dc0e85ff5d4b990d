package proxy

import (
	"bufio"
	"context"
	"net"
	"sync"
)

// clientConn is a connection that was taken over from an HTTP server, which may
// have read the first bytes already.
type clientConn struct {
	net.Conn
	reader *bufio.Reader
	outer  context.Context // of the request that brought it
	free   func()
	once   sync.Once
}

// Read implements net.Conn.
func (c *clientConn) Read(b []byte) (int, error) {
	if c.reader.Buffered() > 0 {
		return c.reader.Read(b[:min(len(b), c.reader.Buffered())])
	}
	return c.Conn.Read(b)
}

// Close implements net.Conn.
func (c *clientConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}
