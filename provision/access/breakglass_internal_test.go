package access

import (
	"slices"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/provision/vendor"
)

func TestOpenWindow(t *testing.T) {
	t.Parallel()
	set, err := Generate(Options{Account: "111122223333", Region: "eu-central-1", ExternalID: "5Zq0v3l1x8mTfKcW2hYbNg"})
	if err != nil {
		t.Fatal(err)
	}
	until := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, w := range []Window{
		{Until: until, Reason: "TICKET-1"},
		{Until: until, Reason: `Störung <“quoted”> & \ 停電 🔥`, SourceIdentities: []string{"ada", "grace@example.org"}},
	} {
		trust := set.openTrust(w).Document
		got := set.OpenWindow(trust)
		if got == nil || !got.Until.Equal(w.Until) || got.Reason != w.Reason || !slices.Equal(got.SourceIdentities, w.SourceIdentities) {
			t.Errorf("got %+v back from %s, want %+v", got, trust, w)
		}
		if i := strings.IndexFunc(string(trust), func(r rune) bool { return r > 0x7e }); i >= 0 {
			t.Errorf("got %s, want ASCII alone", trust)
		}
	}

	open := string(set.openTrust(Window{Until: until, Reason: "TICKET-1", SourceIdentities: []string{"ada"}}).Document)
	for name, trust := range map[string]string{
		"the role's own":           string(set.Roles[3].Trust.Document),
		"one without end":          strings.Replace(open, `"DateLessThan":{"aws:CurrentTime":"2026-11-30T12:00:00Z"},`, "", 1),
		"one for another":          strings.Replace(open, "479331373192", "479331373193", 1),
		"one without external ID":  strings.Replace(open, `"sts:ExternalId":"5Zq0v3l1x8mTfKcW2hYbNg",`, "", 1),
		"one without identity":     strings.Replace(open, `"Null":{"sts:SourceIdentity":"false"}`, `"Null":{"sts:SourceIdentity":"true"}`, 1),
		"one with more":            strings.Replace(open, `[{`, `[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"},{`, 1),
		"one without reason":       strings.Replace(open, `"Id":"TICKET-1",`, "", 1),
		"what is no document":      "{",
		"one with an empty value":  strings.Replace(open, `"ada"`, `[]`, 1),
		"one that lets more do it": strings.Replace(open, `"sts:SetSourceIdentity"`, `"sts:*"`, 1),
	} {
		if trust == open {
			t.Errorf("%s: got the trust unchanged", name)
		}
		if w := set.OpenWindow([]byte(trust)); w != nil {
			t.Errorf("got %s for a window, %+v", name, w)
		}
	}
}

func TestIsWindowPolicy(t *testing.T) {
	t.Parallel()
	v := vendor.Default()
	role, policy := BreakGlassRole(v), WindowPolicyName(v)
	before := time.Date(2026, 11, 30, 11, 0, 0, 0, time.UTC)
	closed, open := rail{before: before}.document(), rail{before: before, until: before.Add(time.Hour)}.document()
	for _, text := range [][]byte{closed, open} {
		if !IsWindowPolicy(v, role, policy, text) {
			t.Errorf("got a stranger's policy, want the role's own: %s", text)
		}
		if IsWindowPolicy(v, v.RoleName, policy, text) || IsWindowPolicy(v, role, "other", text) {
			t.Error("got another role's or another name for the role's own")
		}
	}
	for _, text := range []string{
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
		strings.Replace(string(closed), "Deny", "Allow", 1),
		strings.Replace(string(open), `[{`, `[{"Effect":"Allow","Action":"*","Resource":"*"},{`, 1),
		strings.Replace(string(closed), `"Action":"*"`, `"Action":"s3:*"`, 1),
		`{"Version":"2012-10-17","Statement":[]}`, "",
	} {
		if IsWindowPolicy(v, role, policy, []byte(text)) {
			t.Errorf("got the role's own policy for %s", text)
		}
	}
}
