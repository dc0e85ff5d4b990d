package fault

import (
	"errors"
	"strings"

	"github.com/aws/smithy-go"
)

// Quota is one of the numbers that bound an account, as Service Quotas knows it.
type Quota struct {
	Name    string // "elastic IP addresses"; "" for one that is not known here
	Service string // "ec2"
	Code    string // "L-0263D0A3"
	Global  bool   // it is raised in us-east-1, whatever the region
}

// quotas by the call that is refused for them. Codes are those of Service Quotas.
var quotas = map[string]Quota{
	"EC2 AllocateAddress":                          {"elastic IP addresses", "ec2", "L-0263D0A3", false},
	"EC2 CreateVpc":                                {"VPCs", "vpc", "L-F678F1CE", false},
	"EC2 CreateInternetGateway":                    {"internet gateways", "vpc", "L-A4707A72", false},
	"EC2 CreateSubnet":                             {"subnets in a VPC", "vpc", "L-407747CB", false},
	"EC2 CreateNatGateway":                         {"NAT gateways in a zone", "vpc", "L-FE5A380F", false},
	"EC2 CreateVpcEndpoint":                        {"interface endpoints in a VPC", "vpc", "L-29B6F2EB", false},
	"EC2 CreateRouteTable":                         {"route tables in a VPC", "vpc", "L-589F43AA", false},
	"EC2 CreateSecurityGroup":                      {"security groups", "vpc", "L-E79EC296", false},
	"EKS CreateCluster":                            {"EKS clusters", "eks", "L-1194D53C", false},
	"EKS CreateNodegroup":                          {"managed node groups in a cluster", "eks", "L-6D54EA21", false},
	"Elastic Load Balancing v2 CreateLoadBalancer": {"network load balancers", "elasticloadbalancing", "L-69A177A2", false},
	"Elastic Load Balancing v2 CreateTargetGroup":  {"target groups", "elasticloadbalancing", "L-B22855CB", false},
	"IAM CreateRole":                               {"roles in an account", "iam", "L-FE177D64", true},
	"IAM CreateOpenIDConnectProvider":              {"OpenID Connect providers in an account", "iam", "L-858F3967", true},
	"IAM CreateInstanceProfile":                    {"instance profiles in an account", "iam", "L-6E65F664", true},
	"IAM CreatePolicy":                             {"policies in an account", "iam", "L-E95E4862", true},
	"KMS CreateKey":                                {"keys", "kms", "L-C2F1777E", false},
	"S3 CreateBucket":                              {"buckets in an account", "s3", "L-DC2B2D3D", true},
}

// UsedUp reports whether AWS says that a quota is used up, and which one.
func UsedUp(err error) (Quota, bool) {
	code := Code(err)
	if !strings.HasSuffix(code, "LimitExceeded") && !strings.HasSuffix(code, "LimitExceededException") && code != "TooManyBuckets" &&
		code != "TooManyLoadBalancers" && code != "TooManyTargetGroups" || code == "RequestLimitExceeded" {
		return Quota{}, false
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return quotas[operation.ServiceID+" "+operation.OperationName], true
	}
	return Quota{}, true
}
