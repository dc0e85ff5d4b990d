package services

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// quiet is how long a client of UDP is remembered after its last word; there is
// no other end to see.
const quiet = time.Minute

func (l *listener) listenUDP(at string, log *slog.Logger) error {
	local, err := net.ResolveUDPAddr("udp4", at)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp4", local)
	if err != nil {
		return err
	}
	l.Closer = socket
	var mu sync.Mutex
	pods := map[netip.AddrPort]*net.UDPConn{} // by client

	// answers carries what a backend says back to its client.
	answers := func(client netip.AddrPort, pod *net.UDPConn) {
		defer func() {
			pod.Close()
			mu.Lock()
			delete(pods, client)
			mu.Unlock()
		}()
		buffer := make([]byte, 64<<10)
		for {
			n, err := pod.Read(buffer)
			if err != nil {
				return // quiet for too long, refused, or stopped
			}
			if _, err := socket.WriteToUDPAddrPort(buffer[:n], client); err != nil {
				return
			}
		}
	}

	l.done.Go(func() {
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			for _, pod := range pods {
				pod.Close()
			}
		}()
		buffer := make([]byte, 64<<10)
		for {
			n, client, err := socket.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // that of an earlier answer to a client that has gone
			}
			mu.Lock()
			pod, known := pods[client]
			full := len(pods) >= most
			mu.Unlock()
			if !known {
				if full {
					continue // datagrams may be lost
				}
				pod = l.dialUDP(client.Addr(), at, log)
				if pod == nil {
					continue
				}
				mu.Lock()
				pods[client] = pod
				mu.Unlock()
				l.done.Go(func() { answers(client, pod) })
			}
			pod.SetReadDeadline(time.Now().Add(quiet))
			pod.Write(buffer[:n])
		}
	})
	return nil
}

func (l *listener) dialUDP(client netip.Addr, at string, log *slog.Logger) *net.UDPConn {
	to := l.to.Load()
	for _, backend := range to.order(client, time.Now()) {
		remote, err := net.ResolveUDPAddr("udp", backend)
		if err != nil {
			continue
		}
		pod, err := net.DialUDP("udp", nil, remote)
		if err == nil {
			to.took(client, backend, time.Now())
			return pod
		}
		log.Debug("a backend of a Service cannot be sent to", "address", at, "backend", backend, "error", err)
	}
	return nil
}
