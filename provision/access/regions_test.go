package access

import "testing"

func TestARegionThatDoesNotExistIsAnsweredWithTheNearest(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"eu-centrl-1": "eu-central-1",
		"us-east-9":   "us-east-1",
		"cn-north-2":  "cn-north-1",
		"US-EAST-1":   "us-east-1",
		" us-west-2 ": "us-west-2",
	} {
		if got := nearestRegion(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}
