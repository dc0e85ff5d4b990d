package awsdouble

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// function gives the resources of an @name in operations.txt. What it cannot
// find becomes a *, which only a grant on all resources of the kind covers.
func (x *expansion) function(start, name string) []string {
	name, path, _ := strings.Cut(name, ":")
	p, start := x.call.params, x.call.fill(start)
	switch name {
	case "ec2": // ids of any kind
		var found []string
		for _, id := range p.all(path) {
			found = append(found, start+ec2Kind(id)+"/"+id)
		}
		return found

	case "kms": // a key by its id, ARN or alias
		var found []string
		for _, id := range p.all(path) {
			arn, err := x.facts.kmsKey(x.ctx, x.call, id)
			if err != nil {
				x.fail(err)
			}
			if arn == "" {
				arn = "arn:" + x.call.Partition + ":kms:" + x.call.Region + ":" + x.call.Account + ":key/*"
			}
			found = append(found, arn)
		}
		return found

	case "ciphertext": // the key that a text was encrypted with, which moto writes in front
		text, err := base64.StdEncoding.DecodeString(p.one(path))
		if err != nil || len(text) < 36 || strings.ContainsFunc(string(text[:36]), notOfKeyID) {
			return nil
		}
		return []string{start + "key/" + string(text[:36])}

	case "secret": // an ARN ends in six characters that its name does not have
		arn, err := x.facts.secret(x.ctx, x.call, p.one("SecretId"))
		if err != nil {
			x.fail(err)
		}
		if arn == "" {
			arn = start + "secret:" + p.one("SecretId") + "-*"
		}
		return []string{arn}

	case "accessEntry":
		return []string{cmp.Or(x.facts.eksARN(x.call, "access-entry", p.one("name"), p.one("principalArn")), x.accessEntry(start))}
	case "newAccessEntry":
		return []string{x.accessEntry(start)}
	case "nodegroup":
		return x.ofCluster(start, "nodegroup", "nodegroupName")
	case "addon":
		return x.ofCluster(start, "addon", "addonName")

	case "rule": // of EventBridge: the default bus is not in the ARN
		rule := p.one("Name")
		if bus := base(p.one("EventBusName")); bus != "" && bus != "default" {
			rule = bus + "/" + rule
		}
		return []string{start + "rule/" + rule}

	case "taskDefinition": // "family" is its newest revision
		definition := p.one("taskDefinition")
		if strings.HasPrefix(definition, "arn:") {
			return []string{definition}
		}
		if !strings.Contains(definition, ":") {
			definition += ":*"
		}
		return []string{start + "task-definition/" + definition}

	case "parameter": // of Systems Manager: a leading slash is not doubled, AWS's own are nobody's
		var found []string
		for _, given := range p.all(path) {
			switch {
			case strings.HasPrefix(given, "arn:"):
				found = append(found, given)
			case strings.HasPrefix(given, "/aws/service/"):
				found = append(found, "arn:"+x.call.Partition+":ssm:"+x.call.Region+"::parameter"+given)
			default:
				found = append(found, start+"parameter/"+strings.TrimPrefix(given, "/"))
			}
		}
		return found
	case "target": // of a session: ecs:CLUSTER_TASK_RUNTIME, an instance, or a managed node
		target := p.one("Target")
		here := x.call.Region + ":" + x.call.Account + ":"
		if task, ok := strings.CutPrefix(target, "ecs:"); ok {
			cluster, rest, _ := strings.Cut(task, "_")
			task, _, _ = strings.Cut(rest, "_")
			return []string{"arn:" + x.call.Partition + ":ecs:" + here + "task/" + cluster + "/" + task}
		}
		if strings.HasPrefix(target, "i-") {
			return []string{"arn:" + x.call.Partition + ":ec2:" + here + "instance/" + target}
		}
		return []string{start + "managed-instance/" + target}

	case "stack":
		stack, changeSet := p.one("StackName"), p.one("ChangeSetName")
		if arn := x.facts.stackARN(x.call, stack, changeSet); arn != "" {
			return []string{arn}
		}
		switch {
		case stack == "" && changeSet != "": // one that is not there, changeSet/NAME/ID, which does not name the stack
			return []string{start + "stack/*/*"}
		case stack == "":
			return nil
		case strings.HasPrefix(stack, "arn:"):
			return []string{stack}
		}
		return []string{start + "stack/" + stack + "/*"}

	case "groupByName":
		return x.lookUp("security-group", "DescribeSecurityGroups", "securityGroupInfo.item.groupId",
			"Filter.1.Name", "group-name", "Filter.1.Value.1", p.one("GroupName"))
	case "templateByName":
		given := p.one("LaunchTemplateName") + p.one("LaunchTemplate.LaunchTemplateName")
		if given == "" {
			return nil
		}
		return x.lookUp("launch-template", "DescribeLaunchTemplates", "launchTemplates.item.launchTemplateId", "LaunchTemplateName.1", given)
	case "address":
		return x.lookUp("elastic-ip", "DescribeAddresses", "addressesSet.item.allocationId",
			"Filter.1.Name", "association-id", "Filter.1.Value.1", p.one("AssociationId"))
	case "association":
		filter := []string{"Filter.1.Name", "association.route-table-association-id", "Filter.1.Value.1", p.one("AssociationId")}
		return append(
			x.lookUp("route-table", "DescribeRouteTables", "routeTableSet.item.routeTableId", filter...),
			x.lookUp("subnet", "DescribeRouteTables", "routeTableSet.item.associationSet.item.subnetId", filter...)...)
	case "cidrAssociation":
		return x.lookUp("vpc", "DescribeVpcs", "vpcSet.item.vpcId",
			"Filter.1.Name", "cidr-block-association.association-id", "Filter.1.Value.1", p.one("AssociationId"))
	case "attachment":
		filter := []string{"Filter.1.Name", "attachment.attachment-id", "Filter.1.Value.1", p.one("AttachmentId")}
		return append(
			x.lookUp("network-interface", "DescribeNetworkInterfaces", "networkInterfaceSet.item.networkInterfaceId", filter...),
			x.lookUp("instance", "DescribeNetworkInterfaces", "networkInterfaceSet.item.attachment.instanceId", filter...)...)
	}
	x.fail(fmt.Errorf("operations.txt: no function @%s", name))
	return nil
}

// ofCluster is the ARN of what a parameter names in a cluster: KIND/CLUSTER/NAME/ID.
func (x *expansion) ofCluster(start, kind, parameter string) []string {
	cluster, name := x.call.params.one("name"), x.call.params.one(parameter)
	if name == "" {
		return nil
	}
	return []string{cmp.Or(x.facts.eksARN(x.call, kind, cluster, name), start+kind+"/"+cluster+"/"+name+"/*")}
}

// accessEntry is the ARN of the entry of a role or user in a cluster that is yet to
// be made: access-entry/CLUSTER/role/ACCOUNT/NAME/ID.
func (x *expansion) accessEntry(start string) string {
	p := x.call.params
	kind, account, name := "*", "*", "*"
	if f := strings.SplitN(p.one("principalArn"), ":", 6); len(f) == 6 {
		account = f[4]
		kind, _, _ = strings.Cut(f[5], "/")
		name = base(f[5])
	}
	return start + "access-entry/" + p.one("name") + "/" + kind + "/" + account + "/" + name + "/*"
}

func notOfKeyID(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
}

// lookUp asks EC2 for the ids of a kind of thing.
func (x *expansion) lookUp(kind, operation, path string, parameters ...string) []string {
	start := "arn:" + x.call.Partition + ":ec2:" + x.call.Region + ":" + x.call.Account + ":" + kind + "/"
	answer, err := x.facts.ec2(x.ctx, x.call, operation, parameters...)
	if err != nil {
		x.fail(err)
		return nil
	}
	var found []string
	for _, id := range answer.all(path) {
		found = append(found, start+id)
	}
	if len(found) == 0 {
		return []string{start + "*"}
	}
	return found
}

// passInstanceProfile asks about iam:PassRole on the role in the profile that a
// new instance gets.
func (x *expansion) passInstanceProfile() []question {
	profile := x.call.params.one("IamInstanceProfile.Name")
	if profile == "" {
		profile = base(x.call.params.one("IamInstanceProfile.Arn"))
	}
	roles := x.facts.profileRoles(x.call.Account, profile)
	if len(roles) == 0 {
		roles = []string{x.call.fill("arn:{partition}:iam::{account}:role/*")}
	}
	var all []question
	for _, role := range roles {
		q := question{Request: iampolicy.Request{Action: "iam:PassRole", Resource: role}, existing: true, fixed: iampolicy.Context{}}
		q.fixed.Set("iam:PassedToService", "ec2.amazonaws.com")
		all = append(all, q)
	}
	return all
}

// ec2Tags asks about ec2:CreateTags on all that a call makes with tags.
func (x *expansion) ec2Tags() []question {
	var all []question
	for _, spec := range append(x.call.params.at("TagSpecification.*"), x.call.params.at("TagSpecifications.*")...) {
		kind := spec.one("ResourceType")
		tags := map[string]string{}
		for _, n := range spec.children {
			if n.name == "Tag" || n.name == "Tags" {
				collectTags(n, tags)
			}
		}
		if kind == "" || len(tags) == 0 {
			continue
		}
		q := question{Request: iampolicy.Request{Action: "ec2:CreateTags", Resource: x.call.fill("arn:{partition}:ec2:{region}:{account}:") + kind + "/*", Context: iampolicy.Context{}}, tags: tags}
		q.Context.Set("ec2:CreateAction", x.call.Operation)
		q.Context.Set("ec2:Region", x.call.Region)
		all = append(all, q)
	}
	return all
}

// tagsFor are the tags that a call gives to what it makes of one kind.
func (x *expansion) tagsFor(kind string) map[string]string {
	tags := map[string]string{}
	for _, spec := range append(x.call.params.at("TagSpecification.*"), x.call.params.at("TagSpecifications.*")...) {
		if spec.one("ResourceType") != kind {
			continue
		}
		for _, n := range spec.children {
			if n.name == "Tag" || n.name == "Tags" {
				collectTags(n, tags)
			}
		}
	}
	return tags
}

// ec2Keys gives what policies on networks go by, the VPC that a thing is in, and
// what a call says of the thing that it makes. Which of them an action knows is
// for the reference to say.
func (x *expansion) ec2Keys(q *question) {
	kind, id := ec2Type(q.Resource), base(q.Resource)
	if id == "*" {
		x.ec2Made(q, kind)
	}
	vpc := ""
	switch kind {
	case "instance":
		if id != "*" {
			q.Context.Set("ec2:InstanceID", id)
		}
		return
	case "image":
		q.Context.Set("ec2:ImageID", id)
		return
	case "key-pair":
		q.Context.Set("ec2:KeyPairName", id)
		return
	case "vpc":
		if id != "*" {
			q.Context.Set("ec2:VpcID", id)
		}
		return
	case "subnet", "security-group", "route-table", "network-interface", "network-acl", "vpc-endpoint", "natgateway":
		if id == "*" {
			vpc = x.call.params.one("VpcId")
			break
		}
		describe := map[string][2]string{
			"subnet":            {"DescribeSubnets", "SubnetId.1"},
			"security-group":    {"DescribeSecurityGroups", "GroupId.1"},
			"route-table":       {"DescribeRouteTables", "RouteTableId.1"},
			"network-interface": {"DescribeNetworkInterfaces", "NetworkInterfaceId.1"},
			"network-acl":       {"DescribeNetworkAcls", "NetworkAclId.1"},
			"vpc-endpoint":      {"DescribeVpcEndpoints", "VpcEndpointId.1"},
			"natgateway":        {"DescribeNatGateways", "NatGatewayId.1"},
		}[kind]
		answer, err := x.facts.ec2(x.ctx, x.call, describe[0], describe[1], id)
		if err != nil {
			x.fail(err)
			return
		}
		vpc = answer.one("*.item.vpcId")
		if subnet := answer.one("*.item.subnetId"); subnet != "" && kind != "route-table" && kind != "network-acl" {
			q.Context.Set("ec2:SubnetID", subnet)
		}
	}
	if vpc != "" {
		q.Context.Set("ec2:Vpc", x.call.fill("arn:{partition}:ec2:{region}:{account}:vpc/")+vpc)
	}
}

// ec2Made gives the keys that come from the request, of what it will make.
func (x *expansion) ec2Made(q *question, kind string) {
	p := x.call.params
	set := func(key string, values ...string) {
		if value := cmp.Or(values...); value != "" {
			q.Context.Set("ec2:"+key, value)
		}
	}
	switch kind {
	case "instance":
		set("InstanceType", p.one("InstanceType"), "m1.small") // what EC2 takes when none is given
		set("Tenancy", p.one("Placement.Tenancy"), "default")
		set("AvailabilityZone", p.one("Placement.AvailabilityZone"))
		set("EbsOptimized", p.one("EbsOptimized"), "false")
		set("InstanceMarketType", p.one("InstanceMarketOptions.MarketType"), "on-demand")
		set("MetadataHttpTokens", p.one("MetadataOptions.HttpTokens"))
		set("MetadataHttpEndpoint", p.one("MetadataOptions.HttpEndpoint"))
		set("MetadataHttpPutResponseHopLimit", p.one("MetadataOptions.HttpPutResponseHopLimit"))
	case "volume":
		set("AvailabilityZone", p.one("AvailabilityZone"), p.one("Placement.AvailabilityZone"))
		set("VolumeType", p.one("VolumeType"), p.one("BlockDeviceMapping.*.Ebs.VolumeType"))
		set("VolumeSize", p.one("Size"), p.one("BlockDeviceMapping.*.Ebs.VolumeSize"))
		set("VolumeIops", p.one("Iops"), p.one("BlockDeviceMapping.*.Ebs.Iops"))
		set("Encrypted", p.one("Encrypted"), p.one("BlockDeviceMapping.*.Ebs.Encrypted"), "false")
	case "network-interface":
		subnet := cmp.Or(p.one("SubnetId"), p.one("NetworkInterface.*.SubnetId"))
		if subnet != "" {
			q.Context.Set("ec2:Subnet", x.call.fill("arn:{partition}:ec2:{region}:{account}:subnet/")+subnet)
		}
		set("AssociatePublicIpAddress", p.one("NetworkInterface.*.AssociatePublicIpAddress"))
	case "vpc-endpoint":
		set("VpceServiceName", p.one("ServiceName"))
		if strings.HasPrefix(p.one("ServiceName"), "com.amazonaws.") && !strings.HasPrefix(p.one("ServiceName"), "com.amazonaws.vpce.") {
			set("VpceServiceOwner", "amazon")
		}
	}
}

// ec2Type is the kind of an ARN's resource.
func ec2Type(arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 {
		return ""
	}
	kind, _, _ := strings.Cut(f[5], "/")
	return kind
}

// ec2Kind is what an id's prefix says, * for a prefix that is not known.
func ec2Kind(id string) string {
	at := strings.LastIndexByte(id, '-')
	if at < 0 {
		return "*"
	}
	switch id[:at] {
	case "vpc", "subnet", "snap", "vol":
		return map[string]string{"vpc": "vpc", "subnet": "subnet", "snap": "snapshot", "vol": "volume"}[id[:at]]
	case "i":
		return "instance"
	case "ami":
		return "image"
	case "igw":
		return "internet-gateway"
	case "eigw":
		return "egress-only-internet-gateway"
	case "nat":
		return "natgateway"
	case "rtb":
		return "route-table"
	case "sg":
		return "security-group"
	case "sgr":
		return "security-group-rule"
	case "eni":
		return "network-interface"
	case "eipalloc":
		return "elastic-ip"
	case "acl":
		return "network-acl"
	case "dopt":
		return "dhcp-options"
	case "vpce":
		return "vpc-endpoint"
	case "vpce-svc":
		return "vpc-endpoint-service"
	case "fl":
		return "vpc-flow-log"
	case "lt":
		return "launch-template"
	case "key":
		return "key-pair"
	case "pcx":
		return "vpc-peering-connection"
	case "pl":
		return "prefix-list"
	case "tgw":
		return "transit-gateway"
	case "tgw-attach":
		return "transit-gateway-attachment"
	case "vgw":
		return "vpn-gateway"
	case "cgw":
		return "customer-gateway"
	case "vpn":
		return "vpn-connection"
	case "eice":
		return "instance-connect-endpoint"
	case "cr":
		return "capacity-reservation"
	case "pg":
		return "placement-group"
	}
	return "*"
}

// sourcesOf are the sources that event patterns name as they are. A pattern that does
// not say them, or says them otherwise, has none: EventBridge leaves the key out then.
func sourcesOf(patterns []string) []string {
	var sources []string
	for _, text := range patterns {
		var pattern struct {
			Source []any `json:"source"`
		}
		if json.Unmarshal([]byte(text), &pattern) != nil {
			continue
		}
		for _, source := range pattern.Source {
			name, plain := source.(string)
			if !plain {
				return nil
			}
			sources = append(sources, name)
		}
	}
	return sources
}
