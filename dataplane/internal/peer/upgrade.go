package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Conn is a connection whose two directions end apart.
type Conn struct {
	*tls.Conn
	buffered *bufio.Reader // has what came with the answer
}

func (c *Conn) Read(b []byte) (int, error) { return c.buffered.Read(b) }

// Upgrade asks the peer at address (host:port) to speak another protocol on the
// connection, which is then the caller's: HTTP/1.1 with Upgrade, since HTTP/2 has
// none.
func Upgrade(ctx context.Context, options Options, address, path, protocol string) (*Conn, error) {
	options = options.withDefaults()
	token, err := (&token{file: options.TokenFile}).read()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", protocol)

	conn, err := dial(ctx, options, "tcp", address, "http/1.1")
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", address, err)
	}
	buffered, err := upgrade(ctx, conn, request)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("asking %s for %s: %w", address, protocol, err)
	}
	return &Conn{Conn: conn, buffered: buffered}, nil
}

func upgrade(ctx context.Context, conn *tls.Conn, request *http.Request) (*bufio.Reader, error) {
	deadline := time.Now().Add(dialTimeout)
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(deadline) {
		deadline = sooner
	}
	conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	buffered := bufio.NewReader(conn)
	err := request.Write(conn)
	if err == nil {
		err = switched(buffered, request)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	conn.SetDeadline(time.Time{})
	return buffered, err
}

// switched reads the answer, of which 101 is the good one.
func switched(reader *bufio.Reader, request *http.Request) error {
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	defer response.Body.Close()
	const most = 200 // of a sentence
	said, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return fmt.Errorf("got %s", response.Status)
	}
	return fmt.Errorf("got %s: %s", response.Status, bytes.TrimSpace(said))
}
