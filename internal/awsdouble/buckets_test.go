package awsdouble

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// rest calls a service by a path.
func (a *account) rest(service, method, path, body string, header ...string) (text string, status int) {
	a.t.Helper()
	r := newRequest(a.t, method, a.d.URL()+path)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	status, text, err := send(a.t, a.d, a.key, service, r, body)
	if err != nil {
		a.t.Fatal(err)
	}
	return text, status
}

// answers checks what a call by a path comes to: words, and a code where it is refused.
func (a *account) answers(want int, words string) func(text string, status int) {
	a.t.Helper()
	return func(text string, status int) {
		a.t.Helper()
		if status != want || !strings.Contains(text, words) {
			a.t.Errorf("got status %d %s, want %d with %s", status, text, want, words)
		}
	}
}

const located = `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>`

func TestExpectedBucketOwner(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	const owner, source = "X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner"
	a.answers(200, "")(a.rest("s3", http.MethodPut, "/union-owned", located))
	mine, other := a.d.Accounts().Customer.ID, a.d.Accounts().Stranger.ID
	a.answers(200, "")(a.rest("s3", http.MethodPut, "/union-owned/k", "x", owner, mine))
	for _, one := range []struct{ method, path, body string }{
		{http.MethodGet, "/union-owned/k", ""}, {http.MethodPut, "/union-owned/k", "y"}, {http.MethodDelete, "/union-owned/k", ""},
		{http.MethodGet, "/union-owned?versioning", ""}, {http.MethodGet, "/union-owned?policy", ""}, {http.MethodGet, "/union-owned?list-type=2", ""},
		{http.MethodPut, "/union-owned?policy", "{}"}, {http.MethodDelete, "/union-owned", ""},
	} {
		a.answers(403, "<Code>AccessDenied</Code>")(a.rest("s3", one.method, one.path, one.body, owner, other))
	}
	a.answers(403, "")(a.rest("s3", http.MethodHead, "/union-owned", "", owner, other))
	a.answers(403, "AccessDenied")(a.rest("s3", http.MethodPut, "/union-owned/copy", "", "X-Amz-Copy-Source", "/union-owned/k", source, other))
	a.answers(200, "x")(a.rest("s3", http.MethodGet, "/union-owned/k", "", owner, mine))
	a.answers(404, "NoSuchBucket")(a.rest("s3", http.MethodGet, "/union-nobody?list-type=2", "", owner, other))
}

func TestBucketsThatCannotBe(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	for _, name := range []string{"Upper-case", "under_score", "two..dots", "192.168.0.1", "xn--name", "name-s3alias"} {
		a.answers(400, "InvalidBucketName")(a.rest("s3", http.MethodPut, "/"+name, located))
	}
	a.answers(200, "")(a.rest("s3", http.MethodPut, "/union-policy", located))
	policy := func(principal, resource string) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":%s,"Action":"s3:GetObject","Resource":%q}]}`, principal, resource)
	}
	put := func(text string) (string, int) { return a.rest("s3", http.MethodPut, "/union-policy?policy", text) }
	a.answers(400, "Policy has invalid resource")(put(policy(`"*"`, "arn:aws:s3:::union-other/*")))
	a.answers(400, "Invalid principal in policy")(put(policy(`{"AWS":"arn:aws:iam::`+a.d.Accounts().Customer.ID+`:role/nobody"}`, "arn:aws:s3:::union-policy/*")))
	a.answers(204, "")(put(policy(`"*"`, "arn:aws:s3:::union-policy/*")))
	a.answers(200, "")(a.rest("s3", http.MethodPut, "/union-policy?publicAccessBlock",
		`<PublicAccessBlockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>`))
	a.answers(403, "BlockPublicPolicy")(put(policy(`"*"`, "arn:aws:s3:::union-policy/*")))
	a.answers(204, "")(put(policy(`{"AWS":"`+a.d.Accounts().Customer.ID+`"}`, "arn:aws:s3:::union-policy/*")))
}

func TestZones(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	vpc := a.ec2("vpcId", "CreateVpc", "CidrBlock", "10.0.0.0/16")
	create := func(name, reference, vpc string) (string, int) {
		network := ""
		if vpc != "" {
			network = "<VPC><VPCRegion>" + a.d.region + "</VPCRegion><VPCId>" + vpc + "</VPCId></VPC><HostedZoneConfig><PrivateZone>true</PrivateZone></HostedZoneConfig>"
		}
		return a.rest("route53", http.MethodPost, "/2013-04-01/hostedzone", `<CreateHostedZoneRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Name>`+name+`</Name><CallerReference>`+reference+`</CallerReference>`+network+`</CreateHostedZoneRequest>`)
	}
	text, _ := create("example.com", "1", "")
	zone := between(t, text, "<Id>/hostedzone/", "</Id>")
	change := between(t, text, "<Id>/change/", "</Id>")
	status := func(id string) (string, int) {
		return a.rest("route53", http.MethodGet, "/2013-04-01/change/"+id, "")
	}
	a.answers(200, "<Status>PENDING</Status>")(status(change))
	a.clock.pass(typical.ChangeZone)
	a.answers(200, "<Status>INSYNC</Status>")(status(change))
	a.answers(404, "NoSuchChange")(status("C00000000000000000000"))
	a.answers(409, "HostedZoneAlreadyExists")(create("example.com", "1", ""))
	a.answers(201, "")(create("private.example.com", "2", vpc))
	a.answers(400, "ConflictingDomainExists")(create("private.example.com", "3", vpc))
	a.answers(400, "InvalidVPCId")(create("other.example.com", "4", "vpc-0123456789abcdef0"))

	records := func(action, name, value string) (string, int) {
		return a.rest("route53", http.MethodPost, "/2013-04-01/hostedzone/"+zone+"/rrset/", `<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch><Changes><Change><Action>`+action+
			`</Action><ResourceRecordSet><Name>`+name+`</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>`+value+`</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`)
	}
	a.answers(400, "quotation marks")(records("CREATE", "x.example.com", "v"))
	a.answers(200, "PENDING")(records("CREATE", "x.example.com", `"v"`))
	a.answers(400, "it was not found")(records("DELETE", "y.example.com", `"v"`))
	a.answers(400, "do not match the current values")(records("DELETE", "x.example.com", `"w"`))
	a.answers(200, "")(records("DELETE", "x.example.com.", `"v"`))
}
