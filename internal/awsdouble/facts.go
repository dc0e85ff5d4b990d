package awsdouble

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/cloudformation"
	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsidentity"
)

// world looks things up in moto and in the identity service, past all decisions.
type world struct {
	moto     *moto
	identity *insider
	buckets  buckets
	eks      *eks.Service
	stacks   *cloudformation.Service
	lambdas  *lambdas
	backed   *backed // nil without a sandbox
}

// A want is one question to moto.
type want struct {
	service   string // as signatures name it
	operation string
	target    string   // of the JSON protocol: what stands before the operation
	form      []string // of the Query protocol: names and values
	path      string   // of a REST protocol
	json      map[string]any
}

// ask puts a question to moto and reads the answer. What is not there, and all
// that moto will not tell, is an empty answer.
func (w *world) ask(ctx context.Context, c *call, q want) (*node, error) {
	text, err := w.raw(ctx, c.Account, c.Region, q)
	if err != nil {
		return nil, err
	}
	if q.path != "" || q.target != "" {
		return fromJSON(text)
	}
	return fromMoto(text)
}

// raw is ask before the answer is read.
func (w *world) raw(ctx context.Context, account, region string, q want) ([]byte, error) {
	status, text, err := w.send(ctx, account, region, q)
	if errors.Is(err, ErrNoMoto) || status >= 400 {
		return nil, nil // without moto nothing exists, and nothing will be performed
	}
	return text, err
}

// do has moto do something that nobody decides, because a service does it by
// itself. What moto refuses is a *motoRefusal.
func (w *world) do(ctx context.Context, account, region string, q want) (*node, error) {
	status, text, err := w.send(ctx, account, region, q)
	if err != nil {
		return nil, err
	}
	if status >= 400 {
		refused := &motoRefusal{operation: q.operation, status: status, text: string(text[:min(len(text), 500)])}
		if answer, err := fromXML(text); err == nil {
			refused.code = answer.one("Errors.Error.Code")
		}
		return nil, refused
	}
	if q.target != "" || q.path != "" {
		return fromJSON(text)
	}
	return fromMoto(text)
}

// A motoRefusal is what moto says to a call of the double's own.
type motoRefusal struct {
	operation, code, text string
	status                int
}

func (m *motoRefusal) Error() string {
	return fmt.Sprintf("moto answers %s with status %d: %s", m.operation, m.status, m.text)
}

// send puts a question to moto, of any kind.
func (w *world) send(ctx context.Context, account, region string, q want) (status int, text []byte, err error) {
	if err := w.moto.ready(); err != nil {
		return 0, nil, err
	}
	method, path, kind, body := http.MethodPost, "/", "application/x-www-form-urlencoded", []byte(nil)
	switch {
	case q.path != "":
		method, path, kind = http.MethodGet, q.path, ""
	case q.target != "":
		kind = "application/x-amz-json-1.1"
		var err error
		if body, err = json.Marshal(q.json); err != nil {
			return 0, nil, fmt.Errorf("asking moto: %w", err)
		}
	default:
		form := url.Values{"Action": {q.operation}}
		for i := 0; i+1 < len(q.form); i += 2 {
			form.Set(q.form[i], forMoto(q.form[i+1]))
		}
		body = []byte(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+q.service+"."+region+".amazonaws.com"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("asking moto: %w", err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if q.target != "" {
		r.Header.Set("X-Amz-Target", q.target+"."+q.operation)
	}
	signForMoto(r, account, region, q.service)
	answer, err := w.moto.transport.RoundTrip(r)
	if err != nil {
		return 0, nil, fmt.Errorf("asking moto for %s of %s: %w", q.operation, q.service, err)
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("asking moto for %s of %s: %w", q.operation, q.service, err)
	}
	return answer.StatusCode, text, nil
}

// signForMoto gives a request the form of a signed one: moto reads the service
// and the region from it, and checks nothing. The account goes in a header of
// moto's own.
func signForMoto(r *http.Request, account, region, service string) {
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=double/20000101/"+region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=none")
	r.Header.Set("X-Moto-Account-Id", account)
	r.Header.Del("X-Amz-Security-Token")
}

func (w *world) ec2(ctx context.Context, c *call, operation string, parameters ...string) (*node, error) {
	return w.ask(ctx, c, want{service: "ec2", operation: operation, form: parameters})
}

func (w *world) secret(ctx context.Context, c *call, id string) (string, error) {
	if id == "" || strings.HasPrefix(id, "arn:") {
		return id, nil
	}
	answer, err := w.ask(ctx, c, want{service: "secretsmanager", operation: "DescribeSecret", target: "secretsmanager", json: map[string]any{"SecretId": id}})
	if err != nil {
		return "", err
	}
	return answer.one("ARN"), nil
}

func (w *world) kmsKey(ctx context.Context, c *call, id string) (string, error) {
	if strings.HasPrefix(id, "arn:") && !strings.Contains(id, ":alias/") {
		return id, nil
	}
	if !strings.Contains(id, "alias/") {
		return "arn:" + c.Partition + ":kms:" + c.Region + ":" + c.Account + ":key/" + id, nil
	}
	answer, err := w.ask(ctx, c, want{service: "kms", operation: "DescribeKey", target: "TrentService", json: map[string]any{"KeyId": id}})
	if err != nil {
		return "", err
	}
	return answer.one("KeyMetadata.Arn"), nil
}

func (w *world) eksARN(c *call, kind, cluster, name string) string {
	return w.eks.ARN(c.where(), kind, cluster, name)
}

func (w *world) stackARN(c *call, stack, changeSet string) string {
	return w.stacks.ARN(cloudformation.Where{Partition: c.Partition, Account: c.Account, Region: c.Region}, stack, changeSet)
}

// tags looks up the tags of a resource, by the service that its ARN names.
func (w *world) tags(ctx context.Context, c *call, arn string) (map[string]string, error) {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[4] != "" && f[4] != c.Account {
		return nil, nil // another account's tags are not this caller's to see
	}
	name := base(f[5])
	var q want
	list := "Tags"
	switch f[2] {
	case "iam":
		if role, ok := strings.CutPrefix(f[5], "role/"); ok {
			return w.identity.roleTags(c.Account, base(role)), nil
		}
		return nil, nil
	case "ec2":
		q = want{service: "ec2", operation: "DescribeTags", form: []string{"Filter.1.Name", "resource-id", "Filter.1.Value.1", name}}
		list = "tagSet"
	case "eks":
		return w.eks.Tags(c.where(), arn), nil
	case "cloudformation":
		return w.stacks.Tags(arn), nil
	case "lambda":
		return w.lambdas.tags(arn), nil
	case "kms":
		if !strings.HasPrefix(f[5], "key/") {
			return nil, nil
		}
		q = want{service: "kms", operation: "ListResourceTags", target: "TrentService", json: map[string]any{"KeyId": name}}
	case "elasticloadbalancing":
		q = want{service: f[2], operation: "DescribeTags", form: []string{"Version", "2015-12-01", "ResourceArns.member.1", arn}}
		list = "DescribeTagsResult.TagDescriptions.member.Tags"
	case "autoscaling":
		q = want{service: f[2], operation: "DescribeTags", form: []string{"Version", "2011-01-01",
			"Filters.member.1.Name", "auto-scaling-group", "Filters.member.1.Values.member.1", name}}
		list = "DescribeTagsResult.Tags"
	case "logs":
		group, _, _ := strings.Cut(arn, ":log-stream:")
		q = want{service: f[2], operation: "ListTagsForResource", target: "Logs_20140328", json: map[string]any{"resourceArn": group}}
		list = "tags"
	case "sqs":
		q = want{service: f[2], operation: "ListQueueTags", target: "AmazonSQS", json: map[string]any{"QueueUrl": "http://sqs/" + f[4] + "/" + name}}
	case "events":
		q = want{service: f[2], operation: "ListTagsForResource", target: "AWSEvents", json: map[string]any{"ResourceARN": arn}}
	case "ecr":
		q = want{service: f[2], operation: "ListTagsForResource", target: "AmazonEC2ContainerRegistry_V20150921", json: map[string]any{"resourceArn": arn}}
		list = "tags"
	case "ecs":
		q = want{service: f[2], operation: "ListTagsForResource", target: "AmazonEC2ContainerServiceV20141113", json: map[string]any{"resourceArn": arn}}
		list = "tags"
	case "acm":
		q = want{service: f[2], operation: "ListTagsForCertificate", target: "CertificateManager", json: map[string]any{"CertificateArn": arn}}
	case "dynamodb":
		q = want{service: f[2], operation: "ListTagsOfResource", target: "DynamoDB_20120810", json: map[string]any{"ResourceArn": arn}}
	case "ssm":
		q = want{service: f[2], operation: "ListTagsForResource", target: "AmazonSSM", json: map[string]any{
			"ResourceType": "Parameter", "ResourceId": strings.TrimPrefix(f[5], "parameter")}}
		list = "TagList"
	case "rds", "elasticache":
		version := map[string]string{"rds": "2014-10-31", "elasticache": "2015-02-02"}[f[2]]
		q = want{service: f[2], operation: "ListTagsForResource", form: []string{"Version", version, "ResourceName", arn}}
		list = "ListTagsForResourceResult.TagList"
	case "secretsmanager":
		q = want{service: f[2], operation: "DescribeSecret", target: "secretsmanager", json: map[string]any{"SecretId": arn}}
	case "sns":
		q = want{service: f[2], operation: "ListTagsForResource", form: []string{"Version", "2010-03-31", "ResourceArn", arn}}
		list = "ListTagsForResourceResult.Tags"
	default:
		return nil, nil
	}
	answer, err := w.ask(ctx, c, q)
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, n := range answer.at(list) {
		collectTags(n, tags)
	}
	return tags, nil
}

func (w *world) roleExists(account, name string) bool {
	return w.identity.has(account, "GetRole", "RoleName", name)
}

func (w *world) profileRoles(account, profile string) []string {
	answer, _ := w.identity.ask(account, "GetInstanceProfile", "InstanceProfileName", profile)
	return answer.all("GetInstanceProfileResult.InstanceProfile.Roles.member.Arn")
}

// An insider asks the identity service as the administrators of the accounts
// that the double made, without a connection.
type insider struct {
	service *awsidentity.Service
	keys    map[string]awsidentity.Credentials // by account
	region  string                             // of IAM
	now     func() time.Time
}

// ask returns an empty answer for what is refused or not there.
func (i *insider) ask(account, operation string, parameters ...string) (*node, bool) {
	key, ok := i.keys[account]
	if !ok {
		return &node{}, false
	}
	form := url.Values{"Action": {operation}, "Version": {"2010-05-08"}}
	for n := 0; n+1 < len(parameters); n += 2 {
		form.Set(parameters[n], parameters[n+1])
	}
	body := form.Encode()
	r, err := http.NewRequest(http.MethodPost, "http://iam.amazonaws.com/", strings.NewReader(body))
	if err != nil {
		return &node{}, false
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := signIAM(r, body, i.region, key, i.now()); err != nil {
		return &node{}, false
	}
	w := &recorder{header: http.Header{}}
	i.service.ServeHTTP(w, r)
	if w.response().StatusCode != http.StatusOK {
		return &node{}, false
	}
	answer, err := fromXML(w.body.Bytes())
	if err != nil {
		return &node{}, false
	}
	return answer, true
}

func (i *insider) has(account, operation string, parameters ...string) bool {
	_, ok := i.ask(account, operation, parameters...)
	return ok
}

func (i *insider) roleTags(account, role string) map[string]string {
	answer, _ := i.ask(account, "ListRoleTags", "RoleName", role)
	tags := map[string]string{}
	for _, n := range answer.at("ListRoleTagsResult.Tags") {
		collectTags(n, tags)
	}
	return tags
}
