package eks

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// An update is one change that is under way, or was.
type update struct {
	ID        string        `json:"id"`
	Status    string        `json:"status"`
	Type      string        `json:"type"`
	Params    []updateParam `json:"params"`
	CreatedAt timestamp     `json:"createdAt"`
	Errors    []any         `json:"errors"`

	due   time.Time
	fail  bool
	apply func(context.Context) error // makes it true
}

type updateParam struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func newUpdate(r *request, kind string, takes time.Duration, apply func(context.Context) error, params ...updateParam) *update {
	return &update{ID: randomUUID(), Status: "InProgress", Type: kind, Params: params, CreatedAt: timestamp(r.now), Errors: []any{},
		due: r.now.Add(takes), fail: r.Fail, apply: apply}
}

// settle ends an update that is due, and says whether it did.
func (u *update) settle(ctx context.Context, now time.Time) (done bool, err error) {
	if u.Status != "InProgress" || now.Before(u.due) {
		return false, nil
	}
	if u.fail {
		u.Status = "Failed"
		u.Errors = []any{map[string]any{"errorCode": "Unknown", "errorMessage": "The update could not be made and was taken back.", "resourceIds": []string{}}}
		return true, nil
	}
	if err := u.apply(ctx); err != nil {
		return false, err
	}
	u.Status = "Successful"
	return true, nil
}

func running(updates []*update) *update {
	for _, u := range updates {
		if u.Status == "InProgress" {
			return u
		}
	}
	return nil
}

// begin starts an update of the cluster itself, of which there is one at a time.
func (s *Service) begin(r *request, c *cluster, u *update, remember func(string)) (any, error) {
	c.updates, c.Status = append(c.updates, u), "UPDATING"
	remember(u.ID)
	return map[string]any{"update": u}, nil
}

// free finds the cluster and checks that nothing is changed of it. earlier is the
// update that the same client request token began.
func (s *Service) free(r *request) (c *cluster, earlier *update, remember func(string), err error) {
	if c, err = s.find(r); err != nil {
		return nil, nil, nil, err
	}
	id, remember, err := s.again(r)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, u := range c.updates {
		if u.ID == id {
			return c, u, remember, nil
		}
	}
	if u := running(c.updates); u != nil {
		return nil, nil, nil, inUse("Cannot %s because cluster %s currently has update %s in progress", r.Operation, c.Name, u.ID)
	}
	if c.Status != "ACTIVE" {
		return nil, nil, nil, inUse("Cannot %s because cluster %s is not in ACTIVE status", r.Operation, c.Name)
	}
	return c, nil, remember, nil
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// kindsOfChange are the parameters of UpdateClusterConfig, one of which a call has.
var kindsOfChange = []string{"logging", "resourcesVpcConfig", "accessConfig", "upgradePolicy", "deletionProtection",
	"computeConfig", "storageConfig", "kubernetesNetworkConfig", "remoteNetworkConfig", "zonalShiftConfig"}

func (s *Service) updateClusterConfig(r *request) (any, error) {
	var in struct {
		Logging            *logging    `json:"logging"`
		ResourcesVPCConfig *vpcRequest `json:"resourcesVpcConfig"`
		AccessConfig       *struct {
			Mode string `json:"authenticationMode"`
		} `json:"accessConfig"`
		UpgradePolicy *struct {
			SupportType string `json:"supportType"`
		} `json:"upgradePolicy"`
		DeletionProtection *bool     `json:"deletionProtection"`
		ZonalShiftConfig   *switched `json:"zonalShiftConfig"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, earlier, remember, err := s.free(r)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return map[string]any{"update": earlier}, nil
	}
	given := slices.DeleteFunc(slices.Clone(kindsOfChange), func(kind string) bool { return r.Input[kind] == nil })
	if len(given) != 1 {
		return nil, invalidParameter("Only one type of update can be allowed, and one is needed; given: [%s]", strings.Join(given, ", "))
	}
	switch {
	case in.Logging != nil:
		if err := checkLogging(in.Logging); err != nil {
			return nil, err
		}
		next := mergeLogging(c.Logging, in.Logging)
		if asJSON(next) == asJSON(c.Logging) {
			return nil, invalidParameter("No changes needed for the logging config provided")
		}
		return s.begin(r, c, newUpdate(r, "LoggingUpdate", typical.UpdateClusterConfig, func(ctx context.Context) error {
			c.Logging = next
			return s.logs(ctx, c)
		}, updateParam{"ClusterLogging", asJSON(in.Logging)}), remember)
	case in.ResourcesVPCConfig != nil:
		return s.updateNetwork(r, c, in.ResourcesVPCConfig, remember)
	case in.AccessConfig != nil:
		if err := oneOf("authenticationMode", in.AccessConfig.Mode, modes...); err != nil {
			return nil, err
		}
		from, to := slices.Index(modes, c.AccessConfig.Mode), slices.Index(modes, in.AccessConfig.Mode)
		if to <= from {
			return nil, invalidParameter("Unsupported authentication mode update from %s to %s", c.AccessConfig.Mode, in.AccessConfig.Mode)
		}
		return s.begin(r, c, newUpdate(r, "AccessConfigUpdate", typical.UpdateClusterPolicy, func(context.Context) error {
			c.AccessConfig.Mode = in.AccessConfig.Mode
			return nil
		}, updateParam{"AuthenticationMode", in.AccessConfig.Mode}), remember)
	case in.UpgradePolicy != nil:
		if err := oneOf("supportType", in.UpgradePolicy.SupportType, "STANDARD", "EXTENDED"); err != nil {
			return nil, err
		}
		if c.UpgradePolicy["supportType"] == in.UpgradePolicy.SupportType {
			return nil, invalidParameter("No changes needed for the upgrade policy provided")
		}
		return s.begin(r, c, newUpdate(r, "UpgradePolicyUpdate", typical.UpdateClusterPolicy, func(context.Context) error {
			c.UpgradePolicy = map[string]string{"supportType": in.UpgradePolicy.SupportType}
			return nil
		}, updateParam{"UpgradePolicy", asJSON(in.UpgradePolicy)}), remember)
	case in.DeletionProtection != nil:
		if c.DeletionProtection == *in.DeletionProtection {
			return nil, invalidParameter("No changes needed for the deletion protection provided")
		}
		return s.begin(r, c, newUpdate(r, "DeletionProtectionUpdate", typical.UpdateClusterPolicy, func(context.Context) error {
			c.DeletionProtection = *in.DeletionProtection
			return nil
		}, updateParam{"DeletionProtection", fmt.Sprint(*in.DeletionProtection)}), remember)
	case in.ZonalShiftConfig != nil:
		return s.begin(r, c, newUpdate(r, "ZonalShiftConfigUpdate", typical.UpdateClusterPolicy, func(context.Context) error {
			c.ZonalShiftConfig = in.ZonalShiftConfig
			return nil
		}, updateParam{"ZonalShiftConfig", asJSON(in.ZonalShiftConfig)}), remember)
	}
	return nil, notImplemented("The AWS double cannot change " + given[0] + " of a cluster.")
}

// updateNetwork changes who reaches the API server, or where it has its
// interfaces, which are two kinds of update.
func (s *Service) updateNetwork(r *request, c *cluster, in *vpcRequest, remember func(string)) (any, error) {
	if in.SubnetIDs != nil || in.SecurityGroupIDs != nil {
		if in.EndpointPublicAccess != nil || in.EndpointPrivateAccess != nil || in.PublicAccessCIDRs != nil {
			return nil, invalidParameter("Only one type of update can be allowed: subnets and security groups, or endpoint access")
		}
		ids := c.ResourcesVPCConfig.SubnetIDs
		if in.SubnetIDs != nil {
			ids = in.SubnetIDs
		}
		subnets, vpc, err := s.subnetsFor(r, c.Name, ids)
		if err != nil {
			return nil, err
		}
		if vpc.ID != c.ResourcesVPCConfig.VPCID {
			return nil, invalidParameter("Provided subnets belong to the VPC %s, and the cluster is in %s", vpc.ID, c.ResourcesVPCConfig.VPCID)
		}
		if err := s.groupsIn(r, vpc.ID, in.SecurityGroupIDs); err != nil {
			return nil, err
		}
		return s.begin(r, c, newUpdate(r, "VpcConfigUpdate", typical.UpdateClusterConfig, func(ctx context.Context) error {
			c.ResourcesVPCConfig.SubnetIDs = ids
			if in.SecurityGroupIDs != nil {
				c.ResourcesVPCConfig.SecurityGroupIDs = in.SecurityGroupIDs
			}
			return s.reconnect(ctx, c, subnets)
		}, updateParam{"Subnets", asJSON(ids)}, updateParam{"SecurityGroups", asJSON(in.SecurityGroupIDs)}), remember)
	}
	next := c.ResourcesVPCConfig
	if in.EndpointPublicAccess != nil {
		next.EndpointPublicAccess = *in.EndpointPublicAccess
	}
	if in.EndpointPrivateAccess != nil {
		next.EndpointPrivateAccess = *in.EndpointPrivateAccess
	}
	if in.PublicAccessCIDRs != nil {
		next.PublicAccessCIDRs = in.PublicAccessCIDRs
	}
	if err := checkAccess(&next); err != nil {
		return nil, err
	}
	if asJSON(next) == asJSON(c.ResourcesVPCConfig) {
		return nil, invalidParameter("Cluster is already at the desired configuration with endpointPrivateAccess: %t , endpointPublicAccess: %t, and Public Endpoint Restrictions: %v",
			next.EndpointPrivateAccess, next.EndpointPublicAccess, next.PublicAccessCIDRs)
	}
	return s.begin(r, c, newUpdate(r, "EndpointAccessUpdate", typical.UpdateClusterConfig, func(context.Context) error {
		c.ResourcesVPCConfig = next
		return nil
	}, updateParam{"EndpointPublicAccess", fmt.Sprint(next.EndpointPublicAccess)}, updateParam{"EndpointPrivateAccess", fmt.Sprint(next.EndpointPrivateAccess)},
		updateParam{"PublicAccessCidrs", asJSON(next.PublicAccessCIDRs)}), remember)
}

// reconnect gives the control plane new interfaces for its old ones, as happens
// when its servers are replaced.
func (s *Service) reconnect(ctx context.Context, c *cluster, subnets []Subnet) error {
	old := c.interfaces
	c.interfaces = nil
	if err := s.connect(ctx, c, subnets); err != nil {
		c.interfaces = append(c.interfaces, old...)
		return err
	}
	for _, id := range old {
		if err := s.cloud.DeleteInterface(ctx, c.where, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) updateClusterVersion(r *request) (any, error) {
	var in struct {
		Version string `json:"version"`
		Force   bool   `json:"force"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, earlier, remember, err := s.free(r)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return map[string]any{"update": earlier}, nil
	}
	if in.Version == c.Version {
		return nil, invalidParameter("Cluster is already at the desired version %s", in.Version)
	}
	if !supported(in.Version) || minor(in.Version) != minor(c.Version)+1 {
		return nil, invalidParameter("unsupported Kubernetes version update from %s to %s", c.Version, in.Version)
	}
	for _, n := range c.nodegroups {
		if minor(n.Version) < minor(in.Version)-skew {
			return nil, invalidParameter("Nodegroups [%s] must be updated to version 1.%d or later before cluster %s is updated to %s",
				n.Name, minor(in.Version)-skew, c.Name, in.Version)
		}
	}
	if !in.Force {
		for _, i := range c.insights(r.now) {
			if i.Status.Status == "ERROR" {
				return nil, &Error{"InvalidStateException", "Amazon EKS detected upgrade readiness issues. Call the ListInsights API to view detected upgrade blocking issues. " +
					"Pass the force flag when updating to override upgrade readiness errors.", 400, map[string]any{"clusterName": c.Name}}
			}
		}
	}
	subnets, _, err := s.subnetsFor(r, c.Name, c.ResourcesVPCConfig.SubnetIDs)
	if err != nil {
		return nil, err
	}
	return s.begin(r, c, newUpdate(r, "VersionUpdate", typical.UpdateClusterVersion, func(ctx context.Context) error {
		c.Version, c.PlatformVersion = in.Version, platformOf(in.Version)
		return s.reconnect(ctx, c, subnets)
	}, updateParam{"Version", in.Version}, updateParam{"PlatformVersion", platformOf(in.Version)}), remember)
}

func (s *Service) associateEncryptionConfig(r *request) (any, error) {
	var in struct {
		EncryptionConfig []encryption `json:"encryptionConfig"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, earlier, remember, err := s.free(r)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		return map[string]any{"update": earlier}, nil
	}
	if len(c.EncryptionConfig) > 0 {
		return nil, invalidParameter("Cluster already has an EncryptionConfig")
	}
	if len(in.EncryptionConfig) != 1 {
		return nil, invalidParameter("encryptionConfig needs one entry")
	}
	if err := s.usableKey(r, in.EncryptionConfig[0]); err != nil {
		return nil, err
	}
	return s.begin(r, c, newUpdate(r, "AssociateEncryptionConfig", typical.AssociateEncryption, func(context.Context) error {
		c.EncryptionConfig = in.EncryptionConfig
		return nil
	}, updateParam{"EncryptionConfig", asJSON(in.EncryptionConfig)}), remember)
}

// updatesOf are those of what DescribeUpdate and ListUpdates name.
func (s *Service) updatesOf(r *request) ([]*update, error) {
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	if name, _ := r.Input["nodegroupName"].(string); name != "" {
		if n := c.nodegroups[name]; n != nil {
			return n.updates, nil
		}
		return nil, notFound("No node group found for name: %s.", name)
	}
	if name, _ := r.Input["addonName"].(string); name != "" {
		if a := c.addons[name]; a != nil {
			return a.updates, nil
		}
		return nil, notFound("No addon: %s found in cluster: %s", name, c.Name)
	}
	return c.updates, nil
}

func (s *Service) describeUpdate(r *request) (any, error) {
	updates, err := s.updatesOf(r)
	if err != nil {
		return nil, err
	}
	id, _ := r.Input["updateId"].(string)
	for _, u := range updates {
		if u.ID == id {
			return map[string]any{"update": u}, nil
		}
	}
	return nil, notFound("No update found for ID: %s", id)
}

func (s *Service) listUpdates(r *request) (any, error) {
	var in paging
	if err := r.into(&in); err != nil {
		return nil, err
	}
	updates, err := s.updatesOf(r)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, u := range updates {
		ids = append(ids, u.ID)
	}
	part, next, err := page(ids, in, 100)
	return map[string]any{"updateIds": part, "nextToken": next}, err
}
