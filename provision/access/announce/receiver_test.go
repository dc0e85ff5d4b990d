package announce_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"biplane.dev/biplane/provision/access/announce"
)

func TestReceiver(t *testing.T) {
	t.Parallel()
	t.Run("believes what STS says the stack's function has signed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if status, text := w.send(w.envelope(w.announcement(), signing{})); status != http.StatusOK || text != "received" {
			t.Fatalf("got %d %q, want it received; log:\n%s", status, text, w.logged)
		}
		got := w.got()
		want := announce.Received{
			Account: account, Region: region, RoleARN: roleARN, ExternalIDFor: "acme", Profile: "strict", PolicyVersion: "1.0.0", StackID: stackID,
			CallerARN: "arn:aws:sts::123456789012:assumed-role/union-ai-admin-announce/function",
		}
		if len(got) != 1 || got[0].Time.IsZero() {
			t.Fatalf("got %+v, want one with the time", got)
		}
		if got[0].Time = (time.Time{}); got[0] != want {
			t.Errorf("got %+v, want %+v", got[0], want)
		}
		for _, secret := range []string{externalID, w.function.SessionToken, "Signature="} {
			if strings.Contains(w.logged.String(), secret) {
				t.Errorf("got %q in the log, want no secret:\n%s", secret, w.logged)
			}
		}
	})
	t.Run("says whether the role can be assumed, if it is to try", func(t *testing.T) {
		t.Parallel()
		for _, failed := range []error{nil, errors.New("not trusted")} {
			w := newWorld(t, func(o *announce.Options) {
				o.Verify = func(_ context.Context, role, id string) error {
					if role != roleARN || id != externalID {
						t.Errorf("got %s with %s to assume, want %s with %s", role, id, roleARN, externalID)
					}
					return failed
				}
			})
			w.send(w.envelope(w.announcement(), signing{}))
			if got := w.got(); len(got) != 1 || got[0].Assumed == nil || *got[0].Assumed != (failed == nil) {
				t.Errorf("got %+v, want one that says %t", got, failed == nil)
			}
		}
	})
	t.Run("has the sender try again when it cannot write it down", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(o *announce.Options) {
			o.Receive = func(announce.Received) error { return errors.New("disk full") }
		})
		if status, text := w.send(w.envelope(w.announcement(), signing{})); status != http.StatusServiceUnavailable || strings.Contains(text, "disk") {
			t.Errorf("got %d %q, want 503 and no word of the disk", status, text)
		}
	})
}

// TestRefusal is everything that somebody may try. Each begins with what would be received.
func TestRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign := w.session(stranger, "union-ai-admin-announce")
	another := w.session(account, "some-other-function")
	longLived := w.double.Accounts().Customer.Credentials
	type announcement = announce.Announcement
	for _, c := range []struct {
		name   string
		say    func(*announcement)
		sign   signing
		alter  func(*announce.Envelope) // after it was signed
		status int
		reason string
	}{
		{name: "refuses what is for another receiver", say: func(a *announcement) { a.Receiver = "https://elsewhere.example.com/" },
			status: 421, reason: "it is for another receiver"},
		{name: "refuses what was signed for another receiver and now names this one", alter: func(e *announce.Envelope) {
			a := w.announcement()
			a.Receiver = "https://elsewhere.example.com/"
			other := w.envelope(a, signing{})
			e.MAC, e.Authorization, e.Date = other.MAC, other.Authorization, other.Date
		}, status: 403, reason: "the external ID is not one that is expected"},
		{name: "refuses the same by somebody who has the external ID", alter: func(e *announce.Envelope) {
			a := w.announcement()
			a.Receiver = "https://elsewhere.example.com/"
			other := w.envelope(a, signing{})
			e.Authorization, e.Date = other.Authorization, other.Date
		}, status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses another role than was signed", alter: func(e *announce.Envelope) {
			e.Announcement = strings.Replace(e.Announcement, "union-ai-admin", "administrator", 1)
			e.MAC = announce.MAC(externalID, e.Digest())
		}, status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses another account than was signed", alter: func(e *announce.Envelope) {
			e.Announcement = strings.ReplaceAll(e.Announcement, account, stranger)
			e.MAC = announce.MAC(externalID, e.Digest())
		}, status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses a role of another account than the stack's", say: func(a *announcement) { a.RoleARN = strings.Replace(roleARN, account, stranger, 1) },
			status: 400, reason: "the role is of another account than the stack"},
		{name: "refuses who signs in another account", sign: signing{key: &foreign},
			status: 403, reason: "it was not signed by the role union-ai-admin-announce of the stack's account"},
		{name: "refuses another role of the account", sign: signing{key: &another},
			status: 403, reason: "it was not signed by the role union-ai-admin-announce of the stack's account"},
		{name: "refuses a key that is no role's", sign: signing{key: &longLived},
			status: 400, reason: "a field of the envelope is missing or has not its form"},
		{name: "refuses a token that is another's", alter: func(e *announce.Envelope) { e.Token = foreign.SessionToken },
			status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses a signature of another operation", sign: signing{body: "Action=GetSessionToken&Version=2011-06-15"},
			status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses a signature of another method", sign: signing{method: http.MethodGet},
			status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses a signature for another host", sign: signing{host: "sts.evil.example.com"},
			status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses a signature of another service", sign: signing{service: "iam"},
			status: 400, reason: "the signature is not one of the call that is asked for"},
		{name: "refuses a signature of another region", sign: signing{region: "us-east-1"},
			status: 400, reason: "the signature is not one of the call that is asked for"},
		{name: "refuses a signature that is bound to no announcement", sign: signing{unbound: true},
			status: 400, reason: "the signature is not one of the call that is asked for"},
		{name: "refuses a signature that covers more", sign: signing{header: "X-Amz-Target"},
			status: 400, reason: "the signature is not one of the call that is asked for"},
		{name: "refuses a header in a header", alter: func(e *announce.Envelope) { e.Token += "\r\nHost: evil.example.com" },
			status: 400, reason: "a field of the envelope is missing or has not its form"},
		{name: "refuses a signature of six minutes ago", sign: signing{time: time.Now().Add(-6 * time.Minute)},
			status: 403, reason: "the signature is not of the last five minutes"},
		{name: "refuses a signature of the future", sign: signing{time: time.Now().Add(6 * time.Minute)},
			status: 403, reason: "the signature is not of the last five minutes"},
		{name: "refuses an older signature with a newer time", sign: signing{time: time.Now().Add(-6 * time.Minute)},
			alter:  func(e *announce.Envelope) { e.Date = time.Now().UTC().Format("20060102T150405Z") },
			status: 403, reason: "AWS STS does not accept the signature"},
		{name: "refuses an external ID that nobody has", sign: signing{externalID: "nobody-has-this"},
			status: 403, reason: "the external ID is not one that is expected"},
		{name: "refuses a stack of a region that is none", say: func(a *announcement) { a.StackID = strings.Replace(stackID, region, "eu-centrall-1", 1) },
			status: 400, reason: "stackId names no region of its partition"},
		{name: "refuses a region that would be another host", say: func(a *announcement) { a.StackID = strings.Replace(stackID, region, "evil.example.com/x", 1) },
			status: 400, reason: "stackId is no ARN of a stack"},
		{name: "refuses a region of another partition", say: func(a *announcement) { a.StackID = strings.Replace(stackID, region, "cn-north-1", 1) },
			status: 400, reason: "stackId names no region of its partition"},
		{name: "refuses what would draw on a terminal", say: func(a *announcement) { a.PolicyVersion = "\x1b[2J" },
			status: 400, reason: "profile, policyVersion or nonce has not its form"},
		{name: "refuses what has no nonce", say: func(a *announcement) { a.Nonce = "" },
			status: 400, reason: "profile, policyVersion or nonce has not its form"},
		{name: "refuses what is no announcement", alter: func(e *announce.Envelope) { *e = w.sign("[]", signing{}) },
			status: 400, reason: "the announcement is not JSON of the known form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.announcement()
			if c.say != nil {
				c.say(&a)
			}
			e := w.envelope(a, c.sign)
			if c.alter != nil {
				c.alter(&e)
			}
			if status, reason := w.send(e); status != c.status || reason != c.reason {
				t.Errorf("got %d %q, want %d %q; log:\n%s", status, reason, c.status, c.reason, w.logged)
			}
		})
	}
	if got := w.got(); len(got) != 0 {
		t.Errorf("got %+v received, want nothing", got)
	}
}

func TestRefusalOfRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("refuses a body that is too large", func(t *testing.T) {
		if status, reason := w.post(`{"announcement":"` + strings.Repeat("x", announce.MaxBody) + `"}`); status != 413 {
			t.Errorf("got %d %q, want 413", status, reason)
		}
	})
	t.Run("refuses what is not JSON", func(t *testing.T) {
		if status, reason := w.post("hello"); status != 400 {
			t.Errorf("got %d %q, want 400", status, reason)
		}
	})
	t.Run("takes nothing but POST on its own path", func(t *testing.T) {
		for _, c := range []struct {
			method, path, kind string
			status             int
		}{{"GET", "/announcements", "", 405}, {"POST", "/", "application/json", 404}, {"POST", "/announcements/", "application/json", 404}, {"POST", "/announcements", "text/plain", 415}, {"GET", "/healthz", "", 200}} {
			r, err := http.NewRequestWithContext(t.Context(), c.method, w.at.URL+c.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", c.kind)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != c.status {
				t.Errorf("got %d for %s %s, want %d", answer.StatusCode, c.method, c.path, c.status)
			}
		}
	})
	t.Run("does not wait for a body that never comes", func(t *testing.T) {
		receiver := newWorld(t)
		receiver.at.Config.ReadTimeout = 50 * time.Millisecond // of connections from now on
		connection, err := net.Dial("tcp", receiver.at.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		io.WriteString(connection, "POST /announcements HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != 400 {
			t.Errorf("got %d, want 400", answer.StatusCode)
		}
	})
}

func TestReplay(t *testing.T) {
	t.Parallel()
	t.Run("is refused, after a restart too", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		e := w.envelope(w.announcement(), signing{})
		if status, _ := w.send(e); status != 200 {
			t.Fatalf("got %d, want 200", status)
		}
		url := w.url()
		for range 2 {
			if status, reason := w.send(e); status != 409 || reason != "it was received before" {
				t.Errorf("got %d %q, want 409", status, reason)
			}
			w.serve(func(o *announce.Options) {
				same, err := o.URL.Parse(url) // as behind a proxy
				if err != nil {
					t.Fatal(err)
				}
				o.URL = same
			})
		}
		if got := w.got(); len(got) != 1 {
			t.Errorf("got %d received, want 1", len(got))
		}
	})
	t.Run("is refused when the same is signed anew", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.announcement()
		w.send(w.envelope(a, signing{}))
		if status, _ := w.send(w.envelope(a, signing{time: time.Now().Add(time.Minute)})); status != 409 {
			t.Errorf("got %d, want 409", status)
		}
	})
	t.Run("is refused to all but one of many at once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		e := w.envelope(w.announcement(), signing{})
		var all sync.WaitGroup
		statuses := make(chan int, 12)
		for range cap(statuses) {
			all.Go(func() {
				status, _ := w.send(e)
				statuses <- status
			})
		}
		all.Wait()
		close(statuses)
		count := map[int]int{}
		for status := range statuses {
			count[status]++
		}
		if count[200] != 1 || count[409] != 11 {
			t.Errorf("got statuses %v, want one 200 and eleven 409", count)
		}
	})
	t.Run("leaves room for others, and is forgotten when its time has passed", func(t *testing.T) {
		t.Parallel()
		now := time.Now()
		w := newWorld(t, func(o *announce.Options) { o.Now = func() time.Time { return now } })
		var last int
		for range 101 {
			last, _ = w.send(w.envelope(w.announcement(), signing{time: now}))
		}
		if last != 429 {
			t.Errorf("got %d for the 101st, want 429", last)
		}
		if status, _ := w.send(w.envelope(w.announcement(), signing{time: now, externalID: "of-somebody-else"})); status != 200 {
			t.Errorf("got %d for another customer, want 200", status)
		}
		then := now
		now = now.Add(11 * time.Minute)
		if status, _ := w.send(w.envelope(w.announcement(), signing{time: now})); status != 200 {
			t.Errorf("got %d after %s, want 200", status, now.Sub(then))
		}
	})
}

func TestSTS(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]struct {
		handler http.HandlerFunc
		status  int
	}{
		"that redirects is not followed": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				panic("followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, 503},
		"that is out of order leaves it open": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 503},
		"that answers something else leaves it open": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<GetSessionTokenResponse><GetCallerIdentityResult><Arn>x</Arn></GetCallerIdentityResult></GetSessionTokenResponse>")
		}, 503},
		"that throttles leaves it open": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>")
		}, 503},
		"that says another account than the ARN's is not believed": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::999999999999:assumed-role/union-ai-admin-announce/x</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>")
		}, 403},
		"is asked one call, in the name of its own host": {func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.Host != "sts.eu-central-1.amazonaws.com" || string(body) != "Action=GetCallerIdentity&Version=2011-06-15" || r.Method != "POST" || r.URL.Path != "/" {
				panic("got " + r.Method + " " + r.Host + r.URL.Path + " " + string(body))
			}
			io.WriteString(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/union-ai-admin-announce/xx</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>")
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sts := httptest.NewServer(answer.handler)
			defer sts.Close()
			w := newWorld(t, func(o *announce.Options) { o.Endpoint = sts.URL })
			if status, reason := w.send(w.envelope(w.announcement(), signing{})); status != answer.status {
				t.Errorf("got %d %q, want %d; log:\n%s", status, reason, answer.status, w.logged)
			}
		})
	}
	t.Run("is asked nothing for who has no external ID", func(t *testing.T) {
		t.Parallel()
		sts := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
		defer sts.Close()
		w := newWorld(t, func(o *announce.Options) { o.Endpoint = sts.URL })
		w.send(w.envelope(w.announcement(), signing{externalID: "nobody-has-this"}))
	})
}

func TestReceivedIsStable(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(announce.Received{Time: time.Unix(0, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"1970-01-01T00:00:00Z","account":"","region":"","roleArn":"","externalIdFor":"","profile":"","policyVersion":"","stackId":"","callerArn":""}`
	if string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
}
