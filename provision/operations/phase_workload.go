package operations

import "slices"

// workload is what runs in the data plane, and what former tools made.
func workload() []Operation {
	return slices.Concat(
		in(WorkloadRuns,
			op("s3:GetObject", Workload, "reads a workflow's inputs", on(bucket)),
			op("s3:PutObject", Workload, "writes a workflow's outputs", on(bucket)),
			op("s3:ListObjectsV2", Workload, "finds what was written", allow("s3:ListBucket").on(bucket)),
			op("s3:DeleteObject", Workload, "drops what is no longer needed", on(bucket)),
			op("sts:AssumeRoleWithWebIdentity", Workload, "takes on the workload's role with the pod's own token", on(workloadRole)),
		),
		in(Legacy,
			omitted("rds:CreateDBSubnetGroup", "makes a database's group of subnets",
				"the data plane has no database",
				on(databaseSubnets),
				allow("rds:AddTagsToResource").on(databaseSubnets, everything)),
			omitted("elasticache:CreateCacheSubnetGroup", "makes a cache's group of subnets",
				"the data plane has no cache",
				allow("elasticache:CreateCacheSubnetGroup", "elasticache:AddTagsToResource").on(cacheSubnets)),
			omitted("dynamodb:CreateTable", "makes the table that locked the state of former tools",
				"there is no state file",
				on(table)),
		),
	)
}
