package awsdouble

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"

	"github.com/aws/smithy-go/encoding/cbor"

	"biplane.dev/biplane/internal/awsdouble/cloudformation"
	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/sigv4"
)

// A refusal is what AWS answers instead of doing what it was asked. Code is that
// of the Query protocol; translate makes of it what other protocols say.
type refusal struct {
	Code    string
	Message string
	Status  int
}

func (r *refusal) Error() string { return r.Code + ": " + r.Message }

// The codes that the double itself gives, as the Query protocol has them.
const (
	codeDenied      = "AccessDenied"
	codeUnknown     = "InvalidAction"
	codeMalformed   = "MalformedInput"
	codeThrottled   = "Throttling"
	codeInternal    = "InternalFailure"
	codeUnavailable = "ServiceUnavailable"
	codeNotThere    = "NotImplemented"
)

// spoken is a code and a status in one protocol.
type spoken struct {
	code   string
	status int
}

// translations give the names that each protocol has for the Query protocol's
// codes. A code that is not here is said as it is.
func translations(p protocol) map[string]spoken {
	switch p {
	case ec2Protocol:
		return map[string]spoken{
			codeDenied:              {"UnauthorizedOperation", 403},
			"InvalidClientTokenId":  {"AuthFailure", 401},
			"SignatureDoesNotMatch": {"AuthFailure", 401},
			"IncompleteSignature":   {"AuthFailure", 401},
			"ExpiredToken":          {"RequestExpired", 400},
			codeMalformed:           {"InvalidParameterValue", 400},
			codeThrottled:           {"RequestLimitExceeded", 503},
			codeInternal:            {"InternalError", 500},
			codeUnavailable:         {"Unavailable", 503},
		}
	case jsonProtocol, restJSONProtocol, cborProtocol:
		auth := 400
		if p == restJSONProtocol {
			auth = 403
		}
		return map[string]spoken{
			codeDenied:                   {"AccessDeniedException", auth},
			"InvalidClientTokenId":       {"UnrecognizedClientException", auth},
			"SignatureDoesNotMatch":      {"InvalidSignatureException", auth},
			"IncompleteSignature":        {"IncompleteSignatureException", auth},
			"MissingAuthenticationToken": {"MissingAuthenticationTokenException", auth},
			"ExpiredToken":               {"ExpiredTokenException", auth},
			codeUnknown:                  {"UnknownOperationException", 400},
			codeMalformed:                {"SerializationException", 400},
			codeThrottled:                {"ThrottlingException", 400},
			codeInternal:                 {"InternalFailure", 500},
			codeUnavailable:              {"ServiceUnavailableException", 503},

			"AWS.SimpleQueueService.QueueDeletedRecently": {"QueueDeletedRecently", 400}, // SQS, which speaks both
		}
	case s3Protocol:
		return map[string]spoken{
			"InvalidClientTokenId":       {"InvalidAccessKeyId", 403},
			"ExpiredToken":               {"ExpiredToken", 400},
			"MissingAuthenticationToken": {codeDenied, 403},
			codeUnknown:                  {"NotImplemented", 501},
			codeMalformed:                {"InvalidRequest", 400},
			codeThrottled:                {"SlowDown", 503},
			codeInternal:                 {"InternalError", 500},
		}
	}
	return nil
}

// asRefusal makes of any error what a client may hear of it. internal says that
// the fault is ours: then the text is for the log.
func asRefusal(err error) (r *refusal, internal bool) {
	var mine *refusal
	var identity *awsidentity.Error
	var signature *sigv4.Error
	var unknown *unknownOperation
	var source *sourceError
	var ofEKS *eks.Error
	var ofStacks *cloudformation.Error
	switch {
	case errors.As(err, &mine):
		return mine, false
	case errors.As(err, &identity):
		return &refusal{identity.Code, identity.Message, identity.Status}, false
	case errors.As(err, &ofEKS):
		return &refusal{ofEKS.Code, ofEKS.Message, ofEKS.Status}, false
	case errors.As(err, &ofStacks):
		return &refusal{ofStacks.Code, ofStacks.Message, ofStacks.Status}, false
	case errors.As(err, &signature):
		return &refusal{signature.Code, signature.Message, signature.Status}, false
	case errors.As(err, &unknown):
		return &refusal{codeUnknown, capital(unknown.Error()) + ".", http.StatusBadRequest}, false
	case errors.As(err, &source):
		return &refusal{codeMalformed, capital(source.Error()) + ".", http.StatusBadRequest}, false
	case errors.Is(err, errNotACall), errors.Is(err, errTooDeep):
		return &refusal{codeMalformed, capital(err.Error()) + ".", http.StatusBadRequest}, false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{"RequestTimeout", "The request did not arrive in time.", http.StatusRequestTimeout}, false
	case errors.Is(err, ErrNoMoto):
		return &refusal{codeUnavailable, capital(ErrNoMoto.Error()) + ".", http.StatusServiceUnavailable}, false
	}
	return &refusal{codeInternal, "The AWS double failed; its log says why.", http.StatusInternalServerError}, true
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// fieldsOf is what a refusal in JSON says besides, such as validZones.
func fieldsOf(err error) map[string]any {
	var ofEKS *eks.Error
	if errors.As(err, &ofEKS) {
		return ofEKS.Fields
	}
	return nil
}

// answer words the refusal in the protocol of the call.
func (r *refusal) answer(c *call, requestID string, fields map[string]any) *http.Response {
	code, status, message := r.Code, r.Status, r.Message
	if said, ok := translations(c.protocol)[code]; ok {
		code, status = said.code, said.status
	}
	if c.protocol == ec2Protocol {
		switch {
		case code == "UnauthorizedOperation":
			message = "You are not authorized to perform this operation. " + message
		case code == "AuthFailure" && r.Code != code:
			message = "AWS was not able to validate the provided access credentials"
		}
	}
	header := http.Header{"X-Amzn-Requestid": {requestID}}
	var body string
	switch c.protocol {
	case jsonProtocol, restJSONProtocol:
		header.Set("Content-Type", "application/x-amz-json-1.1")
		header.Set("X-Amzn-Errortype", code)
		if c.Service == "sqs" { // whose clients go by the code that SQS had in the Query protocol
			header.Set("X-Amzn-Query-Error", r.Code+";Sender")
		}
		said := map[string]any{}
		maps.Copy(said, fields)
		said["__type"], said["message"] = code, message
		body = asJSON(said)
	case cborProtocol:
		header.Set("Content-Type", "application/cbor")
		header.Set("Smithy-Protocol", "rpc-v2-cbor")
		header.Set("X-Amzn-Query-Error", r.Code+";Sender")
		body = string(cbor.Encode(cbor.Map{"__type": cbor.String(code), "message": cbor.String(message)}))
	case s3Protocol:
		header.Set("Content-Type", "application/xml")
		header.Set("X-Amz-Request-Id", requestID)
		body = xml.Header + "<Error><Code>" + code + "</Code><Message>" + escape(message) + "</Message><RequestId>" + requestID + "</RequestId></Error>"
	case ec2Protocol:
		header.Set("Content-Type", "text/xml;charset=UTF-8")
		body = xml.Header + "<Response><Errors><Error><Code>" + code + "</Code><Message>" + escape(message) + "</Message></Error></Errors><RequestID>" + requestID + "</RequestID></Response>"
	default:
		header.Set("Content-Type", "text/xml")
		fault := "Sender"
		if status >= 500 {
			fault = "Receiver"
		}
		body = "<ErrorResponse><Error><Type>" + fault + "</Type><Code>" + code + "</Code><Message>" + escape(message) + "</Message></Error><RequestId>" + requestID + "</RequestId></ErrorResponse>\n"
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func escape(s string) string {
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return fmt.Sprintf("%q", s)
	}
	return b.String()
}
