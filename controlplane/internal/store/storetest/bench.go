package storetest

import (
	"database/sql"
	"fmt"
	"sync/atomic"
	"testing"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Bench measures the calls by which runs begin, become and are seen.
func Bench(b *testing.B, backend Backend) {
	backend = backend.withMigrated(b)
	ctx := b.Context()
	b.Run("CreateRun", func(b *testing.B) {
		w := newWorld(b, backend)
		for i := 0; b.Loop(); i++ {
			get(w.CreateRun(ctx, newRun(runKey(fmt.Sprint("r", i)))))(b)
		}
	})
	b.Run("CreateRun by eight", func(b *testing.B) {
		w := newWorld(b, backend)
		var n atomic.Int64
		b.SetParallelism(4) // on two processors
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := w.CreateRun(ctx, newRun(runKey(fmt.Sprint("r", n.Add(1))))); err != nil {
					b.Error(err)
				}
			}
		})
	})
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("ApplyStates of %d", size), func(b *testing.B) {
			w := newWorld(b, backend)
			get(w.CreateRun(ctx, newRun(runKey("r"))))(b)
			position := uint64(0)
			for b.Loop() {
				batch := states()
				for i := range size {
					position++
					batch = append(batch, state(runKey("r"), fmt.Sprint("c", i), position, running))
				}
				w.apply(b, batch...)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/state")
		})
	}
	b.Run("ListRuns of 12,000, a hundred", func(b *testing.B) {
		w := newWorld(b, backend)
		seed(b, backend, w)
		newest := store.Query{Sort: []*common.Sort{{Key: "created_at"}}}
		for b.Loop() {
			rows, _ := page(w.ListRuns(ctx, store.RunScope{Organization: "acme", Project: "alpha", Domain: "development"}, newest))(b)
			if len(rows) != 100 {
				b.Fatalf("got %d runs, want 100", len(rows))
			}
		}
	})
	b.Run("one statement", func(b *testing.B) { // what all else is to be compared with
		w := newWorld(b, backend)
		db := get(sql.Open(backend.Driver, backend.DataSource(w.url)))(b)
		defer db.Close()
		for b.Loop() {
			if _, err := db.Exec("UPDATE organizations SET change = change + 1 WHERE name = 'acme'"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
