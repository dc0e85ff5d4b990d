package access_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/access"
)

// Whoever changes a document has to say so by the version: a grant carries it in a tag,
// and an update tells its reader from which version it goes to which.
func TestThePolicyVersionIsThatOfTheseDocuments(t *testing.T) {
	t.Parallel()
	sum := sha256.New()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1"} {
		for _, profile := range []access.ProfileName{access.Strict, access.Compat} {
			for _, endpoint := range []bool{false, true} {
				set := generate(t, func(o *access.Options) {
					o.Profile, o.Region, o.PrivateEndpoint, o.DeletePermissions = profile, region, endpoint, profile == access.Strict
				})
				if err := json.NewEncoder(sum).Encode(set); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	got := access.PolicyVersion + " " + hex.EncodeToString(sum.Sum(nil)) + "\n"
	const file = "testdata/policy-version.txt"
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	if version, _, _ := strings.Cut(string(want), " "); version == access.PolicyVersion {
		t.Fatalf("the documents are others than those of version %s: raise PolicyVersion in version.go (major: rights are taken; minor: rights are added or moved; patch: words), then write to %s:\n%s", version, file, got)
	}
	t.Errorf("got %swant %sin %s", got, want, file)
}
