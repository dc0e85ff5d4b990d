package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	program = flag.String("biplane", "../../bin/biplane", "the biplane to measure, with biplane-sandbox beside it")
	many    = flag.Int("pods", 500, "how many pods BenchmarkPods runs")
	rest    = flag.Duration("rest", 30*time.Second, "how long a sandbox is left alone before its memory is read")
)

// start brings a sandbox up, and takes it away with the benchmark.
func start(b *testing.B, args ...string) (sandbox, time.Duration) {
	b.Helper()
	path, err := filepath.Abs(*program)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		b.Fatalf("%v: run 'make build' first, or name a biplane with -biplane", err)
	}
	s := sandbox{program: path, dir: b.TempDir()}
	b.Cleanup(func() {
		if err := s.down(context.Background(), "--purge"); err != nil {
			b.Error(err)
		}
	})
	took, err := s.up(b.Context(), args...)
	if err != nil {
		b.Fatal(err)
	}
	return s, took
}

// BenchmarkUp is a whole sandbox: ready the first time, the first pod, memory at
// rest, ready the next time.
func BenchmarkUp(b *testing.B) {
	for b.Loop() {
		s, first := start(b)
		client, err := s.client(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := s.addImage(b.Context(), "process"); err != nil {
			b.Fatal(err)
		}
		pod, _, err := lives(b.Context(), client, 1)
		if err != nil {
			b.Fatal(err)
		}
		time.Sleep(*rest) // rest is what is measured
		of, err := s.status(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		var all int64
		for _, c := range of.Components {
			b.ReportMetric(mebibytes(c.MemoryBytes), "MiB-"+c.Name)
			all += c.MemoryBytes
		}
		if err := s.down(b.Context()); err != nil {
			b.Fatal(err)
		}
		later, err := s.up(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(first.Seconds(), "s-first-up")
		b.ReportMetric(later.Seconds(), "s-later-up")
		b.ReportMetric(pod.Seconds(), "s-first-pod")
		b.ReportMetric(mebibytes(all), "MiB-at-rest")
		fmt.Printf("up %.1f s first and %.1f s later, first pod %.2f s, %.0f MiB at rest\n", first.Seconds(), later.Seconds(), pod.Seconds(), mebibytes(all))
	}
	b.ReportMetric(0, "ns/op") // of no interest: it holds a rest
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// BenchmarkPods runs many pods of /bin/true on each kind of node, and says how
// many times as fast each is as a kubelet with containerd on this machine.
func BenchmarkPods(b *testing.B) {
	rates := map[string]float64{}
	for _, node := range []string{"process", "kwok", "kubelet"} {
		b.Run("node="+node, func(b *testing.B) {
			if why := missing(node); why != "" {
				fmt.Printf("NOT RUN: pods on a %s node: %s\n", node, why)
				b.SkipNow()
			}
			for b.Loop() {
				s, _ := start(b, "--node="+node, "--only=kubernetes,node")
				if err := s.addImage(b.Context(), node); err != nil {
					b.Fatal(err)
				}
				client, err := s.client(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				count := *many
				if node == "kubelet" {
					count = min(count, 100) // a node of Kubernetes takes 110
				}
				ran, gone, err := lives(b.Context(), client, count)
				if err != nil {
					b.Fatal(err)
				}
				rates[node] = float64(count) / ran.Seconds()
				b.ReportMetric(rates[node], "pods/s")
				b.ReportMetric(float64(count)/gone.Seconds(), "deleted/s")
				fmt.Printf("%s node: %d pods in %.1f s, %.1f pods/s; deleted in %.1f s\n", node, count, ran.Seconds(), rates[node], gone.Seconds())
			}
			b.ReportMetric(0, "ns/op") // of no interest: it holds an up
		})
	}
	for _, node := range []string{"process", "kwok"} {
		if rates[node] > 0 && rates["kubelet"] > 0 {
			fmt.Printf("ratio: the %s node runs %.1f times as many pods as kubelet and containerd\n", node, rates[node]/rates["kubelet"])
		}
	}
}

// missing says why a kind of node cannot be had here; "" when it can.
func missing(node string) string {
	if node != "kubelet" {
		return ""
	}
	if os.Geteuid() != 0 {
		return "it needs root"
	}
	for _, needed := range []string{"containerd", "runc"} {
		if _, err := exec.LookPath(needed); err != nil {
			return needed + " is not installed"
		}
	}
	return ""
}
