package awsidentity

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"biplane.dev/biplane/internal/sigv4"
	"biplane.dev/biplane/provision/iampolicy"
)

// The two APIs, by the service of a signature's scope.
const (
	iamService = "iam"
	stsService = "sts"

	iamVersion   = "2010-05-08"
	stsVersion   = "2011-06-15"
	iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

	maxParameters = 5000
)

// call is one operation under way, within one transaction.
type call struct {
	s       *Service
	view    *view // as the operation sees the store: newest for a writer
	now     time.Time
	caller  *Caller
	account string
	p       params
}

// ServeHTTP answers IAM's and STS's Query APIs: it authenticates, authorizes and
// performs. Which of the two is meant is in the signature's scope, and for an
// unsigned request in its Version or Action.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, name, result, err := s.answer(r)
	s.write(w, service, name, result, err)
}

// ServeAs answers a request to IAM as a caller who is known already: by OnBehalf,
// or by Authenticate. The request's signature does not count.
func (s *Service) ServeAs(caller *Caller, w http.ResponseWriter, r *http.Request) {
	p, err := readParams(r)
	if err != nil {
		s.write(w, iamService, "", nil, err)
		return
	}
	as := *caller
	as.watch = watcher(r.Context())
	result, err := s.run(r.Context(), iamService, &as, p)
	s.write(w, iamService, p.get("Action"), result, err)
}

func (s *Service) write(w http.ResponseWriter, service, name string, result any, err error) {
	requestID, noID := newRequestID(s.random)
	if noID != nil {
		s.log.Error("no request id", "error", noID)
	}
	namespace := iamNamespace
	if service == stsService {
		namespace = stsNamespace
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", requestID)
	if err == nil {
		var body []byte
		if body, err = encodeResult(namespace, name, result, requestID); err == nil {
			w.Write(body)
			return
		}
	}
	answer, internal := asError(err)
	if internal {
		s.log.Error("request failed", "operation", name, "error", err)
	}
	WriteError(w, namespace, answer, requestID)
}

// WriteRefusal writes what Authenticate or OnBehalf returned, as IAM does.
func (s *Service) WriteRefusal(w http.ResponseWriter, err error) {
	s.write(w, iamService, "", nil, err)
}

// WriteError writes an error in the form of the Query protocol.
func WriteError(w http.ResponseWriter, namespace string, e *Error, requestID string) {
	var b bytes.Buffer
	fault := "Sender"
	if e.Status >= 500 {
		fault = "Receiver"
	}
	fmt.Fprintf(&b, `<ErrorResponse xmlns="%s">`+"\n  <Error>\n    <Type>%s</Type>\n    <Code>%s</Code>\n    <Message>", namespace, fault, e.Code)
	xml.EscapeText(&b, []byte(e.Message))
	b.WriteString("</Message>\n  </Error>\n  <RequestId>" + requestID + "</RequestId>\n</ErrorResponse>\n")
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(e.Status)
	w.Write(b.Bytes())
}

func newRequestID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// encodeResult wraps a result the way every answer of the protocol is wrapped.
func encodeResult(namespace, name string, result any, requestID string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<%sResponse xmlns="%s">`, name, namespace)
	if result != nil {
		e := xml.NewEncoder(&b)
		if err := e.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: name + "Result"}}); err != nil {
			return nil, fmt.Errorf("writing the answer of %s: %w", name, err)
		}
	}
	fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>\n", requestID, name)
	return b.Bytes(), nil
}

// answer does everything up to the result. service is known as soon as it can
// be, so that an error has the right namespace.
func (s *Service) answer(r *http.Request) (service, name string, result any, err error) {
	service = iamService
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return service, "", nil, refuse(http.StatusMethodNotAllowed, "InvalidAction", "The method %s is not one of the Query protocol; use POST.", r.Method)
	}
	// The signature comes first: the body is read by its check, with a bound.
	signed, err := sigv4.Parse(r)
	unsigned := false
	if err != nil {
		answer, _ := asError(err)
		if answer.Code != "MissingAuthenticationToken" {
			return service, "", nil, answer
		}
		unsigned = true
	}
	var caller *Caller
	if unsigned {
		body, err := io.ReadAll(io.LimitReader(bodyOf(r), maxBody+1))
		if err != nil {
			return service, "", nil, fmt.Errorf("reading a request: %w", err)
		}
		if len(body) > maxBody {
			return service, "", nil, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "Request body is larger than %d bytes.", maxBody)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	} else {
		service = signed.Service
		if caller, err = s.Authenticate(r); err != nil {
			return service, "", nil, err
		}
	}

	p, err := readParams(r)
	if err != nil {
		return service, "", nil, err
	}
	name = p.get("Action")
	if unsigned {
		if p.get("Version") == stsVersion || unsignedOperation(name) {
			service = stsService
		}
		if service != stsService || !unsignedOperation(name) {
			return service, name, nil, refuse(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token")
		}
	}
	result, err = s.run(r.Context(), service, caller, p)
	return service, name, result, err
}

// run finds the operation and performs it; caller is nil for an unsigned request.
func (s *Service) run(ctx context.Context, service string, caller *Caller, p params) (result any, err error) {
	name := p.get("Action")
	version := iamVersion
	switch service {
	case iamService:
		// AWS wants IAM's requests signed for one region. The CLI and the SDKs sign
		// for their own one instead as soon as they are given an endpoint, so any is
		// taken here; what policies see is IAM's.
		caller.keys.Set("aws:RequestedRegion", IAMRegion(caller.Partition))
	case stsService:
		version = stsVersion
	default:
		return nil, refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Credential should be scoped to correct service: 'iam' or 'sts', not '%s'.", service)
	}
	op, known := s.operations[service+":"+name]
	switch given := p.get("Version"); {
	case name == "":
		return nil, refuse(http.StatusBadRequest, "MissingAction", "The request has no Action parameter.")
	case !known || given != "" && given != version:
		if given == "" {
			given = version
		}
		return nil, refuse(http.StatusBadRequest, "InvalidAction", "Could not find operation %s for version %s", printable(name), printable(given))
	}
	result, err = s.perform(caller, op, p)
	// The keys are fetched outside of any transaction: others go on meanwhile.
	var unknown *unknownKeyError
	if errors.As(err, &unknown) {
		s.fetchKeys(ctx, unknown.issuer)
		result, err = s.perform(caller, op, p)
	}
	return result, err
}

func bodyOf(r *http.Request) io.Reader {
	if r.Body == nil {
		return bytes.NewReader(nil)
	}
	return r.Body
}

// IAMRegion is the region that requests to IAM of a partition are signed for.
func IAMRegion(partition string) string {
	switch partition {
	case "aws-us-gov":
		return "us-gov-west-1"
	case "aws-cn":
		return "cn-north-1"
	}
	return "us-east-1"
}

// perform authorizes and runs one operation in one transaction. An operation
// that fails leaves nothing behind.
func (s *Service) perform(caller *Caller, op operation, p params) (result any, err error) {
	run := func(tx *bolt.Tx) error {
		c := &call{s: s, now: s.now(), caller: caller, p: p, view: s.newest(tx)}
		if op.reads {
			c.view = s.visible(tx)
		}
		if caller != nil {
			c.account = caller.Account
			if err := s.authorize(s.visible(tx), caller, op.needs(c), nil); err != nil {
				return err
			}
		}
		result, err = op.do(c)
		return err
	}
	switch {
	case op.reads:
		err = s.db.View(run)
	case op.issues:
		err = s.db.Update(run)
	default:
		err = s.update(run)
	}
	if err != nil {
		return nil, err
	}
	return result, nil
}

// params are a request's parameters, each given once.
type params map[string]string

// readParams joins the query and the form. AWS reads both of a POST. A
// parameter that is there twice with two values would be read one way by this
// service and maybe another way by whoever looked at the request before, so it
// is refused.
func readParams(r *http.Request) (params, error) {
	out := params{}
	add := func(raw, where string) error {
		if strings.Count(raw, "&") > maxParameters {
			return refuse(http.StatusBadRequest, "MalformedQueryString", "The %s has more than %d parameters.", where, maxParameters)
		}
		values, err := url.ParseQuery(raw)
		if err != nil {
			return refuse(http.StatusBadRequest, "MalformedQueryString", "The %s is not URL-encoded.", where)
		}
		for name, all := range values {
			if strings.HasPrefix(name, "X-Amz-") {
				continue
			}
			for _, value := range all {
				if have, twice := out[name]; twice && have != value {
					return refuse(http.StatusBadRequest, "InvalidParameterCombination", "The parameter %s is given more than once.", printable(name))
				}
				out[name] = value
			}
		}
		return nil
	}
	if err := add(r.URL.RawQuery, "query string"); err != nil {
		return nil, err
	}
	if r.Method != http.MethodPost {
		return out, nil
	}
	body, err := io.ReadAll(io.LimitReader(bodyOf(r), maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("reading a request: %w", err)
	}
	if len(body) == 0 {
		return out, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, refuse(http.StatusUnsupportedMediaType, "InvalidParameterValue", "The body's Content-Type must be application/x-www-form-urlencoded.")
	}
	return out, add(string(body), "form")
}

func (p params) get(name string) string { return p[name] }

func (p params) has(name string) bool { _, ok := p[name]; return ok }

// list reads name.member.1, name.member.2, …
func (p params) list(name string) []string {
	var out []string
	for i := 1; ; i++ {
		value, ok := p[name+".member."+strconv.Itoa(i)]
		if !ok {
			return out
		}
		out = append(out, value)
	}
}

// tags reads name.member.1.Key and .Value, …
func (p params) tags(name string) []Tag {
	var out []Tag
	for i := 1; ; i++ {
		prefix := name + ".member." + strconv.Itoa(i)
		key, ok := p[prefix+".Key"]
		if !ok {
			return out
		}
		out = append(out, Tag{key, p[prefix+".Value"]})
	}
}

// whole reads a number within bounds, or gives the default where there is none.
func (p params) whole(name string, byDefault, low, high int) (int, error) {
	text, ok := p[name]
	if !ok {
		return byDefault, nil
	}
	field := strings.ToLower(name[:1]) + name[1:]
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, refuse(http.StatusBadRequest, "MalformedInput", "Value '%s' at '%s' must be a whole number.", printable(text), field)
	case n < low:
		return 0, errConstraint(text, field, fmt.Sprintf("Member must have value greater than or equal to %d", low))
	case n > high:
		return 0, errConstraint(text, field, fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
	return n, nil
}

// members is a list in an answer. Its element is there when the list is empty,
// which clients tell from a list that is absent.
type members[T any] struct {
	Member []T `xml:"member"`
}

// optional is for lists that AWS leaves out when they are empty.
func optional[T any](list []T) *members[T] {
	if len(list) == 0 {
		return nil
	}
	return &members[T]{list}
}

// page is the end of every list's answer.
type page struct {
	IsTruncated bool   `xml:"IsTruncated"`
	Marker      string `xml:"Marker,omitempty"`
}

// cut gives the part of a list that a request asked for by Marker and MaxItems.
// A marker names the last one given, so that what is made or deleted between
// two pages moves nothing else.
func cut[T any](c *call, all []T, key func(T) string) ([]T, page, error) {
	size, err := c.p.whole("MaxItems", 100, 1, 1000)
	if err != nil {
		return nil, page{}, err
	}
	if c.p.has("Marker") {
		last, err := openMarker(c.p.get("Marker"))
		if err != nil {
			return nil, page{}, errInvalid("Invalid Marker.")
		}
		for len(all) > 0 && key(all[0]) <= last {
			all = all[1:]
		}
	}
	if len(all) <= size {
		return all, page{}, nil
	}
	return all[:size], page{IsTruncated: true, Marker: newMarker(key(all[size-1]))}, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// encodeDocument is RFC 3986, as policies are encoded in answers.
func encodeDocument(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

// A marker is opaque to clients: a fixed start and the last key in hexadecimal.
const markerPrefix = "A1"

func newMarker(last string) string { return markerPrefix + hex.EncodeToString([]byte(last)) }

func openMarker(marker string) (string, error) {
	text, ok := strings.CutPrefix(marker, markerPrefix)
	if !ok || len(text) > 4096 {
		return "", errors.New("not a marker")
	}
	last, err := hex.DecodeString(text)
	return string(last), err
}

// request makes what the engine decides on.
func request(action, resource string, keys iampolicy.Context) iampolicy.Request {
	return iampolicy.Request{Action: action, Resource: resource, Context: keys}
}
