package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/internal/configfile"
	"biplane.dev/biplane/internal/usererr"
)

// Load reads the file, with the defaults for what it leaves out. Paths in it are
// relative to its folder. Every error is a *usererr.Error that names the key.
func Load(file string) (*Config, error) {
	c := &Config{
		Organizations: []string{"default"},
		Projects:      []string{"flytesnacks"},
		API:           API{Listen: "127.0.0.1:8090"},
		Gateway: Gateway{Listen: "127.0.0.1:8091", Names: []string{"localhost", "127.0.0.1"},
			CertificateLife: 24 * time.Hour, TokenLife: time.Hour, Heartbeat: 2 * time.Second},
		Relay:  Relay{Address: "127.0.0.1", Host: "localhost"},
		Issuer: Issuer{Subject: "system:serviceaccount:union:flyteadmin"},
		Log:    Log{Level: "info", Format: "text"},
	}
	if err := configfile.Load(file, configfile.Header{APIVersion: "biplane.dev/v1alpha1", Kind: "ControlPlaneConfig"}, c); err != nil {
		return nil, err
	}
	if err := c.complete(filepath.Dir(file)); err != nil {
		return nil, err
	}
	for _, check := range []func() error{c.checkNames, c.checkAPI, c.checkDatabase, c.checkGateway, c.checkRelay, c.checkPeers, c.checkIssuer, c.checkRest} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// How clients reach a data plane's proxy: see API.DataPlane.
const (
	Direct  = "direct"
	Relayed = "relayed"
)

// complete derives what is left out from what is said.
func (c *Config) complete(folder string) error {
	if c.Folder == "" {
		return usererr.New(usererr.Invalid, "folder is not given").
			WithHint("name a folder in which the server keeps its keys, such as folder: /var/lib/biplane-controlplane")
	}
	for _, path := range []*string{&c.Folder, &c.API.CertFile, &c.API.KeyFile, &c.Database.URLFile, &c.Issuer.KeyFile, &c.Issuer.TokenFile} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
	if c.Database.URL == "" && c.Database.URLFile == "" {
		c.Database.URL = "sqlite:" + filepath.Join(c.Folder, "biplane.db")
	}
	if path, ok := strings.CutPrefix(c.Database.URL, "sqlite:"); ok && path != "" && !filepath.IsAbs(path) {
		c.Database.URL = "sqlite:" + filepath.Join(folder, path)
	}
	if c.API.DataPlane == "" {
		c.API.DataPlane = Relayed
		if c.API.CertFile != "" {
			c.API.DataPlane = Direct
		}
	}
	if host, port, err := net.SplitHostPort(c.Peers.Listen); err == nil && host == "" {
		c.Peers.Listen = net.JoinHostPort("127.0.0.1", port)
	}
	if c.Issuer.KeyFile == "" {
		c.Issuer.KeyFile = filepath.Join(c.Folder, "issuer.key")
	}
	return nil
}

func (c *Config) checkNames() error {
	if len(c.Organizations) == 0 {
		return invalid("organizations is empty", "name one, such as [default], or leave the key out")
	}
	for i, name := range c.Organizations {
		if err := names.Organization(name); err != nil {
			return invalid(fmt.Sprintf("organizations[%d]: %v", i, err), "choose another name")
		}
		if slices.Contains(c.Organizations[:i], name) {
			return invalid(fmt.Sprintf("organizations names %q twice", name), "leave one out")
		}
	}
	for i, name := range c.Projects {
		if err := names.Project(name); err != nil {
			return invalid(fmt.Sprintf("projects[%d]: %v", i, err), "choose another name")
		}
	}
	return nil
}

func (c *Config) checkAPI() error {
	host, _, err := address("api.listen", c.API.Listen)
	if err != nil {
		return err
	}
	if !loopback(host) {
		return invalid(fmt.Sprintf("api.listen is %q, and this server refuses anything else than loopback, since its clients do not authenticate yet", c.API.Listen),
			"write 127.0.0.1:PORT, and reach it from elsewhere by ssh -L")
	}
	if (c.API.CertFile == "") != (c.API.KeyFile == "") {
		return invalid("api.certFile and api.keyFile belong together, and one of them is not given", "give both, or none to serve without TLS")
	}
	if c.API.URL != "" {
		u, err := url.Parse(c.API.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return invalid(fmt.Sprintf("api.url is %q, which is not SCHEME://HOST:PORT", c.API.URL), "write it like https://localhost:8090; Flyte's clients take no path")
		}
		if tls := c.API.CertFile != ""; tls != (u.Scheme == "https") {
			return invalid(fmt.Sprintf("api.url is %q, and api.certFile says otherwise about TLS", c.API.URL), "write https with a certificate, http without")
		}
	}
	if c.API.DataPlane != Direct && c.API.DataPlane != Relayed {
		return invalid(fmt.Sprintf("api.dataPlane is %q", c.API.DataPlane), "it takes direct or relayed")
	}
	for i, origin := range c.API.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" {
			return invalid(fmt.Sprintf("api.origins[%d] is %q, which is not SCHEME://HOST[:PORT]", i, origin), "write it as a browser sends it, like http://localhost:8080")
		}
	}
	return nil
}

func (c *Config) checkDatabase() error {
	if c.Database.URLFile != "" {
		if c.Database.URL != "" {
			return invalid("database.url and database.urlFile are both given", "keep one")
		}
		return nil // what is in it is checked when it is opened
	}
	return checkDatabaseURL("database.url", c.Database.URL)
}

// checkDatabaseURL refuses a URL that names no database; what says where it was
// written. The URL itself is in no error: it may hold a password.
func checkDatabaseURL(what, text string) error {
	const hint = "write sqlite:FILE or postgres://USER@HOST:PORT/DATABASE"
	if path, ok := strings.CutPrefix(text, "sqlite:"); ok {
		if path == "" {
			return invalid(what+" names no file behind sqlite:", hint)
		}
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return invalid(what+" is neither of sqlite: nor of postgres:", hint)
	}
	return nil
}

// DatabaseURL is that of the file, or what its urlFile holds.
func (c *Config) DatabaseURL() (string, error) {
	if c.Database.URLFile == "" {
		return c.Database.URL, nil
	}
	text, err := os.ReadFile(c.Database.URLFile)
	if err != nil {
		return "", usererr.New(usererr.Invalid, "database.urlFile cannot be read: %v", err).WithHint("name a file that this server can read").Because(err)
	}
	url := strings.TrimSpace(string(text))
	return url, cmp.Or(checkDatabaseURL("the contents of database.urlFile", url), c.checkShared(url))
}

func (c *Config) checkGateway() error {
	if _, _, err := address("gateway.listen", c.Gateway.Listen); err != nil {
		return err
	}
	if len(c.Gateway.Names) == 0 {
		return invalid("gateway.names is empty", "name every host by which data planes dial")
	}
	for i, name := range c.Gateway.Names {
		if !host(name) {
			return invalid(fmt.Sprintf("gateway.names[%d] is %q, which is neither a DNS name nor an IP address", i, name), "leave scheme and port out")
		}
	}
	return cmp.Or(
		between("gateway.certificateLife", c.Gateway.CertificateLife, time.Second, 10*365*24*time.Hour),
		between("gateway.tokenLife", c.Gateway.TokenLife, time.Second, 30*24*time.Hour),
		between("gateway.heartbeat", c.Gateway.Heartbeat, 100*time.Millisecond, time.Minute))
}

func (c *Config) checkRelay() error {
	if !loopback(c.Relay.Address) {
		return invalid(fmt.Sprintf("relay.address is %q, and this server relays on loopback only, since its clients do not authenticate yet", c.Relay.Address), "write 127.0.0.1")
	}
	if !host(c.Relay.Host) {
		return invalid(fmt.Sprintf("relay.host is %q, which is neither a DNS name nor an IP address", c.Relay.Host), "leave scheme and port out")
	}
	_, _, err := c.Relay.PortRange()
	return err
}

// PortRange returns the first and the last port, or zeros for any free one.
func (r Relay) PortRange() (first, last int, err error) {
	if r.Ports == "" {
		return 0, 0, nil
	}
	from, to, ok := strings.Cut(r.Ports, "-")
	first, errFirst := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	if !ok || errFirst != nil || errLast != nil || first < 1 || last > 65535 || first > last {
		return 0, 0, invalid(fmt.Sprintf("relay.ports is %q, which is not FIRST-LAST", r.Ports), "write it like 30000-30099")
	}
	return first, last, nil
}

func (c *Config) checkPeers() error {
	if c.Peers.Listen == "" {
		if c.Peers.Endpoint != "" {
			return invalid(fmt.Sprintf("peers.endpoint is %q, and peers.listen is not given", c.Peers.Endpoint), "give peers.listen too, or leave both out")
		}
		return nil
	}
	listen, _, err := address("peers.listen", c.Peers.Listen)
	if err != nil {
		return err
	}
	if err := c.checkShared(c.Database.URL); err != nil {
		return err
	}
	if c.Peers.Endpoint == "" {
		if ip, err := netip.ParseAddr(listen); err == nil && ip.IsUnspecified() {
			return invalid(fmt.Sprintf("peers.listen is %q, and no other server knows by that where this one is", c.Peers.Listen),
				"give peers.endpoint too: the HOST:PORT by which the others reach it")
		}
		return nil
	}
	name, port, err := address("peers.endpoint", c.Peers.Endpoint)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(name); !host(name) || port == "0" || err == nil && ip.IsUnspecified() {
		return invalid(fmt.Sprintf("peers.endpoint is %q, which others cannot dial", c.Peers.Endpoint), "write the HOST:PORT by which they reach this server")
	}
	return nil
}

// checkShared refuses peers where there can be none.
func (c *Config) checkShared(url string) error {
	if c.Peers.Listen != "" && strings.HasPrefix(url, "sqlite:") {
		return invalid(fmt.Sprintf("peers.listen is %q, and the database is SQLite, which one server has to itself", c.Peers.Listen),
			"leave peers out, or take PostgreSQL")
	}
	return nil
}

func (c *Config) checkIssuer() error {
	if c.Issuer.URL != "" && c.Issuer.TokenFile != "" {
		return invalid("issuer.url and issuer.tokenFile are both given", "keep url to sign tokens here, or tokenFile where somebody else does")
	}
	if c.Issuer.URL != "" {
		u, err := url.Parse(c.Issuer.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Port() != "" || u.RawQuery != "" || u.Fragment != "" {
			return invalid(fmt.Sprintf("issuer.url is %q, which IAM takes for no issuer", c.Issuer.URL), "write https://HOST[/PATH], without a port")
		}
	}
	for i, endpoint := range c.Issuer.STSEndpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" ||
			u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			return invalid(fmt.Sprintf("issuer.stsEndpoints[%d] is %q, to which no token can be shown", i, endpoint), "write https://HOST[:PORT]")
		}
	}
	if c.Issuer.Subject == "" {
		return invalid("issuer.subject is empty", "leave the key out for its default")
	}
	return nil
}

func (c *Config) checkRest() error {
	if c.Retention.Runs < 0 || c.Retention.Runs > 0 && c.Retention.Runs < time.Minute {
		return invalid(fmt.Sprintf("retention.runs is %v", c.Retention.Runs), "write 0 to keep all, or at least 1m")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		return invalid(fmt.Sprintf("log.level is %q", c.Log.Level), "it takes debug, info, warn or error")
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return invalid(fmt.Sprintf("log.format is %q", c.Log.Format), "it takes text or json")
	}
	return nil
}

func invalid(sentence, hint string) error {
	return usererr.New(usererr.Invalid, "%s", sentence).WithHint("%s", hint)
}

func between(key string, value, least, most time.Duration) error {
	if value < least || value > most {
		return invalid(fmt.Sprintf("%s is %v", key, value), fmt.Sprintf("write a duration from %v to %v", least, most))
	}
	return nil
}

func address(key, text string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(text)
	number, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || number < 0 || number > 65535 {
		return "", "", invalid(fmt.Sprintf("%s is %q, which is not HOST:PORT", key, text), "write it like 127.0.0.1:8090; port 0 takes any free one")
	}
	return host, port, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func host(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
