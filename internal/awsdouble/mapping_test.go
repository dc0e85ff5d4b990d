package awsdouble

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
)

// noFacts is an account in which nothing exists yet.
type noFacts struct{}

func (noFacts) tags(context.Context, *call, string) (map[string]string, error) { return nil, nil }
func (noFacts) secret(context.Context, *call, string) (string, error)          { return "", nil }
func (noFacts) kmsKey(_ context.Context, c *call, id string) (string, error) {
	if strings.HasPrefix(id, "arn:") {
		return id, nil
	}
	return "arn:aws:kms:" + c.Region + ":" + c.Account + ":key/1-2", nil
}
func (noFacts) ec2(context.Context, *call, string, ...string) (*node, error) { return &node{}, nil }
func (noFacts) eksARN(*call, string, string, string) string                  { return "" }
func (noFacts) stackARN(*call, string, string) string                        { return "" }
func (noFacts) roleExists(string, string) bool                               { return false }
func (noFacts) profileRoles(string, string) []string                         { return nil }

// wire is one call as the AWS CLI makes it, and what it needs; see
// test/python/wire.py.
type wire struct {
	Call      string            `json:"call"`
	Actions   []string          `json:"actions"`
	Resources []string          `json:"resources"`
	Signing   string            `json:"signing"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Headers   map[string]string `json:"headers"`
	Body      string            `json:"body"`
}

func readWire(t *testing.T) []wire {
	t.Helper()
	f, err := os.Open("testdata/wire.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []wire
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one wire
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if len(all) != 311 {
		t.Fatalf("got %d calls, want 311: run test/python/wire.py again", len(all))
	}
	return all
}

// request makes of a wire a request with the form of a signed one.
func (w wire) request() *http.Request {
	body := w.Body
	if strings.Contains(w.Headers["Content-Type"], "cbor") {
		b, _ := base64.StdEncoding.DecodeString(body)
		body = string(b)
	}
	r := httptest.NewRequest(w.Method, "http://127.0.0.1:1"+w.Path, strings.NewReader(body))
	for name, value := range w.Headers {
		r.Header.Set(name, value)
	}
	fakeSignature(r, w.Signing)
	return r
}

func fakeSignature(r *http.Request, service string) {
	r.Header.Set("X-Amz-Date", "20260101T000000Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-central-1/"+service+
		"/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64))
}

// ask maps a request as the double does once it knows the caller.
func ask(t *testing.T, m *mapping, f facts, r *http.Request) (*call, []iampolicy.Request, error) {
	t.Helper()
	c, err := recognise(r, readRoutes(routesTSV))
	if err != nil {
		return c, nil, err
	}
	c.Account = "123456789012"
	if c.protocol == s3Protocol {
		if err := c.readS3Body(); err != nil {
			return c, nil, err
		}
	}
	questions, err := m.questions(t.Context(), c, f)
	return c, questions, err
}

func theMapping(t *testing.T) *mapping {
	t.Helper()
	m, err := readMapping(operationsText, sar.Default())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// kindOf is the service and the kind of thing of an ARN, for those services
// whose ARNs name one.
func kindOf(arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 {
		return arn
	}
	if f[2] == "s3" || f[2] == "sqs" {
		return f[2]
	}
	return f[2] + ":" + f[5][:strings.IndexAny(f[5]+"/", "/:")]
}

// beyondTheTable are the calls that need more than the table of required actions
// says, and why.
var beyondTheTable = map[string]string{
	"eks:CreateCluster":                "the service-linked role is looked for, and made, in the caller's name",
	"eks:CreateNodegroup":              "likewise",
	"elbv2:CreateLoadBalancer":         "likewise",
	"eks:CreatePodIdentityAssociation": "the role is handed to pods.eks.amazonaws.com, so iam:PassRole is needed",
}

// Every call that Biplane's vendor role makes, as the AWS CLI sends it, comes to
// the actions and the kinds of resource that the table of required actions has.
func TestMappingOfEveryVendorCall(t *testing.T) {
	t.Parallel()
	m := theMapping(t)
	decided := 0
	for _, w := range readWire(t) {
		if w.Signing == "iam" || w.Signing == "sts" {
			continue // see TestIdentityDecidesEveryVendorCall
		}
		decided++
		t.Run(w.Call, func(t *testing.T) {
			_, questions, err := ask(t, m, noFacts{}, w.request())
			if err != nil {
				t.Fatal(err)
			}
			var actions, kinds, want []string
			for _, q := range questions {
				actions = append(actions, q.Action)
				kinds = append(kinds, kindOf(q.Resource))
			}
			for _, r := range w.Resources {
				want = append(want, kindOf(r))
			}
			for _, list := range []*[]string{&actions, &kinds, &want, &w.Actions} {
				slices.Sort(*list)
				*list = slices.Compact(*list)
			}
			if reason := beyondTheTable[w.Call]; reason != "" || strings.HasSuffix(w.Call, "(tags)") || strings.HasSuffix(w.Call, "PrivateDns)") {
				// The row lists what this variant needs more than the plain call.
				for _, action := range w.Actions {
					if !slices.Contains(actions, action) {
						t.Errorf("actions: got %v, want %s among them", actions, action)
					}
				}
				for _, kind := range want {
					if !slices.Contains(kinds, kind) {
						t.Errorf("kinds of resource: got %v, want %s among them", kinds, kind)
					}
				}
				return
			}
			if !slices.Equal(actions, w.Actions) {
				t.Errorf("actions: got %v, want %v", actions, w.Actions)
			}
			if slices.Equal(want, []string{"*"}) {
				// Granted on everything; whatever else is asked must be of a whole kind.
				for _, q := range questions {
					if !strings.HasSuffix(q.Resource, "*") {
						t.Errorf("resource: got %s, want *", q.Resource)
					}
				}
				return
			}
			for _, kind := range kinds {
				if !slices.Contains(want, kind) {
					t.Errorf("kinds of resource: got %v, want only %v", kinds, want)
				}
			}
			for _, kind := range want {
				if kind != "*" && !slices.Contains(kinds, kind) {
					t.Errorf("kinds of resource: got %v, want %v", kinds, want)
				}
			}
		})
	}
	t.Logf("%d calls mapped", decided)
}

// someFacts is an account in which some things exist.
type someFacts struct{ noFacts }

func (someFacts) tags(_ context.Context, _ *call, arn string) (map[string]string, error) {
	return map[string]string{"owner": "us"}, nil
}
func (someFacts) ec2(_ context.Context, _ *call, operation string, parameters ...string) (*node, error) {
	answers := map[string]string{
		"DescribeSecurityGroups": `<R><securityGroupInfo><item><groupId>sg-9</groupId><vpcId>vpc-9</vpcId></item></securityGroupInfo></R>`,
		"DescribeRouteTables": `<R><routeTableSet><item><routeTableId>rtb-9</routeTableId><vpcId>vpc-9</vpcId><associationSet><item>
			<subnetId>subnet-9</subnetId></item></associationSet></item></routeTableSet></R>`,
		"DescribeSubnets": `<R><subnetSet><item><subnetId>subnet-9</subnetId><vpcId>vpc-9</vpcId></item></subnetSet></R>`,
	}
	return fromXML([]byte(answers[operation]))
}
func (someFacts) eksARN(_ *call, kind, cluster, name string) string {
	return "arn:aws:eks:eu-central-1:123456789012:" + kind + "/" + cluster + "/" + base(name) + "/1-2-3"
}
func (someFacts) roleExists(string, string) bool { return true }
func (someFacts) profileRoles(string, string) []string {
	return []string{"arn:aws:iam::123456789012:role/in-profile"}
}

// One line for a question: the action, the end of the ARN, the keys that matter.
func line(q iampolicy.Request, keys ...string) string {
	f := strings.SplitN(q.Resource, ":", 6)
	text := q.Action + " " + f[len(f)-1]
	for _, key := range keys {
		if values, ok := q.Context.Get(key); ok {
			text += " " + key + "=" + strings.Join(values, ",")
		}
	}
	return text
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	m := theMapping(t)
	form := func(service string) func(string) *http.Request {
		return func(body string) *http.Request {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			fakeSignature(r, service)
			return r
		}
	}
	rest := func(service, method, path, body string, headers ...string) *http.Request {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		fakeSignature(r, service)
		return r
	}
	target := func(service, target, body string) *http.Request {
		return rest(service, http.MethodPost, "/", body, "X-Amz-Target", target, "Content-Type", "application/x-amz-json-1.1")
	}
	ec2 := form("ec2")
	for name, one := range map[string]struct {
		request *http.Request
		keys    []string
		want    []string
	}{
		"gives request tags to what is made alone": {
			ec2("Action=CreateSubnet&VpcId=vpc-1&TagSpecification.1.ResourceType=subnet&TagSpecification.1.Tag.1.Key=team&TagSpecification.1.Tag.1.Value=data"),
			[]string{"aws:RequestTag/team", "aws:TagKeys", "aws:ResourceTag/owner", "ec2:CreateAction", "ec2:Vpc"},
			[]string{
				"ec2:CreateSubnet subnet/* aws:RequestTag/team=data aws:TagKeys=team",
				"ec2:CreateSubnet vpc/vpc-1 aws:ResourceTag/owner=us",
				"ec2:CreateTags subnet/* aws:RequestTag/team=data aws:TagKeys=team ec2:CreateAction=CreateSubnet",
			},
		},
		"asks for tags on each kind that a launch makes": {
			ec2("Action=RunInstances&ImageId=ami-1&SubnetId=subnet-9&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2&IamInstanceProfile.Name=p" +
				"&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=1" +
				"&TagSpecification.2.ResourceType=volume&TagSpecification.2.Tag.1.Key=b&TagSpecification.2.Tag.1.Value=2"),
			[]string{"aws:TagKeys", "iam:PassedToService"},
			[]string{
				"ec2:RunInstances instance/* aws:TagKeys=a", "ec2:RunInstances image/ami-1", "ec2:RunInstances subnet/subnet-9",
				"ec2:RunInstances security-group/sg-1", "ec2:RunInstances security-group/sg-2", "ec2:RunInstances network-interface/*",
				"ec2:RunInstances volume/* aws:TagKeys=b", "iam:PassRole role/in-profile iam:PassedToService=ec2.amazonaws.com",
				"ec2:CreateTags instance/* aws:TagKeys=a", "ec2:CreateTags volume/* aws:TagKeys=b",
			},
		},
		"knows what kind of instance is made":    {ec2("Action=RunInstances&ImageId=ami-1&InstanceType=t3.micro"), []string{"ec2:InstanceType"}, []string{"ec2:RunInstances instance/* ec2:InstanceType=t3.micro", "ec2:RunInstances image/ami-1", "ec2:RunInstances subnet/*", "ec2:RunInstances security-group/*", "ec2:RunInstances network-interface/*", "ec2:RunInstances volume/*"}},
		"reads a target with dots before":        {target("cloudtrail", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.ListTrails", "{}"), nil, []string{"cloudtrail:ListTrails *"}},
		"knows the functions of Lambda":          {rest("lambda", "GET", "/2015-03-31/functions", ""), nil, []string{"lambda:ListFunctions *"}},
		"finds a header in a presigned query":    {presignedCopy(), nil, []string{"s3:PutObject b/k", "s3:GetObject other/secret"}},
		"finds a security group by its name":     {ec2("Action=DeleteSecurityGroup&GroupName=g"), nil, []string{"ec2:DeleteSecurityGroup security-group/sg-9"}},
		"knows the VPC that a subnet is in":      {ec2("Action=DeleteSubnet&SubnetId=subnet-9"), []string{"ec2:Vpc"}, []string{"ec2:DeleteSubnet subnet/subnet-9 ec2:Vpc=arn:aws:ec2:eu-central-1:123456789012:vpc/vpc-9"}},
		"finds what an association is between":   {ec2("Action=DisassociateRouteTable&AssociationId=rtbassoc-1"), nil, []string{"ec2:DisassociateRouteTable route-table/rtb-9", "ec2:DisassociateRouteTable subnet/subnet-9"}},
		"tells kinds by their ids":               {ec2("Action=CreateTags&ResourceId.1=sg-1&ResourceId.2=vpce-svc-1&ResourceId.3=odd-1&Tag.1.Key=k&Tag.1.Value=v"), []string{"aws:TagKeys"}, []string{"ec2:CreateTags security-group/sg-1 aws:TagKeys=k", "ec2:CreateTags vpc-endpoint-service/vpce-svc-1 aws:TagKeys=k", "ec2:CreateTags */odd-1 aws:TagKeys=k"}},
		"asks about an operation without a row":  {ec2("Action=DescribeSpotFleetRequests"), nil, []string{"ec2:DescribeSpotFleetRequests *"}},
		"asks about kinds where a row is absent": {ec2("Action=DeletePlacementGroup&GroupName=x"), nil, []string{"ec2:DeletePlacementGroup *", "ec2:DeletePlacementGroup placement-group/*"}},

		"takes a cluster's name from the path": {rest("eks", "GET", "/clusters/opta-c", ""), []string{"aws:ResourceTag/owner"}, []string{"eks:DescribeCluster cluster/opta-c aws:ResourceTag/owner=us"}},
		"finds a node group's id":              {rest("eks", "DELETE", "/clusters/c/node-groups/n", ""), nil, []string{"eks:DeleteNodegroup nodegroup/c/n/1-2-3"}},
		"finds an access entry's id":           {rest("eks", "GET", "/clusters/c/access-entries/arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fp%2Fx", ""), nil, []string{"eks:DescribeAccessEntry access-entry/c/x/1-2-3"}},
		"takes tags off by key":                {rest("eks", "DELETE", "/tags/arn%3Aaws%3Aeks%3Aeu-central-1%3A123456789012%3Acluster%2Fc?tagKeys=a&tagKeys=b", ""), []string{"aws:TagKeys"}, []string{"eks:UntagResource cluster/c aws:TagKeys=a,b"}},

		"lists a bucket within a prefix":        {rest("s3", "GET", "/b?list-type=2&prefix=a%2F&delimiter=%2F", ""), []string{"s3:prefix", "s3:delimiter", "s3:authType"}, []string{"s3:ListBucket b s3:prefix=a/ s3:delimiter=/ s3:authType=REST-HEADER"}},
		"reads a version with its own action":   {rest("s3", "GET", "/b/k?versionId=1", ""), []string{"s3:VersionId"}, []string{"s3:GetObjectVersion b/k s3:VersionId=1"}},
		"copies by reading and writing":         {rest("s3", "PUT", "/b/k", "", "X-Amz-Copy-Source", "/from/a%20b?versionId=2"), nil, []string{"s3:PutObject b/k", "s3:GetObjectVersion from/a b"}},
		"opens an object to all":                {rest("s3", "PUT", "/b/k", "", "X-Amz-Acl", "public-read", "X-Amz-Tagging", "a=b"), []string{"s3:x-amz-acl"}, []string{"s3:PutObject b/k s3:x-amz-acl=public-read", "s3:PutObjectAcl b/k s3:x-amz-acl=public-read", "s3:PutObjectTagging b/k"}},
		"deletes each object":                   {rest("s3", "POST", "/b?delete", "<Delete><Object><Key>x</Key></Object><Object><Key>y/z</Key><VersionId>1</VersionId></Object></Delete>"), nil, []string{"s3:DeleteObject b/x", "s3:DeleteObject b/y/z", "s3:DeleteObjectVersion b/y/z"}},
		"keeps a key's slashes and dots":        {rest("s3", "GET", "/b/a//../c%2Fd", ""), nil, []string{"s3:GetObject b/a//../c/d"}},
		"finds the bucket in the host's name":   {rest("s3", "GET", "http://bucket.localhost:1/k", ""), nil, []string{"s3:GetObject bucket/k"}},
		"asks about a presigned request's age":  {presigned(), []string{"s3:authType"}, []string{"s3:GetObject b/k s3:authType=REST-QUERY-STRING"}},
		"asks about the key of a ciphertext":    {target("kms", "TrentService.Decrypt", `{"KeyId":"mine","CiphertextBlob":"`+base64.StdEncoding.EncodeToString([]byte("11111111-2222-3333-4444-555555555555 and more"))+`"}`), nil, []string{"kms:Decrypt key/11111111-2222-3333-4444-555555555555"}},
		"asks about a secret by its name":       {target("secretsmanager", "secretsmanager.GetSecretValue", `{"SecretId":"app/x"}`), nil, []string{"secretsmanager:GetSecretValue secret:app/x-*"}},
		"asks about a topic by its ARN":         {form("sns")("Action=Publish&TopicArn=arn%3Aaws%3Asns%3Aeu-central-1%3A123456789012%3At&Message=m"), nil, []string{"sns:Publish t"}},
		"asks about a queue by its URL":         {target("sqs", "AmazonSQS.DeleteQueue", `{"QueueUrl":"http://x/123456789012/q"}`), nil, []string{"sqs:DeleteQueue q"}},
		"asks the same in SQS's older protocol": {form("sqs")("Action=DeleteQueue&QueueUrl=http%3A%2F%2Fx%2F123456789012%2Fq"), nil, []string{"sqs:DeleteQueue q"}},
		"reads tags as a map":                   {target("logs", "Logs_20140328.CreateLogGroup", `{"logGroupName":"/g","tags":{"team":"data"}}`), []string{"aws:RequestTag/team"}, []string{"logs:CreateLogGroup log-group:/g:log-stream: aws:RequestTag/team=data", "logs:TagResource log-group:/g aws:RequestTag/team=data"}},
		"reads tags as a list":                  {form("elasticloadbalancing")("Version=2015-12-01&Action=CreateTargetGroup&Name=g&Tags.member.1.Key=team&Tags.member.1.Value=data"), []string{"aws:RequestTag/team", "elasticloadbalancing:CreateAction"}, []string{"elasticloadbalancing:CreateTargetGroup targetgroup/g/* aws:RequestTag/team=data", "elasticloadbalancing:AddTags targetgroup/g/* aws:RequestTag/team=data elasticloadbalancing:CreateAction=CreateTargetGroup"}},
		"passes both roles of a task":           {target("ecs", "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition", `{"family":"f","taskRoleArn":"arn:aws:iam::123456789012:role/t","executionRoleArn":"e"}`), []string{"iam:PassedToService"}, []string{"ecs:RegisterTaskDefinition task-definition/f:*", "iam:PassRole role/t iam:PassedToService=ecs-tasks.amazonaws.com", "iam:PassRole role/e iam:PassedToService=ecs-tasks.amazonaws.com"}},
		"needs no linked role that is there":    {target("ecs", "AmazonEC2ContainerServiceV20141113.CreateService", `{"cluster":"arn:aws:ecs:eu-central-1:123456789012:cluster/c","serviceName":"s"}`), []string{"ecs:cluster"}, []string{"ecs:CreateService service/c/s ecs:cluster=arn:aws:ecs:eu-central-1:123456789012:cluster/c"}},
		"asks about AWS's own parameters":       {target("ssm", "AmazonSSM.GetParameters", `{"Names":["/aws/service/x","/mine/y","z"]}`), nil, []string{"ssm:GetParameters parameter/aws/service/x", "ssm:GetParameters parameter/mine/y", "ssm:GetParameters parameter/z"}},
		"takes a value that is an ARN as it is": {target("ecr", "AmazonEC2ContainerRegistry_V20150921.TagResource", `{"resourceArn":"arn:aws:ecr:eu-central-1:999999999999:repository/r","tags":[]}`), nil, []string{"ecr:TagResource repository/r"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, questions, err := ask(t, m, someFacts{}, one.request)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, q := range questions {
				got = append(got, line(q, one.keys...))
			}
			if !slices.Equal(got, one.want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(one.want, "\n\t"))
			}
		})
	}
}

// presignedCopy is a PutObject in whose query the source stands that S3 would
// take from a header.
func presignedCopy() *http.Request {
	r := presigned()
	r.Method = http.MethodPut
	r.URL.RawQuery += "&x-amz-copy-source=other%2Fsecret"
	return r
}

func presigned() *http.Request {
	return httptest.NewRequest(http.MethodGet, "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20260101%2Feu-central-1%2Fs3%2Faws4_request"+
		"&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="+strings.Repeat("0", 64), nil)
}

// Every row of the table names an operation that exists, asks about actions that
// exist, on resources and with condition keys that the reference has for them.
func TestTable(t *testing.T) {
	t.Parallel()
	m := theMapping(t)
	reference := sar.Default()
	for name, clauses := range m.rows {
		for _, c := range clauses {
			if c.action == "" {
				continue // a function's
			}
			action, ok := reference.Action(c.action)
			if !ok {
				t.Errorf("%s: got action %s, want one that exists", name, c.action)
				continue
			}
			for _, condition := range c.conditions {
				key, _, _ := strings.Cut(condition, ":=")
				if _, ok := reference.ServiceKey(action.Service, key); !ok {
					t.Errorf("%s: got condition key %s, want one that %s has", name, key, action.Service)
				}
			}
		}
	}
	for service, list := range readRoutes(routesTSV) {
		for _, r := range list {
			_, hasRow := m.rows[service+":"+r.operation]
			_, exists := reference.Action(service + ":" + r.operation)
			if service == "eks" && !hasRow && !exists {
				t.Errorf("%s:%s: got neither a row nor an action, want one", service, r.operation)
			}
		}
	}
}

func BenchmarkQuestions(b *testing.B) {
	m, err := readMapping(operationsText, sar.Default())
	if err != nil {
		b.Fatal(err)
	}
	known := readRoutes(routesTSV)
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=CreateSubnet&VpcId=vpc-1&TagSpecification.1.ResourceType=subnet&TagSpecification.1.Tag.1.Key=a"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		fakeSignature(r, "ec2")
		c, err := recognise(r, known)
		if err != nil {
			b.Fatal(err)
		}
		c.Account = "123456789012"
		if _, err := m.questions(b.Context(), c, noFacts{}); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRecognise looks for requests that make the double fall over, or that come
// to a call without a question.
func FuzzRecognise(f *testing.F) {
	f.Add("POST", "/", "ec2", "", "application/x-www-form-urlencoded", "Action=CreateVpc&TagSpecification.1.Tag.1.Key=a")
	f.Add("POST", "/clusters/c/addons", "eks", "", "application/json", `{"addonName":"a","tags":{"a":"b"}}`)
	f.Add("POST", "/b?delete", "s3", "", "application/xml", "<Delete><Object><Key>a</Key></Object></Delete>")
	f.Add("POST", "/", "kms", "TrentService.CreateKey", "application/x-amz-json-1.1", `{"Tags":[{"TagKey":"a","TagValue":"b"}]}`)
	m, err := readMapping(operationsText, sar.Default())
	if err != nil {
		f.Fatal(err)
	}
	known := readRoutes(routesTSV)
	f.Fuzz(func(t *testing.T, method, path, service, target, kind, body string) {
		r, err := http.NewRequest(method, "http://127.0.0.1:1"+path, strings.NewReader(body))
		if err != nil || strings.ContainsAny(service, "/, ") || service == "" {
			return
		}
		r.Header.Set("Content-Type", kind)
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		fakeSignature(r, service)
		c, err := recognise(r, known)
		if err != nil {
			return
		}
		c.Account = "123456789012"
		if c.protocol == s3Protocol && c.readS3Body() != nil {
			return
		}
		questions, err := m.questions(t.Context(), c, noFacts{})
		if err == nil && len(questions) == 0 {
			t.Errorf("%s:%s: got no question, want one at least", c.Service, c.Operation)
		}
	})
}
