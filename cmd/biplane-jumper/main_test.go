package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The test's own binary is the program when this is set.
const asProgram = "BIPLANE_JUMPER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program starts it, and says where it listens.
func program(t *testing.T, stdout *os.File) (cmd *exec.Cmd, listen, ready string, said *bufio.Reader) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "--upstream", "127.0.0.1", "--sni", "eks.example.test", "--listen", "127.0.0.1:0", "--ready", "127.0.0.1:0", "--drain", "1h")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout = stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	said = bufio.NewReader(stderr)
	first, _ := said.ReadBytes('\n')
	var listening struct{ Listen, Ready string }
	if err := json.Unmarshal(first, &listening); err != nil || listening.Listen == "" {
		t.Fatalf("got %s, %v, want where it listens", first, err)
	}
	return cmd, listening.Listen, listening.Ready, said
}

// until reads what it says up to something.
func until(t *testing.T, said *bufio.Reader, what string) {
	t.Helper()
	for {
		line, err := said.ReadString('\n')
		if strings.Contains(line, what) {
			return
		}
		if err != nil {
			t.Fatalf("got the end, %v, want %q to be said", err, what)
		}
	}
}

func TestMainProgram(t *testing.T) {
	t.Parallel()

	t.Run("it outlives who reads its log", func(t *testing.T) {
		t.Parallel()
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd, listen, _, said := program(t, writer)
		writer.Close()
		reader.Close()
		for range 2 {
			conn, err := net.Dial("tcp", listen)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "no TLS")
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
		until(t, said, "lines of connections are lost")
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, said)
		if err := cmd.Wait(); err != nil {
			t.Errorf("got %v, want exit status 0", err)
		}
	})

	t.Run("it drains at the first signal, and is killed by the second", func(t *testing.T) {
		t.Parallel()
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			cmd, listen, ready, said := program(t, null)
			conn, err := net.Dial("tcp", listen) // who has said nothing yet is a stream, too, for 5 s
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for open := false; !open; {
				response, err := http.Get("http://" + ready + "/metrics")
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				open = strings.Contains(string(body), "\nbiplane_jumper_streams 1\n")
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			until(t, said, "draining")
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, said)
			_ = cmd.Wait()
			if got := cmd.ProcessState.Sys().(syscall.WaitStatus); !got.Signaled() || got.Signal() != signal {
				t.Errorf("got %v, want it killed by %v", cmd.ProcessState, signal)
			}
		}
	})
}
