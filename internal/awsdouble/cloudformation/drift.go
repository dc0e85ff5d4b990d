package cloudformation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Difference is one property of a resource that is not as its template says.
type Difference struct {
	PropertyPath     string // /Policies/0/PolicyDocument
	Expected, Actual string
	Type             string // ADD, REMOVE or NOT_EQUAL
}

// Drift is what has become of a resource.
type Drift struct {
	Status           string // IN_SYNC, MODIFIED, DELETED or NOT_CHECKED
	Expected, Actual string // properties, in JSON; Actual is "" for one that was deleted
	Differences      []Difference
}

// driftOf reads a resource and compares it with what r says of it. Properties
// that the template does not set are no drift.
func driftOf(ctx context.Context, r *request) (Drift, error) {
	k, _ := kindOf(r.typ)
	d := Drift{Status: "IN_SYNC", Expected: asJSON(r.properties)}
	actual, err := k.handler.read(ctx, r)
	switch {
	case errors.Is(err, errGone), isGone(err):
		d.Status = "DELETED"
		return d, nil
	case errors.Is(err, errNoDrift):
		d.Status = "NOT_CHECKED"
		return d, nil
	case err != nil:
		return d, k.reason(r, err)
	}
	compared := map[string]any{}
	for name := range r.properties {
		if value, there := actual[name]; there {
			compared[name] = value
		}
	}
	d.Actual = asJSON(compared)
	if d.Differences = drift(r.properties, compared); len(d.Differences) > 0 {
		d.Status = "MODIFIED"
	}
	return d, nil
}

// drift compares properties as they should be with those that are there.
func drift(expected, actual map[string]any) []Difference {
	var out []Difference
	differences("", expected, actual, &out)
	return out
}

func differences(path string, expected, actual any, out *[]Difference) {
	expected, actual = opened(expected), opened(actual)
	switch e := expected.(type) {
	case map[string]any:
		if a, ok := actual.(map[string]any); ok {
			for _, key := range sortedKeys(both(e, a)) {
				at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
				differ(at, e[key], a[key], out)
			}
			return
		}
	case []any:
		if a, ok := actual.([]any); ok {
			expected, actual := aligned(e, a)
			for i := range expected {
				differ(fmt.Sprintf("%s/%d", path, i), expected[i], actual[i], out)
			}
			return
		}
	}
	if !same(expected, actual) {
		*out = append(*out, Difference{path, told(expected), told(actual), "NOT_EQUAL"})
	}
}

func differ(path string, expected, actual any, out *[]Difference) {
	switch {
	case expected == nil:
		*out = append(*out, Difference{path, "null", told(actual), "ADD"})
	case actual == nil:
		*out = append(*out, Difference{path, told(expected), "null", "REMOVE"})
	default:
		differences(path, expected, actual, out)
	}
}

// opened is a document that is written as a text as what it says.
func opened(value any) any {
	text, ok := value.(string)
	if !ok || !strings.HasPrefix(text, "{") {
		return value
	}
	var document map[string]any
	if json.Unmarshal([]byte(text), &document) != nil {
		return value
	}
	return document
}

func told(value any) string {
	if text, ok := scalarText(value); ok {
		return text
	}
	return asJSON(value)
}

// aligned puts two lists beside each other: by the key or name of their members
// where these have one, and otherwise equal ones first, so that one that was
// added is one difference and not many. nil stands for what is missing.
func aligned(expected, actual []any) (e, a []any) {
	rest := slices.Clone(actual)
	for _, one := range expected {
		i := slices.IndexFunc(rest, func(other any) bool { return identity(one) == identity(other) })
		e, a = append(e, one), append(a, nil)
		if i >= 0 {
			a[len(a)-1] = rest[i]
			rest = slices.Delete(rest, i, i+1)
		}
	}
	for i := range e { // what is left over takes the places of what is missing, if neither has a name
		if a[i] == nil && len(rest) > 0 && nameOf(e[i]) == "" && nameOf(rest[0]) == "" && !isText(e[i]) {
			a[i], rest = rest[0], rest[1:]
		}
	}
	for _, one := range rest {
		e, a = append(e, nil), append(a, one)
	}
	return e, a
}

func identity(value any) string {
	if name := nameOf(value); name != "" {
		return name
	}
	return told(value)
}

func nameOf(value any) string {
	object, _ := value.(map[string]any)
	for _, key := range []string{"Key", "PolicyName", "Sid"} {
		if text, ok := object[key].(string); ok {
			return key + "=" + text
		}
	}
	return ""
}

func isText(value any) bool { _, ok := scalarText(value); return ok }
