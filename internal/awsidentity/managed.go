package awsidentity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// managedPolicies returns the policies that AWS keeps, those of them that a data
// plane attaches, by their ARN in partition aws. What they allow is AWS's list
// of actions in short; documents, dates and ids are our own.
func managedPolicies() map[string]*policy {
	out := map[string]*policy{}
	for i, one := range []struct {
		path, name, description string
		actions                 []string
	}{
		{"/", "AdministratorAccess", "Provides full access to AWS services and resources.", []string{"*"}},
		{"/", "PowerUserAccess", "Provides full access to AWS services but not to identity.", []string{"NOT iam:*", "organizations:*", "account:*"}},
		{"/", "ReadOnlyAccess", "Provides read-only access to AWS services and resources.", []string{
			"autoscaling:Describe*", "cloudformation:Describe*", "cloudformation:Get*", "cloudformation:List*", "cloudwatch:Describe*", "cloudwatch:Get*", "cloudwatch:List*",
			"dynamodb:BatchGet*", "dynamodb:Describe*", "dynamodb:Get*", "dynamodb:List*", "dynamodb:Query", "dynamodb:Scan", "ec2:Describe*", "ec2:Get*", "ec2:List*", "ec2:Search*",
			"ecr:BatchCheck*", "ecr:BatchGet*", "ecr:Describe*", "ecr:Get*", "ecr:List*", "ecs:Describe*", "ecs:List*", "eks:Describe*", "eks:List*", "elasticache:Describe*", "elasticache:List*",
			"elasticloadbalancing:Describe*", "events:Describe*", "events:List*", "iam:Generate*", "iam:Get*", "iam:List*", "iam:Simulate*", "kms:Describe*", "kms:Get*", "kms:List*",
			"logs:Describe*", "logs:FilterLogEvents", "logs:Get*", "logs:List*", "organizations:Describe*", "organizations:List*", "rds:Describe*", "rds:List*", "route53:Get*", "route53:List*", "s3:Describe*", "s3:Get*", "s3:List*",
			"servicequotas:Get*", "servicequotas:List*", "sqs:Get*", "sqs:List*", "ssm:Describe*", "ssm:Get*", "ssm:List*", "sts:GetAccessKeyInfo", "sts:GetCallerIdentity", "tag:Get*",
		}},
		{"/", "AmazonEKSClusterPolicy", "Provides Kubernetes the permissions it requires to manage resources on your behalf.", []string{
			"autoscaling:DescribeAutoScalingGroups", "autoscaling:UpdateAutoScalingGroup", "ec2:AttachVolume", "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateRoute", "ec2:CreateSecurityGroup",
			"ec2:CreateTags", "ec2:CreateVolume", "ec2:DeleteRoute", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume", "ec2:Describe*", "ec2:DetachVolume", "ec2:ModifyInstanceAttribute",
			"ec2:ModifyVolume", "ec2:RevokeSecurityGroupIngress", "elasticloadbalancing:*", "iam:CreateServiceLinkedRole", "kms:DescribeKey",
		}},
		{"/", "AmazonEKSVPCResourceController", "Lets the VPC resource controller manage network interfaces of worker nodes.", []string{
			"ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface", "ec2:DetachNetworkInterface", "ec2:ModifyNetworkInterfaceAttribute",
			"ec2:UnassignPrivateIpAddresses", "ec2:DescribeNetworkInterfaces", "ec2:AttachNetworkInterface", "ec2:AssignPrivateIpAddresses",
		}},
		{"/", "AmazonEKSWorkerNodePolicy", "Lets Amazon EKS worker nodes connect to Amazon EKS clusters.", []string{
			"ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVolumes",
			"ec2:DescribeVolumesModifications", "ec2:DescribeVpcs", "eks:DescribeCluster", "eks-auth:AssumeRoleForPodIdentity",
		}},
		{"/", "AmazonEKS_CNI_Policy", "Lets the VPC CNI plug-in change the addresses of worker nodes.", []string{
			"ec2:AssignPrivateIpAddresses", "ec2:AttachNetworkInterface", "ec2:CreateNetworkInterface", "ec2:CreateTags", "ec2:DeleteNetworkInterface", "ec2:DescribeInstances",
			"ec2:DescribeInstanceTypes", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DescribeTags", "ec2:DetachNetworkInterface", "ec2:ModifyNetworkInterfaceAttribute",
			"ec2:UnassignPrivateIpAddresses",
		}},
		{"/", "AmazonEC2ContainerRegistryReadOnly", "Provides read-only access to Amazon ECR repositories.", []string{
			"ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:GetRepositoryPolicy", "ecr:DescribeRepositories", "ecr:ListImages",
			"ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetLifecyclePolicy", "ecr:GetLifecyclePolicyPreview", "ecr:ListTagsForResource", "ecr:DescribeImageScanFindings",
		}},
		{"/", "AmazonEC2ContainerRegistryPullOnly", "Lets images be pulled from Amazon ECR repositories.", []string{
			"ecr:GetAuthorizationToken", "ecr:BatchImportUpstreamImage", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
		}},
		{"/", "AmazonEC2ContainerRegistryPowerUser", "Provides full access to Amazon ECR repositories, but not to delete or to change policies.", []string{
			"ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:GetRepositoryPolicy", "ecr:DescribeRepositories", "ecr:ListImages",
			"ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetLifecyclePolicy", "ecr:ListTagsForResource", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage",
		}},
		{"/", "AmazonSSMManagedInstanceCore", "Lets an instance be managed by AWS Systems Manager.", []string{
			"ssm:DescribeAssociation", "ssm:GetDeployablePatchSnapshotForInstance", "ssm:GetDocument", "ssm:DescribeDocument", "ssm:GetManifest", "ssm:GetParameter", "ssm:GetParameters",
			"ssm:ListAssociations", "ssm:ListInstanceAssociations", "ssm:PutInventory", "ssm:PutComplianceItems", "ssm:PutConfigurePackageResult", "ssm:UpdateAssociationStatus",
			"ssm:UpdateInstanceAssociationStatus", "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel",
			"ssmmessages:OpenDataChannel", "ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage", "ec2messages:GetEndpoint", "ec2messages:GetMessages",
			"ec2messages:SendReply",
		}},
		{"/", "AmazonS3ReadOnlyAccess", "Provides read-only access to all buckets.", []string{"s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*", "s3-object-lambda:List*"}},
		{"/", "IAMReadOnlyAccess", "Provides read-only access to IAM.", []string{"iam:GenerateCredentialReport", "iam:GenerateServiceLastAccessedDetails", "iam:Get*", "iam:List*", "iam:SimulateCustomPolicy", "iam:SimulatePrincipalPolicy"}},
		{"/job-function/", "ViewOnlyAccess", "Lets names and states be seen, not data.", []string{"ec2:Describe*", "eks:List*", "iam:List*", "iam:GetAccountSummary", "s3:ListAllMyBuckets", "s3:ListBucket"}},
		{"/service-role/", "AmazonECSTaskExecutionRolePolicy", "Provides what ECS needs to start tasks.", []string{
			"ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage", "logs:CreateLogStream", "logs:PutLogEvents",
		}},
		{"/service-role/", "AmazonEBSCSIDriverPolicy", "Lets the EBS CSI driver manage volumes.", []string{
			"ec2:AttachVolume", "ec2:CreateSnapshot", "ec2:CreateTags", "ec2:CreateVolume", "ec2:DeleteSnapshot", "ec2:DeleteTags", "ec2:DeleteVolume", "ec2:DescribeAvailabilityZones",
			"ec2:DescribeInstances", "ec2:DescribeSnapshots", "ec2:DescribeTags", "ec2:DescribeVolumes", "ec2:DescribeVolumesModifications", "ec2:DetachVolume", "ec2:ModifyVolume",
		}},
	} {
		element, actions := "Action", one.actions
		if not, ok := strings.CutPrefix(actions[0], "NOT "); ok {
			element, actions = "NotAction", append([]string{not}, actions[1:]...)
		}
		list, _ := json.Marshal(actions) // strings always marshal
		made := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
		out["arn:aws:iam::aws:policy"+one.path+one.name] = &policy{
			Name: one.name, ID: fmt.Sprintf("ANPAAWSMANAGED%07d", i), Path: one.path, Description: one.description,
			Created: made, Updated: made, Default: "v1",
			Versions: []policyVersion{{ID: "v1", Created: made, Document: fmt.Sprintf(
				`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",%q:%s,"Resource":"*"}]}`, element, list)}},
		}
	}
	return out
}

// managedPolicy finds a managed policy that the account may use: one of its own,
// or one of AWS's in the account's partition.
func (s *Service) managedPolicy(v *view, accountID, arn string) (*policy, error) {
	fields := strings.SplitN(arn, ":", 6)
	if len(fields) != 6 || fields[2] != "iam" || !strings.HasPrefix(fields[5], "policy/") {
		return nil, errAbsent
	}
	if fields[4] == "aws" {
		acc, err := get[account](v, accountID, accountsOf, accountID)
		if err != nil {
			return nil, err
		}
		one, ok := s.managed["arn:aws:iam::aws:"+fields[5]]
		if !ok || fields[1] != acc.Partition {
			return nil, errAbsent
		}
		out := *one
		out.ARN = arn
		return &out, nil
	}
	if fields[4] != accountID {
		return nil, errAbsent
	}
	p, err := get[policy](v, accountID, policies, index(nameOf(fields[5])))
	if err != nil {
		return nil, err
	}
	if p.ARN != arn {
		return nil, errAbsent
	}
	if p.version(p.Default) == nil {
		return nil, errors.New("a policy without its default version")
	}
	return p, nil
}
