package network

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
)

// ZonesParameter is what a CloudFormation template has to be given where the file names
// no zones: their names, as many as the network has.
const ZonesParameter = "Zones"

// declare says what a thing of the network is in CloudFormation.
func (m *maker) declare(r *resource.Resource) {
	if r.Templates == nil {
		r.Templates = func() []resource.Template { return m.templates(r.LogicalID) }
	}
}

func (m *maker) templates(id string) []resource.Template {
	one := func(kind string, properties map[string]any) resource.Template {
		properties["Tags"] = resource.TagList(m.Tags(component, id))
		return resource.Template{Name: resource.LogicalName(id), Type: kind, Properties: properties}
	}
	beside := func(name, kind string, properties map[string]any) resource.Template {
		return resource.Template{Name: resource.LogicalName(id + "-" + name), Type: kind, Properties: properties}
	}
	vpc := resource.Ref("vpc")
	kind, number := id, 0
	if i := strings.LastIndexByte(id, '-'); i >= 0 {
		if n, err := strconv.Atoi(id[i+1:]); err == nil {
			kind, number = id[:i], n-1
		}
	}
	switch kind {
	case "vpc":
		out := []resource.Template{one("AWS::EC2::VPC", map[string]any{"CidrBlock": m.want.CIDR, "EnableDnsSupport": true, "EnableDnsHostnames": true})}
		for i, cidr := range m.want.SecondaryCIDRs {
			out = append(out, beside("range-"+strconv.Itoa(i+1), "AWS::EC2::VPCCidrBlock", map[string]any{"VpcId": vpc, "CidrBlock": cidr}))
		}
		return out
	case "internet-gateway":
		return []resource.Template{one("AWS::EC2::InternetGateway", map[string]any{}),
			beside("attachment", "AWS::EC2::VPCGatewayAttachment", map[string]any{"VpcId": vpc, "InternetGatewayId": resource.Ref(id)})}
	case "subnet-public", "subnet-private":
		t, block := public, m.addresses.Public[number]
		if kind == "subnet-private" {
			t, block = private, m.addresses.Private[number]
		}
		properties := map[string]any{"VpcId": vpc, "CidrBlock": block.CIDR, "MapPublicIpOnLaunch": t == public}
		if len(m.want.ZoneIDs) > 0 {
			properties["AvailabilityZoneId"] = m.want.ZoneIDs[number]
		} else {
			properties["AvailabilityZone"] = map[string]any{"Fn::Select": []any{number, map[string]any{"Ref": ZonesParameter}}}
		}
		made := one("AWS::EC2::Subnet", properties)
		tags := m.Tags(component, id)
		maps.Copy(tags, m.kubernetesTags(t))
		properties["Tags"] = resource.TagList(tags)
		return []resource.Template{made}
	case "routes-public", "routes-private":
		out := []resource.Template{one("AWS::EC2::RouteTable", map[string]any{"VpcId": vpc})}
		route := map[string]any{"RouteTableId": resource.Ref(id), "DestinationCidrBlock": everywhereCIDR}
		associate := func(subnet string) {
			out = append(out, beside("of-"+subnet, "AWS::EC2::SubnetRouteTableAssociation", map[string]any{"RouteTableId": resource.Ref(id), "SubnetId": resource.Ref(subnet)}))
		}
		if kind == "routes-public" {
			route["GatewayId"] = resource.Ref("internet-gateway")
			for i := range m.labels {
				associate(zonal("subnet-public", i))
			}
			return append(out, beside("default", "AWS::EC2::Route", route))
		}
		associate(zonal("subnet-private", number))
		if m.want.NAT != spec.NATNone {
			nat := number
			if m.want.NAT == spec.NATSingle {
				nat = 0
			}
			route["NatGatewayId"] = resource.Ref(zonal("nat-gateway", nat))
			out = append(out, beside("default", "AWS::EC2::Route", route))
		}
		return out
	case "address":
		return []resource.Template{one("AWS::EC2::EIP", map[string]any{"Domain": "vpc"})}
	case "nat-gateway":
		return []resource.Template{one("AWS::EC2::NatGateway", map[string]any{"SubnetId": resource.Ref(zonal("subnet-public", number)), "AllocationId": resource.Attribute(zonal("address", number), "AllocationId")})}
	case "endpoint-s3":
		var tables []any
		for i := range m.labels {
			tables = append(tables, resource.Ref(zonal("routes-private", i)))
		}
		return []resource.Template{one("AWS::EC2::VPCEndpoint", map[string]any{"VpcId": vpc, "VpcEndpointType": "Gateway", "ServiceName": serviceName(m.Place.Region, "s3"), "RouteTableIds": tables})}
	case "endpoint-group":
		var ingress []any
		for _, cidr := range append([]string{m.want.CIDR}, m.want.SecondaryCIDRs...) {
			ingress = append(ingress, map[string]any{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": cidr, "Description": "the network"})
		}
		return []resource.Template{one("AWS::EC2::SecurityGroup", map[string]any{"VpcId": vpc, "GroupName": m.Prefix() + "-endpoints",
			"GroupDescription": endpointGroupText, "SecurityGroupIngress": ingress})}
	case "flow-log-group":
		return []resource.Template{one("AWS::Logs::LogGroup", map[string]any{"LogGroupName": m.logGroupName(), "RetentionInDays": m.logDays()})}
	case "flow-log":
		return []resource.Template{one("AWS::EC2::FlowLog", map[string]any{"ResourceType": "VPC", "ResourceId": vpc, "TrafficType": "ALL", "LogDestinationType": "cloud-watch-logs",
			"LogGroupName": resource.Ref("flow-log-group"), "DeliverLogsPermissionArn": resource.Attribute("flow-log-role", "Arn")})}
	}
	service, ok := strings.CutPrefix(id, "endpoint-")
	i := slices.IndexFunc(allServices, func(s string) bool { return strings.ReplaceAll(s, ".", "-") == service })
	if !ok || i < 0 {
		return nil
	}
	var subnets []any
	for i := range m.labels {
		subnets = append(subnets, resource.Ref(zonal("subnet-private", i)))
	}
	return []resource.Template{one("AWS::EC2::VPCEndpoint", map[string]any{"VpcId": vpc, "VpcEndpointType": "Interface", "ServiceName": serviceName(m.Place.Region, allServices[i]),
		"SubnetIds": subnets, "SecurityGroupIds": []any{resource.Ref("endpoint-group")}, "PrivateDnsEnabled": true})}
}

const everywhereCIDR = "0.0.0.0/0"
