package awsdouble

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"biplane.dev/biplane/internal/awsidentity"
)

// moto takes operations, names and regions from places that AWS does not look
// at. Each of these requests is allowed as it reads; what moto must not do is the
// other thing that stands in it.
func TestMotoDoesWhatWasDecided(t *testing.T) {
	t.Parallel()
	d := startWithMoto(t, Options{})
	admin := d.Accounts().Customer.Credentials
	narrow := roleSession(t, d, "narrow", `
		{"Effect":"Allow","Action":["ec2:DescribeVpcs","ec2:CreateVpc"],"Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-central-1"}}},
		{"Effect":"Allow","Action":"cloudformation:DescribeStacks","Resource":"*"},
		{"Effect":"Allow","Action":"elasticloadbalancing:RemoveTags","Resource":"*"},
		{"Effect":"Allow","Action":"events:DeleteRule","Resource":"arn:aws:events:eu-central-1:123456789012:rule/mine"},
		{"Effect":"Allow","Action":"eks:DeleteCluster","Resource":"arn:aws:eks:eu-central-1:123456789012:cluster/mine"},
		{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::mine/*"}`)

	do := func(t *testing.T, key awsidentity.Credentials, service, method, path, body string, headers ...string) (int, string, error) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, d.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(headers); i += 2 {
			if headers[i] == "Host" {
				r.Host = headers[i+1]
			}
			r.Header.Set(headers[i], headers[i+1])
		}
		return send(t, d, key, service, r, body)
	}
	const form, json = "application/x-www-form-urlencoded", "application/x-amz-json-1.1"
	rule := func(operation, body string) {
		t.Helper()
		must(t, 200)(do(t, admin, "events", "POST", "/", body, "Content-Type", json, "X-Amz-Target", "AWSEvents."+operation))
	}
	rule("PutRule", `{"Name":"victim","ScheduleExpression":"rate(1 day)"}`)
	must(t, 200)(query(t, d, admin, "cloudformation", "CreateStack", "StackName", "victim", "TemplateBody", `{"Resources":{"H":{"Type":"AWS::CloudFormation::WaitConditionHandle"}}}`))
	must(t, 200)(do(t, admin, "eks", "POST", "/clusters", clusterRequest(t, d, "victim", "x"), "Content-Type", "application/json"))
	for bucket, text := range map[string]string{"mine": "public", "victim": "secret"} {
		must(t, 200)(do(t, admin, "s3", "PUT", "/"+bucket, `<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>`))
		must(t, 200)(do(t, admin, "s3", "PUT", "/"+bucket+"/key", text))
	}

	part := func(name, value string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	for name, one := range map[string]struct {
		service, method, path, body string
		headers                     []string
		want                        int // 0 for any
	}{
		"has no admin's door":                          {"ec2", "POST", "/moto-api/reset?Action=DescribeVpcs", "", nil, 200},
		"has no admin's door behind two slashes":       {"ec2", "POST", "//moto-api/reset?Action=DescribeVpcs", "", nil, 0},
		"has no admin's door for a REST service":       {"s3", "POST", "//moto-api/reset", "", nil, 400},
		"takes no action from a form when decided":     {"ec2", "POST", "/?Action=DescribeVpcs", "CidrBlock=10.66.0.0/16", []string{"Content-Type", form, "X-Amz-Target", "x.CreateVpc"}, 200},
		"takes no action from a multipart form":        {"ec2", "POST", "/?Action=DescribeVpcs", part("Action", "CreateVpc") + part("CidrBlock", "10.66.0.0/16") + "--x--\r\n", []string{"Content-Type", "multipart/form-data; boundary=x"}, 200},
		"takes no region from the user agent":          {"ec2", "POST", "/", "Action=CreateVpc&CidrBlock=10.66.0.0/16", []string{"Content-Type", form, "User-Agent", "x region/us-east-1"}, 200},
		"takes no region from the host":                {"ec2", "POST", "/", "Action=CreateVpc&CidrBlock=10.66.0.0/16", []string{"Content-Type", form, "Host", "ec2.us-east-1.amazonaws.com"}, 200},
		"takes no region from the query":               {"ec2", "POST", "/?x=.us-east-1.amazonaws.com", "Action=CreateVpc&CidrBlock=10.66.0.0/16", []string{"Content-Type", form}, 200},
		"takes no action from the query beside JSON":   {"cloudformation", "POST", "/?Action=DeleteStack&StackName=victim", "{}", []string{"Content-Type", json, "X-Amz-Target", "x.DescribeStacks"}, 400},
		"takes no action from within JSON":             {"cloudformation", "POST", "/", `{"a":"&Action=DeleteStack&StackName=victim&b="}`, []string{"Content-Type", json, "X-Amz-Target", "x.DescribeStacks"}, 0},
		"takes no action from behind JSON":             {"cloudformation", "POST", "/", `{}&Action=DeleteStack&StackName=victim&b=`, []string{"Content-Type", json, "X-Amz-Target", "x.DescribeStacks"}, 400},
		"takes no name from the query beside JSON":     {"events", "POST", "/?Name=victim", `{"Name":"mine"}`, []string{"Content-Type", json, "X-Amz-Target", "AWSEvents.DeleteRule"}, 200},
		"takes no name from within JSON":               {"events", "POST", "/", `{"Name":"mine","x":"&Name=victim&"}`, []string{"Content-Type", json, "X-Amz-Target", "AWSEvents.DeleteRule"}, 200},
		"takes no name from a header":                  {"events", "POST", "/", `{"Name":"mine"}`, []string{"Content-Type", json, "X-Amz-Target", "AWSEvents.DeleteRule", "Name", "victim"}, 200},
		"takes no name from a body beside the path":    {"eks", "DELETE", "/clusters/mine", `{"name":"victim"}`, []string{"Content-Type", "application/json"}, 400},
		"takes no name from a query beside the path":   {"eks", "DELETE", "/clusters/mine?name=victim", "", nil, 400},
		"takes one spelling of a list's member":        {"elasticloadbalancing", "POST", "/", "Version=2015-12-01&Action=RemoveTags&TagKeys.member.1=a&ResourceArns.member.1=victim&ResourceArns.any.1=mine", []string{"Content-Type", form}, 400},
		"takes no bucket from a host that is not read": {"s3", "GET", "/mine/key", "", []string{"Host", "victim.s3-us-west-2.amazonaws.com"}, 200},
	} {
		t.Run("which "+name, func(t *testing.T) {
			rule("PutRule", `{"Name":"mine","ScheduleExpression":"rate(1 day)"}`) // which some delete
			status, text, err := do(t, narrow, one.service, one.method, one.path, one.body, one.headers...)
			if err != nil {
				t.Fatal(err)
			}
			if one.want != 0 && status != one.want {
				t.Errorf("got status %d, want %d: %s", status, one.want, text)
			}
			if strings.Contains(text, "secret") {
				t.Errorf("got %s, want nothing of the victim's", text)
			}
			rules := must(t, 200)(do(t, admin, "events", "POST", "/", "{}", "Content-Type", json, "X-Amz-Target", "AWSEvents.ListRules"))
			stacks := must(t, 200)(query(t, d, admin, "cloudformation", "DescribeStacks"))
			clusters := must(t, 200)(do(t, admin, "eks", "GET", "/clusters", ""))
			for _, there := range []string{rules, stacks, clusters} {
				if !strings.Contains(there, "victim") {
					t.Errorf("got %s, want the victim to be there still", there)
				}
			}
		})
	}
	t.Run("which leaves other regions alone", func(t *testing.T) {
		abroad := roleSession(t, d, "abroad", `{"Effect":"Allow","Action":"ec2:DescribeVpcs","Resource":"*"}`)
		r := httptest.NewRequest(http.MethodPost, d.URL()+"/", nil)
		r.RequestURI = ""
		r.Header.Set("Content-Type", form)
		text := must(t, 200)(sendFor(t, abroad, "ec2", "us-east-1", r, "Action=DescribeVpcs"))
		if strings.Contains(text, "10.66.0.0") {
			t.Errorf("got %s, want no VPC that was made for eu-central-1", text)
		}
	})
	t.Run("which copies nothing for a presigned URL that may only write", func(t *testing.T) {
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		r, err := http.NewRequest(http.MethodPut, d.URL()+"/mine/stolen?X-Amz-Expires=60&x-amz-copy-source="+url.QueryEscape("victim/key"), nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, _, err := signer.PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: narrow.AccessKeyID, SecretAccessKey: narrow.SecretAccessKey, SessionToken: narrow.SessionToken},
			r, "UNSIGNED-PAYLOAD", "s3", "eu-central-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r, err = http.NewRequest(http.MethodPut, signed, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusForbidden {
			t.Errorf("got status %d, want 403", answer.StatusCode)
		}
	})
	t.Run("which keeps an object's bytes that look like a form", func(t *testing.T) {
		must(t, 200)(do(t, narrow, "s3", "PUT", "/mine/form", "a=b&uploadId=c", "Content-Type", form))
		if got := must(t, 200)(do(t, narrow, "s3", "GET", "/mine/form", "")); got != "a=b&uploadId=c" {
			t.Errorf("got %q, want what was put", got)
		}
	})
	t.Run("or says in the protocol's own form that it cannot", func(t *testing.T) {
		text := must(t, http.StatusNotImplemented)(query(t, d, admin, "ec2", "MonitorInstances", "InstanceId.1", "i-1"))
		if !strings.Contains(text, "<Code>NotImplemented</Code>") {
			t.Errorf("got %s, want the code NotImplemented", text)
		}
	})
}

func TestFormsWithOneMeaning(t *testing.T) {
	t.Parallel()
	_, err := fromForm(url.Values{"A.member.1": {"x"}, "A.other.1": {"y"}}, false)
	if !errors.Is(err, errNotACall) {
		t.Errorf("got %v, want %v", err, errNotACall)
	}
	n, err := fromForm(url.Values{"A.member.1": {"x"}, "A.member.2": {"y"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := n.all("A.*"), []string{"x", "y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Tags and keys of what is there already are looked up before anything happens.
func TestNarrowPoliciesOnSecretsTopicsAndKeys(t *testing.T) {
	t.Parallel()
	d := startWithMoto(t, Options{})
	for _, name := range []string{"own", "other"} {
		mustCLI(t, d, "secretsmanager", "create-secret", "--name", name, "--secret-string", "x", "--tags", "Key=team,Value="+name)
		mustCLI(t, d, "sns", "create-topic", "--name", name, "--tags", "Key=team,Value="+name)
	}
	own := mustCLI(t, d, "kms", "create-key", "--query", "KeyMetadata.KeyId", "--output", "text")
	other := mustCLI(t, d, "kms", "create-key", "--query", "KeyMetadata.KeyId", "--output", "text")
	text := mustCLI(t, d, "kms", "encrypt", "--key-id", other, "--plaintext", "eA==", "--query", "CiphertextBlob", "--output", "text")
	key := roleSession(t, d, "narrow", `
		{"Effect":"Allow","Action":["secretsmanager:GetSecretValue","sns:Publish"],"Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"own"}}},
		{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:eu-central-1:123456789012:key/`+own+`"}`)
	const topic = "arn:aws:sns:eu-central-1:123456789012:"
	call := func(service, target, body string) (int, string, error) {
		r := newRequest(t, http.MethodPost, d.URL()+"/")
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", target)
		return send(t, d, key, service, r, body)
	}
	must(t, 200)(call("secretsmanager", "secretsmanager.GetSecretValue", `{"SecretId":"own"}`))
	must(t, 400)(call("secretsmanager", "secretsmanager.GetSecretValue", `{"SecretId":"other"}`))
	must(t, 200)(query(t, d, key, "sns", "Publish", "TopicArn", topic+"own", "Message", "x"))
	must(t, 403)(query(t, d, key, "sns", "Publish", "TopicArn", topic+"other", "Message", "x"))
	// The key is the text's, whatever the call says.
	if answer := must(t, 400)(call("kms", "TrentService.Decrypt", `{"KeyId":"`+own+`","CiphertextBlob":"`+text+`"}`)); !strings.Contains(answer, "AccessDenied") {
		t.Errorf("got %s, want AccessDenied", answer)
	}
}

func TestTagsOfANewBucket(t *testing.T) {
	t.Parallel()
	d := startWithMoto(t, Options{})
	const config = `<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint><Tags><Tag><Key>team</Key><Value>data</Value></Tag></Tags></CreateBucketConfiguration>`
	put := func(key awsidentity.Credentials, method, path, body string) (int, string, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, d.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return send(t, d, key, "s3", r, body)
	}
	t.Run("it tags a bucket in the call that makes it", func(t *testing.T) {
		t.Parallel()
		admin := d.Accounts().Customer.Credentials
		must(t, 200)(put(admin, http.MethodPut, "/opta-tagged", config))
		if got := must(t, 200)(put(admin, http.MethodGet, "/opta-tagged?tagging", "")); !strings.Contains(got, "<Key>team</Key><Value>data</Value>") {
			t.Errorf("got %s, want the tag", got)
		}
	})
	t.Run("it asks for the right to tag, with the tags", func(t *testing.T) {
		t.Parallel()
		create := `{"Effect":"Allow","Action":"s3:CreateBucket","Resource":"*"}`
		tag := `{"Effect":"Allow","Action":"s3:TagResource","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"%s"}}}`
		without := roleSession(t, d, "creates", create)
		other := roleSession(t, d, "tags-other", create+","+strings.Replace(tag, "%s", "other", 1))
		right := roleSession(t, d, "tags", create+","+strings.Replace(tag, "%s", "data", 1))
		must(t, 403)(put(without, http.MethodPut, "/opta-by-role", config))
		must(t, 403)(put(other, http.MethodPut, "/opta-by-role", config))
		must(t, 200)(put(right, http.MethodPut, "/opta-by-role", config))
	})
}
