package awsdouble

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// network is what EC2 and Elastic Load Balancing have besides what moto has: states
// that take time, things that other services own, and what refuses to go while it
// is needed. moto keeps the things themselves; this is looked up by their ids.
//
// What is due by the clock happens when somebody looks, see settle.
type network struct {
	clock interface{ Now() time.Time }
	world *world

	settling sync.Mutex // one at a time: it calls moto

	lock      sync.Mutex
	nats      map[string]*natState
	endpoints map[string]*endpointState
	services  map[string]*serviceState // of PrivateLink
	balancers map[string]*balancerState
	// networkBalancers are those of the type network, by what their ARN ends in.
	networkBalancers map[string]bool
	detached         map[string]bool      // internet gateways without a VPC
	interfaces       map[string]ownership // that are not their VPC's owner's
	answers          map[string]answered  // by client token
	logKeys          map[logGroup]string  // given to log groups after they were made
	queues           map[queue]time.Time  // when each was deleted last
	changes          map[string]time.Time // of Route 53, since when they are under way
}

// place is where a thing is.
type place struct{ account, region string }

func (c *call) place() place { return place{c.Account, c.Region} }

// ownership says whose an interface is that a service made.
type ownership struct {
	description, kind string
	groups            []string // its security groups, where moto has others
}

// answered is what a client token was answered with.
type answered struct {
	at     time.Time
	asked  string
	header http.Header
	body   []byte
}

func newNetwork(c interface{ Now() time.Time }, w *world) *network {
	n := &network{clock: c, world: w}
	n.reset()
	return n
}

// reset forgets everything, with the moto that had the things.
func (n *network) reset() {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.nats, n.endpoints, n.services, n.balancers = map[string]*natState{}, map[string]*endpointState{}, map[string]*serviceState{}, map[string]*balancerState{}
	n.networkBalancers = map[string]bool{}
	n.detached, n.interfaces, n.answers = map[string]bool{}, map[string]ownership{}, map[string]answered{}
	n.logKeys, n.queues, n.changes = map[logGroup]string{}, map[queue]time.Time{}, map[string]time.Time{}
}

// rule is what an operation of EC2 is besides moto's.
type rule struct {
	before  func(*Double, context.Context, *call) error                       // may refuse, and change what moto gets
	instead func(*Double, context.Context, *call) (*http.Response, error)     // moto is not asked
	after   func(d *Double, ctx context.Context, c *call, answer *node) error // changes what moto says
}

// ec2Rules are by operation.
var ec2Rules = map[string]rule{
	"CreateVpc":             {after: (*Double).completeVPC},
	"DeleteVpc":             {before: (*Double).vpcFree},
	"DeleteSubnet":          {before: (*Double).subnetFree, after: (*Double).subnetDeleted},
	"DeleteSecurityGroup":   {before: (*Double).groupFree},
	"DetachInternetGateway": {before: (*Double).gatewayFree, after: (*Double).gatewayDetached},
	"AttachInternetGateway": {before: (*Double).gatewayFits, after: (*Double).gatewayAttached},
	"CreateRoute":           {before: (*Double).routeTarget},
	"ReplaceRoute":          {before: (*Double).routeTarget},
	"DeleteRoute":           {before: (*Double).routeNotLocal},
	"DescribeRouteTables":   {before: (*Double).routesByState, after: (*Double).showRoutes},
	"AssociateRouteTable":   {before: (*Double).subnetWithoutTable},
	"DeleteRouteTable":      {before: (*Double).tableNotMain},
	"ReleaseAddress":        {before: (*Double).addressFree},
	"AssociateAddress":      {before: (*Double).addressReachable},
	"DisassociateAddress":   {before: (*Double).addressOwn},
	"CreateSecurityGroup":   {before: (*Double).groupNamed},

	"CreateNatGateway":    {before: (*Double).natFits, after: (*Double).natCreated},
	"DescribeNatGateways": {before: (*Double).allNATs, after: (*Double).showNATs},
	"DeleteNatGateway":    {before: (*Double).natThere, after: (*Double).natDeleted},

	"CreateVpcEndpoint":    {before: (*Double).endpointPossible, after: (*Double).endpointCreated},
	"DescribeVpcEndpoints": {before: (*Double).allEndpoints, after: (*Double).showEndpoints},
	"ModifyVpcEndpoint":    {before: (*Double).endpointModified},
	"DeleteVpcEndpoints":   {instead: (*Double).deleteEndpoints},

	"CreateVpcEndpointServiceConfiguration":         {after: (*Double).serviceCreated},
	"DescribeVpcEndpointServiceConfigurations":      {before: (*Double).allServices, after: (*Double).showServices},
	"ModifyVpcEndpointServiceConfiguration":         {before: (*Double).serviceModified},
	"DeleteVpcEndpointServiceConfigurations":        {instead: (*Double).deleteServices},
	"StartVpcEndpointServicePrivateDnsVerification": {instead: (*Double).verifyName},
	"DescribeVpcEndpointConnections":                {instead: (*Double).showConnections},
	"AcceptVpcEndpointConnections":                  {instead: (*Double).answerConnections},
	"RejectVpcEndpointConnections":                  {instead: (*Double).answerConnections},

	"DescribeVpcEndpointServices": {instead: (*Double).describeServices},

	"DescribeNetworkInterfaces": {before: (*Double).allInterfaces, after: (*Double).showInterfaces},
	"DeleteNetworkInterface":    {before: (*Double).interfaceFree},
	"DetachNetworkInterface":    {before: (*Double).interfaceFree},

	"CreateFlowLogs": {before: (*Double).flowLogRole},

	"DescribeVpcBlockPublicAccessOptions": {instead: (*Double).blockPublicAccess},
}

// ec2 performs a decided call of EC2.
func (d *Double) ec2(ctx context.Context, c *call) (*http.Response, error) {
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	saved, remember, err := d.network.again(c)
	if saved != nil || err != nil {
		return saved, err
	}
	rule := ec2Rules[c.Operation]
	answer, err := d.byRule(ctx, c, rule)
	if err != nil {
		return nil, err
	}
	return remember(answer)
}

func (d *Double) byRule(ctx context.Context, c *call, r rule) (*http.Response, error) {
	if r.before != nil {
		if err := r.before(d, ctx, c); err != nil {
			return nil, err
		}
	}
	if r.instead != nil {
		return r.instead(d, ctx, c)
	}
	answer, err := d.forward(ctx, c)
	if err != nil || r.after == nil {
		return answer, err
	}
	return edit(c, answer, func(root *node) error { return r.after(d, ctx, c, root) })
}

// again finds what a client token was answered with. moto knows no tokens.
func (n *network) again(c *call) (saved *http.Response, remember func(*http.Response) (*http.Response, error), err error) {
	token := c.params.one("ClientToken")
	pass := func(answer *http.Response) (*http.Response, error) { return answer, nil }
	if token == "" {
		return nil, pass, nil
	}
	form := url.Values{}
	for key, values := range c.form {
		if key != "DryRun" {
			form[key] = values
		}
	}
	sum := sha256.Sum256([]byte(form.Encode()))
	asked := hex.EncodeToString(sum[:])
	key := strings.Join([]string{c.Account, c.Region, c.Operation, token}, " ")
	n.lock.Lock()
	defer n.lock.Unlock()
	if seen, ok := n.answers[key]; ok && n.clock.Now().Before(seen.at.Add(typical.KeepTokens)) {
		if seen.asked != asked {
			return nil, nil, &refusal{"IdempotentParameterMismatch", "The client token you have provided is associated with a resource that was made with other parameters.", http.StatusBadRequest}
		}
		return &http.Response{StatusCode: http.StatusOK, Header: seen.header.Clone(), Body: io.NopCloser(strings.NewReader(string(seen.body))), ContentLength: int64(len(seen.body))}, pass, nil
	}
	return nil, func(answer *http.Response) (*http.Response, error) {
		if answer.StatusCode >= 300 {
			return answer, nil
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
		if err != nil {
			return nil, fmt.Errorf("reading the answer to %s: %w", c.Operation, err)
		}
		n.lock.Lock()
		n.answers[key] = answered{n.clock.Now(), asked, answer.Header.Clone(), body}
		n.lock.Unlock()
		answer.Body, answer.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
		return answer, nil
	}, nil
}

// settle lets everything happen that is due.
func (d *Double) settle(ctx context.Context) error {
	d.fresh()
	// The network first: whether nodes join depends on it.
	if err := d.network.settle(ctx); err != nil {
		return err
	}
	return d.world.eks.Settle(ctx)
}

// fresh forgets what went with a moto that died.
func (d *Double) fresh() {
	if now := d.world.moto.runs.Load(); d.seenRuns.Swap(now) != now && now > 1 {
		d.network.reset()
		d.world.eks.Reset()
		d.tasks.forget()
	}
}

func (n *network) settle(ctx context.Context) error {
	n.settling.Lock()
	defer n.settling.Unlock()
	now := n.clock.Now()
	for _, step := range []func(context.Context, time.Time) error{n.settleNATs, n.settleEndpoints, n.settleBalancers} {
		if err := step(ctx, now); err != nil {
			return err
		}
	}
	return nil
}

// due gives copies of the states for which the function says yes.
func due[T any](n *network, states map[string]*T, is func(*T) bool) map[string]T {
	n.lock.Lock()
	defer n.lock.Unlock()
	found := map[string]T{}
	for id, state := range states {
		if is(state) {
			found[id] = *state
		}
	}
	return found
}

// own records an interface as a service's.
func (n *network) own(id, kind, description string, groups []string) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.interfaces[id] = ownership{description, kind, groups}
}

// removeInterface takes a service's interface away. One that is gone is no error.
func (n *network) removeInterface(ctx context.Context, at place, id string) error {
	_, err := n.do(ctx, at, "DeleteNetworkInterface", "NetworkInterfaceId", id)
	if refused, ok := errors.AsType[*motoRefusal](err); ok && strings.HasPrefix(refused.code, "InvalidNetworkInterfaceID") {
		err = nil
	}
	if err == nil {
		n.lock.Lock()
		delete(n.interfaces, id)
		n.lock.Unlock()
	}
	return err
}

// do has moto's EC2 do something that a service does by itself.
func (n *network) do(ctx context.Context, at place, operation string, parameters ...string) (*node, error) {
	return n.world.do(ctx, at.account, at.region, want{service: "ec2", operation: operation, form: parameters})
}

// look asks moto's EC2; filter is a name and a value, or empty.
func (n *network) look(ctx context.Context, at place, operation string, filters ...string) (*node, error) {
	var form []string
	for i := 0; i+1 < len(filters); i += 2 {
		form = append(form, fmt.Sprintf("Filter.%d.Name", i/2+1), filters[i], fmt.Sprintf("Filter.%d.Value.1", i/2+1), filters[i+1])
	}
	answer, err := n.do(ctx, at, operation, form...)
	if isAbsent(err) {
		return &node{}, nil
	}
	return answer, err
}

// filters are those of a call: values by name.
func filters(c *call) map[string][]string {
	all := map[string][]string{}
	for _, f := range c.params.at("Filter.*") {
		all[f.one("Name")] = append(all[f.one("Name")], f.all("Value.*")...)
	}
	return all
}

// withoutFilters takes filters out of what moto gets: those of which drop says so.
func withoutFilters(c *call, drop func(name string) bool) {
	form := url.Values{}
	for key, values := range c.form {
		if !strings.HasPrefix(key, "Filter.") {
			form[key] = values
		}
	}
	number := 0
	for _, f := range c.params.at("Filter.*") {
		if drop(f.one("Name")) {
			continue
		}
		number++
		form.Set(fmt.Sprintf("Filter.%d.Name", number), f.one("Name"))
		for i, value := range f.all("Value.*") {
			form.Set(fmt.Sprintf("Filter.%d.Value.%d", number, i+1), value)
		}
	}
	c.form = form
}

// fits says whether one of a filter's values is among those given; a filter's
// values may have *. No values fit everything.
func fits(wanted []string, have ...string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(pattern string) bool {
		return slices.ContainsFunc(have, func(value string) bool { return wildcard(pattern, value) })
	})
}

// wildcard matches EC2's patterns: * is any text, ? any character.
func wildcard(pattern, value string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			for i := 0; i <= len(value); i++ {
				if wildcard(pattern[1:], value[i:]) {
					return true
				}
			}
			return false
		case '?':
			if value == "" {
				return false
			}
		default:
			if value == "" || value[0] != pattern[0] {
				return false
			}
		}
		pattern, value = pattern[1:], value[1:]
	}
	return value == ""
}

// taggedAs applies the filters on tags to an item of an answer.
func taggedAs(filters map[string][]string, item *node) bool {
	tags := map[string]string{}
	for _, tag := range item.items("tagSet") {
		tags[tag.one("key")] = tag.one("value")
	}
	for name, values := range filters {
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			value, has := tags[key]
			if !has || !fits(values, value) {
				return false
			}
		}
		if name == "tag-key" && !slices.ContainsFunc(values, func(key string) bool { _, has := tags[key]; return has }) {
			return false
		}
	}
	return true
}

func dependency(format string, args ...any) error {
	return &refusal{"DependencyViolation", fmt.Sprintf(format, args...), http.StatusBadRequest}
}

func ec2Error(code, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...), http.StatusBadRequest}
}

// blockPublicAccess says that nothing is blocked: moto does not have this.
func (d *Double) blockPublicAccess(_ context.Context, c *call) (*http.Response, error) {
	return inXML(c, branch("", leaf("requestId", newRequestID()), branch("vpcBlockPublicAccessOptions",
		leaf("awsAccountId", c.Account), leaf("awsRegion", c.Region), leaf("state", "default-state"),
		leaf("internetGatewayBlockMode", "off"), leaf("managedBy", "account"), leaf("exclusionsAllowed", "allowed")))), nil
}

// interfaceFilters are those that are applied here, because moto has other values.
var interfaceFilters = []string{"status", "description", "interface-type", "requester-managed", "group-id"}

func (d *Double) allInterfaces(_ context.Context, c *call) error {
	withoutFilters(c, func(name string) bool { return slices.Contains(interfaceFilters, name) })
	return nil
}

// showInterfaces shows those that a service has as in use, and as its.
func (d *Double) showInterfaces(ctx context.Context, c *call, answer *node) error {
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	for _, item := range answer.items("networkInterfaceSet") {
		owned, ok := n.interfaces[item.one("networkInterfaceId")]
		if !ok {
			continue
		}
		item.set("status", "in-use")
		item.set("requesterManaged", "true")
		item.set("interfaceType", owned.kind)
		item.set("description", owned.description)
		attachment := item.child("attachment")
		attachment.set("attachmentId", "ela-attach-"+strings.TrimPrefix(item.one("networkInterfaceId"), "eni-"))
		attachment.set("status", "attached")
		attachment.set("instanceOwnerId", "amazon-aws")
		if owned.groups != nil {
			groups := item.child("groupSet")
			groups.children = nil
			for _, id := range owned.groups {
				groups.children = append(groups.children, branch("item", leaf("groupId", id)))
			}
		}
	}
	wanted := filters(c)
	if list := answer.get("networkInterfaceSet"); list != nil {
		list.keep(func(item *node) bool {
			return fits(wanted["status"], item.one("status")) && fits(wanted["description"], item.one("description"))
		})
	}
	return nil
}

func (d *Double) interfaceFree(ctx context.Context, c *call) error {
	id := c.params.one("NetworkInterfaceId")
	if attachment := c.params.one("AttachmentId"); strings.HasPrefix(attachment, "ela-attach-") {
		id = "eni-" + strings.TrimPrefix(attachment, "ela-attach-")
	}
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	if _, ok := n.interfaces[id]; ok {
		if c.Operation == "DetachNetworkInterface" {
			return &refusal{"OperationNotPermitted", "You are not allowed to manage 'ela-attach' attachments.", http.StatusBadRequest}
		}
		return ec2Error("InvalidParameterValue", "Network interface '%s' is currently in use.", id)
	}
	return nil
}

// flowLogRole refuses a role that the flow logs cannot take, or not yet.
func (d *Double) flowLogRole(ctx context.Context, c *call) error {
	arn := c.params.one("DeliverLogsPermissionArn")
	if arn == "" {
		return nil
	}
	role, err := d.world.Role(ctx, arn)
	if err != nil {
		return err
	}
	if role == nil || !slices.Contains(role.Trusts, "vpc-flow-logs.amazonaws.com") {
		return ec2Error("InvalidParameter", "Unable to assume given IAM role")
	}
	return nil
}

func number(i int) string { return strconv.Itoa(i) }

// randomHex is n hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, (n+1)/2)
	rand.Read(b)
	return hex.EncodeToString(b)[:n]
}

// randomLower is n letters and digits.
func randomLower(n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, n)
	rand.Read(b)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}
