// Package sigv4 checks AWS Signature Version 4 on the server's side: the header
// form and the query (presigned) form. It is not a signer, and it knows no
// keys: whoever has the secret of an access key passes it in.
//
// Start with Parse, look up the secret of Signed.AccessKeyID, then call
// Signed.Verify, after which the request's body may be read as usual.
//
// What it does not do: SigV4A (asymmetric signatures), POST policies of browser
// forms, and the signatures of single chunks. A body that is sent with
// x-amz-content-sha256: STREAMING-… is accepted on its first ("seed") signature,
// which covers the headers; its chunks' own signatures are not looked at.
package sigv4

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	terminator = "aws4_request"

	// Skew is how far the time of a request may be from the server's.
	Skew = 15 * time.Minute
	// MaxExpires is the longest life of a presigned request.
	MaxExpires = 7 * 24 * time.Hour

	unsignedPayload = "UNSIGNED-PAYLOAD"
	emptyHash       = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

	maxParameters = 2048 // of a query; the rest of the request is bounded by net/http
)

// Error is a refusal in AWS's words. Codes: MissingAuthenticationToken,
// IncompleteSignature, SignatureDoesNotMatch, and where the request is for S3
// or EC2, those services' own: RequestTimeTooSkewed, AccessDenied,
// AuthorizationQueryParametersError, XAmzContentSHA256Mismatch, RequestExpired.
// A body over the limit is RequestEntityTooLarge.
type Error struct {
	Code    string
	Message string
	Status  int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: status}
}

// Signed is a request that carries a signature, not yet verified: nothing in it
// may be believed before Verify returned nil.
type Signed struct {
	AccessKeyID  string
	Region       string // of the credential scope
	Service      string // of the credential scope: "iam", "s3"
	Time         time.Time
	Presigned    bool          // the signature is in the query
	Expires      time.Duration // of a presigned request; 0 when it does not say
	SessionToken string        // empty for a long-lived key
	Headers      []string      // the signed ones, in lower case, sorted

	request   *http.Request
	scopeDate string
	signature string
}

// Age is how long before now the request was signed.
func (s *Signed) Age(now time.Time) time.Duration { return now.Sub(s.Time) }

// Parse reads the signature of r without touching its body. It returns an
// *Error when there is none (MissingAuthenticationToken) or when it is not whole
// (IncompleteSignature).
func Parse(r *http.Request) (*Signed, error) {
	query, err := splitQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	inQuery := query.has("X-Amz-Algorithm") || query.has("X-Amz-Signature") || query.has("X-Amz-Credential")
	authorization := r.Header.Values("Authorization")
	switch {
	case len(authorization) == 0 && !inQuery:
		return nil, refuse(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token")
	case len(authorization) > 0 && inQuery:
		return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "Only one auth mechanism allowed; the request has both an Authorization header and X-Amz- query parameters.")
	case len(authorization) > 1:
		return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "Only one Authorization header allowed; the request has %d.", len(authorization))
	case inQuery:
		return parseQuery(r, query)
	}
	return parseHeader(r, authorization[0])
}

// parseHeader reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func parseHeader(r *http.Request, authorization string) (*Signed, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	if name != algorithm {
		return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "Unsupported authorization type %q; the only one is %s.", clip(name), algorithm)
	}
	part := map[string]string{}
	for _, field := range strings.Split(rest, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		if _, twice := part[key]; !ok || twice {
			return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "%q is not a valid key=value pair (missing equal-sign or given twice) in Authorization header.", clip(field))
		}
		part[key] = value
	}
	var missing []string
	for _, key := range []string{"Credential", "Signature", "SignedHeaders"} {
		if part[key] == "" {
			missing = append(missing, "Authorization header requires '"+key+"' parameter.")
		}
	}
	date, err := one(r.Header, "X-Amz-Date")
	if err != nil {
		return nil, err
	}
	if date == "" {
		if date, err = one(r.Header, "Date"); err != nil {
			return nil, err
		}
		if date == "" {
			missing = append(missing, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
		}
	}
	if len(missing) > 0 {
		return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "%s", strings.Join(missing, " "))
	}
	token, err := one(r.Header, "X-Amz-Security-Token")
	if err != nil {
		return nil, err
	}
	s := &Signed{SessionToken: token, request: r}
	if err := s.fill(part["Credential"], date, part["SignedHeaders"], part["Signature"]); err != nil {
		return nil, err
	}
	return s, nil
}

// parseQuery reads the presigned form.
func parseQuery(r *http.Request, query parameters) (*Signed, error) {
	value := map[string]string{}
	for _, p := range query {
		if !strings.HasPrefix(p.name, "X-Amz-") {
			continue
		}
		if _, twice := value[p.name]; twice {
			return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "Query parameter %s is given twice.", clip(p.name))
		}
		value[p.name] = p.value
	}
	if value["X-Amz-Algorithm"] != algorithm {
		return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "Unsupported X-Amz-Algorithm %q; the only one is %s.", clip(value["X-Amz-Algorithm"]), algorithm)
	}
	for _, key := range []string{"X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if value[key] == "" {
			return nil, refuse(http.StatusBadRequest, "IncompleteSignature", "AWS query-string parameters must include %s.", key)
		}
	}
	s := &Signed{Presigned: true, SessionToken: value["X-Amz-Security-Token"], request: r}
	if err := s.fill(value["X-Amz-Credential"], value["X-Amz-Date"], value["X-Amz-SignedHeaders"], value["X-Amz-Signature"]); err != nil {
		return nil, err
	}
	code := "IncompleteSignature"
	if isS3(s.Service) {
		code = "AuthorizationQueryParametersError"
	}
	text, given := value["X-Amz-Expires"]
	if !given {
		if isS3(s.Service) {
			return nil, refuse(http.StatusBadRequest, code, "Query-string authentication requires the X-Amz-Expires parameter.")
		}
		return s, nil
	}
	seconds, err := strconv.ParseUint(text, 10, 31)
	switch {
	case err != nil:
		return nil, refuse(http.StatusBadRequest, code, "X-Amz-Expires should be a number, not %q.", clip(text))
	case seconds == 0, time.Duration(seconds)*time.Second > MaxExpires:
		return nil, refuse(http.StatusBadRequest, code, "X-Amz-Expires must be from 1 second to a week (604800 seconds), not %s.", clip(text))
	}
	s.Expires = time.Duration(seconds) * time.Second
	return s, nil
}

// fill reads what both forms have in common.
func (s *Signed) fill(credential, date, signedHeaders, signature string) error {
	scope := strings.Split(credential, "/")
	if len(scope) < 5 {
		return refuse(http.StatusBadRequest, "IncompleteSignature", "Credential must have at least 5 slash-delimited elements, e.g. keyid/date/region/service/term, got %q.", clip(credential))
	}
	n := len(scope)
	s.AccessKeyID = strings.Join(scope[:n-4], "/")
	s.scopeDate, s.Region, s.Service = scope[n-4], scope[n-3], scope[n-2]
	if s.AccessKeyID == "" || s.Region == "" || s.Service == "" {
		return refuse(http.StatusBadRequest, "IncompleteSignature", "Credential has an empty element: %q.", clip(credential))
	}
	if scope[n-1] != terminator {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Credential should be scoped with a valid terminator: '%s', not '%s'.", terminator, clip(scope[n-1]))
	}
	var err error
	if s.Time, err = parseTime(date); err != nil {
		return refuse(http.StatusBadRequest, "IncompleteSignature", "Date must be in ISO-8601 'basic format', got %q.", clip(date))
	}
	if got := s.Time.Format("20060102"); got != s.scopeDate {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'.", clip(s.scopeDate), got)
	}

	s.Headers = strings.Split(signedHeaders, ";")
	for i, name := range s.Headers {
		if name == "" || name != strings.ToLower(name) || i > 0 && s.Headers[i-1] >= name {
			return refuse(http.StatusBadRequest, "IncompleteSignature", "SignedHeaders must be in lower case, sorted and without repetition, got %q.", clip(signedHeaders))
		}
	}
	if !s.covers("host") && !s.covers(":authority") {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if len(signature) != sha256.Size*2 {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "%s", mismatch)
	}
	s.signature = signature
	return nil
}

const mismatch = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."

func (s *Signed) covers(header string) bool {
	i := sort.SearchStrings(s.Headers, header)
	return i < len(s.Headers) && s.Headers[i] == header
}

// Verify compares the signature with one made from secret and checks the time.
// For S3 it leaves the body in place, wrapped so that reading it ends in an
// *Error (XAmzContentSHA256Mismatch) when it is not the one that was signed.
// For every other service it reads the body, of maxBody bytes at most, and puts
// a copy in its place.
func (s *Signed) Verify(secret string, now time.Time, maxBody int64) error {
	if err := s.checkTime(now); err != nil {
		return err
	}
	payload, err := s.payloadHash(maxBody)
	if err != nil {
		return err
	}
	if isS3(s.Service) {
		// S3 refuses x-amz- headers that were added after signing.
		for name := range s.request.Header {
			if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") && !s.covers(lower) &&
				!(s.Presigned && lower == "x-amz-content-sha256") {
				return refuse(http.StatusForbidden, "AccessDenied", "There were headers present in the request which were not signed: %s", clip(lower))
			}
		}
	}
	canonical, err := s.canonicalRequest(payload)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{algorithm, s.Time.Format(timeFormat), s.scope(), hex.EncodeToString(hash[:])}, "\n")
	want := hex.EncodeToString(mac(SigningKey(secret, s.scopeDate, s.Region, s.Service), text))
	if !hmac.Equal([]byte(want), []byte(s.signature)) {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "%s", mismatch)
	}
	return nil
}

func (s *Signed) scope() string {
	return strings.Join([]string{s.scopeDate, s.Region, s.Service, terminator}, "/")
}

// checkTime refuses what is too old or too new. Other services than S3 have no
// way to say how long a request lives except STS, which lets a presigned one
// live for 15 minutes whatever it says: the tokens of EKS, signed with
// X-Amz-Expires=60, are used for 14 minutes.
func (s *Signed) checkTime(now time.Time) error {
	life := Skew
	if s.Presigned && s.Expires > 0 && s.Service != "sts" {
		life = s.Expires
	}
	early, late := s.Time.After(now.Add(Skew)), now.After(s.Time.Add(life))
	if !early && !late {
		return nil
	}
	switch {
	case isS3(s.Service) && s.Presigned && late:
		return refuse(http.StatusForbidden, "AccessDenied", "Request has expired")
	case isS3(s.Service) && s.Presigned:
		return refuse(http.StatusForbidden, "AccessDenied", "Request is not valid yet")
	case isS3(s.Service):
		return refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	case s.Service == "ec2":
		return refuse(http.StatusBadRequest, "RequestExpired", "Request has expired.")
	case late:
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Signature expired: %s is now earlier than %s (%s - %d min.)",
			s.Time.Format(timeFormat), now.UTC().Add(-life).Format(timeFormat), now.UTC().Format(timeFormat), int(life.Minutes()))
	}
	return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Signature not yet current: %s is still later than %s (%s + %d min.)",
		s.Time.Format(timeFormat), now.UTC().Add(Skew).Format(timeFormat), now.UTC().Format(timeFormat), int(Skew.Minutes()))
}

// payloadHash is the last line of the canonical request.
func (s *Signed) payloadHash(maxBody int64) (string, error) {
	r := s.request
	declared, err := one(r.Header, "X-Amz-Content-Sha256")
	if err != nil {
		return "", err
	}
	if !isS3(s.Service) {
		if r.Body == nil {
			return emptyHash, nil
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		if err != nil {
			return "", fmt.Errorf("reading the body of a signed request: %w", err)
		}
		if int64(len(body)) > maxBody {
			return "", refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "Request body is larger than %d bytes.", maxBody)
		}
		r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(body))
		hash := sha256.Sum256(body)
		return hex.EncodeToString(hash[:]), nil
	}

	if s.Presigned {
		query, err := splitQuery(r.URL.RawQuery)
		if err != nil {
			return "", err
		}
		if inQuery, ok := query.get("X-Amz-Content-Sha256"); ok {
			declared = inQuery
		}
		if declared == "" {
			return unsignedPayload, nil
		}
	}
	switch {
	case declared == "":
		return "", refuse(http.StatusBadRequest, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
	case declared == unsignedPayload, strings.HasPrefix(declared, "STREAMING-"):
		return declared, nil
	case !isHash(declared):
		return "", refuse(http.StatusBadRequest, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-… or a valid sha256 value.")
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &checkedBody{body: r.Body, hash: sha256.New(), want: declared}
	} else if declared != emptyHash {
		return "", errBodyMismatch()
	}
	return declared, nil
}

func errBodyMismatch() error {
	return refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
}

// checkedBody gives a body through and refuses at its end what was not signed.
type checkedBody struct {
	body io.ReadCloser
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	want string
}

func (b *checkedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.hash.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(b.hash.Sum(nil)) != b.want {
		return n, errBodyMismatch()
	}
	return n, err
}

func (b *checkedBody) Close() error { return b.body.Close() }

func (s *Signed) canonicalRequest(payload string) (string, error) {
	r := s.request
	query, err := splitQuery(r.URL.RawQuery)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n")
	b.WriteString(canonicalPath(r.URL, isS3(s.Service)) + "\n")
	b.WriteString(query.canonical(s.Presigned) + "\n")
	for _, name := range s.Headers {
		value, ok := headerValue(r, name)
		if !ok {
			return "", refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The signed header %q is not in the request. %s", clip(name), mismatch)
		}
		b.WriteString(name + ":" + value + "\n")
	}
	b.WriteString("\n" + strings.Join(s.Headers, ";") + "\n" + payload)
	return b.String(), nil
}

// headerValue joins the values of one header the way they are signed. net/http
// takes Host and Content-Length out of the header map.
func headerValue(r *http.Request, name string) (string, bool) {
	switch name {
	case "host", ":authority":
		return r.Host, true
	case "content-length":
		if r.ContentLength < 0 {
			return "", false
		}
		return strconv.FormatInt(r.ContentLength, 10), true
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ","), len(r.TransferEncoding) > 0
	}
	values := r.Header.Values(name)
	if len(values) == 0 {
		return "", false
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == '\t' }), " ")
	}
	return strings.Join(trimmed, ","), true
}

// canonicalPath: S3 encodes the decoded path once, all others encode the path
// as it was sent once more.
func canonicalPath(u *url.URL, s3 bool) string {
	path := u.Path
	if !s3 {
		if path = u.RawPath; path == "" {
			path = u.EscapedPath()
		}
		path = withoutDots(path)
	}
	if path == "" {
		return "/"
	}
	return encode(path, true)
}

// withoutDots removes "." and ".." segments and empty ones, as RFC 3986 has it
// and every service but S3 does.
func withoutDots(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	var kept []string
	for _, segment := range strings.Split(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, segment)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if len(kept) > 0 && strings.HasSuffix(path, "/") {
		out += "/"
	}
	return out
}

type parameter struct{ name, value string }
type parameters []parameter

// splitQuery decodes a query without giving ";" a meaning and without merging
// what is there twice, both of which net/url would do.
func splitQuery(raw string) (parameters, error) {
	if raw == "" {
		return nil, nil
	}
	fields := strings.Split(raw, "&")
	if len(fields) > maxParameters {
		return nil, refuse(http.StatusBadRequest, "MalformedQueryString", "The query string has more than %d parameters.", maxParameters)
	}
	out := make(parameters, 0, len(fields))
	for _, field := range fields {
		if field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, "=")
		decodedName, err1 := url.QueryUnescape(name)
		decodedValue, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, refuse(http.StatusBadRequest, "MalformedQueryString", "The query string is not URL-encoded at %q.", clip(field))
		}
		out = append(out, parameter{decodedName, decodedValue})
	}
	return out, nil
}

func (p parameters) has(name string) bool { _, ok := p.get(name); return ok }

func (p parameters) get(name string) (string, bool) {
	for _, one := range p {
		if one.name == name {
			return one.value, true
		}
	}
	return "", false
}

func (p parameters) canonical(presigned bool) string {
	encoded := make([]parameter, 0, len(p))
	for _, one := range p {
		if presigned && one.name == "X-Amz-Signature" {
			continue
		}
		encoded = append(encoded, parameter{encode(one.name, false), encode(one.value, false)})
	}
	sort.SliceStable(encoded, func(i, j int) bool {
		if encoded[i].name != encoded[j].name {
			return encoded[i].name < encoded[j].name
		}
		return encoded[i].value < encoded[j].value
	})
	out := make([]string, len(encoded))
	for i, one := range encoded {
		out[i] = one.name + "=" + one.value
	}
	return strings.Join(out, "&")
}

// encode is the UriEncode of AWS's description: everything but unreserved
// characters, in upper-case hexadecimal.
func encode(s string, keepSlash bool) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// SigningKey is the key that signatures of one day, region and service are made
// with. date is as in their scope: 20260131.
func SigningKey(secret, date, region, service string) []byte {
	key := mac([]byte("AWS4"+secret), date)
	key = mac(key, region)
	key = mac(key, service)
	return mac(key, terminator)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func isS3(service string) bool {
	return service == "s3" || service == "s3-object-lambda" || service == "s3-outposts" || service == "s3express"
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// one returns the only value of a header that must not be repeated.
func one(h http.Header, name string) (string, error) {
	values := h.Values(name)
	if len(values) > 1 {
		return "", refuse(http.StatusBadRequest, "IncompleteSignature", "The header %s is given %d times.", name, len(values))
	}
	if len(values) == 0 {
		return "", nil
	}
	return strings.TrimSpace(values[0]), nil
}

func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(timeFormat, s); err == nil {
		return t, nil
	}
	t, err := http.ParseTime(s)
	return t.UTC(), err
}

// clip keeps what a stranger sent from filling an error message.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
