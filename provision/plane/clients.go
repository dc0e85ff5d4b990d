package plane

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/provision/fault"
)

// Clients are the AWS services, all with the same credentials and the same guard.
type Clients struct {
	EC2    *ec2.Client
	ECR    *ecr.Client
	ECS    *ecs.Client
	EKS    *eks.Client
	ELB    *elasticloadbalancingv2.Client
	Events *eventbridge.Client
	IAM    *iam.Client
	KMS    *kms.Client
	Logs   *cloudwatchlogs.Client
	Quotas *servicequotas.Client
	S3     *s3.Client
	SQS    *sqs.Client
	STS    *sts.Client
	Tags   *resourcegroupstaggingapi.Client
}

// NewClients makes them. Whoever makes the configuration has put a guard into it.
func NewClients(cfg aws.Config) Clients {
	cfg = once(cfg)
	return Clients{
		EC2:    ec2.NewFromConfig(cfg),
		ECR:    ecr.NewFromConfig(cfg),
		ECS:    ecs.NewFromConfig(cfg),
		EKS:    eks.NewFromConfig(cfg),
		ELB:    elasticloadbalancingv2.NewFromConfig(cfg),
		Events: eventbridge.NewFromConfig(cfg),
		IAM:    iam.NewFromConfig(cfg),
		KMS:    kms.NewFromConfig(cfg),
		Logs:   cloudwatchlogs.NewFromConfig(cfg),
		Quotas: servicequotas.NewFromConfig(cfg),
		S3:     s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil }),
		SQS:    sqs.NewFromConfig(cfg),
		STS:    sts.NewFromConfig(cfg),
		Tags:   resourcegroupstaggingapi.NewFromConfig(cfg),
	}
}

// VendorClients are services of the vendor's own account, with the vendor's own
// credentials: the other side of a private endpoint.
type VendorClients struct {
	EC2     *ec2.Client
	Route53 *route53.Client
}

// NewVendorClients makes them.
func NewVendorClients(cfg aws.Config) VendorClients {
	cfg = once(cfg)
	return VendorClients{EC2: ec2.NewFromConfig(cfg), Route53: route53.NewFromConfig(cfg)}
}

// once lets no call be sent twice that makes another thing each time.
func once(cfg aws.Config) aws.Config {
	cfg.APIOptions = append(cfg.APIOptions[:len(cfg.APIOptions):len(cfg.APIOptions)], fault.Once)
	return cfg
}
