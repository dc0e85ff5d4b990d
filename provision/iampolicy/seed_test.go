package iampolicy

import (
	"os"
	"strings"
	"testing"
)

// seedText is one of the seed's documents with its placeholders filled in, as
// a reader of the seed would: main and private spell them differently.
func seedText(t testing.TB, name, region string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/seed/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.NewReplacer(
		"${AWS::Region}", region, "<<REGION>>", region,
		"${AWS::AccountID}", "123456789012", "<<ACCOUNT_ID>>", "123456789012",
	).Replace(string(raw)))
}

func seedDocument(t testing.TB, name, region string) *Document {
	t.Helper()
	d, err := Parse(name, seedText(t, name, region))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var seedRegions = []string{
	"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-west-2", "eu-central-1", "ap-northeast-1",
}
