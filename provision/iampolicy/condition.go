package iampolicy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// What IAM leaves open or says in passing, decided here once:
//
//   - An operator without ForAllValues or ForAnyValue on a key of several values
//     holds when any of them matches; its negated form when none does. So
//     StringNotEquals is always the opposite of StringEquals.
//   - An absent key makes a plain operator false and a negated one true;
//     IfExists makes both true. ForAllValues is true and ForAnyValue false.
//   - A key that is present and empty is one empty string. To ForAllValues and
//     ForAnyValue it is what IAM calls a null data set, and as good as absent:
//     the first is true, the second false.
//   - A value in the request that is no number, date or address matches nothing.
//   - A variable without a value makes the condition false, negated or not,
//     unless another value of the list decides it.

// condition is a Condition made ready for matching.
type condition struct {
	source   *Condition
	key      string // lower-cased
	compare  comparison
	negated  bool
	ifExists bool
	set      setOperator
	values   []conditionValue
}

type comparison uint8

const (
	stringEquals comparison = iota
	stringEqualsIgnoreCase
	stringLike
	numericEquals
	numericLess
	numericLessEquals
	numericGreater
	numericGreaterEquals
	dateEquals
	dateLess
	dateLessEquals
	dateGreater
	dateGreaterEquals
	boolean
	binaryEquals
	ipAddress
	arnLike
	null
)

type setOperator uint8

const (
	noSet setOperator = iota
	everyValue
	someValue
)

// baseOperator reads an operator of IAM without prefix and suffix.
func baseOperator(name string) (compare comparison, negated, ok bool) {
	switch name {
	case "StringEquals":
		return stringEquals, false, true
	case "StringNotEquals":
		return stringEquals, true, true
	case "StringEqualsIgnoreCase":
		return stringEqualsIgnoreCase, false, true
	case "StringNotEqualsIgnoreCase":
		return stringEqualsIgnoreCase, true, true
	case "StringLike":
		return stringLike, false, true
	case "StringNotLike":
		return stringLike, true, true
	case "NumericEquals":
		return numericEquals, false, true
	case "NumericNotEquals":
		return numericEquals, true, true
	case "NumericLessThan":
		return numericLess, false, true
	case "NumericLessThanEquals":
		return numericLessEquals, false, true
	case "NumericGreaterThan":
		return numericGreater, false, true
	case "NumericGreaterThanEquals":
		return numericGreaterEquals, false, true
	case "DateEquals":
		return dateEquals, false, true
	case "DateNotEquals":
		return dateEquals, true, true
	case "DateLessThan":
		return dateLess, false, true
	case "DateLessThanEquals":
		return dateLessEquals, false, true
	case "DateGreaterThan":
		return dateGreater, false, true
	case "DateGreaterThanEquals":
		return dateGreaterEquals, false, true
	case "Bool":
		return boolean, false, true
	case "BinaryEquals":
		return binaryEquals, false, true
	case "IpAddress":
		return ipAddress, false, true
	case "NotIpAddress":
		return ipAddress, true, true
	// IAM gives ArnEquals wildcards too; the two are one.
	case "ArnEquals", "ArnLike":
		return arnLike, false, true
	case "ArnNotEquals", "ArnNotLike":
		return arnLike, true, true
	case "Null":
		return null, false, true
	}
	return 0, false, false
}

// conditionValue is one value of a condition, parsed as its operator needs it.
type conditionValue struct {
	text   template
	arn    arnTemplate
	parsed operand // unless text has variables
}

// operand is a value as the operators on numbers, dates and addresses see it.
type operand struct {
	number float64
	date   time.Time
	prefix netip.Prefix
}

func newCondition(src *Condition, variables bool) (condition, error) {
	c := condition{source: src, key: strings.ToLower(src.Key)}
	name := src.Operator
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		c.set, name = everyValue, rest
	} else if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		c.set, name = someValue, rest
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	var ok bool
	c.compare, c.negated, ok = baseOperator(name)
	if !ok || c.compare == null && name != src.Operator {
		return c, fmt.Errorf("%q is no condition operator of IAM", src.Operator)
	}
	for _, v := range src.Values {
		value := conditionValue{text: newTemplate(v, variables, c.compare == stringLike)}
		if c.compare == arnLike {
			value.arn = newARNTemplate(v, variables)
		}
		if !value.text.hasVars {
			if value.parsed, ok = c.compare.parse(value.text.source); !ok {
				return c, fmt.Errorf("%s on %s cannot compare with %q", src.Operator, src.Key, v)
			}
		}
		c.values = append(c.values, value)
	}
	return c, nil
}

// parse reads a value of the policy; it is true for operators that take any text.
func (op comparison) parse(s string) (o operand, ok bool) {
	switch {
	case numericEquals <= op && op <= numericGreaterEquals:
		o.number, ok = parseNumber(s)
	case dateEquals <= op && op <= dateGreaterEquals:
		o.date, ok = parseDate(s)
	case op == ipAddress:
		o.prefix, ok = parsePrefix(s)
	default:
		ok = true
	}
	return o, ok
}

// holds reports whether the condition is met.
func (c *condition) holds(r *Request) bool {
	values, present := r.Context[c.key]
	if c.compare == null {
		return c.holdsNull(present)
	}
	if !present {
		switch {
		case c.ifExists, c.set == everyValue:
			return true
		case c.set == someValue:
			return false
		case c.negated:
			return c.resolves(r.Context)
		}
		return false
	}

	isEmpty := len(values) == 0 || len(values) == 1 && values[0] == ""
	switch c.set {
	case everyValue:
		if isEmpty {
			return true
		}
		for _, v := range values {
			if !c.accepts(v, r.Context) {
				return false
			}
		}
		return true
	case someValue:
		if isEmpty {
			return false
		}
		for _, v := range values {
			if c.accepts(v, r.Context) {
				return true
			}
		}
		return false
	}
	if len(values) == 0 {
		return c.accepts("", r.Context)
	}
	for _, v := range values {
		if c.accepts(v, r.Context) != c.negated {
			return !c.negated
		}
	}
	return c.negated
}

func (c *condition) holdsNull(present bool) bool {
	for i := range c.values {
		if strings.EqualFold(c.values[i].text.source, "true") != present {
			return true
		}
	}
	return false
}

// accepts compares one value of the request with the list: it must be like one
// of them, or like none for a negated operator.
func (c *condition) accepts(have string, context Context) bool {
	var parsed operand
	var arn splitARN
	usable := true
	switch {
	case c.compare == arnLike:
		arn = splitARN{text: have}
	case numericEquals <= c.compare && c.compare <= numericGreaterEquals:
		parsed.number, usable = parseNumber(have)
	case dateEquals <= c.compare && c.compare <= dateGreaterEquals:
		parsed.date, usable = parseDate(have)
	case c.compare == ipAddress:
		var address netip.Addr
		address, usable = parseAddress(have)
		parsed.prefix = netip.PrefixFrom(address, address.BitLen())
	}
	if usable {
		for i := range c.values {
			if c.compareOne(&c.values[i], have, &parsed, &arn, context) {
				return !c.negated
			}
		}
	}
	return c.negated && c.resolves(context)
}

func (c *condition) compareOne(want *conditionValue, have string, parsed *operand, arn *splitARN, context Context) bool {
	switch c.compare {
	case stringEquals, stringLike:
		return want.text.match(have, context)
	case arnLike:
		return want.arn.match(arn, context)
	}

	text, with := want.text.source, want.parsed
	if want.text.hasVars {
		var ok bool
		if text, ok = want.text.expand(context); !ok {
			return false
		}
		if with, ok = c.compare.parse(text); !ok {
			return false
		}
	}
	switch c.compare {
	case stringEqualsIgnoreCase, boolean:
		return strings.EqualFold(text, have)
	case binaryEquals:
		return strings.TrimRight(text, "=") == strings.TrimRight(have, "=")
	case numericEquals:
		return parsed.number == with.number
	case numericLess:
		return parsed.number < with.number
	case numericLessEquals:
		return parsed.number <= with.number
	case numericGreater:
		return parsed.number > with.number
	case numericGreaterEquals:
		return parsed.number >= with.number
	case dateEquals:
		return parsed.date.Equal(with.date)
	case dateLess:
		return parsed.date.Before(with.date)
	case dateLessEquals:
		return !parsed.date.After(with.date)
	case dateGreater:
		return parsed.date.After(with.date)
	case dateGreaterEquals:
		return !parsed.date.Before(with.date)
	case ipAddress:
		return with.prefix.Contains(parsed.prefix.Addr())
	}
	return false
}

func (c *condition) resolves(context Context) bool {
	for i := range c.values {
		if !c.values[i].text.resolves(context) {
			return false
		}
	}
	return true
}

// parseNumber takes decimals only; ParseFloat would also take "inf", "0x1p4"
// and "1_000".
func parseNumber(s string) (float64, bool) {
	if strings.ContainsAny(s, "xXpPnN_") {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

// parseDate takes the forms of ISO 8601 that IAM takes, and seconds since 1970.
// Four digits are a year.
func parseDate(s string) (time.Time, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(digits) != 4 && digits != "" && strings.Trim(digits, "0123456789") == "" {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return time.Unix(n, 0), true
		}
		return time.Time{}, false
	}
	// Fractions of a second are taken after any layout's seconds.
	for _, layout := range [...]string{
		"2006-01-02T15:04:05Z07:00",
		"2006-01-02T15:04:05Z0700",
		"2006-01-02T15:04:05",
		"2006-01-02T15:04Z07:00",
		"2006-01-02T15:04Z0700",
		"2006-01-02T15:04",
		"20060102T150405Z07:00",
		"20060102T150405Z0700",
		"2006-01-02",
		"2006-01",
		"2006",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func parseAddress(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}

// parsePrefix takes an address or a network; bits beyond the prefix are ignored.
func parsePrefix(s string) (netip.Prefix, bool) {
	if !strings.Contains(s, "/") {
		a, ok := parseAddress(s)
		return netip.PrefixFrom(a, a.BitLen()), ok
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil
}
