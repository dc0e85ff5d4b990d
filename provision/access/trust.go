package access

import (
	"encoding/json"
	"strings"
)

// rootARN is the vendor's account as a principal: whoever that account lets.
func (t *target) rootARN() string {
	return "arn:" + t.region.Partition + ":iam::" + t.vendorAccount + ":root"
}

// controlPlaneARN is the one role of the vendor's account that may come in.
func (t *target) controlPlaneARN() string {
	return "arn:" + t.region.Partition + ":iam::" + t.vendorAccount + ":role/" + strings.TrimPrefix(t.Vendor.ControlPlaneRole, "/")
}

// externalIDs are the values that the trust takes: the one, and during a rotation the
// previous one before it. The order tells the two apart.
func (t *target) externalIDs() []string {
	if t.ExternalID == "" {
		return []string{PlaceholderExternalID}
	}
	if t.PreviousExternalID != "" && t.PreviousExternalID != t.ExternalID {
		return []string{t.PreviousExternalID, t.ExternalID}
	}
	return []string{t.ExternalID}
}

// trustSeed lets the whole vendor account in, and asks for nothing. It is what
// the published manual way makes, and a confused deputy: any customer of the
// vendor who knows the role's ARN can have the vendor act on it.
func (t *target) trustSeed() Trust {
	return newTrust(statement{Effect: "Allow", Principal: map[string]any{"AWS": t.rootARN()}, Action: []string{"sts:AssumeRole"}})
}

// trustCompat is the published trust with the external ID added.
func (t *target) trustCompat() Trust {
	return newTrust(statement{
		Effect: "Allow", Principal: map[string]any{"AWS": t.rootARN()}, Action: []string{"sts:AssumeRole"},
		Condition: conditions{"StringEquals": {"sts:ExternalId": t.externalIDs()}},
	})
}

// trustStrict lets one role of the vendor's account in, and only with the
// external ID. The principal is the account's root with a condition on the
// caller, not the role itself: IAM keeps a role principal as an internal id,
// so a role that the vendor makes anew would be shut out without a word.
func (t *target) trustStrict() Trust {
	return newTrust(statement{
		Effect: "Allow", Principal: map[string]any{"AWS": t.rootARN()}, Action: []string{"sts:AssumeRole"},
		Condition: conditions{
			"StringEquals": {"sts:ExternalId": t.externalIDs()},
			"ArnEquals":    {"aws:PrincipalArn": {t.controlPlaneARN()}},
		},
	})
}

// trustNobody is the trust of a role that is switched off: a Deny, because no
// Allow alone would leave the door to whoever adds a statement.
func (t *target) trustNobody() Trust {
	return newTrust(statement{Effect: "Deny", Principal: map[string]any{"AWS": "*"}, Action: []string{"sts:AssumeRole"}})
}

// trustECS lets the container service hand the role to a task. sourceAccount
// refuses tasks of other accounts, which the published trust does not.
func (t *target) trustECS(sourceAccount bool) Trust {
	s := statement{Effect: "Allow", Principal: map[string]any{"Service": "ecs-tasks.amazonaws.com"}, Action: []string{"sts:AssumeRole"}}
	if sourceAccount {
		s.Condition = conditions{"StringEquals": {"aws:SourceAccount": {t.Account}}}
	}
	return newTrust(s)
}

func newTrust(statements ...statement) Trust {
	text := document(statements)
	return Trust{Size: size(text), Document: json.RawMessage(text)}
}
