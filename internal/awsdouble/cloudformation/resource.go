package cloudformation

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"
)

// Cloud is how resources are made: by calls of the other services on behalf of
// whoever runs the stack's operation.
type Cloud interface {
	// IAM is a client whose calls are made on behalf of who: they are decided by
	// who's policies, with aws:CalledVia and aws:ViaAWSService among the keys.
	IAM(who Caller) *iam.Client
	// Lambda performs a call of Lambda on behalf of who, in JSON's values.
	Lambda(ctx context.Context, who Caller, at Env, operation string, input map[string]any) (map[string]any, error)
	// Ask has a function handle an event, on behalf of who, and returns what it puts to
	// the ResponseURL that is added to the event, or ErrNoAnswer.
	Ask(ctx context.Context, who Caller, at Env, function string, event map[string]any) ([]byte, error)
}

// ErrNoAnswer is a function that has ended and has not answered.
var ErrNoAnswer = errors.New("the function has not answered")

// Caller is whoever runs an operation of a stack. It is kept with the operation.
type Caller struct {
	Account, ARN string
	AccessKeyID  string
}

// Tag is a tag of a stack or a resource.
type Tag struct{ Key, Value string }

// request is what a handler is asked to do.
type request struct {
	cloud  Cloud
	caller Caller
	env    Env
	token  string // the operation's, as in its events
	again  bool   // it was begun before, by a process that is gone: what has its name is its own

	logicalID  string
	typ        string         // AWS::IAM::Role
	properties map[string]any // as they should be; for delete and read, as they were made
	previous   map[string]any // for update
	physical   Physical       // what is there, for all but create
}

// What read answers where there is nothing to compare.
var (
	errGone    = errors.New("the resource is not there")
	errNoDrift = errors.New("this type of resource does not support drift detection")
)

// A handler makes one type of resource.
type handler interface {
	// create makes it. With an error and a Physical, something was made that a
	// rollback has to delete; with an error alone, nothing was.
	create(ctx context.Context, r *request) (Physical, error)
	// update changes it in place. Another ID in the answer means that there is
	// another resource now, and the old one has to be deleted.
	update(ctx context.Context, r *request) (Physical, error)
	// delete returns nil also when it is gone already.
	delete(ctx context.Context, r *request) error
	// read gives the properties as they are, for drift: those that r has, in the
	// template's form, with what somebody added. It returns errGone when there is
	// nothing, and errNoDrift where a type does not tell.
	read(ctx context.Context, r *request) (map[string]any, error)
}

// kind is what is known of a type of resource.
type kind struct {
	properties map[string]form // nil: any
	required   []string        // of them
	replaced   []string        // a change of these makes another resource
	named      string          // the property that names it: no second one of that name can stand beside it
	attributes []string        // of Fn::GetAtt; nil: any
	tagged     bool            // gets the stack's tags
	iam        bool            // needs a capability
	legacy     bool            // words its errors as older types of resources do
	handler    handler
}

// form is what a property may be.
type form string

const (
	textForm     form = "String"
	numberForm   form = "Integer"
	listForm     form = "JSONArray"
	documentForm form = "JSONObject" // an object, or a text that is one
)

// kindOf finds a type of resource. Custom::Anything is a custom resource.
func kindOf(typ string) (kind, bool) {
	if strings.HasPrefix(typ, "Custom::") {
		typ = customResource
	}
	k, ok := kinds[typ]
	return k, ok
}

const customResource = "AWS::CloudFormation::CustomResource"

// kinds are the types of resources that templates may have.
var kinds = map[string]kind{
	"AWS::IAM::Role":              roleKind,
	"AWS::IAM::ManagedPolicy":     managedPolicyKind,
	"AWS::IAM::Policy":            policyKind,
	"AWS::IAM::RolePolicy":        rolePolicyKind,
	"AWS::IAM::InstanceProfile":   instanceProfileKind,
	"AWS::IAM::ServiceLinkedRole": serviceLinkedRoleKind,
	"AWS::IAM::OIDCProvider":      oidcProviderKind,

	"AWS::Lambda::Function": functionKind,

	customResource: customKind,
	"AWS::CloudFormation::WaitConditionHandle": waitHandleKind,
}

// create makes a resource. Its error, and those of update and delete, is a
// *StatusReason; what the Physical means beside it is with handler.
func create(ctx context.Context, r *request) (Physical, error) {
	k, _ := kindOf(r.typ)
	if err := k.check(r); err != nil {
		return Physical{}, err
	}
	made, err := k.handler.create(ctx, r)
	return made, k.reason(r, err)
}

func update(ctx context.Context, r *request) (Physical, error) {
	k, _ := kindOf(r.typ)
	if err := k.check(r); err != nil {
		return r.physical, err
	}
	made, err := k.handler.update(ctx, r)
	return made, k.reason(r, err)
}

func remove(ctx context.Context, r *request) error {
	k, _ := kindOf(r.typ)
	return k.reason(r, k.handler.delete(ctx, r))
}

// StatusReason is an error as the event of a resource tells it.
type StatusReason struct {
	Text string
	err  error
}

func (e *StatusReason) Error() string { return e.Text }
func (e *StatusReason) Unwrap() error { return e.err }

// reason words an error as the event of a resource does.
func (k kind) reason(r *request, err error) error {
	if err == nil {
		return nil
	}
	message, code := err.Error(), "InvalidRequest"
	var api smithy.APIError
	var mine *Error
	var said *StatusReason
	switch {
	case errors.As(err, &said):
		return said
	case errors.As(err, &mine):
		message = mine.Message
	case errors.As(err, &api):
		status, id := http.StatusNotFound, r.token // of errNoGroup, which nobody answered
		var response *awshttp.ResponseError
		if errors.As(err, &response) {
			status, id = response.HTTPStatusCode(), response.ServiceRequestID()
		}
		if k.legacy {
			return &StatusReason{fmt.Sprintf("%s (Service: AmazonIdentityManagement; Status Code: %d; Error Code: %s; Request ID: %s; Proxy: null)", api.ErrorMessage(), status, api.ErrorCode(), id), err}
		}
		message, code = fmt.Sprintf("%s (Service: Iam, Status Code: %d, Request ID: %s)", api.ErrorMessage(), status, id), handlerCode(api.ErrorCode(), status)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = "NotStabilized"
	default:
		code = "InternalFailure"
	}
	return &StatusReason{fmt.Sprintf(`Resource handler returned message: "%s" (RequestToken: %s, HandlerErrorCode: %s)`, message, r.token, code), err}
}

// handlerCode is what AWS's handlers call an error of IAM.
func handlerCode(code string, status int) string {
	switch code {
	case "EntityAlreadyExists":
		return "AlreadyExists"
	case "NoSuchEntity":
		return "NotFound"
	case "LimitExceeded":
		return "ServiceLimitExceeded"
	case "AccessDenied":
		return "AccessDenied"
	case "Throttling":
		return "Throttling"
	case "ExpiredToken", "InvalidClientTokenId":
		return "InvalidCredentials"
	case "DeleteConflict", "InvalidInput", "MalformedPolicyDocument", "UnmodifiableEntity", "ValidationError":
		return "InvalidRequest"
	}
	if status >= http.StatusInternalServerError {
		return "ServiceInternalError"
	}
	return "GeneralServiceException"
}

// check refuses properties that the type does not have, or not in that form.
func (k kind) check(r *request) error {
	if k.properties == nil {
		return nil
	}
	var wrong []string
	for _, name := range k.required {
		if _, given := r.properties[name]; !given {
			wrong = append(wrong, fmt.Sprintf("#: required key [%s] not found", name))
		}
	}
	for _, name := range sortedKeys(r.properties) {
		want, known := k.properties[name]
		switch value := r.properties[name]; {
		case !known:
			wrong = append(wrong, fmt.Sprintf("#: extraneous key [%s] is not permitted", shown(name)))
		case !want.is(value):
			wrong = append(wrong, fmt.Sprintf("#/%s: expected type: %s, found: %s", name, want, formOf(value)))
		}
	}
	if wrong == nil {
		return nil
	}
	return &StatusReason{Text: fmt.Sprintf("Properties validation failed for resource %s with message:\n%s", r.logicalID, strings.Join(wrong, "\n"))}
}

func (f form) is(value any) bool {
	text, scalar := scalarText(value)
	switch f {
	case textForm:
		return scalar
	case numberForm:
		return json.Unmarshal([]byte(text), new(int)) == nil
	case documentForm:
		_, err := documentText(value)
		return err == nil
	}
	return formOf(value) == f
}

func formOf(value any) form {
	switch value.(type) {
	case []any:
		return listForm
	case map[string]any:
		return documentForm
	}
	return textForm
}

// changed are the names of the properties that differ, and replacing those among
// them that make another resource.
func (k kind) changed(previous, next map[string]any) (changed, replacing []string) {
	for _, name := range sortedKeys(both(previous, next)) {
		if same(previous[name], next[name]) {
			continue
		}
		changed = append(changed, name)
		if slices.Contains(k.replaced, name) {
			replacing = append(replacing, name)
		}
	}
	return changed, replacing
}

func both(a, b map[string]any) map[string]any {
	all := map[string]any{}
	for _, one := range []map[string]any{a, b} {
		for key := range one {
			all[key] = true
		}
	}
	return all
}

// mayReplace refuses to make another resource while one of its name is there.
func (k kind) mayReplace(physicalID string, previous, next map[string]any) error {
	if k.named == "" || next[k.named] == nil || !same(previous[k.named], next[k.named]) {
		return nil
	}
	return &StatusReason{Text: fmt.Sprintf("CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %s and update the stack again.", physicalID)}
}

// generatedName is the name of a resource that its template gives none:
// Stack-Logical-Random. It is the same each time within one operation, so that
// what was interrupted finds what it made.
func (r *request) generatedName(max int) string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(strings.Join([]string{r.env.StackID, r.logicalID, r.token}, "\x00")))
	n, digit := new(big.Int).SetBytes(sum[:]), new(big.Int)
	random := make([]byte, 12)
	for i := range random {
		n.DivMod(n, big.NewInt(int64(len(letters))), digit)
		random[i] = letters[digit.Int64()]
	}
	head := r.env.StackName + "-" + r.logicalID
	return head[:min(len(head), max-1-len(random))] + "-" + string(random)
}

// name is the name of a resource: its property's, or a generated one.
func (r *request) name(property string, max int) string {
	if name, given := scalarText(r.properties[property]); given {
		return name
	}
	return r.generatedName(max)
}

// differs says that an update changes a property.
func (r *request) differs(name string) bool { return !same(r.previous[name], r.properties[name]) }

// text is a property as a parameter of a call; nil where it is not given.
func text(properties map[string]any, name string) *string {
	if value, given := scalarText(properties[name]); given {
		return &value
	}
	return nil
}

// texts is a property that is a list of texts.
func texts(properties map[string]any, name string) []string {
	list, _ := properties[name].([]any)
	var out []string
	for _, one := range list {
		value, _ := scalarText(one)
		out = append(out, value)
	}
	return out
}

// asList is the way back.
func asList(values []string) []any {
	out := []any{}
	for _, one := range values {
		out = append(out, one)
	}
	return out
}

// documentText is a policy document as it is sent.
func documentText(value any) (string, error) {
	if written, isText := value.(string); isText {
		var object map[string]any
		if err := json.Unmarshal([]byte(written), &object); err != nil {
			return "", invalid("the document is not a JSON object: %v", err)
		}
		return written, nil
	}
	if _, isObject := value.(map[string]any); !isObject {
		return "", invalid("the document is not an object")
	}
	return asJSON(value), nil
}

// gone turns the error of something that is not there into nil.
func gone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

// ours says that a create which was begun before made what is there now.
func (r *request) ours(err error) bool {
	var api smithy.APIError
	return r.again && errors.As(err, &api) && api.ErrorCode() == "EntityAlreadyExists"
}

func isGone(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "NoSuchEntity"
}
