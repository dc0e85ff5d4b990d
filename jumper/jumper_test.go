package jumper

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// probeName is what a jumper's own probes ask for at front: the first of --sni.
const probeName = "probe.example.test"

// front starts a jumper in front of one upstream with a fixed address.
func front(t testing.TB, handle func(*called), args ...string) (*running, *upstream) {
	t.Helper()
	u := serveUpstream(t, "127.0.0.1", 0, func(conn *net.TCPConn) {
		buffer := make([]byte, helloLimit)
		name, n, _ := peek(conn, buffer)
		if name != probeName {
			handle(&called{TCPConn: conn, said: io.MultiReader(bytes.NewReader(buffer[:n]), conn)})
		}
	})
	return start(t, append([]string{"--upstream", "127.0.0.1", "--upstream-port", fmt.Sprint(u.at.Port()), "--sni", probeName + "," + upstreamName + ",Jumper.Example.test"}, args...)...), u
}

// called is a client's connection at the upstream.
type called struct {
	*net.TCPConn
	said io.Reader // all of it, from the ClientHello on
}

func (c *called) Read(p []byte) (int, error)         { return c.said.Read(p) }
func (c *called) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, c.said) }

// served counts what an upstream had to do with.
func served(count *atomic.Int64) func(*called) { return func(*called) { count.Add(1) } }

func TestPass(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, upstreamName, "jumper.example.test")

	t.Run("it passes TLS through for each of its names, in any case, and says so in a line", func(t *testing.T) {
		t.Parallel()
		r, u := front(t, a.answers)
		for _, name := range []string{upstreamName, "jumper.example.test", "EKS.example.TEST"} {
			if err := r.talk(a, name, "hello"); err != nil {
				t.Fatal(err)
			}
			l := r.line(t)
			if l.Reason != reasonClosed || l.SNI != name || l.Upstream != u.at.String() || l.In < 200 || l.Out < 200 || l.Seconds <= 0 || l.ID == "" || l.Error != "" || !strings.HasPrefix(l.Client, "127.0.0.1:") {
				t.Errorf("got %+v, want a connection that has ended well", l)
			}
		}
	})

	t.Run("it names a client of an IPv4 network so, where it listens to both", func(t *testing.T) {
		t.Parallel()
		r, _ := front(t, a.answers, "--listen", ":0")
		r.listen = "127.0.0.1" + r.listen[strings.LastIndex(r.listen, ":"):]
		if err := r.talk(a, upstreamName, "hello"); err != nil {
			t.Fatal(err)
		}
		if l := r.line(t); !strings.HasPrefix(l.Client, "127.0.0.1:") {
			t.Errorf("got %s, want 127.0.0.1", l.Client)
		}
	})

	t.Run("it waits for a ClientHello that comes byte by byte", func(t *testing.T) {
		t.Parallel()
		got := make(chan []byte, 1)
		r, _ := front(t, func(conn *called) {
			all, _ := io.ReadAll(conn)
			got <- all
		})
		conn := r.dial(t)
		if err := conn.SetNoDelay(true); err != nil {
			t.Fatal(err)
		}
		want := append(cut(hello(&tls.Config{ServerName: upstreamName}), 50), "and more"...)
		for i := range want {
			if _, err := conn.Write(want[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if all := <-got; !bytes.Equal(all, want) {
			t.Errorf("got %q at the upstream, want every byte as it was sent", all)
		}
	})

	t.Run("it lets either side end, and go on listening", func(t *testing.T) {
		t.Parallel()
		for _, firstToEnd := range []string{"client", "upstream"} {
			heard := make(chan string, 1)
			r, _ := front(t, func(conn *called) {
				if firstToEnd == "client" {
					all, _ := io.ReadAll(conn) // to the client's end, and only then
					_, _ = io.WriteString(conn, "the answer")
					heard <- string(all[len(all)-len("the question"):])
					return
				}
				_, _ = io.WriteString(conn, "the answer")
				_ = conn.CloseWrite()
				all, _ := io.ReadAll(conn)
				heard <- string(all[len(all)-len("the question"):])
			})
			conn := r.dial(t)
			if _, err := conn.Write(hello(&tls.Config{ServerName: upstreamName})); err != nil {
				t.Fatal(err)
			}
			say := func() {
				if _, err := io.WriteString(conn, "the question"); err != nil {
					t.Fatal(err)
				}
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if firstToEnd == "client" {
				say()
			}
			answer, err := io.ReadAll(conn)
			if err != nil || string(answer) != "the answer" {
				t.Errorf("the %s ends first: got %q, %v, want the answer", firstToEnd, answer, err)
			}
			if firstToEnd == "upstream" {
				say()
			}
			if got := <-heard; got != "the question" {
				t.Errorf("the %s ends first: got %q at the upstream, want the question", firstToEnd, got)
			}
			if l := r.line(t); l.Reason != reasonClosed {
				t.Errorf("the %s ends first: got %+v, want closed", firstToEnd, l)
			}
		}
	})

	t.Run("it tells the other side when one breaks off, and names which", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct{ breaks, want string }{{"client", reasonClient}, {"upstream", reasonUpstream}} {
			opening, ended := hello(&tls.Config{ServerName: upstreamName}), make(chan struct{})
			r, _ := front(t, func(conn *called) {
				if _, err := io.ReadFull(conn, make([]byte, len(opening))); err != nil {
					return
				}
				_, _ = io.WriteString(conn, "the beginning")
				_, _ = conn.Read(make([]byte, 1))
				if c.breaks == "upstream" {
					_ = conn.SetLinger(0)
				}
				close(ended)
			})
			conn := r.dial(t)
			if _, err := conn.Write(opening); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, len("the beginning"))); err != nil {
				t.Fatal(err)
			}
			if c.breaks == "client" {
				_ = conn.SetLinger(0)
				conn.Close()
				<-ended
			} else {
				if _, err := io.WriteString(conn, "x"); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("got nothing at the client, want the end")
				}
			}
			if l := r.line(t); l.Reason != c.want || l.Error == "" {
				t.Errorf("got %+v, want %s and why", l, c.want)
			}
		}
	})

	t.Run("it keeps both sides alive", func(t *testing.T) {
		t.Parallel()
		l, err := listen(t.Context(), "listen", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dialled, err := connector.DialTCP(t.Context(), "tcp", netip.AddrPort{}, netip.MustParseAddrPort(l.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		defer dialled.Close()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		for side, conn := range map[string]net.Conn{"upstream": dialled, "client": accepted} {
			raw, err := conn.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var on, idle int
			if err := raw.Control(func(fd uintptr) {
				on, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
				idle, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
			}); err != nil {
				t.Fatal(err)
			}
			if on != 1 || idle != 30 {
				t.Errorf("got keep-alive %d after %d s toward the %s, want 1 after 30", on, idle, side)
			}
		}
	})
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		sends  []byte
		ends   bool   // the client then says that this was all
		want   string // of the reason
		answer []byte
	}{
		{"a name that is not allowed", hello(&tls.Config{ServerName: "elsewhere.example.test"}), false, reasonName, unrecognizedName},
		{"a name that only ends like one that is", hello(&tls.Config{ServerName: "x" + upstreamName}), false, reasonName, unrecognizedName},
		{"no name", hello(&tls.Config{ServerName: "127.0.0.1"}), false, reasonNoName, unrecognizedName},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: eks.example.test\r\n\r\n"), false, reasonNotTLS, nil},
		{"a malformed ClientHello", withExtensions([]byte{0, 5, 0, 9}), false, reasonNotTLS, nil},
		{"a ClientHello that says it is long", []byte{22, 3, 1, 1, 0, 1, 1, 0, 0}, false, reasonHelloLimit, nil},
		{"a client that closes before it says anything", nil, true, reasonNoHello, nil},
		{"a client that closes in the middle", hello(&tls.Config{ServerName: upstreamName})[:60], true, reasonNoHello, nil},
	} {
		t.Run("it closes on "+c.name, func(t *testing.T) {
			t.Parallel()
			var count atomic.Int64
			r, u := front(t, served(&count))
			conn := r.dial(t)
			if _, err := conn.Write(c.sends); err != nil {
				t.Fatal(err)
			}
			if c.ends {
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			answer, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) || c.answer != nil && !bytes.Equal(answer, c.answer) {
				t.Errorf("got %q, %v, want %q and the end", answer, err, c.answer)
			}
			if l := r.line(t); l.Reason != c.want || l.Upstream != "" || l.In != 0 {
				t.Errorf("got %+v, want %s and nothing passed", l, c.want)
			}
			r.metric(t, fmt.Sprintf("connections_total{reason=%q}", c.want), "1")
			r.metric(t, "streams", "0")
			u.Close()
			if u.serving.Wait(); count.Load() != 0 {
				t.Errorf("got %d connections at the upstream, want none", count.Load())
			}
		})
	}

	t.Run("it closes on who is slow, all at once, and serves others meanwhile", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t, upstreamName)
		r, _ := front(t, a.answers)
		const slow = 50
		var waiting sync.WaitGroup
		for i := range slow {
			conn := r.dial(t)
			waiting.Go(func() {
				done := make(chan struct{})
				go func() { defer close(done); _, _ = io.Copy(io.Discard, conn) }()
				if i%2 == 0 { // half of them say a byte now and then, the others nothing
					whole := hello(&tls.Config{ServerName: upstreamName})
					for n := range len(whole) - 1 {
						if _, err := conn.Write(whole[n : n+1]); err != nil {
							break
						}
						select {
						case <-done:
							return
						case <-time.After(200 * time.Millisecond):
						}
					}
				}
				<-done
			})
		}
		if err := r.talk(a, upstreamName, "meanwhile"); err != nil {
			t.Error(err)
		}
		waiting.Wait()
		reasons := map[string]int{}
		for range slow + 1 {
			reasons[r.line(t).Reason]++
		}
		if reasons[reasonHelloTime] != slow || reasons[reasonClosed] != 1 {
			t.Errorf("got %v, want %d slow ones and the one served", reasons, slow)
		}
	})

	t.Run("it outlives any garbage", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t, upstreamName)
		r, _ := front(t, a.answers)
		random := rand.NewChaCha8([32]byte{1})
		good := hello(&tls.Config{ServerName: upstreamName})
		var sending sync.WaitGroup
		const all = 500
		for i := range all {
			garbage := bytes.Clone(good)
			switch i % 3 {
			case 0: // noise
				_, _ = random.Read(garbage)
			case 1: // noise in a record
				_, _ = random.Read(garbage[recordHeader+1:])
			case 2: // a hello with one byte changed, then more noise than it may have
				garbage[i%len(garbage)] ^= byte(1 + i/3)
				noise := make([]byte, 2*helloLimit)
				_, _ = random.Read(noise)
				garbage = append(garbage, noise...)
			}
			conn := r.dial(t)
			sending.Go(func() {
				_, _ = conn.Write(garbage)
				_ = conn.CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			})
		}
		sending.Wait()
		for range all {
			r.line(t)
		}
		if err := r.talk(a, upstreamName, "still here"); err != nil {
			t.Error(err)
		}
		r.metric(t, "streams", "0")
	})

	t.Run("it serves who says a hello where others open connections and say none", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t, upstreamName)
		r, _ := front(t, a.answers, "--max-connections", "2")
		silent := r.dial(t)
		r.dial(t)
		r.metric(t, "streams", "2")
		if err := r.talk(a, upstreamName, "between them"); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, silent); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("got the first who said nothing still there, want it closed")
		}
		reasons := map[string]int{}
		for range 2 {
			reasons[r.line(t).Reason]++
		}
		if reasons[reasonTooMany] != 1 || reasons[reasonClosed] != 1 {
			t.Errorf("got %v, want one that gave way and one served", reasons)
		}
	})

	t.Run("it does not log what is longer than a name", func(t *testing.T) {
		t.Parallel()
		r, _ := front(t, served(new(atomic.Int64)))
		long := bytes.Repeat([]byte("x"), 4000)
		extension := append([]byte{0}, binary.BigEndian.AppendUint16(nil, uint16(len(long)))...)
		extension = append(binary.BigEndian.AppendUint16(nil, uint16(len(long)+3)), append(extension, long...)...)
		extension = append([]byte{0, 0}, append(binary.BigEndian.AppendUint16(nil, uint16(len(extension))), extension...)...)
		if _, err := r.dial(t).Write(withExtensions(extension)); err != nil {
			t.Fatal(err)
		}
		if l := r.line(t); l.Reason != reasonName || l.SNI != string(long[:longestName]) {
			t.Errorf("got %s and %d bytes of a name, want %s and %d", l.Reason, len(l.SNI), reasonName, longestName)
		}
	})

	t.Run("it closes on who comes when there are enough, and takes the next when one has gone", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t, upstreamName)
		r, _ := front(t, a.answers, "--max-connections", "2")
		one, err := r.client(t, a, upstreamName)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.client(t, a, upstreamName); err != nil {
			t.Fatal(err)
		}
		if err := r.talk(a, upstreamName, "too many"); err == nil {
			t.Error("got a third connection, want none")
		}
		if l := r.line(t); l.Reason != reasonTooMany {
			t.Errorf("got %+v, want %s", l, reasonTooMany)
		}
		if err := echoed(one, "done"); err != nil {
			t.Error(err)
		}
		one.Close()
		r.metric(t, "streams", "1")
		r.line(t)
		// The place is free a moment after the line is written.
		for deadline := time.Now().Add(patience); r.talk(a, upstreamName, "next") != nil; {
			if time.Now().After(deadline) {
				t.Fatal("got no connection after one has gone")
			}
		}
	})
}

func TestReady(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, upstreamName)
	other := newAuthority(t, upstreamName)
	wrong := newAuthority(t, "elsewhere.example.test")
	private := newAuthority(t, "private.example.test")
	expired := a.expired()

	t.Run("it is ready once the upstream has proven itself, and lives all the while", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		u := serveUpstream(t, "127.0.0.1", 0, a.echoes)
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(u.at.Port()), "--ca", a.file, "--dns", d.at.String(), "--refresh", "20ms")
		if code, body := r.get(t, "/livez"); code != 200 || body != "ok\n" {
			t.Errorf("got %d %q, want it to live", code, body)
		}
		r.until(t, "/readyz", func(code int, body string) bool {
			return code == 503 && strings.Contains(body, errNoAddress.Error()) && strings.Contains(body, errNoSuchName.Error())
		})
		r.metric(t, "ready", "0")
		d.has(upstreamName, time.Minute, "127.0.0.1")
		r.until(t, "/readyz", func(code int, body string) bool { return code == 200 && body == "ok\n" })
		r.metric(t, "ready", "1")
		for _, path := range []string{"/", "/readyz/", "/debug/pprof/"} {
			if code, _ := r.get(t, path); code != 404 {
				t.Errorf("got %d of %s, want nothing there", code, path)
			}
		}
	})

	for _, c := range []struct {
		name     string
		upstream *authority
		ca       *authority // of --ca, if any
		says     string     // what is wrong
	}{
		{"is ready in front of a certificate of the CA", a, a, ""},
		{"is not ready in front of another CA's", other, a, "signed by unknown authority"},
		{"is not ready in front of another name's", wrong, wrong, "not " + upstreamName},
		{"is not ready in front of one that is over", expired, a, "expired"},
		{"is ready in front of one for a name of --sni", private, private, ""},
		{"is ready without --ca in front of the name", other, nil, ""},
		{"is not ready without --ca in front of another name", wrong, nil, "not " + upstreamName},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			d := serveDNS(t)
			d.has(upstreamName, time.Minute, "127.0.0.1")
			u := serveUpstream(t, "127.0.0.1", 0, c.upstream.echoes)
			args := []string{"--upstream", upstreamName, "--upstream-port", fmt.Sprint(u.at.Port()), "--dns", d.at.String(), "--sni", upstreamName + ",private.example.test."}
			if c.ca != nil {
				args = append(args, "--ca", c.ca.file)
			}
			r := start(t, args...)
			r.until(t, "/readyz", func(code int, body string) bool {
				if c.says == "" {
					return code == 200
				}
				return code == 503 && strings.Contains(body, c.says)
			})
		})
	}

	t.Run("it asks an upstream that is an address for the first name of --sni", func(t *testing.T) {
		t.Parallel()
		asked := make(chan string, 1)
		u := serveUpstream(t, "127.0.0.1", 0, func(conn *net.TCPConn) {
			_ = tls.Server(conn, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				select {
				case asked <- hello.ServerName:
				default:
				}
				return &a.certificate, nil
			}}).Handshake()
		})
		r := start(t, "--upstream", "127.0.0.1", "--upstream-port", fmt.Sprint(u.at.Port()), "--ca", a.file, "--sni", strings.ToUpper(upstreamName)+".,other.example.test")
		r.until(t, "/readyz", func(code int, _ string) bool { return code == 200 })
		if got := <-asked; got != upstreamName {
			t.Errorf("got %q asked for, want %s", got, upstreamName)
		}
	})

	t.Run("it answers GET and HEAD, and nothing else", func(t *testing.T) {
		t.Parallel()
		r, _ := front(t, served(new(atomic.Int64)))
		for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405, "OPTIONS": 405} {
			request, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.ready+"/livez", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("got %d to %s, want %d", response.StatusCode, method, want)
			}
		}
	})

	t.Run("it is ready as long as one address proves itself", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		u := serveUpstream(t, "127.0.0.1", 0, a.echoes)
		serveUpstream(t, "127.0.0.2", u.at.Port(), other.echoes)
		d.has(upstreamName, time.Minute, "127.0.0.1", "127.0.0.2", "127.0.0.3")
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(u.at.Port()), "--ca", a.file, "--dns", d.at.String())
		r.until(t, "/readyz", func(code int, _ string) bool { return code == 200 })
	})
}

func TestAddressChange(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, upstreamName)

	t.Run("it loses no new connection of 200 a second while the address changes 50 times", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		host := func(i int) string { return fmt.Sprintf("127.0.1.%d", i) }
		// What passes is a ClientHello and an answer: with TLS on both sides, the test
		// would be about the machine.
		greeting := hello(&tls.Config{ServerName: upstreamName})
		answers := func(conn *net.TCPConn) {
			if _, _, err := peek(conn, make([]byte, helloLimit)); err == nil {
				_, _ = io.WriteString(conn, "here")
			}
		}
		u := serveUpstream(t, host(1), 0, answers)
		d.has(upstreamName, time.Second, host(1))
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(u.at.Port()), "--dns", d.at.String(), "--refresh", "50ms")
		talk := func() error {
			conn, err := net.Dial("tcp", r.listen)
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write(greeting); err != nil {
				return err
			}
			if answer, err := io.ReadAll(conn); err != nil || string(answer) != "here" {
				return fmt.Errorf("got %q, %w, want here", answer, err)
			}
			return nil
		}
		// Connections are opened on time, unless 200 are open: then the machine is too
		// slow for 200 a second, and the rate below says so.
		var (
			began             = time.Now()
			opened, completed atomic.Int64
			open              = make(chan struct{}, 200)
			opening, talking  sync.WaitGroup
			stop              = make(chan struct{})
		)
		halt := sync.OnceFunc(func() { close(stop) })
		defer halt()
		r.metric(t, "addresses", "1")
		opening.Go(func() {
			for due := began; ; due = due.Add(time.Second / 200) {
				select {
				case <-stop:
					return
				case <-time.After(time.Until(due)):
				}
				open <- struct{}{}
				opened.Add(1)
				talking.Go(func() {
					if err := talk(); err != nil {
						t.Errorf("connection lost: %v", err)
					} else {
						completed.Add(1)
					}
					<-open
				})
			}
		})
		for i := 2; i <= 51; i++ {
			next := serveUpstream(t, host(i), u.at.Port(), answers)
			d.has(upstreamName, time.Second, host(i))
			u.Close() // whoever is on the way there, and whoever waits there to be accepted, has to go elsewhere
			r.metric(t, "address_changes_total", fmt.Sprint(i-1))
			<-next.arrived
			u = next
		}
		halt()
		opening.Wait()
		talking.Wait()
		if opened.Load() != completed.Load() {
			for range opened.Load() {
				if l := r.line(t); l.Reason != reasonClosed {
					t.Logf("lost: %+v", l)
				}
			}
			t.Errorf("got %d opened and %d completed, want the same", opened.Load(), completed.Load())
		}
		t.Logf("50 changes, %d opened, %d completed, %.0f a second", opened.Load(), completed.Load(), float64(opened.Load())/time.Since(began).Seconds())
	})

	t.Run("it finds the new address when the old one refuses before its record's time is over", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		old := serveUpstream(t, "127.0.2.1", 0, a.echoes)
		d.has(upstreamName, time.Hour, "127.0.2.1")
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(old.at.Port()), "--dns", d.at.String())
		if err := r.talk(a, upstreamName, "before"); err != nil {
			t.Fatal(err)
		}
		serveUpstream(t, "127.0.2.2", old.at.Port(), a.echoes)
		d.has(upstreamName, time.Hour, "127.0.2.2")
		old.Close()
		if err := r.talk(a, upstreamName, "after"); err != nil {
			t.Error(err)
		}
		r.metric(t, "dial_errors_total", "1")
	})

	t.Run("it goes elsewhere when an address breaks off before it has accepted the connection", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		old, err := net.Listen("tcp", "127.0.2.9:0") // accepts none
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		port := uint16(old.Addr().(*net.TCPAddr).Port)
		d.has(upstreamName, time.Hour, "127.0.2.9")
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(port), "--dns", d.at.String())
		talked := make(chan error, 1)
		go func() { talked <- r.talk(a, upstreamName, "where to") }()
		r.metric(t, "streams", "1")
		serveUpstream(t, "127.0.2.10", port, a.echoes)
		d.has(upstreamName, time.Hour, "127.0.2.10")
		old.Close()
		if err := <-talked; err != nil {
			t.Error(err)
		}
		if l := r.line(t); !strings.HasPrefix(l.Upstream, "127.0.2.10:") || l.Reason != reasonClosed || l.In < 200 {
			t.Errorf("got %+v, want the new address", l)
		}
	})

	t.Run("it lets streams be when their address leaves the DNS", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		old := serveUpstream(t, "127.0.2.3", 0, a.echoes)
		serveUpstream(t, "127.0.2.4", old.at.Port(), a.echoes)
		d.has(upstreamName, time.Second, "127.0.2.3")
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(old.at.Port()), "--dns", d.at.String(), "--refresh", "20ms")
		conn, err := r.client(t, a, upstreamName)
		if err != nil {
			t.Fatal(err)
		}
		d.has(upstreamName, time.Second, "127.0.2.4")
		r.metric(t, "address_changes_total", "1")
		if err := echoed(conn, "still the old one"); err != nil {
			t.Error(err)
		}
		conn.Close()
		if l := r.line(t); !strings.HasPrefix(l.Upstream, "127.0.2.3:") || l.Reason != reasonClosed {
			t.Errorf("got %+v, want the old address", l)
		}
	})

	t.Run("it closes idle streams of an address that has been gone for --close-vanished", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		old := serveUpstream(t, "127.0.2.5", 0, a.echoes)
		serveUpstream(t, "127.0.2.6", old.at.Port(), a.echoes)
		d.has(upstreamName, time.Second, "127.0.2.5")
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(old.at.Port()), "--dns", d.at.String(), "--refresh", "20ms", "--close-vanished", "200ms")
		if _, err := r.client(t, a, upstreamName); err != nil {
			t.Fatal(err)
		}
		d.has(upstreamName, time.Second, "127.0.2.6")
		if l := r.line(t); l.Reason != reasonVanished {
			t.Errorf("got %+v, want %s", l, reasonVanished)
		}
	})

	t.Run("it closes streams at --max-age", func(t *testing.T) {
		t.Parallel()
		r, _ := front(t, a.answers, "--max-age", "100ms")
		if _, err := r.dial(t).Write(hello(&tls.Config{ServerName: upstreamName})); err != nil {
			t.Fatal(err)
		}
		if l := r.line(t); l.Reason != reasonMaxAge {
			t.Errorf("got %+v, want %s", l, reasonMaxAge)
		}
	})

	t.Run("it serves from what it knows while the DNS fails, and follows it when it is back", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		u := serveUpstream(t, "127.0.2.7", 0, a.echoes)
		d.has(upstreamName, time.Second, "127.0.2.7")
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(u.at.Port()), "--ca", a.file, "--dns", d.at.String(), "--refresh", "20ms")
		r.until(t, "/readyz", func(code int, _ string) bool { return code == 200 })
		d.says(dnsmessage.RCodeServerFailure)
		r.until(t, "/metrics", func(_ int, body string) bool { return !strings.Contains(body, "biplane_jumper_stale_seconds 0\n") })
		for range 20 {
			if err := r.talk(a, upstreamName, "stale"); err != nil {
				t.Error(err)
			}
		}
		if code, body := r.get(t, "/readyz"); code != 200 {
			t.Errorf("got %d %q, want it ready", code, body)
		}
		serveUpstream(t, "127.0.2.8", u.at.Port(), a.echoes)
		d.has(upstreamName, time.Second, "127.0.2.8")
		r.metric(t, "address_changes_total", "1")
		r.metric(t, "stale_seconds", "0")
	})

	t.Run("it says that no address takes the connection", func(t *testing.T) {
		t.Parallel()
		r, u := front(t, a.answers)
		u.Close()
		if err := r.talk(a, upstreamName, "anybody"); err == nil {
			t.Error("got an echo, want the end")
		}
		if l := r.line(t); l.Reason != reasonUnreachable || !strings.Contains(l.Error, "refused") {
			t.Errorf("got %+v, want %s", l, reasonUnreachable)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, upstreamName)

	t.Run("it lets streams go on at its end, takes no new ones, is not ready, and exits 0 with the last", func(t *testing.T) {
		t.Parallel()
		d := serveDNS(t)
		u := serveUpstream(t, "127.0.0.1", 0, a.echoes)
		d.has(upstreamName, time.Minute, "127.0.0.1")
		r := start(t, "--upstream", upstreamName, "--upstream-port", fmt.Sprint(u.at.Port()), "--ca", a.file, "--dns", d.at.String(), "--drain", "1h")
		r.until(t, "/readyz", func(code int, _ string) bool { return code == 200 })
		conn, err := r.client(t, a, upstreamName)
		if err != nil {
			t.Fatal(err)
		}
		r.stop()
		r.until(t, "/readyz", func(code int, body string) bool { return code == 503 && strings.Contains(body, "draining") })
		if code, _ := r.get(t, "/livez"); code != 200 {
			t.Errorf("got %d, want it to live", code)
		}
		for {
			late, err := net.Dial("tcp", r.listen)
			if err != nil {
				break
			}
			late.Close() // the port is closed a moment after /readyz has changed
		}
		if err := echoed(conn, "still here"); err != nil {
			t.Error(err)
		}
		conn.Close()
		if code := <-r.exit; code != 0 {
			t.Errorf("got exit status %d, want 0", code)
		}
	})

	t.Run("it cuts streams after --drain, and exits 0", func(t *testing.T) {
		t.Parallel()
		r, _ := front(t, a.answers, "--drain", "50ms")
		if _, err := r.client(t, a, upstreamName); err != nil {
			t.Fatal(err)
		}
		r.stop()
		if l := r.line(t); l.Reason != reasonDrained {
			t.Errorf("got %+v, want %s", l, reasonDrained)
		}
		if code := <-r.exit; code != 0 {
			t.Errorf("got exit status %d, want 0", code)
		}
	})

	t.Run("it serves while nobody reads its log, and exits 0", func(t *testing.T) {
		t.Parallel()
		u := serveUpstream(t, "127.0.0.1", 0, a.echoes)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, unread := io.Pipe()
		listening, stderr := io.Pipe()
		exit := make(chan int, 1)
		go func() {
			exit <- Run(ctx, []string{"--listen", "127.0.0.1:0", "--ready", "127.0.0.1:0", "--upstream", "127.0.0.1", "--upstream-port", fmt.Sprint(u.at.Port()), "--sni", upstreamName}, unread, stderr)
		}()
		var first struct{ Listen string }
		if err := json.NewDecoder(listening).Decode(&first); err != nil { // and nothing more of it
			t.Fatal(err)
		}
		for range 3 {
			if err := (&running{listen: first.Listen}).talk(a, upstreamName, "unheard of"); err != nil {
				t.Error(err)
			}
		}
		cancel()
		select {
		case code := <-exit:
			if code != 0 {
				t.Errorf("got exit status %d, want 0", code)
			}
		case <-time.After(patience):
			t.Error("got no end, want one")
		}
	})

	t.Run("it exits at once without streams", func(t *testing.T) {
		t.Parallel()
		r, _ := front(t, a.answers, "--drain", "1h")
		r.stop()
		if code := <-r.exit; code != 0 {
			t.Errorf("got exit status %d, want 0", code)
		}
	})
}
