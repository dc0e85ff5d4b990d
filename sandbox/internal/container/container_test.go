package container

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
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

func BenchmarkStart(b *testing.B) {
	r := open(b)
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
