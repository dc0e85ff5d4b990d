package awsdouble

import (
	"net/http"

	"biplane.dev/biplane/internal/awsidentity"
)

// The customer's account may be a member of an organization: then its service control
// policies bound whoever is in it (internal/awsidentity), and Organizations tells of
// itself what it tells a member, or the delegated administrator of its policies. The
// management account, and the one level above, are not in the double.

const (
	managementAccount = "444455556666"
	organizationID    = "o-doubledoubl"
	organizationRoot  = "r-dbl1"
)

// organizations performs a decided call of Organizations.
func (d *Double) organizations(c *call) (*http.Response, error) {
	policies := d.identity.SCP(c.Account)
	if len(policies) == 0 {
		return nil, &refusal{"AWSOrganizationsNotInUseException", "Your account is not a member of an organization.", http.StatusBadRequest}
	}
	arn := func(rest string) string {
		return "arn:" + c.Partition + ":organizations::" + managementAccount + ":" + rest
	}
	if c.Operation == "DescribeOrganization" { // which every member may
		return inJSON(map[string]any{"Organization": map[string]any{
			"Id": organizationID, "Arn": arn("organization/" + organizationID), "FeatureSet": "ALL", "MasterAccountId": managementAccount,
			"MasterAccountArn": arn("account/" + organizationID + "/" + managementAccount), "MasterAccountEmail": "management@example.com",
		}}), nil
	}
	if !d.scpReadable {
		return nil, &refusal{codeDenied, "You don't have permissions to access this resource.", http.StatusBadRequest}
	}
	summary := func(p awsidentity.PolicyText) map[string]any {
		id := "p-" + p.Name
		return map[string]any{"Id": id, "Arn": arn("policy/" + organizationID + "/service_control_policy/" + id), "Name": p.Name, "Type": "SERVICE_CONTROL_POLICY", "AwsManaged": p.Name == "FullAWSAccess"}
	}
	switch c.Operation {
	case "ListParents":
		parents := []any{}
		switch c.params.one("ChildId") {
		case c.Account:
			parents = append(parents, map[string]any{"Id": organizationRoot, "Type": "ROOT"})
		default:
			return nil, &refusal{"ChildNotFoundException", "You specified a child that doesn't exist.", http.StatusBadRequest}
		}
		return inJSON(map[string]any{"Parents": parents}), nil
	case "ListPoliciesForTarget":
		attached := []any{}
		for _, p := range policies { // alike on both levels, as a root's policies would be on an account that has none of its own
			attached = append(attached, summary(p))
		}
		if target := c.params.one("TargetId"); target != c.Account && target != organizationRoot {
			return nil, &refusal{"TargetNotFoundException", "We can't find a root, OU, or account with the TargetId that you specified.", http.StatusBadRequest}
		}
		return inJSON(map[string]any{"Policies": attached}), nil
	case "DescribePolicy":
		for _, p := range policies {
			if c.params.one("PolicyId") == "p-"+p.Name {
				return inJSON(map[string]any{"Policy": map[string]any{"PolicySummary": summary(p), "Content": p.Text}}), nil
			}
		}
		return nil, &refusal{"PolicyNotFoundException", "We can't find a policy with the PolicyId that you specified.", http.StatusBadRequest}
	}
	return nil, &refusal{codeNotThere, "Of Organizations the AWS double has what a member reads of its policies.", http.StatusNotImplemented}
}
