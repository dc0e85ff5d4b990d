package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/versity/versitygw/iamapi/private"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/sigv4"
	"biplane.dev/biplane/provision/iampolicy"
)

// HolderPath is our own addition to versitygw's protocol: derive-signing-key
// that answers with an awsidentity.Holder too, so that an S3 server that has our
// policy engine decides by itself, with what it alone knows of a request.
const HolderPath = "/private/holder"

// HolderAnswer answers HolderPath; it is asked with a
// private.DeriveSigningKeyRequest.
type HolderAnswer struct {
	DerivedKey []byte              `json:"derivedKey"`
	Holder     *awsidentity.Holder `json:"holder"`
}

// CodeExpiredToken is the code of an answer about a session that is over,
// besides those of the protocol.
const CodeExpiredToken = "ExpiredToken"

const (
	maxQuestion  = 4 << 20 // a thousand keys of a kilobyte
	maxDecisions = 100000  // in one question
)

// gateway answers over the socket. Calls are signed with a key that the S3
// server and this program are given; the socket lets this user alone in anyhow.
type gateway struct {
	service *awsidentity.Service
	key     Key
	account string
	clock   func() time.Time
	log     *slog.Logger
}

func newGateway(service *awsidentity.Service, key Key, cfg Config) http.Handler {
	g := &gateway{service: service, key: key, account: cfg.Account, clock: cfg.Clock, log: cfg.Log}
	mux := http.NewServeMux()
	mux.Handle("POST "+private.VersionPath, answer(g, g.version))
	mux.Handle("POST "+private.DerivePath, answer(g, g.deriveSigningKey))
	mux.Handle("POST "+private.EvaluatePath, answer(g, g.evaluatePolicy))
	mux.Handle("POST "+private.ResolveIdentityPath, answer(g, g.resolveIdentity))
	mux.Handle("POST "+private.ResolvePrincipalsPath, answer(g, g.resolvePrincipals))
	mux.Handle("POST "+HolderPath, answer(g, g.holder))
	return mux
}

// listenSocket makes the socket for this user alone. What a killed process left
// is replaced: the supervisor's lock says that there is no other.
func listenSocket(path string) (net.Listener, error) {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	listener, err := sandbox.ListenSocket(dir, name)
	if err != nil {
		return nil, fmt.Errorf("listening on the socket %s: %w", path, err)
	}
	return listener, nil
}

// refusal is an error that the other side understands by its code.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.message }

// answer makes a handler of one operation: the version first, then the
// signature, then the question.
func answer[Question, Answer any](g *gateway, do func(*Question) (Answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(private.ProtocolHeader, strconv.Itoa(private.ProtocolVersion))
		w.Header().Set("Content-Type", "application/json")
		var question Question
		err := g.read(r, &question)
		if err == nil {
			var said Answer
			if said, err = do(&question); err == nil {
				json.NewEncoder(w).Encode(said)
				return
			}
		}
		var known *refusal
		if !errors.As(err, &known) {
			g.log.Error("a question was not answered", "path", r.URL.Path, "error", err)
			known = &refusal{http.StatusInternalServerError, "", "internal error"}
		}
		w.WriteHeader(known.status)
		json.NewEncoder(w).Encode(map[string]string{"error": known.message, "code": known.code})
	})
}

func (g *gateway) read(r *http.Request, question any) error {
	// Who asks for the version is to learn it whatever they speak.
	if r.URL.Path != private.VersionPath {
		version, err := private.ParseProtocolVersion(r.Header.Get(private.ProtocolHeader))
		if err != nil {
			return &refusal{http.StatusBadRequest, private.CodeProtocolMismatch, err.Error()}
		}
		if version < private.MinClientProtocol {
			return &refusal{http.StatusBadRequest, private.CodeProtocolMismatch, fmt.Sprintf("protocol %d is not served, %d is", version, private.MinClientProtocol)}
		}
	}
	signed, err := sigv4.Parse(r)
	if err == nil && (signed.AccessKeyID != g.key.ID || signed.Service != "iam" || signed.Presigned) {
		err = errors.New("not the gateway's key")
	}
	if err == nil {
		err = signed.Verify(g.key.Secret, g.clock(), maxQuestion)
	}
	if err != nil {
		return &refusal{http.StatusForbidden, "", "the call is not signed with the gateway's key: " + err.Error()}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("reading a question: %w", err)
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(question); err != nil {
		return &refusal{http.StatusBadRequest, private.CodeBadRequest, "malformed request body"}
	}
	return nil
}

func (g *gateway) version(*struct{}) (private.VersionResponse, error) {
	return private.VersionResponse{
		Protocol: private.ProtocolVersion, MinClient: private.MinClientProtocol, ServerVersion: "biplane", AccountID: g.account,
	}, nil
}

func (g *gateway) holder(q *private.DeriveSigningKeyRequest) (HolderAnswer, error) {
	key, holder, err := g.service.SigningKey(q.AccessKeyID, q.SessionToken, q.Date, q.Region, q.Service)
	return HolderAnswer{key, holder}, inProtocol(err)
}

func (g *gateway) deriveSigningKey(q *private.DeriveSigningKeyRequest) (private.DeriveSigningKeyResponse, error) {
	key, holder, err := g.service.SigningKey(q.AccessKeyID, q.SessionToken, q.Date, q.Region, q.Service)
	if err != nil {
		return private.DeriveSigningKeyResponse{}, inProtocol(err)
	}
	return private.DeriveSigningKeyResponse{DerivedKey: key, PrincipalArn: holder.ARN, RoleArn: holder.RoleARN}, nil
}

// inProtocol words why there is no holder.
func inProtocol(err error) error {
	switch {
	case errors.Is(err, awsidentity.ErrNoSuchKey):
		return &refusal{http.StatusForbidden, private.CodeNoSuchIdentity, err.Error()}
	case errors.Is(err, awsidentity.ErrBadToken):
		return &refusal{http.StatusForbidden, private.CodeInvalidToken, err.Error()}
	case errors.Is(err, awsidentity.ErrTokenExpired):
		return &refusal{http.StatusForbidden, CodeExpiredToken, err.Error()}
	}
	return err
}

// evaluatePolicy decides every action on every resource, twice: by the policies
// of whose key it is, and by those of the session. A gateway that asks this has
// a bucket's policy to combine them with.
func (g *gateway) evaluatePolicy(q *private.EvaluatePolicyRequest) (private.EvaluatePolicyResponse, error) {
	var out private.EvaluatePolicyResponse
	if len(q.Actions)*len(q.Resources) > maxDecisions {
		return out, &refusal{http.StatusBadRequest, private.CodeBadRequest, fmt.Sprintf("more than %d decisions", maxDecisions)}
	}
	holder, err := g.service.Holder(q.AccessKeyID, q.SessionToken)
	if err != nil {
		return out, inProtocol(err)
	}
	own, err := holder.CompileWithoutSession()
	if err != nil {
		return out, err
	}
	session, err := holder.CompileSession()
	if err != nil {
		return out, err
	}
	out.PrincipalArn, out.HasSessionPolicy = holder.ARN, session != nil
	now := g.clock()
	matrix := func(e *iampolicy.Evaluator) [][]string {
		rows := make([][]string, len(q.Resources))
		for i, resource := range q.Resources {
			for _, action := range q.Actions {
				request := iampolicy.Request{Action: action, Resource: resource, ResourceAccount: g.account, Context: iampolicy.Context{}}
				for key, values := range q.Condition {
					request.Context.Set(key, values...)
				}
				holder.Complete(&request, now)
				rows[i] = append(rows[i], wireDecision(e.Decide(&request)))
			}
		}
		return rows
	}
	out.Decisions = matrix(own)
	if session != nil {
		out.SessionDecisions = matrix(session)
	}
	return out, nil
}

func wireDecision(d iampolicy.Decision) string {
	switch d {
	case iampolicy.Allowed:
		return private.DecisionAllow
	case iampolicy.ExplicitDeny:
		return private.DecisionDeny
	}
	return private.DecisionNoMatch
}

func (g *gateway) resolveIdentity(q *private.ResolveIdentityRequest) (private.ResolveIdentityResponse, error) {
	out := private.ResolveIdentityResponse{Identities: make([]private.ResolvedIdentity, len(q.AccessKeyIDs))}
	for i, id := range q.AccessKeyIDs {
		arn, session, ok, err := g.service.KnownKey(id)
		if err != nil {
			return out, err
		}
		if !ok {
			continue
		}
		out.Identities[i] = private.ResolvedIdentity{Found: true, Kind: private.KindUser, PrincipalArn: arn}
		if session {
			out.Identities[i].Kind = private.KindSession
		}
	}
	return out, nil
}

func (g *gateway) resolvePrincipals(q *private.ResolvePrincipalsRequest) (private.ResolvePrincipalsResponse, error) {
	out := private.ResolvePrincipalsResponse{Invalid: []string{}}
	for _, principal := range q.Principals {
		exists, err := g.service.PrincipalExists(principal)
		if err != nil {
			return out, err
		}
		if !exists {
			out.Invalid = append(out.Invalid, principal)
		}
	}
	return out, nil
}
