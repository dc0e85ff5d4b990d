package cloudformation

import (
	"maps"
	"slices"
)

// Env is where a stack is: the values of the pseudo parameters.
type Env struct {
	Account, Region, Partition, URLSuffix string
	StackName, StackID                    string
	NotificationARNs                      []string
	Tags                                  []Tag // of the stack; resources that can have tags get them
}

// Bound is a template with values for its parameters. The same template, values
// and Env make the same one at any time.
type Bound struct {
	template   *Template
	env        Env
	values     map[string]string
	conditions map[string]bool
	resources  []BoundResource
}

// BoundResource is a resource whose condition holds.
type BoundResource struct {
	LogicalID, Type     string
	DependsOn           []string // by its DependsOn and by its references
	DeletionPolicy      string   // Delete, Retain, Snapshot or RetainExceptOnCreate
	UpdateReplacePolicy string   // Delete, Retain or Snapshot
	Metadata            any
}

// Physical is a resource that was made. It is kept as JSON.
type Physical struct {
	ID         string            // what Ref gives
	Attributes map[string]string // what Fn::GetAtt gives
}

// Output is an output of a stack.
type Output struct{ Key, Value, Description, ExportName string }

// Unknown stands in properties for what is known only after something is made.
const Unknown = "{{changeSet:KNOWN_AFTER_APPLY}}"

// Bind gives values to the parameters, checks them and evaluates the
// conditions. Its errors are of type *Error.
func (t *Template) Bind(given map[string]string, env Env) (*Bound, error) {
	values, err := t.values(given)
	if err != nil {
		return nil, err
	}
	b := &Bound{template: t, env: env, values: values, conditions: map[string]bool{}}
	s := b.scope(nil)
	for _, name := range sortedKeys(t.conditions) {
		if _, err := s.condition(name); err != nil {
			return nil, err
		}
	}
	if err := b.choose(); err != nil {
		return nil, err
	}
	// What functions refuse is refused now, and not when half of a stack is made.
	for _, one := range b.resources {
		if _, err := b.Properties(one.LogicalID, nil); err != nil {
			return nil, err
		}
	}
	_, err = b.Outputs(nil)
	return b, err
}

func (b *Bound) scope(made map[string]Physical) *scope {
	return &scope{b: b, made: made, left: maxExpanded}
}

// condition evaluates a condition once. There are no circles: Parse looked.
func (s *scope) condition(name string) (bool, error) {
	if holds, known := s.b.conditions[name]; known {
		return holds, nil
	}
	holds, err := s.holds(s.b.template.conditions[name])
	s.b.conditions[name] = holds
	return holds, err
}

func (s *scope) holds(v any) (bool, error) {
	name, argument, err := function(v, inConditions)
	if err != nil {
		return false, err
	}
	list, _ := argument.([]any)
	switch name {
	case "Condition":
		return s.condition(argument.(string))
	case "Fn::Equals":
		var sides [2]any
		for i := range sides {
			if sides[i], err = s.value(list[i]); err != nil {
				return false, err
			}
		}
		return same(sides[0], sides[1]), nil
	}
	// Fn::Not, Fn::And and Fn::Or: boolean lets nothing else through.
	for _, one := range list {
		holds, err := s.holds(one)
		switch {
		case err != nil:
			return false, err
		case name == "Fn::Not":
			return !holds, nil
		case holds == (name == "Fn::Or"):
			return holds, nil
		}
	}
	return name == "Fn::And", nil
}

// choose finds the resources whose condition holds, and the order of them.
func (b *Bound) choose() error {
	t := b.template
	holds := func(condition string) bool { return condition == "" || b.conditions[condition] }
	there := map[string]bool{}
	for name, r := range t.resources {
		there[name] = holds(r.condition)
	}
	absent := func(uses []use) (names []string) {
		for _, one := range t.dependencies(nil, uses) {
			if !there[one] {
				names = append(names, one)
			}
		}
		return names
	}
	after := map[string][]string{}
	var unresolved []string
	for _, name := range sortedKeys(t.resources) {
		if !there[name] {
			continue
		}
		r := t.resources[name]
		uses, err := usesOf(b.live(r.properties), inValues)
		if err != nil {
			return err
		}
		unresolved = append(unresolved, absent(uses)...)
		after[name] = slices.DeleteFunc(t.dependencies(r.dependsOn, uses), func(one string) bool { return !there[one] })
	}
	if err := errUnresolved(unresolved, "Resources"); err != nil {
		return err
	}
	for _, name := range sortedKeys(t.outputs) {
		o := t.outputs[name]
		if !holds(o.condition) {
			continue
		}
		uses, err := usesOf(b.live([]any{o.value, o.export}), inValues)
		if err != nil {
			return err
		}
		unresolved = append(unresolved, absent(uses)...)
	}
	if err := errUnresolved(unresolved, "Outputs"); err != nil {
		return err
	}
	order, _ := inOrder(after) // all of them: Parse found no circle
	for _, name := range order {
		r := t.resources[name]
		b.resources = append(b.resources, BoundResource{
			LogicalID: name, Type: r.typ, DependsOn: after[name],
			DeletionPolicy: r.deletion, UpdateReplacePolicy: r.replace, Metadata: r.metadata,
		})
	}
	return nil
}

// live is a value without the sides of Fn::If that do not count.
func (b *Bound) live(v any) any {
	if name, argument, err := function(v, inValues); err == nil && name == "Fn::If" {
		list := argument.([]any)
		if b.conditions[list[0].(string)] {
			return b.live(list[1])
		}
		return b.live(list[2])
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, one := range v {
			out[key] = b.live(one)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = b.live(one)
		}
		return out
	}
	return v
}

// Resources are those that the stack has, in an order in which they can be made.
func (b *Bound) Resources() []BoundResource { return b.resources }

// Values are the values of the parameters, as given or by default, those with
// NoEcho too.
func (b *Bound) Values() map[string]string { return maps.Clone(b.values) }

// Properties are a resource's properties, with references resolved by what was
// made. Where one is to a resource that is not made yet, as in a change set, it
// is Unknown.
func (b *Bound) Properties(logicalID string, made map[string]Physical) (map[string]any, error) {
	value, err := b.scope(made).value(b.template.resources[logicalID].properties)
	if err != nil {
		return nil, err
	}
	properties, ok := value.(map[string]any)
	if !ok {
		return nil, invalid("Template format error: [/Resources/%s/Properties] must be an object.", logicalID)
	}
	if k, _ := kindOf(b.template.resources[logicalID].typ); k.tagged && len(b.env.Tags) > 0 {
		properties["Tags"] = withTags(properties["Tags"], b.env.Tags)
	}
	return properties, nil
}

// withTags adds the tags of a stack to those that a resource has itself.
func withTags(own any, tags []Tag) any {
	list, isList := own.([]any)
	if own != nil && !isList {
		return own // which the service that gets it will refuse
	}
	list = slices.Clone(list)
	for _, tag := range tags {
		if !slices.ContainsFunc(list, func(one any) bool { m, _ := one.(map[string]any); return m["Key"] == tag.Key }) {
			list = append(list, map[string]any{"Key": tag.Key, "Value": tag.Value})
		}
	}
	return list
}

// Outputs are the outputs whose condition holds.
func (b *Bound) Outputs(made map[string]Physical) ([]Output, error) {
	var out []Output
	for _, name := range sortedKeys(b.template.outputs) {
		o := b.template.outputs[name]
		if o.condition != "" && !b.conditions[o.condition] {
			continue
		}
		s := b.scope(made)
		value, err := s.text(o.value, "Template format error: Output "+name+" is malformed. (The Value field of every Outputs member must evaluate to a String and not a List.)")
		if err != nil {
			return nil, err
		}
		one := Output{Key: name, Value: value, Description: o.description}
		if o.export != nil {
			if one.ExportName, err = s.text(o.export, "Template format error: Output "+name+" is malformed. (The Name of an Export must evaluate to a String.)"); err != nil {
				return nil, err
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// same says that two values are alike to CloudFormation, to which a scalar is
// its text.
func same(a, b any) bool {
	textA, isA := scalarText(a)
	textB, isB := scalarText(b)
	if isA || isB {
		return isA && isB && textA == textB
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, same)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	}
	return a == nil && b == nil
}
