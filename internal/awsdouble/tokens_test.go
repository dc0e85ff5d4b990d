package awsdouble

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsdouble/typical"
	"biplane.dev/biplane/internal/awsidentity"
)

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// tokenOf is what the AWS CLI's `eks get-token` prints for a cluster; with none the
// cluster's name is not signed.
func tokenOf(t *testing.T, d *Double, key awsidentity.Credentials, cluster string, at time.Time) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, d.URL()+"/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires=60", nil)
	if err != nil {
		t.Fatal(err)
	}
	if cluster != "" {
		r.Header.Set("x-k8s-aws-id", cluster)
	}
	link, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.SessionToken},
		r, emptyHash, "sts", d.region, at)
	if err != nil {
		t.Fatal(err)
	}
	return "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(link))
}

// Who signed a token is in a cluster who its access entry says.
func TestTokens(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.eks(http.MethodPost, "/clusters", clusterRequest(t, a.d, "demo", "cluster"))
	a.clock.pass(typical.CreateCluster)
	a.eks(http.MethodGet, "/clusters/demo", "")
	at := eks.Where{Partition: "aws", Account: a.d.customer, Region: a.d.region}
	if got := a.d.world.eks.Clusters(at); !slices.Equal(got, []string{"demo"}) {
		t.Fatalf("got clusters %v, want demo", got)
	}

	t.Run("knows who made the cluster as its administrator", func(t *testing.T) {
		user, err := a.d.identify(t.Context(), tokenOf(t, a.d, a.key, "demo", time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(user.Groups, "eks:AmazonEKSClusterAdminPolicy") || !strings.HasPrefix(user.Username, "arn:aws:iam::") {
			t.Errorf("got %+v, want the administrator", user)
		}
	})
	for name, token := range map[string]string{
		"refuses one for another cluster":              tokenOf(t, a.d, a.key, "other", time.Now()),
		"refuses one that names no cluster":            tokenOf(t, a.d, a.key, "", time.Now()),
		"refuses one that is a quarter of an hour old": tokenOf(t, a.d, a.key, "demo", time.Now().Add(-16*time.Minute)),
		"refuses who has no entry":                     tokenOf(t, a.d, a.d.Accounts().Stranger.Credentials, "demo", time.Now()),
		"refuses one that leads elsewhere":             "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte("http://127.0.0.1:1/?Action=GetCallerIdentity")),
		"refuses another question":                     "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(a.d.URL()+"/?Action=GetSessionToken")),
		"refuses what is no token":                     "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
	} {
		t.Run(name, func(t *testing.T) {
			if user, err := a.d.identify(t.Context(), token); err == nil {
				t.Errorf("got %+v, want it refused", user)
			}
		})
	}
}
