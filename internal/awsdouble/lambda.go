package awsdouble

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lambdas are the functions of Lambda, which is not moto's. They run as processes of
// this machine, where there is a Python to run them: see runs.go.
type lambdas struct {
	double *Double
	python string
	file   string // where the functions are kept

	lock      sync.Mutex
	functions []*function
	answers   map[string]chan []byte // that functions owe to CloudFormation, by the token of the URL
	stopping  bool
	running   sync.WaitGroup
	stop      context.CancelFunc
	life      context.Context
}

// function is one, as it is kept.
type function struct {
	Account     string
	Region      string
	Name, ARN   string
	Role        string
	Runtime     string
	Handler     string
	Description string
	Timeout     int // seconds, of the machine's clock
	Memory      int
	Variables   map[string]string
	Tags        map[string]string
	Code        []byte // a zip
	Modified    time.Time
	Revision    string
}

func (f *function) at() place { return place{f.Account, f.Region} }

// openLambdas reads what an earlier double has left in the directory.
func (d *Double) openLambdas(python string) error {
	l := &lambdas{double: d, python: python, file: filepath.Join(d.dir, "functions.json"), answers: map[string]chan []byte{}}
	l.life, l.stop = context.WithCancel(context.Background())
	text, err := os.ReadFile(l.file)
	if err == nil {
		err = json.Unmarshal(text, &l.functions)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the functions of Lambda in %s cannot be read: %w", l.file, err)
	}
	d.world.lambdas = l
	d.closing = append(d.closing, l.close)
	return nil
}

// close ends every function that runs, and returns when they are gone.
func (l *lambdas) close() error {
	l.lock.Lock()
	l.stopping = true
	l.lock.Unlock()
	l.stop()
	l.running.Wait()
	return nil
}

func (l *lambdas) keep() error {
	text, err := json.Marshal(l.functions)
	if err != nil {
		return fmt.Errorf("writing the functions of Lambda: %w", err)
	}
	return writeSecret(l.file, string(text))
}

// find looks a function up by its name or ARN.
func (l *lambdas) find(at place, name string) *function {
	for _, f := range l.functions {
		if f.at() == at && (f.Name == name || f.ARN == name) {
			return f
		}
	}
	return nil
}

var (
	functionForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	handlerForm  = regexp.MustCompile(`^[A-Za-z_][\w/]*(\.[A-Za-z_]\w*)+$`)
	pythonForm   = regexp.MustCompile(`^python3\.[0-9]{1,2}$`)
)

const lambdaService = "lambda.amazonaws.com"

func lambdaError(status int, code, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...), status}
}

// lambda performs a decided call of Lambda.
func (d *Double) lambda(ctx context.Context, c *call) (*http.Response, error) {
	l, at, p := d.world.lambdas, c.place(), c.params
	trusted := ""
	if c.Operation == "CreateFunction" || c.Operation == "UpdateFunctionConfiguration" && p.has("Role") {
		role, err := d.world.Role(ctx, p.one("Role"))
		if err != nil {
			return nil, err
		}
		if role == nil || !slices.Contains(role.Trusts, lambdaService) || strings.Split(p.one("Role"), ":")[4] != c.Account {
			return nil, lambdaError(http.StatusBadRequest, "InvalidParameterValueException", notAssumable)
		}
		trusted = p.one("Role")
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	if c.Operation == "ListFunctions" {
		all := []any{}
		for _, f := range l.functions {
			if f.at() == at {
				all = append(all, f.shown())
			}
		}
		return inJSON(map[string]any{"Functions": all}), nil
	}
	name := cmp.Or(p.one("FunctionName"), p.one("Resource"))
	arn := c.fill("arn:{partition}:lambda:{region}:{account}:function:") + strings.TrimPrefix(name, c.fill("arn:{partition}:lambda:{region}:{account}:function:"))
	f := l.find(at, arn)
	if f == nil && c.Operation != "CreateFunction" {
		return nil, lambdaError(http.StatusNotFound, "ResourceNotFoundException", "Function not found: %s", arn)
	}
	switch c.Operation {
	case "CreateFunction":
		if f != nil {
			return nil, lambdaError(http.StatusConflict, "ResourceConflictException", "Function already exist: %s", name)
		}
		if !functionForm.MatchString(name) {
			return nil, lambdaError(http.StatusBadRequest, "ValidationException", "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", name, functionForm)
		}
		f = &function{Account: at.account, Region: at.region, Name: name, ARN: arn, Role: trusted, Timeout: 3, Memory: 128, Tags: map[string]string{}}
		if err := errors.Join(f.configure(p), f.load(p.one("Code.ZipFile"))); err != nil {
			return nil, err
		}
		if tags := p.get("Tags"); tags != nil {
			collectTags(tags, f.Tags)
		}
		l.functions = append(l.functions, f)
		return l.changed(f, http.StatusCreated)
	case "UpdateFunctionCode":
		next := *f
		if err := next.load(p.one("ZipFile")); err != nil {
			return nil, err
		}
		*f = next
		return l.changed(f, http.StatusOK)
	case "UpdateFunctionConfiguration":
		next := *f
		next.Role = cmp.Or(trusted, f.Role)
		if err := next.configure(p); err != nil {
			return nil, err
		}
		*f = next
		return l.changed(f, http.StatusOK)
	case "DeleteFunction":
		l.functions = slices.DeleteFunc(l.functions, func(one *function) bool { return one == f })
		return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, l.keep()
	case "GetFunctionConfiguration":
		return inJSON(f.shown()), nil
	case "GetFunction":
		answer := map[string]any{"Configuration": f.shown(), "Code": map[string]any{"RepositoryType": "S3"}}
		if len(f.Tags) > 0 {
			answer["Tags"] = f.Tags
		}
		return inJSON(answer), nil
	case "ListTags":
		return inJSON(map[string]any{"Tags": f.Tags}), nil
	case "TagResource":
		collectTags(p.child("Tags"), f.Tags)
		return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, l.keep()
	case "UntagResource":
		for _, key := range append(p.all("tagKeys"), p.all("tagKeys.*")...) {
			delete(f.Tags, key)
		}
		return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, l.keep()
	case "Invoke":
		if kind := c.request.Header.Get("X-Amz-Invocation-Type"); kind != "Event" {
			return nil, lambdaError(http.StatusBadRequest, "InvalidRequestContentException", "The AWS double invokes functions with the invocation type Event alone.")
		}
		if _, err := l.start(f, c.body); err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: http.StatusAccepted, Header: http.Header{}, Body: http.NoBody}, nil
	}
	return nil, &refusal{codeNotThere, "The AWS double's Lambda does not have " + c.Operation + ".", http.StatusNotImplemented}
}

// notAssumable is what Lambda says of a role that does not trust it, or not yet.
const notAssumable = "The role defined for the function cannot be assumed by Lambda."

// configure takes what a call gives of a function's configuration.
func (f *function) configure(p *node) error {
	f.Runtime, f.Handler = cmp.Or(p.one("Runtime"), f.Runtime), cmp.Or(p.one("Handler"), f.Handler)
	if p.get("Description") != nil {
		f.Description = p.one("Description")
	}
	for name, limits := range map[string]struct {
		of        *int
		low, high int
	}{"Timeout": {&f.Timeout, 1, 900}, "MemorySize": {&f.Memory, 128, 10240}} {
		if text := p.one(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < limits.low || n > limits.high {
				return lambdaError(http.StatusBadRequest, "InvalidParameterValueException", "'%s' value failed to satisfy constraint: Member must have value between %d and %d", name, limits.low, limits.high)
			}
			*limits.of = n
		}
	}
	if variables := p.get("Environment"); variables != nil {
		f.Variables = map[string]string{}
		for _, one := range variables.at("Variables.*") {
			f.Variables[one.name] = one.value
		}
	}
	switch {
	case !pythonForm.MatchString(f.Runtime):
		return lambdaError(http.StatusBadRequest, "InvalidParameterValueException", "The AWS double runs functions of Python alone, not of %q.", f.Runtime)
	case !handlerForm.MatchString(f.Handler):
		return lambdaError(http.StatusBadRequest, "InvalidParameterValueException", "Handler %q is not of the form module.function.", f.Handler)
	}
	return nil
}

// load takes a function's code.
func (f *function) load(zipFile string) error {
	code, err := base64.StdEncoding.DecodeString(zipFile)
	if err == nil {
		_, err = filesOf(code)
	}
	if err != nil {
		return lambdaError(http.StatusBadRequest, "InvalidParameterValueException", "Could not unzip uploaded file. Please check your file, then try to upload again.")
	}
	f.Code = code
	return nil
}

// changed keeps what was done to a function, and shows it.
func (l *lambdas) changed(f *function, status int) (*http.Response, error) {
	f.Modified, f.Revision = l.double.clock.Now().UTC(), newRequestID()
	answer := inJSON(f.shown())
	answer.StatusCode = status
	return answer, l.keep()
}

// shown is a function's configuration.
func (f *function) shown() map[string]any {
	sum := sha256.Sum256(f.Code)
	configuration := map[string]any{
		"FunctionName": f.Name, "FunctionArn": f.ARN, "Role": f.Role, "Runtime": f.Runtime, "Handler": f.Handler, "Description": f.Description,
		"Timeout": f.Timeout, "MemorySize": f.Memory, "CodeSize": len(f.Code), "CodeSha256": base64.StdEncoding.EncodeToString(sum[:]),
		"LastModified": f.Modified.Format("2006-01-02T15:04:05.000-0700"), "Version": "$LATEST", "RevisionId": f.Revision, "PackageType": "Zip",
		"State": "Active", "LastUpdateStatus": "Successful", "Architectures": []string{"x86_64"}, "EphemeralStorage": map[string]any{"Size": 512},
		"TracingConfig": map[string]any{"Mode": "PassThrough"},
	}
	if len(f.Variables) > 0 {
		configuration["Environment"] = map[string]any{"Variables": f.Variables}
	}
	return configuration
}

// tags are those of a function, by its ARN.
func (l *lambdas) tags(arn string) map[string]string {
	l.lock.Lock()
	defer l.lock.Unlock()
	for _, f := range l.functions {
		if f.ARN == arn {
			return maps.Clone(f.Tags)
		}
	}
	return nil
}

// answerPath begins the path of the URLs by which functions answer CloudFormation.
const answerPath = "/cloudformation-custom-resource-response-"

// expect makes a URL that takes one answer, of somebody who knows it.
func (l *lambdas) expect(region, object string) (url string, answer <-chan []byte, forget func()) {
	token := strings.ReplaceAll(newRequestID()+newRequestID(), "-", "")
	taken := make(chan []byte, 1)
	l.lock.Lock()
	defer l.lock.Unlock()
	l.answers[token] = taken
	return l.double.url + answerPath + region + "/" + object + "?X-Amz-Signature=" + token, taken, func() {
		l.lock.Lock()
		defer l.lock.Unlock()
		delete(l.answers, token)
	}
}

// maxCustomAnswer is how long the answer of a custom resource may be (CloudFormation User Guide,
// Custom resource response objects).
const maxCustomAnswer = 4096

// takeAnswer is the store behind those URLs. It reports whether the request was for it.
func (l *lambdas) takeAnswer(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, answerPath) {
		return false
	}
	token := r.URL.Query().Get("X-Amz-Signature")
	text, err := io.ReadAll(io.LimitReader(r.Body, maxCustomAnswer+1))
	l.lock.Lock()
	defer l.lock.Unlock()
	answer, open := l.answers[token]
	if !open || err != nil || r.Method != http.MethodPut {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	delete(l.answers, token)
	answer <- text
	return true
}
