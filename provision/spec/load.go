package spec

import (
	"errors"
	"path/filepath"
	"strings"

	"biplane.dev/biplane/internal/configfile"
	"biplane.dev/biplane/internal/usererr"
)

// Load reads a file, fills the defaults in, and refuses what cannot be built. Every
// error is a *usererr.Error of one sentence.
func Load(file string) (*DataPlane, error) {
	dp := &DataPlane{}
	if err := configfile.Load(file, configfile.Header{APIVersion: APIVersion, Kind: Kind}, dp); err != nil {
		var said *usererr.Error
		if errors.As(err, &said) && strings.Contains(said.Hint, "docs/configuration.md") {
			said.Hint = "docs/dataplane-file.md has every key, with an example"
		}
		return nil, err
	}
	if c := dp.Spec.ControlPlane; c != nil {
		c.TokenFile, c.ValuesFile = beside(file, c.TokenFile), beside(file, c.ValuesFile)
	}
	dp.Defaults()
	if err := dp.validate(); err != nil {
		return nil, err
	}
	return dp, nil
}

// beside is a path of a file as the file means it: from its own folder.
func beside(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// Defaults fills in what the file leaves out.
func (dp *DataPlane) Defaults() {
	s := &dp.Spec
	setDefault(&s.Access.Policy, Strict)
	setDefault(&s.WorkspaceRoles, PerServiceAccount)
	if n := s.Network.Create; n != nil {
		setDefault(&n.Zones, 3)
		setDefault(&n.NAT, NATPerZone)
		setDefault(&n.Endpoints, RecommendedEndpoints)
		if n.FlowLogDays == nil {
			days := 30
			n.FlowLogDays = &days
		}
	}
	c := &s.Cluster
	setDefault(&c.Endpoint, PublicAddress)
	setDefault(&c.LogDays, 30)
	setDefault(&c.KeyDeletionDays, 30)
	if len(c.PublicCIDRs) == 0 {
		c.PublicCIDRs = []string{"0.0.0.0/0"}
	}
	if len(c.NodeGroups) == 0 {
		c.NodeGroups = []NodeGroup{{Name: "system"}}
	}
	for i := range c.NodeGroups {
		g := &c.NodeGroups[i]
		if len(g.InstanceTypes) == 0 {
			g.InstanceTypes = []string{"m6i.xlarge"}
		}
		setDefault(&g.Min, 2)
		setDefault(&g.Max, max(4, g.Min))
		setDefault(&g.DiskGiB, 80)
	}
	setDefault(&s.Buckets.Suffix, s.Account)
	if len(s.Registry.Repositories) == 0 {
		s.Registry.Repositories = []string{dp.Metadata.Name}
	}
	setDefault(&s.Registry.UntaggedDays, 14)
	setDefault(&s.PrivateEndpoint.Tasks, 2)
	if v := s.PrivateEndpoint.Vendor; v != nil {
		setDefault(&v.Region, s.Region)
	}
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}
