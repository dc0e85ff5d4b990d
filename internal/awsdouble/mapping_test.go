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
func (noFacts) kmsKey(_ context.Context, c *call, id string) (string, error) {
	if strings.HasPrefix(id, "arn:") {
		return id, nil
	}
	return "arn:aws:kms:" + c.Region + ":" + c.Account + ":key/1-2", nil
}
func (noFacts) ec2(context.Context, *call, string, ...string) (*node, error) { return &node{}, nil }
func (noFacts) nodegroup(context.Context, *call, string, string) (string, error) {
	return "", nil
}
func (noFacts) roleExists(string, string) bool       { return false }
func (noFacts) profileRoles(string, string) []string { return nil }

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
