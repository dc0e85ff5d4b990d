package gateway_test

import (
	"fmt"
	"testing"
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
