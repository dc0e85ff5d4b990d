package access

import "biplane.dev/biplane/provision/operations"

// boundary is the most that a role made by the vendor can do, whatever policies
// it is given: the cluster, its nodes, its controllers and its workloads. It is
// the only document here that the operations table does not generate, because
// what it allows is done by the customer's own cluster and not by Biplane.
//
// Two things matter. It must not be a way round the limits of the access roles:
// no IAM but handing a node its role, no tag of ownership, nothing of the
// customer's that the cluster did not make. And the vendor, who writes the trust
// of these roles, must not come to the data by taking one on itself: objects are
// only for sessions that the cluster's own identity provider vouches for, or by
// a URL that was signed for one object.
//
// Its statements have no ids: a tenth of the room is theirs if they do.
func (t *target) boundary() Policy {
	return newPolicy(operations.BoundaryName(t.Vendor), "", document(t.boundaryStatements()))
}

func (t *target) boundaryStatements() []statement {
	regional := func(service, resource string) string { return t.arn(service, t.Region, resource) }
	prefix := t.Vendor.Prefix
	// Subnets may be shared by another account. Images and snapshots have no account
	// in their ARN, so that "?*" fits all but them.
	ec2 := func(account, resource string) string {
		return "arn:" + t.region.Partition + ":ec2:" + t.Region + ":" + account + ":" + resource
	}
	cluster := prefix + "*"
	bucket := "arn:" + t.region.Partition + ":s3:::" + prefix + "*"
	ofCluster := func(keys ...string) conditions {
		tags := map[string][]string{}
		for _, key := range keys {
			tags["aws:ResourceTag/"+key] = []string{cluster}
		}
		return conditions{"StringLike": tags}
	}
	logGroups := []string{regional("logs", "log-group:/aws/eks/"+cluster), regional("logs", "log-group:"+cluster)}
	ownAccess := t.denyOwnAccess()
	ownAccess.Sid, ownAccess.Action, ownAccess.NotAction = "", []string{"iam:*"}, nil // a made role reads nothing of them either
	return []statement{
		// What every node and controller looks at, names and states and no content; and
		// how a node is reached by a session.
		{Effect: "Allow", Resource: []string{"*"}, Action: []string{
			"autoscaling:Describe*", "ec2:Describe*", "ec2:GetSecurityGroupsForVpc", "ecr:GetAuthorizationToken",
			"elasticloadbalancing:Describe*", "logs:DescribeLogGroups", "pricing:GetProducts",
			"ec2messages:*", "ssm:UpdateInstanceInformation", "ssmmessages:*",
		}},
		// Images of AWS's own add-ons lie in AWS's accounts, hence no account here.
		{Effect: "Allow", Resource: []string{"arn:" + t.region.Partition + ":ecr:*:*:repository/*"}, Action: []string{
			"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:GetDownloadUrlForLayer", "ecr:ListImages",
		}},
		{Effect: "Allow", Resource: []string{regional("ecr", "repository/"+t.Vendor.Repository+"*")}, Action: []string{
			"ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
		}},
		// The nodes: join the cluster, and find the image of the next.
		{Effect: "Allow", Resource: []string{regional("eks", "cluster/"+cluster)}, Action: []string{
			"eks-auth:AssumeRoleForPodIdentity", "eks:DescribeCluster",
		}},
		{Effect: "Allow", Resource: []string{"arn:" + t.region.Partition + ":ssm:" + t.Region + "::parameter/aws/service/*"}, Action: []string{"ssm:GetParameter"}},
		// Nodes and controllers make things. From a disk's copy they make none but from the cluster's
		// own: what lies on others is the customer's, and would be theirs to read.
		{Effect: "Allow", Resource: []string{ec2("?*", "*"), ec2("", "image/*")}, Action: []string{
			"ec2:AssignPrivateIpAddresses", "ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:CreateNetworkInterface", "ec2:CreateSecurityGroup",
			"ec2:CreateVolume", "ec2:RunInstances", "ec2:UnassignPrivateIpAddresses",
		}},
		{Effect: "Allow", Resource: []string{ec2("", "snapshot/*")}, Action: []string{"ec2:CreateSnapshot"}},
		{Effect: "Allow", Resource: []string{ec2("*", "*")}, Action: []string{"ec2:CreateTags"},
			Condition: conditions{"StringLike": {"ec2:CreateAction": {"?*"}}}}, // in the call that makes the thing
		// And they attach, change and end what carries the cluster's name.
		{Effect: "Allow", Resource: []string{ec2("*", "instance/*"), ec2("*", "launch-template/*")}, Action: []string{"ec2:CreateTags", "ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"},
			Condition: ofCluster("eks:eks-cluster-name")},
		{Effect: "Allow", Resource: []string{ec2("*", "instance/*"), ec2("*", "security-group/*")}, Action: []string{
			"ec2:AttachNetworkInterface", "ec2:AttachVolume", "ec2:DetachNetworkInterface", "ec2:DetachVolume", "ec2:ModifyNetworkInterfaceAttribute",
		}},
		{Effect: "Allow", Resource: []string{ec2("*", "network-interface/*")}, Action: []string{
			"ec2:AttachNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DetachNetworkInterface", "ec2:ModifyNetworkInterfaceAttribute",
		}, Condition: ofCluster("cluster.k8s.amazonaws.com/name")},
		{Effect: "Allow", Resource: []string{ec2("*", "volume/*"), ec2("", "snapshot/*")}, Action: []string{
			"ec2:AttachVolume", "ec2:CreateSnapshot", "ec2:CreateVolume", "ec2:DeleteSnapshot", "ec2:DeleteVolume", "ec2:DetachVolume", "ec2:ModifyVolume",
		}, Condition: ofCluster("KubernetesCluster")},
		// Services of the cluster: load balancers, and the groups around them.
		{Effect: "Allow", Action: []string{"elasticloadbalancing:*"}, Resource: []string{regional("elasticloadbalancing", "*/k8s-*")}},
		{Effect: "Allow", Resource: []string{ec2("*", "security-group/*")}, Action: []string{
			"ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup", "ec2:RevokeSecurityGroupIngress",
		}, Condition: ofCluster("elbv2.k8s.aws/cluster")},
		{Effect: "Allow", Resource: []string{ec2("*", "security-group/*")}, Action: []string{
			"ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress",
		}, Condition: ofCluster("aws:eks:cluster-name")},
		// IAM: hand a node its role, and no more.
		{Effect: "Allow", Resource: []string{t.arn("iam", "", "role"+t.Vendor.Path+"*")}, Action: []string{"iam:PassRole"},
			Condition: conditions{"StringEquals": {"iam:PassedToService": t.servicePrincipals("ec2")}}},
		{Effect: "Allow", Resource: []string{t.arn("iam", "", "instance-profile"+t.Vendor.Path+"*")}, Action: []string{"iam:GetInstanceProfile"}},
		// What AWS takes back is told by a queue; what happens is written to logs.
		{Effect: "Allow", Resource: []string{regional("sqs", t.Vendor.QueuePrefix+"*")}, Action: []string{
			"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ReceiveMessage",
		}},
		{Effect: "Allow", Resource: logGroups, Action: []string{"logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"}},
		// The key of volumes and objects, through the services that hold them.
		{Effect: "Allow", Resource: []string{regional("kms", "key/*")}, Action: []string{
			"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*",
		}, Condition: conditions{
			"StringEquals": {"aws:ResourceTag/" + t.Vendor.ManagedByKey(): {"biplane"}},
			"StringLike":   {"kms:ViaService": {"*." + t.Region + ".amazonaws.com*"}}, // in China some end in .cn
		}},
		// Objects: workloads in the cluster, and URLs that were signed for one object.
		{Effect: "Allow", Resource: []string{bucket}, Action: []string{
			"s3:*Multipart*", "s3:DeleteObject", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket", "s3:PutObject"},
			Condition: conditions{"ArnLike": {"aws:FederatedProvider": {t.arn("iam", "", "oidc-provider/oidc.eks."+t.Region+"."+t.region.DNSSuffix+"/id/*")}}}},
		{Effect: "Allow", Resource: []string{bucket}, Action: []string{"s3:GetObject", "s3:PutObject"},
			Condition: conditions{
				"NumericLessThanEquals": {"s3:signatureAge": {"3600000"}}, // an hour, in milliseconds
				"StringEquals":          {"s3:authType": {"REST-QUERY-STRING"}},
			}},
		ownAccess,
		t.denyRetaggingAtAll(),
	}
}

// denyRetaggingAtAll: what the cluster makes is the cluster's, and is never ours.
func (t *target) denyRetaggingAtAll() statement {
	return statement{Effect: "Deny", Action: []string{"ec2:CreateTags"}, Resource: []string{"*"},
		Condition: conditions{"ForAnyValue:StringEquals": {"aws:TagKeys": {t.Vendor.ManagedByKey()}}}}
}

// servicePrincipals are the names of a service: two in China, where some services
// end in .cn and some do not.
func (t *target) servicePrincipals(service string) []string {
	names := []string{service + ".amazonaws.com"}
	if t.region.DNSSuffix != "amazonaws.com" {
		names = append(names, service+"."+t.region.DNSSuffix)
	}
	return names
}
