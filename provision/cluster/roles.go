package cluster

import (
	"encoding/json"

	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
)

// Names of roles behind the data plane's prefix. What the access roles' name begins
// with is locked to the vendor, so none of these may.
func (c *cluster) clusterRole() string     { return c.Prefix() + "-cluster" }
func (c *cluster) nodeRole() string        { return c.Prefix() + "-node" }
func (c *cluster) volumesRole() string     { return c.Prefix() + "-ebs-csi" }
func (c *cluster) autoscalerRole() string  { return c.Prefix() + "-karpenter" }
func (c *cluster) autoscaledNodes() string { return c.Prefix() + "-karpenter-node" }
func (c *cluster) podsService() string     { return "pods.eks.amazonaws.com" } // the same in every partition
func (c *cluster) service(name string) string {
	if name == "ec2" {
		return "ec2." + c.Place.DNSSuffix // China's has its own
	}
	return name + ".amazonaws.com"
}

// onNodes are the policies of a node's role: the images are pulled and nothing else
// is done with them, and a session needs no open port.
var onNodes = []string{"AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore"}

func (c *cluster) roles() []*resource.Resource {
	roles := []resource.Role{
		{Name: c.clusterRole(), LogicalID: "cluster-role", Purpose: "what EKS does in the account for the cluster",
			Services: []string{c.service("eks")}, Attached: []string{"AmazonEKSClusterPolicy"}, Fact: plane.ClusterRole},
		{Name: c.nodeRole(), LogicalID: "node-role", Purpose: "what a node does: join, give pods their addresses, pull images",
			Services: []string{c.service("ec2")}, Attached: onNodes, Fact: plane.NodeRole},
		{Name: c.volumesRole(), LogicalID: "ebs-csi-role", Purpose: "makes and attaches the volumes of pods",
			Services: []string{c.podsService()}, Attached: []string{"service-role/AmazonEBSCSIDriverPolicy"}},
	}
	if c.Spec.Cluster.Karpenter {
		roles = append(roles,
			resource.Role{Name: c.autoscaledNodes(), LogicalID: "karpenter-node-role", Purpose: "what a node of the autoscaler does", Profile: true,
				Services: []string{c.service("ec2")}, Attached: onNodes},
			resource.Role{Name: c.autoscalerRole(), LogicalID: "karpenter-role", Purpose: "the node autoscaler: starts and ends nodes of this cluster, and no others",
				Services: []string{c.podsService()}, Inline: map[string]string{"karpenter": c.autoscalerPolicy()}})
	}
	var out []*resource.Resource
	for _, role := range roles {
		role.Component = component
		out = append(out, resource.RoleStep(c.Plane, role))
	}
	return out
}

// autoscalerPolicy is what Karpenter needs (docs of Karpenter 1.14, "getting started",
// its template), bounded to what carries the cluster's name.
func (c *cluster) autoscalerPolicy() string {
	arn := func(service, resource string) string { return c.ARN(service, resource) }
	ec2 := func(kind string) string {
		return "arn:" + c.Place.Partition + ":ec2:" + c.Place.Region + ":*:" + kind + "/*"
	}
	owned := map[string]any{"StringEquals": map[string]any{"aws:ResourceTag/eks:eks-cluster-name": c.ClusterName()}}
	made := map[string]any{"StringEquals": map[string]any{"aws:RequestTag/eks:eks-cluster-name": c.ClusterName()}}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Sid": "Look", "Effect": "Allow", "Resource": "*", "Action": []string{
			"ec2:DescribeCapacityReservations", "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeInstanceStatus", "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes",
			"ec2:DescribeLaunchTemplates", "ec2:DescribePlacementGroups", "ec2:DescribeSecurityGroups", "ec2:DescribeSpotPriceHistory", "ec2:DescribeSubnets", "pricing:GetProducts"}},
		map[string]any{"Sid": "Images", "Effect": "Allow", "Action": "ssm:GetParameter", "Resource": "arn:" + c.Place.Partition + ":ssm:" + c.Place.Region + "::parameter/aws/service/*"},
		map[string]any{"Sid": "StartFrom", "Effect": "Allow", "Action": []string{"ec2:CreateFleet", "ec2:RunInstances"}, "Resource": []string{
			"arn:" + c.Place.Partition + ":ec2:" + c.Place.Region + "::image/*", ec2("security-group"), ec2("subnet"), ec2("capacity-reservation")}},
		map[string]any{"Sid": "StartFromTemplate", "Effect": "Allow", "Action": []string{"ec2:CreateFleet", "ec2:RunInstances"}, "Resource": ec2("launch-template"), "Condition": owned},
		map[string]any{"Sid": "Start", "Effect": "Allow", "Action": []string{"ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:RunInstances"}, "Resource": []string{
			ec2("fleet"), ec2("instance"), ec2("launch-template"), ec2("network-interface"), ec2("spot-instances-request"), ec2("volume")}, "Condition": made},
		map[string]any{"Sid": "TagWhatStarts", "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": []string{
			ec2("fleet"), ec2("instance"), ec2("launch-template"), ec2("network-interface"), ec2("spot-instances-request"), ec2("volume")}, "Condition": made},
		map[string]any{"Sid": "End", "Effect": "Allow", "Action": []string{"ec2:CreateTags", "ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"}, "Resource": []string{ec2("instance"), ec2("launch-template")}, "Condition": owned},
		map[string]any{"Sid": "HandOver", "Effect": "Allow", "Action": "iam:PassRole", "Resource": c.RoleARN(c.autoscaledNodes()),
			"Condition": map[string]any{"StringEquals": map[string]any{"iam:PassedToService": c.service("ec2")}}},
		map[string]any{"Sid": "Profile", "Effect": "Allow", "Action": "iam:GetInstanceProfile",
			"Resource": "arn:" + c.Place.Partition + ":iam::" + c.Place.Account + ":instance-profile" + c.RolePath() + c.autoscaledNodes()},
		map[string]any{"Sid": "Cluster", "Effect": "Allow", "Action": "eks:DescribeCluster", "Resource": arn("eks", "cluster/"+c.ClusterName())},
		map[string]any{"Sid": "Queue", "Effect": "Allow", "Action": []string{"sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"}, "Resource": arn("sqs", c.queueName())},
	}})
	if err != nil {
		panic("cluster: a policy of our own cannot be written: " + err.Error())
	}
	return string(text)
}

// RoleName is the name of the cluster's role, which is made first.
func RoleName(p *plane.Plane) string { return (&cluster{Plane: p}).clusterRole() }
