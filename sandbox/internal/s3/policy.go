package s3

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/metrics"
	"github.com/versity/versitygw/s3api/controllers"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"

	"biplane.dev/biplane/provision/iampolicy"
)

// maxPolicy is S3's limit on a bucket's policy.
const maxPolicy = 20 << 10

// putBucketPolicy is the one operation that versitygw does not do: it refuses
// condition keys that its engine does not know. The signature is checked by its
// own middlewares.
func (f *front) putBucketPolicy(ctx fiber.Ctx, request *facts) error {
	prepare := func(ctx fiber.Ctx) error {
		if request.anonymous {
			return s3err.GetAPIError(s3err.ErrAccessDenied)
		}
		utils.ContextKeyRegion.Set(ctx, f.region)
		utils.ContextKeyStartTime.Set(ctx, f.clock())
		utils.ContextKeyRootAccessKey.Set(ctx, f.root.Access)
		utils.ContextKeyAccount.Set(ctx, auth.Account{})
		utils.ContextKeyIsRoot.Set(ctx, false)
		return nil
	}
	store := func(ctx fiber.Ctx) (*controllers.Response, error) {
		account := utils.ContextKeyAccount.Get(ctx).(auth.Account)
		return &controllers.Response{MetaOpts: &controllers.MetaOptions{Status: http.StatusNoContent}}, f.storePolicy(ctx, request, account)
	}
	return controllers.ProcessHandlers(store, metrics.ActionPutBucketPolicy, &controllers.Services{},
		prepare,
		middlewares.VerifyPresignedV4Signature(f.root, f, f.region, false),
		middlewares.VerifyV4Signature(f.root, f, f.region, false, true, false),
		middlewares.VerifyChecksums(false, false, false),
	)(ctx)
}

func (f *front) storePolicy(ctx fiber.Ctx, request *facts, account auth.Account) error {
	if _, err := f.store.GetBucketVersioning(ctx.RequestCtx(), request.bucket); isCode(err, "NoSuchBucket") {
		return err
	}
	var err error
	if request.caller, err = f.callers.caller(credential{account.Access, account.SessionToken}); err != nil {
		return err
	}
	q := f.question(request, "s3:PutBucketPolicy", bucketARN+request.bucket)
	decision, err := f.decide(request, q)
	if err != nil {
		return err
	}
	if decision != iampolicy.Allowed {
		return f.denied(request, q)
	}
	text := ctx.BodyRaw()
	if err := f.checkPolicy(request.bucket, text); err != nil {
		return err
	}
	return f.store.PutBucketPolicy(ctx.RequestCtx(), request.bucket, text)
}

// checkPolicy refuses what S3 would not store.
func (f *front) checkPolicy(bucket string, text []byte) error {
	if len(text) > maxPolicy {
		return s3err.APIError{Code: "PolicyTooLarge", Description: "Policies must not be larger than " + strconv.Itoa(maxPolicy) + " bytes.", HTTPStatusCode: http.StatusBadRequest}
	}
	document, err := iampolicy.Parse("bucket policy", text)
	if err != nil {
		var form *iampolicy.FormError
		if errors.As(err, &form) && len(form.Problems) > 0 {
			first := form.Problems[0]
			if first.Code == "bad-principal" {
				return malformedPolicy("Invalid principal in policy")
			}
			return malformedPolicy(first.Path + ": " + first.Message)
		}
		return malformedPolicy("Policies must be valid JSON and the first byte must be '{'")
	}
	if len(document.Statements) == 0 {
		return malformedPolicy("Could not parse the policy: Statement is empty!")
	}
	var principals []string
	for _, one := range document.Statements {
		if one.Principal == nil && one.NotPrincipal == nil {
			return malformedPolicy("Missing required field Principal")
		}
		for _, named := range []*iampolicy.Principals{one.Principal, one.NotPrincipal} {
			if named != nil {
				principals = append(principals, named.AWS...)
			}
		}
		for _, action := range slices.Concat(one.Action, one.NotAction) {
			if service, _, _ := strings.Cut(strings.ToLower(action), ":"); service != "s3" && action != "*" {
				return malformedPolicy("Policy has invalid action")
			}
		}
		if len(one.Resource)+len(one.NotResource) == 0 {
			return malformedPolicy("Missing required field Resource")
		}
		for _, resource := range slices.Concat(one.Resource, one.NotResource) {
			name, ok := strings.CutPrefix(resource, bucketARN)
			inside, _, _ := strings.Cut(name, "/")
			if !ok || !iampolicy.MatchARN(bucketARN+inside, bucketARN+bucket) {
				return malformedPolicy("Policy has invalid resource")
			}
		}
	}
	if _, err := iampolicy.Compile(iampolicy.Policies{Resource: document}); err != nil {
		return malformedPolicy(err.Error())
	}
	if len(principals) == 0 {
		return nil
	}
	unknown, err := f.callers.unknownPrincipals(principals)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		return malformedPolicy("Invalid principal in policy")
	}
	return nil
}

func malformedPolicy(what string) error {
	return s3err.APIError{Code: "MalformedPolicy", Description: what, HTTPStatusCode: http.StatusBadRequest}
}

// bucketPolicy reads a stored policy; nil for none.
func bucketPolicy(text string) (*iampolicy.Document, error) {
	if text == "" {
		return nil, nil
	}
	return iampolicy.Parse("bucket policy", []byte(text))
}

// publicPolicies decide for nobody in particular, by the text of a bucket's
// policy.
type publicPolicies struct {
	lock   sync.Mutex
	byText map[string]*iampolicy.Evaluator
}

func (p *publicPolicies) evaluator(text string) (*iampolicy.Evaluator, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if found := p.byText[text]; found != nil {
		return found, nil
	}
	document, err := bucketPolicy(text)
	if err != nil {
		return nil, err
	}
	made, err := iampolicy.Compile(iampolicy.Policies{Resource: document})
	if err != nil {
		return nil, err
	}
	if len(p.byText) >= maxEvaluators {
		clear(p.byText)
	}
	p.byText[text] = made
	return made, nil
}

func withTime(keys iampolicy.Context, now time.Time) iampolicy.Context {
	out := maps.Clone(keys)
	out.Set("aws:CurrentTime", now.UTC().Format(time.RFC3339))
	out.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
	return out
}

// mentionsTags says that a policy may depend on the tags that an object has. The
// letters could also be written by their numbers.
func mentionsTags(text string) bool {
	return strings.Contains(strings.ToLower(text), "existingobjecttag") || strings.Contains(text, `\u`)
}
