package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/iamapi/private"
	"github.com/versity/versitygw/s3err"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/sandbox/internal/identity"
)

const (
	maxCallers    = 4096 // kept; when there are more, all are asked for again
	maxKeys       = 16   // of one caller: an access key signs for some days and regions
	maxEvaluators = 64   // of one caller: one for each text of a bucket's policy
	askTimeout    = 10 * time.Second
)

// callers asks the identity program whose access keys are, and keeps the answers
// for as long as nothing was written there that they depend on.
type callers struct {
	client     *http.Client
	key        identity.Key
	generation *identity.Generation
	clock      func() time.Time
	log        *slog.Logger

	lock  sync.Mutex
	known map[credential]*caller
}

type credential struct{ accessKeyID, token string }

// scope is what a signing key is good for.
type scope struct{ date, region string }

// caller is whose an access key is, as it was at one generation.
type caller struct {
	generation uint64
	holder     *awsidentity.Holder
	tags       bool // the policies may depend on the tags that an object has

	lock       sync.Mutex
	keys       map[scope][]byte
	evaluators map[string]*iampolicy.Evaluator // by the text of the bucket's policy
}

func newCallers(cfg Config, key identity.Key) (*callers, error) {
	socket, err := filepath.Abs(cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("finding the identity program's socket: %w", err)
	}
	generation, err := identity.OpenGeneration(socket)
	if err != nil {
		return nil, fmt.Errorf("the identity program has to run before S3 does: %w", err)
	}
	dir, name := filepath.Split(socket)
	transport := &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return sandbox.DialSocket(ctx, dir, name) },
		MaxIdleConnsPerHost: 16,
	}
	return &callers{
		client: &http.Client{Transport: transport, Timeout: askTimeout}, key: key, generation: generation,
		clock: cfg.Clock, log: cfg.Log, known: map[credential]*caller{},
	}, nil
}

func (c *callers) Close() error {
	c.client.CloseIdleConnections()
	return c.generation.Close()
}

// signingKey is the key that a signature has to be made with, and whose it is.
func (c *callers) signingKey(of credential, in scope) ([]byte, *caller, error) {
	one, err := c.current(of)
	if err != nil {
		return nil, nil, err
	}
	if one != nil {
		one.lock.Lock()
		key := one.keys[in]
		one.lock.Unlock()
		if key != nil {
			return key, one, nil
		}
	}
	return c.ask(of, in)
}

// caller is who signed a request, in the newest state.
func (c *callers) caller(of credential) (*caller, error) {
	one, err := c.current(of)
	if one != nil || err != nil {
		return one, err
	}
	_, one, err = c.ask(of, scope{c.clock().UTC().Format("20060102"), ""})
	return one, err
}

// current is what is known already and still true, or nil.
func (c *callers) current(of credential) (*caller, error) {
	generation, err := c.generation.Read()
	if err != nil {
		return nil, err
	}
	c.lock.Lock()
	one := c.known[of]
	c.lock.Unlock()
	if one == nil || one.generation != generation {
		return nil, nil
	}
	if one.over(c.clock()) {
		return nil, errExpiredToken()
	}
	return one, nil
}

func (one *caller) over(now time.Time) bool {
	return !one.holder.Expires.IsZero() && now.After(one.holder.Expires)
}

func (c *callers) ask(of credential, in scope) ([]byte, *caller, error) {
	// The number is read first: what is written while the answer is on its way
	// makes it old.
	generation, err := c.generation.Read()
	if err != nil {
		return nil, nil, err
	}
	var answer identity.HolderAnswer
	err = c.call(identity.HolderPath, private.DeriveSigningKeyRequest{
		AccessKeyID: of.accessKeyID, SessionToken: of.token, Date: in.date, Region: in.region, Service: "s3",
	}, &answer)
	if err != nil {
		return nil, nil, err
	}
	// versitygw's strings lie in the request's buffer, which the next request is
	// read into. What is kept has to be a copy, or it becomes another's.
	of = credential{strings.Clone(of.accessKeyID), strings.Clone(of.token)}
	in = scope{strings.Clone(in.date), strings.Clone(in.region)}
	c.lock.Lock()
	defer c.lock.Unlock()
	one := c.known[of]
	if one == nil || one.generation != generation {
		one = &caller{generation: generation, holder: answer.Holder, keys: map[scope][]byte{}, evaluators: map[string]*iampolicy.Evaluator{}}
		grants := answer.Holder.Grants
		if grants.Boundary != nil {
			one.tags = mentionsTags(grants.Boundary.Text)
		}
		for _, policy := range slices.Concat(grants.Identity, grants.Session) {
			one.tags = one.tags || mentionsTags(policy.Text)
		}
		if len(c.known) >= maxCallers {
			clear(c.known)
		}
		c.known[of] = one
	}
	one.lock.Lock()
	defer one.lock.Unlock()
	if len(one.keys) >= maxKeys {
		clear(one.keys)
	}
	one.keys[in] = answer.DerivedKey
	return answer.DerivedKey, one, nil
}

// evaluator decides for the caller, on a bucket with this policy ("" for none).
func (one *caller) evaluator(policy string) (*iampolicy.Evaluator, error) {
	one.lock.Lock()
	defer one.lock.Unlock()
	if found := one.evaluators[policy]; found != nil {
		return found, nil
	}
	document, err := bucketPolicy(policy)
	if err != nil {
		return nil, err
	}
	made, err := one.holder.Compile(document)
	if err != nil {
		return nil, err
	}
	if len(one.evaluators) >= maxEvaluators {
		clear(one.evaluators)
	}
	one.evaluators[policy] = made
	return made, nil
}

// unknownPrincipals are those of principals that no bucket's policy may name.
func (c *callers) unknownPrincipals(principals []string) ([]string, error) {
	var answer private.ResolvePrincipalsResponse
	err := c.call(private.ResolvePrincipalsPath, private.ResolvePrincipalsRequest{Principals: principals}, &answer)
	return answer.Invalid, err
}

// call puts a question to the identity program. Its refusals come back as what
// versitygw or S3's client is to be told.
func (c *callers) call(path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("asking the identity program: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://identity"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the identity program: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(private.ProtocolHeader, strconv.Itoa(private.ProtocolVersion))
	hash := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(ctx, aws.Credentials{AccessKeyID: c.key.ID, SecretAccessKey: c.key.Secret}, request,
		hex.EncodeToString(hash[:]), "iam", "us-east-1", c.clock())
	if err != nil {
		return fmt.Errorf("signing a question to the identity program: %w", err)
	}
	said, err := c.client.Do(request)
	if err != nil {
		c.log.Error("the identity program does not answer", "error", err)
		return errUnavailable()
	}
	defer said.Body.Close()
	text, err := io.ReadAll(io.LimitReader(said.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("reading the identity program's answer: %w", err)
	}
	if said.StatusCode == http.StatusOK {
		return json.Unmarshal(text, answer)
	}
	var refused struct{ Error, Code string }
	if err := json.Unmarshal(text, &refused); err != nil {
		return fmt.Errorf("the identity program answered %s", said.Status)
	}
	switch refused.Code {
	case private.CodeNoSuchIdentity:
		return auth.ErrNoSuchUser
	case private.CodeInvalidToken:
		return auth.ErrInvalidSessionToken
	case identity.CodeExpiredToken:
		return errExpiredToken()
	}
	return errors.New("the identity program answered: " + refused.Error)
}

func errExpiredToken() error {
	return s3err.APIError{Code: "ExpiredToken", Description: "The provided token has expired.", HTTPStatusCode: http.StatusBadRequest}
}

func errUnavailable() error {
	return s3err.APIError{Code: "ServiceUnavailable", Description: "Who may do this cannot be found out now. Please try again.", HTTPStatusCode: http.StatusServiceUnavailable}
}
