package cluster

import (
	"strings"

	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
)

// declare says what a thing of the cluster is in CloudFormation.
func (c *cluster) declare(r *resource.Resource) {
	if r.Templates == nil {
		r.Templates = func() []resource.Template { return c.templates(r) }
	}
}

// subnets are the private ones: those of the same template, or those that are given.
func (c *cluster) subnetRefs() []any {
	var out []any
	if given := c.Spec.Network.Existing; given != nil {
		for _, id := range given.PrivateSubnets {
			out = append(out, id)
		}
		return out
	}
	for i := range c.Spec.Network.Create.Zones {
		out = append(out, resource.Ref("subnet-private-"+string(rune('1'+i))))
	}
	return out
}

// tagValues are tags as EKS has them in a template.
func tagValues(tags map[string]string) map[string]any {
	out := map[string]any{}
	for key, value := range tags {
		out[key] = value
	}
	return out
}

func (c *cluster) templates(r *resource.Resource) []resource.Template {
	id := r.LogicalID
	tags := c.Tags(component, id)
	listed := resource.TagList(tags)
	name := resource.LogicalName(id)
	one := func(kind string, properties map[string]any) []resource.Template {
		return []resource.Template{{Name: name, Type: kind, Properties: properties}}
	}
	key, cluster := resource.Attribute("key", "Arn"), resource.Ref("cluster")
	wanted := c.Spec.Cluster
	switch id {
	case "key":
		return []resource.Template{
			{Name: name, Type: "AWS::KMS::Key", Keeps: true, Properties: map[string]any{"Description": "data plane " + c.Name, "EnableKeyRotation": true,
				"PendingWindowInDays": wanted.KeyDeletionDays, "KeyPolicy": resource.JSON(c.keyPolicy()), "Tags": listed}},
			{Name: resource.LogicalName(id + "-name"), Type: "AWS::KMS::Alias", Properties: map[string]any{"AliasName": c.alias(), "TargetKeyId": resource.Ref("key")}}}
	case "cluster-logs":
		return one("AWS::Logs::LogGroup", map[string]any{"LogGroupName": c.logGroupName(), "RetentionInDays": wanted.LogDays, "KmsKeyId": key, "Tags": listed})
	case "cluster":
		network := map[string]any{"SubnetIds": c.subnetRefs(), "EndpointPrivateAccess": true, "EndpointPublicAccess": wanted.Endpoint == spec.PublicAddress}
		if wanted.Endpoint == spec.PublicAddress {
			network["PublicAccessCidrs"] = wanted.PublicCIDRs
		}
		var logs []any
		for _, t := range logTypes {
			logs = append(logs, map[string]any{"Type": string(t)})
		}
		properties := map[string]any{"Name": c.ClusterName(), "Version": wanted.Version, "RoleArn": resource.Attribute("cluster-role", "Arn"), "ResourcesVpcConfig": network,
			"AccessConfig":               map[string]any{"AuthenticationMode": "API", "BootstrapClusterCreatorAdminPermissions": false},
			"BootstrapSelfManagedAddons": false,
			"EncryptionConfig":           []any{map[string]any{"Resources": []any{"secrets"}, "Provider": map[string]any{"KeyArn": key}}},
			"Logging":                    map[string]any{"ClusterLogging": map[string]any{"EnabledTypes": logs}}, "Tags": listed}
		if wanted.ServiceCIDR != "" {
			properties["KubernetesNetworkConfig"] = map[string]any{"ServiceIpv4Cidr": wanted.ServiceCIDR}
		}
		return one("AWS::EKS::Cluster", properties)
	case "node-template":
		specifications := []any{}
		for _, kind := range []string{"instance", "volume", "network-interface"} {
			specifications = append(specifications, map[string]any{"ResourceType": kind, "Tags": resource.TagList(c.nodeTags())})
		}
		return one("AWS::EC2::LaunchTemplate", map[string]any{"LaunchTemplateName": c.nodeTemplateName(),
			"TagSpecifications": []any{map[string]any{"ResourceType": "launch-template", "Tags": listed}},
			"LaunchTemplateData": map[string]any{
				"MetadataOptions": map[string]any{"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
				"BlockDeviceMappings": []any{map[string]any{"DeviceName": "/dev/xvda", "Ebs": map[string]any{
					"VolumeSize": c.diskSize(), "VolumeType": "gp3", "Encrypted": true, "KmsKeyId": key, "DeleteOnTermination": true}}},
				"TagSpecifications": specifications}})
	case "karpenter-queue":
		return []resource.Template{
			{Name: name, Type: "AWS::SQS::Queue", Properties: map[string]any{"QueueName": c.queueName(), "MessageRetentionPeriod": 300, "SqsManagedSseEnabled": true, "Tags": listed}},
			{Name: resource.LogicalName(id + "-policy"), Type: "AWS::SQS::QueuePolicy", Properties: map[string]any{"Queues": []any{resource.Ref(id)}, "PolicyDocument": resource.JSON(c.queuePolicy())}}}
	case "karpenter-identity":
		return one("AWS::EKS::PodIdentityAssociation", map[string]any{"ClusterName": cluster, "Namespace": "kube-system", "ServiceAccount": "karpenter",
			"RoleArn": resource.Attribute("karpenter-role", "Arn"), "Tags": listed})
	}
	for _, e := range events {
		if id == "karpenter-rule-"+e.name {
			return one("AWS::Events::Rule", map[string]any{"Name": c.queueName() + "-" + e.name, "EventPattern": map[string]any{"source": []any{e.source}, "detail-type": []any{e.detail}},
				"Targets": []any{map[string]any{"Id": "queue", "Arn": resource.Attribute("karpenter-queue", "Arn")}}})
		}
	}
	for _, e := range c.letIn() {
		if r.Title != e.title() {
			continue
		}
		if e.maybe {
			return nil
		}
		properties := map[string]any{"ClusterName": cluster, "PrincipalArn": e.role, "Type": e.kind, "Tags": listed}
		if e.policy != "" {
			properties["AccessPolicies"] = []any{map[string]any{"PolicyArn": "arn:" + c.Place.Partition + ":eks::aws:cluster-access-policy/" + e.policy, "AccessScope": map[string]any{"Type": "cluster"}}}
		}
		return one("AWS::EKS::AccessEntry", properties)
	}
	for _, a := range addonTable {
		if id != "addon-"+a.name {
			continue
		}
		properties := map[string]any{"ClusterName": cluster, "AddonName": a.name, "ResolveConflicts": "OVERWRITE", "Tags": listed}
		if a.account != "" {
			properties["PodIdentityAssociations"] = []any{map[string]any{"ServiceAccount": a.account, "RoleArn": resource.Attribute("ebs-csi-role", "Arn")}}
		}
		return one("AWS::EKS::Addon", properties)
	}
	for _, g := range wanted.NodeGroups {
		if id != "node-group-"+g.Name {
			continue
		}
		capacity := "ON_DEMAND"
		if g.Spot {
			capacity = "SPOT"
		}
		properties := map[string]any{"ClusterName": cluster, "NodegroupName": g.Name, "NodeRole": resource.Attribute("node-role", "Arn"), "Subnets": c.subnetRefs(), "InstanceTypes": g.InstanceTypes,
			"CapacityType": capacity, "AmiType": string(amiType(g.InstanceTypes[0])), "Tags": tagValues(tags),
			"LaunchTemplate": map[string]any{"Id": resource.Ref("node-template"), "Version": resource.Attribute("node-template", "LatestVersionNumber")},
			"ScalingConfig":  map[string]any{"MinSize": g.Min, "MaxSize": g.Max, "DesiredSize": g.Min}, "UpdateConfig": map[string]any{"MaxUnavailable": 1}}
		if len(g.Labels) > 0 {
			properties["Labels"] = tagValues(g.Labels)
		}
		var list []any
		for _, t := range taints(g.Taints) {
			list = append(list, map[string]any{"Key": t.Key, "Value": t.Value, "Effect": string(t.Effect)})
		}
		if list != nil {
			properties["Taints"] = list
		}
		return one("AWS::EKS::Nodegroup", properties)
	}
	if repository, ok := strings.CutPrefix(r.Title, "repository "); ok {
		return []resource.Template{{Name: name, Type: "AWS::ECR::Repository", Keeps: true, Properties: map[string]any{"RepositoryName": repository, "ImageTagMutability": "IMMUTABLE",
			"ImageScanningConfiguration": map[string]any{"ScanOnPush": true}, "EncryptionConfiguration": map[string]any{"EncryptionType": "KMS", "KmsKey": key},
			"LifecyclePolicy": map[string]any{"LifecyclePolicyText": c.lifecycle()}, "Tags": listed}}}
	}
	return nil
}
