package cloudformation

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxPolicy bounds a stack policy (API Reference, SetStackPolicy).
const maxPolicy = 16_384

// statement is one of a stack policy, which looks like IAM's and is not (User Guide,
// Prevent updates to stack resources).
type statement struct {
	Effect, Principal     string
	Action, NotAction     words
	Resource, NotResource words
	Condition             map[string]map[string]words
}

// words are a text, or several.
type words []string

func (t *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// statements reads a stack policy; "" has none.
func statements(text string) ([]statement, error) {
	if text == "" {
		return nil, nil
	}
	var policy struct{ Statement json.RawMessage }
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		return nil, err
	}
	var all []statement
	if json.Unmarshal(policy.Statement, &all) == nil {
		return all, nil
	}
	var one statement
	err := json.Unmarshal(policy.Statement, &one)
	return []statement{one}, err
}

func checkPolicy(text string) error {
	if len(text) > maxPolicy {
		return invalid("1 validation error detected: Value at 'stackPolicyBody' failed to satisfy constraint: Member must have length less than or equal to %d", maxPolicy)
	}
	all, err := statements(text)
	if err != nil {
		return invalid("Error validating stack policy: Invalid stack policy")
	}
	for _, s := range all {
		switch {
		case s.Effect != "Allow" && s.Effect != "Deny":
			return invalid("Error validating stack policy: Invalid Effect: %s", s.Effect)
		case s.Principal != "*":
			return invalid("Error validating stack policy: Invalid Principal: only * is supported")
		case len(s.Resource)+len(s.NotResource) == 0:
			return invalid("Error validating stack policy: Missing Resource or NotResource")
		}
		for _, action := range append(slices.Clone(s.Action), s.NotAction...) {
			if !slices.Contains([]string{"Update:*", "Update:Modify", "Update:Replace", "Update:Delete", "*"}, action) {
				return invalid("Error validating stack policy: Invalid Action: %s", action)
			}
		}
		for operator, keys := range s.Condition {
			for key := range keys {
				if key != "ResourceType" || operator != "StringEquals" && operator != "StringLike" {
					return invalid("Error validating stack policy: Invalid Condition: %s of %s", operator, key)
				}
			}
		}
	}
	return nil
}

// denied is why a stack policy keeps a resource from an action such as Update:Modify, or
// "". With a policy, all is kept that it does not allow.
func denied(policy, action, logicalID, typ string) string {
	all, err := statements(policy)
	if err != nil || len(all) == 0 {
		return ""
	}
	allowed := false
	for i, s := range all {
		if !s.matches(action, "LogicalResourceId/"+logicalID, typ) {
			continue
		}
		if s.Effect == "Deny" {
			return fmt.Sprintf("Action denied by stack policy: Statement [#%d] does not allow [%s] for resource [LogicalResourceId/%s];", i+1, action, logicalID)
		}
		allowed = true
	}
	if allowed {
		return ""
	}
	return fmt.Sprintf("Action not allowed by stack policy: no statement allows [%s] for resource [LogicalResourceId/%s];", action, logicalID)
}

func (s statement) matches(action, resource, typ string) bool {
	if len(s.NotAction) > 0 && like(s.NotAction, action) || len(s.NotAction) == 0 && !like(s.Action, action) {
		return false
	}
	if len(s.NotResource) > 0 && like(s.NotResource, resource) || len(s.NotResource) == 0 && !like(s.Resource, resource) {
		return false
	}
	for operator, keys := range s.Condition {
		if wanted := keys["ResourceType"]; operator == "StringEquals" && !slices.Contains(wanted, typ) || operator == "StringLike" && !like(wanted, typ) {
			return false
		}
	}
	return true
}

// like compares with patterns that may have * anywhere.
func like(patterns []string, text string) bool {
	flat := strings.NewReplacer("/", "|")
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(flat.Replace(pattern), flat.Replace(text))
		return err == nil && ok
	})
}

func (c *call) setStackPolicy(ctx context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	text, err := c.document(ctx, "StackPolicy")
	if err != nil {
		return nil, err
	}
	if err := checkPolicy(text); err != nil {
		return nil, err
	}
	st.Policy = text
	return nil, nil
}

func (c *call) getStackPolicy(context.Context) (any, error) {
	st, err := c.live()
	if err != nil {
		return nil, err
	}
	return struct {
		StackPolicyBody string `xml:",omitempty"`
	}{st.Policy}, nil
}
