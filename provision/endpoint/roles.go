package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

// The two roles of the tasks: by the first, the container service starts them; the
// second is what they are themselves.
const (
	executionRole = "execution"
	taskRole      = "task"

	// executionPolicy is AWS's own, with its path: pull the image, write the log.
	executionPolicy = "service-role/AmazonECSTaskExecutionRolePolicy"
	tasksService    = "ecs-tasks.amazonaws.com"
)

// roleName is a role's name. The two are once in a region, for all its data planes.
func (m *maker) roleName(kind string) string {
	return m.Vendor.EndpointPrefix + m.Place.Region + "-ecs-" + kind + "-role"
}

func (m *maker) roleARN(kind string) string {
	return "arn:" + m.Place.Partition + ":iam::" + m.Place.Account + ":role/" + m.roleName(kind)
}

func (m *maker) roleTitle(kind string) string { return "role " + m.roleName(kind) }

// grantedRole is a role that the customer made: it is looked at, and never changed. Who
// trusts it cannot be proven by taking it on, because it trusts the container service.
func (m *maker) grantedRole(kind string) step.Step { return &grantedRole{m, kind} }

type grantedRole struct {
	*maker
	kind string
}

func (r *grantedRole) Name() string { return r.roleTitle(r.kind) }
func (r *grantedRole) Needs() []string {
	if r.kind == taskRole {
		return []string{r.roleTitle(executionRole)}
	}
	return nil
}
func (r *grantedRole) Describe() step.Description {
	return step.Description{Service: "iam", Cost: "nothing"}
}

func (r *grantedRole) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	if goal == step.Absent {
		return step.Untouched{Action: step.None}, nil
	}
	wrong, err := r.wrong(ctx)
	if err != nil {
		return nil, err
	}
	if wrong == "" {
		return step.Untouched{Action: step.Keep}, nil
	}
	return step.Untouched{Action: step.Refuse, Details: []string{wrong},
		Hint: fmt.Sprintf("the account's owner makes both roles with 'biplane access grant --method iam --external-id %s --region %s --private-endpoint'", r.Spec.Access.ExternalID, r.Place.Region)}, nil
}

// wrong says why the role cannot be used; "" when it can.
func (r *grantedRole) wrong(ctx context.Context) (string, error) {
	name := r.roleName(r.kind)
	if r.kind == executionRole {
		r.know("not granted", "")
	}
	out, err := r.AWS.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	switch {
	case fault.NoSuchEntity(err):
		return "it is not there", nil
	case fault.Denied(err):
		r.know("not granted", "yes")
		return "it may not be looked at: the access was granted without the private endpoint", nil
	case err != nil:
		return "", err
	}
	if !trusts(aws.ToString(out.Role.AssumeRolePolicyDocument), tasksService) {
		return "it does not trust " + tasksService, nil
	}
	if r.kind != executionRole {
		return "", nil
	}
	attached, err := r.AWS.IAM.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	var unlisted *operations.UnlistedCallError
	switch {
	case fault.Denied(err) || errors.As(err, &unlisted):
		return "", nil // the published grants do not let anybody look
	case err != nil:
		return "", err
	}
	if !slices.ContainsFunc(attached.AttachedPolicies, func(p types.AttachedPolicy) bool {
		return strings.HasSuffix(aws.ToString(p.PolicyArn), ":aws:policy/"+executionPolicy)
	}) {
		return "it does not carry AWS's policy " + executionPolicy, nil
	}
	return "", nil
}

// trusts reports whether a trust policy lets a service take a role on.
func trusts(document, service string) bool {
	if plain, err := url.QueryUnescape(document); err == nil {
		document = plain
	}
	var policy struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(document), &policy) != nil {
		return false
	}
	type statement struct {
		Effect            string
		Principal, Action any
	}
	var statements []statement
	if json.Unmarshal(policy.Statement, &statements) != nil {
		var one statement
		if json.Unmarshal(policy.Statement, &one) != nil {
			return false
		}
		statements = []statement{one}
	}
	return slices.ContainsFunc(statements, func(s statement) bool {
		principal, _ := s.Principal.(map[string]any)
		return s.Effect == "Allow" && has(principal["Service"], service) && has(s.Action, "sts:AssumeRole")
	})
}

// has reports whether one word, or a list of them, has a word.
func has(oneOrMany any, word string) bool {
	switch v := oneOrMany.(type) {
	case string:
		return v == word
	case []any:
		return slices.Contains(v, any(word))
	}
	return false
}

func (r *grantedRole) Check(ctx context.Context) error {
	wrong, err := r.wrong(ctx)
	if err == nil && wrong != "" {
		err = fmt.Errorf("%s: %s", r.Name(), wrong)
	}
	return err
}
