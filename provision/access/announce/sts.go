package announce

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/sigv4"
)

// The call that is signed. Its body, host and headers are written here and never taken
// from a sender, who gives the signature alone: one made for anything else fits nothing.
const (
	callBody    = "Action=GetCallerIdentity&Version=2011-06-15"
	callType    = "application/x-www-form-urlencoded"
	boundHeader = "X-Biplane-Announcement"
)

// signedHeaders are those that a signature has to cover, no more and no less.
var signedHeaders = []string{"content-type", "host", "x-amz-date", "x-amz-security-token", "x-biplane-announcement"}

const (
	stsPatience  = 5 * time.Second
	maxSTSAnswer = 64 << 10
)

// signedCall is the call of an envelope, with what its signature says of itself.
func signedCall(e *Envelope, s *stack) (*http.Request, *sigv4.Signed, error) {
	host := "sts." + s.region.Name + "." + s.region.DNSSuffix
	r, err := http.NewRequest(http.MethodPost, "https://"+host+"/", strings.NewReader(callBody))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", callType)
	r.Header.Set(boundHeader, e.Digest())
	r.Header.Set("Authorization", e.Authorization)
	r.Header.Set("X-Amz-Date", e.Date)
	r.Header.Set("X-Amz-Security-Token", e.Token)
	signed, err := sigv4.Parse(r)
	switch {
	case err != nil:
		return nil, nil, err
	case signed.Service != "sts" || signed.Region != s.region.Name:
		return nil, nil, fmt.Errorf("the signature is for %s in %s", signed.Service, signed.Region)
	case !slices.Equal(signed.Headers, signedHeaders):
		return nil, nil, fmt.Errorf("the signature covers the headers %s", strings.Join(signed.Headers, ";"))
	}
	return r, signed, nil
}

// errNotAccepted is a signature that STS does not take.
var errNotAccepted = errors.New("STS does not accept the signature")

// caller is whose signature STS says it is.
type caller struct{ partition, account, role, arn string }

// ask sends a signed call to STS, at endpoint where that is another than the call's own
// host, whose name it keeps. It follows no redirect.
func ask(ctx context.Context, client *http.Client, call *http.Request, endpoint string) (*caller, error) {
	ctx, cancel := context.WithTimeout(ctx, stsPatience)
	defer cancel()
	call = call.WithContext(ctx)
	if endpoint != "" {
		to, err := call.URL.Parse(endpoint)
		if err != nil {
			return nil, err
		}
		call.URL.Scheme, call.URL.Host = to.Scheme, to.Host // call.Host stays as it was signed
	}
	answer, err := client.Do(call)
	if err != nil {
		return nil, fmt.Errorf("asking STS: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxSTSAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading STS's answer: %w", err)
	}
	switch {
	case answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusBadRequest:
		var refused struct {
			Code string `xml:"Error>Code"`
		}
		if xml.Unmarshal(text, &refused); refused.Code == "Throttling" {
			return nil, fmt.Errorf("STS is throttling")
		}
		return nil, fmt.Errorf("%w: %s", errNotAccepted, refused.Code)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("STS answered with status %d", answer.StatusCode)
	}
	var identity struct {
		XMLName xml.Name `xml:"GetCallerIdentityResponse"`
		ARN     string   `xml:"GetCallerIdentityResult>Arn"`
		Account string   `xml:"GetCallerIdentityResult>Account"`
	}
	if err := xml.Unmarshal(text, &identity); err != nil {
		return nil, fmt.Errorf("reading STS's answer: %w", err)
	}
	c := &caller{account: identity.Account, arn: identity.ARN}
	if of := callerForm.FindStringSubmatch(identity.ARN); of != nil && of[2] == identity.Account {
		c.partition, c.role = of[1], of[3]
	}
	return c, nil
}

// newClient is for asking STS: it goes where it is told and nowhere else.
func newClient() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
