package cli_test

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/rogpeppe/go-internal/testscript"

	"biplane.dev/biplane/internal/awsdouble"
)

// makeRole is the transcripts' command
//
//	makerole NAME PATH TRUST-FILE [BOUNDARY-ARN]
//
// with which somebody other than Biplane makes a role in the customer's account.
func makeRole(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: makerole NAME PATH TRUST-FILE [BOUNDARY-ARN]")
	}
	in := &iam.CreateRoleInput{RoleName: &args[0], Path: &args[1], AssumeRolePolicyDocument: ptr(ts.ReadFile(args[2]))}
	if len(args) > 3 {
		in.PermissionsBoundary = &args[3]
	}
	_, err := customerIAM(ts).CreateRole(context.Background(), in)
	ts.Check(err)
}

// attach is the transcripts' command
//
//	attach ROLE POLICY-ARN
//
// with which the customer gives a role more.
func attach(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: attach ROLE POLICY-ARN")
	}
	_, err := customerIAM(ts).AttachRolePolicy(context.Background(), &iam.AttachRolePolicyInput{RoleName: &args[0], PolicyArn: &args[1]})
	ts.Check(err)
}

// setTrust is the transcripts' command
//
//	trust ROLE TRUST-FILE
//
// with which the customer edits a role's trust by hand.
func setTrust(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: trust ROLE TRUST-FILE")
	}
	_, err := customerIAM(ts).UpdateAssumeRolePolicy(context.Background(), &iam.UpdateAssumeRolePolicyInput{RoleName: &args[0], PolicyDocument: ptr(ts.ReadFile(args[1]))})
	ts.Check(err)
}

func customerIAM(ts *testscript.TestScript) *iam.Client {
	return iam.New(iam.Options{
		Region: "us-east-1", BaseEndpoint: ptr(ts.Getenv("AWS_ENDPOINT_URL")),
		Credentials: credentials.NewStaticCredentialsProvider(ts.Getenv("AWS_ACCESS_KEY_ID"), ts.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
	})
}

// expire is the transcripts' command after which AWS answers everybody that the
// credentials have expired.
func expire(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: expire")
	}
	double, err := awsdouble.Start(context.Background(), awsdouble.Options{Hook: func(awsdouble.Call) awsdouble.Verdict {
		return awsdouble.Refuse(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
	}})
	ts.Check(err)
	ts.Defer(func() { ts.Check(double.Stop()) })
	ts.Setenv("AWS_ENDPOINT_URL", double.URL())
}
