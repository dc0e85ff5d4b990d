package container

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t testing.TB) *Runtime {
	t.Helper()
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

var ids atomic.Int64

// BenchmarkStart starts containers of /bin/true and waits for their ends. It
// reports the processor time of all that takes part.
func BenchmarkStart(b *testing.B) {
	r := open(b)
	before := processorTime()
	for b.Loop() {
		c, err := r.Start(Spec{ID: fmt.Sprint("c", ids.Add(1)), Args: []string{"/bin/true"}, Write: true})
		if err != nil {
			b.Fatal(err)
		}
		<-c.Done()
		if err := c.Remove(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e6, "cpu-ms/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
}

func processorTime() time.Duration {
	var sum int64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		unix.Getrusage(who, &u)
		sum += u.Utime.Nano() + u.Stime.Nano()
	}
	return time.Duration(sum)
}

func TestFirst(t *testing.T) {
	r := open(t)
	var log bytes.Buffer
	c, err := r.Start(Spec{ID: "a", Args: []string{"sh", "-c", "id; mount; ls -la / /dev /proc/1/fd; ps ax; env; whoami; cat /proc/self/status | grep Cap"}, Write: true, Log: &log, Hostname: "box"})
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	t.Log(c.Exit(), strings.ReplaceAll(log.String(), " F ", "\t"))
}
