package storetest

import (
	"database/sql"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"biplane.dev/biplane/controlplane/internal/store"
)

func testDatabase(t *testing.T, b Backend) {
	t.Run("is not ready before it is migrated, and is then", func(t *testing.T) {
		t.Parallel()
		w := openWorld(t, b.NewDatabase(t))
		if err := w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "migrate") {
			t.Errorf("got %v, want an error that names the command", err)
		}
		must(t, w.Migrate(t.Context()))
		must(t, w.Ready(t.Context()))
	})
	t.Run("refuses the tables of a newer program, and leaves them as they are", func(t *testing.T) {
		t.Parallel()
		w := openWorld(t, b.NewDatabase(t))
		must(t, w.Migrate(t.Context()))
		db := get(sql.Open(b.Driver, b.DataSource(w.url)))(t)
		defer db.Close()
		if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)"); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{w.Migrate(t.Context()), w.Ready(t.Context())} {
			if err == nil || !strings.Contains(err.Error(), "of a newer program") {
				t.Errorf("got %v, want an error that says so", err)
			}
		}
	})
	t.Run("migrates again and by several at once without an error", func(t *testing.T) {
		t.Parallel()
		url := b.NewDatabase(t)
		var running sync.WaitGroup
		for range 4 {
			w := openWorld(t, url)
			running.Go(func() {
				if err := w.Migrate(t.Context()); err != nil {
					t.Errorf("got error %v, want none", err)
				}
			})
			if !b.Shared {
				running.Wait()
			}
		}
		running.Wait()
	})
	t.Run("keeps organisations that are there", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		must(t, w.EnsureOrganizations(t.Context(), "initech", "acme"))
		equal(t, "organisations", strings.Join(get(w.Organizations(t.Context()))(t), " "), "acme globex initech")
	})
	t.Run("refuses a URL of another kind without repeating it", func(t *testing.T) {
		t.Parallel()
		for _, url := range []string{"mysql://root:hunter2@db/x", "", "sqlite:", "sqlite::memory:", "postgres://u:hunter2@[bad"} {
			_, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: got error %v, want one without the password", url, err)
			}
		}
	})
}
