package awsdouble

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/sandbox"
)

// tokenReview is what an API server asks by its webhook for tokens, as far as it
// matters (authentication.k8s.io/v1).
type tokenReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Token string `json:"token"`
	} `json:"spec"`
	Status struct {
		Authenticated bool     `json:"authenticated"`
		User          kubeUser `json:"user"`
		Error         string   `json:"error,omitempty"`
	} `json:"status"`
}

type kubeUser struct {
	Username string   `json:"username"`
	UID      string   `json:"uid,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

// answerTokens answers the sandbox's API server about tokens of IAM's principals, as
// EKS does for its own: a token is a signed question to STS, and the access entries
// say who its signer is in the cluster. All clusters of the account are the one
// sandbox, so the token says for which of them it is.
func (d *Double) answerTokens() error {
	run := d.world.backed.folder.Run()
	if other, err := sandbox.DialSocket(context.Background(), run, sandbox.TokenSocket); err == nil {
		other.Close()
		return fmt.Errorf("%w of sandbox %s: stop it, or name another sandbox", ErrInUse, d.world.backed.folder.Name())
	}
	listener, err := sandbox.ListenSocket(run, sandbox.TokenSocket)
	if err != nil {
		return fmt.Errorf("listening for the sandbox's tokens: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(d.reviewToken), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(listener) // returns by Close
	}()
	d.closing = append(d.closing, func() error {
		err := server.Close()
		<-ended
		return errors.Join(err, os.Remove(filepath.Join(run, sandbox.TokenSocket)))
	})
	return nil
}

func (d *Double) reviewToken(w http.ResponseWriter, r *http.Request) {
	var review tokenReview
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&review); err != nil {
		http.Error(w, "not a TokenReview", http.StatusBadRequest)
		return
	}
	user, err := d.identify(r.Context(), review.Spec.Token)
	review.Spec.Token = ""
	if err != nil {
		d.log.Info("a token of the cluster was refused", "error", err)
		review.Status.Error = err.Error()
	} else {
		review.Status.Authenticated, review.Status.User = true, user
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(review)
}

var errNoToken = errors.New("not a token of IAM")

// identify finds who signed a token, and who that is in the cluster.
func (d *Double) identify(ctx context.Context, token string) (kubeUser, error) {
	text, ours := strings.CutPrefix(token, "k8s-aws-v1.")
	link, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if !ours || err != nil {
		return kubeUser{}, errNoToken
	}
	target, err := url.Parse(string(link))
	if err != nil || target.Scheme+"://"+target.Host != d.url || target.Query().Get("Action") != "GetCallerIdentity" {
		return kubeUser{}, errNoToken
	}
	at := eks.Where{Partition: partitionOf(d.region), Account: d.customer, Region: d.region}
	last := errors.New("there is no cluster")
	for _, name := range d.world.eks.Clusters(at) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
		if err != nil {
			return kubeUser{}, errNoToken
		}
		r.Header.Set("x-k8s-aws-id", name)
		caller, err := d.identity.Authenticate(r)
		if err != nil {
			last = err
			continue
		}
		if !strings.Contains(target.Query().Get("X-Amz-SignedHeaders"), "x-k8s-aws-id") {
			return kubeUser{}, errNoToken // it would be good for every cluster
		}
		identity, ok := d.world.eks.Identify(at, name, caller.PrincipalARN, caller.SessionName)
		if !ok {
			return kubeUser{}, fmt.Errorf("%s has no access entry in cluster %s", caller.PrincipalARN, name)
		}
		return kubeUser{Username: identity.Username, UID: "aws-iam-authenticator:" + caller.Account + ":" + caller.UserID, Groups: identity.Groups}, nil
	}
	return kubeUser{}, last
}
