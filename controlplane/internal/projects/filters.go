package projects

import (
	"regexp"
	"strings"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/refusal"
)

const maxFilters = 4096

// functions of the language in which ListProjects takes its filters.
var functions = map[string]common.Filter_Function{
	"eq":           common.Filter_EQUAL,
	"ne":           common.Filter_NOT_EQUAL,
	"gt":           common.Filter_GREATER_THAN,
	"gte":          common.Filter_GREATER_THAN_OR_EQUAL,
	"lt":           common.Filter_LESS_THAN,
	"lte":          common.Filter_LESS_THAN_OR_EQUAL,
	"contains":     common.Filter_CONTAINS,
	"value_in":     common.Filter_VALUE_IN,
	"value_not_in": common.Filter_VALUE_NOT_IN,
}

var term = regexp.MustCompile(`^\s*([a-z_]+)\(\s*([a-zA-Z_.]+)\s*,(.*)\)\s*$`)

// parseFilters reads terms such as eq(state, 0), joined by "+": all must be met.
// Several values of a term are joined by ";".
func parseFilters(text string) ([]*common.Filter, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if len(text) > maxFilters {
		return nil, refusal.Invalid("the filters have %d bytes; write at most %d", len(text), maxFilters)
	}
	var filters []*common.Filter
	for part := range strings.SplitSeq(text, "+") {
		match := term.FindStringSubmatch(part)
		if match == nil {
			return nil, refusal.Invalid("the filter %.80q is not FUNCTION(FIELD, VALUE); write it like eq(state, 0)", part)
		}
		function, known := functions[match[1]]
		if !known {
			return nil, refusal.Invalid("the filter %.80q has no function that is known; it takes eq, ne, gt, gte, lt, lte, contains, value_in or value_not_in", part)
		}
		values := []string{strings.TrimSpace(match[3])}
		if function == common.Filter_VALUE_IN || function == common.Filter_VALUE_NOT_IN {
			values = strings.Split(values[0], ";")
			for i := range values {
				values[i] = strings.TrimSpace(values[i])
			}
		}
		filters = append(filters, &common.Filter{Function: function, Field: match[2], Values: values})
	}
	return filters, nil
}
