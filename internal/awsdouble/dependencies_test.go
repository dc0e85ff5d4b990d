package awsdouble

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// A cluster's security group goes with the cluster, unless a rule names it.
func TestGroupOfAClusterThatARuleNames(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	for _, name := range []string{"one", "two"} {
		if answer, status := a.eks(http.MethodPost, "/clusters", clusterRequest(t, a.d, name, "cluster-"+name)); status != 200 {
			t.Fatalf("got %d %v", status, answer)
		}
	}
	a.clock.pass(typical.CreateCluster)
	group := func(name string) string {
		answer, _ := a.eks(http.MethodGet, "/clusters/"+name, "")
		return fmt.Sprint(answer["cluster"].(map[string]any)["resourcesVpcConfig"].(map[string]any)["clusterSecurityGroupId"])
	}
	one, two := group("one"), group("two")
	vpc := between(t, a.ec2("", "DescribeSecurityGroups", "GroupId.1", one), "<vpcId>", "</vpcId>")
	other := a.ec2("groupId", "CreateSecurityGroup", "VpcId", vpc, "GroupName", "other", "GroupDescription", "x")
	rule := []string{"GroupId", other, "IpPermissions.1.IpProtocol", "tcp", "IpPermissions.1.FromPort", "443", "IpPermissions.1.ToPort", "443", "IpPermissions.1.UserIdGroupPairs.1.GroupId", one, "IpPermissions.1.Groups.1.GroupId", one}
	a.ec2("", "AuthorizeSecurityGroupIngress", rule...)
	for _, name := range []string{"one", "two"} {
		if answer, status := a.eks(http.MethodDelete, "/clusters/"+name, ""); status != 200 {
			t.Fatalf("got %d %v", status, answer)
		}
	}
	a.clock.pass(typical.DeleteCluster)
	left := a.ec2("", "DescribeSecurityGroups")
	if !strings.Contains(left, one) || strings.Contains(left, two) {
		t.Errorf("got groups %s, want %s, which a rule names, and not %s", left, one, two)
	}
	a.refused("DependencyViolation", "DeleteSecurityGroup", "GroupId", one)
	a.ec2("", "DeleteSecurityGroup", "GroupId", other)
	a.ec2("", "DeleteSecurityGroup", "GroupId", one)
}
