package bench

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	factor  = flag.Float64("factor", 10, "how many times as fast as AWS the double is for BenchmarkDataPlane: 10 takes two minutes, and more than 60 measures the double's own work")
	latency = flag.Duration("latency", 50*time.Millisecond, "how long each call takes for BenchmarkLook")
)

// BenchmarkDataPlane makes and removes a data plane in simulated time, and compares the
// time of the whole command with the critical path of its plan.
func BenchmarkDataPlane(b *testing.B) {
	for b.Loop() {
		a := openAccount(b, "--time", strconv.FormatFloat(*factor, 'f', -1, 64))
		planned, _ := a.plane(b, 1, "plan", "--output=json") // starts moto, too
		before := a.calls(b)
		_, took := a.plane(b, 0, "apply", "--yes")
		report(b, "apply", planned, took, a.calls(b)-before)
		planned, _ = a.plane(b, 0, "remove", "--dry-run", "--output=json")
		before = a.calls(b)
		_, took = a.plane(b, 0, "remove", "--yes")
		report(b, "remove", planned, took, a.calls(b)-before)
	}
}

// report prints a run in AWS's time beside its critical path.
func report(b *testing.B, command string, planned []byte, took time.Duration, calls int) {
	b.Helper()
	least, way := readGraph(b, planned).criticalPath()
	if least == 0 {
		b.Fatalf("%s: the plan has nothing that takes AWS time", command)
	}
	simulated := time.Duration(float64(took) * *factor)
	ratio := simulated.Seconds() / least.Seconds()
	b.ReportMetric(ratio, command+"/critical-path")
	fmt.Printf("%s: %.0f s of AWS's time in %d calls, critical path %.0f s (%s), ratio %.3f, at factor %g\n",
		command, simulated.Seconds(), calls, least.Seconds(), strings.Join(way, " → "), ratio, *factor)
}

// BenchmarkLook looks at a data plane that is there, when every call takes a while.
func BenchmarkLook(b *testing.B) {
	for b.Loop() {
		a := openAccount(b, "--latency", latency.String())
		a.plane(b, 0, "apply", "--yes")
		vpc := a.network(b.Context(), b)
		for _, look := range []struct {
			name string
			run  func() time.Duration
		}{
			{"plan", func() time.Duration { _, took := a.plane(b, 0, "plan"); return took }},
			{"network-check", func() time.Duration { _, took := a.run(b, 0, "network", "check", "--vpc", vpc); return took }},
		} {
			const times = 5
			var all []time.Duration
			before := a.calls(b)
			for range times {
				all = append(all, look.run())
			}
			slices.Sort(all)
			b.ReportMetric(all[times/2].Seconds(), "s-"+look.name)
			fmt.Printf("%s: %.2f s (%.2f to %.2f) in %d calls of %v\n", look.name, all[times/2].Seconds(), all[0].Seconds(), all[times-1].Seconds(), (a.calls(b)-before)/times, *latency)
		}
	}
}
