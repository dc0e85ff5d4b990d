package awsdouble

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"biplane.dev/biplane/internal/awsdouble/cloudformation"
	"biplane.dev/biplane/internal/usererr"
)

// lambdaCall is a call that a stack makes of Lambda, allowed by the policies of whoever
// it acts for. Its error is in the words of a resource's event.
func (w stackWorld) lambdaCall(ctx context.Context, who cloudformation.Caller, at cloudformation.Env, operation string, input map[string]any) (*call, error) {
	text, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	params, err := fromJSON(text)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, nil)
	if err != nil {
		return nil, err
	}
	c := &call{Service: "lambda", signing: "lambda", Operation: operation, protocol: restJSONProtocol, Account: who.Account, Partition: at.Partition, Region: at.Region,
		principal: who.ARN, params: params, body: text, request: r}
	if _, _, refused := w.faults.strike(c); refused != nil {
		return nil, inEvent(refused)
	}
	caller, err := w.identity.OnBehalf(who.AccessKeyID, cloudFormationService)
	if err != nil {
		return nil, inEvent(err)
	}
	questions, err := w.mapping.questions(ctx, c, w.world)
	if err != nil {
		return nil, err
	}
	if err := w.decide(ctx, c, caller, questions); err != nil {
		return nil, inEvent(err)
	}
	return c, nil
}

// inEvent words a refusal of Lambda as the event of a resource does.
func inEvent(err error) error {
	refused, internal := asRefusal(err)
	if internal {
		return err
	}
	return &cloudformation.Error{Code: refused.Code, Status: refused.Status,
		Message: fmt.Sprintf("%s (Service: Lambda, Status Code: %d, Request ID: %s)", refused.Message, refused.Status, newRequestID())}
}

// Lambda performs a call of Lambda.
func (w stackWorld) Lambda(ctx context.Context, who cloudformation.Caller, at cloudformation.Env, operation string, input map[string]any) (map[string]any, error) {
	c, err := w.lambdaCall(ctx, who, at, operation, input)
	if err != nil {
		return nil, err
	}
	answer, err := w.lambda(ctx, c)
	if err != nil {
		return nil, inEvent(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	var out map[string]any
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	return out, d.Decode(&out)
}

// Ask has a function handle the event of a custom resource. What has not answered when
// its process ends will not; AWS waits for an hour then.
func (w stackWorld) Ask(ctx context.Context, who cloudformation.Caller, at cloudformation.Env, function string, event map[string]any) ([]byte, error) {
	c, err := w.lambdaCall(ctx, who, at, "Invoke", map[string]any{"FunctionName": function})
	if err != nil {
		return nil, err
	}
	object := url.PathEscape(fmt.Sprintf("%s|%s|%s", at.StackID, event["LogicalResourceId"], event["RequestId"]))
	responseURL, answer, forget := w.world.lambdas.expect(at.Region, object)
	defer forget()
	event["ResponseURL"] = responseURL
	text, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	ended, err := w.world.lambdas.invoke(c.place(), function, text)
	if err != nil {
		return nil, inEvent(err)
	}
	select {
	case text := <-answer:
		return text, nil
	case <-ended:
	}
	select {
	case text := <-answer: // just before its end
		return text, nil
	default:
		w.log.Warn("a custom resource was not answered", "function", function, "error", usererr.Chain(cloudformation.ErrNoAnswer))
		return nil, cloudformation.ErrNoAnswer
	}
}

// invoke is start for a function by its ARN.
func (l *lambdas) invoke(at place, arn string, event []byte) (<-chan struct{}, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	f := l.find(at, arn)
	if f == nil {
		return nil, lambdaError(http.StatusNotFound, "ResourceNotFoundException", "Function not found: %s", arn)
	}
	return l.start(f, event)
}
