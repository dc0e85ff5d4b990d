package eks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

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
	PodIdentities       []string          `json:"podIdentityAssociations,omitempty"` // ARNs
	Publisher           string            `json:"publisher"`
	Owner               string            `json:"owner"`

	due     time.Time // of CREATING and DELETING
	fail    bool
	updates []*update
}

// addonIdentity is a role for one of an add-on's service accounts
// (AddonPodIdentityAssociations).
type addonIdentity struct {
	ServiceAccount string `json:"serviceAccount"`
	RoleARN        string `json:"roleArn"`
}

// resolutions are what is done about fields of an add-on that somebody else has set.
// Nothing runs here, so nothing conflicts.
var resolutions = []string{"OVERWRITE", "NONE", "PRESERVE"}

func (s *Service) createAddon(r *request) (any, error) {
	var in struct {
		AddonName             string            `json:"addonName"`
		AddonVersion          string            `json:"addonVersion"`
		ServiceAccountRoleARN string            `json:"serviceAccountRoleArn"`
		ConfigurationValues   string            `json:"configurationValues"`
		ResolveConflicts      string            `json:"resolveConflicts"`
		PodIdentities         []addonIdentity   `json:"podIdentityAssociations"`
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
	if err := errors.Join(kind.checkConfiguration(in.ConfigurationValues), oneOf("resolveConflicts", cmp.Or(in.ResolveConflicts, "NONE"), resolutions...), checkTags(in.Tags)); err != nil {
		return nil, err
	}
	if err := s.addonIdentities(r, c, kind.name, in.PodIdentities); err != nil {
		return nil, err
	}
	a := &addon{
		Name: kind.name, ClusterName: c.Name, Status: "CREATING", Version: version, Health: health{Issues: []issue{}},
		ARN: r.Where.arn("eks", "addon/"+c.Name+"/"+kind.name+"/"+randomUUID()), CreatedAt: timestamp(r.now), ModifiedAt: timestamp(r.now),
		RoleARN: in.ServiceAccountRoleARN, Tags: tagsOf(in.Tags), ConfigurationValues: in.ConfigurationValues, Publisher: addonPublisher, Owner: "aws",
		due: r.now.Add(typical.CreateAddon), fail: r.Fail,
	}
	c.addons[a.Name] = a
	c.giveIdentities(r, a, in.PodIdentities)
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

// checkConfiguration refuses what is not in the schema that DescribeAddonConfiguration
// gives.
func (k *addonKind) checkConfiguration(values string) error {
	if values == "" {
		return nil
	}
	var object map[string]any
	if err := yaml.Unmarshal([]byte(values), &object); err != nil { // JSON is YAML, too
		return invalidParameter("ConfigurationValue provided in request is not supported: it is no JSON or YAML object")
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(k.settings, key) {
			return invalidParameter("ConfigurationValue provided in request is not supported: Json schema validation failed with error: [$.%s: is not defined in the schema and the schema does not allow additional properties]", key)
		}
	}
	return nil
}

// addonIdentities refuses roles that pods cannot take, and service accounts that have
// one from elsewhere.
func (s *Service) addonIdentities(r *request, c *cluster, addon string, wanted []addonIdentity) error {
	for _, one := range wanted {
		if err := s.podRole(r, one.RoleARN); err != nil {
			return err
		}
		for _, p := range c.identities {
			if p.Namespace == addonNamespace && p.ServiceAccount == one.ServiceAccount && !strings.Contains(p.Owner, "addon/"+c.Name+"/"+addon+"/") {
				return inUse("Association already exists: %s", p.ID)
			}
		}
	}
	return nil
}

// addonNamespace is where the add-ons' service accounts are.
const addonNamespace = "kube-system"

// giveIdentities gives an add-on exactly these associations.
func (c *cluster) giveIdentities(r *request, a *addon, wanted []addonIdentity) {
	kept := a.PodIdentities
	a.PodIdentities = nil
	for _, one := range wanted {
		var p *podIdentity
		for _, owned := range c.identities {
			if owned.Owner == a.ARN && owned.ServiceAccount == one.ServiceAccount {
				p = owned
			}
		}
		if p == nil {
			p = c.associate(r, addonNamespace, one.ServiceAccount, one.RoleARN)
			p.Owner = a.ARN
		}
		if p.RoleARN != one.RoleARN {
			p.RoleARN, p.ModifiedAt = one.RoleARN, timestamp(r.now)
		}
		a.PodIdentities = append(a.PodIdentities, p.ARN)
	}
	for id, p := range c.identities {
		if slices.Contains(kept, p.ARN) && !slices.Contains(a.PodIdentities, p.ARN) {
			delete(c.identities, id)
		}
	}
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

		PodIdentities *[]addonIdentity `json:"podIdentityAssociations"`
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
		if err := oneOf("resolveConflicts", in.ResolveConflicts, resolutions...); err != nil {
			return nil, err
		}
		params = append(params, updateParam{"ResolveConflicts", in.ResolveConflicts})
	}
	if in.ServiceAccountRoleARN != nil {
		if err := s.addonRole(r, *in.ServiceAccountRoleARN); err != nil {
			return nil, err
		}
		params = append(params, updateParam{"ServiceAccountRoleArn", *in.ServiceAccountRoleARN})
	}
	if in.ConfigurationValues != nil {
		if err := addonNamed(a.Name).checkConfiguration(*in.ConfigurationValues); err != nil {
			return nil, err
		}
		params = append(params, updateParam{"ConfigurationValues", *in.ConfigurationValues})
	}
	if in.PodIdentities != nil {
		if err := s.addonIdentities(r, c, a.Name, *in.PodIdentities); err != nil {
			return nil, err
		}
		params = append(params, updateParam{"PodIdentityAssociations", asJSON(*in.PodIdentities)})
	}
	u := newUpdate(r, "AddonUpdate", typical.UpdateAddon, func(context.Context) error {
		a.Version = version
		if in.ServiceAccountRoleARN != nil {
			a.RoleARN = *in.ServiceAccountRoleARN
		}
		if in.ConfigurationValues != nil {
			a.ConfigurationValues = *in.ConfigurationValues
		}
		if in.PodIdentities != nil {
			c.giveIdentities(r, a, *in.PodIdentities)
		}
		return nil
	}, params...)
	a.updates, a.Status, a.ModifiedAt = append(a.updates, u), "UPDATING", timestamp(r.now)
	remember(u.ID)
	return map[string]any{"update": u}, nil
}

func (s *Service) deleteAddon(r *request) (any, error) {
	var in struct {
		Preserve truth `json:"preserve"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, a, err := s.findAddon(r)
	if err != nil {
		return nil, err
	}
	if a.Status != "DELETING" {
		a.Status, a.due = "DELETING", r.now.Add(typical.DeleteAddon)
		if in.Preserve { // the software stays in the cluster, and its roles with it
			for _, p := range c.identities {
				if p.Owner == a.ARN {
					p.Owner = ""
				}
			}
		} else {
			c.giveIdentities(r, a, nil)
		}
	}
	return map[string]any{"addon": a}, nil
}
