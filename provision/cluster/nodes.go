package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

const nodeTemplateTitle = "node template"

func (c *cluster) nodeTemplateName() string { return c.Prefix() + "-node" }

// nodeTemplate is the launch template of all node groups: tokens for the metadata
// service, which pods do not reach, and a disk that is encrypted with our key. A disk
// of another size is a template version of its own.
func (c *cluster) nodeTemplate() *resource.Resource {
	name := c.nodeTemplateName()
	size := c.diskSize()
	return &resource.Resource{
		Plane: c.Plane, Title: nodeTemplateTitle, Requires: []string{KeyTitle}, Component: component, LogicalID: "node-template",
		About: step.Description{Service: "ec2", Creates: []string{"ec2:CreateLaunchTemplate"}, Updates: []string{"ec2:CreateLaunchTemplateVersion", "ec2:ModifyLaunchTemplate"},
			Removes: []string{"ec2:DeleteLaunchTemplate"}, ToMake: 2 * time.Second, ToRemove: time.Second},
		Purpose: []string{"metadata by token alone and not for pods", fmt.Sprintf("disks of %d GiB, encrypted with the data plane's key", size)},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := c.AWS.EC2.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{Filters: []ec2types.Filter{{Name: aws.String("launch-template-name"), Values: []string{name}}}})
			if fault.Gone(err) || err == nil && len(out.LaunchTemplates) == 0 {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			t := out.LaunchTemplates[0]
			s := &resource.State{Tags: map[string]string{}, Value: aws.ToString(t.LaunchTemplateId)}
			for _, tag := range t.Tags {
				s.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
			}
			if goal == step.Absent || c.One(plane.EncryptionKey) == "" {
				return s, nil
			}
			versions, err := c.AWS.EC2.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: t.LaunchTemplateId, Versions: []string{"$Default"}})
			if err != nil {
				return nil, err
			}
			have := ""
			if len(versions.LaunchTemplateVersions) > 0 {
				have = c.templateText(versions.LaunchTemplateVersions[0].LaunchTemplateData)
			}
			s.Differ = resource.Differ("settings", c.wantedTemplateText(), have, func(ctx context.Context) error {
				made, err := c.AWS.EC2.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: t.LaunchTemplateId, LaunchTemplateData: c.templateData()})
				if err != nil {
					return err
				}
				_, err = c.AWS.EC2.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateId: t.LaunchTemplateId,
					DefaultVersion: aws.String(strconv.FormatInt(aws.ToInt64(made.LaunchTemplateVersion.VersionNumber), 10))})
				return err
			})
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			_, err := c.AWS.EC2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: &name, LaunchTemplateData: c.templateData(),
				TagSpecifications: resource.EC2Tagged(ec2types.ResourceTypeLaunchTemplate, tags)})
			return err
		},
		Delete: func(ctx context.Context, _ *resource.State) error {
			_, err := c.AWS.EC2.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateName: &name})
			return err
		},
		Tell: func(s *resource.State) {
			if s == nil {
				c.Know(plane.NodeTemplate)
				return
			}
			c.Know(plane.NodeTemplate, s.Value.(string))
		},
	}
}

// diskSize is the largest that any node group asks for: they share the template.
func (c *cluster) diskSize() int32 {
	size := 0
	for _, g := range c.Spec.Cluster.NodeGroups {
		size = max(size, g.DiskGiB)
	}
	return int32(size)
}

func (c *cluster) templateData() *ec2types.RequestLaunchTemplateData {
	tags := resource.EC2Tags(c.nodeTags())
	return &ec2types.RequestLaunchTemplateData{
		MetadataOptions: &ec2types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpTokens: ec2types.LaunchTemplateHttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1), HttpEndpoint: ec2types.LaunchTemplateInstanceMetadataEndpointStateEnabled},
		BlockDeviceMappings: []ec2types.LaunchTemplateBlockDeviceMappingRequest{{DeviceName: aws.String("/dev/xvda"), Ebs: &ec2types.LaunchTemplateEbsBlockDeviceRequest{
			VolumeSize: aws.Int32(c.diskSize()), VolumeType: ec2types.VolumeTypeGp3, Encrypted: aws.Bool(true), KmsKeyId: aws.String(c.One(plane.EncryptionKey)), DeleteOnTermination: aws.Bool(true)}}},
		TagSpecifications: []ec2types.LaunchTemplateTagSpecificationRequest{
			{ResourceType: ec2types.ResourceTypeInstance, Tags: tags}, {ResourceType: ec2types.ResourceTypeVolume, Tags: tags}, {ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: tags}},
	}
}

// nodeTags are on each node, its disks and interfaces. They say whose it is, and are not
// the ownership tag: a node comes and goes with its group.
func (c *cluster) nodeTags() map[string]string {
	tags := map[string]string{"Name": c.Prefix() + "-node", c.Vendor.TagPrefix + "data-plane-id": c.Name, c.Vendor.TagPrefix + "component": component}
	maps.Copy(tags, c.Spec.Tags)
	return tags
}

// templateText is what matters of a template's data, as one text.
func (c *cluster) templateText(d *ec2types.ResponseLaunchTemplateData) string {
	if d == nil {
		return ""
	}
	tokens, hops := "optional", int32(0)
	if m := d.MetadataOptions; m != nil {
		tokens, hops = string(m.HttpTokens), aws.ToInt32(m.HttpPutResponseHopLimit)
	}
	disk := "none"
	for _, b := range d.BlockDeviceMappings {
		if e := b.Ebs; e != nil {
			disk = fmt.Sprintf("%s %s %d GiB, key %s", aws.ToString(b.DeviceName), e.VolumeType, aws.ToInt32(e.VolumeSize), aws.ToString(e.KmsKeyId))
		}
	}
	tags := map[string]string{}
	for _, t := range d.TagSpecifications {
		if t.ResourceType == ec2types.ResourceTypeInstance {
			for _, tag := range t.Tags {
				tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
			}
		}
	}
	return templateText(tokens, hops, disk, tags)
}

func (c *cluster) wantedTemplateText() string {
	return templateText("required", 1, fmt.Sprintf("/dev/xvda gp3 %d GiB, key %s", c.diskSize(), c.One(plane.EncryptionKey)), c.nodeTags())
}

func templateText(tokens string, hops int32, disk string, tags map[string]string) string {
	return fmt.Sprintf("metadata tokens %s, hops %d; disk %s; tags %s", tokens, hops, disk, resource.SortedPairs(tags))
}

func nodeGroupTitle(name string) string { return "node group " + name }

func (c *cluster) nodeGroups() []*resource.Resource {
	var out []*resource.Resource
	for _, g := range c.Spec.Cluster.NodeGroups {
		out = append(out, c.nodeGroup(g))
	}
	return out
}

func (c *cluster) nodeGroup(g spec.NodeGroup) *resource.Resource {
	name := c.ClusterName()
	requires := slices.Concat(c.after.Ways, []string{StepName(c.Plane), nodeTemplateTitle, resource.RoleTitle(c.nodeRole()), addonTitle("vpc-cni"), addonTitle("kube-proxy")})
	capacity := types.CapacityTypesOnDemand
	if g.Spot {
		capacity = types.CapacityTypesSpot
	}
	return &resource.Resource{
		Plane: c.Plane, Title: nodeGroupTitle(g.Name), Requires: requires, Component: component, LogicalID: "node-group-" + g.Name,
		About: step.Description{
			Service: "eks", Creates: []string{"eks:CreateNodegroup"}, Updates: []string{"eks:UpdateNodegroupConfig"}, Removes: []string{"eks:DeleteNodegroup"},
			Monthly: float64(g.Min) * monthlyOf(g.InstanceTypes[0]), Cost: fmt.Sprintf("%d × %s at least, on demand, and their disks", g.Min, g.InstanceTypes[0]),
			ToMake: 150 * time.Second, ToRemove: 3 * time.Minute, Patience: 40 * time.Minute,
		},
		Purpose: []string{fmt.Sprintf("%d to %d nodes of %s, %s", g.Min, g.Max, strings.Join(g.InstanceTypes, ", "), strings.ToLower(strings.ReplaceAll(string(capacity), "_", " ")))},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			if c.One(plane.ClusterVersion) == "" {
				return nil, nil // there is no cluster
			}
			out, err := c.AWS.EKS.DescribeNodegroup(ctx, &eks.DescribeNodegroupInput{ClusterName: &name, NodegroupName: &g.Name})
			if fault.Gone(err) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			got := out.Nodegroup
			s := &resource.State{Tags: got.Tags, Value: got}
			switch got.Status {
			case types.NodegroupStatusActive:
			case types.NodegroupStatusDeleting:
				s.Leaving = "the node group is DELETING"
			case types.NodegroupStatusCreateFailed, types.NodegroupStatusDeleteFailed:
				s.Broken = fmt.Sprintf("EKS says %s", got.Status)
				if goal == step.Present {
					why, remedy, err := c.diagnosis(ctx, got)
					if err != nil {
						return nil, err
					}
					s.Broken += why
					s.Remedy = remedy
				}
			case types.NodegroupStatusDegraded: // which ends when its reason does
				why, _, err := c.diagnosis(ctx, got)
				if err != nil {
					return nil, err
				}
				s.Busy = "the node group is DEGRADED" + why
			default:
				s.Busy = fmt.Sprintf("the node group is %s", got.Status)
			}
			if goal == step.Present && s.Leaving == "" {
				s.Differ = c.compareGroup(g, capacity, got)
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			in := &eks.CreateNodegroupInput{ClusterName: &name, NodegroupName: &g.Name, NodeRole: aws.String(c.RoleARN(c.nodeRole())), Subnets: c.All(plane.PrivateSubnets),
				InstanceTypes: g.InstanceTypes, CapacityType: capacity, AmiType: amiType(g.InstanceTypes[0]), Labels: g.Labels, Taints: taints(g.Taints), Tags: tags,
				LaunchTemplate: &types.LaunchTemplateSpecification{Id: aws.String(c.One(plane.NodeTemplate))}, // without a number: the default version
				ScalingConfig:  scaling(g), UpdateConfig: &types.NodegroupUpdateConfig{MaxUnavailable: aws.Int32(1)}}
			_, err := c.AWS.EKS.CreateNodegroup(ctx, in)
			return err
		},
		ByHand: fmt.Sprintf("aws eks delete-nodegroup --cluster-name %s --nodegroup-name %s --region %s", name, g.Name, c.Place.Region),
		Delete: func(ctx context.Context, _ *resource.State) error {
			_, err := c.AWS.EKS.DeleteNodegroup(ctx, &eks.DeleteNodegroupInput{ClusterName: &name, NodegroupName: &g.Name})
			return err
		},
		Wait: func(ctx context.Context) error {
			waiter := eks.NewNodegroupActiveWaiter(c.AWS.EKS, func(o *eks.NodegroupActiveWaiterOptions) {
				o.MinDelay, o.MaxDelay = c.Clock.Machine(4*time.Second), c.Clock.Machine(6*time.Second)
			})
			return waiter.Wait(ctx, &eks.DescribeNodegroupInput{ClusterName: &name, NodegroupName: &g.Name}, c.Clock.Machine(40*time.Minute))
		},
	}
}

func scaling(g spec.NodeGroup) *types.NodegroupScalingConfig {
	return &types.NodegroupScalingConfig{MinSize: aws.Int32(int32(g.Min)), MaxSize: aws.Int32(int32(g.Max)), DesiredSize: aws.Int32(int32(g.Min))}
}

func taints(list []spec.Taint) []types.Taint {
	effects := map[string]types.TaintEffect{"NoSchedule": types.TaintEffectNoSchedule, "PreferNoSchedule": types.TaintEffectPreferNoSchedule, "NoExecute": types.TaintEffectNoExecute}
	var out []types.Taint
	for _, t := range list {
		out = append(out, types.Taint{Key: aws.String(t.Key), Value: aws.String(t.Value), Effect: effects[t.Effect]})
	}
	return out
}

// amiType is AWS's image for an instance type: Graviton's families have a g behind the
// generation (m7g.large).
func amiType(instance string) types.AMITypes {
	family, _, _ := strings.Cut(instance, ".")
	if i := strings.IndexAny(family, "0123456789"); i >= 0 && i+1 < len(family) && strings.HasPrefix(strings.TrimLeft(family[i:], "0123456789"), "g") {
		return types.AMITypesAl2023Arm64Standard
	}
	return types.AMITypesAl2023X8664Standard
}

// compareGroup says how a node group differs from the file.
func (c *cluster) compareGroup(g spec.NodeGroup, capacity types.CapacityTypes, got *types.Nodegroup) []resource.Difference {
	var out []resource.Difference
	fixed := func(field, want, have string) {
		d := resource.Differ(field, want, have, nil)
		if d != nil {
			d[0].Hint = "add a node group of another name with what you want, apply, and then take this one out of the file"
		}
		out = append(out, d...)
	}
	fixed("instanceTypes", resource.Joined(g.InstanceTypes), resource.Joined(got.InstanceTypes))
	fixed("spot", string(capacity), string(got.CapacityType))
	if subnets := c.All(plane.PrivateSubnets); len(subnets) > 0 {
		fixed("subnets", resource.Joined(subnets), resource.Joined(got.Subnets))
	}
	if got.ScalingConfig != nil {
		have := fmt.Sprintf("%d to %d", aws.ToInt32(got.ScalingConfig.MinSize), aws.ToInt32(got.ScalingConfig.MaxSize))
		out = append(out, resource.Differ("size", fmt.Sprintf("%d to %d", g.Min, g.Max), have, func(ctx context.Context) error {
			// How many there are is the scaler's, as long as it is within the bounds.
			desired := min(max(aws.ToInt32(got.ScalingConfig.DesiredSize), int32(g.Min)), int32(g.Max))
			config := scaling(g)
			config.DesiredSize = &desired
			_, err := c.AWS.EKS.UpdateNodegroupConfig(ctx, &eks.UpdateNodegroupConfigInput{ClusterName: got.ClusterName, NodegroupName: got.NodegroupName, ScalingConfig: config})
			return err
		})...)
	}
	out = append(out, resource.Differ("labels", resource.SortedPairs(g.Labels), resource.SortedPairs(got.Labels), func(ctx context.Context) error {
		payload := &types.UpdateLabelsPayload{AddOrUpdateLabels: g.Labels}
		for key := range got.Labels {
			if _, wanted := g.Labels[key]; !wanted {
				payload.RemoveLabels = append(payload.RemoveLabels, key)
			}
		}
		_, err := c.AWS.EKS.UpdateNodegroupConfig(ctx, &eks.UpdateNodegroupConfigInput{ClusterName: got.ClusterName, NodegroupName: got.NodegroupName, Labels: payload})
		return err
	})...)
	out = append(out, resource.Differ("taints", taintText(taints(g.Taints)), taintText(got.Taints), func(ctx context.Context) error {
		payload := &types.UpdateTaintsPayload{AddOrUpdateTaints: taints(g.Taints)}
		for _, t := range got.Taints {
			if !slices.ContainsFunc(g.Taints, func(w spec.Taint) bool { return w.Key == aws.ToString(t.Key) }) {
				payload.RemoveTaints = append(payload.RemoveTaints, t)
			}
		}
		_, err := c.AWS.EKS.UpdateNodegroupConfig(ctx, &eks.UpdateNodegroupConfigInput{ClusterName: got.ClusterName, NodegroupName: got.NodegroupName, Taints: payload})
		return err
	})...)
	return out
}

func taintText(list []types.Taint) string {
	var texts []string
	for _, t := range list {
		texts = append(texts, fmt.Sprintf("%s=%s:%s", aws.ToString(t.Key), aws.ToString(t.Value), t.Effect))
	}
	return resource.Joined(texts)
}
