package gateway_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

// rotate takes a step, and waits until the gateway has heard of it.
func (w *world) rotate(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.Rotate(w.config.Folder, time.Now(), func(*pki.CA) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway to have read its CA again", func() bool { return bytes.Equal(w.CABundle(), ca.Bundle()) })
	return ca
}

// renew is what an operator does at two thirds of a certificate's life.
func (p *plane) renew(t *testing.T) error {
	t.Helper()
	key, request := newRequest(t)
	certificate, bundle, err := tunnel.Renew(t.Context(), p.world.address, p.tls(t), request)
	if err == nil {
		p.key, p.membership.Certificate, p.membership.CABundle = key, certificate, bundle
	}
	return err
}

func (w *world) member(t *testing.T, name string) store.Member {
	t.Helper()
	members, err := w.store.Members(t.Context(), organization)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(members, func(m store.Member) bool { return m.Cluster == name })
	return members[i]
}

func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withPeers)
	other := w.beside(t, elsewhere)
	follows, late := w.join(t, "follows"), w.join(t, "late")
	follows.dial(t, parrot(nil))
	session := late.dial(t, parrot(nil))
	answers := func(w *world, cluster string) {
		t.Helper()
		eventually(t, "a call to be answered", func() bool {
			got, err := get(t.Context(), w.Transport(organization, cluster), "http://executor/")
			return err == nil && got == "200 executor /: "
		})
	}
	// again dials with the certificate there is, beside the session that there was.
	again := func(p *plane) *tunnel.Session {
		t.Helper()
		session := p.dial(t, parrot(nil))
		answers(w, p.membership.Cluster)
		answers(other, p.membership.Cluster) // peers too know each other by the CA
		return session
	}

	steady := w.CAFingerprint()
	introduced := w.rotate(t)
	answers(w, "late")
	again(follows) // with the certificate and the bundle from before
	if err := follows.renew(t); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(follows.membership.CABundle, introduced.Bundle()) {
		t.Error("got another bundle with the renewed certificate, want both CAs")
	}
	if m := w.member(t, "follows"); slices.Contains(m.Trusts, introduced.Fingerprints()[1]) {
		t.Errorf("got %+v, want it to be known only once it has dialled with what it got", m)
	}
	again(follows)
	eventually(t, "the store to know that it has dialled", func() bool {
		return slices.Equal(w.member(t, "follows").Trusts, introduced.Fingerprints())
	})
	if m := w.member(t, "late"); slices.Contains(m.Trusts, introduced.Fingerprints()[1]) || m.Issuer != steady {
		t.Errorf("got %+v of who has not renewed, want what it knew before", m)
	}
	joined := w.join(t, "joins")
	again(joined)

	succeeded := w.rotate(t)
	if w.CAFingerprint() == steady {
		t.Error("got tokens for the old CA, want them for the one that signs")
	}
	again(follows) // knows the gateway by the next CA, and is known by the one before
	again(w.join(t, "joins-by-the-next"))
	if _, err := tunnel.Dial(t.Context(), w.address, late.tls(t), tunnel.Options{}); err == nil {
		t.Error("got a tunnel of who does not know the next CA, want none: it was to be waited for")
	}
	if err := follows.renew(t); err != nil {
		t.Fatal(err)
	}
	again(follows)
	eventually(t, "the store to know who signed", func() bool { return w.member(t, "follows").Issuer == succeeded.Fingerprints()[0] })
	answers(w, "late") // by the session that it has

	w.rotate(t)
	wait(t, session.Done(), "the session by what the retired CA signed to end")
	answers(w, "follows")
	again(follows)
	behind := late.tls(t)
	behind.InsecureSkipVerify = true // it is the gateway's to refuse
	if session, err := tunnel.Dial(t.Context(), w.address, behind, tunnel.Options{}); err == nil {
		session.Close()
		t.Error("got a tunnel by what the retired CA signed, want none")
	}
	_, request := newRequest(t)
	if _, _, err := tunnel.Renew(t.Context(), w.address, behind, request); err == nil {
		t.Error("got a certificate for one that the retired CA signed, want none")
	}
	if err := joined.renew(t); err == nil {
		t.Error("got a certificate for one that joined before the next CA signed, want none")
	}
}

func TestAuthorityFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.join(t, clusterName)
	p.dial(t, parrot(nil))
	file := filepath.Join(w.config.Folder, pki.File)
	before := w.CABundle()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func() error{
		func() error { return os.WriteFile(file, []byte("half"), 0o600) },
		func() error { return os.Remove(file) },
		func() error { return os.WriteFile(file, good, 0o644) },
	} {
		said := strings.Count(w.log.String(), "cannot read the gateway's CA again")
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the log to say so", func() bool {
			return strings.Count(w.log.String(), "cannot read the gateway's CA again") > said
		})
		if !bytes.Equal(w.CABundle(), before) {
			t.Error("got another CA, want the one that was read to stay in force")
		}
		if err := p.renew(t); err != nil {
			t.Errorf("got %v, want certificates as before", err)
		}
	}
	if _, err := tunnel.Join(t.Context(), w.address, w.token(t, "c2", time.Hour), []byte("x")); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("got %v, want the gateway to be known by its token as before", err)
	}
}
