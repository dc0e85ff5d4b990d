package template

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

func region(t *testing.T, name string) access.Region {
	t.Helper()
	r, ok := access.LookUpRegion(name)
	if !ok {
		t.Fatalf("got no region %s, want one", name)
	}
	return r
}

// The published page's own link, letter by letter.
func TestLinkHasThePublishedForm(t *testing.T) {
	t.Parallel()
	v := vendor.Default()
	got := Link{
		Region: region(t, "eu-central-1"), TemplateURL: "https://union-public.s3.amazonaws.com/templates/v0.13/union-ai-admin-role.template.yaml",
		StackName: v.StackName, RoleName: v.RoleName,
	}.String()
	want := "https://eu-central-1.console.aws.amazon.com/cloudformation/home?region=eu-central-1#/stacks/quickcreate" +
		"?templateURL=https%3A%2F%2Funion-public.s3.amazonaws.com%2Ftemplates%2Fv0.13%2Funion-ai-admin-role.template.yaml" +
		"&stackName=UnionCloudAccess&param_CrossAccountRoleName=union-ai-admin"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What a console reads out of a link is what was put into it.
func TestLinkIsReadBack(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ region, host string }{
		{"us-east-1", "us-east-1.console.aws.amazon.com"},
		{"eu-central-1", "eu-central-1.console.aws.amazon.com"},
		{"us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"},
		{"cn-north-1", "cn-north-1.console.amazonaws.cn"},
	} {
		l := Link{
			Region: region(t, tc.region), TemplateURL: "https://b.s3.amazonaws.com/a%20b/c+d&e=f/x.json?versionId=a/b+c",
			StackName: "Stack-1", RoleName: "role+a=b,c.d@e", ExternalID: "a+b=c,d.e@f:g/h-i_j",
		}
		u, err := url.Parse(l.String())
		if err != nil {
			t.Fatal(err)
		}
		if u.Host != tc.host || u.Query().Get("region") != tc.region || u.Path != "/cloudformation/home" {
			t.Errorf("%s: got %s, want the host %s and the region in the query", tc.region, u, tc.host)
		}
		page, query, _ := strings.Cut(u.EscapedFragment(), "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if page != "/stacks/quickcreate" {
			t.Errorf("got the page %s, want /stacks/quickcreate", page)
		}
		for name, want := range map[string]string{
			"templateURL": l.TemplateURL, "stackName": l.StackName, "param_CrossAccountRoleName": l.RoleName, "param_ExternalId": l.ExternalID,
		} {
			if got := values.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", tc.region, name, got, want)
			}
			delete(values, name)
		}
		if len(values) > 0 {
			t.Errorf("%s: got %v besides", tc.region, values)
		}
	}
}

// A value that a link fills in must be that of a parameter, or the console leaves it out.
func TestLinkFillsInParametersThatThereAre(t *testing.T) {
	t.Parallel()
	tree, err := read(made(t, access.Options{}).Bytes(JSON))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{RoleNameParameter, ExternalIDParameter, PreviousExternalIDParameter} {
		parameter, ok := get(child(tree, "Parameters"), name)
		if _, hidden := get(parameter, "NoEcho"); !ok || hidden {
			t.Errorf("%s: got none, or one with NoEcho, want one that a link can fill in", name)
		}
	}
}

func TestCheckURLTakes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ address, region string }{
		{"https://union-public.s3.amazonaws.com/templates/v0.13/x.yaml", "us-east-1"},
		{"https://bucket.s3.eu-central-1.amazonaws.com/x.json", "us-east-1"},
		{"https://bucket.s3-us-west-2.amazonaws.com/x.json?versionId=abc", "us-east-1"},
		{"https://a.bucket.s3.dualstack.us-west-2.amazonaws.com/x.json", "us-east-1"},
		{"https://s3.amazonaws.com/bucket/x.json", "us-east-1"},
		{"https://s3.eu-west-1.amazonaws.com/bucket/a/x.json", "us-east-1"},
		{"https://bucket.s3.us-gov-west-1.amazonaws.com/x.json", "us-gov-east-1"},
		{"https://bucket.s3.cn-north-1.amazonaws.com.cn/x.json", "cn-northwest-1"},
	} {
		if err := CheckURL(tc.address, region(t, tc.region)); err != nil {
			t.Errorf("%s: got %v, want it taken", tc.address, err)
		}
	}
}

func TestCheckURLRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ address, region, sentence, hint string }{
		{"s3://bucket/a/x.json", "us-east-1", "not its S3 URI", "https://bucket.s3.amazonaws.com/a/x.json"},
		{"http://bucket.s3.amazonaws.com/x.json", "us-east-1", "by https", "https://BUCKET"},
		{"x.json", "us-east-1", "by https", "https://BUCKET"},
		{"", "us-east-1", "by https", "https://BUCKET"},
		{"https://example.com/x.json", "us-east-1", "not one of S3", "https://BUCKET"},
		{"https://bucket.s3.amazonaws.com.example.com/x.json", "us-east-1", "not one of S3", "https://BUCKET"},
		{"https://bucket.s3.amazonaws.com:8443/x.json", "us-east-1", "not one of S3", "https://BUCKET"},
		{"https://bucket.s3-website-us-east-1.amazonaws.com/x.json", "us-east-1", "not one of S3", "https://BUCKET"},
		{"https://bucket.s3-website.eu-central-1.amazonaws.com/x.json", "us-east-1", "not one of S3", "https://BUCKET"},
		{"https://bucket.s3.amazonaws.com/", "us-east-1", "names no object", "https://BUCKET"},
		{"https://s3.amazonaws.com/bucket", "us-east-1", "names no object", "https://BUCKET"},
		{"https://bucket.s3.amazonaws.com/folder/", "us-east-1", "names no object", "https://BUCKET"},
		{"https://me@bucket.s3.amazonaws.com/x.json", "us-east-1", "user's name", "https://BUCKET"},
		{"https://bucket.s3.amazonaws.com/x.json?X-Amz-Signature=abc", "us-east-1", "versionId", "signature"},
		{"https://bucket.s3.amazonaws.com/x.json#here", "us-east-1", "versionId", "leave the rest out"},
		{"https://bucket.s3.amazonaws.com/x.json", "cn-north-1", "partition aws, and the region cn-north-1 in aws-cn", "--template-url"},
		{"https://bucket.s3.amazonaws.com/x.json", "us-gov-west-1", "partition aws, and the region us-gov-west-1 in aws-us-gov", "--template-url"},
		{"https://bucket.s3.us-gov-west-1.amazonaws.com/x.json", "us-east-1", "partition aws-us-gov", "--template-url"},
		{"https://bucket.s3.amazonaws.com/%zz", "us-east-1", "cannot be read", "https://BUCKET"},
	} {
		err := CheckURL(tc.address, region(t, tc.region))
		var said *usererr.Error
		if !errors.As(err, &said) || !strings.Contains(said.Error(), tc.sentence) || !strings.Contains(said.Hint, tc.hint) {
			t.Errorf("%s: got %v, want %q with the hint %q", tc.address, err, tc.sentence, tc.hint)
		}
	}
}

func TestPublishedURLsAreTaken(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range variants() {
		address := made(t, v.Options).PublishedURL(v.Vendor)
		if err := CheckURL(address, region(t, "us-east-1")); err != nil || seen[address] {
			t.Errorf("%s: got %s, %v, want an address of its own", v.name, address, err)
		}
		seen[address] = true
	}
}
