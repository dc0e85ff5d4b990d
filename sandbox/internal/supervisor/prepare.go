package supervisor

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strconv"
	"strings"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// The account of AWS that a sandbox plays. The number is the one that AWS's own
// documents take for examples: nobody's.
const (
	account = "111122223333"
	region  = "us-east-2"
)

// prepareRecord reads what the last up was, lays over it what this one asks
// for, fills in what neither has, and writes it back.
func prepareRecord(o Options, events *events, log *slog.Logger) (sandbox.Record, error) {
	record, err := sandbox.ReadRecord(o.Folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return sandbox.Record{}, err
	}
	record.Version = sandbox.RecordVersion
	record.Options = o.Asked.Over(record.Options).Over(sandbox.Defaults())
	if err := record.Options.Check(); err != nil {
		return sandbox.Record{}, err
	}
	if record.Account == "" {
		record.Account = account
	}
	if record.Region == "" {
		record.Region = region
	}
	if record.Cluster == "" {
		id := make([]byte, 16)
		rand.Read(id) // never fails
		record.Cluster = strings.ToUpper(hex.EncodeToString(id))
	}
	if record.Ports == nil {
		record.Ports = map[string]int{}
	}
	if err := choosePorts(&record, events, log); err != nil {
		return sandbox.Record{}, err
	}
	if err := sandbox.WriteRecord(o.Folder, record); err != nil {
		return sandbox.Record{}, usererr.New(usererr.Unavailable, "cannot write %s: %v", o.Folder.RecordFile(), cause(err)).Because(err)
	}
	return record, nil
}

// portNames are the ports of a sandbox with all its parts. Ports of parts that
// are left out stay theirs.
func portNames(o sandbox.Options) []string {
	names := []string{sandbox.APIServer, sandbox.ControllerManager, sandbox.Scheduler, sandbox.ObjectStore, portSTS, portIAM, portWebhook,
		sandbox.FlyteAdmin, portGateway, portRelay}
	for _, process := range dataPlaneProcesses {
		names = append(names, portOf(process))
	}
	switch o.Node {
	case sandbox.KwokNode:
		names = append(names, componentOf(kwokNode))
	case sandbox.ProcessNode:
		for _, node := range nodeNames(o) {
			names = append(names, componentOf(node))
		}
	}
	return names
}

// The ports of the identity service.
const (
	portSTS     = "sts"
	portIAM     = "iam"
	portWebhook = "webhook" // that the API server calls for pods
)

// choosePorts sees that every port can be listened on. One that somebody else
// has is replaced, or is an error where ports are to be fixed.
func choosePorts(record *sandbox.Record, events *events, log *slog.Logger) error {
	var held []net.Listener // so that no port is chosen twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	low, high := portRange()
	for _, name := range portNames(record.Options) {
		kept, had := record.Ports[name]
		if had {
			listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(kept)))
			if err == nil {
				held = append(held, listener)
				continue
			}
			if *record.Options.FixedPorts {
				return usererr.New(usererr.Unavailable, "port %d of %s is taken: %v", kept, name, cause(err)).
					WithHint("end the program that has it ('ss -ltnp' names it), or give --fixed-ports=false to have another chosen").Because(err)
			}
		}
		listener, port, err := freePort(low, high)
		if err != nil {
			return err
		}
		held = append(held, listener)
		record.Ports[name] = port
		if had {
			log.Warn("took another port, since somebody has the one of the last start", "of", name, "was", kept, "is", port)
			events.add(sandbox.Event{Name: name, State: sandbox.Note, Text: fmt.Sprintf("port %d is taken by another program, so it is %d now", kept, port)})
		}
	}
	return nil
}

func freePort(low, high int) (net.Listener, int, error) {
	var last error
	for range 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(high-low)))
		if err != nil {
			return nil, 0, fmt.Errorf("choosing a port: %w", err)
		}
		port := low + int(n.Int64())
		listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return listener, port, nil
		}
		last = err
	}
	return nil, 0, usererr.New(usererr.Unavailable, "found no free port on 127.0.0.1 between %d and %d: %v", low, high, cause(last)).
		WithHint("end programs that listen there").Because(last)
}

// portRange is where ports are chosen: below those that the system gives to
// outgoing connections, one of which could have a component's port just while it
// is being started again, and even connect to itself.
func portRange() (low, high int) {
	const defaultHigh = 32768 // Linux's own default
	high = defaultHigh
	if file, err := os.Open("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		defer file.Close()
		line, _ := bufio.NewReader(file).ReadString('\n')
		if fields := strings.Fields(line); len(fields) == 2 {
			if first, err := strconv.Atoi(fields[0]); err == nil && first > 15000 {
				high = first
			}
		}
	}
	return high - 12000, high
}
