package eks

import (
	"encoding/base64"
	"fmt"
	"strconv"
)

// Error is what EKS refuses a call with.
type Error struct {
	Code    string
	Message string
	Status  int
	Fields  map[string]any // besides the message, such as validZones
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func invalidParameter(format string, args ...any) *Error {
	return &Error{"InvalidParameterException", fmt.Sprintf(format, args...), 400, nil}
}

func invalidRequest(format string, args ...any) *Error {
	return &Error{"InvalidRequestException", fmt.Sprintf(format, args...), 400, nil}
}

func inUse(format string, args ...any) *Error {
	return &Error{"ResourceInUseException", fmt.Sprintf(format, args...), 409, nil}
}

func notFound(format string, args ...any) *Error {
	return &Error{"ResourceNotFoundException", fmt.Sprintf(format, args...), 404, nil}
}

func notImplemented(message string) *Error {
	return &Error{"NotImplemented", message, 501, nil}
}

// paging are the parameters of every list.
type paging struct {
	MaxResults number `json:"maxResults"`
	NextToken  string `json:"nextToken"`
}

// page cuts out the part of a list that is asked for. next is nil at the end.
func page[T any](all []T, p paging, most int) (part []T, next *string, err error) {
	size := int(p.MaxResults)
	if size == 0 {
		size = most
	}
	if size < 1 || size > most {
		return nil, nil, invalidParameter("maxResults needs to be between 1 and %d", most)
	}
	start := 0
	if p.NextToken != "" {
		text, err := base64.RawURLEncoding.DecodeString(p.NextToken)
		if err == nil {
			start, err = strconv.Atoi(string(text))
		}
		if err != nil || start < 0 || start > len(all) {
			return nil, nil, invalidParameter("The nextToken is not one that was given.")
		}
	}
	end := min(start+size, len(all))
	if end < len(all) {
		token := base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(end)))
		next = &token
	}
	part = all[start:end]
	if part == nil {
		part = []T{}
	}
	return part, next, nil
}
