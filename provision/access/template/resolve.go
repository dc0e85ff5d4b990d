package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"biplane.dev/biplane/internal/ordered"
	"biplane.dev/biplane/provision/access"
)

// Resolve is what a stack of the template grants, given its parameters, in one account
// and region: the way back to a set, so that the two can be compared. It knows the
// functions that our templates use; another one is an error, as whatever is not ours.
// Roles and policies that announce the stack are no part of a set.
func Resolve(body []byte, parameters map[string]string, account, region string) (*access.Set, error) {
	place, ok := access.LookUpRegion(region)
	if !ok {
		return nil, fmt.Errorf("there is no region %q", region)
	}
	tree, err := read(body)
	if err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	s := &stack{
		template: tree,
		words: map[string]string{
			"AWS::AccountId": account, "AWS::Region": region, "AWS::Partition": place.Partition, "AWS::URLSuffix": place.DNSSuffix,
			"AWS::StackName": stackName,
		},
	}
	for _, p := range child(tree, "Parameters") {
		name := fmt.Sprint(p.Key)
		value, given := parameters[name]
		if !given {
			fallback, ok := get(p.Value, "Default")
			if !ok {
				return nil, fmt.Errorf("the parameter %s has neither a value nor a default", name)
			}
			value = fmt.Sprint(fallback)
		}
		s.words[name] = value
	}
	return s.set(account, region, place.Partition)
}

// stackName stands for the stack's name, which no document has.
const stackName = "STACK"

// read parses a template, JSON or YAML.
func read(body []byte) (object, error) {
	if len(body) > URLLimit {
		return nil, fmt.Errorf("it has %d bytes, and CloudFormation takes %d", len(body), URLLimit)
	}
	var value any
	var err error
	if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && trimmed[0] == '{' {
		value, err = ordered.Decode(body)
	} else {
		for _, t := range lexer.Tokenize(string(body)) {
			if t.Type == token.AnchorType || t.Type == token.AliasType {
				return nil, fmt.Errorf("it has an alias, which our templates do not have")
			}
		}
		err = yaml.UnmarshalWithOptions(body, &value, yaml.UseOrderedMap())
	}
	if err != nil {
		return nil, err
	}
	tree, ok := value.(object)
	if !ok {
		return nil, fmt.Errorf("it is no mapping")
	}
	return tree, nil
}

// get is the value of a key.
func get(value any, key string) (any, bool) {
	o, _ := value.(object)
	i := slices.IndexFunc(o, func(m member) bool { return m.Key == key })
	if i < 0 {
		return nil, false
	}
	return o[i].Value, true
}

// child is the object of a key; empty where there is none.
func child(value any, key string) object {
	found, _ := get(value, key)
	o, _ := found.(object)
	return o
}

// stack is a template that is being resolved.
type stack struct {
	template object
	words    map[string]string // parameters and what AWS knows of the place
}

func (s *stack) set(account, region, partition string) (*access.Set, error) {
	told, _ := get(s.template, "Metadata")
	is, ok := ParseMetadata(string(compact(told)))
	if !ok {
		return nil, fmt.Errorf("the template is not one of ours: it has no metadata that says so")
	}
	set := &access.Set{Profile: is.Profile, Partition: partition, Account: account, Region: region}
	policies := map[string]access.Policy{} // by ARN
	for _, r := range child(s.template, "Resources") {
		id := fmt.Sprint(r.Key)
		kind, _ := get(r.Value, "Type")
		made, err := s.made(r.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		if !made || strings.HasPrefix(id, announcing) {
			continue
		}
		given, err := s.value(child(r.Value, "Properties"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		properties, _ := given.(object)
		switch kind {
		case "AWS::IAM::ManagedPolicy":
			p := policy(properties, "ManagedPolicyName", "PolicyDocument")
			if id == boundaryPolicy {
				boundary := p
				set.Boundary = &boundary
			}
			p.Kind = "managed"
			arn, err := s.arn(id)
			if err != nil {
				return nil, err
			}
			policies[arn] = p
		case "AWS::IAM::Role":
			set.Roles = append(set.Roles, role(properties, policies))
		default:
			return nil, fmt.Errorf("%s is an %v, which our templates do not have", id, kind)
		}
	}
	return set, nil
}

func policy(properties object, name, document string) access.Policy {
	p := access.Policy{}
	p.Name, _ = textOf(properties, name)
	p.Document, p.Size = documentOf(properties, document)
	return p
}

// role is one role; policies are the managed ones that were made before it.
func role(properties object, policies map[string]access.Policy) access.Role {
	r := access.Role{Policies: []access.Policy{}}
	r.Name, _ = textOf(properties, "RoleName")
	r.Path, _ = textOf(properties, "Path")
	r.Purpose, _ = textOf(properties, "Description")
	r.Trust.Document, r.Trust.Size = documentOf(properties, "AssumeRolePolicyDocument")
	if arn, ok := textOf(properties, "PermissionsBoundary"); ok {
		name := arn[strings.LastIndexByte(arn, '/')+1:]
		r.Boundary = &name
	}
	arns, _ := get(properties, "ManagedPolicyArns")
	attached, _ := arns.(list)
	for _, arn := range attached {
		if p, ours := policies[fmt.Sprint(arn)]; ours {
			r.Policies = append(r.Policies, p)
			continue
		}
		r.Attached = append(r.Attached, fmt.Sprint(arn))
	}
	inlines, _ := get(properties, "Policies")
	inline, _ := inlines.(list)
	for _, item := range inline {
		o, _ := item.(object)
		p := policy(o, "PolicyName", "PolicyDocument")
		p.Kind = "inline"
		r.Policies = append(r.Policies, p)
	}
	return r
}

// textOf is a text of the properties.
func textOf(properties object, key string) (string, bool) {
	value, ok := get(properties, key)
	word, isText := value.(string)
	return word, ok && isText
}

// documentOf is a document of the properties, as IAM is given it.
func documentOf(properties object, key string) (json.RawMessage, int) {
	value, _ := get(properties, key)
	var text bytes.Buffer
	if err := json.Compact(&text, compact(value)); err != nil {
		panic(err) // compact writes JSON
	}
	return text.Bytes(), utf8.RuneCount(text.Bytes())
}

// made reports whether the resource's condition holds.
func (s *stack) made(resource any) (bool, error) {
	name, ok := get(resource, "Condition")
	if !ok {
		return true, nil
	}
	return s.holds(name)
}

// holds evaluates a condition of the template. It asks about parameters alone, and about
// no other condition, so that none can go round in circles.
func (s *stack) holds(name any) (bool, error) {
	defined, ok := get(child(s.template, "Conditions"), fmt.Sprint(name))
	if !ok {
		return false, fmt.Errorf("there is no condition %v", name)
	}
	function, arguments := call(defined)
	args, _ := arguments.(list)
	negated := function == "Fn::Not" && len(args) == 1
	if negated {
		function, arguments = call(args[0])
		args, _ = arguments.(list)
	}
	if function != "Fn::Equals" || len(args) != 2 {
		return false, fmt.Errorf("our templates have no condition %s", compact(defined))
	}
	var words [2]string
	for i, arg := range args {
		switch reference, to := call(arg); {
		case reference == "Ref":
			if words[i], ok = s.words[fmt.Sprint(to)]; !ok {
				return false, fmt.Errorf("there is no parameter %v to compare", to)
			}
		case reference != "":
			return false, fmt.Errorf("our templates have no condition %s", compact(defined))
		default:
			words[i] = fmt.Sprint(arg)
		}
	}
	return (words[0] == words[1]) != negated, nil
}

// call is the function of an object that has one key.
func call(value any) (function string, arguments any) {
	o, ok := value.(object)
	if !ok || len(o) != 1 {
		return "", nil
	}
	function, _ = o[0].Key.(string)
	return function, o[0].Value
}

// value evaluates every function in a value.
func (s *stack) value(value any) (any, error) {
	function, arguments := call(value)
	switch {
	case function == "Ref":
		return s.reference(fmt.Sprint(arguments))
	case function == "Fn::Sub":
		return s.substitute(arguments)
	case function == "Fn::If":
		args, _ := arguments.(list)
		if len(args) != 3 {
			return nil, fmt.Errorf("Fn::If has no three arguments")
		}
		holds, err := s.holds(args[0])
		if err != nil {
			return nil, err
		}
		if holds {
			return s.value(args[1])
		}
		return s.value(args[2])
	case function == "Fn::FindInMap":
		return s.find(arguments)
	case strings.HasPrefix(function, "Fn::"):
		return nil, fmt.Errorf("our templates have no function %s", function)
	}
	switch v := value.(type) {
	case object:
		changed := make(object, len(v))
		for i, m := range v {
			item, err := s.value(m.Value)
			if err != nil {
				return nil, err
			}
			changed[i] = member{Key: m.Key, Value: item}
		}
		return changed, nil
	case list:
		changed := make(list, len(v))
		for i, item := range v {
			var err error
			if changed[i], err = s.value(item); err != nil {
				return nil, err
			}
		}
		return changed, nil
	}
	return value, nil
}

func (s *stack) reference(name string) (any, error) {
	if word, ok := s.words[name]; ok {
		return word, nil
	}
	return s.arn(name)
}

// arn is that of a managed policy of the template, which is what Ref gives of one.
func (s *stack) arn(id string) (string, error) {
	resource, ok := get(child(s.template, "Resources"), id)
	if kind, _ := get(resource, "Type"); !ok || kind != "AWS::IAM::ManagedPolicy" {
		return "", fmt.Errorf("there is no policy %s to refer to", id)
	}
	properties := child(resource, "Properties")
	path, _ := textOf(properties, "Path")
	name, _ := textOf(properties, "ManagedPolicyName")
	return "arn:" + s.words["AWS::Partition"] + ":iam::" + s.words["AWS::AccountId"] + ":policy" + path + name, nil
}

// substitute evaluates Fn::Sub, with names of its own where it has a list.
func (s *stack) substitute(arguments any) (any, error) {
	pattern, own := arguments, object(nil)
	if args, ok := arguments.(list); ok && len(args) == 2 {
		pattern = args[0]
		own, _ = args[1].(object)
	}
	rest, ok := pattern.(string)
	if !ok {
		return nil, fmt.Errorf("Fn::Sub has no text")
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(rest, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("Fn::Sub has ${ without } in %q", rest)
		}
		rest = tail
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			out.WriteString("${" + literal + "}")
			continue
		}
		var word any
		var err error
		if defined, ok := get(own, name); ok {
			word, err = s.value(defined)
		} else {
			word, err = s.reference(name)
		}
		if err != nil {
			return nil, err
		}
		out.WriteString(fmt.Sprint(word))
	}
}

// find evaluates Fn::FindInMap.
func (s *stack) find(arguments any) (any, error) {
	args, _ := arguments.(list)
	var at any = child(s.template, "Mappings")
	for _, arg := range args {
		key, err := s.value(arg)
		if err != nil {
			return nil, err
		}
		next, ok := get(at, fmt.Sprint(key))
		if !ok {
			return nil, fmt.Errorf("the mapping %s has no %v", compact(args[0]), key)
		}
		at = next
	}
	return at, nil
}
