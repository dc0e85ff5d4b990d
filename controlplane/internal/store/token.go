package store

import (
	"crypto/sha256"
)

// JoinToken lets one data plane join once. Its text has a public part, by which
// it is found, and a secret one, of which the store keeps a hash.
type JoinToken struct {
	id     string
	secret string
}

// NewJoinToken makes one from the system's randomness.
func NewJoinToken() JoinToken { return JoinToken{} }

// ParseJoinToken reads the text of String. ErrToken.
func ParseJoinToken(text string) (JoinToken, error) { return JoinToken{}, errUnfinished }

// String is the text for the data plane. It is a secret: never log it.
func (t JoinToken) String() string { return "" }

func (t JoinToken) hash() [sha256.Size]byte { return sha256.Sum256([]byte(t.secret)) }
