package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// Finding is what one look at the working endpoint saw.
type Finding struct {
	Of      string // what: "jumper 10.0.1.20", "connection of vpce-…", "way to the API server by …"
	Status  string // OK, Pending, Failed, Unknown
	Message string
}

// The states of a finding.
const (
	OK      = "ok"
	Pending = "pending"
	Failed  = "failed"
	Unknown = "unknown"
)

// wayTitle is where the way to the API server is tried.
const wayTitle = "way to the API server"

// Health asks what the steps' own looks do not say: which jumpers answer, who is
// connected, and whether the API server answers through all of it, by a TLS handshake
// with its own name and CA. The way is tried at dial, HOST:PORT, or where that is "" at
// the vendor's endpoint, which only a machine in the vendor's network reaches. The plane
// knows the cluster's facts; accept is as in After.
func Health(ctx context.Context, p *plane.Plane, accept []string, dial string) ([]Finding, error) {
	m := newMaker(p, After{Accept: accept})
	group, err := m.targetGroup().Find(ctx, step.Absent) // only which it is
	if err != nil {
		return nil, err
	}
	m.tell("target group")(group)
	offer, err := m.findOffer(ctx)
	if err != nil {
		return nil, err
	}
	m.tellOffer(offer)
	found, err := m.jumpers(ctx)
	if err != nil {
		return nil, err
	}
	var entries []string
	if m.want.Vendor != nil {
		e, _, err := m.findVendorEndpoint(ctx)
		if err != nil {
			return nil, own(err)
		}
		if e != nil {
			m.know("vendor endpoint", aws.ToString(e.VpcEndpointId))
			for _, entry := range e.DnsEntries {
				entries = append(entries, net.JoinHostPort(aws.ToString(entry.DnsName), "443"))
			}
		}
	}
	if offer != nil {
		who, err := m.who(ctx, aws.ToString(offer.ServiceId))
		if err != nil {
			return nil, err
		}
		found = append(found, who...)
	}
	if dial != "" {
		entries = []string{dial}
	}
	return append(found, m.ways(ctx, entries, dial != "")...), nil
}

// jumpers are those that the load balancer knows.
func (m *maker) jumpers(ctx context.Context) ([]Finding, error) {
	targets, err := m.targets(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, t := range targets {
		f := Finding{Of: "jumper", Status: Unknown}
		if t.Target != nil {
			f.Of += " " + aws.ToString(t.Target.Id)
		}
		if h := t.TargetHealth; h != nil {
			f.Message = strings.TrimPrefix(string(h.Reason)+": "+aws.ToString(h.Description), ": ")
			switch h.State {
			case elbtypes.TargetHealthStateEnumHealthy:
				f.Status, f.Message = OK, ""
			case elbtypes.TargetHealthStateEnumInitial, elbtypes.TargetHealthStateEnumDraining:
				f.Status = Pending
			default:
				f.Status = Failed
			}
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		found = append(found, Finding{"jumpers", Failed, "the load balancer knows none"})
	}
	return found, nil
}

// who is connected, or wants to be.
func (m *maker) who(ctx context.Context, service string) ([]Finding, error) {
	all, err := m.connections(ctx, service)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, c := range all {
		if !connected(c) {
			continue
		}
		f := Finding{Of: "connection of " + aws.ToString(c.VpcEndpointId), Status: OK, Message: fmt.Sprintf("%s, of account %s", lower(c.VpcEndpointState), aws.ToString(c.VpcEndpointOwner))}
		switch {
		case !m.expects(c) && !m.undecided(c):
			f.Status, f.Message = Failed, f.Message+": nobody expects it"
		case m.undecided(c) && !m.expects(c) && lower(c.VpcEndpointState) == "pendingacceptance":
			f.Status, f.Message = Pending, f.Message+fmt.Sprintf(": 'biplane private-endpoint apply FILE --accept %s' lets it in", aws.ToString(c.VpcEndpointId))
		case lower(c.VpcEndpointState) != "available":
			f.Status = Pending
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		found = append(found, Finding{"connection of the vendor", Pending, "nobody is connected, and nobody asks to be"})
	}
	return found, nil
}

// ways tries each address. insist: that it cannot be reached is a failure, and not the
// place from which it is tried.
func (m *maker) ways(ctx context.Context, addresses []string, insist bool) []Finding {
	_, _, name, err := m.upstream()
	pem, decoding := base64.StdEncoding.DecodeString(m.One(plane.ClusterCA))
	roots := x509.NewCertPool()
	switch {
	case err != nil:
		return []Finding{{wayTitle, Unknown, "there is no cluster to ask"}}
	case decoding != nil || !roots.AppendCertsFromPEM(pem):
		return []Finding{{wayTitle, Failed, "the cluster's CA cannot be read"}}
	case len(addresses) == 0:
		return []Finding{{wayTitle, Unknown, "where the vendor enters is not known here: 'biplane private-endpoint check FILE --dial HOST:PORT' tries its address"}}
	}
	var found []Finding
	unreachable := 0
	for _, address := range addresses {
		f := Finding{Of: wayTitle + " by " + address}
		took, status, err := cluster.Readyz(ctx, address, name, roots)
		var verification *tls.CertificateVerificationError
		var alert tls.AlertError
		switch {
		case err == nil && status < 500:
			// Who has no token may be refused: it is the API server that does it.
			f.Status, f.Message = OK, fmt.Sprintf("TLS with %s, verified; /readyz answers %d, in %s", name, status, took.Round(time.Millisecond))
		case err == nil:
			f.Status, f.Message = Failed, fmt.Sprintf("TLS with %s, verified; /readyz answers %d", name, status)
		case errors.As(err, &verification):
			f.Status, f.Message = Failed, fmt.Sprintf("what answers is not the cluster: %v", verification)
		case errors.As(err, &alert) || insist:
			f.Status, f.Message = Failed, err.Error()
		default:
			unreachable++
			f.Status, f.Message = Unknown, err.Error()
		}
		found = append(found, f)
	}
	if unreachable == len(found) {
		return []Finding{{wayTitle, Unknown, "not reached from this machine (" + found[0].Message + "): run the check in the vendor's network, or give --dial HOST:PORT"}}
	}
	return slices.DeleteFunc(found, func(f Finding) bool { return f.Status == Unknown }) // another zone's name of the same endpoint
}
