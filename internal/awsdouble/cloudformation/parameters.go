package cloudformation

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parameter is a parameter that a template declares.
type Parameter struct {
	Name, Type, Description string
	Default                 *string
	NoEcho                  bool
	AllowedPattern          string
	AllowedValues           []string
	MinLength, MaxLength    *float64
	MinValue, MaxValue      *float64
	ConstraintDescription   string

	pattern *regexp.Regexp // nil for none
}

const (
	maxValue   = 4096 // bytes of a parameter's value
	maxPattern = 1024 // ours: what a pattern is compiled to is many times as large
)

func readParameter(name string, fields map[string]any) (Parameter, error) {
	p := Parameter{Name: name}
	for _, key := range sortedKeys(fields) {
		value := fields[key]
		text, scalar := scalarText(value)
		list, isList := value.([]any)
		if !scalar && !(key == "AllowedValues" && isList) {
			return p, invalid("Template format error: Parameter '%s' attribute %s has a value of the wrong type.", name, key)
		}
		var err error
		switch key {
		case "Type":
			p.Type = text
		case "Description":
			p.Description = text
		case "Default":
			p.Default = &text
		case "NoEcho":
			p.NoEcho = strings.EqualFold(text, "true")
		case "AllowedPattern":
			p.AllowedPattern = text
			if len(text) > maxPattern {
				return p, invalid("Template format error: Parameter '%s' AllowedPattern is longer than %d characters.", name, maxPattern)
			}
			if p.pattern, err = regexp.Compile(`\A(?:` + text + `)\z`); err != nil {
				return p, invalid("Template format error: Parameter '%s' AllowedPattern is not a regular expression that this double reads: %v", name, err)
			}
		case "AllowedValues":
			if !isList {
				return p, invalid("Template format error: Parameter '%s' AllowedValues must be a list.", name)
			}
			for _, one := range list {
				text, ok := scalarText(one)
				if !ok {
					return p, invalid("Template format error: Parameter '%s' AllowedValues must be a list of Strings.", name)
				}
				p.AllowedValues = append(p.AllowedValues, text)
			}
		case "MinLength":
			p.MinLength, err = bound(name, key, text)
		case "MaxLength":
			p.MaxLength, err = bound(name, key, text)
		case "MinValue":
			p.MinValue, err = bound(name, key, text)
		case "MaxValue":
			p.MaxValue, err = bound(name, key, text)
		case "ConstraintDescription":
			p.ConstraintDescription = text
		default:
			return p, invalid("Template format error: Invalid template parameter property '%s'", key)
		}
		if err != nil {
			return p, err
		}
	}
	switch {
	case p.Type == "":
		return p, invalid("Template format error: Every Parameters object must contain a Type member.")
	case !knownParameterType(p.Type):
		return p, invalid("Template format error: Unrecognized parameter type: %s", p.Type)
	}
	return p, nil
}

func bound(name, key, text string) (*float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, invalid("Template format error: Parameter '%s' %s must be a number.", name, key)
	}
	return &n, nil
}

func knownParameterType(typ string) bool {
	switch typ {
	case "String", "Number", "CommaDelimitedList", "List<String>", "List<Number>":
		return true
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(typ, "List<"), ">")
	return strings.HasPrefix(inner, "AWS::EC2::") || strings.HasPrefix(inner, "AWS::Route53::")
}

func (p *Parameter) list() bool {
	return p.Type == "CommaDelimitedList" || strings.HasPrefix(p.Type, "List<")
}

// value is what Ref gives.
func (p *Parameter) value(text string) any {
	if !p.list() {
		return text
	}
	list := []any{}
	if text == "" {
		return list
	}
	for one := range strings.SplitSeq(text, ",") {
		list = append(list, strings.TrimSpace(one))
	}
	return list
}

// check refuses a value with AWS's words.
func (p *Parameter) check(text string) error {
	if len(text) > maxValue {
		return invalid("Parameter '%s' must not have a value of more than %d bytes", p.Name, maxValue)
	}
	values := []string{text}
	if list, ok := p.value(text).([]any); ok {
		values = nil
		for _, one := range list {
			values = append(values, one.(string))
		}
	}
	for _, one := range values {
		if reason := p.reason(one); reason != "" && p.ConstraintDescription != "" {
			return invalid("Parameter %s failed to satisfy constraint: %s", p.Name, p.ConstraintDescription)
		} else if reason != "" {
			return invalid("Parameter '%s' %s", p.Name, reason)
		}
	}
	return nil
}

// reason says what a value must be and is not.
func (p *Parameter) reason(value string) string {
	length := float64(utf8.RuneCountInString(value))
	switch {
	case p.AllowedValues != nil && !slices.Contains(p.AllowedValues, value):
		return "must be one of AllowedValues"
	case p.MinLength != nil && length < *p.MinLength:
		return fmt.Sprintf("must contain at least %v characters", *p.MinLength)
	case p.MaxLength != nil && length > *p.MaxLength:
		return fmt.Sprintf("must contain at most %v characters", *p.MaxLength)
	case p.pattern != nil && !p.pattern.MatchString(value):
		return "must match pattern " + p.AllowedPattern
	case p.Type != "Number" && p.Type != "List<Number>":
		return ""
	}
	n, err := strconv.ParseFloat(value, 64)
	switch {
	case err != nil, math.IsNaN(n), math.IsInf(n, 0):
		return "must be a number"
	case p.MinValue != nil && n < *p.MinValue:
		return fmt.Sprintf("must be a number not less than %v", *p.MinValue)
	case p.MaxValue != nil && n > *p.MaxValue:
		return fmt.Sprintf("must be a number not greater than %v", *p.MaxValue)
	}
	return ""
}

// values completes what was given by defaults, and checks all of it.
func (t *Template) values(given map[string]string) (map[string]string, error) {
	values := map[string]string{}
	var absent []string
	for i := range t.Parameters {
		p := &t.Parameters[i]
		value, ok := given[p.Name]
		if !ok {
			if p.Default == nil {
				absent = append(absent, p.Name)
				continue
			}
			value = *p.Default
		}
		values[p.Name] = value
	}
	var unknown []string
	for _, name := range sortedKeys(given) {
		if t.parameter(name) == nil {
			unknown = append(unknown, name)
		}
	}
	switch {
	case unknown != nil:
		return nil, invalid("Parameters: [%s] do not exist in the template", strings.Join(unknown, ", "))
	case absent != nil:
		return nil, invalid("Parameters: [%s] must have values", strings.Join(absent, ", "))
	}
	for i := range t.Parameters {
		if err := t.Parameters[i].check(values[t.Parameters[i].Name]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (t *Template) parameter(name string) *Parameter {
	i, found := slices.BinarySearchFunc(t.Parameters, name, func(p Parameter, name string) int { return strings.Compare(p.Name, name) })
	if !found {
		return nil
	}
	return &t.Parameters[i]
}
