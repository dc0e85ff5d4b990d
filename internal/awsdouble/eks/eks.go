// Package eks is Amazon EKS in memory: clusters, their node groups, add-ons,
// access entries, Pod Identity associations, updates and insights, with the states
// that they go through, by a clock. It decides nothing about who may ask: whoever
// calls Serve has done that. What a cluster has in its account besides EKS
// (interfaces, a security group, a log group) it makes and removes through Cloud.
//
// Nothing runs in it: what is due by the clock happens when somebody looks, see
// Settle. Nothing is kept on disk.
//
// Where things are:
//
//	eks.go       Service, Call, Serve and the table of operations
//	cloud.go     what EKS sees and does outside of itself
//	cluster.go   clusters: create, describe, list, delete
//	update.go    what is changed of a cluster, one change at a time
//	nodegroup.go node groups, and why their nodes do not join
//	addon.go     add-ons
//	access.go    access entries and their policies
//	podidentity.go, insight.go, tags.go
//	catalog.go   the versions of Kubernetes and of the add-ons
//	check.go     what requests may say wherever they say it
//	errors.go    errors and paging
package eks

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// Options of a Service.
type Options struct {
	Clock interface{ Now() time.Time } // what the states go by
	Cloud Cloud
	// Backing gives the API server and the issuer that a new cluster shows, where a
	// real one stands behind it; nil for made-up ones. See Backing.
	Backing func(w Where, name string) (Backing, bool)
	Log     *slog.Logger // nothing by default
}

// Backing is a real API server behind a cluster.
type Backing struct {
	Endpoint string // https://…
	CA       []byte // PEM
	Issuer   string // of service-account tokens
}

// A Call is one request, decided already.
type Call struct {
	Operation string
	Where     Where
	Principal string // ARN of the role or user that calls
	Input     map[string]any
	Fail      bool // what the call makes shall end badly: for tests of faults
}

// Where is the account and region of a call.
type Where struct{ Partition, Account, Region string }

func (w Where) arn(service, resource string) string {
	return "arn:" + w.Partition + ":" + service + ":" + w.Region + ":" + w.Account + ":" + resource
}

// Service is EKS for any number of accounts and regions. Its methods may be
// called from many goroutines.
type Service struct {
	clock   interface{ Now() time.Time }
	cloud   Cloud
	backing func(Where, string) (Backing, bool)
	log     *slog.Logger
	ca      func() string // base64 of a PEM, of clusters that are backed by nothing

	lock     sync.Mutex
	clusters map[Where]map[string]*cluster
	tokens   map[string]remembered // by account, region, operation and client request token
}

// remembered is what was asked under a client request token.
type remembered struct {
	asked, arn string
	at         time.Time
}

// New returns a Service without clusters.
func New(o Options) *Service {
	s := &Service{clock: o.Clock, cloud: o.Cloud, backing: o.Backing, log: o.Log, clusters: map[Where]map[string]*cluster{}, tokens: map[string]remembered{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.backing == nil {
		s.backing = func(Where, string) (Backing, bool) { return Backing{}, false }
	}
	s.ca = sync.OnceValue(newAuthority)
	return s
}

// operations are all that is answered, by the SDK's name.
var operations = map[string]func(*Service, *request) (any, error){
	"CreateCluster":           (*Service).createCluster,
	"DescribeCluster":         (*Service).describeCluster,
	"ListClusters":            (*Service).listClusters,
	"DeleteCluster":           (*Service).deleteCluster,
	"DescribeClusterVersions": (*Service).describeClusterVersions,

	"UpdateClusterConfig":       (*Service).updateClusterConfig,
	"UpdateClusterVersion":      (*Service).updateClusterVersion,
	"AssociateEncryptionConfig": (*Service).associateEncryptionConfig,
	"DescribeUpdate":            (*Service).describeUpdate,
	"ListUpdates":               (*Service).listUpdates,

	"CreateNodegroup":        (*Service).createNodegroup,
	"DescribeNodegroup":      (*Service).describeNodegroup,
	"ListNodegroups":         (*Service).listNodegroups,
	"UpdateNodegroupConfig":  (*Service).updateNodegroupConfig,
	"UpdateNodegroupVersion": (*Service).updateNodegroupVersion,
	"DeleteNodegroup":        (*Service).deleteNodegroup,

	"DescribeAddonVersions":      (*Service).describeAddonVersions,
	"DescribeAddonConfiguration": (*Service).describeAddonConfiguration,
	"CreateAddon":                (*Service).createAddon,
	"DescribeAddon":              (*Service).describeAddon,
	"ListAddons":                 (*Service).listAddons,
	"UpdateAddon":                (*Service).updateAddon,
	"DeleteAddon":                (*Service).deleteAddon,

	"CreateAccessEntry":            (*Service).createAccessEntry,
	"DescribeAccessEntry":          (*Service).describeAccessEntry,
	"ListAccessEntries":            (*Service).listAccessEntries,
	"UpdateAccessEntry":            (*Service).updateAccessEntry,
	"DeleteAccessEntry":            (*Service).deleteAccessEntry,
	"AssociateAccessPolicy":        (*Service).associateAccessPolicy,
	"DisassociateAccessPolicy":     (*Service).disassociateAccessPolicy,
	"ListAssociatedAccessPolicies": (*Service).listAssociatedAccessPolicies,
	"ListAccessPolicies":           (*Service).listAccessPolicies,

	"CreatePodIdentityAssociation":   (*Service).createPodIdentity,
	"DescribePodIdentityAssociation": (*Service).describePodIdentity,
	"ListPodIdentityAssociations":    (*Service).listPodIdentities,
	"UpdatePodIdentityAssociation":   (*Service).updatePodIdentity,
	"DeletePodIdentityAssociation":   (*Service).deletePodIdentity,

	"ListInsights":            (*Service).listInsights,
	"DescribeInsight":         (*Service).describeInsight,
	"StartInsightsRefresh":    (*Service).startRefresh,
	"DescribeInsightsRefresh": (*Service).describeRefresh,

	"ListFargateProfiles":         none("fargateProfileNames"),
	"ListIdentityProviderConfigs": none("identityProviderConfigs"),
	"ListCapabilities":            none("capabilities"),

	"TagResource":         (*Service).tagResource,
	"UntagResource":       (*Service).untagResource,
	"ListTagsForResource": (*Service).listTags,
}

// A request is a Call being served.
type request struct {
	Call
	ctx context.Context
	now time.Time
}

// Serve performs a call and returns the answer's JSON. Its errors are *Error, or
// what Cloud failed at.
func (s *Service) Serve(ctx context.Context, c Call) ([]byte, error) {
	operation, ok := operations[c.Operation]
	if !ok {
		return nil, notImplemented("The AWS double has no " + c.Operation + " of EKS.")
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	r := &request{Call: c, ctx: ctx, now: s.clock.Now()}
	if err := s.settle(r.ctx, r.now); err != nil {
		return nil, err
	}
	answer, err := operation(s, r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// Settle lets everything happen that is due by the clock. Serve does so too;
// whoever looks at what EKS has in the account, past EKS, calls it before.
func (s *Service) Settle(ctx context.Context) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.settle(ctx, s.clock.Now())
}

func (s *Service) settle(ctx context.Context, now time.Time) error {
	for where, clusters := range s.clusters {
		for name, c := range clusters {
			if gone, err := s.settleCluster(ctx, c, now); err != nil {
				return fmt.Errorf("bringing cluster %s to its next state: %w", name, err)
			} else if gone {
				delete(s.clusters[where], name)
			}
		}
	}
	return nil
}

// ARN finds what a call names: kind is cluster, nodegroup, addon, access-entry or
// podidentityassociation, name what tells it in its cluster. "" is nothing.
func (s *Service) ARN(w Where, kind, cluster, name string) string {
	s.lock.Lock()
	defer s.lock.Unlock()
	c := s.clusters[w][cluster]
	if c == nil {
		return ""
	}
	switch kind {
	case "cluster":
		return c.ARN
	case "nodegroup":
		if n := c.nodegroups[name]; n != nil {
			return n.ARN
		}
	case "addon":
		if a := c.addons[name]; a != nil {
			return a.ARN
		}
	case "access-entry":
		if e := c.entries[name]; e != nil {
			return e.ARN
		}
	case "podidentityassociation":
		if p := c.identities[name]; p != nil {
			return p.ARN
		}
	}
	return ""
}

// into reads a call's parameters into a struct with their names.
func (r *request) into(v any) error {
	text, err := json.Marshal(r.Input)
	if err != nil {
		return fmt.Errorf("writing the parameters of %s: %w", r.Operation, err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &Error{"SerializationException", "A parameter is of another type: " + err.Error(), 400, nil}
	}
	return nil
}

// again looks a client request token up: what was made under it, or "" where it is
// new. A token that comes with other parameters is refused.
func (s *Service) again(r *request) (arn string, remember func(arn string), err error) {
	token, _ := r.Input["clientRequestToken"].(string)
	if token == "" {
		return "", func(string) {}, nil
	}
	text, err := json.Marshal(r.Input) // keys come sorted
	if err != nil {
		return "", nil, fmt.Errorf("writing the parameters of %s: %w", r.Operation, err)
	}
	sum := sha256.Sum256(text)
	asked := hex.EncodeToString(sum[:])
	key := r.Where.Account + " " + r.Where.Region + " " + r.Operation + " " + token
	if seen, ok := s.tokens[key]; ok && r.now.Before(seen.at.Add(typical.KeepTokens)) {
		if seen.asked != asked {
			return "", nil, invalidParameter("The client request token %s was used with other parameters.", token)
		}
		return seen.arn, func(string) {}, nil
	}
	return "", func(arn string) { s.tokens[key] = remembered{asked, arn, r.now} }, nil
}

// timestamp is a moment as EKS writes it: seconds since 1970.
type timestamp time.Time

func (t timestamp) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(t).UnixMilli())/1000, 'f', 3, 64), nil
}

// number is a whole number, which stands as text in a query.
type number int

func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.Atoi(strings.Trim(string(b), `"`))
	*n = number(v)
	return err
}

// truth is a boolean, which stands as text in a query.
type truth bool

func (t *truth) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseBool(strings.Trim(string(b), `"`))
	*t = truth(v)
	return err
}

// words is a list, of which a query with one member has a text.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var one string
		err := json.Unmarshal(b, &one)
		*w = words{one}
		return err
	}
	return json.Unmarshal(b, (*[]string)(w))
}

func randomHex(n int) string {
	b := make([]byte, (n+1)/2)
	rand.Read(b)
	return hex.EncodeToString(b)[:n]
}

func randomUUID() string {
	h := randomHex(32)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

// newAuthority is the certificate of made-up clusters' authority: one that can be
// parsed, and whose key nobody has.
func newAuthority() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ""
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Reset forgets every cluster, as when what is around them is gone.
func (s *Service) Reset() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.clusters, s.tokens = map[Where]map[string]*cluster{}, map[string]remembered{}
}
