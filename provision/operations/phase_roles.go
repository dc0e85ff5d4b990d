package operations

import "slices"

// roles is the roles that the vendor makes for the cluster and its workloads, each with the boundary.
func roles() []Operation {
	return slices.Concat(
		in(IAMRoles,
			op("iam:CreateServiceLinkedRole", Provision, "makes AWS's own roles for a service that the account has not used yet",
				on(eksLinkedRole).linked("eks", "eks-nodegroup", "autoscaling", "elasticloadbalancing", "spot")),
			strictly("iam:GetRole(service-linked)", keeping, "sees, as EKS does in the caller's name, whether such a role is there", on(eksLinkedRole)),
			op("iam:CreateRole", Provision, "makes the roles of the cluster, the nodes and the workloads, each with the boundary",
				on(madeRole).bounded(),
				allow("iam:TagRole").on(madeRole)),
			strictly("iam:TagRole(made roles)", Provision, "takes over such a role that is as wanted", on(madeRole)),
			strictly("iam:TagRole(lease)", Operate|Teardown, "says on the cluster's role who is at work on the data plane", on(madeRole)),
			op("iam:AttachRolePolicy", Provision, "gives one of the listed policies to such a role", on(madeRole).bounded().listed()),
			op("iam:PutRolePolicy", Provision, "writes a workload's own rights into its role", on(madeRole).bounded()),
			op("iam:UpdateAssumeRolePolicy", Provision, "changes which workload may take on a role", on(madeRole).bounded()),
			op("iam:UpdateRole", keeping, "corrects a role's description or the length of its sessions", on(madeRole).bounded()),
			op("iam:PutRolePermissionsBoundary", Provision, "puts the boundary, and no other, on a role", on(madeRole).bounded()),
			op("iam:PassRole", keeping, "hands such a role to EKS, EC2 or the flow logs",
				on(madeRole).passedTo("eks", "ec2", "vpc-flow-logs", "pods.eks")),
			op("iam:CreatePolicy", Provision, "makes a managed policy for such a role", allow("iam:CreatePolicy", "iam:TagPolicy").on(madePolicy)),
			op("iam:CreatePolicyVersion", keeping, "puts a new text under such a policy", on(madePolicy)),
			op("iam:SetDefaultPolicyVersion", keeping, "goes back to a policy's version before", on(madePolicy)),
			op("iam:DeletePolicyVersion", Provision|Operate|Teardown, "makes room when a policy has its five versions", on(madePolicy)),
			op("iam:ListPolicyVersions", reading, "counts a policy's versions", on(madePolicy)),
			op("iam:ListEntitiesForPolicy", Observe|Teardown, "sees who has a policy before it is removed", on(madePolicy)),
			op("iam:CreateInstanceProfile", Provision, "makes what hands the node role to an instance",
				allow("iam:CreateInstanceProfile", "iam:TagInstanceProfile").on(instanceProfile)),
			op("iam:AddRoleToInstanceProfile", Provision, "puts the node role into it",
				on(instanceProfile),
				allow("iam:PassRole").on(madeRole).passedTo("ec2")),
			op("iam:GetInstanceProfile", reading, "checks it", on(instanceProfile)),
			op("iam:CreateOpenIDConnectProvider", Provision, "has IAM know the cluster's service accounts",
				allow("iam:CreateOpenIDConnectProvider", "iam:TagOpenIDConnectProvider").on(oidcProvider).created()),
			op("iam:GetOpenIDConnectProvider", reading, "checks that IAM knows them", on(oidcProvider)),
			omitted("iam:ListOpenIDConnectProviders", "lists every identity provider",
				"its ARN follows from the cluster's issuer",
				on(everything)),
			op("iam:UpdateOpenIDConnectProviderThumbprint", keeping, "follows a new certificate of the issuer", on(oidcProvider).owned()),
			omitted("iam:ListRoles", "lists every role of the account",
				"the roles' names are known, and the right cannot be narrowed",
				on(everything)),
			omitted("iam:ListPolicies", "lists every policy of the account",
				"the policies' names are known, and the right cannot be narrowed",
				on(everything)),
			op("iam:GetRole", reading, "checks a role's trust, boundary and tags", on(madeRole)),
			op("iam:ListRoleTags", reading, "checks that a role is the data plane's", on(madeRole)),

			// The step looks before it makes, and before it removes.
			op("iam:ListRolePolicies(made roles)", reading, "lists the inline policies of a role", on(madeRole)),
			op("iam:GetRolePolicy(made roles)", looking, "reads an inline policy of a role", on(madeRole)),
			op("iam:ListAttachedRolePolicies(made roles)", reading, "lists the managed policies of a role", on(madeRole)),
		),
	)
}
