package jumper

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/usererr"
)

const usage = `biplane-jumper passes TLS through to a private EKS endpoint, wherever that is now.

Usage:
  biplane-jumper --upstream HOST --listen ADDRESS --ready ADDRESS [flags]

Flags:
  --upstream HOST          host name of the EKS endpoint, or an address; the only target
  --upstream-port PORT     its port (default 443)
  --listen ADDRESS         take connections here, as :8443
  --ready ADDRESS          answer GET /readyz, /livez and /metrics here, as :8080
  --sni NAME,...           server names that clients may ask for (default that of --upstream)
  --ca FILE                what the upstream's certificate must chain to for /readyz, in PEM
  --ca-data BASE64         the same in the command, as certificateAuthority.data of the cluster has it
  --refresh DURATION       resolve the upstream again after this, 15s at most and by default, or when its record's TTL is over
  --stale DURATION         use addresses for this long after the last answer of the DNS (default 1h)
  --drain DURATION         after SIGTERM, let streams go on for this long (default 115s)
  --max-connections N      take no more at once (default 10000)
  --max-age DURATION       close a stream after this, give or take a tenth; 0: never (default 24h)
  --close-vanished DURATION  close an idle stream when its address has been gone from the DNS for this; 0: never (default 0)
  --proxy-protocol         want a PROXY protocol v2 header before the ClientHello, as a target group with that attribute sends it
  --vpc-endpoint ID,...    take connections of these VPC endpoints only, by the word of that header
  --dns ADDRESS:PORT,...   ask these servers instead of those of /etc/resolv.conf
  --version                print the version

Each connection gives one line of JSON on standard output when it has ended; the
rest is told on standard error. docs/jumper.md describes both.
`

// Run is the program: it serves until ctx ends and streams have. It returns the
// exit status, 2 where it could not run.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := run(ctx, args, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "biplane-jumper: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	if said, ok := errors.AsType[*usererr.Error](err); ok && said.Hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", said.Hint)
	}
	return 2
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, err := io.WriteString(stdout, usage)
		return err
	}
	if err != nil {
		return err
	}
	if f.version {
		build := buildinfo.Read()
		_, err := fmt.Fprintf(stdout, "biplane-jumper %s (%s, %s, %s)\n", build.Version, build.Commit, build.Go, build.Platform)
		return err
	}
	options, err := f.options()
	if err != nil {
		return err
	}
	traffic, err := listen(ctx, "listen", f.listen)
	if err != nil {
		return err
	}
	defer traffic.Close()
	ready, err := listen(ctx, "ready", f.ready)
	if err != nil {
		return err
	}
	defer ready.Close()
	errs := newOutput(stderr, nil)
	defer errs.close()
	log := slog.New(slog.NewJSONHandler(errs, nil))
	options.Connections, options.Log = stdout, log
	log.Info("listening", "version", buildinfo.Read().Version, "listen", traffic.Addr().String(), "ready", ready.Addr().String(),
		"upstream", options.Upstream, "port", options.UpstreamPort, "names", options.Names)
	if fits := fitting(); options.MaxConnections > fits {
		log.Warn("the limit of open files allows fewer connections", "asked", options.MaxConnections, "connections", fits)
		options.MaxConnections = fits
	}
	if options.CA == nil {
		log.Warn("without --ca, /readyz does not prove the chain of the upstream's certificate")
	}
	New(options).Serve(ctx, traffic, ready)
	return nil
}

// listen opens one of the two ports. No load balancer speaks Multipath TCP.
func listen(ctx context.Context, name, address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: keepAliveConfig}
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "--%s %q: %v", name, address, err).WithHint("give an address of this machine with a free port, as :8443")
	}
	return l, nil
}

// fitting is how many connections the limit of open files allows: two files each,
// and some for all else, half of them if there are few.
func fitting() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 20
	}
	return int(min(max((limit.Cur-min(128, limit.Cur/2))/2, 1), 1<<20))
}

// longestRefresh is how long a connection may go to where the upstream was.
const longestRefresh = 15 * time.Second

// flags are as they were typed.
type flags struct {
	upstream, listen, ready, sni, ca, caData, endpoints, dns string
	port, connections                                        int
	refresh, stale, drain, age, vanished                     time.Duration
	proxy, version                                           bool
}

func parse(args []string) (flags, error) {
	var f flags
	set := flag.NewFlagSet("biplane-jumper", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.upstream, "upstream", "", "")
	number := func(to *int, name string, byDefault int) {
		*to = byDefault
		set.Func(name, "", func(text string) (err error) {
			if *to, err = strconv.Atoi(text); err != nil {
				return errors.New("it is no whole number")
			}
			return nil
		})
	}
	duration := func(to *time.Duration, name string, byDefault time.Duration) {
		*to = byDefault
		set.Func(name, "", func(text string) (err error) {
			if *to, err = time.ParseDuration(text); err != nil {
				return errors.New("it is no time, write it as 15s or 2m")
			}
			return nil
		})
	}
	number(&f.port, "upstream-port", 443)
	set.StringVar(&f.listen, "listen", "", "")
	set.StringVar(&f.ready, "ready", "", "")
	set.StringVar(&f.sni, "sni", "", "")
	set.StringVar(&f.ca, "ca", "", "")
	set.StringVar(&f.caData, "ca-data", "", "")
	duration(&f.refresh, "refresh", longestRefresh)
	duration(&f.stale, "stale", time.Hour)
	duration(&f.drain, "drain", 115*time.Second)
	number(&f.connections, "max-connections", 10000)
	duration(&f.age, "max-age", 24*time.Hour)
	duration(&f.vanished, "close-vanished", 0)
	set.BoolVar(&f.proxy, "proxy-protocol", false, "")
	set.StringVar(&f.endpoints, "vpc-endpoint", "", "")
	set.StringVar(&f.dns, "dns", "", "")
	set.BoolVar(&f.version, "version", false, "")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return f, err
	} else if err != nil {
		return f, invalid("%s", strings.NewReplacer("for flag -", "for --", "defined: -", "defined: --", "argument: -", "argument: --").Replace(err.Error()))
	}
	empty := ""
	set.Visit(func(given *flag.Flag) {
		if value, ok := given.Value.(flag.Getter); ok && value.Get() == "" {
			empty = given.Name
		}
	})
	if empty != "" { // of a variable that is not set, most likely: what that means is not to be guessed
		return f, invalid("--%s is empty: give it a value, or leave it out", empty)
	}
	if set.NArg() > 0 {
		return f, invalid("%q is not understood", set.Arg(0))
	}
	return f, nil
}

func invalid(format string, args ...any) error {
	return usererr.New(usererr.Invalid, format, args...).WithHint("see 'biplane-jumper --help'")
}

// options checks the flags, and reads what they name.
func (f flags) options() (Options, error) {
	o := Options{
		Upstream: f.upstream, UpstreamPort: uint16(f.port), Refresh: f.refresh, Stale: f.stale, Drain: f.drain,
		MaxConnections: f.connections, MaxAge: f.age, CloseVanished: f.vanished, ProxyProtocol: f.proxy, VPCEndpoints: items(f.endpoints),
	}
	for _, required := range []struct{ name, value string }{{"upstream", f.upstream}, {"listen", f.listen}, {"ready", f.ready}} {
		if required.value == "" {
			return o, invalid("--%s is missing", required.name)
		}
	}
	upstream, ipErr := netip.ParseAddr(f.upstream)
	if ipErr != nil && !isHostName(f.upstream) {
		return o, invalid("--upstream %q is neither a host name nor an address", f.upstream)
	}
	if f.port < 1 || f.port > 65535 {
		return o, invalid("--upstream-port %d is no port", f.port)
	}
	for _, d := range []struct {
		name       string
		value, min time.Duration
	}{
		{"refresh", f.refresh, time.Millisecond}, {"stale", f.stale, f.refresh}, {"drain", f.drain, 0}, {"max-age", f.age, 0}, {"close-vanished", f.vanished, 0},
	} {
		if d.value < d.min {
			return o, invalid("--%s %v is less than %v", d.name, d.value, d.min)
		}
	}
	if f.refresh > longestRefresh {
		return o, invalid("--refresh %v is more than %v, in which an endpoint may move", f.refresh, longestRefresh)
	}
	if f.connections < 1 {
		return o, invalid("--max-connections %d is less than 1", f.connections)
	}
	if len(o.VPCEndpoints) > 0 && !f.proxy {
		return o, invalid("--vpc-endpoint %s needs --proxy-protocol, whose header names the endpoint", f.endpoints)
	}

	names := items(f.sni)
	if len(names) == 0 && f.sni != "" {
		return o, invalid("--sni %q names nothing", f.sni)
	}
	if len(names) == 0 {
		if upstream.IsValid() {
			return o, invalid("--sni is missing, and --upstream %s is an address, which is no server name", f.upstream)
		}
		names = []string{strings.TrimSuffix(f.upstream, ".")}
	}
	for _, name := range names {
		if _, err := netip.ParseAddr(name); err == nil || !isHostName(name) {
			return o, invalid("--sni %q is no host name", name)
		}
		o.Names = append(o.Names, strings.TrimSuffix(lower(name), ".")) // as a ClientHello has it (RFC 6066, 3)
	}
	for _, server := range items(f.dns) {
		at, err := netip.ParseAddrPort(server)
		if err != nil {
			return o, invalid("--dns %q is no address with a port, as 10.0.0.2:53", server)
		}
		o.DNS = append(o.DNS, at)
	}
	var err error
	o.CA, err = f.pool()
	return o, err
}

// pool is the upstream's CA, nil if none is given.
func (f flags) pool() (*x509.CertPool, error) {
	name, pem := "--ca "+f.ca, []byte(nil)
	var err error
	switch {
	case f.ca != "" && f.caData != "":
		return nil, invalid("--ca and --ca-data are the same thing: give one")
	case f.ca != "":
		if pem, err = os.ReadFile(f.ca); err != nil {
			return nil, usererr.New(usererr.Invalid, "--ca %q cannot be read: %v", f.ca, err).WithHint("give a file with the cluster's CA in PEM")
		}
	case f.caData != "":
		name = "--ca-data"
		if pem, err = base64.StdEncoding.DecodeString(f.caData); err != nil {
			return nil, invalid("--ca-data is no base64: %v", err)
		}
	default:
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, invalid("%s has no certificate in PEM", name)
	}
	return pool, nil
}

// items is what stands between commas.
func items(text string) []string {
	var all []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			all = append(all, item)
		}
	}
	return all
}

// isHostName says whether a name can be looked up: labels of letters, digits,
// hyphens and underscores.
func isHostName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(lower(name), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}
