package cluster

import (
	"maps"
	"slices"

	"biplane.dev/biplane/provision/resource"
)

// logGroupName is where EKS writes the cluster's own logs; the name is EKS's.
func (c *cluster) logGroupName() string { return "/aws/eks/" + c.ClusterName() + "/cluster" }

func (c *cluster) logGroupTitle() string { return resource.LogGroupTitle(c.logGroupName()) }

func (c *cluster) logGroup() *resource.Resource {
	return resource.LogGroupStep(c.Plane, resource.LogGroup{
		Name: c.logGroupName(), Component: component, LogicalID: "cluster-logs", Requires: []string{KeyTitle},
		Holds: "the cluster's own logs", Days: c.Spec.Cluster.LogDays, Encrypted: true, Retag: true,
		Cost: "0.50 USD a GB written, 0.03 USD a GB and month kept",
	})
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
