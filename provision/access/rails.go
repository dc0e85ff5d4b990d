package access

import (
	"biplane.dev/biplane/provision/operations"
)

// rails is what a role may never do, whatever else it is or comes to be allowed:
// by a policy that somebody attaches later, by a resource's own policy, by a
// mistake in the table. Each statement closes a way that a grant elsewhere would
// otherwise leave open; none of them is needed to refuse what nothing allows.
func (t *target) rails(who operations.Roles) []byte {
	return document([]statement{
		t.denyOwnAccess(),
		t.denyUnbounded(),
		t.denyIdentities(),
		t.denyObjects(who),
		t.denyForeignBuckets(),
		t.denyOtherData(),
		t.denyParameters(),
		t.denyLogs(who),
		t.denySharing(),
		t.denyWatching(),
		t.denyForwarding(),
		t.denyRetagging(),
		t.denyUntagging(),
	})
}

// arn is an ARN in the customer's account; region is empty for global services.
func (t *target) arn(service, region, resource string) string {
	return "arn:" + t.region.Partition + ":" + service + ":" + region + ":" + t.Account + ":" + resource
}

// denyOwnAccess keeps the access roles off each other, their policies and the
// boundary. Reading them is what the proof of the access is made of.
func (t *target) denyOwnAccess() statement {
	return statement{Sid: "OwnAccess", Effect: "Deny",
		NotAction: []string{"iam:Get*", "iam:List*", "iam:SimulatePrincipalPolicy"},
		Resource: []string{
			t.arn("iam", "", "role"+t.Vendor.Path+t.Vendor.RoleName+"*"),
			t.arn("iam", "", "policy"+t.Vendor.Path+t.Vendor.PolicyName+"*"),
		}}
}

// denyUnbounded refuses to give rights or trust to a role without the boundary,
// or with another. A role without any has no such key, which is "not equal" too.
func (t *target) denyUnbounded() statement {
	return statement{Sid: "Unbounded", Effect: "Deny",
		Action: []string{
			"iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy",
		},
		Resource:  []string{"*"},
		Condition: conditions{"StringNotEquals": {"iam:PermissionsBoundary": {operations.BoundaryARN(t.place(), t.Vendor)}}}}
}

// denyIdentities refuses every other way to a lasting identity, and to take one on.
func (t *target) denyIdentities() statement {
	return statement{Sid: "Identities", Effect: "Deny",
		Action: []string{
			"iam:*AccessKey*", "iam:*Group*", "iam:*LoginProfile*", "iam:*MFADevice*", "iam:*SAMLProvider*",
			"iam:*ServiceSpecificCredential*", "iam:*User*", "iam:DeleteRolePermissionsBoundary",
			"organizations:*", "sts:AssumeRole", "sts:GetFederationToken",
		},
		Resource: []string{"*"}}
}

// denyObjects keeps the customer's objects to the customer. Teardown empties
// buckets, so it alone may delete; it cannot read what it deletes.
func (t *target) denyObjects(who operations.Roles) statement {
	s := statement{Sid: "Objects", Effect: "Deny",
		Action:   []string{"s3:GetObject*", "s3:ListMultipartUploadParts", "s3:PutObject*", "s3:ReplicateObject", "s3:RestoreObject"},
		Resource: []string{"*"}}
	if who != operations.Teardown {
		s.Action = append(s.Action, "s3:AbortMultipartUpload", "s3:BypassGovernanceRetention", "s3:DeleteObject*")
	}
	return s
}

// denyForeignBuckets keeps to the customer's account: a bucket's ARN does not say
// whose it is, and one of the vendor's own could have a name that fits. A bucket
// that is yet to be made has no owner to compare.
func (t *target) denyForeignBuckets() statement {
	return statement{Sid: "ForeignBuckets", Effect: "Deny",
		Action:   []string{"s3:*"},
		Resource: []string{"*"},
		Condition: conditions{
			"StringNotEquals": {"aws:ResourceAccount": {t.Account}},
			"Null":            {"aws:ResourceAccount": {"false"}},
		}}
}

// denyOtherData is the same for what is not an object: secrets, items, messages,
// image layers, disks, screens, and whatever a key protects.
func (t *target) denyOtherData() statement {
	return statement{Sid: "OtherData", Effect: "Deny",
		Action: []string{
			"dynamodb:*Item*", "dynamodb:PartiQL*", "dynamodb:Query", "dynamodb:Scan",
			"ebs:*", "ec2:CopySnapshot", "ec2:CreateSnapshot*", "ec2:GetConsole*", "ec2:GetPasswordData",
			"ecr:*Layer*", "ecr:BatchGetImage", "ecr:PutImage",
			"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*",
			"secretsmanager:*", "sqs:ReceiveMessage",
		},
		Resource: []string{"*"}}
}

// denyParameters leaves AWS's own public parameters, which name the nodes' images.
func (t *target) denyParameters() statement {
	return statement{Sid: "Parameters", Effect: "Deny",
		Action:      []string{"ssm:*Parameter*"},
		NotResource: []string{"arn:" + t.region.Partition + ":ssm:" + t.Region + "::parameter/aws/service/*"}}
}

// denyLogs leaves the private endpoint's log, which holds connections and not
// what is in them, and to break-glass the cluster's own. What workflows print
// is the customer's data.
func (t *target) denyLogs(who operations.Roles) statement {
	readable := []string{t.arn("logs", t.Region, "log-group:"+t.Vendor.ProxyLogGroup+"*")}
	if who == operations.BreakGlass {
		readable = append(readable, t.arn("logs", t.Region, "log-group:/aws/eks/"+t.Vendor.Prefix+"*"))
	}
	return statement{Sid: "Logs", Effect: "Deny",
		Action:      []string{"logs:FilterLogEvents", "logs:GetLog*", "logs:GetQueryResults", "logs:StartLiveTail", "logs:StartQuery", "logs:Unmask"},
		NotResource: readable}
}

// denySharing refuses to let another account do what the role may not.
func (t *target) denySharing() statement {
	return statement{Sid: "Sharing", Effect: "Deny",
		Action: []string{
			"ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute",
			"ecr:PutRegistryPolicy", "ecr:PutReplicationConfiguration", "ecr:SetRepositoryPolicy",
			"logs:CreateExportTask", "logs:PutResourcePolicy", "logs:PutSubscriptionFilter", "ram:*",
			"s3:*AccessGrant*", "s3:*AccessPoint*", "s3:CreateJob", "s3:PutBucketAcl", "s3:PutBucketPolicy", "s3:PutInventoryConfiguration", "s3:PutReplicationConfiguration",
		},
		Resource: []string{"*"}}
}

// denyWatching refuses a rule that watches for more than the node autoscaler must
// know, among other sources too: all that happens in an account passes there.
func (t *target) denyWatching() statement {
	return statement{Sid: "Watching", Effect: "Deny",
		Action:    []string{"events:PutRule"},
		Resource:  []string{"*"},
		Condition: conditions{"ForAnyValue:StringNotEquals": {"events:source": {"aws.ec2", "aws.health"}}}}
}

// denyForwarding refuses to send what a rule sees to anything but the queue.
func (t *target) denyForwarding() statement {
	return statement{Sid: "Forwarding", Effect: "Deny",
		Action:    []string{"events:PutTargets"},
		Resource:  []string{"*"},
		Condition: conditions{"ForAnyValue:ArnNotLike": {"events:TargetArn": {t.arn("sqs", t.Region, t.Vendor.QueuePrefix+"*")}}}}
}

// denyRetagging keeps the ownership tag from what is there already: only the call
// that makes a thing may set it. Without this, tags could be given to a thing of
// the customer's that Biplane would then be allowed to manage.
func (t *target) denyRetagging() statement {
	return statement{Sid: "Retagging", Effect: "Deny",
		Action:   []string{"ec2:CreateTags"},
		Resource: []string{"*"},
		Condition: conditions{
			"ForAnyValue:StringEquals": {"aws:TagKeys": {t.Vendor.ManagedByKey()}},
			"Null":                     {"ec2:CreateAction": {"true"}},
		}}
}

// denyUntagging keeps the ownership tag where it is.
func (t *target) denyUntagging() statement {
	return statement{Sid: "Untagging", Effect: "Deny",
		Action: []string{
			"ec2:DeleteTags", "ecr:UntagResource", "ecs:UntagResource", "eks:UntagResource",
			"elasticloadbalancing:RemoveTags", "iam:Untag*", "kms:UntagResource", "logs:Untag*",
		},
		Resource:  []string{"*"},
		Condition: conditions{"ForAnyValue:StringEquals": {"aws:TagKeys": {t.Vendor.ManagedByKey()}}}}
}
