package cli_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/rogpeppe/go-internal/testscript"
)

// makeVPC is the transcripts' command
//
//	makevpc CIDR
//
// which makes a network with one subnet as the customer does, in the double that the
// environment names, and sets VPC and SUBNET to their ids.
func makeVPC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: makevpc CIDR")
	}
	api := ec2.New(ec2.Options{
		Region: ts.Getenv("AWS_REGION"), BaseEndpoint: aws.String(ts.Getenv("AWS_ENDPOINT_URL")),
		Credentials: credentials.NewStaticCredentialsProvider(ts.Getenv("AWS_ACCESS_KEY_ID"), ts.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
	})
	vpc, err := api.CreateVpc(context.Background(), &ec2.CreateVpcInput{CidrBlock: &args[0]})
	ts.Check(err)
	subnet, err := api.CreateSubnet(context.Background(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: &args[0], AvailabilityZoneId: aws.String("euc1-az1")})
	ts.Check(err)
	ts.Setenv("VPC", *vpc.Vpc.VpcId)
	ts.Setenv("SUBNET", *subnet.Subnet.SubnetId)
	fmt.Fprintln(ts.Stdout(), *vpc.Vpc.VpcId)
}
