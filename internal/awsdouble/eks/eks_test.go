package eks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsdouble/typical"
)

// world is an account with a VPC, two private subnets behind NAT, a public one,
// and the roles of a cluster and its nodes. Its time is the test's to move.
type world struct {
	t   *testing.T
	now time.Time
	s   *eks.Service

	vpc        eks.VPC
	subnets    map[string]eks.Subnet
	roles      map[string]*eks.Role
	ways       map[string]eks.WayOut
	logGroups  []string
	interfaces map[string]string // id to subnet
	groups     map[string]bool
	made       int
}

func (w *world) Now() time.Time { return w.now }

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, now: time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC),
		vpc: eks.VPC{ID: "vpc-1", CIDRs: []string{"10.0.0.0/16"}, DNSSupport: true, DNSHostnames: true},
		subnets: map[string]eks.Subnet{
			"subnet-a": {ID: "subnet-a", VPC: "vpc-1", Zone: "us-east-1a", ZoneID: "use1-az1", Free: 100},
			"subnet-b": {ID: "subnet-b", VPC: "vpc-1", Zone: "us-east-1b", ZoneID: "use1-az2", Free: 100},
			"subnet-e": {ID: "subnet-e", VPC: "vpc-1", Zone: "us-east-1e", ZoneID: "use1-az3", Free: 100},
			"subnet-p": {ID: "subnet-p", VPC: "vpc-1", Zone: "us-east-1a", ZoneID: "use1-az1", Free: 10},
		},
		roles: map[string]*eks.Role{
			"cluster": {Trusts: []string{"eks.amazonaws.com"}, Attached: []string{"AmazonEKSClusterPolicy"}},
			"node":    {Trusts: []string{"ec2.amazonaws.com"}, Attached: []string{"AmazonEKSWorkerNodePolicy"}},
			"pod":     {Trusts: []string{"pods.eks.amazonaws.com"}},
			"person":  {},
		},
		ways:       map[string]eks.WayOut{"subnet-a": {Route: "nat"}, "subnet-b": {Route: "nat"}, "subnet-p": {Route: "internet"}},
		interfaces: map[string]string{}, groups: map[string]bool{},
	}
	w.s = eks.New(eks.Options{Clock: w, Cloud: w})
	return w
}

func role(name string) string { return "arn:aws:iam::123456789012:role/" + name }

func (w *world) Subnets(_ context.Context, _ eks.Where, ids []string) ([]eks.Subnet, error) {
	var found []eks.Subnet
	for _, id := range ids {
		if subnet, ok := w.subnets[id]; ok {
			found = append(found, subnet)
		}
	}
	return found, nil
}
func (w *world) VPC(context.Context, eks.Where, string) (*eks.VPC, error) { v := w.vpc; return &v, nil }
func (w *world) Zones(context.Context, eks.Where) (map[string]string, error) {
	return map[string]string{"us-east-1a": "use1-az1", "us-east-1b": "use1-az2", "us-east-1e": "use1-az3"}, nil
}
func (w *world) SecurityGroups(_ context.Context, _ eks.Where, ids []string) (map[string]string, error) {
	return map[string]string{"sg-1": "vpc-1", "sg-2": "vpc-2"}, nil
}
func (w *world) Role(_ context.Context, arn string) (*eks.Role, error) {
	return w.roles[strings.TrimPrefix(arn, role(""))], nil
}
func (w *world) PrincipalExists(_ context.Context, arn string) (bool, error) {
	return w.roles[strings.TrimPrefix(arn, role(""))] != nil, nil
}
func (w *world) Key(_ context.Context, _ eks.Where, arn string) (bool, error) {
	return arn == "arn:aws:kms:us-east-1:123456789012:key/1", nil
}
func (w *world) LaunchTemplate(_ context.Context, _ eks.Where, id, name, version string) (*eks.LaunchTemplate, error) {
	if id != "lt-1" && name != "nodes" {
		return nil, nil
	}
	template := &eks.LaunchTemplate{ID: "lt-1", Name: "nodes", Version: strings.NewReplacer("$Default", "1", "$Latest", "2").Replace(version)}
	switch version {
	case "own":
		template.Image = "ami-1"
	case "typed":
		template.InstanceType = "t3.medium"
	case "profiled":
		template.Refused = "an instance profile"
	}
	return template, nil
}
func (w *world) InstanceTypes(_ context.Context, _ eks.Where, names []string) (map[string][]string, error) {
	return map[string][]string{"t3.medium": {"x86_64"}, "m7i.large": {"x86_64"}, "m7g.large": {"arm64"}}, nil
}
func (w *world) WayOut(_ context.Context, _ eks.Where, subnet string) (eks.WayOut, error) {
	return w.ways[subnet], nil
}
func (w *world) CreateLogGroup(_ context.Context, _ eks.Where, name string) error {
	w.logGroups = append(w.logGroups, name)
	return nil
}
func (w *world) CreateSecurityGroup(context.Context, eks.Where, string, string, string, map[string]string) (string, error) {
	w.made++
	id := fmt.Sprintf("sg-made-%d", w.made)
	w.groups[id] = true
	return id, nil
}
func (w *world) DeleteSecurityGroup(_ context.Context, _ eks.Where, id string) error {
	delete(w.groups, id)
	return nil
}
func (w *world) CreateInterface(_ context.Context, _ eks.Where, subnet, description string, groups []string) (string, error) {
	w.made++
	id := fmt.Sprintf("eni-%d", w.made)
	w.interfaces[id] = subnet
	return id, nil
}
func (w *world) DeleteInterface(_ context.Context, _ eks.Where, id string) error {
	delete(w.interfaces, id)
	return nil
}

type values = map[string]any

var here = eks.Where{Partition: "aws", Account: "123456789012", Region: "us-east-1"}

// try makes a call; fields are those of the input.
func (w *world) try(operation string, input values) (values, error) {
	w.t.Helper()
	text, err := w.s.Serve(w.t.Context(), eks.Call{Operation: operation, Where: here, Principal: role("person"), Input: input})
	if err != nil {
		return nil, err
	}
	var answer values
	if err := json.Unmarshal(text, &answer); err != nil {
		w.t.Fatal(err)
	}
	return answer, nil
}

// call makes a call that must go well.
func (w *world) call(operation string, input values) values {
	w.t.Helper()
	answer, err := w.try(operation, input)
	if err != nil {
		w.t.Fatalf("%s: got %v, want no error", operation, err)
	}
	return answer
}

// refused makes a call that must be refused with a code and words.
func (w *world) refused(code, words, operation string, input values) *eks.Error {
	w.t.Helper()
	_, err := w.try(operation, input)
	refused, ok := errors.AsType[*eks.Error](err)
	if !ok || refused.Code != code || !strings.Contains(refused.Message, words) {
		w.t.Fatalf("%s: got %v, want %s: …%s…", operation, err, code, words)
	}
	return refused
}

// at reads a value by its path.
func at(v values, path string) any {
	var now any = v
	for step := range strings.SplitSeq(path, ".") {
		switch here := now.(type) {
		case values:
			now = here[step]
		case []any:
			index := 0
			fmt.Sscan(step, &index)
			if index >= len(here) {
				return nil
			}
			now = here[index]
		}
	}
	return now
}

func (w *world) want(got any, want any) {
	w.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("got %v, want %v", got, want)
	}
}

func cluster(more values) values {
	input := values{"name": "demo", "roleArn": role("cluster"), "version": "1.34", "resourcesVpcConfig": values{"subnetIds": []string{"subnet-a", "subnet-b"}},
		"accessConfig": values{"authenticationMode": "API_AND_CONFIG_MAP"}}
	for key, value := range more {
		input[key] = value
	}
	return input
}

func group(more values) values {
	input := values{"name": "demo", "nodegroupName": "ng", "nodeRole": role("node"), "subnets": []string{"subnet-a", "subnet-b"},
		"scalingConfig": values{"minSize": 1, "maxSize": 3, "desiredSize": 2}}
	for key, value := range more {
		input[key] = value
	}
	return input
}

var demo = values{"name": "demo"}

// running is a world with an active cluster.
func running(t *testing.T) *world {
	w := newWorld(t)
	w.call("CreateCluster", cluster(nil))
	w.now = w.now.Add(typical.CreateCluster)
	w.want(at(w.call("DescribeCluster", demo), "cluster.status"), "ACTIVE")
	return w
}

func TestClusterLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.call("CreateCluster", cluster(values{"logging": values{"clusterLogging": []values{{"types": []string{"api"}, "enabled": true}}}}))
	w.want(at(made, "cluster.status"), "CREATING")
	w.want(at(made, "cluster.endpoint"), nil)
	w.want(at(made, "cluster.identity"), nil)
	w.want(w.logGroups, "[/aws/eks/demo/cluster]")
	w.want(len(w.interfaces), 2)
	w.refused("ResourceInUseException", "Cluster already exists with name: demo", "CreateCluster", cluster(nil))
	w.refused("InvalidRequestException", "is not in ACTIVE status", "CreateNodegroup", group(nil))
	w.refused("ResourceInUseException", "Cannot delete", "DeleteCluster", demo)

	w.now = w.now.Add(typical.CreateCluster - time.Second)
	w.want(at(w.call("DescribeCluster", demo), "cluster.status"), "CREATING")
	w.now = w.now.Add(time.Second)
	shown := w.call("DescribeCluster", demo)
	w.want(at(shown, "cluster.status"), "ACTIVE")
	issuer := fmt.Sprint(at(shown, "cluster.identity.oidc.issuer"))
	if id, ok := strings.CutPrefix(issuer, "https://oidc.eks.us-east-1.amazonaws.com/id/"); !ok || len(id) != 32 {
		t.Errorf("got issuer %s", issuer)
	}
	w.want(at(shown, "cluster.resourcesVpcConfig.clusterSecurityGroupId"), "sg-made-1")
	w.want(at(shown, "cluster.kubernetesNetworkConfig.serviceIpv4Cidr"), "10.100.0.0/16")

	w.call("DeleteCluster", demo)
	w.want(len(w.interfaces), 2)
	w.now = w.now.Add(typical.DeleteCluster)
	w.refused("ResourceNotFoundException", "No cluster found for name: demo.", "DescribeCluster", demo)
	w.want(len(w.interfaces)+len(w.groups), 0)
}

func TestCreateClusterRefuses(t *testing.T) {
	t.Parallel()
	vpc := func(v values) values { return values{"resourcesVpcConfig": v} }
	for name, one := range map[string]struct {
		more        values
		code, words string
	}{
		"one zone":                     {vpc(values{"subnetIds": []string{"subnet-a", "subnet-p"}}), "InvalidParameterException", "at least two different AZs"},
		"a subnet that is not there":   {vpc(values{"subnetIds": []string{"subnet-a", "subnet-x"}}), "InvalidParameterException", "subnet-x' does not exist"},
		"a group of another VPC":       {vpc(values{"subnetIds": []string{"subnet-a", "subnet-b"}, "securityGroupIds": []string{"sg-2"}}), "InvalidParameterException", "not in the VPC"},
		"an address for nobody":        {vpc(values{"subnetIds": []string{"subnet-a", "subnet-b"}, "endpointPublicAccess": false}), "InvalidParameterException", "cannot be false"},
		"a version of tomorrow":        {values{"version": "1.99"}, "InvalidParameterException", "unsupported Kubernetes version"},
		"a role that is not there yet": {values{"roleArn": role("new")}, "InvalidParameterException", "could not be assumed because it does not exist"},
		"a role for others":            {values{"roleArn": role("node")}, "InvalidParameterException", "trusted entity is not correct"},
		"a key that is not there":      {values{"encryptionConfig": []values{{"resources": []string{"secrets"}, "provider": values{"keyArn": "arn:aws:kms:us-east-1:123456789012:key/2"}}}}, "InvalidParameterException", "keyArn"},
		"services in the VPC":          {values{"kubernetesNetworkConfig": values{"serviceIpv4Cidr": "10.0.0.0/20"}}, "InvalidParameterException", "overlaps"},
		"services in public":           {values{"kubernetesNetworkConfig": values{"serviceIpv4Cidr": "8.8.0.0/16"}}, "InvalidParameterException", "within 10.0.0.0/8"},
		"a name with a slash":          {values{"name": "a/b"}, "InvalidParameterException", "letters, digits"},
		"a number for a name":          {values{"name": 7}, "SerializationException", "another type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.refused(one.code, one.words, "CreateCluster", cluster(one.more))
			w.want(len(w.interfaces)+len(w.groups), 0)
		})
	}
	t.Run("a zone that has no control planes", func(t *testing.T) {
		w := newWorld(t)
		refused := w.refused("UnsupportedAvailabilityZoneException", "us-east-1e", "CreateCluster", cluster(vpc(values{"subnetIds": []string{"subnet-a", "subnet-e"}})))
		w.want(refused.Fields["validZones"], "[us-east-1a us-east-1b]")
	})
}

func TestClientRequestToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.call("CreateCluster", cluster(values{"clientRequestToken": "1"}))
	again := w.call("CreateCluster", cluster(values{"clientRequestToken": "1"}))
	w.want(at(again, "cluster.createdAt"), at(first, "cluster.createdAt"))
	w.want(len(w.interfaces), 2)
	w.refused("InvalidParameterException", "other parameters", "CreateCluster", cluster(values{"clientRequestToken": "1", "version": "1.33"}))
	w.now = w.now.Add(typical.CreateCluster)
	up := values{"name": "demo", "version": "1.35", "clientRequestToken": "u"}
	w.want(at(w.call("UpdateClusterVersion", up), "update.id"), at(w.call("UpdateClusterVersion", up), "update.id"))
}

func TestUpdates(t *testing.T) {
	t.Parallel()
	w := running(t)
	version := func(v string) values { return values{"name": "demo", "version": v} }
	w.refused("InvalidParameterException", "unsupported Kubernetes version update from 1.34 to 1.33", "UpdateClusterVersion", version("1.33"))
	w.refused("InvalidParameterException", "already at the desired version", "UpdateClusterVersion", version("1.34"))
	w.refused("InvalidParameterException", "unsupported", "UpdateClusterVersion", version("1.36"))
	private := values{"name": "demo", "resourcesVpcConfig": values{"endpointPrivateAccess": true, "endpointPublicAccess": false}}
	update := w.call("UpdateClusterConfig", private)
	w.want(at(update, "update.type"), "EndpointAccessUpdate")
	w.want(at(w.call("DescribeCluster", demo), "cluster.status"), "UPDATING")
	w.refused("ResourceInUseException", "has update "+fmt.Sprint(at(update, "update.id"))+" in progress", "UpdateClusterVersion", version("1.35"))
	w.now = w.now.Add(typical.UpdateClusterConfig)
	w.want(at(w.call("DescribeUpdate", values{"name": "demo", "updateId": at(update, "update.id")}), "update.status"), "Successful")
	w.want(at(w.call("DescribeCluster", demo), "cluster.resourcesVpcConfig.endpointPrivateAccess"), true)
	w.refused("InvalidParameterException", "already at the desired configuration", "UpdateClusterConfig", private)
	w.refused("InvalidParameterException", "Only one type of update", "UpdateClusterConfig", values{"name": "demo", "upgradePolicy": values{"supportType": "STANDARD"}, "deletionProtection": true})
	w.refused("InvalidParameterException", "Unsupported authentication mode update", "UpdateClusterConfig", values{"name": "demo", "accessConfig": values{"authenticationMode": "CONFIG_MAP"}})

	before := fmt.Sprint(w.interfaces)
	w.call("UpdateClusterVersion", version("1.35"))
	w.now = w.now.Add(typical.UpdateClusterVersion)
	w.want(at(w.call("DescribeCluster", demo), "cluster.version"), "1.35")
	if after := fmt.Sprint(w.interfaces); after == before || len(w.interfaces) != 2 {
		t.Errorf("got interfaces %s after the update, want two others than %s", after, before)
	}
	w.call("AssociateEncryptionConfig", values{"name": "demo", "encryptionConfig": []values{{"resources": []string{"secrets"}, "provider": values{"keyArn": "arn:aws:kms:us-east-1:123456789012:key/1"}}}})
	w.now = w.now.Add(typical.AssociateEncryption)
	w.want(at(w.call("DescribeCluster", demo), "cluster.encryptionConfig.0.resources"), "[secrets]")
	w.want(len(w.call("ListUpdates", demo)["updateIds"].([]any)), 3)
}

func TestNodegroup(t *testing.T) {
	t.Parallel()
	ng := values{"name": "demo", "nodegroupName": "ng"}
	t.Run("joins, changes, is renewed and goes", func(t *testing.T) {
		t.Parallel()
		w := running(t)
		made := w.call("CreateNodegroup", group(values{"launchTemplate": values{"id": "lt-1"}}))
		w.want(at(made, "nodegroup.launchTemplate.version"), "1")
		w.refused("ResourceInUseException", "Cluster has nodegroups attached", "DeleteCluster", demo)
		w.now = w.now.Add(typical.CreateNodegroup)
		w.want(at(w.call("DescribeNodegroup", ng), "nodegroup.status"), "ACTIVE")
		w.want(at(w.call("DescribeAccessEntry", values{"name": "demo", "principalArn": role("node")}), "accessEntry.type"), "EC2_LINUX")

		w.call("UpdateNodegroupConfig", values{"name": "demo", "nodegroupName": "ng", "scalingConfig": values{"minSize": 2, "maxSize": 4, "desiredSize": 3}, "labels": values{"addOrUpdateLabels": values{"a": "b"}}})
		w.refused("ResourceInUseException", "cannot be updated", "UpdateNodegroupConfig", values{"name": "demo", "nodegroupName": "ng", "updateConfig": values{"maxUnavailable": 2}})
		w.now = w.now.Add(typical.UpdateNodegroupConfig)
		shown := w.call("DescribeNodegroup", ng)
		w.want(at(shown, "nodegroup.scalingConfig.desiredSize"), 3)
		w.want(at(shown, "nodegroup.labels.a"), "b")

		w.refused("InvalidParameterException", "cannot go from 1.34 to 1.35", "UpdateNodegroupVersion", values{"name": "demo", "nodegroupName": "ng", "version": "1.35"})
		update := w.call("UpdateNodegroupVersion", values{"name": "demo", "nodegroupName": "ng", "launchTemplate": values{"id": "lt-1", "version": "$Latest"}})
		w.now = w.now.Add(typical.UpdateNodegroupVersion)
		w.want(at(w.call("DescribeUpdate", values{"name": "demo", "nodegroupName": "ng", "updateId": at(update, "update.id")}), "update.status"), "Successful")
		w.want(at(w.call("DescribeNodegroup", ng), "nodegroup.launchTemplate.version"), "2")
		w.call("DeleteNodegroup", ng)
		w.now = w.now.Add(typical.DeleteNodegroup)
		w.refused("ResourceNotFoundException", "No node group found for name: ng.", "DescribeNodegroup", ng)
	})
	nat := eks.WayOut{Route: "nat", Addresses: []string{"198.51.100.7"}}
	for name, one := range map[string]struct {
		cluster     values
		change      func(*world)
		more        values
		code, words string
	}{
		"without a route":             {nil, func(w *world) { w.ways["subnet-b"] = eks.WayOut{} }, nil, "NodeCreationFailure", "failed to join"},
		"without names":               {nil, func(w *world) { w.vpc.DNSSupport = false }, nil, "NodeCreationFailure", "failed to join"},
		"without the policy of nodes": {nil, func(w *world) { w.roles["node"].Attached = nil }, nil, "NodeCreationFailure", "failed to join"},
		"with another name server": {values{"resourcesVpcConfig": values{"subnetIds": []string{"subnet-a", "subnet-b"}, "endpointPrivateAccess": true}},
			func(w *world) { w.vpc.NameServers = []string{"10.0.0.2"} }, nil, "NodeCreationFailure", "failed to join"},
		"whose entry has gone": {values{"accessConfig": values{"authenticationMode": "API"}},
			func(w *world) { w.call("DeleteAccessEntry", values{"name": "demo", "principalArn": role("node")}) }, nil, "NodeCreationFailure", "failed to join"},
		"whom the endpoint does not let in": {values{"resourcesVpcConfig": values{"subnetIds": []string{"subnet-a", "subnet-b"}, "publicAccessCidrs": []string{"203.0.113.0/24"}}},
			func(w *world) { w.ways["subnet-a"], w.ways["subnet-b"] = nat, nat }, nil, "NodeCreationFailure", "failed to join"},
		"whose role has gone":                {nil, func(w *world) { delete(w.roles, "node") }, nil, "IamNodeRoleNotFound", "does not exist"},
		"whose subnet has gone":              {nil, func(w *world) { delete(w.subnets, "subnet-b") }, nil, "Ec2SubnetNotFound", "do not exist"},
		"in a public subnet without address": {nil, func(*world) {}, values{"subnets": []string{"subnet-p"}}, "Ec2SubnetInvalidConfiguration", "auto-assign public IP"},
		"in a full subnet":                   {nil, func(*world) {}, values{"subnets": []string{"subnet-p"}, "scalingConfig": values{"minSize": 1, "maxSize": 20, "desiredSize": 20}}, "InsufficientFreeAddresses", "subnet-p"},
	} {
		t.Run("fails "+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.call("CreateCluster", cluster(one.cluster))
			w.now = w.now.Add(typical.CreateCluster)
			w.want(at(w.call("CreateNodegroup", group(one.more)), "nodegroup.status"), "CREATING")
			one.change(w)
			w.now = w.now.Add(typical.CreateNodegroup)
			w.call("DescribeNodegroup", ng)
			w.now = w.now.Add(typical.FailNodegroup)
			shown := w.call("DescribeNodegroup", ng)
			w.want(at(shown, "nodegroup.status"), "CREATE_FAILED")
			w.want(at(shown, "nodegroup.health.issues.0.code"), one.code)
			if message := fmt.Sprint(at(shown, "nodegroup.health.issues.0.message")); !strings.Contains(message, one.words) {
				t.Errorf("got %s, want …%s…", message, one.words)
			}
		})
	}
	t.Run("joins by endpoints alone where the cluster has a private address", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.call("CreateCluster", cluster(values{"resourcesVpcConfig": values{"subnetIds": []string{"subnet-a", "subnet-b"}, "endpointPrivateAccess": true}}))
		w.now = w.now.Add(typical.CreateCluster)
		endpoints := map[string]bool{}
		for _, service := range []string{"ec2", "ecr.api", "ecr.dkr", "s3", "sts"} {
			endpoints[service] = true
		}
		w.ways = map[string]eks.WayOut{"subnet-a": {Endpoints: endpoints}, "subnet-b": {Endpoints: endpoints}}
		w.call("CreateNodegroup", group(nil))
		w.now = w.now.Add(typical.CreateNodegroup)
		w.want(at(w.call("DescribeNodegroup", ng), "nodegroup.status"), "ACTIVE")
	})
	t.Run("is refused", func(t *testing.T) {
		t.Parallel()
		w := running(t)
		w.refused("InvalidParameterException", "required service principals [ec2.amazonaws.com]", "CreateNodegroup", group(values{"nodeRole": role("cluster")}))
		w.refused("InvalidParameterException", "not compatible with the version 1.34", "CreateNodegroup", group(values{"version": "1.35"}))
		w.refused("InvalidParameterException", "Minimum capacity", "CreateNodegroup", group(values{"scalingConfig": values{"minSize": 3, "maxSize": 2, "desiredSize": 3}}))
		w.refused("InvalidParameterException", "taint", "CreateNodegroup", group(values{"taints": []values{{"key": "a", "effect": "NoSchedule"}}}))
		w.refused("InvalidRequestException", "Launch template lt-2", "CreateNodegroup", group(values{"launchTemplate": values{"id": "lt-2"}}))
	})
}

func TestAddons(t *testing.T) {
	t.Parallel()
	w := running(t)
	named := func(name string, more values) values {
		input := values{"name": "demo", "addonName": name}
		for key, value := range more {
			input[key] = value
		}
		return input
	}
	w.want(at(w.call("CreateAddon", named("coredns", nil)), "addon.addonVersion"), "v1.12.4-eksbuild.1")
	w.call("CreateAddon", named("kube-proxy", values{"addonVersion": "v1.32.11-eksbuild.2"}))
	w.refused("ResourceInUseException", "already exists", "CreateAddon", named("coredns", nil))
	w.refused("InvalidParameterException", "not supported", "CreateAddon", named("vpc-cni", values{"addonVersion": "v9"}))
	w.refused("InvalidParameterException", "not supported", "CreateAddon", named("mine", nil))
	w.now = w.now.Add(typical.CreateAddon)
	w.want(at(w.call("DescribeAddon", named("kube-proxy", nil)), "addon.status"), "ACTIVE")
	shown := w.call("DescribeAddon", named("coredns", nil))
	w.want(at(shown, "addon.status"), "DEGRADED")
	w.want(at(shown, "addon.health.issues.0.code"), "InsufficientNumberOfReplicas")
	w.call("CreateNodegroup", group(nil))
	w.now = w.now.Add(typical.CreateNodegroup)
	w.want(at(w.call("DescribeAddon", named("coredns", nil)), "addon.status"), "ACTIVE")

	w.call("UpdateClusterVersion", values{"name": "demo", "version": "1.35"})
	w.now = w.now.Add(typical.UpdateClusterVersion)
	update := w.call("UpdateAddon", named("coredns", values{"addonVersion": "v1.13.1-eksbuild.1", "resolveConflicts": "PRESERVE"}))
	w.refused("ResourceInUseException", "UPDATING", "UpdateAddon", named("coredns", nil))
	w.now = w.now.Add(typical.UpdateAddon)
	w.want(at(w.call("DescribeUpdate", named("coredns", values{"updateId": at(update, "update.id")})), "update.status"), "Successful")
	w.want(at(w.call("DescribeAddon", named("coredns", nil)), "addon.addonVersion"), "v1.13.1-eksbuild.1")
	w.call("DeleteAddon", named("coredns", nil))
	w.now = w.now.Add(typical.DeleteAddon)
	w.refused("ResourceNotFoundException", "No addon: coredns found in cluster: demo", "DescribeAddon", named("coredns", nil))
}

func TestInsights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("CreateCluster", cluster(values{"version": "1.33"}))
	w.now = w.now.Add(typical.CreateCluster)
	w.call("CreateAddon", values{"name": "demo", "addonName": "coredns", "addonVersion": "v1.11.4-eksbuild.24"})
	w.now = w.now.Add(typical.CreateAddon)
	filter := values{"name": "demo", "filter": values{"statuses": []string{"ERROR"}, "categories": []string{"UPGRADE_READINESS"}}}
	found := w.call("ListInsights", filter)
	w.want(at(found, "insights.0.name"), "EKS add-on version compatibility")
	detail := w.call("DescribeInsight", values{"name": "demo", "id": at(found, "insights.0.id")})
	w.want(at(detail, "insight.categorySpecificSummary.addonCompatibilityDetails.0.compatibleVersions"), "[v1.13.1-eksbuild.1 v1.12.4-eksbuild.1 v1.12.1-eksbuild.2]")
	w.refused("InvalidStateException", "ListInsights", "UpdateClusterVersion", values{"name": "demo", "version": "1.34"})
	w.call("UpdateAddon", values{"name": "demo", "addonName": "coredns", "addonVersion": "v1.12.4-eksbuild.1"})
	w.now = w.now.Add(typical.UpdateAddon)
	w.want(len(w.call("ListInsights", filter)["insights"].([]any)), 0)
	w.want(len(w.call("ListInsights", demo)["insights"].([]any)), 4)
	w.call("UpdateClusterVersion", values{"name": "demo", "version": "1.34"})
}

func TestAccess(t *testing.T) {
	t.Parallel()
	w := running(t)
	entry := func(name string, more values) values {
		input := values{"name": "demo", "principalArn": role(name)}
		for key, value := range more {
			input[key] = value
		}
		return input
	}
	const admin = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
	w.want(at(w.call("ListAccessEntries", values{"name": "demo", "associatedPolicyArn": admin}), "accessEntries.0"), role("person")) // who made the cluster
	w.refused("InvalidParameterException", "invalid principal", "CreateAccessEntry", entry("new", nil))
	w.refused("InvalidParameterException", "cannot start with system:", "CreateAccessEntry", entry("pod", values{"kubernetesGroups": []string{"system:masters"}}))
	w.refused("InvalidRequestException", "EC2_LINUX", "CreateAccessEntry", entry("node", values{"type": "EC2_LINUX", "kubernetesGroups": []string{"x"}}))
	made := w.call("CreateAccessEntry", entry("pod", values{"kubernetesGroups": []string{"readers"}}))
	w.want(at(made, "accessEntry.username"), "arn:aws:sts::123456789012:assumed-role/pod/{{SessionName}}")
	w.refused("ResourceInUseException", "already in use", "CreateAccessEntry", entry("pod", nil))
	w.call("UpdateAccessEntry", entry("pod", values{"kubernetesGroups": []string{"writers"}}))
	w.want(at(w.call("DescribeAccessEntry", entry("pod", nil)), "accessEntry.kubernetesGroups"), "[writers]")
	w.refused("ResourceNotFoundException", "policyArn", "AssociateAccessPolicy", entry("pod", values{"policyArn": "arn:aws:eks::aws:cluster-access-policy/Mine", "accessScope": values{"type": "cluster"}}))
	w.refused("InvalidParameterException", "accessScope", "AssociateAccessPolicy", entry("pod", values{"policyArn": admin, "accessScope": values{"type": "namespace"}}))
	w.call("AssociateAccessPolicy", entry("pod", values{"policyArn": admin, "accessScope": values{"type": "namespace", "namespaces": []string{"union"}}}))
	w.want(at(w.call("ListAssociatedAccessPolicies", entry("pod", nil)), "associatedAccessPolicies.0.accessScope.namespaces"), "[union]")
	w.call("DisassociateAccessPolicy", entry("pod", values{"policyArn": admin}))
	w.call("DeleteAccessEntry", entry("pod", nil))
	w.refused("ResourceNotFoundException", "principalArn", "DescribeAccessEntry", entry("pod", nil))

	t.Run("without the API", func(t *testing.T) {
		w := newWorld(t)
		w.call("CreateCluster", cluster(values{"accessConfig": values{}}))
		w.now = w.now.Add(typical.CreateCluster)
		w.refused("InvalidRequestException", "authentication mode must be set", "CreateAccessEntry", entry("pod", nil))
	})
}

func TestPodIdentityAndTags(t *testing.T) {
	t.Parallel()
	w := running(t)
	pair := values{"name": "demo", "namespace": "union", "serviceAccount": "proxy", "roleArn": role("pod"), "tags": values{"a": "b"}}
	made := w.call("CreatePodIdentityAssociation", pair)
	w.refused("ResourceInUseException", "already exists", "CreatePodIdentityAssociation", pair)
	w.refused("InvalidParameterException", "pods.eks.amazonaws.com", "CreatePodIdentityAssociation", values{"name": "demo", "namespace": "union", "serviceAccount": "x", "roleArn": role("node")})
	arn := at(made, "association.associationArn")
	w.call("TagResource", values{"resourceArn": arn, "tags": values{"c": "d"}})
	w.call("UntagResource", values{"resourceArn": arn, "tagKeys": "a"})
	w.want(at(w.call("ListTagsForResource", values{"resourceArn": arn}), "tags"), "map[c:d]")
	w.want(w.s.Tags(here, fmt.Sprint(arn)), "map[c:d]")
	w.refused("NotFoundException", "not found", "ListTagsForResource", values{"resourceArn": "arn:aws:eks:us-east-1:123456789012:cluster/other"})
	w.call("DeletePodIdentityAssociation", values{"name": "demo", "associationId": at(made, "association.associationId")})
	w.want(len(w.call("ListPodIdentityAssociations", demo)["associations"].([]any)), 0)
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.call("CreateCluster", cluster(values{"name": fmt.Sprintf("c%d", i)}))
	}
	var all []any
	input := values{"maxResults": "2"}
	for pages := 0; ; pages++ {
		answer := w.call("ListClusters", input)
		all = append(all, answer["clusters"].([]any)...)
		if answer["nextToken"] == nil {
			w.want(pages, 2)
			break
		}
		input["nextToken"] = answer["nextToken"]
	}
	w.want(all, "[c0 c1 c2 c3 c4]")
	w.refused("InvalidParameterException", "between 1 and 100", "ListClusters", values{"maxResults": "101"})
	w.refused("InvalidParameterException", "nextToken", "ListClusters", values{"nextToken": "x"})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.s.Serve(t.Context(), eks.Call{Operation: "CreateCluster", Where: here, Principal: role("person"), Input: cluster(nil), Fail: true}); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(typical.CreateCluster)
	shown := w.call("DescribeCluster", demo)
	w.want(at(shown, "cluster.status"), "FAILED")
	w.want(at(shown, "cluster.health.issues.0.code"), "InternalFailure")
	w.call("DeleteCluster", demo)
}

func TestVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var versions []string
	for _, one := range w.call("DescribeClusterVersions", values{"versionStatus": "STANDARD_SUPPORT"})["clusterVersions"].([]any) {
		versions = append(versions, fmt.Sprint(one.(values)["clusterVersion"]))
	}
	if !slices.Equal(versions, []string{"1.35", "1.34", "1.33"}) {
		t.Errorf("got %v", versions)
	}
	answer := w.call("DescribeAddonVersions", values{"addonName": "coredns", "kubernetesVersion": "1.35"})
	w.want(at(answer, "addons.0.addonVersions.0.compatibilities.0.defaultVersion"), true)
	w.want(at(w.call("DescribeAddonConfiguration", values{"addonName": "coredns", "addonVersion": "v1.13.1-eksbuild.1"}), "addonVersion"), "v1.13.1-eksbuild.1")
	w.refused("ResourceNotFoundException", "not found", "DescribeAddonVersions", values{"addonName": "mine"})
}
