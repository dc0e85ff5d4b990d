package gateway

import (
	"context"
	"crypto/tls"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/tunnel"
)

// authorityPause between two looks at the CA's file.
const authorityPause = time.Second

// authority is the CA that is in force, and what this process shows of it. Who
// needs more than one thing of a CA takes it once: in between it may be another.
type authority struct {
	folder string
	names  []string // of the gateway, as data planes dial it
	now    func() time.Time
	ca     atomic.Pointer[pki.CA]

	mu      sync.Mutex
	serving shown
	peer    shown // see peers
	process string
}

// shown is a certificate of ours, signed anew before it ends and when another CA
// signs.
type shown struct {
	by          *pki.CA
	certificate *tls.Certificate
}

func openAuthority(folder string, names []string, process string, now func() time.Time) (*authority, error) {
	a := &authority{folder: folder, names: names, process: process, now: now}
	ca, err := pki.Open(folder, now())
	if err != nil {
		return nil, err
	}
	a.ca.Store(ca)
	return a, nil
}

// forGateway is what data planes are shown.
func (a *authority) forGateway(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.show(&a.serving, func(ca *pki.CA) (*tls.Certificate, error) { return ca.SignServer(a.names, a.now()) })
}

// forPeers is what other processes are shown.
func (a *authority) forPeers() (*tls.Certificate, error) {
	return a.show(&a.peer, func(ca *pki.CA) (*tls.Certificate, error) { return ca.SignPeer(a.process, a.now()) })
}

func (a *authority) show(s *shown, sign func(*pki.CA) (*tls.Certificate, error)) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ca := a.ca.Load()
	if s.certificate == nil || s.by.Certificate() != ca.Certificate() || a.now().After(tunnel.RenewAt(s.certificate.Leaf)) {
		signed, err := sign(ca)
		if err != nil {
			return nil, err
		}
		*s = shown{ca, signed}
	}
	return s.certificate, nil
}

// followAuthority reads the CA again whenever its file is another, until ctx ends:
// a step of its rotation was taken. A file that cannot be used changes nothing.
func (g *Gateway) followAuthority(ctx context.Context) {
	file := filepath.Join(g.authority.folder, pki.File)
	var seen os.FileInfo // nothing at first, since New may have read an older one
	said := ""
	for ; ctx.Err() == nil; pause(ctx, authorityPause) {
		info, err := os.Stat(file)
		if err == nil {
			if seen != nil && os.SameFile(info, seen) && info.ModTime().Equal(seen.ModTime()) {
				continue
			}
			var ca *pki.CA
			if ca, err = pki.Read(g.authority.folder); err == nil {
				g.replaceAuthority(ca)
				seen, said = info, ""
				continue
			}
		}
		if said != err.Error() {
			said = err.Error()
			g.Log.Error("cannot read the gateway's CA again; the one that was read stays in force", "error", usererr.Chain(err))
		}
	}
}

// replaceAuthority puts another CA in force. Sessions whose certificate comes from
// none that is believed any more end at once, as those that were revoked do.
func (g *Gateway) replaceAuthority(ca *pki.CA) {
	before := g.authority.ca.Swap(ca)
	if slices.Equal(before.Fingerprints(), ca.Fingerprints()) {
		return
	}
	g.Log.Info("the gateway's CA was rotated a step further", "signs", g.CAFingerprint(), "believed", ca.Fingerprints())
	g.mu.Lock()
	clusters := slices.Collect(maps.Values(g.clusters))
	g.mu.Unlock()
	for _, c := range clusters {
		for _, h := range c.all() {
			if !ca.Trusts(h.leaf) {
				c.log.Warn("tunnel closed: its certificate comes from a CA that was retired")
				h.Close()
			}
		}
	}
	if g.peers != nil {
		g.peers.renew()
	}
}
