package roles

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/step"
)

// providerStep has IAM know the issuer of a cluster's tokens. The URL of one is
// there once in an account, so one that somebody else made is used as it is, if
// it is for our audience; it is never changed, and never removed.
type providerStep struct {
	iam    IAM
	set    *Set
	issuer string
}

func providerStepName(issuer string) string { return "OIDC provider " + issuer }

func (s *providerStep) Name() string                    { return providerStepName(s.issuer) }
func (s *providerStep) Needs() []string                 { return nil }
func (s *providerStep) Check(ctx context.Context) error { return step.Settled(ctx, s) }

type foundProvider struct {
	*providerStep
	goal    step.Goal
	there   bool
	clients []string
	tags    map[string]string
}

func (s *providerStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found := &foundProvider{providerStep: s, goal: goal}
	out, err := s.iam.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(s.set.providerARN(s.issuer))})
	switch {
	case fault.NoSuchEntity(err):
		return found, nil
	case err != nil:
		return nil, err
	}
	found.there, found.clients, found.tags = true, out.ClientIDList, tagMap(out.Tags)
	return found, nil
}

// Drift implements step.Drifter.
func (s *providerStep) Drift(ctx context.Context) ([]step.Drift, error) {
	looked, err := s.Look(ctx, step.Present)
	if err != nil {
		return nil, err
	}
	switch f := looked.(*foundProvider); {
	case !f.there:
		return []step.Drift{{Resource: s.set.providerARN(s.issuer), Field: "existence", Want: "there", Got: "missing"}}, nil
	case !slices.Contains(f.clients, audience):
		return []step.Drift{{Resource: s.set.providerARN(s.issuer), Field: "audience", Want: audience, Got: strings.Join(f.clients, ", ")}}, nil
	}
	return nil, nil
}

func (f *foundProvider) Plan() step.Change {
	owner := f.set.owner()
	relation := owner.Of(f.tags, component)
	switch {
	case f.goal == step.Absent && !f.there:
		return step.Change{Action: step.None}
	case f.goal == step.Absent && relation != ownership.Ours:
		return step.Change{Action: step.Leave, Details: []string{whose(owner, f.tags, relation)}}
	case f.goal == step.Absent:
		return step.Change{Action: step.Remove, Details: []string{f.set.providerARN(f.issuer)}}
	case !f.there:
		return step.Change{Action: step.Create, Details: []string{"IAM knows the service accounts of https://" + f.issuer, "for audience " + audience}}
	case !slices.Contains(f.clients, audience):
		return step.Change{Action: step.Refuse,
			Details: []string{"it is not for audience " + audience},
			Hint:    "run 'aws iam add-client-id-to-open-id-connect-provider --client-id " + audience + " --open-id-connect-provider-arn " + f.set.providerARN(f.issuer) + "'"}
	case relation != ownership.Ours:
		return step.Change{Action: step.Keep, Details: []string{whose(owner, f.tags, relation) + "; it is used, and never removed"}}
	}
	return step.Change{Action: step.Keep}
}

// Make gives no thumbprint: IAM trusts the certificates of EKS's issuers by their roots.
func (f *foundProvider) Make(ctx context.Context) error {
	_, err := f.iam.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{
		Url:          aws.String("https://" + f.issuer),
		ClientIDList: []string{audience},
		Tags:         tagList(f.set.owner().Tags(component, "oidc-provider")),
	})
	return fault.Passing(err)
}

func (f *foundProvider) Remove(ctx context.Context) error {
	_, err := f.iam.DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(f.set.providerARN(f.issuer))})
	return fault.UnlessGone(err)
}
