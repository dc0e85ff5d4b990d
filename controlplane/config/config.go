// Package config is the file that `biplane-controlplane serve --config` reads.
package config

import (
	"time"

	"biplane.dev/biplane/internal/configfile"
)

// Config is the whole file. docs/configuration.md has an example of each key.
type Config struct {
	configfile.Header `yaml:",inline"`

	// Organizations are those that this server serves; the first run of the
	// server makes them. At least one. Default: [default].
	Organizations []string `yaml:"organizations"`
	API           API      `yaml:"api"`
	Database      Database `yaml:"database"`
	Gateway       Gateway  `yaml:"gateway"`
	Relay         Relay    `yaml:"relay"`
	Peers         Peers    `yaml:"peers"`
	Issuer        Issuer   `yaml:"issuer"`
	// Folder is where the keys are that the server makes for itself (0700). It
	// must be given; paths are relative to this file's folder.
	Folder string `yaml:"folder"`
	// Projects are made at the first start, with the domains of all projects.
	// Default: [flytesnacks].
	Projects  []string  `yaml:"projects"`
	Retention Retention `yaml:"retention"`
	Log       Log       `yaml:"log"`
}

// API is where clients call: SDK, command line, console.
type API struct {
	// Listen is a loopback address, since clients do not authenticate yet; any
	// other is refused. Default: 127.0.0.1:8090.
	Listen string `yaml:"listen"`
	// CertFile and KeyFile (PEM) turn TLS on; both or none. Without: h2c and HTTP/1.1.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// URL is what clients and the links for people use. Default: from Listen.
	URL string `yaml:"url"`
	// DataPlane says how clients reach a data plane's proxy: "direct", by the
	// relay of their own TLS sessions, or "relayed", where they cannot verify its
	// certificate: then this server passes their calls on, in memory. Default: direct
	// with TLS, relayed without, since Flyte's SDK follows no https from http.
	DataPlane string `yaml:"dataPlane"`
	// Origins are the web pages (SCHEME://HOST[:PORT]) that may call, such as a
	// console's. Default: none.
	Origins []string `yaml:"origins"`
}

// Database is where names and states are kept.
type Database struct {
	// URL is sqlite:FILE or postgres://…; a password is better kept in URLFile.
	// Default: sqlite:FOLDER/biplane.db.
	URL string `yaml:"url"`
	// URLFile holds the URL instead.
	URLFile string `yaml:"urlFile"`
}

// Gateway is where data planes dial in.
type Gateway struct {
	// Listen may be any address: who joins has a token, all else a certificate.
	// Default: 127.0.0.1:8091.
	Listen string `yaml:"listen"`
	// Names are the DNS names and IP addresses by which data planes dial, for its
	// certificate. Default: [localhost, 127.0.0.1].
	Names []string `yaml:"names"`
	// CertificateLife of data planes' certificates; they renew at two thirds of it.
	// Default: 24h.
	CertificateLife time.Duration `yaml:"certificateLife"`
	// TokenLife of join tokens. Default: 1h.
	TokenLife time.Duration `yaml:"tokenLife"`
	// Heartbeat between two. Default: 2s.
	Heartbeat time.Duration `yaml:"heartbeat"`
}

// Relay is where clients' own TLS sessions to a data plane's proxy arrive: by one
// port for each data plane. It sees ciphertext.
type Relay struct {
	// Address listened on: loopback only, as the API. Default: 127.0.0.1.
	Address string `yaml:"address"`
	// Host is the name in the URLs that clients are given, and in the proxies'
	// certificates. Default: localhost.
	Host string `yaml:"host"`
	// Ports are given to data planes as they join, and kept: "first-last".
	// Default: any free one.
	Ports string `yaml:"ports"`
}

// Peers are the other servers of one PostgreSQL database. A data plane dials one of
// them, and the others forward to that one what is for it.
type Peers struct {
	// Listen turns it on: HOST:PORT for the other servers, which show a certificate
	// of the gateway's CA that no data plane has. Without a host: loopback. Default:
	// off, and what is for a data plane that dialled another server is UNAVAILABLE.
	Listen string `yaml:"listen"`
	// Endpoint is where the others reach Listen: HOST:PORT. Must be given where Listen
	// is no one address. Default: what is listened on.
	Endpoint string `yaml:"endpoint"`
}

// Issuer is the OIDC issuer that the trust of flyteadmin's role names.
type Issuer struct {
	// URL without port, as IAM wants it; never dialled by this server. Empty: no
	// uploads can be signed.
	URL string `yaml:"url"`
	// KeyFile is an RSA key (PEM). Default: FOLDER/issuer.key, made at first start.
	KeyFile string `yaml:"keyFile"`
	// TokenFile is a web identity token that somebody else keeps current, as EKS
	// does for its pods; instead of URL and KeyFile.
	TokenFile string `yaml:"tokenFile"`
	// STSEndpoints are those, besides AWS's own, to which a token is shown: https, or
	// http on loopback. A data plane says where its STS is, and its token would be
	// good in other accounts. Default: none.
	STSEndpoints []string `yaml:"stsEndpoints"`
	// Subject of its tokens. Default: system:serviceaccount:union:flyteadmin.
	Subject string `yaml:"subject"`
}

// Retention says what is deleted, and when.
type Retention struct {
	// Runs that ended before this long ago, with all below them. 0: never. Default: 0.
	Runs time.Duration `yaml:"runs"`
}

// Log goes to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error; default info
	Format string `yaml:"format"` // text, json; default text
}
