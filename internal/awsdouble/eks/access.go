package eks

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// entry is one access entry: who a principal of IAM is in the cluster.
type entry struct {
	ClusterName string            `json:"clusterName"`
	Principal   string            `json:"principalArn"`
	Groups      []string          `json:"kubernetesGroups"`
	ARN         string            `json:"accessEntryArn"`
	CreatedAt   timestamp         `json:"createdAt"`
	ModifiedAt  timestamp         `json:"modifiedAt"`
	Tags        map[string]string `json:"tags"`
	Username    string            `json:"username"`
	Type        string            `json:"type"`

	policies map[string]*association // by ARN
}

type association struct {
	PolicyARN    string    `json:"policyArn"`
	AccessScope  scope     `json:"accessScope"`
	AssociatedAt timestamp `json:"associatedAt"`
	ModifiedAt   timestamp `json:"modifiedAt"`
}

type scope struct {
	Type       string   `json:"type"`
	Namespaces []string `json:"namespaces"`
}

// accessPolicies are those that entries can have (Amazon EKS User Guide, Review
// access policy permissions).
var accessPolicies = []string{"AmazonEKSAdminPolicy", "AmazonEKSAdminViewPolicy", "AmazonEKSClusterAdminPolicy", "AmazonEKSEditPolicy", "AmazonEKSViewPolicy"}

var entryTypes = []string{"STANDARD", "EC2_LINUX", "EC2_WINDOWS", "FARGATE_LINUX", "EC2", "HYBRID_LINUX", "HYPERPOD_LINUX"}

func accessPolicyARN(w Where, name string) string {
	return "arn:" + w.Partition + ":eks::aws:cluster-access-policy/" + name
}

// letIn makes an entry.
func (c *cluster) letIn(r *request, principal, kind string, groups []string, username string, tags map[string]string) *entry {
	f := strings.SplitN(principal, ":", 6)
	account, class, name := "", "role", ""
	if len(f) == 6 {
		account = f[4]
		class, name, _ = strings.Cut(f[5], "/")
		name = name[strings.LastIndexByte(name, '/')+1:]
	}
	if username == "" {
		username = principal
		if class == "role" {
			username = "arn:" + r.Where.Partition + ":sts::" + account + ":assumed-role/" + name + "/{{SessionName}}"
		}
	}
	e := &entry{
		ClusterName: c.Name, Principal: principal, Groups: nonNil(groups), CreatedAt: timestamp(r.now), ModifiedAt: timestamp(r.now), Tags: tagsOf(tags), Username: username, Type: kind,
		ARN:      r.Where.arn("eks", "access-entry/"+c.Name+"/"+class+"/"+account+"/"+name+"/"+randomUUID()),
		policies: map[string]*association{},
	}
	c.entries[principal] = e
	return e
}

func (e *entry) associate(r *request, policy string) {
	arn := accessPolicyARN(r.Where, policy)
	e.policies[arn] = &association{arn, scope{"cluster", []string{}}, timestamp(r.now), timestamp(r.now)}
}

// findForAccess finds a cluster that has access entries.
func (s *Service) findForAccess(r *request) (*cluster, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	if c.AccessConfig.Mode == "CONFIG_MAP" {
		return nil, invalidRequest("The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation.")
	}
	return c, nil
}

func (s *Service) findEntry(r *request) (*cluster, *entry, error) {
	c, err := s.findForAccess(r)
	if err != nil {
		return nil, nil, err
	}
	principal, _ := r.Input["principalArn"].(string)
	e := c.entries[principal]
	if e == nil {
		return nil, nil, notFound("The specified principalArn could not be found. You can view your available access entries with 'list-access-entries'.")
	}
	return c, e, nil
}

func (s *Service) createAccessEntry(r *request) (any, error) {
	var in struct {
		PrincipalARN     string            `json:"principalArn"`
		KubernetesGroups []string          `json:"kubernetesGroups"`
		Username         string            `json:"username"`
		Type             string            `json:"type"`
		Tags             map[string]string `json:"tags"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.findForAccess(r)
	if err != nil {
		return nil, err
	}
	arn, remember, err := s.again(r)
	if err != nil {
		return nil, err
	}
	if e := c.entries[in.PrincipalARN]; e != nil {
		if e.ARN == arn {
			return map[string]any{"accessEntry": e}, nil
		}
		return nil, inUse("The specified access entry resource is already in use on this cluster.")
	}
	exists, err := s.cloud.PrincipalExists(r.ctx, in.PrincipalARN)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", in.PrincipalARN, err)
	}
	if !exists {
		return nil, invalidParameter("The specified principalArn is invalid: invalid principal.")
	}
	if in.Type == "" {
		in.Type = "STANDARD"
	}
	if !slices.Contains(entryTypes, in.Type) {
		return nil, invalidParameter("The specified type %s is none of %s.", in.Type, strings.Join(entryTypes, ", "))
	}
	if in.Type != "STANDARD" {
		// Amazon EKS User Guide, Create access entries: those of nodes are roles of the account.
		if !strings.HasPrefix(in.PrincipalARN, "arn:"+r.Where.Partition+":iam::"+r.Where.Account+":role/") {
			return nil, invalidParameter("The specified principalArn is invalid: an access entry of type %s needs a role of the cluster's account.", in.Type)
		}
		if len(in.KubernetesGroups) > 0 || in.Username != "" {
			return nil, invalidRequest("An access entry of type %s cannot have kubernetesGroups or a username.", in.Type)
		}
		in.Username, in.KubernetesGroups = "system:node:{{EC2PrivateDNSName}}", []string{"system:nodes"}
	} else if err := checkIdentity(in.KubernetesGroups, in.Username); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	e := c.letIn(r, in.PrincipalARN, in.Type, in.KubernetesGroups, in.Username, in.Tags)
	remember(e.ARN)
	return map[string]any{"accessEntry": e}, nil
}

// checkIdentity refuses names that are EKS's or Kubernetes' own (Amazon EKS User
// Guide, Create access entries).
func checkIdentity(groups []string, username string) error {
	for _, group := range groups {
		if strings.HasPrefix(group, "system:") {
			return invalidParameter("The kubernetes group name %s is invalid, it cannot start with system:", group)
		}
	}
	for _, prefix := range []string{"system:", "eks:", "aws:", "amazon:", "iam:"} {
		if strings.HasPrefix(username, prefix) {
			return invalidParameter("The username %s is invalid, it cannot start with %s", username, prefix)
		}
	}
	for _, variable := range []string{"{{SessionName}}", "{{SessionNameRaw}}"} {
		if i := strings.Index(username, variable); i >= 0 && !strings.Contains(username[:i], ":") {
			return invalidParameter("The username %s is invalid, a colon needs to come before %s", username, variable)
		}
	}
	return nil
}

func (s *Service) describeAccessEntry(r *request) (any, error) {
	_, e, err := s.findEntry(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"accessEntry": e}, nil
}

func (s *Service) listAccessEntries(r *request) (any, error) {
	var in struct {
		paging
		PolicyARN string `json:"associatedPolicyArn"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.findForAccess(r)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, principal := range slices.Sorted(maps.Keys(c.entries)) {
		if in.PolicyARN == "" || c.entries[principal].policies[in.PolicyARN] != nil {
			all = append(all, principal)
		}
	}
	part, next, err := page(all, in.paging, 100)
	return map[string]any{"accessEntries": part, "nextToken": next}, err
}

func (s *Service) updateAccessEntry(r *request) (any, error) {
	var in struct {
		KubernetesGroups *[]string `json:"kubernetesGroups"`
		Username         *string   `json:"username"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	_, e, err := s.findEntry(r)
	if err != nil {
		return nil, err
	}
	if e.Type != "STANDARD" {
		return nil, invalidRequest("An access entry of type %s cannot be updated.", e.Type)
	}
	next := *e
	if in.KubernetesGroups != nil {
		next.Groups = nonNil(*in.KubernetesGroups)
	}
	if in.Username != nil {
		next.Username = *in.Username
	}
	if err := checkIdentity(next.Groups, next.Username); err != nil {
		return nil, err
	}
	next.ModifiedAt = timestamp(r.now)
	*e = next
	return map[string]any{"accessEntry": e}, nil
}

func (s *Service) deleteAccessEntry(r *request) (any, error) {
	c, e, err := s.findEntry(r)
	if err != nil {
		return nil, err
	}
	delete(c.entries, e.Principal)
	return map[string]any{}, nil
}

func (s *Service) associateAccessPolicy(r *request) (any, error) {
	var in struct {
		PolicyARN   string `json:"policyArn"`
		AccessScope scope  `json:"accessScope"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, e, err := s.findEntry(r)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(accessPolicies, func(name string) bool { return accessPolicyARN(r.Where, name) == in.PolicyARN }) {
		return nil, notFound("The specified policyArn could not be found. You can view available policies with 'list-access-policies'.")
	}
	if e.Type != "STANDARD" {
		return nil, invalidRequest("An access policy cannot be associated with an access entry of type %s.", e.Type)
	}
	if in.AccessScope.Type != "cluster" && in.AccessScope.Type != "namespace" || (in.AccessScope.Type == "namespace") != (len(in.AccessScope.Namespaces) > 0) {
		return nil, invalidParameter("The accessScope needs the type cluster, or namespace and namespaces.")
	}
	in.AccessScope.Namespaces = nonNil(in.AccessScope.Namespaces)
	a := e.policies[in.PolicyARN]
	if a == nil {
		a = &association{PolicyARN: in.PolicyARN, AssociatedAt: timestamp(r.now)}
		e.policies[in.PolicyARN] = a
	}
	a.AccessScope, a.ModifiedAt = in.AccessScope, timestamp(r.now)
	return map[string]any{"clusterName": c.Name, "principalArn": e.Principal, "associatedAccessPolicy": a}, nil
}

func (s *Service) disassociateAccessPolicy(r *request) (any, error) {
	_, e, err := s.findEntry(r)
	if err != nil {
		return nil, err
	}
	policy, _ := r.Input["policyArn"].(string)
	if e.policies[policy] == nil {
		return nil, notFound("The specified access policy is not associated with this access entry.")
	}
	delete(e.policies, policy)
	return map[string]any{}, nil
}

func (s *Service) listAssociatedAccessPolicies(r *request) (any, error) {
	var in paging
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, e, err := s.findEntry(r)
	if err != nil {
		return nil, err
	}
	var all []*association
	for _, arn := range slices.Sorted(maps.Keys(e.policies)) {
		all = append(all, e.policies[arn])
	}
	part, next, err := page(all, in, 100)
	return map[string]any{"clusterName": c.Name, "principalArn": e.Principal, "associatedAccessPolicies": part, "nextToken": next}, err
}

func (s *Service) listAccessPolicies(r *request) (any, error) {
	var in paging
	if err := r.into(&in); err != nil {
		return nil, err
	}
	all := []map[string]string{}
	for _, name := range accessPolicies {
		all = append(all, map[string]string{"name": name, "arn": accessPolicyARN(r.Where, name)})
	}
	part, next, err := page(all, in, 100)
	return map[string]any{"accessPolicies": part, "nextToken": next}, err
}

// Identity is who a principal of IAM is in a cluster.
type Identity struct {
	Username string
	// Groups are those of the entry, and eks:POLICY for each access policy that it has
	// for all of the cluster.
	Groups []string
}

// Clusters are the names of those in an account and region that have an API server.
func (s *Service) Clusters(at Where) []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.clusters[at])) {
		if s.clusters[at][name].Endpoint != "" {
			names = append(names, name)
		}
	}
	return names
}

// Identify is what EKS's authenticator makes of who signed a token; false for who has
// no entry. session is the name of the role's session.
func (s *Service) Identify(at Where, name, principal, session string) (Identity, bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	c := s.clusters[at][name]
	if c == nil || c.entries[principal] == nil {
		return Identity{}, false
	}
	e := c.entries[principal]
	identity := Identity{Username: strings.ReplaceAll(e.Username, "{{SessionName}}", strings.ReplaceAll(session, "@", "-")), Groups: slices.Clone(e.Groups)}
	for _, arn := range slices.Sorted(maps.Keys(e.policies)) {
		if e.policies[arn].AccessScope.Type == "cluster" {
			identity.Groups = append(identity.Groups, "eks:"+arn[strings.LastIndexByte(arn, '/')+1:])
		}
	}
	return identity, true
}
