package s3

import (
	"encoding/json"
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
	"biplane.dev/biplane/provision/iampolicy/sar"
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

// checkPolicy refuses what S3 would not store: in S3's words by versitygw's own
// check, as far as that goes, and for the rest by our engine.
func (f *front) checkPolicy(bucket string, text []byte) error {
	if len(text) > maxPolicy {
		return s3err.APIError{Code: "PolicyTooLarge", Description: "Policies must not be larger than " + strconv.Itoa(maxPolicy) + " bytes.", HTTPStatusCode: http.StatusBadRequest}
	}
	known, whole, err := simpler(text)
	if err != nil {
		return err
	}
	if whole {
		if err := auth.ValidatePolicyDocument(known, bucket, f); err != nil {
			return err
		}
	}
	document, err := bucketPolicy(string(text))
	if err != nil {
		var form *iampolicy.FormError
		if errors.As(err, &form) && len(form.Problems) > 0 {
			return malformedPolicy(form.Problems[0].Path + ": " + form.Problems[0].Message)
		}
		return malformedPolicy("This policy contains invalid Json")
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
		if err := checkKeys(one); err != nil {
			return err
		}
	}
	if _, err := iampolicy.Compile(iampolicy.Policies{Resource: document}); err != nil {
		return malformedPolicy(err.Error())
	}
	unknown, err := f.ResolvePrincipals(principals)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		return malformedPolicy("Invalid principal in policy")
	}
	return nil
}

// checkKeys refuses condition keys that S3 does not have, or not for the actions
// that are spelt out.
func checkKeys(one iampolicy.Statement) error {
	reference := sar.Default()
	for _, condition := range one.Condition {
		if _, ok := reference.GlobalKey(condition.Key); ok {
			continue
		}
		if _, ok := reference.ServiceKey("s3", condition.Key); !ok {
			return malformedPolicy("Policy has an invalid condition key")
		}
		for _, name := range one.Action {
			action, ok := reference.Action(name)
			if !ok {
				continue // a pattern
			}
			if _, ok := reference.ActionKey(action, condition.Key); !ok {
				return malformedPolicy("Conditions do not apply to combination of actions and resources in statement")
			}
		}
	}
	return nil
}

// simpler is a policy as versitygw's check can judge it: condition keys that S3
// has and it does not are replaced by one that it has. whole is false where it
// would not understand the policy at all, for its Not… elements.
func simpler(text []byte) (simple []byte, whole bool, err error) {
	var document map[string]any
	if len(text) == 0 || text[0] != '{' || json.Unmarshal(text, &document) != nil {
		return text, true, nil // it says what is wrong
	}
	statements, ok := document["Statement"].([]any)
	if !ok {
		statements = []any{document["Statement"]}
		if document["Statement"] != nil {
			document["Statement"] = statements
		}
	}
	for _, one := range statements {
		statement, ok := one.(map[string]any)
		if !ok {
			return text, true, nil
		}
		for _, element := range []string{"NotPrincipal", "NotAction", "NotResource"} {
			if _, there := statement[element]; there {
				return nil, false, nil
			}
		}
		conditions, ok := statement["Condition"].(map[string]any)
		if !ok {
			continue
		}
		for _, keys := range conditions {
			keys, ok := keys.(map[string]any)
			if !ok {
				continue
			}
			for key, values := range maps.Clone(keys) {
				used := iampolicy.Statement{Action: texts(statement["Action"]), Condition: []iampolicy.Condition{{Key: key}}}
				if checkKeys(used) == nil && !strings.EqualFold(key, "aws:SourceIp") {
					delete(keys, key)
					keys["aws:UserAgent"] = values
				}
			}
		}
	}
	simple, err = json.Marshal(document)
	return simple, true, err
}

// texts is one text or a list of them.
func texts(element any) (out []string) {
	list, ok := element.([]any)
	if !ok {
		list = []any{element}
	}
	for _, one := range list {
		if text, ok := one.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// ResolvePrincipals is versitygw's question which principals of a bucket's
// policy do not exist.
func (f *front) ResolvePrincipals(principals []string) ([]string, error) {
	principals = slices.DeleteFunc(slices.Clone(principals), func(p string) bool { return p == "*" })
	if len(principals) == 0 {
		return nil, nil
	}
	return f.callers.unknownPrincipals(principals)
}

func malformedPolicy(what string) error {
	return s3err.APIError{Code: "MalformedPolicy", Description: what, HTTPStatusCode: http.StatusBadRequest}
}

// bucketPolicy reads a stored policy; nil for none.
func bucketPolicy(text string) (*iampolicy.Document, error) {
	if text == "" {
		return nil, nil
	}
	return iampolicy.Parse("bucket policy", withoutLists([]byte(text)))
}

// withoutLists puts a Principal that is a list or a name, which S3 takes and IAM
// does not, under the key that it means.
func withoutLists(text []byte) []byte {
	var document map[string]any
	if json.Unmarshal(text, &document) != nil {
		return text
	}
	statements, ok := document["Statement"].([]any)
	if !ok {
		statements = []any{document["Statement"]}
	}
	changed := false
	for _, one := range statements {
		statement, _ := one.(map[string]any)
		switch principal := statement["Principal"].(type) {
		case []any:
			statement["Principal"], changed = map[string]any{"AWS": principal}, true
		case string:
			if principal != "*" {
				statement["Principal"], changed = map[string]any{"AWS": principal}, true
			}
		}
	}
	if !changed {
		return text // as it was written, so that the engine sees what is there twice
	}
	simple, err := json.Marshal(document)
	if err != nil {
		return text
	}
	return simple
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
