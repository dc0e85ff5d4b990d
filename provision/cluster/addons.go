package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// addonTime is when an add-on is installed.
type addonTime bool

const (
	beforeNodes addonTime = false // a node does not become ready without
	afterNodes  addonTime = true  // it runs on nodes, and is not ready before them
)

// addon is one of EKS's add-ons.
type addon struct {
	name    string
	when    addonTime
	why     string
	account string // the service account that carries a role; "" for none
}

var addonTable = []addon{
	{name: "vpc-cni", when: beforeNodes, why: "gives pods their addresses"},
	{name: "kube-proxy", when: beforeNodes, why: "leads services to their pods"},
	{name: "eks-pod-identity-agent", when: beforeNodes, why: "hands service accounts of the system their roles"},
	{name: "coredns", when: afterNodes, why: "resolves the cluster's names"},
	{name: "aws-ebs-csi-driver", when: afterNodes, why: "makes the volumes of pods", account: "ebs-csi-controller-sa"},
}

func addonTitle(name string) string { return "add-on " + name }

func (c *cluster) addons(when addonTime) []*resource.Resource {
	var out []*resource.Resource
	for _, a := range addonTable {
		if a.when == when {
			out = append(out, c.addon(a))
		}
	}
	return out
}

func (c *cluster) addon(a addon) *resource.Resource {
	name := c.ClusterName()
	requires := append([]string{StepName(c.Plane)}, c.entryTitles()...)
	if a.when == afterNodes {
		for _, g := range c.Spec.Cluster.NodeGroups {
			requires = append(requires, nodeGroupTitle(g.Name))
		}
	}
	if a.account != "" {
		requires = append(requires, resource.RoleTitle(c.volumesRole()), addonTitle("eks-pod-identity-agent"))
	}
	creates := []string{"eks:CreateAddon"}
	chosen := c.Spec.Access.Policy != spec.Compat // else EKS takes the same version by itself: nobody may ask which
	if chosen {
		creates = append([]string{"eks:DescribeAddonVersions"}, creates...)
	}
	if a.account != "" {
		creates = append(creates, "eks:CreatePodIdentityAssociation")
	}
	return &resource.Resource{
		Plane: c.Plane, Title: addonTitle(a.name), Requires: requires, Component: component, LogicalID: "addon-" + a.name,
		About:   step.Description{Service: "eks", Creates: creates, Removes: []string{"eks:DeleteAddon"}, ToMake: 30 * time.Second, ToRemove: 20 * time.Second, Patience: 15 * time.Minute},
		Purpose: []string{a.why},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			if c.One(plane.ClusterVersion) == "" {
				return nil, nil // there is no cluster
			}
			out, err := c.AWS.EKS.DescribeAddon(ctx, &eks.DescribeAddonInput{ClusterName: &name, AddonName: &a.name})
			if fault.Gone(err) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			s := &resource.State{Tags: out.Addon.Tags, Value: out.Addon}
			switch status := out.Addon.Status; status {
			case types.AddonStatusActive:
			case types.AddonStatusDeleting:
				s.Leaving = "the add-on is DELETING"
			case types.AddonStatusCreateFailed, types.AddonStatusDeleteFailed:
				s.Broken = fmt.Sprintf("EKS says %s%s", status, addonIssues(out.Addon.Health))
			default: // DEGRADED too: coredns is, until there are nodes
				s.Busy = fmt.Sprintf("the add-on is %s%s", status, addonIssues(out.Addon.Health))
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			in := &eks.CreateAddonInput{ClusterName: &name, AddonName: &a.name, Tags: tags, ResolveConflicts: types.ResolveConflictsOverwrite}
			if chosen {
				version, err := addonVersion(ctx, c.Plane, a.name, c.One(plane.ClusterVersion))
				if err != nil {
					return err
				}
				in.AddonVersion = &version
			}
			if a.account != "" {
				in.PodIdentityAssociations = []types.AddonPodIdentityAssociations{{ServiceAccount: &a.account, RoleArn: aws.String(c.RoleARN(c.volumesRole()))}}
			}
			_, err := c.AWS.EKS.CreateAddon(ctx, in)
			return err
		},
		ByHand: fmt.Sprintf("aws eks delete-addon --cluster-name %s --addon-name %s --region %s", name, a.name, c.Place.Region),
		Delete: func(ctx context.Context, _ *resource.State) error {
			_, err := c.AWS.EKS.DeleteAddon(ctx, &eks.DeleteAddonInput{ClusterName: &name, AddonName: &a.name})
			return err
		},
		Wait: func(ctx context.Context) error {
			waiter := eks.NewAddonActiveWaiter(c.AWS.EKS, func(o *eks.AddonActiveWaiterOptions) {
				o.MinDelay, o.MaxDelay = c.Clock.Machine(3*time.Second), c.Clock.Machine(5*time.Second)
			})
			return waiter.Wait(ctx, &eks.DescribeAddonInput{ClusterName: &name, AddonName: &a.name}, c.Clock.Machine(10*time.Minute))
		},
	}
}

func (c *cluster) entryTitles() []string {
	var titles []string
	for _, e := range c.letIn() {
		if e.kind == "STANDARD" {
			titles = append(titles, e.title())
		}
	}
	return titles
}

func addonIssues(health *types.AddonHealth) string {
	if health == nil {
		return ""
	}
	var b strings.Builder
	for _, issue := range health.Issues {
		fmt.Fprintf(&b, "; %s: %s", issue.Code, aws.ToString(issue.Message))
	}
	return b.String()
}

// addonVersion is the version that EKS takes by itself for a Kubernetes version.
func addonVersion(ctx context.Context, p *plane.Plane, name, kubernetes string) (string, error) {
	out, err := p.AWS.EKS.DescribeAddonVersions(ctx, &eks.DescribeAddonVersionsInput{AddonName: &name, KubernetesVersion: &kubernetes})
	if err != nil {
		return "", err
	}
	for _, a := range out.Addons {
		for _, v := range a.AddonVersions {
			if slices.ContainsFunc(v.Compatibilities, func(k types.Compatibility) bool {
				return k.DefaultVersion && aws.ToString(k.ClusterVersion) == kubernetes
			}) {
				return aws.ToString(v.AddonVersion), nil
			}
		}
	}
	return "", usererr.New(usererr.Refused, "EKS offers no version of the add-on %s for Kubernetes %s", name, kubernetes).
		WithHint("choose another spec.cluster.version; 'aws eks describe-cluster-versions' lists them")
}
