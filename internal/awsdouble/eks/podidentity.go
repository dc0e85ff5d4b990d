package eks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// podIdentity is one Pod Identity association: which role a service account has.
type podIdentity struct {
	ClusterName    string            `json:"clusterName"`
	Namespace      string            `json:"namespace"`
	ServiceAccount string            `json:"serviceAccount"`
	RoleARN        string            `json:"roleArn"`
	ARN            string            `json:"associationArn"`
	ID             string            `json:"associationId"`
	Tags           map[string]string `json:"tags"`
	CreatedAt      timestamp         `json:"createdAt"`
	ModifiedAt     timestamp         `json:"modifiedAt"`
	Owner          string            `json:"ownerArn,omitempty"` // the add-on that has it

	DisableSessionTags bool   `json:"disableSessionTags"`
	TargetRoleARN      string `json:"targetRoleArn,omitempty"`
	ExternalID         string `json:"externalId,omitempty"` // for the target role's trust
	Policy             string `json:"policy,omitempty"`
}

// sessionSettings are how the sessions of an association are.
type sessionSettings struct {
	DisableSessionTags *bool   `json:"disableSessionTags"`
	TargetRoleARN      *string `json:"targetRoleArn"`
	Policy             *string `json:"policy"`
}

// check refuses a policy for sessions that have tags (CreatePodIdentityAssociation).
func (in sessionSettings) check(now bool) error {
	if in.DisableSessionTags != nil {
		now = *in.DisableSessionTags
	}
	if in.Policy == nil || *in.Policy == "" {
		return nil
	}
	if !json.Valid([]byte(*in.Policy)) {
		return invalidParameter("The policy is no JSON document")
	}
	if !now {
		return invalidParameter("A policy needs disableSessionTags to be true")
	}
	return nil
}

func (in sessionSettings) apply(p *podIdentity) {
	if in.DisableSessionTags != nil {
		p.DisableSessionTags = *in.DisableSessionTags
	}
	if in.Policy != nil {
		p.Policy = *in.Policy
	}
	if in.TargetRoleARN != nil && *in.TargetRoleARN != p.TargetRoleARN {
		p.TargetRoleARN, p.ExternalID = *in.TargetRoleARN, ""
		if p.TargetRoleARN != "" {
			p.ExternalID = randomUUID()
		}
	}
}

// associate makes an association.
func (c *cluster) associate(r *request, namespace, account, role string) *podIdentity {
	id := "a-" + randomHex(17)
	p := &podIdentity{
		ClusterName: c.Name, Namespace: namespace, ServiceAccount: account, RoleARN: role, ID: id, Tags: map[string]string{},
		ARN: r.Where.arn("eks", "podidentityassociation/"+c.Name+"/"+id), CreatedAt: timestamp(r.now), ModifiedAt: timestamp(r.now),
	}
	c.identities[id] = p
	return p
}

func (s *Service) createPodIdentity(r *request) (any, error) {
	var in struct {
		Namespace      string            `json:"namespace"`
		ServiceAccount string            `json:"serviceAccount"`
		RoleARN        string            `json:"roleArn"`
		Tags           map[string]string `json:"tags"`
		sessionSettings
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.findActive(r)
	if err != nil {
		return nil, err
	}
	arn, remember, err := s.again(r)
	if err != nil {
		return nil, err
	}
	for _, p := range c.identities {
		if p.Namespace == in.Namespace && p.ServiceAccount == in.ServiceAccount {
			if p.ARN == arn {
				return map[string]any{"association": p}, nil
			}
			return nil, inUse("Association already exists: %s", p.ID)
		}
	}
	if in.Namespace == "" || in.ServiceAccount == "" {
		return nil, invalidParameter("namespace and serviceAccount are needed")
	}
	if err := s.podRole(r, in.RoleARN); err != nil {
		return nil, err
	}
	if err := errors.Join(checkTags(in.Tags), in.check(false)); err != nil {
		return nil, err
	}
	p := c.associate(r, in.Namespace, in.ServiceAccount, in.RoleARN)
	p.Tags = tagsOf(in.Tags)
	in.apply(p)
	remember(p.ARN)
	return map[string]any{"association": p}, nil
}

func (s *Service) podRole(r *request, arn string) error {
	role, err := s.cloud.Role(r.ctx, arn)
	if err != nil {
		return fmt.Errorf("looking at role %s: %w", arn, err)
	}
	if role == nil {
		return invalidParameter("Role provided in the request does not exist.")
	}
	if !slices.Contains(role.Trusts, "pods.eks.amazonaws.com") {
		return invalidParameter("Trust policy of role %s does not allow pods.eks.amazonaws.com", arn[strings.LastIndexByte(arn, '/')+1:])
	}
	return nil
}

func (s *Service) findPodIdentity(r *request) (*cluster, *podIdentity, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, nil, err
	}
	id, _ := r.Input["associationId"].(string)
	p := c.identities[id]
	if p == nil {
		return nil, nil, notFound("No association found for ID: %s", id)
	}
	return c, p, nil
}

func (s *Service) describePodIdentity(r *request) (any, error) {
	_, p, err := s.findPodIdentity(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"association": p}, nil
}

func (s *Service) listPodIdentities(r *request) (any, error) {
	var in struct {
		paging
		Namespace      string `json:"namespace"`
		ServiceAccount string `json:"serviceAccount"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	all := []map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(c.identities)) {
		p := c.identities[id]
		if in.Namespace != "" && p.Namespace != in.Namespace || in.ServiceAccount != "" && p.ServiceAccount != in.ServiceAccount {
			continue
		}
		summary := map[string]string{"clusterName": c.Name, "namespace": p.Namespace, "serviceAccount": p.ServiceAccount, "associationArn": p.ARN, "associationId": p.ID}
		if p.Owner != "" {
			summary["ownerArn"] = p.Owner
		}
		all = append(all, summary)
	}
	part, next, err := page(all, in.paging, 100)
	return map[string]any{"associations": part, "nextToken": next}, err
}

func (s *Service) updatePodIdentity(r *request) (any, error) {
	var in sessionSettings
	if err := r.into(&in); err != nil {
		return nil, err
	}
	_, p, err := s.findPodIdentity(r)
	if err != nil {
		return nil, err
	}
	if err := in.check(p.DisableSessionTags); err != nil {
		return nil, err
	}
	if arn, _ := r.Input["roleArn"].(string); arn != "" {
		if err := s.podRole(r, arn); err != nil {
			return nil, err
		}
		p.RoleARN = arn
	}
	in.apply(p)
	p.ModifiedAt = timestamp(r.now)
	return map[string]any{"association": p}, nil
}

func (s *Service) deletePodIdentity(r *request) (any, error) {
	c, p, err := s.findPodIdentity(r)
	if err != nil {
		return nil, err
	}
	delete(c.identities, p.ID)
	return map[string]any{"association": p}, nil
}
