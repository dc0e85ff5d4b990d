package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"biplane.dev/biplane/controlplane/internal/store/storetest"
)

var postgres *storetest.Server

func TestMain(m *testing.M) {
	server, err := storetest.StartServer(false)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the store's tests need PostgreSQL:", err)
		os.Exit(1)
	}
	postgres = server
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

func TestStore(t *testing.T) {
	t.Parallel()
	for _, backend := range []storetest.Backend{sqlite(), onPostgres(postgres)} {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, backend)
		})
	}
}

// BenchmarkStore has both wait for the disk, as they do when it matters.
func BenchmarkStore(b *testing.B) {
	durable, err := storetest.StartServer(true)
	if err != nil {
		b.Fatal(err)
	}
	defer durable.Stop()
	for _, backend := range []storetest.Backend{sqlite(), onPostgres(durable)} {
		b.Run(backend.Name, func(b *testing.B) { storetest.Bench(b, backend) })
	}
}

func sqlite() storetest.Backend {
	file := func(address string) string {
		return "file:" + (&url.URL{Path: strings.TrimPrefix(address, "sqlite:")}).EscapedPath()
	}
	return storetest.Backend{
		Name:        "SQLite",
		NewDatabase: func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "a b%?.db") },
		Empty: func(t testing.TB, like string) string {
			copied := filepath.Join(t.TempDir(), "copy.db")
			content, err := os.ReadFile(strings.TrimPrefix(like, "sqlite:"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(copied, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return "sqlite:" + copied
		},
		Driver:     "sqlite",
		DataSource: file,
		Plan: func(t testing.TB, address, statement string) (scans []string) {
			db, err := sql.Open("sqlite", file(address))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			rows, err := db.Query("EXPLAIN QUERY PLAN "+statement, nulls(statement)...)
			if err != nil {
				t.Fatalf("got %v, want a plan of %s", err, statement)
			}
			defer rows.Close()
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					t.Fatal(err)
				}
				if scan := sqliteScan.FindString(detail); scan != "" && !ownRows.MatchString(scan) {
					scans = append(scans, detail)
				}
			}
			return scans
		},
	}
}

func onPostgres(server *storetest.Server) storetest.Backend {
	same := func(url string) string { return url }
	return storetest.Backend{
		Name:        "PostgreSQL",
		NewDatabase: server.NewDatabase,
		Empty:       server.Empty,
		Shared:      true,
		Interrupt: func(t testing.TB, address string) {
			server.Exec(t, server.URL("postgres"), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+storetest.Name(address)+"'")
		},
		Driver:     "pgx",
		DataSource: same,
		Plan: func(t testing.TB, address, statement string) (scans []string) {
			connection, err := pgx.Connect(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close(context.WithoutCancel(t.Context()))
			execute := "EXECUTE explained"
			if n := len(nulls(statement)); n > 0 {
				execute += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", n), ", ") + ")"
			}
			var lines []string
			for _, step := range []string{"SET plan_cache_mode = force_generic_plan", "SET random_page_cost = 1.1", // as for an SSD
				"PREPARE explained AS " + statement, "EXPLAIN " + execute} {
				results, err := connection.PgConn().Exec(t.Context(), step).ReadAll()
				if err != nil {
					t.Fatalf("got %v, want it done: %s", err, step)
				}
				for _, row := range results[0].Rows {
					lines = append(lines, string(row[0]))
				}
			}
			for i, line := range lines {
				indexed := i+1 < len(lines) && strings.Contains(lines[i+1], "Index Cond")
				if postgresScan.MatchString(line) || strings.Contains(line, "Index") && strings.Contains(line, "Scan") && !indexed {
					scans = append(scans, strings.TrimSpace(line))
				}
			}
			return scans
		},
	}
}

var (
	placeholder  = regexp.MustCompile(`\$\d+`)
	sqliteScan   = regexp.MustCompile(`^SCAN.*|USE TEMP B-TREE FOR ORDER BY`)
	ownRows      = regexp.MustCompile(`^SCAN (reported|root|changed|b|below|CONSTANT ROW|\d+ CONSTANT ROWS?|\d+-ROW VALUES CLAUSE)`)
	postgresScan = regexp.MustCompile(`Seq Scan|(^|-> +)(Incremental )?Sort `)
)

// nulls is an argument for each placeholder of a statement.
func nulls(statement string) []any {
	numbers := map[string]bool{}
	for _, number := range placeholder.FindAllString(statement, -1) {
		numbers[number] = true
	}
	return make([]any, len(numbers))
}
