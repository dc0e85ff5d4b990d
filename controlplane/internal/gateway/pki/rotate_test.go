package pki_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/tunnel"
)

func may(*pki.CA) error { return nil }

func rotate(t *testing.T, folder string) *pki.CA {
	t.Helper()
	ca, err := pki.Rotate(folder, time.Now(), may)
	if err != nil {
		t.Fatal(err)
	}
	read, err := pki.Read(folder)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read.Fingerprints(), ca.Fingerprints()) || read.Stage() != ca.Stage() {
		t.Fatalf("got %v in the file, want %v as it was returned", read.Fingerprints(), ca.Fingerprints())
	}
	return ca
}

func TestRotate(t *testing.T) {
	t.Parallel()

	t.Run("goes from one CA to another in three steps, each beside the one before", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		steady, err := pki.Open(folder, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all := []*pki.CA{steady, rotate(t, folder), rotate(t, folder), rotate(t, folder)}
		first, second := all[0].Fingerprints()[0], all[3].Fingerprints()[0]
		if first == second {
			t.Fatal("got the same CA, want another")
		}
		for i, want := range []struct {
			stage    pki.Stage
			signs    string
			believes []string
		}{
			{pki.Steady, first, []string{first}},
			{pki.Introduced, first, []string{first, second}},
			{pki.Succeeded, second, []string{second, first}},
			{pki.Steady, second, []string{second}},
		} {
			if got := all[i]; got.Stage() != want.stage || tunnel.Fingerprint(got.Certificate()) != want.signs || !slices.Equal(got.Fingerprints(), want.believes) {
				t.Errorf("step %d: got stage %v and %v, want %+v", i, got.Stage(), got.Fingerprints(), want)
			}
		}
		// Whoever is one step behind or ahead takes what the other signs.
		key, err := tunnel.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		for i, signs := range all {
			leaf, _, err := signs.SignClient(request(t, key), tunnel.Identity{Organization: "acme", Cluster: "c1"}, time.Now(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			for j := max(i-1, 0); j <= min(i+1, len(all)-1); j++ {
				if !all[j].Trusts(leaf) {
					t.Errorf("got what step %d signed refused in step %d, want it believed", i, j)
				}
			}
		}
		leaf, _, err := steady.SignClient(request(t, key), tunnel.Identity{Organization: "acme", Cluster: "c1"}, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if all[3].Trusts(leaf) {
			t.Error("got what the retired CA signed believed, want it refused")
		}
	})

	t.Run("takes no step that it may not", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		before, err := pki.Open(folder, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		no := errors.New("no")
		if _, err := pki.Rotate(folder, time.Now(), func(*pki.CA) error { return no }); !errors.Is(err, no) {
			t.Errorf("got %v, want what was asked first", err)
		}
		if after, err := pki.Read(folder); err != nil || !slices.Equal(after.Fingerprints(), before.Fingerprints()) {
			t.Errorf("got %v, %v, want the CA as it was", after, err)
		}
	})

	t.Run("is one at a time", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		if _, err := pki.Open(folder, time.Now()); err != nil {
			t.Fatal(err)
		}
		_, err := pki.Rotate(folder, time.Now(), func(*pki.CA) error {
			_, second := pki.Rotate(folder, time.Now(), may)
			return second
		})
		var said *usererr.Error
		if !errors.As(err, &said) || said.Kind != usererr.Refused {
			t.Errorf("got %v for who comes second, want a refusal", err)
		}
	})

	t.Run("clears away what one left that was killed", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		if _, err := pki.Open(folder, time.Now()); err != nil {
			t.Fatal(err)
		}
		left := filepath.Join(folder, pki.File+".next-123")
		if err := os.WriteFile(left, []byte("half a key"), 0o600); err != nil {
			t.Fatal(err)
		}
		rotate(t, folder)
		entries, err := os.ReadDir(folder)
		if err != nil || len(entries) != 1 {
			t.Errorf("got %v, %v, want the CA alone", entries, err)
		}
		info, err := os.Stat(filepath.Join(folder, pki.File))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v, want a file that only its owner may read", info.Mode(), err)
		}
	})

	t.Run("makes no CA where there is none", func(t *testing.T) {
		t.Parallel()
		for _, folder := range []string{t.TempDir(), filepath.Join(t.TempDir(), "nowhere")} {
			_, err := pki.Rotate(folder, time.Now(), may)
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != usererr.NotFound || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want that there is none", err)
			}
		}
	})

	t.Run("is read whole at any time", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		if _, err := pki.Open(folder, time.Now()); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		var reading sync.WaitGroup
		for range 4 {
			reading.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if _, err := pki.Read(folder); err != nil {
						t.Errorf("got %v between two steps, want the CA of one of them", err)
						return
					}
				}
			})
		}
		for range 12 {
			rotate(t, folder)
		}
		close(done)
		reading.Wait()
	})
}

func TestRead(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if _, err := pki.Open(folder, time.Now()); err != nil {
		t.Fatal(err)
	}
	rotate(t, folder)
	file := filepath.Join(folder, pki.File)
	two, err := os.ReadFile(file) // key, certificate, key, certificate
	if err != nil {
		t.Fatal(err)
	}
	blocks := bytes.SplitAfter(two, []byte("-----END CERTIFICATE-----\n"))
	key, certificate, _ := bytes.Cut(blocks[0], []byte("-----BEGIN CERTIFICATE-----\n"))
	for name, text := range map[string][]byte{
		"refuses a file without a key":             append([]byte("-----BEGIN CERTIFICATE-----\n"), certificate...),
		"refuses a file without a certificate":     key,
		"refuses a key of another certificate":     append(append([]byte(nil), key...), blocks[1][bytes.Index(blocks[1], []byte("-----BEGIN CERT")):]...),
		"refuses more than a rotation has":         append(append([]byte(nil), two...), two...),
		"refuses a file that is nothing":           []byte("nothing"),
		"refuses a file that is too long to be it": bytes.Repeat(two, 100),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, pki.File), text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := pki.Read(folder)
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != usererr.Invalid || said.Hint == "" {
				t.Errorf("got %v, want it refused with a hint", err)
			}
		})
	}
}
