// Package cluster makes the Kubernetes cluster of a data plane and what belongs to it:
// the key that encrypts it, its log group, the roles of the cluster and its nodes, the
// EKS cluster with who is let in, its add-ons and node groups, the node autoscaler's
// side in AWS, and the registry of images. It makes no network (provision/network) and
// installs nothing in the cluster but EKS's own add-ons.
//
// Start with Steps. Where things are, in the order in which they are made:
//
//	key.go       the encryption key and its name
//	logs.go      the log group, before EKS makes it without an end
//	roles.go     the roles of the cluster, the nodes, and the drivers
//	eks.go       the cluster
//	access.go    who is let into it
//	addons.go    EKS's add-ons, those before the nodes and those after
//	nodes.go     the template of the nodes, and the node groups
//	join.go      why nodes do not join
//	karpenter.go the node autoscaler's queue and rules
//	registry.go  the repositories of images
//	upgrade.go   the next version of Kubernetes
//	answers.go   whether the API server answers
package cluster

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// Everything here has a name that is there once, so none is made twice without a client
// token of ours; the SDK gives each call one for its own retries. A token that is the
// same at each run would, within a day, be answered with what was removed meanwhile.

// component is what the tags call this package.
const component = "cluster"

// After names the steps of the network that the cluster needs.
type After struct {
	Subnets []string // the private subnets: the cluster's own interfaces are in them
	Ways    []string // all that nodes need to reach the cluster, its images and AWS
}

// Steps returns what makes the cluster, or removes it. What the file asked for once, and
// asks for no longer, is among them, so that it is shown, and goes with the cluster.
func Steps(p *plane.Plane, after After) []step.Step {
	c := &cluster{Plane: p, Spec: p.Spec, after: after}
	wanted := map[string]*resource.Resource{}
	for _, r := range c.resources() {
		wanted[r.Title] = r
	}
	all := &cluster{Plane: p, Spec: c.everything(), after: after}
	var steps []step.Step
	for _, r := range all.resources() {
		if w := wanted[r.Title]; w != nil {
			steps = append(steps, w)
		} else {
			steps = append(steps, resource.NotWanted(r))
		}
	}
	return steps
}

// everything is the file's with all that may be there besides.
func (c *cluster) everything() spec.Spec {
	all := c.Spec
	all.Cluster.Karpenter = true
	all.Cluster.NodeGroups = slices.Clone(all.Cluster.NodeGroups)
	for _, name := range c.All(plane.NodeGroups) {
		if !slices.ContainsFunc(all.Cluster.NodeGroups, func(g spec.NodeGroup) bool { return g.Name == name }) {
			all.Cluster.NodeGroups = append(all.Cluster.NodeGroups, spec.NodeGroup{Name: name, InstanceTypes: []string{""}})
		}
	}
	return all
}

// FindNodeGroups tells the fact NodeGroups: the names of all that the cluster has. It
// comes before Steps, which know by it what the file no longer asks for.
func FindNodeGroups(ctx context.Context, p *plane.Plane) error {
	var names []string
	pages := eks.NewListNodegroupsPaginator(p.AWS.EKS, &eks.ListNodegroupsInput{ClusterName: aws.String(p.ClusterName())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if fault.Gone(err) {
			break
		}
		if err != nil {
			return fmt.Errorf("listing the node groups: %w", err)
		}
		names = append(names, page.Nodegroups...)
	}
	p.Know(plane.NodeGroups, names...)
	return nil
}

// resources are all of the cluster, in order.
func (c *cluster) resources() []*resource.Resource {
	resources := []*resource.Resource{c.linkedRoles(), c.key(), c.logGroup()}
	resources = append(resources, c.roles()...)
	resources = append(resources, c.eks())
	resources = append(resources, c.entries()...)
	resources = append(resources, c.addons(beforeNodes)...)
	resources = append(resources, c.nodeTemplate())
	resources = append(resources, c.nodeGroups()...)
	resources = append(resources, c.addons(afterNodes)...)
	resources = append(resources, c.karpenter()...)
	resources = append(resources, c.repositories()...)
	for _, r := range resources {
		c.declare(r)
	}
	return resources
}

// cluster makes the steps.
type cluster struct {
	*plane.Plane
	// Spec is the plane's, or one that asks for more.
	Spec  spec.Spec
	after After
}

// StepName is the name of the step that keeps the cluster itself.
func StepName(p *plane.Plane) string { return "cluster " + p.ClusterName() }
