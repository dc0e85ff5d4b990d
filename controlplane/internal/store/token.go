package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"strings"
)

// JoinToken lets one data plane join once. Its text has a public part, by which it
// is found, and a secret one, of which the store keeps a hash: so neither an index
// nor the time of a comparison tells anything about the secret.
type JoinToken struct {
	id     string
	secret string
}

// The bytes of the two parts. Their text is of fixed length, so nothing is needed
// between them: a join token is the third part of a text with dots.
const (
	tokenID     = 12
	tokenSecret = 32
)

// NewJoinToken makes one from the system's randomness.
func NewJoinToken() JoinToken {
	random := make([]byte, tokenID+tokenSecret)
	rand.Read(random) // never fails
	return JoinToken{
		id:     base64.RawURLEncoding.EncodeToString(random[:tokenID]),
		secret: base64.RawURLEncoding.EncodeToString(random[tokenID:]),
	}
}

// ParseJoinToken reads the text of String. ErrToken.
func ParseJoinToken(text string) (JoinToken, error) {
	text = strings.TrimSpace(text)
	id := base64.RawURLEncoding.EncodedLen(tokenID)
	if len(text) != id+base64.RawURLEncoding.EncodedLen(tokenSecret) {
		return JoinToken{}, ErrToken
	}
	return JoinToken{id: text[:id], secret: text[id:]}, nil
}

// String is the text for the data plane. It is a secret: never log it.
func (t JoinToken) String() string { return t.id + t.secret }

// LogValue is the public part.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.id) }

func (t JoinToken) hash() []byte {
	sum := sha256.Sum256([]byte(t.secret))
	return sum[:]
}
