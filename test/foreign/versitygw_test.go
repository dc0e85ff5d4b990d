package foreign

import (
	"github.com/versity/versitygw/iamapi/policy"
	"github.com/versity/versitygw/iamapi/types"

	"biplane.dev/biplane/provision/iampolicy"
)

func versitygw() *evaluator {
	return &evaluator{
		name: "versitygw",
		compile: func(text []byte) (func(*iampolicy.Request) iampolicy.Decision, error) {
			if err := policy.Parse(string(text)); err != nil {
				return nil, err
			}
			documents := []types.PolicyEntry{{PolicyName: "generated", PolicyDocument: string(text)}}
			return func(r *iampolicy.Request) iampolicy.Decision {
				switch policy.EvaluateIdentityPolicies(documents, versitygwContext(r)) {
				case policy.DecisionAllow:
					return iampolicy.Allowed
				case policy.DecisionDeny:
					return iampolicy.ExplicitDeny
				}
				return iampolicy.ImplicitDeny
			}, nil
		},
		tellsDenials: true,
		differences:  versitygwDifferences,
	}
}

func versitygwContext(r *iampolicy.Request) policy.RequestContext {
	return policy.RequestContext{Action: r.Action, Resource: r.Resource, Condition: r.Context}
}

var versitygwDifferences = []difference{
	{
		"* of the request", "a * of the pattern that meets a * of the request is taken for the character only",
		func(e element, r *iampolicy.Request) bool {
			return anyContains(e.texts(), "*") && anyContains(e.compared(r), "*")
		},
	},
	{
		"* crosses fields", "an ARN is matched as a whole, so that * and ? cross its colons",
		func(e element, r *iampolicy.Request) bool {
			// Behind a prefix both are one field, as they are to versitygw.
			const field = "arn:aws:s3:::"
			whole := iampolicy.MatchARN(field+e.resource, field+r.Resource)
			return e.resource != "" && whole != iampolicy.MatchARN(e.resource, r.Resource)
		},
	},
	{
		"variables", "a variable without a value stays as text, a value's wildcards count, and there are no defaults and escapes",
		func(e element, r *iampolicy.Request) bool { return e.hasVariables() },
	},
	bytesForCharacters, keyWithoutValues, nullDataSet, dateForms,
	{
		"absent and ForAnyValue", "IAM's ForAnyValue is false for an absent key; theirs is true when negated",
		func(e element, r *iampolicy.Request) bool {
			set, _, _ := e.operator()
			_, present := e.values(r)
			return set == "ForAnyValue" && e.isNegated() && !present
		},
	},
}
