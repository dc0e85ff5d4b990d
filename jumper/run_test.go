package jumper

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	const good = "--upstream eks.example.test --listen 127.0.0.1:0 --ready 127.0.0.1:0 "
	for _, c := range []struct{ name, args, want string }{
		{"wants --upstream", "--listen :0 --ready :0", "--upstream is missing"},
		{"wants --listen", "--upstream x --ready :0", "--listen is missing"},
		{"wants --ready", "--upstream x --listen :0", "--ready is missing"},
		{"refuses a word too many", good + "more", `"more" is not understood`},
		{"refuses a flag that it does not have", good + "--snl x", "flag provided but not defined: --snl"},
		{"wants a value for a flag", good + "--sni", "flag needs an argument: --sni"},
		{"refuses server names that are none", good + "--sni ,", `--sni "," names nothing`},
		{"refuses a number of seconds", good + "--refresh 5", `invalid value "5" for --refresh: it is no time, write it as 15s or 2m`},
		{"refuses a port with a name", good + "--upstream-port https", `invalid value "https" for --upstream-port: it is no whole number`},
		{"refuses an upstream that is a URL", good + "--upstream https://eks.example.test", `--upstream "https://eks.example.test" is neither a host name nor an address`},
		{"refuses a port that is none", good + "--upstream-port 65536", "--upstream-port 65536 is no port"},
		{"refuses a server name that is none", good + "--sni a.test,*.b.test", `--sni "*.b.test" is no host name`},
		{"refuses a server name that is an address", good + "--sni 10.0.0.1", `--sni "10.0.0.1" is no host name`},
		{"wants server names for an address", good + "--upstream 10.0.0.1", "--sni is missing, and --upstream 10.0.0.1 is an address, which is no server name"},
		{"refuses to resolve all the time", good + "--refresh 0s", "--refresh 0s is less than 1ms"},
		{"refuses to resolve seldom", good + "--refresh 16s", "--refresh 16s is more than 15s"},
		{"refuses to forget addresses before they are resolved again", good + "--stale 1s", "--stale 1s is less than 15s"},
		{"refuses a negative time", good + "--drain -1s", "--drain -1s is less than 0s"},
		{"refuses to take no connections", good + "--max-connections 0", "--max-connections 0 is less than 1"},
		{"wants the header that names endpoints", good + "--vpc-endpoint vpce-1", "--vpc-endpoint vpce-1 needs --proxy-protocol"},
		{"refuses a DNS server without a port", good + "--dns 10.0.0.2", `--dns "10.0.0.2" is no address with a port`},
		{"refuses a CA that is not there", good + "--ca /none.pem", `--ca "/none.pem" cannot be read`},
		{"refuses a CA without certificate", good + "--ca " + empty, "has no certificate in PEM"},
		{"refuses two CAs", good + "--ca-data x --ca " + empty, "--ca and --ca-data are the same thing"},
		{"refuses a CA that is no base64", good + "--ca-data !", "--ca-data is no base64"},
		{"refuses an address that it cannot have", good + "--listen 192.0.2.1:1", `--listen "192.0.2.1:1"`},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), strings.Fields(c.args), &stdout, &stderr)
			said, hint, _ := strings.Cut(stderr.String(), "\n")
			if code != 2 || !strings.HasPrefix(said, "biplane-jumper: ") || !strings.Contains(said, c.want) || !strings.HasPrefix(hint, "hint: ") || stdout.Len() > 0 {
				t.Errorf("got exit status %d, %q and %q, want 2 and %q with a hint", code, &stdout, &stderr, c.want)
			}
		})
	}
	t.Run("it refuses a flag that is empty, as of a variable that is not set", func(t *testing.T) {
		t.Parallel()
		var stdout, stderr bytes.Buffer
		if code := Run(t.Context(), append(strings.Fields(good), "--ca", ""), &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), "--ca is empty") {
			t.Errorf("got exit status %d and %q, want 2 and --ca named", code, &stderr)
		}
	})
	for _, c := range []struct{ flag, want string }{{"--help", usage}, {"--version", "biplane-jumper devel (unknown, go"}} {
		t.Run("it answers "+c.flag, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := Run(t.Context(), []string{c.flag}, &stdout, &stderr); code != 0 || !strings.HasPrefix(stdout.String(), c.want) || stderr.Len() > 0 {
				t.Errorf("got exit status %d, %q and %q, want %q", code, &stdout, &stderr, c.want)
			}
		})
	}
	t.Run("it takes the CA as DescribeCluster has it, and the upstream's name for the server's", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t, upstreamName)
		d := serveDNS(t)
		d.has("eks.example.test", time.Minute, "127.0.0.1")
		u := serveUpstream(t, "127.0.0.1", 0, a.echoes)
		r := start(t, "--upstream", "EKS.example.test.", "--upstream-port", u.at.String()[len("127.0.0.1:"):], "--dns", d.at.String(), "--ca-data", base64.StdEncoding.EncodeToString(a.pem))
		r.until(t, "/readyz", func(code int, _ string) bool { return code == 200 })
		if err := r.talk(a, upstreamName, "hello"); err != nil {
			t.Error(err)
		}
	})
}
