// Package announce is the way of a role's ARN from a customer's stack to the vendor
// without anybody copying it. A function in the stack writes an announcement and signs,
// with the key of its own role, a call of sts:GetCallerIdentity that holds the
// announcement's digest. The vendor's receiver sends that call to STS, which says whose
// signature it is. No secret is shared for it and no key is pinned.
//
// It makes no stack (provision/access/template does) and assumes no role.
// docs/access-announce.md has the protocol. Start with Receiver. What is where:
//
//	announce.go   what is sent, and what of it can be judged without asking anybody
//	function.py   the sender, as it is in the template
//	receiver.go   Receiver: every check in its order, and what the sender is told
//	customers.go  whom the vendor expects: their external IDs
//	sts.go        the signed call, and what STS says to it
//	seen.go       what was received before
package announce

import (
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
)

// Function is the sender: the text of a Python module whose handler is Handler. It
// imports nothing that is not in AWS's runtime.
//
//go:embed function.py
var Function string

// Handler is what the runtime calls when the text is given inline.
const Handler = "index.handler"

// RoleSuffix makes the name of the function's role from that of the announced role. The
// receiver believes no other role of the account.
const RoleSuffix = "-announce"

// URLPattern is what a receiver's URL looks like: https, or http on this machine, with
// nothing in it that must be escaped. The template's parameter has the same.
const URLPattern = `(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|localhost))(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?`

var urlForm = regexp.MustCompile(`^` + URLPattern + `$`)

// ParseURL checks a receiver's URL. Its error is a *usererr.Error.
func ParseURL(text string) (*url.URL, error) {
	if u, err := url.Parse(text); err == nil && urlForm.MatchString(text) && len(text) <= 1024 {
		return u, nil
	}
	return nil, usererr.New(usererr.Invalid, "announcements cannot be sent to %q", text).
		WithHint("write a URL like https://vendor.example.com/announcements; http is for this machine alone, as http://127.0.0.1:8443/announcements")
}

// Envelope is the body of a request to the receiver.
type Envelope struct {
	Announcement string `json:"announcement"` // JSON of an Announcement, as it was signed
	// MAC is HMAC-SHA-256 over the announcement's digest with the external ID as its key,
	// in hex: the receiver finds the customer by it, and nobody else learns the ID.
	MAC string `json:"mac"`

	// The signature of the call to STS: the values of its headers Authorization,
	// X-Amz-Date and X-Amz-Security-Token. All else of the call the receiver writes itself.
	Authorization string `json:"authorization"`
	Date          string `json:"date"`
	Token         string `json:"token"`
}

// Announcement is what a stack says of itself. The account and the region are those of
// its id.
type Announcement struct {
	Receiver      string `json:"receiver"` // the URL that it is meant for
	StackID       string `json:"stackId"`
	RoleARN       string `json:"roleArn"` // of the provision role
	Profile       string `json:"profile"`
	PolicyVersion string `json:"policyVersion"`
	Nonce         string `json:"nonce"` // tells two of the same stack apart
}

// Digest is what the signature and the MAC are made over, in hex.
func (e *Envelope) Digest() string {
	sum := sha256.Sum256([]byte(e.Announcement))
	return hex.EncodeToString(sum[:])
}

// MAC is the one that the holder of an external ID makes over a digest.
func MAC(externalID, digest string) string {
	mac := hmac.New(sha256.New, []byte(externalID))
	mac.Write([]byte(digest))
	return hex.EncodeToString(mac.Sum(nil))
}

// maxToken bounds a session token, which AWS advises to expect of up to 4,096 bytes.
const maxToken = 8192

// stack is where an announcement comes from.
type stack struct {
	region    access.Region
	account   string
	roleName  string // of the announced role
	announced Announcement
}

var (
	stackForm   = regexp.MustCompile(`^arn:([a-z-]+):cloudformation:([a-z0-9-]+):([0-9]{12}):stack/[A-Za-z][A-Za-z0-9-]{0,127}/[A-Za-z0-9-]{1,64}$`)
	roleForm    = regexp.MustCompile(`^arn:([a-z-]+):iam::([0-9]{12}):role/(?:[!-~]{1,512}/)?([\w+=,.@-]{1,64})$`)
	wordForm    = regexp.MustCompile(`^[\w.+-]{1,64}$`)
	nonceForm   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	macForm     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	tokenForm   = regexp.MustCompile(`^[A-Za-z0-9+/=_.%-]+$`)
	headerForm  = regexp.MustCompile(`^[ -~]{1,1000}$`)
	callerForm  = regexp.MustCompile(`^arn:([a-z-]+):sts::([0-9]{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{2,64})$`)
	versionForm = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9}){0,2}$`)
)

// read takes an envelope apart and checks the form of all that is in it. What is wrong is
// a sentence for the sender.
func (e *Envelope) read() (*stack, string) {
	if !utf8.ValidString(e.Announcement) || !macForm.MatchString(e.MAC) || !headerForm.MatchString(e.Authorization) || !headerForm.MatchString(e.Date) || len(e.Token) > maxToken || !tokenForm.MatchString(e.Token) {
		return nil, "a field of the envelope is missing or has not its form"
	}
	s := &stack{}
	a := &s.announced
	if json.Unmarshal([]byte(e.Announcement), a) != nil {
		return nil, "the announcement is not JSON of the known form"
	}
	of, role := stackForm.FindStringSubmatch(a.StackID), roleForm.FindStringSubmatch(a.RoleARN)
	switch {
	case of == nil:
		return nil, "stackId is no ARN of a stack"
	case role == nil || strings.Contains(a.RoleARN, "//"):
		return nil, "roleArn is no ARN of a role"
	case !wordForm.MatchString(a.Profile), !versionForm.MatchString(a.PolicyVersion), !nonceForm.MatchString(a.Nonce):
		return nil, "profile, policyVersion or nonce has not its form"
	case of[1] != role[1] || of[3] != role[2]:
		return nil, "the role is of another account than the stack"
	}
	var known bool
	if s.region, known = access.LookUpRegion(of[2]); !known || s.region.Partition != of[1] {
		return nil, "stackId names no region of its partition"
	}
	s.account, s.roleName = of[3], role[3]
	return s, ""
}
