package endpoint

import "biplane.dev/biplane/provision/resource"

func (m *maker) logGroupName() string { return m.Vendor.ProxyLogGroup + m.Plane.Name }

func (m *maker) logGroupTitle() string { return resource.LogGroupTitle(m.logGroupName()) }

// logGroup has a line for each connection, and never what is in it. It is kept as long
// as the cluster's own logs.
func (m *maker) logGroup() *resource.Resource {
	return resource.LogGroupStep(m.Plane, resource.LogGroup{
		Name: m.logGroupName(), Component: component, LogicalID: "logs",
		Holds: "a line for each connection", Days: m.Spec.Cluster.LogDays,
		Cost: "0.50 USD a GB written, 0.03 USD a GB and month kept",
	})
}
