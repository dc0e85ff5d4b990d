package eks_test

import (
	"fmt"
	"testing"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// many is a map with n entries.
func many(n int) values {
	all := values{}
	for i := range n {
		all[fmt.Sprint("k", i)] = "v"
	}
	return all
}

func TestCreateClusterChecksItsParameters(t *testing.T) {
	t.Parallel()
	access := func(more values) values {
		v := values{"subnetIds": []string{"subnet-a", "subnet-b"}}
		for key, value := range more {
			v[key] = value
		}
		return values{"resourcesVpcConfig": v}
	}
	key := values{"resources": []string{"secrets"}, "provider": values{"keyArn": "arn:aws:kms:us-east-1:123456789012:key/1"}}
	for name, one := range map[string]struct {
		more        values
		code, words string
	}{
		"private callers of a public address": {access(values{"publicAccessCidrs": []string{"10.0.0.0/8"}}), "InvalidParameterException", "not allowed in publicAccessCidrs: [10.0.0.0/8]"},
		"callers that are no range":           {access(values{"publicAccessCidrs": []string{"8.8.8.8"}}), "InvalidParameterException", "invalid in publicAccessCidrs"},
		"callers by IPv6":                     {access(values{"publicAccessCidrs": []string{"2001:db8::/32"}}), "InvalidParameterException", "invalid in publicAccessCidrs"},
		"six security groups":                 {access(values{"securityGroupIds": []string{"sg-1", "sg-1", "sg-1", "sg-1", "sg-1", "sg-1"}}), "InvalidParameterException", "5 at most"},
		"services with bits of a host":        {values{"kubernetesNetworkConfig": values{"serviceIpv4Cidr": "172.20.1.0/16"}}, "InvalidParameterException", "between /12 and /24"},
		"a family of addresses":               {values{"kubernetesNetworkConfig": values{"ipFamily": "ipv5"}}, "InvalidParameterException", "none of ipv4, ipv6"},
		"IPv6, which is not here":             {values{"kubernetesNetworkConfig": values{"ipFamily": "ipv6"}}, "NotImplemented", "ipv6"},
		"a kind of logs":                      {values{"logging": values{"clusterLogging": []values{{"types": []string{"foo"}, "enabled": true}}}}, "InvalidParameterException", "log type foo"},
		"two keys":                            {values{"encryptionConfig": []values{key, key}}, "InvalidParameterException", "one entry at most"},
		"nobody let in by the config map":     {values{"accessConfig": values{"authenticationMode": "CONFIG_MAP", "bootstrapClusterCreatorAdminPermissions": false}}, "InvalidParameterException", "must be true"},
		"a mode":                              {values{"accessConfig": values{"authenticationMode": "FOO"}}, "InvalidParameterException", "none of CONFIG_MAP"},
		"half of Auto Mode":                   {values{"computeConfig": values{"enabled": true}}, "InvalidParameterException", "fully enabled"},
		"51 tags":                             {values{"tags": many(51)}, "InvalidParameterException", "50 at most"},
		"a tag of AWS":                        {values{"tags": values{"aws:x": "y"}}, "InvalidParameterException", "reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.refused(one.code, one.words, "CreateCluster", cluster(one.more))
			w.want(len(w.interfaces)+len(w.groups), 0)
		})
	}
}

func TestUpdatesThatChangeNothing(t *testing.T) {
	t.Parallel()
	w := running(t)
	for kind, same := range map[string]any{
		"deletionProtection": false, "upgradePolicy": values{"supportType": "EXTENDED"},
		"logging":            values{"clusterLogging": []values{{"types": []string{"api"}, "enabled": false}}},
		"resourcesVpcConfig": values{"endpointPublicAccess": true},
	} {
		if _, err := w.try("UpdateClusterConfig", values{"name": "demo", kind: same}); err == nil {
			t.Errorf("%s: got no error, want a refusal of what changes nothing", kind)
		}
	}
	w.want(at(w.call("DescribeCluster", demo), "cluster.status"), "ACTIVE")
}

func TestDeletionProtection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("CreateCluster", cluster(values{"deletionProtection": true}))
	w.now = w.now.Add(typical.CreateCluster)
	w.refused("InvalidRequestException", "deletion protection", "DeleteCluster", demo)
	w.call("UpdateClusterConfig", values{"name": "demo", "deletionProtection": false})
	w.now = w.now.Add(typical.UpdateClusterPolicy)
	w.want(at(w.call("DeleteCluster", demo), "cluster.status"), "DELETING")
}

func TestCreateNodegroupChecksItsParameters(t *testing.T) {
	t.Parallel()
	taint := func(effect string) values { return values{"key": "k", "value": "v", "effect": effect} }
	var taints []values
	for i := range 51 {
		taints = append(taints, values{"key": fmt.Sprint("k", i), "effect": "NO_SCHEDULE"})
	}
	for name, one := range map[string]struct {
		more  values
		words string
	}{
		"an image":                        {values{"amiType": "FOO"}, "amiType FOO is none of"},
		"an own image without a template": {values{"amiType": "CUSTOM"}, "needs a launch template"},
		"an image of another processor":   {values{"amiType": "AL2023_x86_64_STANDARD", "instanceTypes": []string{"m7g.large"}}, "[m7g.large] is not a valid instance type for requested amiType"},
		"another processor by default":    {values{"instanceTypes": []string{"m7g.large"}}, "[m7g.large] is not a valid instance type"},
		"an image that is no more":        {values{"amiType": "AL2_x86_64"}, "only supported for kubernetes versions 1.32 or earlier"},
		"an instance type":                {values{"instanceTypes": []string{"t3.medium", "zz.large"}}, "do not exist: [zz.large]"},
		"a capacity":                      {values{"capacityType": "FOO"}, "none of ON_DEMAND"},
		"a disk of nothing":               {values{"diskSize": 0}, "1 at least"},
		"a label of Kubernetes":           {values{"labels": values{"kubernetes.io/role": "x"}}, "reserved prefixes"},
		"a label that is too long":        {values{"labels": values{"k": fmt.Sprintf("%064d", 0)}}, "63"},
		"an effect of Kubernetes' name":   {values{"taints": []values{taint("NoSchedule")}}, "none of NO_SCHEDULE"},
		"a taint twice":                   {values{"taints": []values{taint("NO_EXECUTE"), taint("NO_EXECUTE")}}, "twice"},
		"51 taints":                       {values{"taints": taints}, "50 at most"},
		"two ways to be careful":          {values{"updateConfig": values{"maxUnavailable": 1, "maxUnavailablePercentage": 1}}, "of which it can have one"},
		"none away":                       {values{"updateConfig": values{"maxUnavailable": 0}}, "between 1 and 100"},
		"more than all away":              {values{"updateConfig": values{"maxUnavailablePercentage": 101}}, "between 1 and 100"},
		"a release of another version":    {values{"releaseVersion": "1.33.7-20260318"}, "not valid for kubernetes version 1.34"},
		"a release that is none":          {values{"releaseVersion": "1.34.7-foo"}, "not valid for kubernetes version 1.34"},
		"a template by id and name":       {values{"launchTemplate": values{"id": "lt-1", "name": "nodes"}}, "but not both"},
		"a template by nothing":           {values{"launchTemplate": values{"version": "1"}}, "but not both"},
		"a disk besides a template":       {values{"launchTemplate": values{"id": "lt-1"}, "diskSize": 30}, "within the launch template"},
		"a type besides a template's":     {values{"launchTemplate": values{"id": "lt-1", "version": "typed"}, "instanceTypes": []string{"t3.medium"}}, "and not in both"},
		"an image besides a template's":   {values{"launchTemplate": values{"id": "lt-1", "version": "own"}, "amiType": "AL2023_x86_64_STANDARD"}, "other than CUSTOM"},
		"a version besides an own image":  {values{"launchTemplate": values{"id": "lt-1", "version": "own"}, "version": "1.34"}, "has an image ID"},
		"a template with a profile":       {values{"launchTemplate": values{"id": "lt-1", "version": "profiled"}}, "should not specify an instance profile"},
		"fewer than the least":            {values{"scalingConfig": values{"minSize": 2, "desiredSize": 1, "maxSize": 3}}, "between the minimum"},
		"a tag of AWS":                    {values{"tags": values{"aws:x": "y"}}, "reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := running(t)
			w.refused("InvalidParameterException", one.words, "CreateNodegroup", group(one.more))
			w.want(len(w.call("ListNodegroups", demo)["nodegroups"].([]any)), 0)
		})
	}
}

func TestNodegroupOfAnOwnImage(t *testing.T) {
	t.Parallel()
	w := running(t)
	made := w.call("CreateNodegroup", group(values{"launchTemplate": values{"id": "lt-1", "version": "own"}}))
	w.want(at(made, "nodegroup.amiType"), "CUSTOM")
	w.want(at(made, "nodegroup.releaseVersion"), "ami-1")
	w.want(at(made, "nodegroup.diskSize"), nil)
}

func TestScalingInPart(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.call("CreateNodegroup", group(values{"nodeRepairConfig": values{"enabled": true}}))
	w.now = w.now.Add(typical.CreateNodegroup)
	ng := values{"name": "demo", "nodegroupName": "ng"}
	change := func(more values) values { return values{"name": "demo", "nodegroupName": "ng", "scalingConfig": more} }
	w.refused("InvalidParameterException", "between the minimum", "UpdateNodegroupConfig", change(values{"desiredSize": 4}))
	w.call("UpdateNodegroupConfig", change(values{"desiredSize": 3}))
	w.now = w.now.Add(typical.UpdateNodegroupConfig)
	shown := w.call("DescribeNodegroup", ng)
	w.want(at(shown, "nodegroup.scalingConfig"), "map[desiredSize:3 maxSize:3 minSize:1]")
	w.want(at(shown, "nodegroup.nodeRepairConfig.enabled"), true)
	if at(shown, "nodegroup.modifiedAt") == at(shown, "nodegroup.createdAt") {
		t.Error("got modifiedAt as it was, want the update's")
	}
}

func TestAddonsWithPodIdentity(t *testing.T) {
	t.Parallel()
	w := running(t)
	cni := func(more values) values {
		input := values{"name": "demo", "addonName": "vpc-cni"}
		for key, value := range more {
			input[key] = value
		}
		return input
	}
	with := func(name string) values {
		return values{"podIdentityAssociations": []values{{"serviceAccount": "aws-node", "roleArn": role(name)}}}
	}
	w.refused("InvalidParameterException", "does not allow pods.eks.amazonaws.com", "CreateAddon", cni(with("node")))
	w.refused("InvalidParameterException", "$.nope: is not defined in the schema", "CreateAddon", cni(values{"configurationValues": `{"nope":1}`}))
	w.refused("InvalidParameterException", "no JSON or YAML object", "CreateAddon", cni(values{"configurationValues": `{"env`}))
	w.refused("InvalidParameterException", "none of OVERWRITE", "CreateAddon", cni(values{"resolveConflicts": "FOO"}))

	made := w.call("CreateAddon", cni(values{"podIdentityAssociations": with("pod")["podIdentityAssociations"], "configurationValues": "env:\n  ENABLE_PREFIX_DELEGATION: 'true'\n"}))
	list := w.call("ListPodIdentityAssociations", demo)
	w.want(at(list, "associations.0.associationArn"), at(made, "addon.podIdentityAssociations.0"))
	w.want(at(list, "associations.0.ownerArn"), at(made, "addon.addonArn"))
	w.refused("ResourceInUseException", "already exists", "CreatePodIdentityAssociation", values{"name": "demo", "namespace": "kube-system", "serviceAccount": "aws-node", "roleArn": role("pod")})
	w.now = w.now.Add(typical.CreateAddon)

	w.call("UpdateAddon", cni(values{"podIdentityAssociations": []values{}}))
	w.now = w.now.Add(typical.UpdateAddon)
	w.want(at(w.call("DescribeAddon", cni(nil)), "addon.podIdentityAssociations"), nil)
	w.want(len(w.call("ListPodIdentityAssociations", demo)["associations"].([]any)), 0)

	// What is preserved keeps its role.
	w.call("UpdateAddon", cni(with("pod")))
	w.now = w.now.Add(typical.UpdateAddon)
	w.call("DescribeAddon", cni(nil))
	w.call("DeleteAddon", cni(values{"preserve": "true"}))
	w.now = w.now.Add(typical.DeleteAddon)
	w.refused("ResourceNotFoundException", "No addon", "DescribeAddon", cni(nil))
	w.want(at(w.call("ListPodIdentityAssociations", demo), "associations.0.ownerArn"), nil)
	w.want(len(w.call("ListPodIdentityAssociations", demo)["associations"].([]any)), 1)
}

func TestPodIdentitySettings(t *testing.T) {
	t.Parallel()
	w := running(t)
	input := func(more values) values {
		all := values{"name": "demo", "namespace": "n", "serviceAccount": "s", "roleArn": role("pod")}
		for key, value := range more {
			all[key] = value
		}
		return all
	}
	w.refused("InvalidParameterException", "disableSessionTags", "CreatePodIdentityAssociation", input(values{"policy": `{"Statement":[]}`}))
	made := w.call("CreatePodIdentityAssociation", input(values{"disableSessionTags": true, "targetRoleArn": role("person")}))
	w.want(at(made, "association.disableSessionTags"), true)
	if at(made, "association.externalId") == nil {
		t.Error("got no external ID for the target role, want one")
	}
	changed := w.call("UpdatePodIdentityAssociation", values{"name": "demo", "associationId": at(made, "association.associationId"), "targetRoleArn": ""})
	w.want(at(changed, "association.externalId"), nil)
}

func TestAccessEntriesOfNodesAreRoles(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.roles["arn:aws:iam::123456789012:user/somebody"] = w.roles["person"]
	w.refused("InvalidParameterException", "needs a role", "CreateAccessEntry", values{"name": "demo", "principalArn": "arn:aws:iam::123456789012:user/somebody", "type": "EC2_LINUX"})
	w.refused("InvalidParameterException", "a colon needs to come before {{SessionName}}", "CreateAccessEntry", values{"name": "demo", "principalArn": role("node"), "username": "x{{SessionName}}"})
	w.call("CreateAccessEntry", values{"name": "demo", "principalArn": role("node"), "username": "x:{{SessionName}}"})
}

func TestTagResourceChecksTags(t *testing.T) {
	t.Parallel()
	w := running(t)
	arn := at(w.call("DescribeCluster", demo), "cluster.arn")
	w.refused("BadRequestException", "reserved", "TagResource", values{"resourceArn": arn, "tags": values{"aws:x": "y"}})
	w.call("TagResource", values{"resourceArn": arn, "tags": many(50)})
	w.refused("BadRequestException", "50 at most", "TagResource", values{"resourceArn": arn, "tags": values{"another": "one"}})
	w.want(len(at(w.call("ListTagsForResource", values{"resourceArn": arn}), "tags").(values)), 50)
}

func TestInsightsRefresh(t *testing.T) {
	t.Parallel()
	w := running(t)
	w.refused("ResourceNotFoundException", "No insights refresh", "DescribeInsightsRefresh", demo)
	w.want(at(w.call("StartInsightsRefresh", demo), "status"), "IN_PROGRESS")
	w.now = w.now.Add(typical.RefreshInsights)
	w.want(at(w.call("DescribeInsightsRefresh", demo), "status"), "COMPLETED")
	w.want(w.call("ListFargateProfiles", demo)["fargateProfileNames"], "[]")
}
