package awsidentity

import (
	"encoding/base32"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Tag is a key and a value, as on roles, policies, users and sessions.
type Tag struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

type account struct {
	ID        string
	Partition string
	Alias     string `json:",omitempty"`
}

// principal is what a role and a user have in common.
type principal struct {
	Name     string
	ID       string // AROA…, AIDA…: a new one each time the name is used
	Path     string
	ARN      string
	Created  time.Time
	Boundary string   `json:",omitempty"` // a policy's ARN
	Inline   []inline `json:",omitempty"` // sorted by name
	Attached []string `json:",omitempty"` // ARNs, in the order of attaching
	Tags     []Tag    `json:",omitempty"`
}

type inline struct {
	Name     string
	Document string
}

type role struct {
	principal
	Trust       string
	TrustIDs    map[string]string `json:",omitempty"` // the ids that ARNs in Trust stood for when it was written
	Description string            `json:",omitempty"`
	MaxSession  int               // seconds
	Service     string            `json:",omitempty"` // of a service-linked role
}

type user struct {
	principal
}

type accessKey struct {
	ID      string
	Secret  string
	Account string
	User    string
	UserID  string
	Status  string // Active, Inactive
	Created time.Time
}

// session is a temporary credential of a role, or of a user (GetSessionToken).
type session struct {
	AccessKeyID string
	Secret      string
	Token       string
	Account     string
	Issued      time.Time
	Expires     time.Time

	Role   string `json:",omitempty"` // name; empty for a user's session
	RoleID string `json:",omitempty"`
	User   string `json:",omitempty"`
	UserID string `json:",omitempty"`

	Name           string              `json:",omitempty"` // RoleSessionName
	Policy         string              `json:",omitempty"` // session policy
	PolicyARNs     []string            `json:",omitempty"`
	Tags           []Tag               `json:",omitempty"`
	Transitive     []string            `json:",omitempty"` // keys of Tags that go along when roles are chained
	SourceIdentity string              `json:",omitempty"`
	Provider       string              `json:",omitempty"` // ARN of the OIDC provider
	Keys           map[string][]string `json:",omitempty"` // condition keys of the web identity
}

type policy struct {
	Name        string
	ID          string
	Path        string
	ARN         string
	Description string `json:",omitempty"`
	Created     time.Time
	Updated     time.Time
	Default     string // "v1"
	Versions    []policyVersion
	Next        int   // the number of the next version: numbers are not used twice
	Tags        []Tag `json:",omitempty"`
}

type policyVersion struct {
	ID       string
	Document string
	Created  time.Time
}

func (p *policy) version(id string) *policyVersion {
	for i := range p.Versions {
		if p.Versions[i].ID == id {
			return &p.Versions[i]
		}
	}
	return nil
}

type profile struct {
	Name    string
	ID      string
	Path    string
	ARN     string
	Created time.Time
	Role    string `json:",omitempty"` // at most one
	Tags    []Tag  `json:",omitempty"`
}

type provider struct {
	ARN         string
	URL         string // without the scheme
	ClientIDs   []string
	Thumbprints []string
	Created     time.Time
	Tags        []Tag `json:",omitempty"`
}

// newID makes a unique id: AROA and the other prefixes with 17 more letters and
// digits, access keys (AKIA, ASIA) with 16.
func newID(random io.Reader, prefix string) (string, error) {
	var b [11]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("reading random bytes for an id: %w", err)
	}
	n := 17
	if prefix == "AKIA" || prefix == "ASIA" {
		n = 16
	}
	return prefix + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])[:n], nil
}

func (p *principal) inline(name string) *inline {
	for i := range p.Inline {
		if p.Inline[i].Name == name {
			return &p.Inline[i]
		}
	}
	return nil
}

func (p *principal) setInline(name, document string) {
	if found := p.inline(name); found != nil {
		found.Document = document
		return
	}
	p.Inline = append(p.Inline, inline{name, document})
	slices.SortFunc(p.Inline, func(a, b inline) int { return strings.Compare(a.Name, b.Name) })
}

// mergeTags adds tags to those that are there; a key that is there in any case
// is replaced.
func mergeTags(have, add []Tag) []Tag {
	out := slices.Clone(have)
	for _, tag := range add {
		i := slices.IndexFunc(out, func(t Tag) bool { return strings.EqualFold(t.Key, tag.Key) })
		if i >= 0 {
			out[i] = tag
		} else {
			out = append(out, tag)
		}
	}
	return out
}

func withoutTags(have []Tag, keys []string) []Tag {
	return slices.DeleteFunc(slices.Clone(have), func(t Tag) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, t.Key) })
	})
}

// index is the key under which a name is kept: IAM compares names without
// regard to case where they have to be unique.
func index(name string) string { return strings.ToLower(name) }
