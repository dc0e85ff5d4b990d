package services

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// view is what the cluster's Services come to.
type view struct {
	services  []service // by namespace and name
	wantsPods bool      // there is a Service whose endpoints are pods
}

// service is one Service.
type service struct {
	object    *v1.Service // for events, and names
	ip        string      // its own address; "" when it has none
	external  string      // the name it stands for, of type ExternalName
	headless  bool
	apiServer bool       // it is "kubernetes", the API server
	endpoints []endpoint // those that take part now
	ports     []port
	affinity  time.Duration // how long a client stays with a backend; 0 when it need not
}

// endpoint is a pod, or an address of an EndpointSlice.
type endpoint struct {
	ip       string
	hostname string // with the Service's name, a name of its own
}

// port is a port of a Service that has an address.
type port struct {
	protocol string // "tcp" or "udp"
	number   int32
	node     int32    // NodePort; 0 for none
	backends []string // host:port, those that take part now
}

// read makes the view of what is known now.
func (s *Services) read() view {
	var v view
	var pods []*v1.Pod
	for _, object := range s.pods.GetStore().List() {
		pods = append(pods, object.(*v1.Pod))
	}
	byService := map[string][]*discovery.EndpointSlice{}
	for _, object := range s.slices.GetStore().List() {
		slice := object.(*discovery.EndpointSlice)
		if name := slice.Labels[discovery.LabelServiceName]; name != "" && slice.AddressType != discovery.AddressTypeFQDN {
			byService[slice.Namespace+"/"+name] = append(byService[slice.Namespace+"/"+name], slice)
		}
	}
	for _, object := range s.services.GetStore().List() {
		o := object.(*v1.Service)
		headless := o.Spec.ClusterIP == v1.ClusterIPNone
		of := service{object: o, headless: headless}
		if !headless {
			of.ip = o.Spec.ClusterIP
		}
		switch {
		case o.Spec.Type == v1.ServiceTypeExternalName:
			of.external = strings.TrimSuffix(o.Spec.ExternalName, ".")
		case o.Namespace == "default" && o.Name == "kubernetes":
			of.apiServer = true
			of.ports = ports(o, func(v1.ServicePort) []string { return []string{s.cfg.APIServer} })
		case len(o.Spec.Selector) > 0:
			v.wantsPods = v.wantsPods || s.cfg.Listen || headless
			chosen := choose(o, pods)
			for _, p := range chosen {
				of.endpoints = append(of.endpoints, endpoint{p.Status.PodIP, hostnameIn(o, p)})
			}
			of.ports = ports(o, func(port v1.ServicePort) []string { return ofPods(port, chosen) })
		default:
			known := byService[o.Namespace+"/"+o.Name]
			slices.SortFunc(known, func(a, b *discovery.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
			of.endpoints = endpointsOf(known)
			of.ports = ports(o, func(port v1.ServicePort) []string { return ofSlices(port, known) })
		}
		if o.Spec.SessionAffinity == v1.ServiceAffinityClientIP {
			of.affinity = time.Duration(v1.DefaultClientIPServiceAffinitySeconds) * time.Second
			if c := o.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
				of.affinity = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
			}
		}
		v.services = append(v.services, of)
	}
	slices.SortFunc(v.services, func(a, b service) int {
		return strings.Compare(a.object.Namespace+"/"+a.object.Name, b.object.Namespace+"/"+b.object.Name)
	})
	return v
}

// choose returns the pods that take part in a Service: those that are ready, or
// when there is none those that were until they were told to end; all that run
// for one that publishes them so.
func choose(o *v1.Service, pods []*v1.Pod) []*v1.Pod {
	selector := labels.SelectorFromSet(o.Spec.Selector)
	var ready, ending []*v1.Pod
	for _, p := range pods {
		switch {
		case p.Namespace != o.Namespace || !selector.Matches(labels.Set(p.Labels)),
			p.Status.PodIP == "", p.Status.Phase == v1.PodSucceeded, p.Status.Phase == v1.PodFailed:
		case o.Spec.PublishNotReadyAddresses:
			ready = append(ready, p)
		case !isReady(p):
		case p.DeletionTimestamp != nil:
			ending = append(ending, p)
		default:
			ready = append(ready, p)
		}
	}
	if ready == nil {
		ready = ending
	}
	slices.SortFunc(ready, func(a, b *v1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return ready
}

func isReady(p *v1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

// hostnameIn is the name of its own that a pod has in its Service.
func hostnameIn(o *v1.Service, p *v1.Pod) string {
	if p.Spec.Subdomain == o.Name {
		return p.Spec.Hostname
	}
	return ""
}

// ports are those of a Service that forwards.
func ports(o *v1.Service, backends func(v1.ServicePort) []string) []port {
	var all []port
	for _, p := range o.Spec.Ports {
		protocol := map[v1.Protocol]string{v1.ProtocolTCP: "tcp", "": "tcp", v1.ProtocolUDP: "udp"}[p.Protocol]
		if protocol == "" {
			continue // SCTP
		}
		to := backends(p)
		slices.Sort(to)
		all = append(all, port{protocol, p.Port, p.NodePort, slices.Compact(to)}) // pods that share an address are one backend
	}
	return all
}

// ofPods are the backends of a port in pods: its number, or the port of that
// name in each of them.
func ofPods(p v1.ServicePort, pods []*v1.Pod) []string {
	var to []string
	for _, pod := range pods {
		number := p.TargetPort.IntVal
		if p.TargetPort.Type == intstr.String {
			number = named(pod, p.TargetPort.StrVal, p.Protocol)
		} else if number == 0 {
			number = p.Port
		}
		if number != 0 {
			to = append(to, hostPort(pod.Status.PodIP, number))
		}
	}
	return to
}

func named(pod *v1.Pod, name string, protocol v1.Protocol) int32 {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name && p.Protocol == protocol {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func ofSlices(p v1.ServicePort, known []*discovery.EndpointSlice) []string {
	var to []string
	for _, slice := range known {
		for _, sp := range slice.Ports {
			sameName := sp.Name == nil && p.Name == "" || sp.Name != nil && *sp.Name == p.Name
			sameProtocol := sp.Protocol == nil && p.Protocol == v1.ProtocolTCP || sp.Protocol != nil && *sp.Protocol == p.Protocol
			if !sameName || !sameProtocol || sp.Port == nil {
				continue
			}
			for _, e := range endpointsOf([]*discovery.EndpointSlice{slice}) {
				to = append(to, hostPort(e.ip, *sp.Port))
			}
		}
	}
	return to
}

func endpointsOf(known []*discovery.EndpointSlice) []endpoint {
	var all []endpoint
	for _, slice := range known {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			hostname := ""
			if e.Hostname != nil {
				hostname = *e.Hostname
			}
			all = append(all, endpoint{e.Addresses[0], hostname})
		}
	}
	return all
}

func hostPort(ip string, port int32) string { return net.JoinHostPort(ip, strconv.Itoa(int(port))) }

// isLoopback says whether an address is one that can be answered for.
func isLoopback(ip string) bool {
	parsed, err := netip.ParseAddr(ip)
	return err == nil && parsed.IsLoopback()
}
