package cli_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/rogpeppe/go-internal/testscript"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/provision/fault"
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

// signIn is the transcripts' command
//
//	signin NAME POLICY-FILE|POLICY-ARN [BOUNDARY-ARN]
//
// after which commands run as a new user of the customer's account.
func signIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: signin NAME POLICY-FILE|POLICY-ARN [BOUNDARY-ARN]")
	}
	ctx, api := context.Background(), customerIAM(ts)
	in := &iam.CreateUserInput{UserName: &args[0]}
	if len(args) > 2 {
		in.PermissionsBoundary = &args[2]
	}
	_, err := api.CreateUser(ctx, in)
	ts.Check(err)
	if strings.HasPrefix(args[1], "arn:") {
		_, err = api.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &args[0], PolicyArn: &args[1]})
	} else {
		_, err = api.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &args[0], PolicyName: ptr("own"), PolicyDocument: ptr(ts.ReadFile(args[1]))})
	}
	ts.Check(err)
	key, err := api.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &args[0]})
	ts.Check(err)
	ts.Setenv("AWS_ACCESS_KEY_ID", *key.AccessKey.AccessKeyId)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", *key.AccessKey.SecretAccessKey)
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

// putPolicy is the transcripts' command
//
//	putpolicy ROLE POLICY FILE
//
// with which the customer puts an inline policy into a role.
func putPolicy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: putpolicy ROLE POLICY FILE")
	}
	_, err := customerIAM(ts).PutRolePolicy(context.Background(), &iam.PutRolePolicyInput{RoleName: &args[0], PolicyName: &args[1], PolicyDocument: ptr(ts.ReadFile(args[2]))})
	ts.Check(err)
}

// setAhead is the transcripts' command
//
//	ahead DURATION
//
// after which AWS's clock is so far ahead of the machine's, or behind it.
func setAhead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ahead DURATION")
	}
	by, err := time.ParseDuration(args[0])
	ts.Check(err)
	accountOf(ts).ahead.Store(int64(by))
}

// assumeRole is the transcripts' command
//
//	assume PROFILE ROLE EXTERNAL-ID SOURCE-IDENTITY
//
// with which somebody assumes a role of the customer's; - stands for nothing. The session
// asks for a cluster's log, as support does, and that this double has no logs is no
// refusal. ! assume is refused, in one of the two.
func assumeRole(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: assume PROFILE ROLE EXTERNAL-ID SOURCE-IDENTITY")
	}
	double := accountOf(ts).double
	key := double.Accounts().Vendor.Credentials
	if args[0] == "vendor-other" {
		key = double.Accounts().VendorOther.Credentials
	}
	given := func(text string) *string {
		if text == "-" {
			return nil
		}
		return &text
	}
	base := ptr(double.URL())
	out, err := sts.New(sts.Options{
		Region: "eu-central-1", BaseEndpoint: base, Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, key.SessionToken),
	}).AssumeRole(context.Background(), &sts.AssumeRoleInput{
		RoleArn: ptr("arn:aws:iam::" + double.Accounts().Customer.ID + ":role/union/" + args[1]), RoleSessionName: ptr("support"),
		ExternalId: given(args[2]), SourceIdentity: given(args[3]),
	})
	if err == nil {
		err = readLogs(base, out.Credentials)
	} else if !fault.Denied(err) {
		ts.Fatalf("got %v", err)
	}
	if fault.Denied(err) != neg {
		ts.Fatalf("got %v", err)
	}
}

// readLogs asks for the log of a cluster of the vendor's.
func readLogs(base *string, session *types.Credentials) error {
	_, err := cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: "eu-central-1", BaseEndpoint: base, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(*session.AccessKeyId, *session.SecretAccessKey, *session.SessionToken),
	}).FilterLogEvents(context.Background(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: ptr("/aws/eks/union-a/cluster")})
	return err
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

// freePort is the transcripts' command
//
//	freeport NAME
//
// which sets a variable to an address on which nobody listens.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeport NAME")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], listener.Addr().String())
	ts.Check(listener.Close())
}

// listensAt is the transcripts' command
//
//	listensat ADDRESS
//
// which waits until somebody listens there.
func listensAt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listensat ADDRESS")
	}
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var connection net.Conn
		if connection, err = net.Dial("tcp", args[0]); err == nil {
			ts.Check(connection.Close())
			return
		}
	}
	ts.Fatalf("got nobody at %s after a minute: %v", args[0], err)
}
