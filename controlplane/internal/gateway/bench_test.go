package gateway_test

import (
	"fmt"
	"testing"

	"biplane.dev/biplane/controlplane/config"
)

// BenchmarkHandover is of one run after the other: recorded, handed over,
// acknowledged, on SQLite and loopback.
func BenchmarkHandover(b *testing.B) {
	w := newWorld(b)
	e := newExecutor(nil)
	w.join(b, clusterName).dial(b, e.handlers())
	n := 0
	for b.Loop() {
		w.run(b, clusterName, fmt.Sprint("run", n))
		n++
	}
	eventually(b, "all to be handed over", func() bool { return w.pending(b, clusterName) == 0 })
}

// BenchmarkCall is of one small call after the other, by the process that the data
// plane dialled, and by another one.
func BenchmarkCall(b *testing.B) {
	first := newWorld(b, withPeers)
	second := first.beside(b, func(c *config.Config) { c.Relay.Address = "127.0.0.2" })
	first.join(b, clusterName).dial(b, parrot(nil))
	eventually(b, "the other process to know of the tunnel", func() bool { return second.Connected(organization, clusterName) })
	for name, by := range map[string]*world{"own": first, "forwarded": second} {
		b.Run(name, func(b *testing.B) {
			transport := by.Transport(organization, clusterName)
			for b.Loop() {
				if _, err := get(b.Context(), transport, "http://executor/"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
