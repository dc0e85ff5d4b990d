package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
)

// Query says which rows of a list, in which order, and which page of them.
type Query struct {
	Filters []*common.Filter // all must be met; at most 32, of 200 values each
	Sort    []*common.Sort   // all in one direction; empty: the list's default
	Limit   int              // 0: 100; more than 1,000 gives 1,000
	Token   string           // of the page before, for the same filters and sort
	Raw     []string         // filters in a language that is not read here: refused
}

// QueryOf reads a list request. An empty or nil one asks for the first page.
func QueryOf(r *common.ListRequest) Query {
	sort := r.GetSortByFields()
	//lint:ignore SA1019 the SDK sends it
	if one := r.GetSortBy(); len(sort) == 0 && one.GetKey() != "" {
		sort = []*common.Sort{one}
	}
	return Query{Filters: r.GetFilters(), Sort: sort, Limit: int(r.GetLimit()), Token: r.GetToken(), Raw: r.GetRawFilters()}
}

const (
	defaultLimit   = 100
	maxLimit       = 1000
	maxFilters     = 32
	maxValues      = 200
	maxValueLength = 1024
	maxSortFields  = 4
)

func queryError(format string, args ...any) error {
	return &QueryError{Sentence: fmt.Sprintf(format, args...)}
}

// kind is how the values of a column are written in a filter.
type kind int

const (
	text   kind = iota
	enum        // its number or its name
	moment      // RFC 3339
	flag        // true or false
)

// column is what a field of a filter or of a sort means.
type column struct {
	sql    string
	kind   kind
	enum   protoreflect.EnumDescriptor
	sorted bool // may be sorted by
}

// list is what one list allows.
type list struct {
	name      string
	columns   map[string]column
	labels    string                // SELECT of a row's labels; empty: it has none
	sort      string                // default
	direction common.Sort_Direction // default
}

// statement is SQL with its arguments, as it is being written.
type statement struct {
	strings.Builder
	args []any
}

func newStatement(sql string, args ...any) *statement {
	s := &statement{args: args}
	s.WriteString(sql)
	return s
}

// arg adds an argument and returns its placeholder.
func (s *statement) arg(value any) string {
	s.args = append(s.args, value)
	return "$" + strconv.Itoa(len(s.args))
}

// argList is the placeholders of several.
func argList[T any](s *statement, values []T) string {
	placeholders := make([]string, len(values))
	for i, value := range values {
		placeholders[i] = s.arg(value)
	}
	return strings.Join(placeholders, ", ")
}

// and adds a condition.
func (s *statement) and(format string, args ...any) {
	s.WriteString(" AND ")
	fmt.Fprintf(s, format, args...)
}

// filter adds the conditions of all filters.
func (s *statement) filter(l list, filters []*common.Filter) error {
	if len(filters) > maxFilters {
		return queryError("there are %d filters; at most %d can be given", len(filters), maxFilters)
	}
	for _, f := range filters {
		if len(f.GetValues()) > maxValues {
			return queryError("the filter on %q has %d values; at most %d can be given", f.GetField(), len(f.GetValues()), maxValues)
		}
		for _, value := range f.GetValues() {
			if len(value) > maxValueLength {
				return queryError("a value of the filter on %q is longer than %d bytes", f.GetField(), maxValueLength)
			}
		}
		condition, err := s.condition(l, f)
		if err != nil {
			return err
		}
		s.and("%s", condition)
	}
	return nil
}

func (s *statement) condition(l list, f *common.Filter) (string, error) {
	field, function := f.GetField(), f.GetFunction()
	if label, is := strings.CutPrefix(field, "labels."); is && l.labels != "" {
		return s.labelCondition(l, label, f)
	}
	col, known := l.columns[field]
	if !known {
		return "", queryError("cannot filter by %q: the fields are %s", field, l.fields(false))
	}
	switch function {
	case common.Filter_EXISTS, common.Filter_NOT_EXISTS:
		return col.exists(f)
	case common.Filter_VALUE_IN, common.Filter_VALUE_NOT_IN:
		values, err := col.values(f)
		if err != nil {
			return "", err
		}
		if len(values) == 0 {
			return "", queryError("the filter on %q has no values", field)
		}
		not := ""
		if function == common.Filter_VALUE_NOT_IN {
			not = "NOT "
		}
		return fmt.Sprintf("%s %sIN (%s)", col.sql, not, argList(s, values)), nil
	}
	values, err := col.values(f)
	if err != nil {
		return "", err
	}
	if len(values) != 1 {
		return "", queryError("the filter %s on %q takes one value, not %d: use VALUE_IN for several", function, field, len(values))
	}
	if operator, is := comparisons[function]; is {
		if col.kind == flag && function != common.Filter_EQUAL && function != common.Filter_NOT_EQUAL {
			return "", queryError("%q is true or false, and cannot be compared by %s", field, function)
		}
		condition := fmt.Sprintf("%s %s %s", col.sql, operator, s.arg(values[0]))
		if col.kind == moment && (function == common.Filter_LESS_THAN || function == common.Filter_LESS_THAN_OR_EQUAL) {
			condition = fmt.Sprintf("(%s AND %s > 0)", condition, col.sql) // what is not yet was not before
		}
		return condition, nil
	}
	if col.kind != text {
		return "", queryError("the filter %s does not fit %q, which is not text", function, field)
	}
	part := values[0].(string)
	switch function { // LIKE means different things to the two databases
	case common.Filter_CONTAINS:
		if part == "" {
			return "TRUE", nil
		}
		return fmt.Sprintf("replace(%s, %s, '') <> %[1]s", col.sql, s.arg(part)), nil
	case common.Filter_CONTAINS_CASE_INSENSITIVE:
		if part == "" {
			return "TRUE", nil
		}
		return fmt.Sprintf("replace(lower(%s), lower(%s), '') <> lower(%[1]s)", col.sql, s.arg(part)), nil
	case common.Filter_ENDS_WITH, common.Filter_NOT_ENDS_WITH:
		length := utf8.RuneCountInString(part)
		condition := fmt.Sprintf("(length(%[1]s) >= %[2]d AND substr(%[1]s, length(%[1]s) - %[3]d) = %[4]s)", col.sql, length, length-1, s.arg(part))
		if function == common.Filter_NOT_ENDS_WITH {
			condition = "NOT " + condition
		}
		return condition, nil
	}
	return "", queryError("the filter function %s on %q is not known here", function, field)
}

var comparisons = map[common.Filter_Function]string{
	common.Filter_EQUAL:                 "=",
	common.Filter_NOT_EQUAL:             "<>",
	common.Filter_GREATER_THAN:          ">",
	common.Filter_GREATER_THAN_OR_EQUAL: ">=",
	common.Filter_LESS_THAN:             "<",
	common.Filter_LESS_THAN_OR_EQUAL:    "<=",
}

func (s *statement) labelCondition(l list, label string, f *common.Filter) (string, error) {
	function, values := f.GetFunction(), f.GetValues()
	switch function {
	case common.Filter_EXISTS, common.Filter_NOT_EXISTS:
		values = nil
	case common.Filter_EQUAL, common.Filter_NOT_EQUAL:
		if len(values) != 1 {
			return "", queryError("the filter %s on %q takes one value, not %d: use VALUE_IN for several", function, f.GetField(), len(values))
		}
	case common.Filter_VALUE_IN, common.Filter_VALUE_NOT_IN:
		if len(values) == 0 {
			return "", queryError("the filter on %q has no values", f.GetField())
		}
	default:
		return "", queryError("labels can be compared by EQUAL, NOT_EQUAL, VALUE_IN, VALUE_NOT_IN, EXISTS and NOT_EXISTS, not by %s", function)
	}
	rows := l.labels + " AND label = " + s.arg(label)
	if len(values) > 0 {
		rows += " AND value IN (" + argList(s, values) + ")"
	}
	not := ""
	switch function {
	case common.Filter_NOT_EXISTS, common.Filter_NOT_EQUAL, common.Filter_VALUE_NOT_IN:
		not = "NOT "
	}
	return not + "EXISTS (" + rows + ")", nil
}

func (c column) exists(f *common.Filter) (string, error) {
	there := ""
	switch c.kind {
	case text:
		there = c.sql + " <> ''"
	case enum, moment:
		there = c.sql + " <> 0"
	case flag:
		return "", queryError("%q is always there: compare it by EQUAL", f.GetField())
	}
	if f.GetFunction() == common.Filter_NOT_EXISTS {
		there = "NOT (" + there + ")"
	}
	return there, nil
}

// values are the filter's, as the column has them.
func (c column) values(f *common.Filter) ([]any, error) {
	given := f.GetValues()
	if c.enum == common.ActionPhase(0).Descriptor() && slices.Equal(given, []string{"1", "0"}) {
		// The SDK takes a single phase, when it is given as text, for a list of its
		// characters: 10 comes as 1 and 0, of which no action ever has the latter.
		given = []string{"10"}
	}
	values := make([]any, len(given))
	for i, value := range given {
		switch c.kind {
		case text:
			values[i] = value
		case enum:
			number, err := enumNumber(c.enum, value)
			if err != nil {
				return nil, queryError("%q is no value of %q: it takes %s", value, f.GetField(), enumNames(c.enum))
			}
			values[i] = int64(number)
		case moment:
			t, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return nil, queryError("%q is no value of %q: it takes a time such as 2026-01-31T15:04:05Z", value, f.GetField())
			}
			values[i] = t.UnixMicro()
		case flag:
			b, err := strconv.ParseBool(value)
			if err != nil {
				return nil, queryError("%q is no value of %q: it takes true or false", value, f.GetField())
			}
			values[i] = b
		}
	}
	return values, nil
}

// enumNumber reads a number, or a name with or without its prefix.
func enumNumber(e protoreflect.EnumDescriptor, value string) (protoreflect.EnumNumber, error) {
	if number, err := strconv.ParseInt(value, 10, 32); err == nil {
		return protoreflect.EnumNumber(number), nil
	}
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if name := strings.ToUpper(value); name == string(v.Name()) || name == shortName(e, v) {
			return v.Number(), nil
		}
	}
	return 0, strconv.ErrSyntax
}

// shortName leaves out what the names of all values begin with.
func shortName(e protoreflect.EnumDescriptor, v protoreflect.EnumValueDescriptor) string {
	prefix := string(v.Name())
	for i := range e.Values().Len() {
		for !strings.HasPrefix(string(e.Values().Get(i).Name()), prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return string(v.Name())[strings.LastIndex(prefix, "_")+1:]
}

func enumNames(e protoreflect.EnumDescriptor) string {
	names := make([]string, e.Values().Len())
	for i := range names {
		names[i] = shortName(e, e.Values().Get(i))
	}
	return "a number or " + strings.Join(names, ", ")
}

// fields lists the names of columns for an error.
func (l list) fields(sorted bool) string {
	var names []string
	for name, col := range l.columns {
		if col.sorted || !sorted {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if l.labels != "" && !sorted {
		names = append(names, "labels.KEY")
	}
	return strings.Join(names, ", ")
}

// pages is what all pages of one list have in common.
type pages[T any] struct {
	list    list
	scope   any      // whose rows: a token is good for no other
	columns string   // that scan reads
	from    string   // FROM … WHERE …
	args    []any    // of from
	tie     []string // columns that make a row's place its own, within the scope
	scan    func(scanner) (T, error)
}

// read gives the page that q asks for, and the token of the next. A page begins
// behind the last row of the one before, wherever that is by now: rows that were
// added or deleted meanwhile make no other come twice or be left out.
func (p pages[T]) read(ctx context.Context, c conn, q Query) ([]T, string, error) {
	if len(q.Raw) > 0 {
		return nil, "", queryError("raw_filters are not read here: write %.80q as one of filters", q.Raw[0])
	}
	order, descending, err := p.order(q.Sort)
	if err != nil {
		return nil, "", err
	}
	place := strings.Join(order, ", ")
	s := newStatement("SELECT "+p.columns+", "+place+" "+p.from, p.args...)
	if err := s.filter(p.list, q.Filters); err != nil {
		return nil, "", err
	}
	bound, err := p.binding(q)
	if err != nil {
		return nil, "", err
	}
	if q.Token != "" {
		behind, err := readToken(bound, q.Token, len(order))
		if err != nil {
			return nil, "", err
		}
		operator := ">"
		if descending {
			operator = "<"
		}
		s.and("(%s) %s (%s)", place, operator, argList(s, behind))
	}
	s.WriteString(" ORDER BY ")
	for i, col := range order {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(col)
		if descending {
			s.WriteString(" DESC")
		}
	}
	limit := bounded(q.Limit)
	fmt.Fprintf(s, " LIMIT %d", limit+1) // one more says whether there is a next page

	var rows []T
	var last []any
	more := false
	err = c.each(ctx, s.String(), s.args, func(scan scanner) error {
		if len(rows) == limit {
			more = true
			return nil
		}
		last = make([]any, len(order))
		row, err := p.scan(func(dest ...any) error {
			for i := range last {
				dest = append(dest, &last[i])
			}
			return scan(dest...)
		})
		rows = append(rows, row)
		return err
	})
	if err != nil || !more {
		return rows, "", err
	}
	token, err := writeToken(bound, last)
	return rows, token, err
}

// bounded is the limit of one answer.
func bounded(limit int) int {
	if limit <= 0 {
		return defaultLimit
	}
	return min(limit, maxLimit)
}

// order is the columns that a place consists of. All have one direction, so that
// a place is compared as one value, which an index of these columns answers.
func (p pages[T]) order(sort []*common.Sort) (columns []string, descending bool, err error) {
	l := p.list
	if len(sort) > maxSortFields {
		return nil, false, queryError("there are %d fields to sort by; at most %d can be given", len(sort), maxSortFields)
	}
	if len(sort) == 0 {
		sort = []*common.Sort{{Key: l.sort, Direction: l.direction}}
	}
	for _, by := range sort {
		col, known := l.columns[by.GetKey()]
		if !known || !col.sorted {
			return nil, false, queryError("cannot sort by %q: the fields are %s", by.GetKey(), l.fields(true))
		}
		if by.GetDirection() != sort[0].GetDirection() {
			return nil, false, queryError("cannot sort by %q in another direction than by %q", by.GetKey(), sort[0].GetKey())
		}
		if !slices.Contains(columns, col.sql) {
			columns = append(columns, col.sql)
		}
	}
	for _, col := range p.tie {
		if !slices.Contains(columns, col) {
			columns = append(columns, col)
		}
	}
	return columns, sort[0].GetDirection() == common.Sort_DESCENDING, nil
}

// binding is everything that a token depends on but the limit, which may change
// from page to page.
func (p pages[T]) binding(q Query) ([]byte, error) {
	type filter struct {
		Field    string
		Function common.Filter_Function
		Values   []string
	}
	type sort struct {
		Key       string
		Direction common.Sort_Direction
	}
	var filters []filter
	for _, f := range q.Filters {
		filters = append(filters, filter{f.GetField(), f.GetFunction(), f.GetValues()})
	}
	var sorts []sort
	for _, by := range q.Sort {
		sorts = append(sorts, sort{by.GetKey(), by.GetDirection()})
	}
	return json.Marshal([]any{p.list.name, p.scope, filters, sorts})
}

// A token is the place of the last row behind a checksum of it and of what it is
// bound to. No key is needed: a place names no row, and whoever computes another
// one begins elsewhere in the very list that they may read.
const checksumLength = 12

func checksum(bound, place []byte) []byte {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d:", len(bound))
	sum.Write(bound)
	sum.Write(place)
	return sum.Sum(nil)[:checksumLength]
}

func writeToken(bound []byte, last []any) (string, error) {
	for i, value := range last {
		if b, is := value.([]byte); is {
			last[i] = string(b)
		}
	}
	place, err := json.Marshal(last)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(checksum(bound, place), place...)), nil
}

func readToken(bound []byte, token string, columns int) ([]any, error) {
	refused := queryError("the page token is not one of this list with these filters and this order: begin again without one")
	if len(token) > 8192 {
		return nil, refused
	}
	decoded, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(decoded) < checksumLength {
		return nil, refused
	}
	sum, place := decoded[:checksumLength], decoded[checksumLength:]
	if !bytes.Equal(sum, checksum(bound, place)) {
		return nil, refused
	}
	var values []any
	decoder := json.NewDecoder(bytes.NewReader(place))
	decoder.UseNumber()
	if err := decoder.Decode(&values); err != nil || len(values) != columns {
		return nil, refused
	}
	for i, value := range values {
		switch v := value.(type) {
		case json.Number:
			number, err := v.Int64()
			if err != nil {
				return nil, refused
			}
			values[i] = number
		case string:
		default:
			return nil, refused
		}
	}
	return values, nil
}
