package eks

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// insight is what EKS finds about the next version (Amazon EKS User Guide, Prepare
// for Kubernetes version upgrades with cluster insights). Those that look at
// objects in the cluster, for APIs that go away, always pass: nothing runs in it.
type insight struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Category    string    `json:"category"`
	Version     string    `json:"kubernetesVersion,omitempty"`
	Refreshed   timestamp `json:"lastRefreshTime"`
	Changed     timestamp `json:"lastTransitionTime"`
	Description string    `json:"description"`
	Status      struct {
		Status string `json:"status"`
		Reason string `json:"reason"`
	} `json:"insightStatus"`

	recommendation string
	addons         []map[string]any
}

// insights looks at a cluster as it is.
func (c *cluster) insights(now time.Time) []insight {
	next := fmt.Sprintf("1.%d", minor(c.Version)+1)
	if !supported(next) {
		return nil
	}
	made := func(number int, name, description, recommendation string) insight {
		i := insight{ID: fmt.Sprintf("%08x-0000-4000-a000-%012x", number, minor(next)), Name: name, Category: "UPGRADE_READINESS", Version: next,
			Refreshed: timestamp(now), Changed: c.CreatedAt, Description: description, recommendation: recommendation}
		i.Status.Status = "PASSING"
		return i
	}
	kubelet := made(1, "Kubelet version skew", "Checks for kubelet versions of worker nodes in the cluster to see if upgrade would cause non compliance with supported Kubernetes kubelet version skew policy.",
		"Upgrade your worker nodes to match the Kubernetes version of your cluster control plane.")
	kubelet.Status.Reason = "Node kubelet versions match the cluster control plane version."
	for _, n := range c.nodegroups {
		switch behind := minor(next) - minor(n.Version); {
		case behind > skew:
			kubelet.Status.Status, kubelet.Status.Reason = "ERROR", "The nodes of "+n.Name+" would be more versions behind than is supported."
		case behind == skew && kubelet.Status.Status == "PASSING":
			kubelet.Status.Status, kubelet.Status.Reason = "WARNING", "The nodes of "+n.Name+" would be as many versions behind as is supported."
		}
	}
	versions := made(2, "EKS add-on version compatibility", "Checks version of installed EKS add-ons to ensure they are compatible with the next version of Kubernetes.",
		"Upgrade your EKS add-on to a version that is compatible with the next version of Kubernetes.")
	versions.Status.Reason = "All installed EKS add-on versions are compatible with next Kubernetes version."
	var unfit []string
	for name, a := range c.addons {
		if kind := addonNamed(name); !kind.fits(a.Version, minor(next)) {
			unfit = append(unfit, name+" "+a.Version)
			versions.addons = append(versions.addons, map[string]any{"name": name, "compatibleVersions": kind.fitting(minor(next))})
		}
	}
	if len(unfit) > 0 {
		slices.Sort(unfit)
		versions.Status.Status, versions.Status.Reason = "ERROR", "Not compatible with the next Kubernetes version: "+strings.Join(unfit, ", ")
	}
	healthy := made(3, "Cluster health issues", "Checks for any cluster health issues that prevent successful upgrade to the next Kubernetes version on EKS.",
		"Fix the issues that DescribeCluster shows.")
	healthy.Status.Reason = "No cluster health issues detected."
	deprecated := made(4, "Deprecated APIs removed in Kubernetes v"+next, "Checks for usage of deprecated APIs that are scheduled for removal in Kubernetes v"+next+".",
		"Update manifests and API clients to use newer Kubernetes APIs.")
	deprecated.Status.Reason = "No deprecated API usage detected within the last 30 days."
	return []insight{kubelet, versions, healthy, deprecated}
}

func (s *Service) listInsights(r *request) (any, error) {
	var in struct {
		paging
		Filter struct {
			Categories []string `json:"categories"`
			Versions   []string `json:"kubernetesVersions"`
			Statuses   []string `json:"statuses"`
		} `json:"filter"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	c, err := s.findActive(r)
	if err != nil {
		return nil, err
	}
	fits := func(wanted []string, value string) bool { return len(wanted) == 0 || slices.Contains(wanted, value) }
	all := []insight{}
	for _, i := range c.insights(r.now) {
		if fits(in.Filter.Categories, i.Category) && fits(in.Filter.Versions, i.Version) && fits(in.Filter.Statuses, i.Status.Status) {
			all = append(all, i)
		}
	}
	part, next, err := page(all, in.paging, 100)
	return map[string]any{"insights": part, "nextToken": next}, err
}

func (s *Service) describeInsight(r *request) (any, error) {
	c, err := s.findActive(r)
	if err != nil {
		return nil, err
	}
	id, _ := r.Input["id"].(string)
	for _, i := range c.insights(r.now) {
		if i.ID != id {
			continue
		}
		summary := map[string]any{"deprecationDetails": []any{}}
		if i.addons != nil {
			summary["addonCompatibilityDetails"] = i.addons
		}
		return map[string]any{"insight": map[string]any{
			"id": i.ID, "name": i.Name, "category": i.Category, "kubernetesVersion": i.Version, "lastRefreshTime": i.Refreshed, "lastTransitionTime": i.Changed,
			"description": i.Description, "insightStatus": i.Status, "recommendation": i.recommendation, "additionalInfo": map[string]string{}, "resources": []any{},
			"categorySpecificSummary": summary,
		}}, nil
	}
	return nil, notFound("No insight found for ID: %s", id)
}

// startRefresh looks at everything again, which takes a moment.
func (s *Service) startRefresh(r *request) (any, error) {
	c, err := s.findActive(r)
	if err != nil {
		return nil, err
	}
	if c.refresh.IsZero() || !r.now.Before(c.refresh.Add(typical.RefreshInsights)) {
		c.refresh = r.now
	}
	return map[string]any{"message": "Insights refresh is in progress", "status": "IN_PROGRESS"}, nil
}

func (s *Service) describeRefresh(r *request) (any, error) {
	c, err := s.findActive(r)
	if err != nil {
		return nil, err
	}
	if c.refresh.IsZero() {
		return nil, notFound("No insights refresh found for cluster: %s", c.Name)
	}
	ends := c.refresh.Add(typical.RefreshInsights)
	if r.now.Before(ends) {
		return map[string]any{"message": "Insights refresh is in progress", "status": "IN_PROGRESS", "startedAt": timestamp(c.refresh)}, nil
	}
	return map[string]any{"message": "Insights refresh completed", "status": "COMPLETED", "startedAt": timestamp(c.refresh), "endedAt": timestamp(ends)}, nil
}

// none answers the lists of what clusters here never have.
func none(list string) func(*Service, *request) (any, error) {
	return func(s *Service, r *request) (any, error) {
		if _, err := s.find(r); err != nil {
			return nil, err
		}
		return map[string]any{list: []any{}}, nil
	}
}
