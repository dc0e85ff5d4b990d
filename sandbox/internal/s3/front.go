package s3

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"

	"biplane.dev/biplane/provision/iampolicy"
)

// front is what stands before versitygw, and what versitygw asks. It is the
// auth.IAMService, with four more interfaces that make versitygw ask for
// signing keys and decisions rather than for secrets.
type front struct {
	account string
	region  string
	domain  string
	callers *callers
	store   backend.Backend
	root    middlewares.RootUserConfig
	clock   func() time.Time
	log     *slog.Logger

	requests sync.Map // *facts by what versitygw takes for its source address
	number   atomic.Uint64

	public publicPolicies
}

var (
	_ auth.IAMService         = (*front)(nil)
	_ auth.SigningKeyProvider = (*front)(nil)
	_ auth.PolicyEvaluator    = (*front)(nil)
	_ auth.FixedBucketOwner   = (*front)(nil)
	_ auth.PrincipalResolver  = (*front)(nil)
)

func newFront(cfg Config, callers *callers, store backend.Backend) *front {
	return &front{
		account: cfg.Account, region: cfg.Region, domain: cfg.VirtualDomain,
		callers: callers, store: store, clock: cfg.Clock, log: cfg.Log,
		public: publicPolicies{byText: map[string]*iampolicy.Evaluator{}},
	}
}

// factsKey is where backend.go finds a request's facts.
type factsKey struct{}

// handle is the first to see a request.
func (f *front) handle(ctx fiber.Ctx) error {
	readWholeBody(ctx)
	defer readRest(ctx)
	switch {
	case utils.IsPresignedURLAuth(ctx) && ctx.Get("Authorization") != "":
		// versitygw would look at the query alone, another reader at the header.
		return refuse(ctx, s3err.APIError{Code: "InvalidArgument", HTTPStatusCode: http.StatusBadRequest,
			Description: "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"})
	case ctx.Method() == http.MethodPatch:
		// versitygw's own administration, which nobody has a key for.
		return refuse(ctx, s3err.GetAPIError(s3err.ErrMethodNotAllowed))
	}

	one, err := f.factsOf(ctx)
	if err != nil {
		return refuse(ctx, err)
	}
	if one.anonymous && one.key != "" && one.overridesHeaders() {
		return refuse(ctx, s3err.GetAPIError(s3err.ErrAnonymousResponseHeaders))
	}
	source := sourceFor(f.number.Add(1))
	f.requests.Store(source.IP.String(), one)
	ctx.Locals(factsKey{}, one)
	ctx.RequestCtx().SetRemoteAddr(source)
	defer func() {
		ctx.RequestCtx().SetRemoteAddr(nil)
		f.requests.Delete(source.IP.String())
	}()
	if ctx.Method() == http.MethodPut && one.has("policy") && one.bucket != "" && one.key == "" {
		return f.putBucketPolicy(ctx, one)
	}
	return ctx.Next()
}

// sourceFor writes a request's number as an address of fd00::/8, which nothing
// is reached from.
func sourceFor(number uint64) *net.TCPAddr {
	ip := make(net.IP, net.IPv6len)
	ip[0] = 0xfd
	for i := range 8 {
		ip[15-i] = byte(number >> (8 * i))
	}
	return &net.TCPAddr{IP: ip}
}

// request finds the facts of the request that versitygw asks about.
func (f *front) request(condition map[string][]string) (*facts, error) {
	if source := condition["aws:SourceIp"]; len(source) == 1 {
		if one, ok := f.requests.Load(source[0]); ok {
			return one.(*facts), nil
		}
	}
	return nil, fmt.Errorf("versitygw asked about a request that did not come by the front")
}

func refuse(ctx fiber.Ctx, err s3err.S3Error) error {
	request, host := utils.EnsureRequestIDs(ctx)
	ctx.Response().Header.SetContentType(fiber.MIMEApplicationXML)
	return ctx.Status(err.StatusCode()).Send(err.XMLBody(request, host))
}

// DeriveSigningKey says what key a signature has to be made with.
func (f *front) DeriveSigningKey(access, token, date, region, _ string) ([]byte, auth.Account, error) {
	key, one, err := f.callers.signingKey(credential{access, token}, scope{date, region})
	if err != nil {
		return nil, auth.Account{}, err
	}
	return key, auth.Account{
		Access: access, SessionToken: token, IsSession: token != "", Role: auth.RoleUser, Arn: one.holder.ARN, RoleArn: one.holder.RoleARN,
	}, nil
}

// BucketOwner is the account: here as with AWS, whoever makes a bucket.
func (f *front) BucketOwner() auth.Account {
	return auth.Account{Access: f.account, Role: auth.RoleAdmin, Arn: "arn:aws:iam::" + f.account + ":root"}
}

// The rest of auth.IAMService is versitygw's administration of accounts, and
// grantees of ACLs, which do not grant here.

func (f *front) GetUserAccount(access string) (auth.Account, error) {
	if access == f.account {
		return f.BucketOwner(), nil
	}
	return auth.Account{}, auth.ErrNoSuchUser
}

func (f *front) ResolveAccounts(accesses []string) (missing []string, err error) {
	for _, access := range accesses {
		if access != f.account {
			missing = append(missing, access)
		}
	}
	return missing, nil
}

func (f *front) CreateAccount(auth.Account) error { return errAdministration() }

func (f *front) UpdateUserAccount(string, auth.MutableProps) error { return errAdministration() }

func (f *front) DeleteUserAccount(string) error { return errAdministration() }

func (f *front) ListUserAccounts() ([]auth.Account, error) { return nil, errAdministration() }

// Shutdown is called when versitygw stops.
func (f *front) Shutdown() error { return nil }

func errAdministration() error { return s3err.GetAPIError(s3err.ErrAdminMethodNotSupported) }
