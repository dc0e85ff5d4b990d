package jumper

import (
	"bytes"
	"fmt"
	"sync"
)

// counters are what has been counted since the start.
type counters struct {
	mu          sync.Mutex
	connections map[string]int64 // that have ended, by reason
	in, out     int64            // bytes from clients and to them, of connections that have ended
	dialErrors  int64            // addresses that took no connection
}

func newCounters() *counters { return &counters{connections: map[string]int64{}} }

func (c *counters) ended(l line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connections[l.Reason]++
	c.in += l.In
	c.out += l.Out
}

func (c *counters) dialFailed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialErrors++
}

// metrics is the answer of /metrics, in the text format of Prometheus. Every series
// is there from the start.
func (j *Jumper) metrics() []byte {
	var out bytes.Buffer
	describe := func(name, kind, help string) string {
		name = "biplane_jumper_" + name
		fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		return name
	}
	one := func(name, kind, help string, value any) {
		fmt.Fprintf(&out, "%s %v\n", describe(name, kind, help), value)
	}
	ready := 0
	if !j.draining.Load() && j.prober.ready() == nil {
		ready = 1
	}
	addresses := j.addresses.state()
	one("ready", "gauge", "1 while /readyz answers 200.", ready)
	one("streams", "gauge", "Connections that are open.", j.open())
	one("addresses", "gauge", "Known addresses of the upstream.", addresses.known)
	one("address_changes_total", "counter", "Answers of the DNS with other addresses than before.", addresses.changes)
	one("dns_failures_total", "counter", "Lookups without an answer.", addresses.failures)
	one("stale_seconds", "gauge", "Age of the last answer of the DNS, 0 while it answers.", addresses.stale.Seconds())

	j.counters.mu.Lock()
	defer j.counters.mu.Unlock()
	one("log_lines_lost_total", "counter", "Lines of connections that nobody read in time, or that could not be written.", j.lines.lost.Load())
	one("dial_errors_total", "counter", "Addresses that took no connection.", j.counters.dialErrors)
	one("received_bytes_total", "counter", "Bytes from clients, of connections that have ended.", j.counters.in)
	one("sent_bytes_total", "counter", "Bytes to clients, of connections that have ended.", j.counters.out)
	name := describe("connections_total", "counter", "Connections that have ended, by reason.")
	for _, reason := range reasons {
		fmt.Fprintf(&out, "%s{reason=%q} %d\n", name, reason, j.counters.connections[reason])
	}
	return out.Bytes()
}
