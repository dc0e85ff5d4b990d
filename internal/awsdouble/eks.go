package awsdouble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"biplane.dev/biplane/internal/awsdouble/eks"
)

// eks performs a decided call of EKS, which is not moto's.
func (d *Double) eks(ctx context.Context, c *call) (*http.Response, error) {
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	input := map[string]any{}
	if len(c.body) > 0 {
		if err := json.Unmarshal(c.body, &input); err != nil {
			return nil, fmt.Errorf("%w: the body is no JSON object", errNotACall)
		}
	}
	for name, values := range c.request.URL.Query() {
		if strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		input[name] = values
		if len(values) == 1 {
			input[name] = values[0]
		}
	}
	for name, value := range c.labels {
		input[name] = value
	}
	text, err := d.world.eks.Serve(ctx, eks.Call{Operation: c.Operation, Where: c.where(), Principal: c.principal, Input: input, Fail: c.fail})
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(text))), ContentLength: int64(len(text))}, nil
}

// eksCloud is the account around a cluster, as EKS's service-linked roles see it.
type eksCloud struct {
	*world
	network *network
}

// in asks moto's EC2 in an account.
func (w *world) in(ctx context.Context, at eks.Where, operation string, parameters ...string) (*node, error) {
	answer, err := w.do(ctx, at.Account, at.Region, want{service: "ec2", operation: operation, form: parameters})
	if isAbsent(err) || errors.Is(err, ErrNoMoto) {
		return &node{}, nil // not there
	}
	return answer, err
}

func (w *world) Subnets(ctx context.Context, at eks.Where, ids []string) ([]eks.Subnet, error) {
	var found []eks.Subnet
	for _, id := range ids {
		answer, err := w.in(ctx, at, "DescribeSubnets", "SubnetId.1", id)
		if err != nil {
			return nil, err
		}
		item := answer.get("subnetSet").get("item")
		if item.one("subnetId") == "" {
			continue
		}
		free, err := strconv.Atoi(item.one("availableIpAddressCount"))
		if err != nil {
			return nil, fmt.Errorf("reading the free addresses of subnet %s: %w", id, err)
		}
		found = append(found, eks.Subnet{ID: id, VPC: item.one("vpcId"), Zone: item.one("availabilityZone"), ZoneID: item.one("availabilityZoneId"),
			Free: free, PublicAddresses: item.one("mapPublicIpOnLaunch") == "true"})
	}
	return found, nil
}

func (w *world) VPC(ctx context.Context, at eks.Where, id string) (*eks.VPC, error) {
	answer, err := w.in(ctx, at, "DescribeVpcs", "VpcId.1", id)
	if err != nil {
		return nil, err
	}
	item := answer.get("vpcSet").get("item")
	if item.one("vpcId") == "" {
		return nil, nil
	}
	v := &eks.VPC{ID: id, CIDRs: item.all("cidrBlockAssociationSet.item.cidrBlock")}
	for attribute, on := range map[string]*bool{"enableDnsSupport": &v.DNSSupport, "enableDnsHostnames": &v.DNSHostnames} {
		answer, err := w.in(ctx, at, "DescribeVpcAttribute", "VpcId", id, "Attribute", attribute)
		if err != nil {
			return nil, err
		}
		*on = answer.one(attribute+".value") == "true"
	}
	if id := item.one("dhcpOptionsId"); strings.HasPrefix(id, "dopt-") {
		answer, err := w.in(ctx, at, "DescribeDhcpOptions", "DhcpOptionsId.1", id)
		if err != nil {
			return nil, err
		}
		for _, option := range answer.at("dhcpOptionsSet.item.dhcpConfigurationSet.item") {
			if option.one("key") == "domain-name-servers" {
				v.NameServers = option.all("valueSet.item.value")
			}
		}
	}
	return v, nil
}

func (w *world) Zones(ctx context.Context, at eks.Where) (map[string]string, error) {
	answer, err := w.in(ctx, at, "DescribeAvailabilityZones")
	if err != nil {
		return nil, err
	}
	zones := map[string]string{}
	for _, item := range answer.items("availabilityZoneInfo") {
		zones[item.one("zoneName")] = item.one("zoneId")
	}
	return zones, nil
}

func (w *world) SecurityGroups(ctx context.Context, at eks.Where, ids []string) (map[string]string, error) {
	found := map[string]string{}
	for _, id := range ids {
		answer, err := w.in(ctx, at, "DescribeSecurityGroups", "GroupId.1", id)
		if err != nil {
			return nil, err
		}
		if vpc := answer.one("securityGroupInfo.item.vpcId"); vpc != "" {
			found[id] = vpc
		}
	}
	return found, nil
}

// Role looks a role up as everybody sees it: what was made within the consistency
// delay is not there yet.
func (w *world) Role(_ context.Context, arn string) (*eks.Role, error) {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[2] != "iam" || !strings.HasPrefix(f[5], "role/") {
		return nil, nil
	}
	account, name := f[4], base(f[5])
	answer, ok := w.identity.ask(account, "GetRole", "RoleName", name)
	if !ok || answer.one("GetRoleResult.Role.Arn") != arn {
		return nil, nil
	}
	role := &eks.Role{}
	trust, err := url.QueryUnescape(answer.one("GetRoleResult.Role.AssumeRolePolicyDocument"))
	if err != nil {
		return nil, fmt.Errorf("reading the trust of %s: %w", arn, err)
	}
	if role.Trusts, err = trustedServices(trust); err != nil {
		return nil, fmt.Errorf("reading the trust of %s: %w", arn, err)
	}
	attached, _ := w.identity.ask(account, "ListAttachedRolePolicies", "RoleName", name)
	role.Attached = attached.all("ListAttachedRolePoliciesResult.AttachedPolicies.member.PolicyName")
	return role, nil
}

// trustedServices are the services in the principals of a trust policy.
func trustedServices(text string) ([]string, error) {
	var document struct{ Statement json.RawMessage }
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		return nil, err
	}
	type statement struct {
		Effect    string
		Principal json.RawMessage
	}
	var statements []statement
	if json.Unmarshal(document.Statement, &statements) != nil {
		var one statement
		if err := json.Unmarshal(document.Statement, &one); err != nil {
			return nil, err
		}
		statements = []statement{one}
	}
	var services []string
	for _, s := range statements {
		var principal struct{ Service json.RawMessage }
		if s.Effect != "Allow" || json.Unmarshal(s.Principal, &principal) != nil || principal.Service == nil {
			continue
		}
		var list []string
		if json.Unmarshal(principal.Service, &list) != nil {
			var one string
			if err := json.Unmarshal(principal.Service, &one); err != nil {
				return nil, err
			}
			list = []string{one}
		}
		services = append(services, list...)
	}
	return services, nil
}

func (w *world) PrincipalExists(_ context.Context, arn string) (bool, error) {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[2] != "iam" {
		return false, nil
	}
	if name, ok := strings.CutPrefix(f[5], "user/"); ok {
		return w.identity.has(f[4], "GetUser", "UserName", base(name)), nil
	}
	if !strings.HasPrefix(f[5], "role/") {
		return false, nil
	}
	answer, _ := w.identity.ask(f[4], "GetRole", "RoleName", base(f[5]))
	return answer.one("GetRoleResult.Role.Arn") == arn, nil
}

func (w *world) Key(ctx context.Context, at eks.Where, arn string) (bool, error) {
	answer, err := w.ask(ctx, &call{Account: at.Account, Region: at.Region}, want{service: "kms", operation: "DescribeKey", target: "TrentService", json: map[string]any{"KeyId": arn}})
	if err != nil {
		return false, err
	}
	return answer.one("KeyMetadata.KeyState") == "Enabled" && answer.one("KeyMetadata.KeySpec") == "SYMMETRIC_DEFAULT", nil
}

func (w *world) LaunchTemplate(ctx context.Context, at eks.Where, id, name, version string) (*eks.LaunchTemplate, error) {
	form := []string{"LaunchTemplateVersion.1", version}
	if id != "" {
		form = append(form, "LaunchTemplateId", id)
	} else {
		form = append(form, "LaunchTemplateName", name)
	}
	answer, err := w.in(ctx, at, "DescribeLaunchTemplateVersions", form...)
	if err != nil {
		return nil, err
	}
	item := answer.get("launchTemplateVersionSet").get("item")
	if item.one("launchTemplateId") == "" {
		return nil, nil
	}
	data := item.child("launchTemplateData")
	template := &eks.LaunchTemplate{ID: item.one("launchTemplateId"), Name: item.one("launchTemplateName"), Version: item.one("versionNumber"),
		Image: data.one("imageId"), InstanceType: data.one("instanceType")}
	for _, field := range templateRefused {
		if len(data.at(field.path)) > 0 {
			template.Refused = field.name
		}
	}
	return template, nil
}

// templateRefused are what EKS itself gives to nodes (Amazon EKS User Guide, Customize
// managed nodes with launch templates).
var templateRefused = []struct{ path, name string }{
	{"iamInstanceProfile", "an instance profile"}, {"networkInterfaceSet.item.subnetId", "a subnet"},
	{"instanceMarketOptions", "an instance market type"}, {"hibernationOptions", "hibernation"}, {"instanceInitiatedShutdownBehavior", "a shutdown behavior"},
}

func (w *world) InstanceTypes(ctx context.Context, at eks.Where, names []string) (map[string][]string, error) {
	found := map[string][]string{}
	for _, name := range names {
		answer, err := w.in(ctx, at, "DescribeInstanceTypes", "InstanceType.1", name)
		if err != nil {
			return nil, err
		}
		for _, item := range answer.items("instanceTypeSet") {
			found[item.one("instanceType")] = item.all("processorInfo.supportedArchitectures.item")
		}
	}
	return found, nil
}

func (e eksCloud) WayOut(ctx context.Context, at eks.Where, subnet string) (eks.WayOut, error) {
	out := eks.WayOut{Endpoints: map[string]bool{}}
	here := place{at.Account, at.Region}
	subnets, err := e.network.look(ctx, here, "DescribeSubnets", "subnet-id", subnet)
	if err != nil {
		return out, err
	}
	vpc := subnets.one("subnetSet.item.vpcId")
	tables, err := e.network.look(ctx, here, "DescribeRouteTables", "association.subnet-id", subnet)
	if err == nil && len(tables.items("routeTableSet")) == 0 {
		tables, err = e.network.look(ctx, here, "DescribeRouteTables", "vpc-id", vpc, "association.main", "true")
	}
	if err != nil {
		return out, err
	}
	table := tables.get("routeTableSet").get("item")
	out.Problem = "route table " + table.one("routeTableId") + " has no default route"
	for _, route := range table.items("routeSet") {
		if route.one("destinationCidrBlock") != "0.0.0.0/0" {
			continue
		}
		if e.network.routeState(route) == "blackhole" {
			out.Problem = "the default route of " + table.one("routeTableId") + " is a blackhole"
			continue
		}
		switch {
		case route.one("natGatewayId") != "":
			out.Route = "nat"
			gateway, err := e.network.do(ctx, here, "DescribeNatGateways", "NatGatewayId.1", route.one("natGatewayId"))
			if err != nil && !isRefused(err) {
				return out, err
			}
			out.Addresses = gateway.all("natGatewaySet.item.natGatewayAddressSet.item.publicIp")
		case strings.HasPrefix(route.one("gatewayId"), "igw-"):
			out.Route = "internet"
		default:
			out.Route = "other"
		}
	}
	endpoints, err := e.network.look(ctx, here, "DescribeVpcEndpoints", "vpc-id", vpc)
	if err != nil {
		return out, err
	}
	for _, item := range endpoints.items("vpcEndpointSet") {
		if !e.network.endpointThere(item) || item.one("state") != "available" ||
			item.one("vpcEndpointType") != "Interface" && !slices.Contains(item.all("routeTableIdSet.item"), table.one("routeTableId")) {
			continue
		}
		out.Endpoints[strings.TrimPrefix(item.one("serviceName"), "com.amazonaws."+at.Region+".")] = true
	}
	return out, nil
}

func (e eksCloud) CreateLogGroup(ctx context.Context, at eks.Where, name string) error {
	_, err := e.do(ctx, at.Account, at.Region, want{service: "logs", operation: "CreateLogGroup", target: "Logs_20140328", json: map[string]any{"logGroupName": name}})
	if isRefused(err) && strings.Contains(err.Error(), "ResourceAlreadyExists") {
		return nil
	}
	return err
}

func (e eksCloud) CreateSecurityGroup(ctx context.Context, at eks.Where, vpc, name, description string, tags map[string]string) (string, error) {
	form := []string{"VpcId", vpc, "GroupName", name, "GroupDescription", description, "TagSpecification.1.ResourceType", "security-group"}
	i := 0
	for key, value := range tags {
		i++
		form = append(form, fmt.Sprintf("TagSpecification.1.Tag.%d.Key", i), key, fmt.Sprintf("TagSpecification.1.Tag.%d.Value", i), value)
	}
	here := place{at.Account, at.Region}
	answer, err := e.network.do(ctx, here, "CreateSecurityGroup", form...)
	if err != nil {
		return "", err
	}
	id := answer.one("groupId")
	return id, e.network.letGroupIn(ctx, here, id)
}

func (e eksCloud) DeleteSecurityGroup(ctx context.Context, at eks.Where, id string) error {
	here := place{at.Account, at.Region}
	if _, used, err := e.network.groupUsed(ctx, here, id); used || err != nil {
		return err // what refers to it keeps it
	}
	_, err := e.network.do(ctx, here, "DeleteSecurityGroup", "GroupId", id)
	if isRefused(err) {
		return nil // gone, or somebody needs it
	}
	return err
}

func (e eksCloud) CreateInterface(ctx context.Context, at eks.Where, subnet, description string, groups []string) (string, error) {
	return e.network.makeInterface(ctx, place{at.Account, at.Region}, "interface", subnet, description, groups)
}

func (e eksCloud) DeleteInterface(ctx context.Context, at eks.Where, id string) error {
	return e.network.removeInterface(ctx, place{at.Account, at.Region}, id)
}
