package store

import (
	"strings"
	"sync"
)

// Topic is what can be waited for.
type Topic struct {
	name string
}

// Names may hold anything, and a topic must not be another's.
func topic(kind string, names ...string) Topic {
	escape := strings.NewReplacer("%", "%25", "/", "%2F", "\x00", "%00")
	for i := range names {
		names[i] = escape.Replace(names[i])
	}
	return Topic{kind + "/" + strings.Join(names, "/")}
}

// RunTopic wakes at every change of a run or of an action of it.
func RunTopic(run RunKey) Topic {
	return topic("run", run.Organization, run.Project, run.Domain, run.Name)
}

// WorkspaceTopic wakes when a run of the workspace, or a root action of one, is
// made or changes.
func WorkspaceTopic(organization, project, domain string) Topic {
	return topic("workspace", organization, project, domain)
}

// OrganizationTopic is WorkspaceTopic for all workspaces of an organisation.
func OrganizationTopic(organization string) Topic {
	return topic("organization", organization)
}

// ClusterTopic wakes when there is something to hand over to the cluster, and when
// it is drained, joined or removed or its certificates change.
func ClusterTopic(organization, cluster string) Topic {
	return topic("cluster", organization, cluster)
}

// SpecTopic wakes when a task spec that was missing has come: see ActionDetails.
func SpecTopic(organization, digest string) Topic {
	return topic("spec", organization, digest)
}

// ConfigTopic wakes when the configuration of a cluster of the organisation may
// have changed.
func ConfigTopic(organization string) Topic {
	return topic("config", organization)
}

// HoldersTopic wakes when a process has got or lost the tunnel of a cluster of the
// organisation.
func HoldersTopic(organization string) Topic {
	return topic("holders", organization)
}

// Watch wakes its caller whenever the topic may have changed since the last wake.
// A wake carries no state and several may come as one: read the store again, from
// the revision that was read last. So that none is missed, call Watch first and
// read afterwards. The channel is woken when Watch returns, and closed by Close.
// stop may be called more than once.
func (s *Store) Watch(topic Topic) (woken <-chan struct{}, stop func()) {
	return s.hub.watch(topic.name)
}

// hub passes wake-ups on within the process.
type hub struct {
	mu      sync.Mutex
	watches map[string]map[chan struct{}]struct{} // by topic
	closed  bool
}

func newHub() *hub { return &hub{watches: map[string]map[chan struct{}]struct{}{}} }

func (h *hub) watch(topic string) (<-chan struct{}, func()) {
	// One is enough: who has not looked yet will see everything when he does.
	woken := make(chan struct{}, 1)
	woken <- struct{}{}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(woken)
		return woken, func() {}
	}
	if h.watches[topic] == nil {
		h.watches[topic] = map[chan struct{}]struct{}{}
	}
	h.watches[topic][woken] = struct{}{}
	return woken, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watches[topic], woken)
		if len(h.watches[topic]) == 0 {
			delete(h.watches, topic)
		}
	}
}

func (h *hub) wake(topics ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, topic := range topics {
		for woken := range h.watches[topic] {
			rouse(woken)
		}
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, watches := range h.watches {
		for woken := range watches {
			rouse(woken)
		}
	}
}

func rouse(woken chan struct{}) {
	select {
	case woken <- struct{}{}:
	default: // woken already
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, watches := range h.watches {
		for woken := range watches {
			close(woken)
		}
	}
	clear(h.watches)
}
