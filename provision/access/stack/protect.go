package stack

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
)

// stackPolicy keeps the roles: one that is made anew has another identity to IAM, and the
// vendor would lose access by it. relaxedPolicy is in force only while a change is
// executed that takes a role away which somebody agreed to lose.
const (
	stackPolicy = `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"Update:*","Resource":"*"},` +
		`{"Effect":"Deny","Principal":"*","Action":["Update:Replace","Update:Delete"],"Resource":"*","Condition":{"StringEquals":{"ResourceType":["AWS::IAM::Role"]}}}]}`
	relaxedPolicy = `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"Update:*","Resource":"*"},` +
		`{"Effect":"Deny","Principal":"*","Action":["Update:Replace"],"Resource":"*","Condition":{"StringEquals":{"ResourceType":["AWS::IAM::Role"]}}}]}`
)

// unprotected says which protection a stack lacks.
func (p Place) unprotected(ctx context.Context, stack *Stack) ([]string, error) {
	var lines []string
	out, err := p.CloudFormation.GetStackPolicy(ctx, &cloudformation.GetStackPolicyInput{StackName: &stack.ID})
	if err != nil {
		return nil, err
	}
	if !sameJSON(aws.ToString(out.StackPolicyBody), stackPolicy) {
		lines = append(lines, "set its stack policy: no role is replaced or deleted by a change")
	}
	if !stack.Protected {
		lines = append(lines, "protect it from being deleted by mistake")
	}
	return lines, nil
}

func (f *found) protect(ctx context.Context) error {
	if len(f.bare) == 0 {
		return nil
	}
	if err := f.setPolicy(ctx, f.stack, stackPolicy); err != nil {
		return err
	}
	if f.stack.Protected {
		return nil
	}
	return f.setProtection(ctx, f.stack, true)
}

func (p Place) setPolicy(ctx context.Context, stack *Stack, policy string) error {
	_, err := p.CloudFormation.SetStackPolicy(ctx, &cloudformation.SetStackPolicyInput{StackName: &stack.ID, StackPolicyBody: &policy})
	return err
}

func (p Place) setProtection(ctx context.Context, stack *Stack, on bool) error {
	_, err := p.CloudFormation.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{StackName: &stack.Name, EnableTerminationProtection: &on})
	return err
}
