package announce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"sync"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

const (
	// MaxBody bounds what a sender may send.
	MaxBody = 64 << 10
	// maxAtOnce is how many announcements are looked at at the same time.
	maxAtOnce = 16
)

// Options of a Receiver.
type Options struct {
	URL       *url.URL   // by which senders reach it; they sign it
	Customers *Customers // whom it expects
	Seen      *Seen
	// Endpoint is where STS is, instead of at AWS's own address in the region. Empty: there.
	Endpoint string
	// Verify, where it is not nil, assumes a role that was announced, and says what it met.
	Verify func(ctx context.Context, roleARN, externalID string) error
	// Receive is given what was received, one after the other, before the sender is
	// told. Its error is the sender's to bear, who tries again.
	Receive func(Received) error
	Log     *slog.Logger
	Now     func() time.Time
}

// Received is one announcement that was believed. Its JSON is read by other programs.
type Received struct {
	Time          time.Time `json:"time"`
	Account       string    `json:"account"`
	Region        string    `json:"region"`
	RoleARN       string    `json:"roleArn"`
	ExternalIDFor string    `json:"externalIdFor"` // the customer whose external ID it was
	Profile       string    `json:"profile"`
	PolicyVersion string    `json:"policyVersion"`
	StackID       string    `json:"stackId"`
	CallerARN     string    `json:"callerArn"`
	// Assumed says whether the role could be assumed; nil: nobody tried.
	Assumed *bool `json:"assumed,omitempty"`
}

// Receiver is the vendor's side, an http.Handler of one path and of /healthz.
type Receiver struct {
	Options
	client *http.Client
	places chan struct{}
	lock   sync.Mutex // of Receive
}

// New returns a Receiver.
func New(o Options) *Receiver {
	return &Receiver{Options: o, client: newClient(), places: make(chan struct{}, maxAtOnce)}
}

// refusal is what a sender is told. It says nothing of other customers, and nothing that
// a sender who has no external ID could not know.
type refusal struct {
	status int
	reason string
	cause  error // for the log
}

func (r *refusal) Error() string { return r.reason }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(status int, reason string, cause error) error { return &refusal{status, reason, cause} }

// ServeHTTP answers with one line of text, which the sender shows as the outcome.
func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.URL.Path == "/healthz" {
		io.WriteString(w, "ok\n")
		return
	}
	got, err := rc.receive(r)
	var refused *refusal
	switch {
	case err == nil:
		rc.Log.Info("announcement received", "customer", got.ExternalIDFor, "account", got.Account, "region", got.Region, "stack", got.StackID)
		io.WriteString(w, "received\n")
	case errors.As(err, &refused):
		rc.Log.Warn("announcement refused", "status", refused.status, "reason", refused.reason, "from", r.RemoteAddr, "cause", causeText(refused.cause))
		w.WriteHeader(refused.status)
		io.WriteString(w, refused.reason+"\n")
	default:
		rc.Log.Error("announcement failed", "from", r.RemoteAddr, "error", usererr.Chain(err))
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "not now; try again\n")
	}
}

func causeText(err error) string {
	if err == nil {
		return ""
	}
	return usererr.Chain(err)
}

// receive is every check, the cheap ones first: who has no external ID that is expected
// makes the receiver neither write nor ask AWS anything.
func (rc *Receiver) receive(r *http.Request) (*Received, error) {
	if path := rc.URL.EscapedPath(); r.URL.EscapedPath() != path && (path != "" || r.URL.Path != "/") {
		return nil, refuse(http.StatusNotFound, "nothing is received here", nil)
	}
	if r.Method != http.MethodPost {
		return nil, refuse(http.StatusMethodNotAllowed, "announcements are sent by POST", nil)
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return nil, refuse(http.StatusUnsupportedMediaType, "announcements are application/json", nil)
	}
	select {
	case rc.places <- struct{}{}:
		defer func() { <-rc.places }()
	default:
		return nil, refuse(http.StatusServiceUnavailable, "too many at once; try again", nil)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refuse(http.StatusRequestEntityTooLarge, "the announcement is too large", nil)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the announcement was not sent whole in time", err)
	}
	var e Envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, refuse(http.StatusBadRequest, "the envelope is not JSON of the known form", err)
	}
	from, wrong := e.read()
	if wrong != "" {
		return nil, refuse(http.StatusBadRequest, wrong, nil)
	}
	if from.announced.Receiver != rc.URL.String() {
		return nil, refuse(http.StatusMisdirectedRequest, "it is for another receiver", fmt.Errorf("it is for %.200q", from.announced.Receiver))
	}
	call, signed, err := signedCall(&e, from)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the signature is not one of the call that is asked for", err)
	}
	now := rc.Now()
	if age := signed.Age(now); age > Window || age < -Window {
		return nil, refuse(http.StatusForbidden, "the signature is not of the last five minutes", fmt.Errorf("its age is %s", age.Round(time.Second)))
	}

	expected, err := rc.Customers.current()
	if err != nil {
		rc.Log.Error("the file of expected customers cannot be used; those read before are expected", "error", usererr.Chain(err))
	}
	digest := e.Digest()
	customer, externalID := find(expected, digest, e.MAC)
	if customer == nil {
		return nil, refuse(http.StatusForbidden, "the external ID is not one that is expected", nil)
	}
	if customer.Account != "" && string(customer.Account) != from.account {
		return nil, refuse(http.StatusForbidden, "the account is not the one that is expected with this external ID", fmt.Errorf("customer %s, account %s", customer.Name, from.account))
	}
	switch err := rc.Seen.take(customer.Name, digest, signed.Time, now); {
	case errors.Is(err, errSeen):
		return nil, refuse(http.StatusConflict, "it was received before", fmt.Errorf("customer %s", customer.Name))
	case errors.Is(err, errTooMany):
		return nil, refuse(http.StatusTooManyRequests, "too many announcements with this external ID; wait ten minutes", fmt.Errorf("customer %s", customer.Name))
	case err != nil:
		return nil, err
	}

	who, err := ask(r.Context(), rc.client, call, rc.Endpoint)
	if errors.Is(err, errNotAccepted) {
		return nil, refuse(http.StatusForbidden, "AWS STS does not accept the signature", err)
	}
	if err != nil {
		return nil, err
	}
	if who.account != from.account || who.partition != from.region.Partition || who.role != from.roleName+RoleSuffix {
		return nil, refuse(http.StatusForbidden, "it was not signed by the role "+from.roleName+RoleSuffix+" of the stack's account", fmt.Errorf("customer %s, signed by %s", customer.Name, who.arn))
	}

	a := &from.announced
	got := &Received{
		Time: now.UTC().Truncate(time.Second), Account: from.account, Region: from.region.Name, RoleARN: a.RoleARN, ExternalIDFor: customer.Name,
		Profile: a.Profile, PolicyVersion: a.PolicyVersion, StackID: a.StackID, CallerARN: who.arn,
	}
	if rc.Verify != nil {
		err := rc.Verify(r.Context(), a.RoleARN, externalID)
		if err != nil {
			rc.Log.Warn("announced role cannot be assumed", "role", a.RoleARN, "customer", customer.Name, "error", usererr.Chain(err))
		}
		assumed := err == nil
		got.Assumed = &assumed
	}
	rc.lock.Lock()
	defer rc.lock.Unlock()
	if err := rc.Receive(*got); err != nil {
		return nil, err
	}
	return got, nil
}

// Server serves the receiver with bounds on how long a sender may take.
func (rc *Receiver) Server() *http.Server {
	return &http.Server{
		Handler:           rc,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(rc.Log.Handler(), slog.LevelDebug),
	}
}
