package cluster_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/plane"
)

// apiServer answers as an API server does to who has no token.
func apiServer(t *testing.T, status int) (*plane.Plane, *httptest.Server) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("got %s, want /readyz", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	p := &plane.Plane{}
	p.Know(plane.ClusterAddress, server.URL)
	p.Know(plane.ClusterCA, authority(server))
	return p, server
}

func authority(server *httptest.Server) string {
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized} {
		p, _ := apiServer(t, status)
		if said, err := cluster.Answers(t.Context(), p); err != nil || !strings.HasPrefix(said, fmt.Sprintf("/readyz answers %d, in ", status)) {
			t.Errorf("status %d: got %q and error %v, want it to answer", status, said, err)
		}
	}
	p, _ := apiServer(t, http.StatusInternalServerError)
	if said, err := cluster.Answers(t.Context(), p); err == nil || errors.Is(err, cluster.ErrNotReached) || !strings.Contains(err.Error(), "500") {
		t.Errorf("got %q and error %v, want it to be told that it is not ready", said, err)
	}
}

// Whoever is not reached from here may work for others; whoever is not the cluster does not.
func TestAnswersTellsWhyNot(t *testing.T) {
	t.Parallel()
	p, _ := apiServer(t, http.StatusOK)
	_, other := apiServer(t, http.StatusOK)
	p.Know(plane.ClusterCA, base64.StdEncoding.EncodeToString([]byte("no certificate")))
	if _, err := cluster.Answers(t.Context(), p); err == nil || !strings.Contains(err.Error(), "authority") {
		t.Errorf("got %v, want the authority to be refused", err)
	}

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	p.Know(plane.ClusterCA, authority(other))
	for address, says := range map[string]string{
		"https://" + closed.Addr().String():                     "refused",
		"https://nobody.eks.invalid":                            "nobody.eks.invalid has no address here",
		strings.Replace(other.URL, "127.0.0.1", "localhost", 1): "is not the cluster",
		"no address": "cannot be read",
	} {
		p.Know(plane.ClusterAddress, address)
		_, err := cluster.Answers(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", address, err, says)
		}
		if unreached := says == "refused" || strings.Contains(says, "no address here"); errors.Is(err, cluster.ErrNotReached) != unreached {
			t.Errorf("%s: got %v, want it to be told whether it was reached", address, err)
		}
	}
}
