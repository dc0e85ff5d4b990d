package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
)

// domain is the cluster's, as nearly every cluster's.
const domain = "cluster.local"

// hosts writes the /etc/hosts of pods.
type hosts struct {
	lookup func(ctx context.Context, name string) ([]string, error)
	synced chan struct{} // closed once the Services are known

	mu    sync.Mutex
	names map[string][]name // of Services, by the namespace that they are in
	files map[*file]struct{}

	external map[string]resolved // addresses of names outside, by name
}

type resolved struct {
	at        time.Time
	addresses []string
}

// name is a line: an address and what it is called. Within its namespace it
// has the first element alone as well.
type name struct {
	address string
	first   string // "web", or "web-0.web" for a pod of a Service
}

// file is a hosts file that is kept current.
type file struct {
	path      string
	head      string // what does not change
	namespace string
	content   []byte // what is in it
}

// update notes the names of a view and rewrites what has changed. It returns
// when to look again.
func (h *hosts) update(ctx context.Context, v view, log *slog.Logger) (again time.Duration) {
	again = time.Hour
	names := map[string][]name{}
	addresses := map[string][]string{} // of Services, for an ExternalName that names one
	add := func(namespace, first, address string) {
		line := name{address, first}
		if address != "" && !slices.Contains(names[namespace], line) {
			names[namespace] = append(names[namespace], line)
			full := first + "." + namespace + ".svc." + domain
			addresses[full] = append(addresses[full], address)
		}
	}
	for _, s := range v.services {
		if s.external != "" {
			continue
		}
		if !s.headless {
			add(s.object.Namespace, s.object.Name, s.ip)
			continue
		}
		for _, e := range s.endpoints {
			add(s.object.Namespace, s.object.Name, e.ip)
			if e.hostname != "" {
				add(s.object.Namespace, e.hostname+"."+s.object.Name, e.ip)
			}
		}
	}
	external := map[string]resolved{}
	for _, s := range v.services {
		if s.external == "" {
			continue
		}
		found, known := addresses[s.external]
		if !known {
			found = h.resolve(ctx, s.external, external, log)
			again = min(again, lookAgain)
		}
		for _, address := range found {
			add(s.object.Namespace, s.object.Name, address)
		}
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	h.names, h.external = names, external
	for f := range h.files {
		if err := h.write(f); err != nil {
			log.Warn("cannot write a pod's hosts file", "path", f.path, "error", err)
		}
	}
	select {
	case <-h.synced:
	default:
		close(h.synced)
	}
	return again
}

// resolve asks for the addresses of a name outside of the cluster, and keeps
// the last answer while there is none. A name is asked for at most each
// lookAgain, and not waited for long: Services of this cluster wait behind it.
func (h *hosts) resolve(ctx context.Context, of string, known map[string]resolved, log *slog.Logger) []string {
	if r, done := known[of]; done {
		return r.addresses
	}
	last := h.external[of]
	if time.Since(last.at) >= lookAgain {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		addresses, err := h.lookup(ctx, of)
		if err != nil {
			log.Info("cannot resolve an ExternalName", "name", of, "error", err)
		} else {
			last.addresses = addresses
		}
		last.at = time.Now()
	}
	known[of] = last
	return last.addresses
}

// follow adds a file and writes it.
func (h *hosts) follow(path string, pod *v1.Pod) (stop func(), err error) {
	head, err := head(pod)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, head: head, namespace: pod.Namespace}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.write(f); err != nil {
		return nil, err
	}
	if h.files == nil {
		h.files = map[*file]struct{}{}
	}
	h.files[f] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.files, f)
	}, nil
}

// head is the part of a hosts file that a kubelet writes; programs look for its
// first line.
func head(pod *v1.Pod) (string, error) {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("reading the machine's hosts file: %w", err)
		}
		b.Write(own)
		if len(own) > 0 && own[len(own)-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		if pod.Status.PodIP != "" {
			hostname := pod.Spec.Hostname
			if hostname == "" {
				hostname = pod.Name
			}
			b.WriteString(pod.Status.PodIP)
			if pod.Spec.Subdomain != "" {
				fmt.Fprintf(&b, "\t%s.%s.%s.svc.%s", hostname, pod.Spec.Subdomain, pod.Namespace, domain)
			}
			fmt.Fprintf(&b, "\t%s\n", hostname)
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, alias := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
		}
	}
	return b.String(), nil
}

// write brings a file up to date. It stays the same file, because it is mounted
// in a pod; it is overwritten and then cut, so that a reader never finds it empty.
func (h *hosts) write(f *file) error {
	content := []byte(f.head + h.lines(f.namespace))
	if bytes.Equal(content, f.content) {
		return nil
	}
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("opening a hosts file: %w", err)
	}
	_, err = file.WriteAt(content, 0)
	err = errors.Join(err, file.Truncate(int64(len(content))), file.Close())
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.path, err)
	}
	f.content = content
	return nil
}

// lines are the names of Services as a pod in namespace calls them.
func (h *hosts) lines(namespace string) string {
	var namespaces []string
	for n := range h.names {
		namespaces = append(namespaces, n)
	}
	slices.Sort(namespaces)
	var b strings.Builder
	for _, n := range namespaces {
		for _, line := range h.names[n] {
			if _, err := netip.ParseAddr(line.address); err != nil {
				continue // with a zone, or none
			}
			if b.Len() == 0 {
				b.WriteString("\n# Services of the cluster.\n")
			}
			dotted := line.first + "." + n
			fmt.Fprintf(&b, "%s\t%s.svc.%s\t%s.svc\t%s", line.address, dotted, domain, dotted, dotted)
			if n == namespace {
				fmt.Fprintf(&b, "\t%s", line.first)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
