package eks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// addon is one add-on of a cluster.
type addon struct {
	Name                string            `json:"addonName"`
	ClusterName         string            `json:"clusterName"`
	Status              string            `json:"status"`
	Version             string            `json:"addonVersion"`
	Health              health            `json:"health"`
	ARN                 string            `json:"addonArn"`
	CreatedAt           timestamp         `json:"createdAt"`
	ModifiedAt          timestamp         `json:"modifiedAt"`
	RoleARN             string            `json:"serviceAccountRoleArn,omitempty"`
	Tags                map[string]string `json:"tags"`
	ConfigurationValues string            `json:"configurationValues,omitempty"`
	Publisher           string            `json:"publisher"`
	Owner               string            `json:"owner"`

	due     time.Time // of CREATING and DELETING
	fail    bool
	updates []*update
}

func (s *Service) createAddon(r *request) (any, error) {
	var in struct {
		AddonName             string            `json:"addonName"`
		AddonVersion          string            `json:"addonVersion"`
		ServiceAccountRoleARN string            `json:"serviceAccountRoleArn"`
		ConfigurationValues   string            `json:"configurationValues"`
		Tags                  map[string]string `json:"tags"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	arn, remember, err := s.again(r)
	if err != nil {
		return nil, err
	}
	if a := c.addons[in.AddonName]; a != nil {
		if a.ARN == arn {
			return map[string]any{"addon": a}, nil
		}
		return nil, inUse("Addon already exists.")
	}
	if c, err = s.findActive(r); err != nil {
		return nil, err
	}
	kind := addonNamed(in.AddonName)
	if kind == nil {
		return nil, invalidParameter("Addon %s is not supported", in.AddonName)
	}
	version, err := kind.choose(in.AddonVersion, c)
	if err != nil {
		return nil, err
	}
	if err := s.addonRole(r, in.ServiceAccountRoleARN); err != nil {
		return nil, err
	}
	if err := checkConfiguration(in.ConfigurationValues); err != nil {
		return nil, err
	}
	a := &addon{
		Name: kind.name, ClusterName: c.Name, Status: "CREATING", Version: version, Health: health{Issues: []issue{}},
		ARN: r.Where.arn("eks", "addon/"+c.Name+"/"+kind.name+"/"+randomUUID()), CreatedAt: timestamp(r.now), ModifiedAt: timestamp(r.now),
		RoleARN: in.ServiceAccountRoleARN, Tags: tagsOf(in.Tags), ConfigurationValues: in.ConfigurationValues, Publisher: kind.publisher, Owner: "aws",
		due: r.now.Add(typical.CreateAddon), fail: r.Fail,
	}
	c.addons[a.Name] = a
	remember(a.ARN)
	return map[string]any{"addon": a}, nil
}

// choose is the version that is installed, where it fits the cluster.
func (k *addonKind) choose(asked string, c *cluster) (string, error) {
	version := cmp.Or(asked, k.defaultFor(minor(c.Version)))
	if !k.fits(version, minor(c.Version)) {
		return "", invalidParameter("Addon version specified is not supported")
	}
	return version, nil
}

func (s *Service) addonRole(r *request, arn string) error {
	if arn == "" {
		return nil
	}
	role, err := s.cloud.Role(r.ctx, arn)
	if err != nil {
		return fmt.Errorf("looking at role %s: %w", arn, err)
	}
	if role == nil {
		return invalidParameter("Role with arn: %s, could not be assumed because it does not exist or the trusted entity is not correct", arn)
	}
	return nil
}

func checkConfiguration(values string) error {
	var object map[string]any
	if values != "" && json.Unmarshal([]byte(values), &object) != nil {
		return invalidParameter("ConfigurationValue provided in request is not supported: it is no JSON object")
	}
	return nil
}

func (c *cluster) settleAddon(ctx context.Context, a *addon, now time.Time) (gone bool, err error) {
	switch {
	case a.Status == "DELETING" && !now.Before(a.due):
		return true, nil
	case a.Status == "CREATING" && !now.Before(a.due):
		a.Status = "ACTIVE"
		if a.fail {
			a.Status = "CREATE_FAILED"
			a.Health.Issues = []issue{{Code: "ConfigurationConflict", Message: "Conflicts found when trying to apply. Will not continue due to resolve conflicts mode.", ResourceIDs: []string{}}}
		}
	}
	for _, u := range a.updates {
		if done, err := u.settle(ctx, now); err != nil {
			return false, err
		} else if done && a.Status == "UPDATING" {
			a.Status = "ACTIVE"
		}
	}
	// What runs on nodes is as healthy as there are nodes.
	if kind := addonNamed(a.Name); kind.nodes && (a.Status == "ACTIVE" || a.Status == "DEGRADED") {
		a.Status, a.Health.Issues = "ACTIVE", []issue{}
		if !c.hasNodes() {
			a.Status = "DEGRADED"
			a.Health.Issues = []issue{{Code: "InsufficientNumberOfReplicas", Message: "The add-on is unhealthy because it doesn't have the desired number of replicas.", ResourceIDs: []string{}}}
		}
	}
	return false, nil
}

func (s *Service) findAddon(r *request) (*cluster, *addon, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, nil, err
	}
	name, _ := r.Input["addonName"].(string)
	a := c.addons[name]
	if a == nil {
		return nil, nil, notFound("No addon: %s found in cluster: %s", name, c.Name)
	}
	return c, a, nil
}

func (s *Service) describeAddon(r *request) (any, error) {
	_, a, err := s.findAddon(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"addon": a}, nil
}

func (s *Service) listAddons(r *request) (any, error) {
	var in paging
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	part, next, err := page(slices.Sorted(maps.Keys(c.addons)), in, 100)
	return map[string]any{"addons": part, "nextToken": next}, err
}

func (s *Service) updateAddon(r *request) (any, error) {
	var in struct {
		AddonVersion          string  `json:"addonVersion"`
		ServiceAccountRoleARN *string `json:"serviceAccountRoleArn"`
		ConfigurationValues   *string `json:"configurationValues"`
		ResolveConflicts      string  `json:"resolveConflicts"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, a, err := s.findAddon(r)
	if err != nil {
		return nil, err
	}
	id, remember, err := s.again(r)
	if err != nil {
		return nil, err
	}
	for _, u := range a.updates {
		if u.ID == id {
			return map[string]any{"update": u}, nil
		}
	}
	if a.Status == "CREATING" || a.Status == "UPDATING" || a.Status == "DELETING" {
		return nil, inUse("Addon %s cannot be updated as it is currently in %s state", a.Name, a.Status)
	}
	version := a.Version
	if in.AddonVersion != "" {
		if version, err = addonNamed(a.Name).choose(in.AddonVersion, c); err != nil {
			return nil, err
		}
	}
	params := []updateParam{{"AddonVersion", version}}
	if in.ResolveConflicts != "" {
		params = append(params, updateParam{"ResolveConflicts", in.ResolveConflicts})
	}
	if in.ServiceAccountRoleARN != nil {
		if err := s.addonRole(r, *in.ServiceAccountRoleARN); err != nil {
			return nil, err
		}
		params = append(params, updateParam{"ServiceAccountRoleArn", *in.ServiceAccountRoleARN})
	}
	if in.ConfigurationValues != nil {
		if err := checkConfiguration(*in.ConfigurationValues); err != nil {
			return nil, err
		}
		params = append(params, updateParam{"ConfigurationValues", *in.ConfigurationValues})
	}
	u := newUpdate(r, "AddonUpdate", typical.UpdateAddon, func(context.Context) error {
		a.Version = version
		if in.ServiceAccountRoleARN != nil {
			a.RoleARN = *in.ServiceAccountRoleARN
		}
		if in.ConfigurationValues != nil {
			a.ConfigurationValues = *in.ConfigurationValues
		}
		return nil
	}, params...)
	a.updates, a.Status, a.ModifiedAt = append(a.updates, u), "UPDATING", timestamp(r.now)
	remember(u.ID)
	return map[string]any{"update": u}, nil
}

func (s *Service) deleteAddon(r *request) (any, error) {
	_, a, err := s.findAddon(r)
	if err != nil {
		return nil, err
	}
	if a.Status != "DELETING" {
		a.Status, a.due = "DELETING", r.now.Add(typical.DeleteAddon)
	}
	return map[string]any{"addon": a}, nil
}
