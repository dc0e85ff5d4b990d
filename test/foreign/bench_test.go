package foreign

import (
	"os"
	"strings"
	"testing"

	miniopolicy "github.com/minio/pkg/v3/policy"
	versitypolicy "github.com/versity/versitygw/iamapi/policy"
	"github.com/versity/versitygw/iamapi/types"

	"biplane.dev/biplane/provision/iampolicy"
)

// packedMain is the seed's main policy as it is attached: packed into managed
// policies.
func packedMain(t testing.TB) []*iampolicy.Document {
	t.Helper()
	raw, err := os.ReadFile("../../provision/iampolicy/testdata/seed/main.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("${AWS::Region}", "us-east-1", "${AWS::AccountID}", "123456789012").Replace(string(raw))
	main, err := iampolicy.Parse("main", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := iampolicy.PackFewest("main", main, 6144)
	if err != nil {
		t.Fatal(err)
	}
	documents := make([]*iampolicy.Document, len(packed))
	for i, p := range packed {
		documents[i] = p.Document
	}
	return documents
}

var mainCalls = []struct {
	name, action, resource string
	allowed                bool
}{
	{"allowed by ARN", "ec2:CreateVpc", "arn:aws:ec2:us-east-1:123456789012:vpc/vpc-0a1", true},
	{"allowed by *", "ec2:DescribeVpcs", "*", true},
	{"allowed by wildcards", "s3:PutObject", "arn:aws:s3:::union-acme-metadata/a/b", true},
	{"denied by ARN", "eks:DeleteCluster", "arn:aws:eks:us-east-1:123456789012:cluster/other", false},
	{"denied, not listed", "ec2:TerminateInstances", "arn:aws:ec2:us-east-1:123456789012:instance/i-0a1", false},
}

// deciders are the three engines with the packed main policy in hand.
func deciders(t testing.TB) map[string]func(*iampolicy.Request) bool {
	t.Helper()
	documents := packedMain(t)
	ours, err := iampolicy.Compile(iampolicy.Policies{Identity: documents})
	if err != nil {
		t.Fatal(err)
	}
	minios := minioMain(documents)
	var texts []types.PolicyEntry
	for _, d := range documents {
		texts = append(texts, types.PolicyEntry{PolicyDocument: string(d.Text())})
	}
	return map[string]func(*iampolicy.Request) bool{
		"ours":  func(r *iampolicy.Request) bool { return ours.Decide(r) == iampolicy.Allowed },
		"minio": func(r *iampolicy.Request) bool { return minios.IsAllowed(minioMainArgs(r)) },
		// It has no compiled form: reading the text is part of every decision.
		"versitygw": func(r *iampolicy.Request) bool {
			return versitypolicy.EvaluateIdentityPolicies(texts, versitygwContext(r)) == versitypolicy.DecisionAllow
		},
	}
}

// minioMain builds the documents in minio's own types, because its parser takes
// S3 ARNs only. Its matcher takes any text, so the whole ARN stands where the
// bucket would; "*" keeps its meaning.
func minioMain(documents []*iampolicy.Document) miniopolicy.Policy {
	p := miniopolicy.Policy{Version: miniopolicy.DefaultVersion}
	for _, d := range documents {
		for _, s := range d.Statements {
			actions := miniopolicy.ActionSet{}
			for _, a := range s.Action {
				actions.Add(miniopolicy.Action(a))
			}
			resources := miniopolicy.ResourceSet{}
			for _, r := range s.Resource {
				resources.Add(miniopolicy.NewResource(r))
			}
			p.Statements = append(p.Statements, miniopolicy.NewStatement("", miniopolicy.Effect(s.Effect), actions, resources, nil))
		}
	}
	return p
}

func minioMainArgs(r *iampolicy.Request) miniopolicy.Args {
	bucket, object, _ := strings.Cut(r.Resource, "/")
	return miniopolicy.Args{Action: miniopolicy.Action(r.Action), BucketName: bucket, ObjectName: object}
}

func mainRequest(action, resource string) *iampolicy.Request {
	return &iampolicy.Request{
		Principal: iampolicy.Principal{Type: iampolicy.AWS, ARN: "arn:aws:sts::123456789012:assumed-role/union-ai-admin/s", Account: "123456789012"},
		Action:    action, Resource: resource, Context: iampolicy.Context{},
	}
}

// TestDecidersAgree keeps the benchmark honest: all three give the same answers.
func TestDecidersAgree(t *testing.T) {
	t.Parallel()
	for engine, decide := range deciders(t) {
		for _, call := range mainCalls {
			if got := decide(mainRequest(call.action, call.resource)); got != call.allowed {
				t.Errorf("%s, %s: got %v, want %v", engine, call.name, got, call.allowed)
			}
		}
	}
}

func BenchmarkDecision(b *testing.B) {
	engines := deciders(b)
	for _, call := range mainCalls {
		r := mainRequest(call.action, call.resource)
		for _, engine := range []string{"ours", "minio", "versitygw"} {
			decide := engines[engine]
			b.Run(call.name+"/"+engine, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					decide(r)
				}
			})
		}
	}
}
