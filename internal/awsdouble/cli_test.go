package awsdouble

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	trustOfEverybody = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sts:AssumeRole"}]}`
	narrowPolicy     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:CreateVpc","ec2:DescribeVpcs"],"Resource":"*"}]}`
)

// The unmodified AWS CLI works through the double, service by service.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	d := startWithMoto(t, Options{})
	file := filepath.Join(t.TempDir(), "hello.txt")
	if err := os.WriteFile(file, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	t.Run("signs in with every profile", func(t *testing.T) {
		for profile, want := range map[string]string{
			"customer":     "arn:aws:iam::123456789012:user/administrator",
			"vendor":       "arn:aws:sts::479331373192:assumed-role/biplane-controlplane/double",
			"vendor-other": "arn:aws:sts::479331373192:assumed-role/biplane-support/double",
			"stranger":     "arn:aws:iam::999999999999:user/administrator",
		} {
			if got := mustCLI(t, d, "--profile", profile, "sts", "get-caller-identity", "--query", "Arn", "--output", "text"); got != want {
				t.Errorf("%s: got %s, want %s", profile, got, want)
			}
		}
	})
	t.Run("gives a session of a role what the role may and no more", func(t *testing.T) {
		mustCLI(t, d, "iam", "create-role", "--role-name", "narrow", "--assume-role-policy-document", trustOfEverybody)
		mustCLI(t, d, "iam", "put-role-policy", "--role-name", "narrow", "--policy-name", "p", "--policy-document", narrowPolicy)
		var answer struct {
			Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
		}
		text := mustCLI(t, d, "sts", "assume-role", "--role-arn", "arn:aws:iam::123456789012:role/narrow", "--role-session-name", "test-session", "--output", "json")
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatal(err)
		}
		profile := fmt.Sprintf("[narrow]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
			answer.Credentials.AccessKeyId, answer.Credentials.SecretAccessKey, answer.Credentials.SessionToken)
		credentials, err := os.OpenFile(d.credentialsFile(), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := credentials.WriteString(profile); err != nil {
			t.Fatal(err)
		}
		credentials.Close()
		vpc := mustCLI(t, d, "--profile", "narrow", "ec2", "create-vpc", "--cidr-block", "10.1.0.0/16", "--query", "Vpc.VpcId", "--output", "text")
		_, err = cli(t, d, "--profile", "narrow", "ec2", "delete-vpc", "--vpc-id", vpc)
		want := "(UnauthorizedOperation) when calling the DeleteVpc operation: You are not authorized to perform this operation. " +
			"User: arn:aws:sts::123456789012:assumed-role/narrow/test-session is not authorized to perform: ec2:DeleteVpc on resource: " +
			"arn:aws:ec2:eu-central-1:123456789012:vpc/" + vpc + " because no identity-based policy allows the ec2:DeleteVpc action"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		// A tag in the create needs a right of its own.
		_, err = cli(t, d, "--profile", "narrow", "ec2", "create-vpc", "--cidr-block", "10.2.0.0/16",
			"--tag-specifications", "ResourceType=vpc,Tags=[{Key=team,Value=data}]")
		if err == nil || !strings.Contains(err.Error(), "ec2:CreateTags on resource: arn:aws:ec2:eu-central-1:123456789012:vpc/*") {
			t.Errorf("got %v, want a refusal of ec2:CreateTags", err)
		}
	})
	t.Run("answers a dry run without doing anything", func(t *testing.T) {
		if _, err := cli(t, d, "ec2", "create-vpc", "--cidr-block", "10.3.0.0/16", "--dry-run"); err == nil || !strings.Contains(err.Error(), "DryRunOperation") {
			t.Errorf("got %v, want DryRunOperation", err)
		}
		if _, err := cli(t, d, "--profile", "vendor-other", "ec2", "create-vpc", "--cidr-block", "10.3.0.0/16", "--dry-run"); err == nil || !strings.Contains(err.Error(), "UnauthorizedOperation") {
			t.Errorf("got %v, want UnauthorizedOperation", err)
		}
		if got := mustCLI(t, d, "ec2", "describe-vpcs", "--filters", "Name=cidr,Values=10.3.0.0/16", "--query", "length(Vpcs)"); got != "0" {
			t.Errorf("got %s such VPCs, want none", got)
		}
	})
	t.Run("keeps objects, and gives them to who has a URL", func(t *testing.T) {
		mustCLI(t, d, "s3", "mb", "s3://opta-objects")
		mustCLI(t, d, "s3", "cp", file, "s3://opta-objects/a/hello.txt")
		if got := mustCLI(t, d, "s3", "ls", "s3://opta-objects/a/"); !strings.HasSuffix(got, "6 hello.txt") {
			t.Errorf("got %s, want the object", got)
		}
		url := mustCLI(t, d, "s3", "presign", "s3://opta-objects/a/hello.txt")
		for what, one := range map[string]struct {
			url  string
			want int
		}{
			"as it is":            {url, 200},
			"for another object":  {strings.Replace(url, "hello.txt", "other.txt", 1), 403},
			"without a signature": {url[:strings.Index(url, "?")], 403},
		} {
			answer, err := http.Get(one.url)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || answer.StatusCode != one.want {
				t.Errorf("%s: got %d %s %v, want %d", what, answer.StatusCode, text, err, one.want)
			}
		}
		if _, err := cli(t, d, "--profile", "stranger", "s3", "cp", "s3://opta-objects/a/hello.txt", "-"); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("got %v, want a stranger refused", err)
		}
		mustCLI(t, d, "s3", "rm", "s3://opta-objects", "--recursive")
		mustCLI(t, d, "s3", "rb", "s3://opta-objects")
	})
	t.Run("serves the other services", func(t *testing.T) {
		mustCLI(t, d, "logs", "create-log-group", "--log-group-name", "/g", "--tags", "team=data")
		mustCLI(t, d, "eks", "list-clusters")
		key := mustCLI(t, d, "kms", "create-key", "--tags", "TagKey=team,TagValue=data", "--query", "KeyMetadata.KeyId", "--output", "text")
		mustCLI(t, d, "kms", "create-alias", "--alias-name", "alias/k", "--target-key-id", key)
		mustCLI(t, d, "kms", "describe-key", "--key-id", "alias/k")
		mustCLI(t, d, "cloudwatch", "list-metrics") // CBOR
		mustCLI(t, d, "elbv2", "describe-load-balancers")
		// The CLI's first version goes past AWS_ENDPOINT_URL for SQS alone.
		mustCLI(t, d, "--endpoint-url", d.URL(), "sqs", "create-queue", "--queue-name", "q")
		for service, command := range map[string][]string{
			"AccessDeniedException: logs": {"logs", "describe-log-groups"},
			"AccessDeniedException: eks":  {"eks", "list-clusters"},
			"AccessDeniedException: kms":  {"kms", "list-keys"},
			"AccessDenied: elb":           {"elbv2", "describe-load-balancers"},
			"AccessDenied: route53":       {"route53", "list-hosted-zones"},
		} {
			code, _, _ := strings.Cut(service, ":")
			if _, err := cli(t, d, append([]string{"--profile", "vendor-other"}, command...)...); err == nil || !strings.Contains(err.Error(), "("+code+")") {
				t.Errorf("%v: got %v, want %s", command, err, code)
			}
		}
	})
	t.Run("makes, waits for, changes and removes a cluster", func(t *testing.T) {
		n := newNetworkFor(t, d)
		role := serviceRole(t, d, "eks-cluster", "eks.amazonaws.com", "AmazonEKSClusterPolicy")
		nodes := serviceRole(t, d, "eks-nodes", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
		show := func(query string) string {
			t.Helper()
			return mustCLI(t, d, "eks", "describe-cluster", "--name", "cli", "--query", query, "--output", "text")
		}
		mustCLI(t, d, "eks", "create-cluster", "--name", "cli", "--role-arn", role, "--kubernetes-version", "1.34", "--resources-vpc-config", "subnetIds="+n.subnets[0]+","+n.subnets[1],
			"--access-config", "authenticationMode=API", "--tags", "owner=us")
		eventually(t, "active cluster", func() bool { return show("cluster.status") == "ACTIVE" }) // the waiter looks every 30 s
		mustCLI(t, d, "eks", "wait", "cluster-active", "--name", "cli")
		if got := show("cluster.[version,tags.owner,accessConfig.authenticationMode]"); got != "1.34\tus\tAPI" {
			t.Errorf("got %s", got)
		}
		mustCLI(t, d, "eks", "create-addon", "--cluster-name", "cli", "--addon-name", "vpc-cni")
		eventually(t, "active add-on", func() bool {
			return mustCLI(t, d, "eks", "describe-addon", "--cluster-name", "cli", "--addon-name", "vpc-cni", "--query", "addon.status") == `"ACTIVE"`
		})
		mustCLI(t, d, "eks", "wait", "addon-active", "--cluster-name", "cli", "--addon-name", "vpc-cni")
		mustCLI(t, d, "eks", "create-access-entry", "--cluster-name", "cli", "--principal-arn", role)
		mustCLI(t, d, "eks", "associate-access-policy", "--cluster-name", "cli", "--principal-arn", role, "--access-scope", "type=cluster",
			"--policy-arn", "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy")
		if got := mustCLI(t, d, "eks", "list-insights", "--cluster-name", "cli", "--query", "insights[].insightStatus.status", "--output", "text"); got != "PASSING\tPASSING\tPASSING\tPASSING" {
			t.Errorf("got insights %s, want all to pass", got)
		}
		update := mustCLI(t, d, "eks", "update-cluster-version", "--name", "cli", "--kubernetes-version", "1.35", "--query", "update.id", "--output", "text")
		eventually(t, "end of the update", func() bool {
			return mustCLI(t, d, "eks", "describe-update", "--name", "cli", "--update-id", update, "--query", "update.status") == `"Successful"`
		})
		mustCLI(t, d, "eks", "create-nodegroup", "--cluster-name", "cli", "--nodegroup-name", "ng", "--node-role", nodes, "--subnets", n.subnets[0])
		if _, err := cli(t, d, "eks", "delete-cluster", "--name", "cli"); err == nil || !strings.Contains(err.Error(), "(ResourceInUseException)") {
			t.Errorf("got %v, want the node group in the way", err)
		}
		eventually(t, "failed node group", func() bool { // there is no way out
			return mustCLI(t, d, "eks", "describe-nodegroup", "--cluster-name", "cli", "--nodegroup-name", "ng", "--query", "nodegroup.health.issues[].code", "--output", "text") == "NodeCreationFailure"
		})
		mustCLI(t, d, "eks", "delete-nodegroup", "--cluster-name", "cli", "--nodegroup-name", "ng")
		eventually(t, "end of the node group", func() bool {
			return mustCLI(t, d, "eks", "list-nodegroups", "--cluster-name", "cli", "--query", "nodegroups", "--output", "text") == ""
		})
		mustCLI(t, d, "eks", "delete-cluster", "--name", "cli")
		eventually(t, "end of the cluster", func() bool {
			_, err := cli(t, d, "eks", "describe-cluster", "--name", "cli")
			return err != nil && strings.Contains(err.Error(), "(ResourceNotFoundException)")
		})
		mustCLI(t, d, "eks", "wait", "cluster-deleted", "--name", "cli")
	})
	t.Run("lets a pod's token assume its role", func(t *testing.T) {
		const issuer = "https://oidc.example.com/id/A"
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		d.Identity().SetKeys(issuer, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: issuer, Subject: "system:serviceaccount:union:default", Audience: jwt.Audience{"sts.amazonaws.com"},
			IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		mustCLI(t, d, "iam", "create-open-id-connect-provider", "--url", issuer, "--client-id-list", "sts.amazonaws.com", "--thumbprint-list", strings.Repeat("0", 40))
		mustCLI(t, d, "iam", "create-role", "--role-name", "pod", "--assume-role-policy-document", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
			"Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/oidc.example.com/id/A"},"Action":"sts:AssumeRoleWithWebIdentity",
			"Condition":{"StringLike":{"oidc.example.com/id/A:sub":"system:serviceaccount:union:*"}}}]}`)
		got := mustCLI(t, d, "sts", "assume-role-with-web-identity", "--role-arn", "arn:aws:iam::123456789012:role/pod",
			"--role-session-name", "test-session", "--web-identity-token", token, "--query", "AssumedRoleUser.Arn", "--output", "text")
		if want := "arn:aws:sts::123456789012:assumed-role/pod/test-session"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if _, err := cli(t, d, "sts", "assume-role-with-web-identity", "--role-arn", "arn:aws:iam::123456789012:role/pod",
			"--role-session-name", "test-session", "--web-identity-token", token[:len(token)-8]+"AAAAAAAA"); err == nil {
			t.Error("got no error, want a forged token refused")
		}
	})
}
