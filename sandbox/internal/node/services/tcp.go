package services

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// most is how many connections one address of a Service carries at once; more
// wait to be accepted.
const most = 1024

func (l *listener) listenTCP(at string, log *slog.Logger) error {
	socket, err := net.Listen("tcp4", at)
	if err != nil {
		return err
	}
	l.Closer = socket
	l.done.Go(func() {
		room := make(chan struct{}, most)
		for {
			select {
			case room <- struct{}{}:
			case <-l.ending:
				return
			}
			conn, err := socket.Accept()
			if err != nil {
				select {
				case <-l.ending:
					return
				case <-time.After(settle): // out of descriptors, say
					<-room
					continue
				}
			}
			l.done.Go(func() {
				defer func() { <-room }()
				l.carry(conn.(*net.TCPConn), at, log)
			})
		}
	})
	return nil
}

// carry connects a client with the first backend that answers.
func (l *listener) carry(client *net.TCPConn, at string, log *slog.Logger) {
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l.done.Go(func() {
		select {
		case <-l.ending:
			cancel()
		case <-ctx.Done():
		}
	})
	to := l.to.Load()
	from, _ := netip.AddrFromSlice(client.RemoteAddr().(*net.TCPAddr).IP)
	dialer := net.Dialer{Timeout: 10 * time.Second}
	var pod *net.TCPConn
	for _, backend := range to.order(from, time.Now()) {
		conn, err := dialer.DialContext(ctx, "tcp", backend)
		if err == nil {
			pod = conn.(*net.TCPConn)
			to.took(from, backend, time.Now())
			break
		}
		log.Debug("a backend of a Service does not answer", "address", at, "backend", backend, "error", err)
	}
	if pod == nil {
		client.SetLinger(0) // a reset, which is nearer to being refused than an end is
		return
	}
	defer pod.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); pod.Close() })
	defer stop()

	// Each direction ends by itself: who has said all may still listen.
	var directions sync.WaitGroup
	directions.Go(func() { pass(pod, client) })
	pass(client, pod)
	directions.Wait()
}

func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// A broken connection is broken for both.
		to.SetLinger(0)
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}
