package awsidentity

import (
	"errors"
	"fmt"
	"net/http"

	"biplane.dev/biplane/internal/sigv4"
)

// Error is a refusal in AWS's words: what the answer's ErrorResponse says.
// Codes of Authenticate: MissingAuthenticationToken, IncompleteSignature,
// SignatureDoesNotMatch, InvalidClientTokenId, ExpiredToken (and S3's and
// EC2's own where internal/sigv4 has them). Code of Authorize: AccessDenied.
type Error struct {
	Code    string
	Message string
	Status  int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: status}
}

func errInvalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "ValidationError", format, args...)
}

func errNoSuch(format string, args ...any) error {
	return refuse(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func errExists(format string, args ...any) error {
	return refuse(http.StatusConflict, "EntityAlreadyExists", format, args...)
}

func errLimit(format string, args ...any) error {
	return refuse(http.StatusConflict, "LimitExceeded", format, args...)
}

func errInUse(format string, args ...any) error {
	return refuse(http.StatusConflict, "DeleteConflict", format, args...)
}

func errMalformed(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "MalformedPolicyDocument", format, args...)
}

func errDenied(format string, args ...any) error {
	return refuse(http.StatusForbidden, "AccessDenied", format, args...)
}

func errBadToken() error {
	return refuse(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
}

// asError makes of any error one that can be answered. What is neither AWS's
// refusal nor the signature's is a fault of ours, and its text stays here.
func asError(err error) (answer *Error, internal bool) {
	var mine *Error
	if errors.As(err, &mine) {
		return mine, false
	}
	var signature *sigv4.Error
	if errors.As(err, &signature) {
		return &Error{Code: signature.Code, Message: signature.Message, Status: signature.Status}, false
	}
	return &Error{
		Code: "ServiceFailure", Status: http.StatusInternalServerError,
		Message: "The request processing has failed because of an unknown error, exception or failure.",
	}, true
}
