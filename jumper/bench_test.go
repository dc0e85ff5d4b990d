package jumper

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	program = flag.String("jumper", "../bin/biplane-jumper", "the jumper to measure")
	haproxy = flag.String("haproxy", "/usr/sbin/haproxy", "the HAProxy to measure beside it")
	rounds  = flag.Int("rounds", 9, "how often each is measured, in turn")
	idle    = flag.Int("idle", 5000, "how many connections are idle")
)

// contender is a proxy in front of the upstream, in a process of its own.
type contender struct {
	name, listen string
	pid          int
}

// contenders starts both.
func contenders(b *testing.B, upstream string) []contender {
	b.Helper()
	for path, made := range map[string]string{*program: "make build", *haproxy: "test/haproxy/setup.sh"} {
		if _, err := os.Stat(path); err != nil {
			b.Fatalf("%v: run '%s' first", err, made)
		}
	}
	host, port, err := net.SplitHostPort(upstream)
	if err != nil {
		b.Fatal(err)
	}
	run := func(cmd *exec.Cmd) int {
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}

	ours := exec.Command(*program, "--upstream", host, "--upstream-port", port, "--sni", upstreamName, "--listen", "127.0.0.1:0", "--ready", "127.0.0.1:0")
	stderr, err := ours.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	jumper := contender{name: "jumper", pid: run(ours)}
	said := bufio.NewReader(stderr)
	first, err := said.ReadBytes('\n')
	if err != nil {
		b.Fatal(err)
	}
	var listening struct{ Listen string }
	if err := json.Unmarshal(first, &listening); err != nil {
		b.Fatal(err)
	}
	jumper.listen = listening.Listen
	go func() { _, _ = io.Copy(io.Discard, said) }()

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	free.Close()
	file := filepath.Join(b.TempDir(), "haproxy.cfg")
	config := fmt.Sprintf("global\n  maxconn 6000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\nlisten front\n  bind %s\n  server upstream %s\n", free.Addr(), upstream)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	theirs := contender{name: "haproxy", listen: free.Addr().String(), pid: run(exec.Command(*haproxy, "-db", "-q", "-f", file))}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", theirs.listen); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			b.Fatal("got no HAProxy that listens")
		}
	}
	return []contender{jumper, theirs}
}

// A byte behind the hello tells the upstream who speaks.
const (
	upstreamSpeaks = 'd' // until the client is gone
	clientSpeaks   = 'u' // and the upstream counts
	upstreamEnds   = 'c' // with a byte
)

// speaker is an upstream that speaks or listens, as fast as it can.
type speaker struct {
	opening []byte
	heard   atomic.Int64
}

func (s *speaker) serve(conn *net.TCPConn) {
	first := make([]byte, len(s.opening)+1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return
	}
	switch first[len(s.opening)] {
	case upstreamSpeaks:
		speak(conn)
	case clientSpeaks:
		listenTo(conn, &s.heard)
	case upstreamEnds:
		_, _ = conn.Write(first[:1])
	}
}

func speak(conn net.Conn) {
	for data := make([]byte, 256<<10); ; {
		if _, err := conn.Write(data); err != nil {
			return
		}
	}
}

func listenTo(conn net.Conn, heard *atomic.Int64) {
	for data := make([]byte, 256<<10); ; {
		n, err := conn.Read(data)
		heard.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// compare measures both for a second in turn, and reports the middle of each, and
// what processor time the jumper took for as much as HAProxy: that is the same on a
// machine with other work.
func compare(b *testing.B, both []contender, unit string, measure func(contender) float64) {
	for b.Loop() {
		got, took := map[string][]float64{}, map[string]float64{}
		for range *rounds {
			for _, c := range both {
				before := processor(b, c.pid)
				got[c.name] = append(got[c.name], measure(c))
				took[c.name] += processor(b, c.pid) - before
			}
		}
		each := func(name string) float64 {
			sum := 0.0
			for _, one := range got[name] {
				sum += one
			}
			return took[name] / sum
		}
		b.ReportMetric(each("jumper")/each("haproxy"), "processor-ratio")
		middle := func(name string) float64 { slices.Sort(got[name]); return got[name][*rounds/2] }
		b.ReportMetric(middle("jumper"), unit+"-jumper")
		b.ReportMetric(middle("haproxy"), unit+"-haproxy")
		b.ReportMetric(middle("jumper")/middle("haproxy"), "ratio")
	}
}

// BenchmarkThroughput is what one machine carries with the jumper and with HAProxy
// in TCP mode, in turn, in one run, in each direction.
func BenchmarkThroughput(b *testing.B) {
	s := &speaker{opening: hello(&tls.Config{ServerName: upstreamName})}
	both := contenders(b, serveUpstream(b, "127.0.0.1", 0, s.serve).at.String())
	for _, direction := range []struct {
		name string
		byte byte
	}{{"to-client", upstreamSpeaks}, {"to-upstream", clientSpeaks}} {
		for _, streams := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/streams=%d", direction.name, streams), func(b *testing.B) {
				compare(b, both, "MB/s", func(c contender) float64 { return s.carry(b, c, streams, direction.byte) })
			})
		}
	}
}

// carry passes bytes through c for a second.
func (s *speaker) carry(b *testing.B, c contender, streams int, direction byte) float64 {
	var passing sync.WaitGroup
	s.heard.Store(0)
	began := time.Now()
	for range streams {
		conn, err := net.Dial("tcp", c.listen)
		if err != nil {
			b.Fatal(err)
		}
		_ = conn.SetDeadline(began.Add(time.Second))
		if _, err := conn.Write(append(slices.Clone(s.opening), direction)); err != nil {
			b.Fatal(err)
		}
		passing.Go(func() {
			defer conn.Close()
			if direction == clientSpeaks {
				speak(conn)
			} else {
				listenTo(conn, &s.heard)
			}
		})
	}
	passing.Wait()
	return float64(s.heard.Load()) / 1e6 / time.Since(began).Seconds()
}

// BenchmarkConnections is how many connections a second 16 clients open, one after
// the other, with a hello and an answer.
func BenchmarkConnections(b *testing.B) {
	s := &speaker{opening: hello(&tls.Config{ServerName: upstreamName})}
	both := contenders(b, serveUpstream(b, "127.0.0.1", 0, s.serve).at.String())
	compare(b, both, "connections/s", func(c contender) float64 {
		var clients sync.WaitGroup
		var done atomic.Int64
		began := time.Now()
		for range 16 {
			clients.Go(func() {
				for time.Since(began) < time.Second {
					conn, err := net.Dial("tcp", c.listen)
					if err != nil {
						b.Error(err)
						return
					}
					_ = conn.SetDeadline(time.Now().Add(patience))
					_, _ = conn.Write(append(slices.Clone(s.opening), upstreamEnds))
					if answer, err := io.ReadAll(conn); err != nil || len(answer) != 1 {
						b.Errorf("got %q, %v, want a byte", answer, err)
					}
					conn.Close()
					done.Add(1)
				}
			})
		}
		clients.Wait()
		return float64(done.Load()) / time.Since(began).Seconds()
	})
}

// BenchmarkIdle is the memory of a connection that is idle after it was used, of
// the process: what the kernel keeps for the sockets is the same for every proxy.
func BenchmarkIdle(b *testing.B) {
	opening := hello(&tls.Config{ServerName: upstreamName})
	u := serveUpstream(b, "127.0.0.1", 0, func(conn *net.TCPConn) {
		_, _ = io.CopyN(conn, conn, int64(len(opening)))
		_, _ = io.Copy(io.Discard, conn)
	})
	both := contenders(b, u.at.String())
	for _, c := range both {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				before := resident(b, c.pid)
				conns := make([]net.Conn, *idle)
				for i := range conns {
					conn, err := net.Dial("tcp", c.listen)
					if err != nil {
						b.Fatal(err)
					}
					conns[i] = conn
					_ = conn.SetDeadline(time.Now().Add(patience))
					if _, err := conn.Write(opening); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(conn, make([]byte, len(opening))); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(resident(b, c.pid)-before)/float64(*idle), "KiB/connection")
				for _, conn := range conns {
					conn.Close()
				}
			}
		})
	}
}

// processor is the time a process has taken, in ticks.
func processor(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		b.Fatal(err)
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	if err != nil {
		b.Fatal(err)
	}
	return user + system
}

// resident is a process's memory in KiB.
func resident(b *testing.B, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] == "VmRSS:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				b.Fatal(err)
			}
			return kib
		}
	}
	b.Fatalf("got no VmRSS of process %d", pid)
	return 0
}
