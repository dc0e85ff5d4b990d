package cloudformation

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The pseudo parameters.
var pseudo = map[string]bool{
	"AWS::AccountId": true, "AWS::NotificationARNs": true, "AWS::NoValue": true, "AWS::Partition": true,
	"AWS::Region": true, "AWS::StackId": true, "AWS::StackName": true, "AWS::URLSuffix": true,
}

const noValue = "AWS::NoValue"

// The functions, by where they may stand.
var (
	inConditions = []string{"Ref", "Condition", "Fn::And", "Fn::Equals", "Fn::FindInMap", "Fn::Join", "Fn::Not", "Fn::Or", "Fn::Select", "Fn::Split", "Fn::Sub"}
	inValues     = []string{"Ref", "Fn::Base64", "Fn::FindInMap", "Fn::GetAtt", "Fn::If", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::Sub"}
)

// function tells whether a value is a call of one.
func function(value any, allowed []string) (name string, argument any, err error) {
	object, ok := value.(map[string]any)
	if !ok {
		return "", nil, nil
	}
	for key, one := range object {
		if !strings.HasPrefix(key, "Fn::") && (!slices.Contains(allowed, key) || len(object) > 1) {
			continue
		}
		if !slices.Contains(allowed, key) {
			return "", nil, invalid("Template error: Encountered unsupported function: %s Supported functions are: [%s]", shown(key), strings.Join(allowed, ", "))
		}
		if len(object) > 1 {
			return "", nil, invalid("Template error: the function %s must be the only member of its object", key)
		}
		return key, one, nil
	}
	return "", nil, nil
}

// boolean says that a value is one of the functions that a condition may be.
func boolean(value any) bool {
	name, _, err := function(value, inConditions)
	return err == nil && slices.Contains([]string{"Condition", "Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or"}, name)
}

// use is where a function names something: Ref and Fn::GetAtt, also those within
// Fn::Sub, and a condition, by Condition and by Fn::If.
type use struct{ function, name, attribute string }

// usesOf checks the form of every function in a value.
func usesOf(value any, allowed []string) ([]use, error) {
	var uses []use
	err := collect(value, allowed, &uses)
	return uses, err
}

func collect(value any, allowed []string, uses *[]use) error {
	name, argument, err := function(value, allowed)
	if err != nil {
		return err
	}
	if name != "" {
		if err := collectCall(name, argument, uses); err != nil {
			return err
		}
		if name == "Ref" || name == "Condition" || name == "Fn::GetAtt" {
			return nil
		}
		value = argument // whose parts may be functions
	}
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			if err := collect(v[key], allowed, uses); err != nil {
				return err
			}
		}
	case []any:
		for _, one := range v {
			if err := collect(one, allowed, uses); err != nil {
				return err
			}
		}
	}
	return nil
}

func collectCall(name string, argument any, uses *[]use) error {
	list, isList := argument.([]any)
	text, isText := argument.(string)
	first := func() (string, bool) {
		if len(list) == 0 {
			return "", false
		}
		text, ok := list[0].(string)
		return text, ok
	}
	switch name {
	case "Ref":
		if !isText {
			return invalid("Template error: every Ref object must have a single String value.")
		}
		*uses = append(*uses, use{function: "Ref", name: text})
	case "Condition":
		if !isText {
			return invalid("Template error: every Condition member must be a string.")
		}
		*uses = append(*uses, use{function: "Condition", name: text})
	case "Fn::GetAtt":
		if isText {
			resource, attribute, _ := strings.Cut(text, ".")
			list, isList = []any{resource, attribute}, true
		}
		resource, ok := first()
		if !isList || len(list) != 2 || !ok {
			return invalid("Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource attribute")
		}
		attribute, ok := list[1].(string)
		if !ok || resource == "" || attribute == "" {
			return invalid("Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource attribute")
		}
		*uses = append(*uses, use{function: "Fn::GetAtt", name: resource, attribute: attribute})
	case "Fn::If":
		condition, ok := first()
		if len(list) != 3 || !ok {
			return invalid("Template error: Fn::If requires a list argument with the first element being a condition")
		}
		*uses = append(*uses, use{function: "Condition", name: condition})
	case "Fn::Sub":
		parts, own, err := substitution(argument)
		if err != nil {
			return err
		}
		for _, part := range parts {
			if _, given := own[part.name]; part.name == "" || given {
				continue
			}
			one := use{function: "Ref", name: part.name}
			if resource, attribute, found := strings.Cut(part.name, "."); found {
				one = use{function: "Fn::GetAtt", name: resource, attribute: attribute}
			}
			*uses = append(*uses, one)
		}
	case "Fn::Join":
		if _, ok := first(); len(list) != 2 || !ok {
			return invalid("Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined.")
		}
	case "Fn::Split":
		if delimiter, ok := first(); len(list) != 2 || !ok || delimiter == "" {
			return invalid("Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be split or a function that returns a string to be split.")
		}
	case "Fn::Select":
		if len(list) != 2 {
			return invalid("Template error: Fn::Select requires a list argument with two elements: an integer index and a list")
		}
	case "Fn::FindInMap":
		if len(list) != 3 {
			return invalid("Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the attribute for return value")
		}
	case "Fn::Equals":
		if len(list) != 2 {
			return invalid("Template error: every Fn::Equals object requires a list of 2 string parameters.")
		}
	case "Fn::Not":
		if len(list) != 1 || !boolean(list[0]) {
			return invalid("Template error: every Fn::Not object requires one boolean parameter.")
		}
	case "Fn::And", "Fn::Or":
		if len(list) < 2 || len(list) > 10 || slices.ContainsFunc(list, func(one any) bool { return !boolean(one) }) {
			return invalid("Template error: every %s object requires a list of at least 2 and at most 10 boolean parameters.", name)
		}
	}
	return nil
}

// part is a piece of Fn::Sub's text: a name to be replaced, or what stays.
type part struct{ text, name string }

var subName = regexp.MustCompile(`^[A-Za-z0-9_.:]+$`)

// substitution reads the argument of Fn::Sub; own are the values that it brings.
func substitution(argument any) (parts []part, own map[string]any, err error) {
	text, ok := argument.(string)
	if list, isList := argument.([]any); isList && len(list) == 2 {
		text, ok = list[0].(string)
		var isMap bool
		own, isMap = list[1].(map[string]any)
		ok = ok && isMap
	}
	if !ok {
		return nil, nil, invalid("Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as first argument, and an optional second argument to specify a mapping of values to replace in the string")
	}
	for text != "" {
		before, after, found := strings.Cut(text, "${")
		if before != "" {
			parts = append(parts, part{text: before})
		}
		if !found {
			break
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return nil, nil, errSubName()
		}
		text = rest
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			parts = append(parts, part{text: "${" + literal + "}"})
			continue
		}
		name = strings.TrimSpace(name)
		if !subName.MatchString(name) {
			return nil, nil, errSubName()
		}
		parts = append(parts, part{name: name})
	}
	return parts, own, nil
}

func errSubName() error {
	return invalid("Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters, underscores, periods, and colons")
}

// maxExpanded bounds what a value can grow to by its functions.
const maxExpanded = 1 << 20

// scope is what functions are evaluated by. left is how much may still be made.
type scope struct {
	b    *Bound
	made map[string]Physical
	left int
}

// nothing is the value of AWS::NoValue, which takes what it stands for away.
type nothing struct{}

// value evaluates the functions in a value. The template was checked.
func (s *scope) value(v any) (any, error) {
	name, argument, err := function(v, inValues)
	if err != nil {
		return nil, err
	}
	if name != "" {
		return s.call(name, argument)
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range sortedKeys(v) {
			one, err := s.value(v[key])
			if err != nil {
				return nil, err
			}
			if _, gone := one.(nothing); !gone {
				out[key] = one
			}
		}
		return out, nil
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			one, err := s.value(item)
			if err != nil {
				return nil, err
			}
			if _, gone := one.(nothing); !gone {
				out = append(out, one)
			}
		}
		return out, nil
	}
	return v, nil
}

func (s *scope) call(name string, argument any) (any, error) {
	out, err := s.result(name, argument)
	if err != nil {
		return nil, err
	}
	if s.left -= weight(out); s.left < 0 {
		return nil, invalid("Template error: the functions of a resource or an output make more than %d bytes", maxExpanded)
	}
	return out, nil
}

func weight(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []any:
		n := 1
		for _, one := range v {
			n += 16 + weight(one)
		}
		return n
	}
	return 1
}

func (s *scope) result(name string, argument any) (any, error) {
	list, _ := argument.([]any)
	switch name {
	case "Ref":
		return s.ref(argument.(string))
	case "Fn::GetAtt":
		resource, attribute := "", ""
		if text, ok := argument.(string); ok {
			resource, attribute, _ = strings.Cut(text, ".")
		} else {
			resource, attribute = list[0].(string), list[1].(string)
		}
		return s.attribute(resource, attribute)
	case "Fn::If":
		if s.b.conditions[list[0].(string)] {
			return s.value(list[1])
		}
		return s.value(list[2])
	case "Fn::Sub":
		return s.sub(argument)
	case "Fn::Base64":
		text, err := s.text(argument, "Template error: every Fn::Base64 object must have a String-typed value.")
		return base64.StdEncoding.EncodeToString([]byte(text)), err
	case "Fn::Join":
		values, err := s.list(list[1], "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined.")
		if err != nil {
			return nil, err
		}
		return s.join(values, list[0].(string))
	case "Fn::Split":
		text, err := s.text(list[1], "Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be split or a function that returns a string to be split.")
		if err != nil {
			return nil, err
		}
		if strings.Contains(text, Unknown) {
			return []any{Unknown}, nil
		}
		out := []any{}
		for one := range strings.SplitSeq(text, list[0].(string)) {
			out = append(out, one)
		}
		return out, nil
	case "Fn::Select":
		index, err := s.text(list[0], "Template error: Fn::Select requires a list argument with a valid index value")
		if err != nil {
			return nil, err
		}
		values, err := s.list(list[1], "Template error: Fn::Select requires a list argument with two elements: an integer index and a list")
		if err != nil {
			return nil, err
		}
		if len(values) == 1 && values[0] == Unknown {
			return Unknown, nil
		}
		i, err := strconv.Atoi(index)
		if err != nil {
			return nil, invalid("Template error: Fn::Select requires a list argument with a valid index value")
		}
		if i < 0 || i >= len(values) {
			return nil, invalid("Template error: Fn::Select cannot select nonexistent value at index %d", i)
		}
		return values[i], nil
	}
	return s.find(list) // Fn::FindInMap: the last of those that usesOf lets through
}

func (s *scope) ref(name string) (any, error) {
	switch e := s.b.env; name {
	case noValue:
		return nothing{}, nil
	case "AWS::AccountId":
		return e.Account, nil
	case "AWS::Region":
		return e.Region, nil
	case "AWS::Partition":
		return e.Partition, nil
	case "AWS::URLSuffix":
		return e.URLSuffix, nil
	case "AWS::StackName":
		return e.StackName, nil
	case "AWS::StackId":
		return e.StackID, nil
	case "AWS::NotificationARNs":
		list := []any{}
		for _, one := range e.NotificationARNs {
			list = append(list, one)
		}
		return list, nil
	}
	if p := s.b.template.parameter(name); p != nil {
		return p.value(s.b.values[name]), nil
	}
	if one, there := s.made[name]; there {
		return one.ID, nil
	}
	return Unknown, nil
}

func (s *scope) attribute(resource, attribute string) (any, error) {
	one, there := s.made[resource]
	if !there {
		return Unknown, nil
	}
	value, has := one.Attributes[attribute]
	if !has {
		return nil, invalid("Template error: resource %s does not support attribute type %s in Fn::GetAtt", resource, attribute)
	}
	return value, nil
}

func (s *scope) sub(argument any) (any, error) {
	parts, own, err := substitution(argument)
	if err != nil {
		return nil, err
	}
	given := map[string]string{}
	for _, name := range sortedKeys(own) {
		text, err := s.text(own[name], "Template error: variable "+name+" in Fn::Sub expression does not resolve to a string")
		if err != nil {
			return nil, err
		}
		given[name] = text
	}
	var b strings.Builder
	for _, part := range parts {
		text, isGiven := given[part.name]
		switch {
		case part.name == "":
			text = part.text
		case !isGiven:
			value, err := s.named(part.name)
			if err != nil {
				return nil, err
			}
			var ok bool
			if text, ok = scalarText(value); !ok {
				return nil, invalid("Template error: variable %s in Fn::Sub expression does not resolve to a string", part.name)
			}
		}
		if b.Len()+len(text) > s.left {
			return nil, invalid("Template error: the functions of a resource or an output make more than %d bytes", maxExpanded)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// named is what ${Name} and ${Name.Attribute} stand for.
func (s *scope) named(name string) (any, error) {
	if resource, attribute, found := strings.Cut(name, "."); found {
		return s.attribute(resource, attribute)
	}
	return s.ref(name)
}

func (s *scope) join(values []any, delimiter string) (any, error) {
	var b strings.Builder
	for i, value := range values {
		text, ok := scalarText(value)
		if !ok {
			return nil, invalid("Template error: every value of the list of an Fn::Join object must be a string")
		}
		if i > 0 {
			b.WriteString(delimiter)
		}
		b.WriteString(text)
		if b.Len() > s.left {
			return nil, invalid("Template error: the functions of a resource or an output make more than %d bytes", maxExpanded)
		}
	}
	return b.String(), nil
}

func (s *scope) find(list []any) (any, error) {
	var names [3]string
	for i := range names {
		var err error
		if names[i], err = s.text(list[i], "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the attribute for return value"); err != nil {
			return nil, err
		}
	}
	byKey, there := s.b.template.mappings[names[0]].(map[string]any)
	if !there {
		return nil, invalid("Template error: Mapping named '%s' is not present in the 'Mappings' section of template", shown(names[0]))
	}
	attributes, _ := byKey[names[1]].(map[string]any)
	value, there := attributes[names[2]]
	if !there {
		return nil, invalid("Template error: Unable to get mapping for %s::%s::%s", names[0], shown(names[1]), shown(names[2]))
	}
	return value, nil
}

// text evaluates what has to be a text, or refuses it with those words.
func (s *scope) text(v any, words string) (string, error) {
	value, err := s.value(v)
	if err != nil {
		return "", err
	}
	text, ok := scalarText(value)
	if !ok {
		return "", invalid("%s", words)
	}
	return text, nil
}

func (s *scope) list(v any, words string) ([]any, error) {
	value, err := s.value(v)
	if err != nil {
		return nil, err
	}
	list, ok := value.([]any)
	if !ok {
		return nil, invalid("%s", words)
	}
	return list, nil
}
