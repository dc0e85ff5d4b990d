package operations

import (
	"context"
	"fmt"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
)

// UnlistedCallError says that a call was refused because the table does not have
// it, or does not have it for those who the guard is for. Nothing was sent.
type UnlistedCallError struct {
	Service   string // the SDK's name of it: "EC2"
	Operation string // "RunInstances"
	By        Roles  // who the guard is for; Everyone where it is for all
}

func (e *UnlistedCallError) Error() string {
	if e.By == Everyone {
		return fmt.Sprintf("the call %s %s is not in Biplane's table of operations, so it was not sent", e.Service, e.Operation)
	}
	return fmt.Sprintf("the call %s %s is not one that the table of operations has for %s, so it was not sent", e.Service, e.Operation, e.By)
}

// Everyone is all who make calls.
const Everyone = CustomerAdministrator | Vendor | VendorAccount | Workload

// Guard stands in front of an AWS client: it is for aws.Config.APIOptions. It
// refuses a call that the table does not have for any of by, with an
// *UnlistedCallError, before the request is built, signed or sent. A row that is
// left out on purpose is no permission.
func Guard(by Roles) func(*middleware.Stack) error {
	listed := map[string]bool{}
	for _, op := range Operations() {
		if op.Roles.Has(by) {
			listed[Name(op.Call)] = true
		}
	}
	return func(stack *middleware.Stack) error {
		// Last of the first step: the SDK has named the call by then, and has not
		// looked at its input, its endpoint or any credentials.
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("BiplaneOperationsGuard", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			service, operation := awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx)
			if prefix, known := servicePrefix(service); !known || !listed[prefix+":"+operation] {
				return middleware.InitializeOutput{}, middleware.Metadata{}, &UnlistedCallError{service, operation, by}
			}
			return next.HandleInitialize(ctx, in)
		}), middleware.After)
	}
}

// servicePrefix is how the table calls a service that the SDK calls id.
func servicePrefix(id string) (string, bool) {
	prefix, known := map[string]string{
		"ACM":                         "acm",
		"Application Auto Scaling":    "application-autoscaling",
		"Auto Scaling":                "autoscaling",
		"CloudFormation":              "cloudformation",
		"CloudWatch":                  "cloudwatch",
		"CloudWatch Logs":             "logs",
		"DynamoDB":                    "dynamodb",
		"EC2":                         "ec2",
		"ECR":                         "ecr",
		"ECS":                         "ecs",
		"EKS":                         "eks",
		"ElastiCache":                 "elasticache",
		"Elastic Load Balancing v2":   "elbv2",
		"EventBridge":                 "events",
		"IAM":                         "iam",
		"KMS":                         "kms",
		"Organizations":               "organizations",
		"RAM":                         "ram",
		"RDS":                         "rds",
		"Resource Groups Tagging API": "resourcegroupstaggingapi",
		"Route 53":                    "route53",
		"S3":                          "s3",
		"SQS":                         "sqs",
		"SSM":                         "ssm",
		"STS":                         "sts",
		"Service Quotas":              "service-quotas",
	}[id]
	return prefix, known
}
