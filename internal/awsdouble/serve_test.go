package awsdouble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"biplane.dev/biplane/internal/awsidentity"
)

// The most important refusal: a customer's role that wants an external ID lets
// nobody in without one. The emulator alone does, with its own access checks
// switched on, which is why it may never decide.
func TestAbsentExternalID(t *testing.T) {
	t.Parallel()
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::479331373192:role/biplane-controlplane"},
		"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"right-external-id"}}}]}`
	const roleARN = "arn:aws:iam::123456789012:role/union-ai-admin"
	d := startWithMoto(t, Options{})

	t.Run("is accepted by bare moto", func(t *testing.T) {
		m, err := newMoto(filepath.Join(python(t), "moto_server"), d.log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.stop() })
		if err := m.ready(); err != nil {
			t.Fatal(err)
		}
		post := func(service, path, key string, parameters ...string) (int, string) {
			form := url.Values{}
			for i := 0; i+1 < len(parameters); i += 2 {
				form.Set(parameters[i], parameters[i+1])
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://moto"+path, strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if service == "" { // moto's own switch takes a bare number
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(parameters[0])), int64(len(parameters[0]))
				r.Header.Set("Content-Type", "text/plain")
			} else {
				r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+key+"/20260101/us-east-1/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
			}
			answer, err := m.transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			text, _ := io.ReadAll(answer.Body)
			return answer.StatusCode, string(text)
		}
		iam := func(action string, parameters ...string) string {
			t.Helper()
			status, text := post("iam", "/", "setup", append([]string{"Action", action, "Version", "2010-05-08"}, parameters...)...)
			if status != 200 {
				t.Fatalf("%s: got %d %s, want 200", action, status, text)
			}
			return text
		}
		iam("CreateUser", "UserName", "vendor")
		iam("PutUserPolicy", "UserName", "vendor", "PolicyName", "p", "PolicyDocument",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`)
		made := iam("CreateAccessKey", "UserName", "vendor")
		key := between(t, made, "<AccessKeyId>", "</AccessKeyId>")
		iam("CreateRole", "RoleName", "union-ai-admin", "AssumeRolePolicyDocument",
			strings.Replace(trust, "arn:aws:iam::479331373192:role/biplane-controlplane", "arn:aws:iam::123456789012:user/vendor", 1))
		if status, text := post("", "/moto-api/reset-auth", "", "0"); status != 200 {
			t.Fatalf("switching moto's access checks on: got %d %s, want 200", status, text)
		}
		assume := []string{"Action", "AssumeRole", "Version", "2011-06-15", "RoleArn", roleARN, "RoleSessionName", "test-session"}
		// The checks are on: a key that nobody has is refused.
		if status, text := post("sts", "/", "AKIDNOBODYATALL", assume...); status == 200 {
			t.Fatalf("got %s for a key that nobody has, want moto's access checks to be on", text)
		}
		secret := between(t, made, "<SecretAccessKey>", "</SecretAccessKey>")
		if status, text := motoSigned(t, m, awsidentity.Credentials{AccessKeyID: key, SecretAccessKey: secret}, assume); status != 200 {
			t.Errorf("got %d %s, want moto to accept an absent external ID", status, text)
		}
	})

	if _, err := d.Identity().SeedRole(d.customer, awsidentity.Role{Name: "union-ai-admin", Trust: trust}); err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]struct {
		who        Account
		externalID string
		want       int
	}{
		"is refused by the double":                    {d.Accounts().Vendor, "", 403},
		"is refused when it is wrong":                 {d.Accounts().Vendor, "wrong-external-id", 403},
		"lets the vendor in when it is right":         {d.Accounts().Vendor, "right-external-id", 200},
		"keeps another role of the vendor out":        {d.Accounts().VendorOther, "right-external-id", 403},
		"keeps the administrator of a stranger's out": {d.Accounts().Stranger, "right-external-id", 403},
		"keeps the customer's own administrator out":  {d.Accounts().Customer, "right-external-id", 403},
	} {
		t.Run(name, func(t *testing.T) {
			parameters := []string{"RoleArn", roleARN, "RoleSessionName", "test-session", "Version", "2011-06-15"}
			if one.externalID != "" {
				parameters = append(parameters, "ExternalId", one.externalID)
			}
			must(t, one.want)(query(t, d, one.who.Credentials, "sts", "AssumeRole", parameters...))
		})
	}
}

// motoSigned sends a form to moto as its own access checks want it.
func motoSigned(t *testing.T, m *moto, key awsidentity.Credentials, parameters []string) (int, string) {
	t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	r := newRequest(t, http.MethodPost, "http://sts.us-east-1.amazonaws.com/")
	body := form.Encode()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	hash := sha256.Sum256([]byte(body))
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey},
		r, hex.EncodeToString(hash[:]), "sts", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := m.transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// Every protocol says no in its own way, before moto is needed.
func TestRefusals(t *testing.T) {
	t.Parallel()
	d := start(t, Options{})
	nobody := roleSession(t, d, "nobody", `{"Effect":"Deny","Action":"*","Resource":"*"}`)
	stranger := awsidentity.Credentials{AccessKeyID: "AKIDNOBODYHASIT", SecretAccessKey: "x"}
	forged := nobody
	forged.SecretAccessKey = "forged"

	get := func(path string) func() *http.Request {
		return func() *http.Request { return newRequest(t, http.MethodGet, d.URL()+path) }
	}
	post := func(path string, headers ...string) func() *http.Request {
		return func() *http.Request {
			r := newRequest(t, http.MethodPost, d.URL()+path)
			for i := 0; i+1 < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			return r
		}
	}
	form := post("/", "Content-Type", "application/x-www-form-urlencoded")
	for name, one := range map[string]struct {
		service string
		request func() *http.Request
		body    string
		denied  string // in the answer to a caller without rights
		status  int
		unknown string // in the answer to a key that nobody has
		wrong   string // in the answer to a wrong signature
	}{
		"EC2": {"ec2", form, "Action=DescribeVpcs&Version=2016-11-15",
			"<Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this operation. User: ", 403, "<Code>AuthFailure</Code>", "<Code>AuthFailure</Code>"},
		"Query": {"autoscaling", form, "Action=DescribeAutoScalingGroups&Version=2011-01-01",
			"<Code>AccessDenied</Code>", 403, "<Code>InvalidClientTokenId</Code>", "<Code>SignatureDoesNotMatch</Code>"},
		"JSON": {"kms", post("/", "X-Amz-Target", "TrentService.ListKeys", "Content-Type", "application/x-amz-json-1.1"), "{}",
			`{"__type":"AccessDeniedException"`, 400, `"UnrecognizedClientException"`, `"InvalidSignatureException"`},
		"REST-JSON": {"eks", get("/clusters"), "",
			`{"__type":"AccessDeniedException"`, 403, `"UnrecognizedClientException"`, `"InvalidSignatureException"`},
		"REST-XML": {"route53", get("/2013-04-01/hostedzone"), "",
			"<Code>AccessDenied</Code>", 403, "<Code>InvalidClientTokenId</Code>", "<Code>SignatureDoesNotMatch</Code>"},
		"S3": {"s3", get("/bucket/key"), "",
			"<Error><Code>AccessDenied</Code>", 403, "<Code>InvalidAccessKeyId</Code>", "<Code>SignatureDoesNotMatch</Code>"},
		"CBOR": {"monitoring", post("/service/GraniteServiceVersion20100801/operation/ListMetrics", "Smithy-Protocol", "rpc-v2-cbor", "Content-Type", "application/cbor"), "",
			"AccessDeniedException", 400, "UnrecognizedClientException", "InvalidSignatureException"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := must(t, one.status)(send(t, d, nobody, one.service, one.request(), one.body))
			if !strings.Contains(text, one.denied) || !strings.Contains(text, "with an explicit deny in an identity-based policy") {
				t.Errorf("without rights: got %s, want %s", text, one.denied)
			}
			if _, text, err := send(t, d, stranger, one.service, one.request(), one.body); err != nil || !strings.Contains(text, one.unknown) {
				t.Errorf("unknown key: got %s %v, want %s", text, err, one.unknown)
			}
			if _, text, err := send(t, d, forged, one.service, one.request(), one.body); err != nil || !strings.Contains(text, one.wrong) {
				t.Errorf("wrong signature: got %s %v, want %s", text, err, one.wrong)
			}
		})
	}
	admin := d.Accounts().Customer.Credentials
	for name, one := range map[string]struct {
		service string
		request func() *http.Request
		body    string
		status  int
		want    string
	}{
		"says that moto is not there":           {"ec2", form, "Action=DescribeVpcs&Version=2016-11-15", 503, "No moto_server stands behind the AWS double"},
		"refuses an operation of no service":    {"ec2", form, "Action=LaunchRockets", 400, "does not know the operation LaunchRockets of ec2"},
		"refuses a service that it cannot tell": {"apigateway", get("/restapis"), "", 400, "does not know the operation GET /restapis of apigateway"},
		"refuses an ambiguous query of S3":      {"s3", get("/bucket?policy&tagging"), "", 400, "InvalidRequest"},
		"refuses a parameter given twice":       {"ec2", form, "Action=DescribeVpcs&Action=DeleteVpc", 400, "Action is given 2 times"},
		"refuses a body that is not JSON":       {"kms", post("/", "X-Amz-Target", "TrentService.ListKeys"), "{", 400, "SerializationException"},
		"refuses JSON without a bottom":         {"kms", post("/", "X-Amz-Target", "TrentService.ListKeys"), strings.Repeat("[", 5000) + strings.Repeat("]", 5000), 400, "SerializationException"},
		"refuses a form of too many values":     {"ec2", form, "Action=DescribeVpcs" + values(20_000), 400, "InvalidParameterValue"},
		"refuses to touch too many things":      {"ec2", form, "Action=TerminateInstances" + values(3000), 400, "touches more than 2500 resources"},
		"refuses moto's own paths":              {"s3", get("/moto-api/data.json"), "", 400, "cannot be served by the AWS double"},
		"refuses a body over a mebibyte":        {"kms", post("/", "X-Amz-Target", "TrentService.ListKeys"), strings.Repeat(" ", 1<<20+1), 413, "RequestEntityTooLarge"},
		"refuses classic load balancers":        {"elasticloadbalancing", form, "Action=DescribeLoadBalancers&Version=2012-06-01", 400, "Classic load balancers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if text := must(t, one.status)(send(t, d, admin, one.service, one.request(), one.body)); !strings.Contains(text, one.want) {
				t.Errorf("got %s, want %s", text, one.want)
			}
		})
	}
	t.Run("refuses who did not sign", func(t *testing.T) {
		t.Parallel()
		r := form()
		r.Body = io.NopCloser(strings.NewReader("Action=DescribeVpcs&Version=2016-11-15"))
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text, _ := io.ReadAll(answer.Body); answer.StatusCode != 403 || !strings.Contains(string(text), "MissingAuthenticationToken") {
			t.Errorf("got %d %s, want MissingAuthenticationToken", answer.StatusCode, text)
		}
	})
}

// values is a list of so many instances.
func values(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&InstanceId.%d=i-%d", i, i)
	}
	return b.String()
}

func newRequest(t *testing.T, method, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every call to IAM and STS that the vendor's role makes is decided by the
// identity service on the actions and kinds of resource that it needs.
func TestIdentityDecidesEveryVendorCall(t *testing.T) {
	t.Parallel()
	d := start(t, Options{})
	tried := 0
	for _, w := range readWire(t) {
		if w.Signing != "iam" {
			continue
		}
		tried++
		// Nothing is allowed at first; what is refused is allowed then, until the
		// call passes or is refused for another reason.
		var statements, asked []string
		for range len(w.Actions) + 1 {
			name := "caller" + strings.NewReplacer(":", "", "(", "", ")", "", " ", "").Replace(w.Call)
			name = name[:min(len(name), 50)] + string(rune('a'+len(asked)))
			key := roleSession(t, d, name, strings.Join(append(statements, `{"Effect":"Allow","Action":"none:Nothing","Resource":"*"}`), ","))
			r := newRequest(t, w.Method, d.URL()+w.Path)
			for name, value := range w.Headers {
				r.Header.Set(name, value)
			}
			status, text, err := send(t, d, key, "iam", r, w.Body)
			if err != nil {
				t.Fatal(err)
			}
			if status != 403 || !strings.Contains(text, "is not authorized to perform: ") {
				break
			}
			action := between(t, text, "is not authorized to perform: ", " on resource: ")
			resource := between(t, text, " on resource: ", " because ")
			if !slices.Contains(w.Actions, action) {
				t.Errorf("%s: got %s asked, want only %v", w.Call, action, w.Actions)
			}
			if !slices.ContainsFunc(w.Resources, func(want string) bool { return kindOf(want) == kindOf(resource) }) {
				t.Errorf("%s: got %s asked about, want the kinds of %v", w.Call, resource, w.Resources)
			}
			asked = append(asked, action)
			statements = append(statements, `{"Effect":"Allow","Action":"`+action+`","Resource":"`+resource+`"}`)
		}
		for _, action := range w.Actions {
			if !slices.Contains(asked, action) {
				t.Errorf("%s: got %v asked, want %s among them", w.Call, asked, action)
			}
		}
	}
	t.Logf("%d calls decided", tried)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	fault := func(text string) Fault {
		f, err := ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	trust := []string{"Version", "2010-05-08", "AssumeRolePolicyDocument", trustOfEverybody, "RoleName"}
	create := func(t *testing.T, d *Double, name string) (int, string, error) {
		return query(t, d, d.Accounts().Customer.Credentials, "iam", "CreateRole", append(slices.Clone(trust), name)...)
	}
	exists := func(t *testing.T, d *Double, name string) bool {
		status, _, err := query(t, d, d.Accounts().Customer.Credentials, "iam", "GetRole", "Version", "2010-05-08", "RoleName", name)
		return err == nil && status == 200
	}
	t.Run("throttles so many times", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{Faults: []Fault{fault("throttle:iam:Create*,count=2")}})
		for range 2 {
			if text := must(t, 400)(create(t, d, "r")); !strings.Contains(text, "<Code>Throttling</Code>") {
				t.Errorf("got %s, want Throttling", text)
			}
		}
		must(t, 200)(create(t, d, "r"))
	})
	t.Run("says throttling as the service does", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{Faults: []Fault{fault("throttle")}})
		key := d.Accounts().Customer.Credentials
		if text := must(t, 503)(query(t, d, key, "ec2", "DescribeVpcs")); !strings.Contains(text, "RequestLimitExceeded") {
			t.Errorf("got %s, want RequestLimitExceeded", text)
		}
		if text := must(t, 503)(send(t, d, key, "s3", newRequest(t, http.MethodGet, d.URL()+"/b"), "")); !strings.Contains(text, "SlowDown") {
			t.Errorf("got %s, want SlowDown", text)
		}
	})
	t.Run("breaks every second call after the first", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{Faults: []Fault{fault("error:sts,after=1,every=2,status=503")}})
		var got []int
		for range 5 {
			status, _, err := query(t, d, d.Accounts().Customer.Credentials, "sts", "GetCallerIdentity", "Version", "2011-06-15")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, status)
		}
		if want := []int{200, 200, 503, 200, 503}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("loses the answer to what was performed", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{Faults: []Fault{fault("lost:iam:CreateRole,count=1")}})
		if status, text, err := create(t, d, "r"); err == nil {
			t.Errorf("got %d %s, want no answer", status, text)
		}
		if !exists(t, d, "r") {
			t.Error("got no role, want it made")
		}
		must(t, 409)(create(t, d, "r"))
	})
	t.Run("loses the answer to a call that was not refused before", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{Faults: []Fault{fault("lost:iam:CreateRole,count=1"), fault("throttle:iam:CreateRole,count=1")}})
		must(t, 400)(create(t, d, "r"))
		if status, text, err := create(t, d, "r"); err == nil {
			t.Errorf("got %d %s, want no answer", status, text)
		}
		if !exists(t, d, "r") {
			t.Error("got no role, want it made")
		}
	})
	t.Run("takes its time", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{Latency: 30 * time.Millisecond, Faults: []Fault{fault("latency:iam,delay=40ms")}})
		before := time.Now()
		must(t, 200)(create(t, d, "r"))
		if took := time.Since(before); took < 70*time.Millisecond {
			t.Errorf("got an answer after %v, want 70ms at least", took)
		}
	})
	t.Run("stops waiting for a client that is gone", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{Latency: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL()+"/b", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := http.DefaultTransport.RoundTrip(r); err == nil {
			t.Error("got an answer, want none")
		}
	})
}

// Whoever sends a body byte by byte must not hold the double.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	d := start(t, Options{})
	d.patience = 50 * time.Millisecond // nobody has asked anything yet
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nA"); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("got %v, want the connection closed", err)
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	var lock sync.Mutex
	var seen []Call
	d := start(t, Options{
		Hook: func(c Call) Verdict {
			switch c.Operation {
			case "DeleteRole":
				return DropResponse()
			case "TagRole":
				return Refuse(409, "ConcurrentModification", "not now")
			}
			return Proceed()
		},
		Observe: func(c Call) {
			lock.Lock()
			defer lock.Unlock()
			seen = append(seen, c)
		},
	})
	key := d.Accounts().Customer.Credentials
	iam := func(action string, parameters ...string) (int, string, error) {
		return query(t, d, key, "iam", action, append([]string{"Version", "2010-05-08", "RoleName", "r"}, parameters...)...)
	}
	must(t, 200)(iam("CreateRole", "AssumeRolePolicyDocument", trustOfEverybody))
	if text := must(t, 409)(iam("TagRole", "Tags.member.1.Key", "a", "Tags.member.1.Value", "b")); !strings.Contains(text, "<Code>ConcurrentModification</Code>") {
		t.Errorf("got %s, want the hook's refusal", text)
	}
	if status, text, err := iam("DeleteRole"); err == nil {
		t.Errorf("got %d %s, want no answer", status, text)
	}
	must(t, 404)(iam("GetRole"))
	must(t, 403)(query(t, d, d.Accounts().VendorOther.Credentials, "ec2", "DescribeVpcs"))

	lock.Lock()
	defer lock.Unlock()
	type short struct {
		n        int
		name     string
		decision Decision
		status   int
	}
	var got []short
	for _, c := range seen {
		got = append(got, short{c.N, c.Service + ":" + c.Operation, c.Decision, c.Status})
	}
	want := []short{
		{1, "iam:CreateRole", Allowed, 200}, {2, "iam:TagRole", Undecided, 409}, {3, "iam:DeleteRole", Allowed, 200},
		{4, "iam:GetRole", Allowed, 404}, {5, "ec2:DescribeVpcs", Refused, 403},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	last := seen[len(seen)-1]
	if got, want := last.Caller+" "+last.Actions[0]+" "+last.Resources[0], d.Accounts().VendorOther.Credentials.ARN+" ec2:DescribeVpcs *"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What exists already is decided with its tags, and buckets with their policy.
func TestDecisionsOnWhatIsThere(t *testing.T) {
	t.Parallel()
	d := startWithMoto(t, Options{})
	admin := d.Accounts().Customer.Credentials
	ec2 := func(key awsidentity.Credentials, action string, parameters ...string) (int, string, error) {
		return query(t, d, key, "ec2", action, append([]string{"Version", "2016-11-15"}, parameters...)...)
	}
	newVPC := func(parameters ...string) string {
		return between(t, must(t, 200)(ec2(admin, "CreateVpc", append([]string{"CidrBlock", "10.0.0.0/16"}, parameters...)...)), "<vpcId>", "</vpcId>")
	}

	t.Run("allows by the tags of a resource", func(t *testing.T) {
		ours := newVPC("TagSpecification.1.ResourceType", "vpc", "TagSpecification.1.Tag.1.Key", "team", "TagSpecification.1.Tag.1.Value", "data")
		others := newVPC()
		key := roleSession(t, d, "tagged", `{"Effect":"Allow","Action":"ec2:DeleteVpc","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"data"}}}`)
		must(t, 403)(ec2(key, "DeleteVpc", "VpcId", others))
		must(t, 200)(ec2(key, "DeleteVpc", "VpcId", ours))
	})
	t.Run("allows by the tags of a request, on what it makes alone", func(t *testing.T) {
		vpc := newVPC()
		create := func(key awsidentity.Credentials, value string) (int, string, error) {
			return ec2(key, "CreateSubnet", "VpcId", vpc, "CidrBlock", "10.0.1.0/24", "DryRun", "true", "TagSpecification.1.ResourceType", "subnet",
				"TagSpecification.1.Tag.1.Key", "team", "TagSpecification.1.Tag.1.Value", value)
		}
		const tags = `{"Effect":"Allow","Action":"ec2:CreateTags","Resource":"*","Condition":{"StringEquals":{"ec2:CreateAction":"CreateSubnet"}}}`
		right := roleSession(t, d, "right", tags+`,{"Effect":"Allow","Action":"ec2:CreateSubnet","Resource":"arn:aws:ec2:*:*:vpc/*"},
			{"Effect":"Allow","Action":"ec2:CreateSubnet","Resource":"arn:aws:ec2:*:*:subnet/*","Condition":{"StringEquals":{"aws:RequestTag/team":"data"}}}`)
		must(t, 412)(create(right, "data"))
		must(t, 403)(create(right, "other"))
		// AWS gives the VPC no request tags, so this grant cannot work there.
		wrong := roleSession(t, d, "wrong", tags+`,{"Effect":"Allow","Action":"ec2:CreateSubnet","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"data"}}}`)
		if text := must(t, 403)(create(wrong, "data")); !strings.Contains(text, ":vpc/"+vpc) {
			t.Errorf("got %s, want the VPC refused", text)
		}
	})
	t.Run("has a bucket's policy decide too", func(t *testing.T) {
		put := func(key awsidentity.Credentials, method, path, body string) (int, string, error) {
			return send(t, d, key, "s3", newRequest(t, method, d.URL()+path), body)
		}
		must(t, 200)(put(admin, http.MethodPut, "/opta-b", `<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>`))
		must(t, 200)(put(admin, http.MethodPut, "/opta-b/open", "open"))
		must(t, 200)(put(admin, http.MethodPut, "/opta-b/shut", "shut"))
		stranger := d.Accounts().Stranger.Credentials
		must(t, 403)(put(stranger, http.MethodGet, "/opta-b/open", ""))
		policy := `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::opta-b/open"},
			{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::opta-b/*","Condition":{"Bool":{"aws:SecureTransport":"false"}}},
			{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::opta-b/shut"}]}`
		if text := must(t, 400)(put(admin, http.MethodPut, "/opta-b?policy", policy[:20])); !strings.Contains(text, "MalformedPolicy") {
			t.Errorf("got %s, want MalformedPolicy", text)
		}
		must(t, 204)(put(admin, http.MethodPut, "/opta-b?policy", policy))
		if got := must(t, 200)(put(admin, http.MethodGet, "/opta-b?policy", "")); got != policy {
			t.Errorf("got %s, want the policy as it was put", got)
		}
		must(t, 404)(put(admin, http.MethodPut, "/opta-nowhere?policy", policy))
		must(t, 200)(put(stranger, http.MethodGet, "/opta-b/open", ""))
		must(t, 403)(put(stranger, http.MethodGet, "/opta-b/shut", ""))
		must(t, 403)(put(admin, http.MethodGet, "/opta-b/shut", ""))
		if answer, err := http.Get(d.URL() + "/opta-b/open"); err != nil || answer.StatusCode != 200 {
			t.Errorf("unsigned: got %v %v, want what the policy opens to all", answer, err)
		}
		if answer, err := http.Get(d.URL() + "/opta-b/shut"); err != nil || answer.StatusCode != 403 {
			t.Errorf("unsigned: got %v %v, want 403", answer, err)
		}
		must(t, 409)(put(stranger, http.MethodPut, "/opta-b", `<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>`))
	})
	t.Run("asks for iam:PassRole with the service", func(t *testing.T) {
		asked := clusterRequest(t, d, "opta-c", "opta-r")
		create := func(key awsidentity.Credentials) (int, string, error) {
			r := newRequest(t, http.MethodPost, d.URL()+"/clusters")
			r.Header.Set("Content-Type", "application/json")
			return send(t, d, key, "eks", r, asked)
		}
		const cluster = `{"Effect":"Allow","Action":"eks:CreateCluster","Resource":"arn:aws:eks:*:*:cluster/opta-*"},
			{"Effect":"Allow","Action":["iam:GetRole","iam:CreateServiceLinkedRole"],"Resource":"arn:aws:iam::*:role/aws-service-role/*"},
			{"Effect":"Allow","Action":"ec2:DescribeSubnets","Resource":"*"},
			{"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::*:role/opta-*","Condition":{"StringEquals":{"iam:PassedToService":"SERVICE"}}}`
		must(t, 403)(create(roleSession(t, d, "passes-to-ec2", strings.Replace(cluster, "SERVICE", "ec2.amazonaws.com", 1))))
		must(t, 200)(create(roleSession(t, d, "passes-to-eks", strings.Replace(cluster, "SERVICE", "eks.amazonaws.com", 1))))
	})
	t.Run("starts moto again when it has died", func(t *testing.T) {
		m := d.world.moto
		m.lock.Lock()
		first := m.process
		m.lock.Unlock()
		if err := syscall.Kill(first.pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-first.gone
		must(t, 200)(ec2(admin, "DescribeVpcs"))
		if m.process.pid == first.pid {
			t.Error("got the same process, want another one")
		}
	})
	t.Run("keeps moto to its own user", func(t *testing.T) {
		info, err := os.Stat(d.world.moto.dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("got mode %v (%v) of the socket's directory, want 0700", info.Mode(), err)
		}
	})
}

// What was decided is told as it was decided, also of IAM, and stands in the log.
func TestDecisionsAreTold(t *testing.T) {
	t.Parallel()
	var lock sync.Mutex
	var seen []Call
	var log bytes.Buffer
	d := start(t, Options{CallLog: &log, Observe: func(c Call) {
		lock.Lock()
		defer lock.Unlock()
		seen = append(seen, c)
	}})
	key := d.Accounts().Customer.Credentials
	must(t, 200)(query(t, d, key, "iam", "CreateRole", "Version", "2010-05-08", "RoleName", "r", "AssumeRolePolicyDocument", trustOfEverybody))
	must(t, 403)(query(t, d, roleSession(t, d, "nobody", `{"Effect":"Allow","Action":"ec2:DescribeVpcs","Resource":"*"}`), "ec2", "CreateVpc", "CidrBlock", "10.0.0.0/16",
		"TagSpecification.1.ResourceType", "vpc", "TagSpecification.1.Tag.1.Key", "owner", "TagSpecification.1.Tag.1.Value", "us"))
	lock.Lock()
	defer lock.Unlock()
	made, denied := seen[0], seen[1]
	if made.Caller != "arn:aws:iam::123456789012:user/administrator" || len(made.Asked) != 1 || made.Asked[0].Action != "iam:CreateRole" || made.Resources[0] != "arn:aws:iam::123456789012:role/r" {
		t.Errorf("got %+v, want who made which role", made)
	}
	if len(denied.Asked) != 1 || denied.Decision != Refused || len(denied.Actions) != 2 {
		t.Fatalf("got %+v, want a call that was denied at its first question", denied)
	}
	if tag, _ := denied.Asked[0].Context.Get("aws:RequestTag/owner"); len(tag) != 1 || tag[0] != "us" {
		t.Errorf("got the tag %v in the question, want us", tag)
	}
	if arn, _ := denied.Asked[0].Context.Get("aws:PrincipalArn"); len(arn) != 1 || arn[0] != "arn:aws:iam::123456789012:role/nobody" {
		t.Errorf("got the caller %v in the question, want the role", arn)
	}
	var lines []map[string]any
	for line := range strings.Lines(log.String()) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("got the line %s: %v", line, err)
		}
		lines = append(lines, one)
	}
	if len(lines) != 2 || lines[0]["action"] != "iam:CreateRole" || lines[0]["decision"] != "allowed" || lines[1]["resource"] != "arn:aws:ec2:eu-central-1:123456789012:vpc/*" ||
		lines[1]["decision"] != "refused" || lines[1]["principal"] != "arn:aws:sts::123456789012:assumed-role/nobody/test" {
		t.Errorf("got the log %v", lines)
	}
}
