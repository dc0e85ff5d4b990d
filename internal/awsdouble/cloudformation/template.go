package cloudformation

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Error is a refusal in AWS's words, as the API answers it.
type Error struct {
	Code    string // mostly ValidationError
	Message string
	Status  int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func invalid(format string, args ...any) error {
	return &Error{Code: "ValidationError", Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

// The quotas of a template.
const (
	maxResources  = 500
	maxParameters = 200
	maxOutputs    = 200
	maxMappings   = 200
	maxNameLength = 255
)

// Template is a template that was read and checked.
type Template struct {
	Version     string // of its format: 2010-09-09
	Description string
	Parameters  []Parameter // by name
	Metadata    string      // JSON, "" for none

	mappings   map[string]any
	conditions map[string]any
	resources  map[string]*resource
	outputs    map[string]*output
}

type resource struct {
	typ, condition    string
	properties        map[string]any
	dependsOn         []string // as it says itself
	deletion, replace string
	metadata          any
	uses              []use
}

type output struct {
	value, export          any
	description, condition string
}

// Parse reads a template in JSON or YAML and checks all that can be checked
// before its parameters have values. Its errors are of type *Error.
func Parse(body string) (*Template, error) {
	document, err := readDocument(body)
	if err != nil {
		return nil, err
	}
	t := &Template{mappings: map[string]any{}, conditions: map[string]any{}, resources: map[string]*resource{}, outputs: map[string]*output{}}
	for _, read := range []func(map[string]any) error{
		t.readHead, t.readParameters, t.readMappings, t.readConditions, t.readResources, t.readOutputs,
		t.checkConditions, t.checkResources, t.checkOutputs, t.checkCircles,
	} {
		if err := read(document); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Template) readHead(document map[string]any) error {
	var unknown []string
	for _, name := range sortedKeys(document) {
		switch name {
		case "AWSTemplateFormatVersion":
			text, _ := document[name].(string)
			if text != "2010-09-09" {
				return invalid("Template format error: unsupported value for AWSTemplateFormatVersion.")
			}
			t.Version = text
		case "Description":
			text, ok := document[name].(string)
			switch {
			case !ok:
				return invalid("Template format error: Description must be of type String.")
			case len(text) > 1024:
				return invalid("Template format error: 'Description' length is greater than 1024.")
			}
			t.Description = text
		case "Metadata":
			t.Metadata = asJSON(document[name])
		case "Parameters", "Mappings", "Conditions", "Resources", "Outputs":
			if _, ok := document[name].(map[string]any); !ok {
				return invalid("Template format error: %s must be an object.", name)
			}
		case "Transform", "Rules", "Hooks":
			return invalid("Template format error: %s is not supported by this double of CloudFormation.", name)
		default:
			unknown = append(unknown, name)
		}
	}
	if unknown != nil {
		return invalid("Invalid template property or properties [%s]", strings.Join(unknown, ", "))
	}
	return nil
}

var alphanumeric = regexp.MustCompile(`^[A-Za-z0-9]+$`)

// section is a part of the template, with its names and their number checked.
func section(document map[string]any, name, one string, quota int) (map[string]any, error) {
	all, _ := document[name].(map[string]any)
	if len(all) > quota {
		return nil, invalid("Template format error: Number of %s, %d, is greater than maximum allowed, %d", strings.ToLower(name), len(all), quota)
	}
	for _, key := range sortedKeys(all) {
		switch {
		case !alphanumeric.MatchString(key):
			return nil, invalid("Template format error: %s name %s is non alphanumeric.", one, shown(key))
		case len(key) > maxNameLength:
			return nil, invalid("Template format error: %s name %s is longer than %d characters.", one, shown(key), maxNameLength)
		}
	}
	return all, nil
}

func (t *Template) readParameters(document map[string]any) error {
	all, err := section(document, "Parameters", "Parameter", maxParameters)
	for _, name := range sortedKeys(all) {
		if err != nil {
			return err
		}
		fields, ok := all[name].(map[string]any)
		if !ok {
			return invalid("Template format error: Any Parameters member must be an object.")
		}
		var p Parameter
		p, err = readParameter(name, fields)
		t.Parameters = append(t.Parameters, p)
	}
	return err
}

func (t *Template) readMappings(document map[string]any) (err error) {
	t.mappings, err = section(document, "Mappings", "Mapping", maxMappings)
	for _, name := range sortedKeys(t.mappings) {
		if err != nil {
			return err
		}
		byKey, ok := t.mappings[name].(map[string]any)
		if !ok || len(byKey) == 0 {
			return invalid("Template format error: Every Mappings member %s must be a map", name)
		}
		for _, key := range sortedKeys(byKey) {
			attributes, ok := byKey[key].(map[string]any)
			if !ok || len(attributes) == 0 {
				return invalid("Template format error: Every Mappings attribute must be a map: %s/%s", name, shown(key))
			}
			for _, attribute := range sortedKeys(attributes) {
				if !plain(attributes[attribute]) {
					return invalid("Template format error: Every Mappings attribute must be a String or a List.")
				}
			}
		}
	}
	return err
}

// plain says that a value is a scalar or a list of scalars.
func plain(value any) bool {
	list, ok := value.([]any)
	if !ok {
		_, ok = scalarText(value)
		return ok
	}
	return !slices.ContainsFunc(list, func(one any) bool { _, ok := scalarText(one); return !ok })
}

func (t *Template) readConditions(document map[string]any) (err error) {
	t.conditions, err = section(document, "Conditions", "Condition", 1<<20) // as many as there is room for
	return err
}

func (t *Template) readResources(document map[string]any) error {
	all, err := section(document, "Resources", "Resource", maxResources)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return invalid("Template format error: At least one Resources member must be defined.")
	}
	var unrecognized []string
	for _, name := range sortedKeys(all) {
		r, err := readResource(name, all[name])
		if err != nil {
			return err
		}
		if _, known := kindOf(r.typ); !known && !slices.Contains(unrecognized, shown(r.typ)) {
			unrecognized = append(unrecognized, shown(r.typ))
		}
		t.resources[name] = r
	}
	if unrecognized != nil {
		return invalid("Template format error: Unrecognized resource types: [%s]", strings.Join(unrecognized, ", "))
	}
	return nil
}

func readResource(name string, value any) (*resource, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, invalid("Template format error: [/Resources/%s] Any Resources member must be an object.", name)
	}
	r := &resource{properties: map[string]any{}, deletion: "Delete", replace: "Delete"}
	for _, key := range sortedKeys(fields) {
		value := fields[key]
		text, isText := value.(string)
		ok := isText
		switch key {
		case "Type":
			r.typ = text
		case "Condition":
			r.condition = text
		case "DeletionPolicy":
			r.deletion = text
			if !slices.Contains([]string{"Delete", "Retain", "Snapshot", "RetainExceptOnCreate"}, text) {
				return nil, invalid("Template format error: Unrecognized DeletionPolicy %s for resource %s", shown(text), name)
			}
		case "UpdateReplacePolicy":
			r.replace = text
			if !slices.Contains([]string{"Delete", "Retain", "Snapshot"}, text) {
				return nil, invalid("Template format error: Unrecognized UpdateReplacePolicy %s for resource %s", shown(text), name)
			}
		case "DependsOn":
			var list []any
			if list, ok = value.([]any); !ok {
				list, ok = []any{value}, isText
			}
			for _, one := range list {
				text, isText := one.(string)
				ok = ok && isText
				r.dependsOn = append(r.dependsOn, text)
			}
		case "Properties":
			r.properties, ok = value.(map[string]any)
		case "Metadata":
			r.metadata, ok = value, true
		case "CreationPolicy", "UpdatePolicy", "Version": // of other types of resources
			ok = true
		default:
			return nil, invalid("Invalid template resource property '%s'", shown(key))
		}
		if !ok {
			return nil, invalid("Template format error: [/Resources/%s/%s] has a value of the wrong type.", name, key)
		}
	}
	if r.typ == "" {
		return nil, invalid("Template format error: [/Resources/%s] Every Resources object must contain a Type member.", name)
	}
	return r, nil
}

func (t *Template) readOutputs(document map[string]any) error {
	all, err := section(document, "Outputs", "Output", maxOutputs)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(all) {
		fields, ok := all[name].(map[string]any)
		if !ok {
			return invalid("Template format error: Output %s is malformed.", name)
		}
		o := &output{}
		for _, key := range sortedKeys(fields) {
			value := fields[key]
			ok := true
			switch key {
			case "Value":
				o.value = value
			case "Description":
				o.description, ok = value.(string)
			case "Condition":
				o.condition, ok = value.(string)
			case "Export":
				var export map[string]any
				if export, ok = value.(map[string]any); ok {
					o.export = export["Name"]
					ok = o.export != nil && len(export) == 1
				}
			default:
				return invalid("Template format error: Invalid output property '%s'", shown(key))
			}
			if !ok {
				return invalid("Template format error: Output %s is malformed. (The %s field has a value of the wrong type.)", name, key)
			}
		}
		if o.value == nil {
			return invalid("Template format error: Every Outputs member must contain a Value object")
		}
		t.outputs[name] = o
	}
	return nil
}

func (t *Template) checkConditions(map[string]any) error {
	after := map[string][]string{}
	for _, name := range sortedKeys(t.conditions) {
		uses, err := usesOf(t.conditions[name], inConditions)
		if err != nil {
			return err
		}
		if !boolean(t.conditions[name]) {
			return invalid("Template format error: Conditions can only be boolean operations on parameters and other conditions")
		}
		for _, one := range uses {
			switch {
			case one.function == "Ref" && t.parameter(one.name) == nil && !pseudo[one.name]:
				return invalid("Template format error: Unresolved dependencies [%s]. Cannot reference resources in the Conditions block of the template", shown(one.name))
			case one.function == "Condition" && t.conditions[one.name] == nil:
				return invalid("Template format error: Unresolved condition dependency %s in the Conditions block of the template", shown(one.name))
			case one.function == "Condition":
				after[name] = append(after[name], one.name)
			}
		}
	}
	if circle := circular(after); circle != nil {
		return invalid("Template format error: Circular dependency between conditions: [%s]", strings.Join(circle, ", "))
	}
	return nil
}

func (t *Template) checkResources(map[string]any) error {
	var unresolved []string
	for _, name := range sortedKeys(t.resources) {
		r := t.resources[name]
		uses, err := usesOf(r.properties, inValues)
		if err != nil {
			return err
		}
		r.uses = uses
		if r.condition != "" && t.conditions[r.condition] == nil {
			return invalid("Template format error: Unresolved condition dependency %s in the Resources block of the template", shown(r.condition))
		}
		for _, one := range r.dependsOn {
			if t.resources[one] == nil {
				unresolved = append(unresolved, shown(one))
			}
		}
		more, err := t.unresolved(uses, "Resources")
		if err != nil {
			return err
		}
		unresolved = append(unresolved, more...)
	}
	return errUnresolved(unresolved, "Resources")
}

func (t *Template) checkOutputs(map[string]any) error {
	var unresolved []string
	for _, name := range sortedKeys(t.outputs) {
		o := t.outputs[name]
		uses, err := usesOf([]any{o.value, o.export}, inValues)
		if err != nil {
			return err
		}
		if o.condition != "" && t.conditions[o.condition] == nil {
			return invalid("Template format error: Unresolved condition dependency %s in the Outputs block of the template", shown(o.condition))
		}
		more, err := t.unresolved(uses, "Outputs")
		if err != nil {
			return err
		}
		unresolved = append(unresolved, more...)
	}
	return errUnresolved(unresolved, "Outputs")
}

// unresolved are the names in uses that nothing has.
func (t *Template) unresolved(uses []use, block string) (names []string, err error) {
	for _, one := range uses {
		switch one.function {
		case "Ref":
			if t.parameter(one.name) == nil && t.resources[one.name] == nil && !pseudo[one.name] {
				names = append(names, shown(one.name))
			}
		case "Fn::GetAtt":
			r := t.resources[one.name]
			if r == nil {
				return nil, invalid("Template error: instance of Fn::GetAtt references undefined resource %s", shown(one.name))
			}
			if k, _ := kindOf(r.typ); k.attributes != nil && !slices.Contains(k.attributes, one.attribute) {
				return nil, invalid("Template error: resource %s does not support attribute type %s in Fn::GetAtt", one.name, shown(one.attribute))
			}
		case "Condition":
			if t.conditions[one.name] == nil {
				return nil, invalid("Template format error: Unresolved condition dependency %s in the %s block of the template", shown(one.name), block)
			}
		}
	}
	return names, nil
}

func errUnresolved(names []string, block string) error {
	if names == nil {
		return nil
	}
	slices.Sort(names)
	return invalid("Template format error: Unresolved resource dependencies [%s] in the %s block of the template", strings.Join(slices.Compact(names), ", "), block)
}

func (t *Template) checkCircles(map[string]any) error {
	after := map[string][]string{}
	for name, r := range t.resources {
		after[name] = t.dependencies(r.dependsOn, r.uses)
	}
	if circle := circular(after); circle != nil {
		return invalid("Circular dependency between resources: [%s]", strings.Join(circle, ", "))
	}
	return nil
}

// dependencies are the resources that have to be there first, by name.
func (t *Template) dependencies(explicit []string, uses []use) []string {
	found := slices.Clone(explicit)
	for _, one := range uses {
		if (one.function == "Ref" || one.function == "Fn::GetAtt") && t.resources[one.name] != nil {
			found = append(found, one.name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// circular gives those that are in a circle, or between two circles; nil for
// none. after says what each comes after.
func circular(after map[string][]string) []string {
	_, waiting := inOrder(after) // in a circle, or after one
	before := map[string][]string{}
	for _, name := range waiting {
		before[name] = nil
	}
	for _, name := range waiting {
		for _, one := range after[name] {
			before[one] = append(before[one], name)
		}
	}
	_, between := inOrder(before)
	return between
}

// inOrder puts names after those that they come after, and otherwise by name.
// Those in a circle, and after one, have no place.
func inOrder(after map[string][]string) (order, without []string) {
	waits := map[string]int{}
	before := map[string][]string{}
	var ready []string
	for _, name := range sortedKeys(after) {
		for _, one := range after[name] {
			if _, there := after[one]; there {
				waits[name]++
				before[one] = append(before[one], name)
			}
		}
		if waits[name] == 0 {
			ready = append(ready, name)
		}
	}
	for len(ready) > 0 {
		done := ready[0]
		ready = ready[1:]
		order = append(order, done)
		for _, name := range before[done] {
			if waits[name]--; waits[name] == 0 {
				i, _ := slices.BinarySearch(ready, name)
				ready = slices.Insert(ready, i, name)
			}
		}
	}
	maps.DeleteFunc(waits, func(_ string, n int) bool { return n == 0 })
	return order, sortedKeys(waits)
}

// Summary is what GetTemplateSummary and ValidateTemplate tell of a template.
type Summary struct {
	Version, Description string
	Parameters           []Parameter
	Capabilities         []string // CAPABILITY_NAMED_IAM or CAPABILITY_IAM, or none
	CapabilitiesReason   string
	ResourceTypes        []string // each once
	Metadata             string   // JSON
}

// Summary tells what a template wants.
func (t *Template) Summary() Summary {
	s := Summary{Version: t.Version, Description: t.Description, Parameters: t.Parameters, Metadata: t.Metadata}
	var needing []string
	capability := "CAPABILITY_IAM"
	for _, name := range sortedKeys(t.resources) {
		r := t.resources[name]
		s.ResourceTypes = append(s.ResourceTypes, r.typ)
		k, _ := kindOf(r.typ)
		if !k.iam {
			continue
		}
		needing = append(needing, r.typ)
		if k.named != "" && r.properties[k.named] != nil {
			capability = "CAPABILITY_NAMED_IAM"
		}
	}
	slices.Sort(s.ResourceTypes)
	s.ResourceTypes = slices.Compact(s.ResourceTypes)
	if needing != nil {
		slices.Sort(needing)
		s.Capabilities = []string{capability}
		s.CapabilitiesReason = "The following resource(s) require capabilities: [" + strings.Join(slices.Compact(needing), ", ") + "]"
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// scalarText is a scalar as a text, which is what CloudFormation makes of it.
func scalarText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

// shown keeps what somebody wrote from filling an answer.
func shown(text string) string {
	if len(text) <= maxNameLength {
		return text
	}
	return strings.ToValidUTF8(text[:maxNameLength], "") + "…"
}
