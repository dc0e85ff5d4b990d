package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"biplane.dev/biplane/internal/configfile"
)

var update = flag.Bool("update", false, "write schema.json")

// rules are what the types do not say, by path; [] is any item of a list.
var rules = map[string]map[string]any{
	"apiVersion":                                {"const": APIVersion},
	"kind":                                      {"const": Kind},
	"metadata.name":                             {"pattern": nameForm.String(), "maxLength": longestName},
	"spec.account":                              {"pattern": accountForm.String()},
	"spec.region":                               {"minLength": 1},
	"spec.access.roleArn":                       {"pattern": roleForm.String()},
	"spec.access.externalId":                    {"minLength": 1},
	"spec.access.policy":                        {"enum": words(Strict, Compat)},
	"spec.workspaceRoles":                       {"enum": words(PerServiceAccount, SharedRoles)},
	"spec.controlPlane.endpoint":                {"pattern": "^https://"},
	"spec.controlPlane.cluster":                 {"minLength": 1},
	"spec.controlPlane.tokenFile":               {"minLength": 1},
	"spec.network":                              {"oneOf": []any{map[string]any{"required": []string{"create"}}, map[string]any{"required": []string{"existing"}}}},
	"spec.network.onPremises[]":                 {"pattern": ipv4Range},
	"spec.network.create.cidr":                  {"pattern": `^\d{1,3}(\.\d{1,3}){3}/(1[6-9]|20)$`},
	"spec.network.create.zones":                 {"minimum": 2, "maximum": 6},
	"spec.network.create.zoneIds[]":             {"pattern": zoneForm.String()},
	"spec.network.create.secondaryCidrs[]":      {"pattern": ipv4Range},
	"spec.network.create.nat":                   {"enum": words(NATPerZone, NATSingle, NATNone)},
	"spec.network.create.endpoints":             {"enum": words(RecommendedEndpoints, AllEndpoints, GatewayOnly)},
	"spec.network.create.flowLogDays":           {"enum": append([]int{0}, retention...)},
	"spec.network.existing.vpc":                 {"pattern": vpcForm.String()},
	"spec.network.existing.privateSubnets":      {"minItems": 2},
	"spec.network.existing.privateSubnets[]":    {"pattern": subnetForm.String()},
	"spec.network.existing.publicSubnets[]":     {"pattern": subnetForm.String()},
	"spec.cluster.version":                      {"pattern": versionForm.String()},
	"spec.cluster.endpoint":                     {"enum": words(PublicAddress, PrivateAddress)},
	"spec.cluster.publicCidrs[]":                {"pattern": ipv4Range},
	"spec.cluster.serviceCidr":                  {"pattern": `^(\d{1,3}(\.\d{1,3}){3}/\d{1,2})?$`},
	"spec.cluster.logDays":                      {"enum": append([]int{0}, retention...)},
	"spec.cluster.keyDeletionDays":              {"anyOf": []any{map[string]any{"const": 0}, map[string]any{"minimum": 7, "maximum": 30}}},
	"spec.cluster.nodeGroups[].name":            {"pattern": nameForm.String(), "maxLength": 63},
	"spec.cluster.nodeGroups[].instanceTypes[]": {"pattern": typeForm.String()},
	"spec.cluster.nodeGroups[].min":             {"minimum": 0, "maximum": 450},
	"spec.cluster.nodeGroups[].max":             {"minimum": 0, "maximum": 450},
	"spec.cluster.nodeGroups[].diskGiB":         {"anyOf": []any{map[string]any{"const": 0}, map[string]any{"minimum": 20, "maximum": 16384}}},
	"spec.cluster.nodeGroups[].taints[].key":    {"minLength": 1},
	"spec.cluster.nodeGroups[].taints[].effect": {"enum": []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}},
	"spec.registry.repositories[]":              {"pattern": repositoryForm.String(), "maxLength": 200},
	"spec.registry.untaggedDays":                {"minimum": 0},
	"spec.tags":                                 {"maxProperties": 30},
}

const ipv4Range = `^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$`

func words[T ~string](list ...T) []T { return list }

// optional are keys without omitempty that may be left out.
var optional = []string{"spec.network.existing.publicSubnets", "spec.network.create.zones", "spec.privateEndpoint.enabled"}

// schemaOf is the schema of one type.
type schemaMaker struct {
	comments map[string]string // by Type and Type.Field
	used     map[string]bool   // rules
}

func (m *schemaMaker) of(t reflect.Type, path, comment string) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := map[string]any{}
	if comment != "" {
		s["description"] = comment
	}
	switch t.Kind() {
	case reflect.String:
		s["type"] = "string"
	case reflect.Bool:
		s["type"] = "boolean"
	case reflect.Int:
		s["type"] = "integer"
	case reflect.Slice:
		s["type"], s["items"] = "array", m.of(t.Elem(), path+"[]", "")
	case reflect.Map:
		s["type"], s["additionalProperties"] = "object", m.of(t.Elem(), path+".*", "")
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			f := t.Field(i)
			key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			at := strings.TrimPrefix(path+"."+key, ".")
			properties[key] = m.of(f.Type, at, m.comments[t.Name()+"."+f.Name])
			if options != "omitempty" && !slices.Contains(optional, at) {
				required = append(required, key)
			}
		}
		s["type"], s["properties"], s["additionalProperties"] = "object", properties, false
		if len(required) > 0 {
			s["required"] = required
		}
	default:
		panic("no JSON schema for " + t.String())
	}
	for keyword, value := range rules[path] {
		s[keyword] = value
		m.used[path] = true
	}
	return s
}

// comments are those of the fields in spec.go, as one line.
func comments(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "spec.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		fields, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, f := range fields.Fields.List {
			text := f.Doc.Text()
			if text == "" {
				text = f.Comment.Text()
			}
			for _, name := range f.Names {
				out[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(text), " ")
			}
		}
		return false
	})
	return out
}

// The schema that is published is that of the types.
func TestSchema(t *testing.T) {
	m := &schemaMaker{comments: comments(t), used: map[string]bool{}}
	s := m.of(reflect.TypeFor[DataPlane](), "", "A data plane as its operator wants it.")
	s["$schema"], s["title"] = "https://json-schema.org/draft/2020-12/schema", Kind+" "+APIVersion
	for path := range rules {
		if !m.used[path] {
			t.Errorf("a rule is for %s, which is no key", path)
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(schema, text.Bytes()) {
		t.Error("schema.json is not that of the types: run 'make generate'")
	}
}

// The page of the file has every key.
func TestPageHasEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../docs/dataplane-file.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(t reflect.Type, path string)
	walk = func(of reflect.Type, path string) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct {
			return
		}
		for i := range of.NumField() {
			key, _, _ := strings.Cut(of.Field(i).Tag.Get("yaml"), ",")
			if at := path + key; !bytes.Contains(page, []byte(key+"`")) && !bytes.Contains(page, []byte(key+".")) && !bytes.Contains(page, []byte(key+":")) {
				t.Errorf("docs/dataplane-file.md does not have %s", at)
			}
			walk(of.Field(i).Type, path+key+".")
		}
	}
	walk(reflect.TypeFor[DataPlane](), "")
}

// agreement is a file with one place changed, and what both say of it.
type agreement struct {
	path  string // a.b.0.c
	value any    // nil: the key is left out
	taken bool
}

// What the schema takes, Load takes, and what it refuses, Load refuses.
func TestSchemaAndLoadAgree(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	const network = "spec.network.create"
	given := map[string]any{"existing": map[string]any{"vpc": "vpc-0123456789abcdef0", "privateSubnets": []any{"subnet-0123456789abcdef0", "subnet-0123456789abcdef1"}}}
	group := func(key string, value any) any {
		g := map[string]any{"name": "system", key: value}
		return []any{g}
	}
	for _, c := range []agreement{
		{"spec.org", "acme", true},
		{"apiVersion", "biplane.dev/v1", false}, {"kind", "Cluster", false}, {"kind", nil, false},
		{"metadata.name", "Demo", false}, {"metadata.name", strings.Repeat("a", 22), false}, {"metadata.name", strings.Repeat("a", 21), true}, {"metadata.name", nil, false}, {"metadata.nmae", "x", false},
		{"spec.account", "12345", false}, {"spec.account", nil, false}, {"spec.region", nil, false}, {"spec.regoin", "eu-central-1", false},
		{"spec.access.roleArn", "arn:aws:iam::123456789012:user/x", false}, {"spec.access.externalId", nil, false}, {"spec.access.externalId", "", false},
		{"spec.access.policy", "compat", true}, {"spec.access.policy", "strikt", false}, {"spec.access.policy", nil, true},
		{"spec.controlPlane.endpoint", "http://cp", false}, {"spec.controlPlane.cluster", nil, false}, {"spec.controlPlane", nil, true}, {"spec.controlPlane.issuer", "https://issuer.example.com", true},
		{"spec.network", nil, false}, {"spec.network", map[string]any{}, false}, {"spec.network", given, true}, {"spec.network.existing", given["existing"], false},
		{"spec.network.onPremises", []any{"192.168.0.0/16"}, true}, {"spec.network.onPremises", []any{"office"}, false}, {"spec.network.onPremises", "192.168.0.0/16", false},
		{network + ".cidr", "10.0.0.0/8", false}, {network + ".cidr", "ten", false}, {network + ".cidr", nil, false}, {network + ".cidr", "10.0.0.0/20", true},
		{network + ".zones", 9, false}, {network + ".zones", 2, true}, {network + ".zones", nil, true}, {network + ".zones", "three", false},
		{network + ".zoneIds", []any{"eu-central-1a", "eu-central-1b", "eu-central-1c"}, false}, {network + ".zoneIds", []any{"euc1-az1", "euc1-az2", "euc1-az3"}, true},
		{network + ".nat", "single", true}, {network + ".nat", "two", false}, {network + ".endpoints", "all", true}, {network + ".endpoints", "some", false},
		{network + ".flowLogDays", 0, true}, {network + ".flowLogDays", 31, false},
		{"spec.network", map[string]any{"existing": map[string]any{"vpc": "vpc-1", "privateSubnets": []any{"subnet-0123456789abcdef0", "subnet-0123456789abcdef1"}}}, false},
		{"spec.network", map[string]any{"existing": map[string]any{"vpc": "vpc-0123456789abcdef0", "privateSubnets": []any{"subnet-0123456789abcdef0"}}}, false},
		{"spec.cluster", nil, false}, {"spec.cluster.version", "1.34.2", false}, {"spec.cluster.version", nil, false}, {"spec.cluster.endpoint", "private", true}, {"spec.cluster.endpoint", "pubic", false},
		{"spec.cluster.publicCidrs", []any{"203.0.113.0/24"}, true}, {"spec.cluster.publicCidrs", []any{"all"}, false}, {"spec.cluster.serviceCidr", "172.20.0.0/16", true}, {"spec.cluster.serviceCidr", "services", false},
		{"spec.cluster.logDays", 31, false}, {"spec.cluster.logDays", 365, true}, {"spec.cluster.keyDeletionDays", 6, false}, {"spec.cluster.keyDeletionDays", 7, true}, {"spec.cluster.karpenter", true, true}, {"spec.cluster.karpenter", "maybe", false},
		{"spec.cluster.nodeGroups", group("spot", true), true}, {"spec.cluster.nodeGroups", []any{map[string]any{}}, false}, {"spec.cluster.nodeGroups", group("size", 3), false}, {"spec.cluster.nodeGroups", group("name", "System"), false},
		{"spec.cluster.nodeGroups", group("min", 451), false}, {"spec.cluster.nodeGroups", group("diskGiB", 10), false}, {"spec.cluster.nodeGroups", group("instanceTypes", []any{"large"}), false},
		{"spec.cluster.nodeGroups", group("taints", []any{map[string]any{"key": "gpu", "effect": "NoSchedule"}}), true}, {"spec.cluster.nodeGroups", group("taints", []any{map[string]any{"key": "gpu", "effect": "Never"}}), false},
		{"spec.buckets.adopt", true, true}, {"spec.buckets.sufix", "x", false},
		{"spec.registry.repositories", []any{"images", "team/base"}, true}, {"spec.registry.repositories", []any{"Images"}, false}, {"spec.registry.untaggedDays", -1, false},
		{"spec.workspaceRoles", "shared", true}, {"spec.workspaceRoles", "one", false}, {"spec.workspaceRoles", nil, true},
		{"spec.privateEndpoint", nil, true}, {"spec.privateEndpoint.enabled", "yes please", false},
		{"spec.tags", map[string]any{"team": "data"}, true},
	} {
		t.Run(fmt.Sprintf("%s is %v", c.path, c.value), func(t *testing.T) {
			whole := smallestFile(t)
			set(whole, strings.Split(c.path, "."), c.value)
			text, err := yaml.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			dp := &DataPlane{}
			loadErr := configfile.Parse("dataplane.yaml", text, configfile.Header{APIVersion: APIVersion, Kind: Kind}, dp)
			if loadErr == nil {
				dp.Defaults()
				loadErr = dp.validate()
			}
			asJSON, err := yaml.YAMLToJSON(text)
			if err != nil {
				t.Fatal(err)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
			if err != nil {
				t.Fatal(err)
			}
			if schemaErr := compiled.Validate(value); (schemaErr == nil) != c.taken {
				t.Errorf("the schema says %v, want taken: %v", schemaErr, c.taken)
			}
			if (loadErr == nil) != c.taken {
				t.Errorf("Load says %v, want taken: %v", loadErr, c.taken)
			}
		})
	}
}

func smallestFile(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("testdata/smallest.yaml")
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatal("testdata/smallest.yaml is gone")
	}
	var whole map[string]any
	if err := yaml.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	return whole
}

// set puts a value at a path, making what is missing on the way; nil takes the key out.
func set(into map[string]any, path []string, value any) {
	if len(path) > 1 {
		next, ok := into[path[0]].(map[string]any)
		if !ok {
			next = map[string]any{}
			into[path[0]] = next
		}
		set(next, path[1:], value)
		return
	}
	if value == nil {
		delete(into, path[0])
		return
	}
	into[path[0]] = value
}
