package announce_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access/announce"
)

const head = "apiVersion: biplane.dev/v1\nkind: ExpectedCustomers\n"

func TestReadCustomers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"refuses an unknown key", head + "customers:\n- {name: a, externalID: x}\n", `:4: there is no key "customers[0].externalID"`},
		{"refuses an empty list", head + "customers: []\n", "there are no customers"},
		{"refuses a name that would be a path", head + "customers:\n- {name: ../a, externalIds: [abcdefgh]}\n", `customers[0].name cannot be "../a"`},
		{"refuses two of a name", head + "customers:\n- {name: a, externalIds: [abcdefgh]}\n- {name: a, externalIds: [abcdefgi]}\n", `there are two customers "a"`},
		{"refuses an external ID that two have", head + "customers:\n- {name: a, externalIds: [abcdefgh]}\n- {name: b, externalIds: [abcdefgh]}\n", "customers a and b have the same external ID"},
		{"refuses an external ID that IAM would not take", head + "customers:\n- {name: a, externalIds: [short]}\n", "an external ID of customer a cannot be used"},
		{"refuses a customer without one", head + "customers:\n- {name: a}\n", "customer a has no externalIds"},
		{"refuses an external ID that is none", head + "customers:\n- {name: a, externalIds: [[abcdefgh]]}\n", "one piece of text"},
		{"refuses an account that is none", head + "customers:\n- {name: a, externalIds: [abcdefgh], account: '12'}\n", `account "12" of customer a is not an AWS account`},
		{"refuses another kind of file", "apiVersion: biplane.dev/v1\nkind: VendorProfile\n", `kind is "VendorProfile"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, customers: t.TempDir() + "/expected.yaml"}
			w.write(c.text, 0o600)
			_, err := announce.ReadCustomers(w.customers)
			var said *usererr.Error
			if !errors.As(err, &said) || !strings.Contains(said.Error(), c.want) || said.Hint == "" {
				t.Errorf("got %v, want a sentence with %q and a hint", err, c.want)
			}
		})
	}
	t.Run("refuses a file that others may read", func(t *testing.T) {
		t.Parallel()
		w := &world{t: t, customers: t.TempDir() + "/expected.yaml"}
		w.write(head+"customers:\n- {name: a, externalIds: [abcdefgh]}\n", 0o640)
		if _, err := announce.ReadCustomers(w.customers); err == nil || !strings.Contains(err.Error(), "mode 0640") {
			t.Errorf("got %v, want a sentence on its mode", err)
		}
	})
	t.Run("refuses a file that is not there", func(t *testing.T) {
		t.Parallel()
		if _, err := announce.ReadCustomers(t.TempDir() + "/none"); err == nil {
			t.Error("got no error, want one")
		}
	})
}

func TestExpectation(t *testing.T) {
	t.Parallel()
	t.Run("follows the file, and stays when that cannot be used", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		told := func(id string) int {
			status, _ := w.send(w.envelope(w.announcement(), signing{externalID: id}))
			return status
		}
		if got := told("new-external-id"); got != http.StatusForbidden {
			t.Errorf("got %d before it is in the file, want 403", got)
		}
		w.expect("- {name: acme, externalIds: [new-external-id]}\n")
		if got := told("new-external-id"); got != http.StatusOK {
			t.Errorf("got %d, want 200", got)
		}
		if got := told(externalID); got != http.StatusForbidden {
			t.Errorf("got %d for one that was taken out, want 403", got)
		}
		w.expect("- {name: acme, externalIds: [x]}\n")
		if got := told("new-external-id"); got != http.StatusOK {
			t.Errorf("got %d with a file that cannot be used, want 200", got)
		}
		if err := os.Remove(w.customers); err != nil {
			t.Fatal(err)
		}
		if got := told("new-external-id"); got != http.StatusOK {
			t.Errorf("got %d without the file, want 200", got)
		}
	})
	t.Run("may name the account", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.expect("- {name: acme, externalIds: [" + externalID + "], account: \"" + stranger + "\"}\n")
		if status, reason := w.send(w.envelope(w.announcement(), signing{})); status != 403 || reason != "the account is not the one that is expected with this external ID" {
			t.Errorf("got %d %q, want 403", status, reason)
		}
	})
	t.Run("takes an external ID of digits as it is written", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for _, id := range []string{"0123456701", "12345678", "1e100000", "0x12345678", "2026-11-30", "12_345_678"} {
			w.expect("- {name: acme, externalIds: [" + id + "]}\n")
			if status, reason := w.send(w.envelope(w.announcement(), signing{externalID: id})); status != 200 {
				t.Errorf("got %d %q for %s, want 200", status, reason, id)
			}
		}
	})
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"https://vendor.example.com/announcements", "https://vendor.example.com", "https://vendor.example.com:8443/", "http://127.0.0.1:8443/a/b", "http://localhost:1"} {
		if _, err := announce.ParseURL(good); err != nil {
			t.Errorf("got %v for %s, want no error", err, good)
		}
	}
	for _, bad := range []string{"", "vendor.example.com", "http://vendor.example.com/", "http://127.0.0.1.example.com/", "http://127.0.0.1:80@example.com/", "https://user@example.com/", "https://example.com/?a=b",
		"https://example.com/#a", "https://example.com/%2e", "https://example.com//a", "ftp://example.com/", "https://example.com:port/", "https://example.com/" + strings.Repeat("a", 1024)} {
		if _, err := announce.ParseURL(bad); err == nil {
			t.Errorf("got no error for %q, want one", bad)
		}
	}
}
