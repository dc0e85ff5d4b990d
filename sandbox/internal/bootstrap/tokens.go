package bootstrap

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	tokenAudience = "sts.amazonaws.com" // what EKS has tokens for AWS minted for
	tokenLife     = time.Hour
	// tokenCheck is how often the files are looked at, by the machine's clock: a timer
	// until a token's end would oversleep with a laptop, and not see the clock jump.
	tokenCheck = 15 * time.Second
)

// KeepTokens renews the token files of the AWS configuration before they
// expire, until ctx ends. A cluster that does not answer for a while is asked
// again; log is told.
func KeepTokens(ctx context.Context, cfg Config, log *slog.Logger) error {
	if cfg.IAM == "" || cfg.Kubeconfig == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTicker(tokenCheck)
	defer tick.Stop()
	failing := false
	for {
		err := cfg.renewTokens(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !failing: // once, and not every quarter of a minute
			log.Warn("tokens of service accounts cannot be renewed for now", "error", err)
		case err == nil && failing:
			log.Info("tokens of service accounts are renewed again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// renewTokens writes a new token for each account whose file has none that lasts for
// at least half of a token's life.
func (c Config) renewTokens(ctx context.Context) error {
	_, set, err := c.sets()
	if err != nil {
		return err
	}
	var client *kubernetes.Clientset
	now := time.Now()
	for _, a := range accounts(set) {
		if c.Empty && !a.vendors {
			continue
		}
		if a.role == "" || c.lasts(a.name, now.Add(tokenLife/2)) {
			continue
		}
		if client == nil {
			if client, err = c.client(); err != nil {
				return err
			}
		}
		seconds := int64(tokenLife / time.Second)
		out, err := client.CoreV1().ServiceAccounts(a.namespace).CreateToken(ctx, a.kube, &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{Audiences: []string{tokenAudience}, ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) {
			continue // somebody took it away, as who uninstalls a data plane does
		}
		if err != nil {
			return fmt.Errorf("asking for a token of %s/%s: %w", a.namespace, a.kube, err)
		}
		if err := writeFile(c.tokenFile(a.name), out.Status.Token); err != nil {
			return err
		}
	}
	return nil
}

// lasts reports whether there is a token of this sandbox's cluster in an account's
// file, for its owner's eyes only, which expires after end.
func (c Config) lasts(account string, end time.Time) bool {
	file := c.tokenFile(account)
	info, err := os.Lstat(file)
	if err != nil || info.Mode() != 0o600 {
		return false
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	claims, err := readClaims(string(text))
	return err == nil && claims.Issuer == c.Issuer && claims.Expires.After(end) && claims.Issued.Before(end)
}

// claims are what a token says. Nobody's word is taken for it: whoever is shown the
// token verifies it.
type claims struct {
	Issuer          string
	Issued, Expires time.Time
}

func readClaims(token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, errors.New("it is no token")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, fmt.Errorf("it is no token: %w", err)
	}
	var body struct {
		Issuer  string `json:"iss"`
		Issued  int64  `json:"iat"`
		Expires int64  `json:"exp"`
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return claims{}, fmt.Errorf("it is no token: %w", err)
	}
	return claims{body.Issuer, time.Unix(body.Issued, 0), time.Unix(body.Expires, 0)}, nil
}
