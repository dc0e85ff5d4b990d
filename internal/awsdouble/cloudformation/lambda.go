package cloudformation

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

var functionKind = kind{
	properties: map[string]form{
		"Architectures": listForm, "Code": documentForm, "Description": textForm, "Environment": documentForm, "FunctionName": textForm, "Handler": textForm,
		"MemorySize": numberForm, "Role": textForm, "Runtime": textForm, "Tags": listForm, "Timeout": numberForm,
	},
	required: []string{"Code", "Role"}, replaced: []string{"FunctionName"}, named: "FunctionName", attributes: []string{"Arn"}, tagged: true, handler: lambdaFunction{},
}

// lambdaFunction is AWS::Lambda::Function, whose code is in the template. Ref gives its name.
type lambdaFunction struct{}

// codeOf is the code as Lambda takes it: the text is a file of its own.
func codeOf(r *request) (string, error) {
	code, _ := r.properties["Code"].(map[string]any)
	source, given := scalarText(code["ZipFile"])
	if !given {
		return "", invalid("The AWS double takes the code of functions from the template alone: give Code.ZipFile.")
	}
	var b bytes.Buffer
	archive := zip.NewWriter(&b)
	file, err := archive.Create("index.py")
	if err == nil {
		_, err = file.Write([]byte(source))
	}
	if err := errors.Join(err, archive.Close()); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// configuration are the properties that Lambda calls so.
func configuration(properties map[string]any) map[string]any {
	in := map[string]any{}
	for _, name := range []string{"Description", "Environment", "Handler", "Role", "Runtime"} {
		if value, given := properties[name]; given {
			in[name] = value
		}
	}
	for _, name := range []string{"MemorySize", "Timeout"} {
		if value, given := scalarText(properties[name]); given {
			in[name] = json.Number(value)
		}
	}
	return in
}

// roleDelay is how often, and after how long, Lambda is asked again when it does not see
// a role yet that was just made.
const (
	roleTries = 50
	roleDelay = 100 * time.Millisecond
)

func (lambdaFunction) create(ctx context.Context, r *request) (Physical, error) {
	code, err := codeOf(r)
	if err != nil {
		return Physical{}, err
	}
	name := r.name("FunctionName", 64)
	in := configuration(r.properties)
	in["FunctionName"], in["Code"] = name, map[string]any{"ZipFile": code}
	if tags := tagMap(r.properties); len(tags) > 0 {
		in["Tags"] = tags
	}
	var made map[string]any
	for try := range roleTries {
		if made, err = r.cloud.Lambda(ctx, r.caller, r.env, "CreateFunction", in); err == nil || !strings.Contains(err.Error(), "cannot be assumed by Lambda") || try == roleTries-1 {
			break
		}
		time.Sleep(roleDelay)
	}
	if err != nil {
		return Physical{}, err
	}
	arn, _ := made["FunctionArn"].(string)
	return Physical{ID: name, Attributes: map[string]string{"Arn": arn}}, nil
}

func (lambdaFunction) update(ctx context.Context, r *request) (Physical, error) {
	ask := func(operation string, in map[string]any) error {
		_, err := r.cloud.Lambda(ctx, r.caller, r.env, operation, in)
		return err
	}
	name := r.physical.ID
	if r.differs("Code") {
		code, err := codeOf(r)
		if err != nil {
			return r.physical, err
		}
		if err := ask("UpdateFunctionCode", map[string]any{"FunctionName": name, "ZipFile": code}); err != nil {
			return r.physical, err
		}
	}
	if in := configuration(r.properties); !same(configuration(r.previous), in) {
		in["FunctionName"] = name
		if err := ask("UpdateFunctionConfiguration", in); err != nil {
			return r.physical, err
		}
	}
	before, after, arn := tagMap(r.previous), tagMap(r.properties), r.physical.Attributes["Arn"]
	removed := []any{}
	for _, key := range sortedKeys(before) {
		if _, stays := after[key]; !stays {
			removed = append(removed, key)
		}
	}
	if len(removed) > 0 {
		if err := ask("UntagResource", map[string]any{"Resource": arn, "tagKeys": removed}); err != nil {
			return r.physical, err
		}
	}
	if len(after) > 0 && !same(before, after) {
		return r.physical, ask("TagResource", map[string]any{"Resource": arn, "Tags": after})
	}
	return r.physical, nil
}

func (lambdaFunction) delete(ctx context.Context, r *request) error {
	_, err := r.cloud.Lambda(ctx, r.caller, r.env, "DeleteFunction", map[string]any{"FunctionName": r.physical.ID})
	if isAbsent(err) {
		return nil
	}
	return err
}

func (lambdaFunction) read(ctx context.Context, r *request) (map[string]any, error) {
	answer, err := r.cloud.Lambda(ctx, r.caller, r.env, "GetFunction", map[string]any{"FunctionName": r.physical.ID})
	if isAbsent(err) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	there, _ := answer["Configuration"].(map[string]any)
	actual := map[string]any{}
	for name, value := range r.properties {
		switch name {
		case "Code", "Tags": // code is not compared (CloudFormation User Guide, drift)
			actual[name] = value
		default:
			actual[name] = there[name]
		}
	}
	tags, _ := answer["Tags"].(map[string]any)
	if list := listOfTags(tags); len(list) > 0 || r.properties["Tags"] != nil {
		actual["Tags"] = list
	}
	return actual, nil
}

func isAbsent(err error) bool {
	var said *Error
	return errors.As(err, &said) && said.Code == "ResourceNotFoundException"
}

// tagMap are the tags of properties, as Lambda takes them.
func tagMap(properties map[string]any) map[string]any {
	tags := map[string]any{}
	list, _ := properties["Tags"].([]any)
	for _, one := range list {
		tag, _ := one.(map[string]any)
		key, _ := scalarText(tag["Key"])
		value, _ := scalarText(tag["Value"])
		tags[key] = value
	}
	return tags
}

func listOfTags(tags map[string]any) []any {
	list := []any{}
	for _, key := range sortedKeys(tags) {
		list = append(list, map[string]any{"Key": key, "Value": tags[key]})
	}
	return list
}

var customKind = kind{handler: custom{}}

// custom is a resource that a function makes: it is told by an event, and answers by a
// PUT to the URL in it (CloudFormation User Guide, Custom resources).
type custom struct{}

func (c custom) create(ctx context.Context, r *request) (Physical, error) {
	return c.ask(ctx, r, "Create", map[string]any{})
}

func (c custom) update(ctx context.Context, r *request) (Physical, error) {
	return c.ask(ctx, r, "Update", map[string]any{"PhysicalResourceId": r.physical.ID, "OldResourceProperties": asTexts(r.previous)})
}

func (c custom) delete(ctx context.Context, r *request) error {
	_, err := c.ask(ctx, r, "Delete", map[string]any{"PhysicalResourceId": r.physical.ID})
	return err
}

func (custom) read(context.Context, *request) (map[string]any, error) { return nil, errNoDrift }

// ask sends an event and reads the answer.
func (custom) ask(ctx context.Context, r *request, kind string, event map[string]any) (Physical, error) {
	token, _ := scalarText(r.properties["ServiceToken"])
	if !strings.Contains(token, ":lambda:") {
		return r.physical, &StatusReason{Text: fmt.Sprintf("Invalid service token %q: the AWS double takes the ARN of a function.", token)}
	}
	id := newID()
	event["RequestType"], event["StackId"], event["RequestId"] = kind, r.env.StackID, id
	event["LogicalResourceId"], event["ResourceType"], event["ResourceProperties"] = r.logicalID, r.typ, asTexts(r.properties)
	text, err := r.cloud.Ask(ctx, r.caller, r.env, token, event)
	if errors.Is(err, ErrNoAnswer) {
		return r.physical, &StatusReason{Text: fmt.Sprintf("CloudFormation did not receive a response from your Custom Resource. Please check your logs for requestId [%s]. If you are using the Python cfn-response module, you may need to update your Lambda function code so that CloudFormation can attach the updated version.", id)}
	}
	if err != nil {
		var said *Error
		if errors.As(err, &said) {
			return r.physical, &StatusReason{said.Message, err}
		}
		return r.physical, err
	}
	invalidAnswer := func(format string, args ...any) (Physical, error) {
		return r.physical, &StatusReason{Text: "Invalid response from custom resource: " + fmt.Sprintf(format, args...) + " (RequestId: " + id + ")"}
	}
	var answer struct {
		Status, Reason, PhysicalResourceId string
		StackId, RequestId                 string
		LogicalResourceId                  string
		Data                               map[string]any
	}
	switch err := json.Unmarshal(text, &answer); {
	case len(text) > maxCustomAnswer:
		return r.physical, &StatusReason{Text: "Response object is too long."}
	case err != nil:
		return invalidAnswer("it is not a JSON object")
	case answer.StackId != r.env.StackID || answer.RequestId != id || answer.LogicalResourceId != r.logicalID:
		return invalidAnswer("StackId, RequestId or LogicalResourceId is not that of the request")
	case answer.Status != "SUCCESS" && answer.Status != "FAILED":
		return invalidAnswer("Status must be SUCCESS or FAILED")
	case answer.PhysicalResourceId == "" && answer.Status == "SUCCESS":
		return invalidAnswer("it has no PhysicalResourceId")
	}
	made := Physical{ID: answer.PhysicalResourceId, Attributes: map[string]string{}}
	for name, value := range answer.Data {
		text, plain := scalarText(value)
		if !plain {
			text = asJSON(value)
		}
		made.Attributes[name] = text
	}
	if answer.Status == "FAILED" {
		return made, &StatusReason{Text: fmt.Sprintf("Received response status [FAILED] from custom resource. Message returned: %s (RequestId: %s)", answer.Reason, id)}
	}
	return made, nil
}

// maxCustomAnswer is how long an answer may be.
const maxCustomAnswer = 4096

// asTexts is a value with every scalar in it as a text, as functions get them.
func asTexts(value any) any {
	switch v := value.(type) {
	case map[string]any:
		all := map[string]any{}
		for key, one := range v {
			all[key] = asTexts(one)
		}
		return all
	case []any:
		all := []any{}
		for _, one := range v {
			all = append(all, asTexts(one))
		}
		return all
	}
	text, _ := scalarText(value)
	return text
}
