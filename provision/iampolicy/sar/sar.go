// Package sar holds the facts of AWS's Service Authorization Reference: which
// actions there are, their access levels, the resource types they act on with
// the format of the ARNs, and the condition keys they know. It answers whether a
// Resource pattern can ever match an action. It knows nothing of policies and
// holds no sentence of the reference.
//
// The data is that of 2026-05-10, one file for each of the 449 services in data/,
// written by tools/sar (which says how to fetch a newer copy). Beside it stand
// small tables kept by hand: exceptions.tsv and keys.tsv, where the live authorizer
// tests a resource or has a condition key that the reference does not list;
// together.tsv, the calls that touch several resources at once; and global.tsv, the
// condition keys that belong to no service.
//
// Start with Default and Reference.Action.
package sar

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// Date is the day of the reference that the data was taken from.
const Date = "2026-05-10"

// Service is one service of the reference.
type Service struct {
	Prefix        string
	Actions       []*Action       // by name
	ResourceTypes []*ResourceType // by name
	ConditionKeys []ConditionKey  // by key

	actions map[string]*Action // by lower-case name
}

// Action is one action. Its condition keys are those that it knows whatever the
// resource; each of its Resources adds its own.
type Action struct {
	Service          string // "ec2"
	Name             string // "CreateVpc"
	AccessLevel      string // one of the access levels below
	Resources        []ActionResource
	ConditionKeys    []string
	DependentActions []string
}

// String is the action as a policy writes it: "ec2:CreateVpc".
func (a *Action) String() string { return a.Service + ":" + a.Name }

// The access levels of the reference.
const (
	List                  = "List"
	Read                  = "Read"
	Write                 = "Write"
	Tagging               = "Tagging"
	PermissionsManagement = "Permissions management"
)

// ActionResource is a resource type that an action can be limited to. Required
// is the reference's mark: a call touches such a type, or one of several such
// types (see Unmatched), and those others that its parameters name.
type ActionResource struct {
	Type             string
	Required         bool
	ConditionKeys    []string
	DependentActions []string
}

// ResourceType is one kind of thing. ARN has ${…} where names go:
// arn:${Partition}:ec2:${Region}:${Account}:vpc/${VpcId}.
type ResourceType struct {
	Service       string
	Name          string
	ARN           string
	ConditionKeys []string

	format arnFormat
}

// ConditionKey is a condition key and the type of its values: String, ARN,
// Bool, Date, Numeric or IPAddress, with Multivalued where a request carries several.
type ConditionKey struct {
	Key         string // aws:RequestTag/${TagKey}
	Type        string
	Multivalued bool
	// Always says that every request has the key. Known for global keys only.
	Always bool
}

// Reference is the whole. It is safe for use by several goroutines.
type Reference struct {
	prefixes   []string
	services   map[string]func() *Service
	exceptions map[string][]string
	together   map[string][]string
	keys       map[string][]string
	global     []ConditionKey
}

//go:embed data/*.tsv exceptions.tsv global.tsv keys.tsv together.tsv
var files embed.FS

var standard = sync.OnceValue(func() *Reference { return open(files) })

// Default returns the reference that is part of the program. A service's file is
// read when the service is first asked for.
func Default() *Reference { return standard() }

// open reads the small tables and prepares to read the services. The files
// are part of the program, so a fault in them is a fault in the program: a panic.
func open(files fs.FS) *Reference {
	r := &Reference{
		services:   map[string]func() *Service{},
		exceptions: parseExceptions(mustRead(files, "exceptions.tsv")),
		together:   parseTogether(mustRead(files, "together.tsv")),
		keys:       parseExceptions(mustRead(files, "keys.tsv")),
		global:     parseGlobal(mustRead(files, "global.tsv")),
	}
	names, err := fs.Glob(files, "data/*.tsv")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		prefix := strings.TrimSuffix(strings.TrimPrefix(name, "data/"), ".tsv")
		r.prefixes = append(r.prefixes, prefix)
		r.services[prefix] = sync.OnceValue(func() *Service { return parseService(prefix, mustRead(files, name)) })
	}
	slices.Sort(r.prefixes)
	return r
}

func mustRead(files fs.FS, name string) string {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// Services returns the prefixes of all services, sorted.
func (r *Reference) Services() []string { return slices.Clone(r.prefixes) }

// Service finds a service by its prefix, without regard to case.
func (r *Reference) Service(prefix string) (*Service, bool) {
	load, ok := r.services[strings.ToLower(prefix)]
	if !ok {
		return nil, false
	}
	return load(), true
}

// Action finds "ec2:CreateVpc", without regard to case.
func (r *Reference) Action(action string) (*Action, bool) {
	prefix, name, _ := strings.Cut(action, ":")
	service, ok := r.Service(prefix)
	if !ok {
		return nil, false
	}
	found, ok := service.actions[strings.ToLower(name)]
	return found, ok
}

// Expand returns every action that a pattern of an Action element names, in
// order: "ec2:Describe*", "s3:*", "*". IAM refuses a wildcard in the part before
// the colon; Expand takes one all the same, so that a reader can be told what it
// would mean.
func (r *Reference) Expand(pattern string) []*Action {
	if !strings.ContainsAny(pattern, "*?") {
		if action, ok := r.Action(pattern); ok {
			return []*Action{action}
		}
		return nil
	}
	service, name, cut := strings.Cut(strings.ToLower(pattern), ":")
	if !cut {
		if strings.Trim(pattern, "*") != "" {
			return nil
		}
		service, name = "*", "*"
	}
	var actions []*Action
	for _, prefix := range r.prefixes {
		if !matches(service, prefix) {
			continue
		}
		found, _ := r.Service(prefix)
		for _, action := range found.Actions {
			if matches(name, strings.ToLower(action.Name)) {
				actions = append(actions, action)
			}
		}
	}
	return actions
}

// ResourceType finds a resource type of a service by its name.
func (r *Reference) ResourceType(service, name string) (*ResourceType, bool) {
	s, ok := r.Service(service)
	if !ok {
		return nil, false
	}
	i, ok := slices.BinarySearchFunc(s.ResourceTypes, name, func(t *ResourceType, name string) int { return strings.Compare(t.Name, name) })
	if !ok {
		return nil, false
	}
	return s.ResourceTypes[i], true
}

// GlobalKey finds a condition key that belongs to no service, aws:SourceIp or
// aws:RequestTag/team, without regard to case.
func (r *Reference) GlobalKey(key string) (ConditionKey, bool) { return findKey(r.global, key) }

// ActionKey finds a condition key that the action, or one of its resource
// types, knows: "s3:prefix", "ec2:ResourceTag/team". Global keys are not looked at.
func (r *Reference) ActionKey(action *Action, key string) (ConditionKey, bool) {
	service, ok := r.Service(action.Service)
	if !ok {
		return ConditionKey{}, false
	}
	known := func(keys []string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return sameKey(k, key) })
	}
	has := known(action.ConditionKeys) || known(r.keys[strings.ToLower(action.String())])
	for _, resource := range action.Resources {
		has = has || known(resource.ConditionKeys)
		// A type lists the tags in a request too, for those of its actions that take tags.
		if t, ok := r.ResourceType(action.Service, resource.Type); ok && !isRequestTag(key) {
			has = has || known(t.ConditionKeys)
		}
	}
	if !has {
		return ConditionKey{}, false
	}
	if found, ok := findKey(service.ConditionKeys, key); ok {
		return found, true
	}
	return ConditionKey{Key: key, Type: "String"}, true
}

func isRequestTag(key string) bool {
	key = strings.ToLower(key)
	return key == "aws:tagkeys" || strings.HasPrefix(key, "aws:requesttag/")
}

// ServiceKey finds a condition key of a service, whichever of its actions know it.
func (r *Reference) ServiceKey(prefix, key string) (ConditionKey, bool) {
	service, ok := r.Service(prefix)
	if !ok {
		return ConditionKey{}, false
	}
	return findKey(service.ConditionKeys, key)
}

// KeyHasAction is whether some action of the service that the key's prefix names
// is known to have the key. It is true for a key of no service.
func (r *Reference) KeyHasAction(key string) bool {
	prefix, _, _ := strings.Cut(key, ":")
	service, ok := r.Service(prefix)
	return !ok || slices.ContainsFunc(service.Actions, func(action *Action) bool {
		_, has := r.ActionKey(action, key)
		return has
	})
}

func findKey(keys []ConditionKey, key string) (ConditionKey, bool) {
	for _, k := range keys {
		if sameKey(k.Key, key) {
			return k, true
		}
	}
	return ConditionKey{}, false
}

// sameKey compares a key of the reference, which may hold ${TagKey}, with one of a policy.
func sameKey(known, key string) bool {
	known, key = strings.ToLower(known), strings.ToLower(key)
	if !strings.Contains(known, "${") {
		return known == key
	}
	return overlap(tokens(known), literal(key))
}

// GlobalKeys returns the names of the condition keys that belong to no service.
func (r *Reference) GlobalKeys() []string {
	names := make([]string, len(r.global))
	for i, key := range r.global {
		names[i] = key.Key
	}
	return names
}
