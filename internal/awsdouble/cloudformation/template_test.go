package cloudformation

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var env = Env{
	Account: "111122223333", Region: "eu-central-1", Partition: "aws", URLSuffix: "amazonaws.com",
	StackName: "Stack", StackID: "arn:aws:cloudformation:eu-central-1:111122223333:stack/Stack/1",
}

// message is the text of an *Error, "" for none.
func message(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got an error of type %T (%v), want *Error", err, err)
	}
	if e.Code != "ValidationError" || e.Status != 400 {
		t.Errorf("got code %s, status %d, want ValidationError, 400", e.Code, e.Status)
	}
	return e.Message
}

const handle = "Resources: {R: {Type: 'AWS::CloudFormation::WaitConditionHandle'}}\n"

func TestParseRefusesInAWSsWords(t *testing.T) {
	t.Parallel()
	many := func(section, member string, n int) string {
		var b strings.Builder
		b.WriteString(section + ":\n")
		for i := range n {
			fmt.Fprintf(&b, "  N%d: %s\n", i, member)
		}
		return b.String()
	}
	role := func(properties string) string {
		return "Resources:\n  Role:\n    Type: AWS::IAM::Role\n    Properties: " + properties + "\n"
	}
	for name, c := range map[string]struct{ body, want string }{
		"nothing":                      {"", "unsupported structure"},
		"a list":                       {"- a", "unsupported structure"},
		"a text":                       {"hello", "unsupported structure"},
		"two documents":                {handle + "---\n" + handle, "YAML not well-formed"},
		"half of JSON":                 {"{\"Resources\": {\n", "JSON not well-formed. (line 2, column 1)"},
		"JSON and more":                {`{"Resources": {"R": {"Type": "AWS::CloudFormation::WaitConditionHandle"}}} x`, "JSON not well-formed"},
		"bad YAML":                     {"Resources:\n  a: b: c\n", "YAML not well-formed. (line 2)"},
		"a key twice":                  {handle + "Description: a\nDescription: b\n", "YAML not well-formed. (line 3, column 1)"},
		"an alias":                     {"Metadata: {a: &x 1, b: *x}\n" + handle, "Template error: YAML aliases are not allowed in CloudFormation templates"},
		"an alias as a key":            {"Metadata: {a: &x k, *x : 1}\n" + handle, "YAML aliases are not allowed"},
		"a merge of an alias":          {"Metadata: {a: &x {k: 1}, b: {<<: *x}}\n" + handle, "YAML aliases are not allowed"},
		"a null":                       {"Resources: {R: {Type: 'AWS::IAM::Role', Properties: {Path: }}}", "[/Resources/R/Properties/Path] 'null' values are not allowed in templates"},
		"a deep one":                   {"Metadata: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "\n" + handle, "nested deeper"},
		"a deep one in JSON":           {`{"Metadata": ` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}", "nested deeper"},
		"a very deep one":              {strings.Repeat("- ", 100_000) + "a", "not well-formed"},
		"another version":              {"AWSTemplateFormatVersion: 2010-09-10\n" + handle, "unsupported value for AWSTemplateFormatVersion"},
		"an unknown section":           {handle + "Resorces: {}\n", "Invalid template property or properties [Resorces]"},
		"a transform":                  {handle + "Transform: AWS::Serverless-2016-10-31\n", "Transform is not supported by this double"},
		"rules":                        {handle + "Rules: {}\n", "Rules is not supported by this double"},
		"a long description":           {handle + "Description: " + strings.Repeat("x", 1025), "'Description' length is greater than 1024"},
		"a description that is a list": {handle + "Description: [a]", "Description must be of type String"},
		"resources that are a list":    {"Resources: []", "Resources must be an object"},
		"no resources":                 {"Description: nothing", "At least one Resources member must be defined."},
		"501 resources":                {many("Resources", "{Type: 'AWS::CloudFormation::WaitConditionHandle'}", 501), "Number of resources, 501, is greater than maximum allowed, 500"},
		"201 parameters":               {handle + many("Parameters", "{Type: String}", 201), "Number of parameters, 201, is greater than maximum allowed, 200"},
		"201 outputs":                  {handle + many("Outputs", "{Value: a}", 201), "Number of outputs, 201, is greater than maximum allowed, 200"},
		"201 mappings":                 {handle + many("Mappings", "{a: {b: c}}", 201), "Number of mappings, 201, is greater than maximum allowed, 200"},
		"a name with a hyphen":         {"Resources: {my-role: {Type: 'AWS::IAM::Role'}}", "Resource name my-role is non alphanumeric."},
		"a long name":                  {"Resources: {" + strings.Repeat("x", 256) + ": {Type: 'AWS::IAM::Role'}}", "is longer than 255 characters"},
		"a parameter's bad name":       {handle + "Parameters: {a_b: {Type: String}}", "Parameter name a_b is non alphanumeric."},
		"no type":                      {"Resources: {R: {Properties: {}}}", "[/Resources/R] Every Resources object must contain a Type member."},
		"unknown types":                {"Resources: {A: {Type: 'AWS::IAM::Rolle'}, B: {Type: 'AWS::S3::Bukket'}, C: {Type: 'AWS::IAM::Rolle'}}", "Template format error: Unrecognized resource types: [AWS::IAM::Rolle, AWS::S3::Bukket]"},
		"an unknown attribute":         {"Resources: {R: {Type: 'AWS::IAM::Role', Propertys: {}}}", "Invalid template resource property 'Propertys'"},
		"a bad deletion policy":        {"Resources: {R: {Type: 'AWS::IAM::Role', DeletionPolicy: Keep}}", "Unrecognized DeletionPolicy Keep for resource R"},
		"a parameter without a type":   {handle + "Parameters: {P: {Default: a}}", "Every Parameters object must contain a Type member."},
		"a parameter of unknown type":  {handle + "Parameters: {P: {Type: Text}}", "Unrecognized parameter type: Text"},
		"a parameter's unknown field":  {handle + "Parameters: {P: {Type: String, Pattern: a}}", "Invalid template parameter property 'Pattern'"},
		"a pattern that is none":       {handle + "Parameters: {P: {Type: String, AllowedPattern: '('}}", "is not a regular expression"},
		"a condition of a resource":    {"Resources: {R: {Type: 'AWS::IAM::Role', Condition: C}}", "Unresolved condition dependency C in the Resources block of the template"},
		"a condition of Fn::If":        {role("{Path: !If [C, a, b]}"), "Unresolved condition dependency C in the Resources block of the template"},
		"a condition of a condition":   {handle + "Conditions: {A: {Condition: B}}", "Unresolved condition dependency B in the Conditions block of the template"},
		"a condition on a resource":    {handle + "Conditions: {A: !Equals [!Ref R, a]}", "Unresolved dependencies [R]. Cannot reference resources in the Conditions block of the template"},
		"a condition that is a text":   {handle + "Conditions: {A: 'true'}", "Conditions can only be boolean operations on parameters and other conditions"},
		"conditions in a circle":       {handle + "Conditions: {A: !Not [Condition: B], B: !Not [Condition: C], C: !Not [Condition: B], D: !Not [Condition: A]}", "Circular dependency between conditions: [B, C]"},
		"one operand of Fn::And":       {handle + "Conditions: {A: !And [!Equals [a, b]]}", "every Fn::And object requires a list of at least 2 and at most 10 boolean parameters."},
		"two of Fn::Not":               {handle + "Conditions: {A: !Not [!Equals [a, b], !Equals [a, b]]}", "every Fn::Not object requires one boolean parameter."},
		"three of Fn::Equals":          {handle + "Conditions: {A: !Equals [a, b, c]}", "every Fn::Equals object requires a list of 2 string parameters."},
		"an unknown function":          {role("{Path: !Lower A}"), "Encountered unsupported function: Fn::Lower Supported functions are: [Ref, Fn::Base64"},
		"an import":                    {role("{Path: !ImportValue A}"), "Encountered unsupported function: Fn::ImportValue"},
		"a function beside others":     {role("{Path: {'Fn::Sub': a, b: c}}"), "the function Fn::Sub must be the only member"},
		"a Ref to nothing":             {role("{Path: !Ref A, Tags: [!Ref B]}"), "Template format error: Unresolved resource dependencies [A, B] in the Resources block of the template"},
		"a Ref in Fn::Sub":             {role("{Path: !Sub '${A}'}"), "Unresolved resource dependencies [A] in the Resources block"},
		"a Ref that is a list":         {role("{Path: {Ref: [a]}}"), "every Ref object must have a single String value."},
		"a GetAtt of nothing":          {role("{Path: !GetAtt A.Arn}"), "instance of Fn::GetAtt references undefined resource A"},
		"a GetAtt of no attribute":     {role("{}") + "Outputs: {O: {Value: !GetAtt Role.Name}}", "resource Role does not support attribute type Name in Fn::GetAtt"},
		"a GetAtt in Fn::Sub":          {role("{}") + "Outputs: {O: {Value: !Sub '${Role.Name}'}}", "resource Role does not support attribute type Name in Fn::GetAtt"},
		"an output of nothing":         {role("{}") + "Outputs: {O: {Value: !Ref A}}", "Unresolved resource dependencies [A] in the Outputs block of the template"},
		"an output without a value":    {role("{}") + "Outputs: {O: {Description: a}}", "Every Outputs member must contain a Value object"},
		"a DependsOn of nothing":       {"Resources: {R: {Type: 'AWS::IAM::Role', DependsOn: [A]}}", "Unresolved resource dependencies [A] in the Resources block of the template"},
		"an open Fn::Sub":              {role("{Path: !Sub '${A'}"), "variable names in Fn::Sub syntax must contain only alphanumeric characters, underscores, periods, and colons"},
		"a Fn::Sub of a list":          {role("{Path: !Sub [a]}"), "One or more Fn::Sub intrinsic functions don't specify expected arguments"},
		"a Fn::Join of one":            {role("{Path: !Join [a]}"), "every Fn::Join object requires two parameters"},
		"a Fn::If of two":              {role("{Path: !If [a, b]}"), "Fn::If requires a list argument with the first element being a condition"},
		"itself":                       {role("{Path: !Ref Role}"), "Circular dependency between resources: [Role]"},
		"a circle": {`
Resources:
  A: {Type: AWS::IAM::Role, DependsOn: B}
  B: {Type: AWS::IAM::Role, Properties: {Path: !Sub "/${C.Arn}/"}}
  C: {Type: AWS::IAM::Role, Properties: {Path: !Join ["", [!Ref A]]}}
  After: {Type: AWS::IAM::Role, DependsOn: A}
  Before: {Type: AWS::IAM::Role}
`, "Circular dependency between resources: [A, B, C]"},
	} {
		t.Run("it refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(c.body)
			if got := message(t, err); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestBindRefusesInAWSsWords(t *testing.T) {
	t.Parallel()
	parameter := func(fields string) string { return handle + "Parameters: {P: {" + fields + "}}\n" }
	output := func(value string) string { return handle + "Outputs: {O: {Value: " + value + "}}\n" }
	given := func(value string) map[string]string { return map[string]string{"P": value} }
	for name, c := range map[string]struct {
		body  string
		given map[string]string
		want  string
	}{
		"no value":                    {parameter("Type: String"), nil, "Parameters: [P] must have values"},
		"a value for nothing":         {handle, map[string]string{"A": "", "B": ""}, "Parameters: [A, B] do not exist in the template"},
		"a part that matches":         {parameter("Type: String, AllowedPattern: '[a-z]+'"), given("abc1"), "Parameter 'P' must match pattern [a-z]+"},
		"a line more":                 {parameter("Type: String, AllowedPattern: '^[a-z]+$'"), given("abc\n"), "Parameter 'P' must match pattern ^[a-z]+$"},
		"one side of an alternative":  {parameter("Type: String, AllowedPattern: 'a|b'"), given("ab"), "Parameter 'P' must match pattern a|b"},
		"a constraint's own words":    {parameter("Type: String, MinLength: 8, ConstraintDescription: 8 to 24 letters"), given("a"), "Parameter P failed to satisfy constraint: 8 to 24 letters"},
		"7 characters":                {parameter("Type: String, MinLength: '8'"), given("ééééééé"), "Parameter 'P' must contain at least 8 characters"},
		"25 characters":               {parameter("Type: String, MaxLength: 24"), given(strings.Repeat("a", 25)), "Parameter 'P' must contain at most 24 characters"},
		"none of the allowed":         {parameter("Type: String, AllowedValues: [a, b]"), given("A"), "Parameter 'P' must be one of AllowedValues"},
		"a default that is not so":    {parameter("Type: String, AllowedValues: [a, b], Default: c"), nil, "Parameter 'P' must be one of AllowedValues"},
		"one of a list":               {parameter("Type: CommaDelimitedList, AllowedPattern: '[a-z]+'"), given("a, b, 3"), "Parameter 'P' must match pattern [a-z]+"},
		"no number":                   {parameter("Type: Number"), given("x"), "Parameter 'P' must be a number"},
		"a number that is none":       {parameter("Type: Number"), given("NaN"), "Parameter 'P' must be a number"},
		"a small number":              {parameter("Type: Number, MinValue: 1.5"), given("1"), "Parameter 'P' must be a number not less than 1.5"},
		"a large number":              {parameter("Type: Number, MaxValue: 10"), given("11"), "Parameter 'P' must be a number not greater than 10"},
		"a large value":               {parameter("Type: String"), given(strings.Repeat("a", 4097)), "more than 4096 bytes"},
		"a map that is not there":     {output("!FindInMap [M, a, b]"), nil, "Mapping named 'M' is not present in the 'Mappings' section of template"},
		"a key that is not there":     {output("!FindInMap [M, !Ref AWS::Region, b]") + "Mappings: {M: {a: {b: c}}}", nil, "Unable to get mapping for M::eu-central-1::b"},
		"an index that is too large":  {output("!Select [2, [a, b]]"), nil, "Fn::Select cannot select nonexistent value at index 2"},
		"an index below":              {output("!Select [-1, [a, b]]"), nil, "Fn::Select cannot select nonexistent value at index -1"},
		"an output that is a list":    {output("!Split [',', 'a,b']"), nil, "Output O is malformed. (The Value field of every Outputs member must evaluate to a String and not a List.)"},
		"a list in Fn::Sub":           {output("!Sub '${P}'") + "Parameters: {P: {Type: CommaDelimitedList, Default: 'a,b'}}", nil, "variable P in Fn::Sub expression does not resolve to a string"},
		"a reference to what is not":  {"Conditions: {No: !Equals [a, b]}\nResources: {A: {Type: 'AWS::IAM::Role', Condition: No}, B: {Type: 'AWS::IAM::Role', Properties: {Path: !Ref A}}}", nil, "Unresolved resource dependencies [A] in the Resources block of the template"},
		"an output of what is not":    {"Conditions: {No: !Equals [a, b]}\nResources: {A: {Type: 'AWS::IAM::Role', Condition: No}, B: {Type: 'AWS::IAM::Role'}}\nOutputs: {O: {Value: !GetAtt A.Arn}}", nil, "Unresolved resource dependencies [A] in the Outputs block of the template"},
		"a Fn::Sub that grows":        {output("!Sub '"+strings.Repeat("${P}", 300)+"'") + "Parameters: {P: {Type: String}}", given(strings.Repeat("a", 4096)), "make more than 1048576 bytes"},
		"a Fn::Join that grows":       {output("!Join [!Ref AWS::Region, []]"), nil, "every Fn::Join object requires two parameters"},
		"functions that grow in each": {output("!Sub ['${A}', {A: !Sub ['" + strings.Repeat("${B}", 2000) + "', {B: !Sub '" + strings.Repeat("${AWS::StackId}", 200) + "'}]}]"), nil, "make more than 1048576 bytes"},
	} {
		t.Run("it refuses "+name, func(t *testing.T) {
			t.Parallel()
			template, err := Parse(c.body)
			if err == nil {
				_, err = template.Bind(c.given, env)
			}
			if got := message(t, err); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func mustBind(t *testing.T, body string, given map[string]string) *Bound {
	t.Helper()
	template, err := Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := template.Bind(given, env)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shape is a value as encoding/json gives it back, for comparing.
func shape(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

const functions = `
AWSTemplateFormatVersion: 2010-09-09
Description: Everything at once
Metadata: {Biplane: {Component: access}}
Parameters:
  Name: {Type: String, Default: union-ai-admin}
  List: {Type: CommaDelimitedList, Default: "a, b,c"}
  Empty: {Type: CommaDelimitedList, Default: ""}
  Number: {Type: Number, Default: 3600}
Mappings:
  ByRegion:
    eu-central-1: {Name: frankfurt, List: [x, y]}
Conditions:
  Frankfurt: !Equals [!Ref AWS::Region, eu-central-1]
  Never: !And [!Condition Frankfurt, !Not [!Condition Frankfurt]]
  Either: !Or [!Condition Never, !Equals [!Ref Number, "3600"]]
Resources:
  Role:
    Type: AWS::IAM::Role
    DeletionPolicy: Retain
    Metadata: {Why: "here"}
    Properties:
      RoleName: !Ref Name
      MaxSessionDuration: !Ref Number
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement:
          - Effect: Allow
            Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
            Action: sts:AssumeRole
            Condition: {Bool: {"aws:SecureTransport": true}, StringEquals: {"sts:ExternalId": !If [Either, [one, !Ref AWS::NoValue], !Ref AWS::NoValue]}}
      Path: !If [Never, /never/, !Ref "AWS::NoValue"]
      Tags:
        - {Key: region, Value: !FindInMap [ByRegion, !Ref "AWS::Region", Name]}
        - !If [Never, {Key: never, Value: a}, !Ref "AWS::NoValue"]
      ManagedPolicyArns: [!Ref Policy]
  Policy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument: {Version: "2012-10-17", Statement: []}
      Description: !Join ["-", [!Select [1, !Ref List], !Select ["0", !FindInMap [ByRegion, eu-central-1, List]], 012, !GetAtt Handle.Id]]
  Handle:
    Type: AWS::IAM::Policy
    Properties: {PolicyName: a, PolicyDocument: {}, Users: !Ref List}
  Absent: {Type: AWS::IAM::Role, Condition: Never}
Outputs:
  Arn: {Value: !GetAtt Role.Arn, Export: {Name: !Sub "${AWS::StackName}-arn"}, Description: the role's}
  Sub: {Value: !Sub ["${Name} ${!Literal} ${Own} ${Role.RoleId} $${AWS::URLSuffix}", {Own: !Select [0, !Split ["|", "p|q"]]}]}
  Code: {Value: !Base64 biplane}
  Never: {Condition: Never, Value: !GetAtt Absent.Arn}
  Truth: {Value: true}
`

func TestBindResolves(t *testing.T) {
	t.Parallel()
	b := mustBind(t, functions, nil)
	var order []string
	for _, one := range b.Resources() {
		order = append(order, one.LogicalID)
	}
	if want := []string{"Handle", "Policy", "Role"}; !slices.Equal(order, want) {
		t.Errorf("got the order %v, want %v", order, want)
	}
	last := b.Resources()[2]
	if want := (BoundResource{"Role", "AWS::IAM::Role", []string{"Policy"}, "Retain", "Delete", map[string]any{"Why": "here"}}); !reflect.DeepEqual(last, want) {
		t.Errorf("got %v, want %v", last, want)
	}
	made := map[string]Physical{
		"Handle": {ID: "Stack-Handle-1", Attributes: map[string]string{"Id": "h1"}},
		"Policy": {ID: "arn:aws:iam::111122223333:policy/p"},
		"Role":   {ID: "union-ai-admin", Attributes: map[string]string{"Arn": "arn:role", "RoleId": "AROA1"}},
	}
	for id, want := range map[string]string{
		"Handle": `{"PolicyName": "a", "PolicyDocument": {}, "Users": ["a", "b", "c"]}`,
		"Policy": `{"PolicyDocument": {"Version": "2012-10-17", "Statement": []}, "Description": "b-x-012-h1"}`,
		"Role": `{"RoleName": "union-ai-admin", "MaxSessionDuration": "3600", "ManagedPolicyArns": ["arn:aws:iam::111122223333:policy/p"],
			"Tags": [{"Key": "region", "Value": "frankfurt"}], "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "sts:AssumeRole",
			"Condition": {"Bool": {"aws:SecureTransport": true}, "StringEquals": {"sts:ExternalId": ["one"]}}}]}}`,
	} {
		properties, err := b.Properties(id, made)
		if err != nil {
			t.Fatal(err)
		}
		if got := shape(t, asJSON(properties)); !reflect.DeepEqual(got, shape(t, want)) {
			t.Errorf("%s: got %s, want %s", id, asJSON(properties), want)
		}
	}
	outputs, err := b.Outputs(made)
	if err != nil {
		t.Fatal(err)
	}
	want := []Output{
		{"Arn", "arn:role", "the role's", "Stack-arn"},
		{"Code", "YmlwbGFuZQ==", "", ""},
		{"Sub", "union-ai-admin ${Literal} p AROA1 $amazonaws.com", "", ""},
		{"Truth", "true", "", ""},
	}
	if !slices.Equal(outputs, want) {
		t.Errorf("got %q, want %q", outputs, want)
	}
	early, err := b.Properties("Role", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := asJSON(early["ManagedPolicyArns"]); got != `["`+Unknown+`"]` {
		t.Errorf("before the policy is made: got %s, want it unknown", got)
	}
}

func TestJSONAndYAMLAreTheSameTemplate(t *testing.T) {
	t.Parallel()
	document, err := readDocument(functions)
	if err != nil {
		t.Fatal(err)
	}
	inYAML, inJSON := mustBind(t, functions, nil), mustBind(t, asJSON(document), nil)
	for _, one := range inYAML.Resources() {
		a, err := inYAML.Properties(one.LogicalID, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := inJSON.Properties(one.LogicalID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if asJSON(a) != asJSON(b) {
			t.Errorf("got %s from JSON, want %s", asJSON(b), asJSON(a))
		}
	}
}

func TestATagOfTheStackReachesWhatCanHaveTags(t *testing.T) {
	t.Parallel()
	template, err := Parse(functions)
	if err != nil {
		t.Fatal(err)
	}
	with := env
	with.Tags = []Tag{{"region", "of the stack"}, {"team", "data"}}
	b, err := template.Bind(nil, with)
	if err != nil {
		t.Fatal(err)
	}
	role, err := b.Properties("Role", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := asJSON(role["Tags"]), `[{"Key":"region","Value":"frankfurt"},{"Key":"team","Value":"data"}]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	policy, err := b.Properties("Policy", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, there := policy["Tags"]; there {
		t.Errorf("got tags on a managed policy, want none")
	}
}

func TestSummaryTellsWhatATemplateWants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body       string
		capability string
		reason     string
	}{
		"a role with a name":    {functions, "CAPABILITY_NAMED_IAM", "The following resource(s) require capabilities: [AWS::IAM::ManagedPolicy, AWS::IAM::Policy, AWS::IAM::Role]"},
		"a role without a name": {"Resources: {R: {Type: 'AWS::IAM::Role'}}", "CAPABILITY_IAM", "The following resource(s) require capabilities: [AWS::IAM::Role]"},
		"nothing of IAM":        {handle, "", ""},
	} {
		t.Run("it tells of "+name, func(t *testing.T) {
			t.Parallel()
			template, err := Parse(c.body)
			if err != nil {
				t.Fatal(err)
			}
			s := template.Summary()
			if got := strings.Join(s.Capabilities, ","); got != c.capability || s.CapabilitiesReason != c.reason {
				t.Errorf("got %q, %q, want %q, %q", got, s.CapabilitiesReason, c.capability, c.reason)
			}
		})
	}
	template, err := Parse(functions)
	if err != nil {
		t.Fatal(err)
	}
	s := template.Summary()
	if want := []string{"AWS::IAM::ManagedPolicy", "AWS::IAM::Policy", "AWS::IAM::Role"}; !slices.Equal(s.ResourceTypes, want) {
		t.Errorf("got types %v, want %v", s.ResourceTypes, want)
	}
	if s.Metadata != `{"Biplane":{"Component":"access"}}` || s.Description != "Everything at once" || s.Version != "2010-09-09" || len(s.Parameters) != 4 {
		t.Errorf("got %+v", s)
	}
}

// FuzzParse holds that no text makes the engine panic, and that what it accepts
// can be bound or is refused as AWS refuses.
func FuzzParse(f *testing.F) {
	f.Add(functions)
	f.Add(handle + "Conditions: {A: !Not [!Condition A]}")
	f.Add(`{"Resources": {"R": {"Type": "AWS::IAM::Role", "Properties": {"Path": {"Fn::Sub": ["${a}", {"a": {"Fn::If": ["b", 1, 2]}}]}}}}}`)
	f.Add("Resources: !If [a, b, c]\nOutputs: {A: {Value: {Ref: AWS::NoValue}}}")
	f.Fuzz(func(t *testing.T, body string) {
		template, err := Parse(body)
		if err != nil {
			message(t, err)
			return
		}
		template.Summary()
		given := map[string]string{}
		for _, p := range template.Parameters {
			if p.Default == nil {
				given[p.Name] = "1"
			}
		}
		b, err := template.Bind(given, env)
		if err != nil {
			message(t, err)
			return
		}
		made := map[string]Physical{}
		for _, one := range b.Resources() {
			properties, err := b.Properties(one.LogicalID, made)
			if err != nil {
				message(t, err)
				return
			}
			asJSON(properties)
			k, _ := kindOf(one.Type)
			_ = k.check(&request{logicalID: one.LogicalID, typ: one.Type, properties: properties})
			made[one.LogicalID] = Physical{ID: "id", Attributes: map[string]string{"Arn": "arn"}}
		}
		if _, err := b.Outputs(made); err != nil {
			message(t, err)
		}
	})
}
