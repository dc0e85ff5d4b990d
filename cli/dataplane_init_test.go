package cli

import (
	"bufio"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/spec"
)

// It asks what no flag has answered, takes a default for an empty line, and asks again
// where an answer cannot be used.
func TestInitAsks(t *testing.T) {
	t.Parallel()
	role := func(account, _ string) string { return "arn:aws:iam::" + account + ":role/union/union-ai-admin" }
	d := spec.Draft{Name: "given", Policy: spec.Strict, Zones: 3, Kubernetes: spec.CurrentKubernetes, ClusterEndpoint: spec.PublicAddress, Roles: spec.PerServiceAccount, CIDR: "10.0.0.0/16", TokenFile: "token"}
	var said strings.Builder
	in := bufio.NewReader(strings.NewReader("12345\n123456789012\neu\n\n\nan-id\nhttp://cp\nnone\n10.0.0.0/8\n10.1.0.0/16\n"))
	err := ask(t.Context(), in, &said, &d, questions(func(flag string) bool { return flag == "name" }), role)
	if err != nil || d.Account != "123456789012" || d.Region != "eu-central-1" || d.ExternalID != "an-id" || d.CIDR != "10.1.0.0/16" || d.ControlPlane != "" || d.Name != "given" {
		t.Errorf("got %+v, error %v, after\n%s", d, err, said.String())
	}
	for _, want := range []string{`"12345" is not an AWS account`, "AWS region [eu-central-1]: ", "there is no default for it", "is not an https address"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("got no %q in\n%s", want, said.String())
		}
	}
	if err := ask(t.Context(), bufio.NewReader(strings.NewReader("")), &said, &d, questions(func(string) bool { return false }), role); err == nil {
		t.Error("the end of the input was taken as an answer")
	}
}
