// Package s3 is the sandbox's object store: versitygw on a folder, with every
// request decided by the policies that the identity program keeps. versitygw
// checks signatures, speaks S3 and stores; it is never asked whether somebody
// may do something. It is not an S3 of its own, and not for other machines: it
// listens where it is told and has one account.
//
// How a request goes, all in one process:
//
//	front.go      sees it first and notes what only the request shows: presigned or
//	              not and since when, TLS, source, headers (facts.go)
//	body.go       reads what is left of its body, so that the answer gets through
//	versitygw     finds the operation, and asks callers.go for the key that the
//	              signature has to be made with
//	callers.go    has it from the identity program, with the policies of whose key
//	              it is, and keeps both until something is written there
//	versitygw     checks the signature, and asks decide.go about the operation, by
//	              the actions and resources that it is going to use
//	decide.go     decides with provision/iampolicy: policies, boundary, session and
//	              the bucket's policy, under the facts
//	backend.go    stores, by versitygw's posix backend; bucket policies are hidden
//	              from versitygw's own engine, which knows less of conditions
//	policy.go     PutBucketPolicy, for the same reason
//
// The question carries the request's facts by its source address: versitygw
// passes nothing else of ours on to the place where it asks. The address is
// replaced by a number that only this process knows the meaning of, so a client
// cannot say anything about itself that way.
//
// The program takes these flags:
//
//	--dir                 folder: objects/, versions/, and metadata/ where the file
//	                      system has no extended attributes
//	--address             host:port to listen on, with TLS
//	--tls-cert-file, --tls-private-key-file
//	--account, --region   of the account that the sandbox plays
//	--identity-socket     the identity program's socket
//	--gateway-key-file    JSON {"id","secret"}: key that calls over it are signed with
//	--virtual-domain      optional: BUCKET.DOMAIN names a bucket too
//
// GET /_healthz answers 200 once it serves (no bucket can be called that).
//
// Start with Run.
package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"

	"biplane.dev/biplane/sandbox/internal/identity"
)

// HealthPath answers without a signature.
const HealthPath = "/_healthz"

const (
	maxConnections = 4096
	maxRequests    = 1024
	maxCopy        = 5 << 30 // of CopyObject, as with AWS
	maxParts       = 10000   // of an upload, likewise
)

// Config is what the program is told. See the package's comment.
type Config struct {
	Dir            string
	Address        string
	CertFile       string
	KeyFile        string
	Account        string
	Region         string
	Socket         string
	GatewayKeyFile string
	VirtualDomain  string

	Log      *slog.Logger
	Clock    func() time.Time // time.Now by default; versitygw has its own for signatures
	Listened func()           // called once it serves; nothing by default
}

// Run serves until ctx ends. A process can run one at a time.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	key, err := identity.ReadKey(cfg.GatewayKeyFile)
	if err != nil {
		return err
	}
	// The posix backend makes its folder the process's working directory, so
	// everything relative is opened before.
	callers, err := newCallers(cfg, key)
	if err != nil {
		return err
	}
	defer callers.Close()
	for _, file := range []*string{&cfg.CertFile, &cfg.KeyFile} {
		if *file, err = filepath.Abs(*file); err != nil {
			return fmt.Errorf("finding %s: %w", *file, err)
		}
	}
	store, err := openStore(cfg.Dir)
	if err != nil {
		return err
	}
	front := newFront(cfg, callers, store)
	// Nobody is versitygw's own administrator, who may do everything: its key is
	// made here and told nobody.
	front.root.Access, front.root.Secret = rand.Text(), rand.Text()

	options := []s3api.Option{s3api.WithMiddleware("/", front.handle)}
	if cfg.Listened != nil {
		options = append(options, s3api.WithOnListen(cfg.Listened))
	}
	err = embedgw.RunVersityGW(ctx, &guarded{Backend: store, front: front}, &embedgw.Config{
		RootUserAccess: front.root.Access, RootUserSecret: front.root.Secret, Region: cfg.Region,
		Ports: []string{cfg.Address}, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, VirtualDomain: cfg.VirtualDomain,
		MaxConnections: maxConnections, MaxRequests: maxRequests, MultipartMaxParts: maxParts,
		KeepAlive: true, Quiet: true, HealthPath: HealthPath,
		IAMService: front, S3Options: options,
	})
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return nil
	}
	return err
}

// openStore opens versitygw's store of files below dir.
func openStore(dir string) (*posix.Posix, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the folder of objects: %w", err)
	}
	objects, versions, sidecar := filepath.Join(dir, "objects"), filepath.Join(dir, "versions"), filepath.Join(dir, "metadata")
	for _, folder := range []string{objects, versions} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of objects: %w", err)
		}
	}
	options := posix.PosixOpts{VersioningDir: versions, NewFilePerm: 0o600, CopyObjectThreshold: maxCopy}
	options.SetNewDirPerm(0o700)
	var attributes meta.MetadataStorer = meta.XattrMeta{}
	if err := (meta.XattrMeta{}).Test(objects); err != nil {
		if err := os.MkdirAll(sidecar, 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of metadata: %w", err)
		}
		if attributes, err = meta.NewSideCar(sidecar); err != nil {
			return nil, fmt.Errorf("opening the folder of metadata: %w", err)
		}
		options.SideCarDir = sidecar
	}
	store, err := posix.New(objects, attributes, options)
	if err != nil {
		return nil, fmt.Errorf("opening the store of objects: %w", err)
	}
	return store, nil
}
