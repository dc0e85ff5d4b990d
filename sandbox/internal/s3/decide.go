package s3

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/iampolicy"
)

const bucketARN = "arn:aws:s3:::"

// EvaluatePolicy is versitygw's question whether a caller may do every action on
// each resource. What comes back is final: the bucket's policy is in it too.
func (f *front) EvaluatePolicy(access, token string, actions []auth.Action, resources []string, condition map[string][]string) (auth.PolicyEvaluation, error) {
	var out auth.PolicyEvaluation
	request, err := f.request(condition)
	if err != nil {
		return out, err
	}
	request.anonymous = false // a form that was signed
	request.caller, err = f.callers.caller(credential{access, token})
	if errors.Is(err, auth.ErrNoSuchUser) {
		return out, s3err.GetInvalidAccessKeyIdErr(access) // since the signature was checked
	}
	if err != nil {
		return out, err
	}
	answers := make([][]int, len(resources))
	for i, resource := range resources {
		for _, action := range actions {
			q := f.question(request, string(action), resource)
			decision, err := f.decide(request, q)
			if err != nil {
				return out, err
			}
			if decision != iampolicy.Allowed && len(resources) == 1 {
				return out, f.denied(request, q)
			}
			answers[i] = append(answers[i], inVersity(decision))
		}
	}
	if err := request.partNumber(); err != nil {
		return out, err
	}
	request.decided = true
	out.PrincipalArn = request.caller.holder.ARN
	out.Decisions = likeIts(out.Decisions, answers)
	return out, nil
}

// versitygw's three answers have a type that it does not export, which can be
// inferred and so converted to, but not named. The numbers are those of its
// version that go.mod has, and a test holds them against it.
const (
	versityNoMatch = 0
	versityAllow   = 1
	versityDeny    = 2
)

func likeIts[T ~int](_ [][]T, answers [][]int) [][]T {
	out := make([][]T, len(answers))
	for i, row := range answers {
		for _, answer := range row {
			out[i] = append(out[i], T(answer))
		}
	}
	return out
}

func inVersity(d iampolicy.Decision) int {
	switch d {
	case iampolicy.Allowed:
		return versityAllow
	case iampolicy.ExplicitDeny:
		return versityDeny
	}
	return versityNoMatch
}

// partNumber refuses a part that no upload has before its source is looked for,
// as S3 does; versitygw does so for its own administrator alone.
func (one *facts) partNumber() error {
	if one.source == "" || !one.has("uploadId") {
		return nil
	}
	text := string(one.query.Peek("partNumber"))
	if number, err := strconv.Atoi(text); err != nil || number < 1 || number > maxParts {
		return s3err.GetInvalidArgumentErr(s3err.InvalidArgPartNumber, text)
	}
	return nil
}

// question is one action on one resource, in AWS's terms where versitygw's are
// coarser.
func (f *front) question(request *facts, action, resource string) iampolicy.Request {
	if request.form != nil && resource == bucketARN+request.bucket {
		// versitygw asks for the whole bucket where a form names the key.
		resource += "/" + request.form()
	}
	if action == "s3:GetObject" && request.version != "" && strings.HasPrefix(resource, bucketARN+request.source) {
		// A copy of a version: versitygw has it in the resource's name.
		action, resource = "s3:GetObjectVersion", bucketARN+request.source
	}
	return iampolicy.Request{Action: action, Resource: resource, ResourceAccount: f.account, Context: request.keys}
}

// decide asks every policy that has a say.
func (f *front) decide(request *facts, q iampolicy.Request) (iampolicy.Decision, error) {
	e, q, err := f.prepared(request, q)
	if err != nil {
		return iampolicy.ExplicitDeny, err
	}
	return e.Decide(&q), nil
}

// prepared is the evaluator of a caller and a bucket, and the question with all
// that it depends on.
func (f *front) prepared(request *facts, q iampolicy.Request) (*iampolicy.Evaluator, iampolicy.Request, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(q.Resource, bucketARN), "/")
	policy, err := f.policyOf(request, bucket)
	if err != nil {
		return nil, q, err
	}
	if request.anonymous {
		e, err := f.public.evaluator(policy)
		q.Principal = iampolicy.Principal{Type: iampolicy.Anonymous}
		q.Context = withTime(q.Context, f.clock())
		q.Context.Set("aws:PrincipalType", "Anonymous")
		return e, q, err
	}
	e, err := request.caller.evaluator(policy)
	if err != nil {
		return nil, q, err
	}
	request.caller.holder.Complete(&q, f.clock())
	if key != "" && (mentionsTags(policy) || request.caller.tags) {
		// Reading an object's tags costs as much as the rest of a small request.
		tags, err := f.store.GetObjectTagging(context.Background(), bucket, key, string(request.query.Peek("versionId")))
		if err == nil {
			for name, value := range tags {
				q.Context.Set("s3:ExistingObjectTag/"+name, value)
			}
		}
	}
	return e, q, nil
}

// policyOf is the text of a bucket's policy, "" where there is none.
func (f *front) policyOf(request *facts, bucket string) (string, error) {
	if bucket == "" || bucket == "*" {
		return "", nil
	}
	if text, ok := request.policies[bucket]; ok {
		return text, nil
	}
	text, err := f.store.GetBucketPolicy(context.Background(), bucket)
	if isCode(err, "NoSuchBucketPolicy") || isCode(err, "NoSuchBucket") {
		text, err = nil, nil
	}
	if err != nil {
		return "", err
	}
	request.policies[bucket] = string(text)
	return string(text), nil
}

// denied words a refusal as S3 does.
func (f *front) denied(request *facts, q iampolicy.Request) error {
	e, full, err := f.prepared(request, q)
	if err != nil {
		return err
	}
	why := e.Explain(&full)
	full.Resource = `"` + q.Resource + `"`
	return s3err.APIError{
		Code: "AccessDenied", HTTPStatusCode: http.StatusForbidden,
		Description: awsidentity.Refusal(request.caller.holder.ARN, &full, why),
	}
}

// isCode says that err is versitygw's of that code.
func isCode(err error, code string) bool {
	var known s3err.S3Error
	return errors.As(err, &known) && known.BaseError().Code == code
}
