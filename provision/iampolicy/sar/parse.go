package sar

import (
	"fmt"
	"strings"
)

// parseService reads one file of data/. Its lines, columns separated by tabs,
// lists by commas, empty columns at the end left out:
//
//	# a comment
//	key	KEY	TYPE
//	type	NAME	ARN	KEYS
//	action	NAME	LEVEL	KEYS	DEPENDENT-ACTIONS	RESOURCE…
//
// A RESOURCE is TYPE[*];KEYS;DEPENDENT-ACTIONS with * where it is required.
func parseService(prefix, text string) *Service {
	s := &Service{Prefix: prefix, actions: map[string]*Action{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		column := columns(strings.Split(line, "\t"))
		switch column.at(0) {
		case "key":
			s.ConditionKeys = append(s.ConditionKeys, newConditionKey(column.at(1), column.at(2)))
		case "type":
			s.ResourceTypes = append(s.ResourceTypes, &ResourceType{
				Service: prefix, Name: column.at(1), ARN: column.at(2), ConditionKeys: list(column.at(3)),
				format: newARNFormat(column.at(2)),
			})
		case "action":
			a := &Action{
				Service: prefix, Name: column.at(1), AccessLevel: column.at(2),
				ConditionKeys: list(column.at(3)), DependentActions: list(column.at(4)),
			}
			for i := 5; i < len(column); i++ {
				part := columns(strings.Split(column[i], ";"))
				name, required := strings.CutSuffix(part.at(0), "*")
				a.Resources = append(a.Resources, ActionResource{
					Type: name, Required: required, ConditionKeys: list(part.at(1)), DependentActions: list(part.at(2)),
				})
			}
			s.Actions = append(s.Actions, a)
			s.actions[strings.ToLower(a.Name)] = a
		default:
			panic(fmt.Sprintf("sar: data/%s.tsv: line %q starts with none of key, type, action", prefix, line))
		}
	}
	// The files are sorted without regard to case, IAM's names with it.
	sortByName(s.ResourceTypes, func(t *ResourceType) string { return t.Name })
	sortByName(s.Actions, func(a *Action) string { return a.Name })
	return s
}

// newConditionKey splits the reference's ArrayOfString into String, Multivalued.
func newConditionKey(key, typeName string) ConditionKey {
	element, multivalued := strings.CutPrefix(typeName, "ArrayOf")
	return ConditionKey{Key: key, Type: element, Multivalued: multivalued}
}

// parseExceptions reads exceptions.tsv and keys.tsv: action, ARN format or key,
// source.
func parseExceptions(text string) map[string][]string {
	exceptions := map[string][]string{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		column := columns(strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		action := strings.ToLower(column.at(0))
		exceptions[action] = append(exceptions[action], column.at(1))
	}
	return exceptions
}

// parseTogether reads together.tsv: action, resource types, source.
func parseTogether(text string) map[string][]string {
	together := map[string][]string{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		column := columns(strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		together[strings.ToLower(column.at(0))] = strings.Split(column.at(1), ",")
	}
	return together
}

// parseGlobal reads global.tsv: key, type, "always" or "sometimes".
func parseGlobal(text string) []ConditionKey {
	var keys []ConditionKey
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		column := columns(strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		key := newConditionKey(column.at(0), column.at(1))
		key.Always = column.at(2) == "always"
		keys = append(keys, key)
	}
	return keys
}

// columns are a line's columns; one that is not there is empty.
type columns []string

func (c columns) at(i int) string {
	if i < len(c) {
		return c[i]
	}
	return ""
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
