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

const tokenPrefix = "biplane-join"

// NewJoinToken makes one from the system's randomness.
func NewJoinToken() JoinToken {
	random := make([]byte, 12+32)
	rand.Read(random) // never fails
	return JoinToken{
		id:     base64.RawURLEncoding.EncodeToString(random[:12]),
		secret: base64.RawURLEncoding.EncodeToString(random[12:]),
	}
}

// ParseJoinToken reads the text of String. ErrToken.
func ParseJoinToken(text string) (JoinToken, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(text) > 256 || len(parts) != 3 || parts[0] != tokenPrefix || parts[1] == "" || parts[2] == "" {
		return JoinToken{}, ErrToken
	}
	return JoinToken{id: parts[1], secret: parts[2]}, nil
}

// String is the text for the data plane. It is a secret: never log it.
func (t JoinToken) String() string { return tokenPrefix + "." + t.id + "." + t.secret }

// LogValue is the public part.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.id) }

func (t JoinToken) hash() []byte {
	sum := sha256.Sum256([]byte(t.secret))
	return sum[:]
}
