package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Dial connects to the gateway at address (host:port) and returns once it has
// been accepted there. config is as ClientTLS makes it. A *RefusedError says in
// the peer's words why it was not.
func Dial(ctx context.Context, address string, config *tls.Config, options Options) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	socket, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", address, err)
	}
	session, err := establish(ctx, socket, address, config, options)
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("opening a tunnel to %s: %w", address, err)
	}
	return session, nil
}

func establish(ctx context.Context, socket net.Conn, address string, config *tls.Config, options Options) (*Session, error) {
	config = config.Clone()
	config.NextProtos = []string{ALPN}
	config.MinVersion = tls.VersionTLS13
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		config.ServerName = host
	}
	conn := tls.Client(socket, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return nil, fmt.Errorf("handshaking: the peer's CA is none of those that came with our certificate; "+
				"if it was rotated while we were away, we have to join anew: %w", err)
		}
		return nil, fmt.Errorf("handshaking: %w", err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != ALPN {
		return nil, fmt.Errorf("handshaking: the peer speaks %q, not %s", got, ALPN)
	}
	// In TLS 1.3 the server looks at our certificate after we are done: that it was
	// refused shows here.
	stop := context.AfterFunc(ctx, func() { socket.SetDeadline(time.Unix(1, 0)) })
	line, err := readLine(conn, maxReason)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("waiting to be accepted: %w", err)
	}
	if reason, refused := strings.CutPrefix(line, "refused "); refused {
		return nil, &RefusedError{Reason: reason}
	}
	if line != "ok" {
		return nil, errors.New("waiting to be accepted: the peer does not speak our language")
	}
	return newSession(newLink(conn, socket), true, options)
}

// Accept makes a session of a connection whose handshake is done, whose
// protocol is ALPN, and whose client certificate the caller has judged.
func Accept(conn *tls.Conn, options Options) (*Session, error) {
	if err := greet(conn, "ok"); err != nil {
		return nil, err
	}
	return newSession(newLink(conn, conn.NetConn()), false, options)
}

// Refuse tells the dialling side why not, in one sentence, and closes conn.
func Refuse(conn *tls.Conn, reason string) error {
	defer conn.Close()
	reason = strings.ReplaceAll(reason, "\n", " ")
	return greet(conn, "refused "+reason[:min(len(reason), maxReason-len("refused "))])
}

func greet(conn *tls.Conn, line string) error {
	conn.SetWriteDeadline(time.Now().Add(handshakeLimit))
	defer conn.SetWriteDeadline(time.Time{})
	if _, err := conn.Write([]byte(line + "\n")); err != nil {
		return fmt.Errorf("greeting the peer: %w", err)
	}
	return nil
}
