package network

import (
	"slices"
	"strings"
)

// The services that are reached by endpoints, in the order of the lists that name them.
var (
	// recommendedServices are those without which every image and every line of a log goes
	// through a NAT gateway. The set-up guide names ecr.dkr alone, but a pull needs both.
	recommendedServices = []string{"logs", "ecr.dkr", "ecr.api", "ec2"}

	// privateServices are those that a private cluster endpoint's set-up lists beside S3.
	privateServices = []string{
		"autoscaling", "xray", "sts", "ecr.api", "ssm", "ec2messages", "ec2", "ssmmessages", "ecr.dkr", "logs", "eks-auth", "eks", "elasticloadbalancing",
	}

	// withoutNAT are those that no list names and that a network without a way out
	// needs besides: Karpenter's queue, secrets, the data plane's key, metrics.
	withoutNAT = []string{"sqs", "secretsmanager", "kms", "monitoring"}

	allServices = slices.Concat(privateServices, withoutNAT)
)

// serviceName is what AWS calls a service's endpoint in a region. In China some have a
// "cn." in front.
func serviceName(region, service string) string { return "com.amazonaws." + region + "." + service }

// isOf reports whether an endpoint's name is that of a service.
func isOf(name, region, service string) bool {
	return strings.HasSuffix(name, "com.amazonaws."+region+"."+service)
}
