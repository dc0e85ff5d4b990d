// Package uploads signs the writing of single objects of a customer's buckets,
// as flyteadmin: whose role may be assumed with a token of our issuer, and may
// presign and nothing else. No byte of an object passes here.
//
// It is not for reading: the data plane's proxy signs that. Start with Signer;
// keys.go says where an upload goes.
package uploads

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/controlplane/internal/refusal"
)

const (
	// urlLife is the most that a signed URL lives: the role allows no older signature.
	urlLife = 15 * time.Minute
	// sessionLife is the most that a role allows unless it was told otherwise.
	sessionLife = time.Hour
	// margin by which a session outlives every URL that it signs.
	margin = 5 * time.Minute
	// stsTimeout bounds the one call that is made for an hour of signatures.
	stsTimeout = 10 * time.Second
)

// Tokens gives web identity tokens: the issuer does.
type Tokens interface {
	Token(now time.Time) (string, error)
}

// Signer signs uploads for every data plane, with one session for each role.
type Signer struct {
	tokens    Tokens
	now       func() time.Time
	client    *http.Client
	endpoints []string // of STS, besides AWS's own

	mu       sync.Mutex
	sessions map[string]*session // by STS endpoint, region and role
}

// New returns a signer. Without tokens it refuses every upload: there is no
// issuer then that a role could trust. Tokens are shown to AWS's own STS and to
// the endpoints alone. They are good for every account whose role trusts the issuer,
// so who names another STS, as a data plane may, must not get one.
func New(tokens Tokens, now func() time.Time, client *http.Client, endpoints []string) *Signer {
	return &Signer{tokens: tokens, now: now, client: client, endpoints: endpoints, sessions: map[string]*session{}}
}

// Put is one object that somebody wants to write.
type Put struct {
	Bucket  string
	Key     string
	MD5     []byte        // empty: any contents
	Expires time.Duration // 0: as long as there may be
}

// Signed is the right to write it. The headers must be sent as they are.
type Signed struct {
	URL       string
	Headers   map[string]string
	ExpiresAt time.Time
}

// Sign signs one put in the account of a data plane.
func (s *Signer) Sign(ctx context.Context, cluster string, plane *tunnelv1.DataPlane, put Put) (*Signed, error) {
	if s.tokens == nil {
		return nil, refusal.New(connect.CodeFailedPrecondition,
			"this server has no issuer, so it cannot sign uploads; set issuer.url in its configuration")
	}
	if plane.GetUploadRoleArn() == "" || put.Bucket == "" {
		return nil, refusal.New(connect.CodeFailedPrecondition,
			"the data plane %q has not said yet by which role, and into which bucket, uploads are signed; check its storage values and try again", cluster)
	}
	if named := plane.GetStsEndpoint(); named != "" && !slices.Contains(s.endpoints, strings.TrimSuffix(named, "/")) {
		return nil, refusal.New(connect.CodeFailedPrecondition,
			"the data plane %q names the STS %q, to which this server shows no token; if it is yours, add it to issuer.stsEndpoints", cluster, short(named))
	}
	// It becomes a part of AWS's host names.
	if !region.MatchString(plane.GetRegion()) {
		return nil, refusal.New(connect.CodeFailedPrecondition,
			"the data plane %q names the region %q, which none is called; check its storage values and try again", cluster, short(plane.GetRegion()))
	}
	credentials, err := s.session(cluster, plane).credentials(ctx)
	if err != nil {
		return nil, err
	}
	expires := urlLife
	if put.Expires > 0 && put.Expires < urlLife {
		expires = put.Expires
	}
	input := &s3.PutObjectInput{Bucket: aws.String(put.Bucket), Key: aws.String(put.Key)}
	if len(put.MD5) > 0 {
		input.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(put.MD5))
	}
	request, err := s3.NewPresignClient(s3.New(s3.Options{
		Region:       plane.GetRegion(),
		BaseEndpoint: endpoint(plane.GetS3Endpoint()),
		UsePathStyle: plane.GetS3Endpoint() != "", // other stores have no DNS name for each bucket
		Credentials:  aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil }),
		// A checksum in the URL would be one that the client then must send.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})).PresignPutObject(ctx, input, s3.WithPresignExpires(expires))
	if err != nil {
		return nil, refusal.Because(fmt.Errorf("signing a put of %s/%s: %w", put.Bucket, put.Key, err), connect.CodeFailedPrecondition,
			"the upload to the data plane %q cannot be signed; check its region and its endpoint of S3", cluster)
	}
	signed := &Signed{URL: request.URL, Headers: map[string]string{}, ExpiresAt: s.now().Add(expires)}
	for name, values := range request.SignedHeader {
		switch name = http.CanonicalHeaderKey(name); name {
		case "Host":
		case "Content-Md5":
			// As the SDK writes it, which sets its own: of two S3 would make one line.
			signed.Headers["Content-MD5"] = values[0]
		default:
			signed.Headers[name] = values[0]
		}
	}
	return signed, nil
}

var region = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (s *Signer) session(cluster string, plane *tunnelv1.DataPlane) *session {
	key := plane.GetStsEndpoint() + "\n" + plane.GetRegion() + "\n" + plane.GetUploadRoleArn()
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.sessions[key]
	if known == nil {
		known = &session{signer: s, cluster: cluster, region: plane.GetRegion(), endpoint: plane.GetStsEndpoint(), role: plane.GetUploadRoleArn()}
		s.sessions[key] = known
	}
	return known
}

// session is flyteadmin's in one account, asked for again before it would end.
type session struct {
	signer                          *Signer
	cluster, region, endpoint, role string

	mu    sync.Mutex // held over the call to STS: those who wait want its result
	until time.Time
	held  aws.Credentials
}

func (s *session) credentials(ctx context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.signer.now()
	if now.Add(urlLife + margin).Before(s.until) {
		return s.held, nil
	}
	token, err := s.signer.tokens.Token(now)
	if err != nil {
		return aws.Credentials{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, stsTimeout)
	defer cancel()
	answer, err := sts.New(sts.Options{
		Region:       s.region,
		BaseEndpoint: endpoint(s.endpoint),
		HTTPClient:   s.signer.client,
		Credentials:  aws.AnonymousCredentials{},
	}).AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn:          aws.String(s.role),
		RoleSessionName:  aws.String("biplane-controlplane"),
		WebIdentityToken: aws.String(token),
		DurationSeconds:  aws.Int32(int32(sessionLife / time.Second)),
	})
	var refused smithy.APIError
	if err != nil && !errors.As(err, &refused) {
		return aws.Credentials{}, refusal.Because(fmt.Errorf("assuming %s: %w", s.role, err), connect.CodeUnavailable,
			"the STS of the data plane %q cannot be reached now; try again", s.cluster)
	}
	if err != nil {
		return aws.Credentials{}, refusal.Because(fmt.Errorf("assuming %s: %w", s.role, err), connect.CodeFailedPrecondition,
			"the role %s of the data plane %q cannot be assumed; check that its trust names this server's issuer", s.role, s.cluster)
	}
	given := answer.Credentials
	s.held = aws.Credentials{
		AccessKeyID: aws.ToString(given.AccessKeyId), SecretAccessKey: aws.ToString(given.SecretAccessKey), SessionToken: aws.ToString(given.SessionToken),
	}
	s.until = aws.ToTime(given.Expiration)
	return s.held, nil
}

func endpoint(url string) *string {
	if url == "" {
		return nil
	}
	return aws.String(url)
}
