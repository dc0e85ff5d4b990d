package announce_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/access/announce"
)

const (
	account    = "123456789012"
	stranger   = "999999999999"
	region     = "eu-central-1"
	stackID    = "arn:aws:cloudformation:eu-central-1:123456789012:stack/UnionCloudAccess/0f5c1a5e-5d4b-4c4e-9a3e-3d1c2b1a0f9e"
	roleARN    = "arn:aws:iam::123456789012:role/union/union-ai-admin"
	externalID = "5Zq0v3l1x8mTfKcW2hYbNg"
)

// world is a receiver before the STS of a double, and the role of a function in the
// customer's account.
type world struct {
	t         *testing.T
	double    *awsdouble.Double
	function  awsidentity.Credentials
	customers string // the file
	seen      string // the folder
	at        *httptest.Server
	logged    *bytes.Buffer

	lock     sync.Mutex
	received []announce.Received
}

func newWorld(t *testing.T, change ...func(*announce.Options)) *world {
	t.Helper()
	double, err := awsdouble.Start(t.Context(), awsdouble.Options{Region: region, CustomerAccount: account})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { double.Stop() })
	w := &world{t: t, double: double, customers: filepath.Join(t.TempDir(), "expected.yaml"), seen: filepath.Join(t.TempDir(), "seen")}
	w.function = w.session(account, "union-ai-admin-announce")
	w.expect("- name: acme\n  externalIds: [another-of-theirs, " + externalID + "]\n- name: other\n  externalIds: [of-somebody-else]\n")
	w.serve(change...)
	return w
}

// session makes a role that Lambda may have, and gives its credentials.
func (w *world) session(account, role string) awsidentity.Credentials {
	w.t.Helper()
	arn, err := w.double.Identity().SeedRole(account, awsidentity.Role{
		Name: role, Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	credentials, err := w.double.Identity().Session(arn, "function", time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return credentials
}

func (w *world) expect(list string) {
	w.t.Helper()
	w.write("apiVersion: biplane.dev/v1\nkind: ExpectedCustomers\ncustomers:\n"+list, 0o600)
}

func (w *world) write(text string, mode os.FileMode) {
	w.t.Helper()
	if err := os.WriteFile(w.customers, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(w.customers, mode); err != nil {
		w.t.Fatal(err)
	}
}

// serve starts a receiver as a new process would: it knows the file and the folder alone.
func (w *world) serve(change ...func(*announce.Options)) {
	w.t.Helper()
	customers, err := announce.ReadCustomers(w.customers)
	if err != nil {
		w.t.Fatal(err)
	}
	seen, err := announce.OpenSeen(w.seen)
	if err != nil {
		w.t.Fatal(err)
	}
	w.logged = &bytes.Buffer{}
	o := announce.Options{
		Customers: customers, Seen: seen, Endpoint: w.double.URL(), Now: time.Now,
		Log: slog.New(slog.NewTextHandler(&locked{to: w.logged}, nil)),
		Receive: func(r announce.Received) error {
			w.lock.Lock()
			defer w.lock.Unlock()
			w.received = append(w.received, r)
			return nil
		},
	}
	w.at = httptest.NewUnstartedServer(nil)
	if o.URL, err = url.Parse("http://" + w.at.Listener.Addr().String() + "/announcements"); err != nil {
		w.t.Fatal(err)
	}
	for _, f := range change {
		f(&o)
	}
	w.at.Config = announce.New(o).Server()
	w.at.Start()
	w.t.Cleanup(w.at.Close)
}

type locked struct {
	lock sync.Mutex
	to   io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.to.Write(p)
}

func (w *world) url() string { return w.at.URL + "/announcements" }

// announcement is what the function of the stack would say.
func (w *world) announcement() announce.Announcement {
	nonce := make([]byte, 16)
	rand.Read(nonce)
	return announce.Announcement{Receiver: w.url(), StackID: stackID, RoleARN: roleARN, Profile: "strict", PolicyVersion: "1.0.0", Nonce: hex.EncodeToString(nonce)}
}

// signing is how an envelope is signed; the zero value is as it should be.
type signing struct {
	key        *awsidentity.Credentials
	externalID string
	time       time.Time
	host       string
	service    string
	region     string
	body       string
	method     string
	header     string // signed too
	unbound    bool   // the announcement's digest is not signed
}

func (w *world) envelope(a announce.Announcement, s signing) announce.Envelope {
	w.t.Helper()
	text, err := json.Marshal(a)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.sign(string(text), s)
}

func (w *world) sign(text string, s signing) announce.Envelope {
	w.t.Helper()
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	if s.key == nil {
		s.key = &w.function
	}
	if s.time.IsZero() {
		s.time = time.Now()
	}
	e := announce.Envelope{Announcement: text}
	e.MAC = announce.MAC(or(s.externalID, externalID), e.Digest())
	r, err := http.NewRequest(or(s.method, http.MethodPost), "https://"+or(s.host, "sts.eu-central-1.amazonaws.com")+"/", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if !s.unbound {
		r.Header.Set("X-Biplane-Announcement", e.Digest())
	}
	if s.header != "" {
		r.Header.Set(s.header, "x")
	}
	hash := sha256.Sum256([]byte(or(s.body, "Action=GetCallerIdentity&Version=2011-06-15")))
	key := aws.Credentials{AccessKeyID: s.key.AccessKeyID, SecretAccessKey: s.key.SecretAccessKey, SessionToken: s.key.SessionToken}
	if err := v4.NewSigner().SignHTTP(context.Background(), key, r, hex.EncodeToString(hash[:]), or(s.service, "sts"), or(s.region, region), s.time); err != nil {
		w.t.Fatal(err)
	}
	e.Authorization, e.Date, e.Token = r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Security-Token")
	return e
}

// send posts an envelope and returns the answer: its status and text.
func (w *world) send(e announce.Envelope) (int, string) {
	w.t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.post(string(body))
}

func (w *world) post(body string) (int, string) {
	w.t.Helper()
	answer, err := http.Post(w.url(), "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(text))
}

func (w *world) got() []announce.Received {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.received
}
