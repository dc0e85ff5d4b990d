package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a private PostgreSQL on a socket in a temporary folder. It goes with
// the process that started it.
type Server struct {
	folder    string
	process   *os.Process
	ended     chan struct{}
	databases atomic.Int64

	mu   sync.Mutex
	free map[string][]string // emptied databases, by what they are like
}

// StartServer starts one, from the programs that test/postgres/setup.sh installs.
// With durable, it waits for the disk as a real one does; tests need not.
func StartServer(durable bool) (server *Server, err error) {
	programs, err := findPrograms()
	if err != nil {
		return nil, err
	}
	// Not below TMPDIR: a socket's path is short, and who runs the server may not
	// look into a folder of root's.
	folder, err := os.MkdirTemp("/tmp", "biplane-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{folder: folder, ended: make(chan struct{}), free: map[string][]string{}}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	attributes, err := unprivileged(folder)
	if err != nil {
		return nil, err
	}
	initdb := exec.Command(filepath.Join(programs, "initdb"), "-D", filepath.Join(folder, "data"), "-U", "biplane",
		"--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attributes, folder
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	options := []string{"-D", filepath.Join(folder, "data"), "-k", folder, "-c", "listen_addresses=", "-c", "max_connections=500"}
	if !durable {
		options = append(options, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	if err := s.start(exec.Command(filepath.Join(programs, "postgres"), options...), attributes); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		connection, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return s, connection.Close(ctx)
		}
		select {
		case <-s.ended:
			log, _ := os.ReadFile(filepath.Join(folder, "log"))
			return nil, fmt.Errorf("postgres ended at once: %s", log)
		case <-ctx.Done():
			return nil, fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// findPrograms is the folder of the newest.
func findPrograms() (string, error) {
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return filepath.Dir(found[len(found)-1]), nil
		}
	}
	if found, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(found), nil
	}
	return "", errors.New("PostgreSQL is not installed: run 'make setup', or test/postgres/setup.sh")
}

// unprivileged is how the server's processes run: PostgreSQL refuses to be root.
func unprivileged(folder string) (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return attributes, nil
	}
	nobody, err := osuser.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		return nil, err
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, os.Chown(folder, uid, gid)
}

func (s *Server) start(command *exec.Cmd, attributes *syscall.SysProcAttr) error {
	log, err := os.Create(filepath.Join(s.folder, "log"))
	if err != nil {
		return err
	}
	command.SysProcAttr, command.Dir, command.Stdout, command.Stderr = attributes, s.folder, log, log
	started := make(chan error)
	go func() {
		// The signal at the parent's death is that of the thread which started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := command.Start()
		s.process = command.Process
		started <- err
		if err == nil {
			command.Wait()
			close(s.ended)
		}
	}()
	return <-started
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	if s.process != nil {
		s.process.Signal(syscall.SIGQUIT)
		<-s.ended
	}
	os.RemoveAll(s.folder)
}

// Socket is the one that the server listens on.
func (s *Server) Socket() string { return filepath.Join(s.folder, ".s.PGSQL.5432") }

// URL is that of a database of the server.
func (s *Server) URL(database string) string {
	query := url.Values{"host": {s.folder}}
	return (&url.URL{Scheme: "postgres", User: url.User("biplane"), Path: "/" + database, RawQuery: query.Encode()}).String()
}

// NewDatabase makes an empty one, which goes with the test.
func (s *Server) NewDatabase(t testing.TB) (url string) {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(t, s.URL("postgres"), "CREATE DATABASE "+name)
	t.Cleanup(func() { s.Exec(t, s.URL("postgres"), "DROP DATABASE "+name+" WITH (FORCE)") })
	return s.URL(name)
}

// Empty makes one with the tables of another, which has no rows. It costs a
// hundred milliseconds, so one that a test is done with is emptied for the next.
func (s *Server) Empty(t testing.TB, like string) (url string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if free := s.free[like]; len(free) > 0 {
		url, s.free[like] = free[0], free[1:]
	} else {
		name := fmt.Sprintf("test%d", s.databases.Add(1))
		s.Exec(t, s.URL("postgres"), "CREATE DATABASE "+name+" TEMPLATE "+Name(like))
		url = s.URL(name)
	}
	t.Cleanup(func() {
		s.Exec(t, url, `DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version' LOOP
				EXECUTE 'DELETE FROM ' || name;
			END LOOP; END $$`)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.free[like] = append(s.free[like], url)
	})
	return url
}

// Name is that of the database behind a URL.
func Name(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(parsed.Path, "/")
}

// Exec runs a statement in a database, as the server's owner.
func (s *Server) Exec(t testing.TB, url, statement string) {
	t.Helper()
	ctx := context.Background()
	connection, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connecting to postgres: got %v, want a connection", err)
	}
	defer connection.Close(ctx)
	if _, err := connection.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: got %v, want it done", statement, err)
	}
}
