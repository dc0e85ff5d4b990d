package awsdouble

import (
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The kinds of fault.
const (
	Throttle FaultKind = "throttle" // refused for being too many, in the service's own words
	Broken   FaultKind = "error"    // refused with a 5xx status, not performed
	Lost     FaultKind = "lost"     // performed, and the connection cut before the answer
	Slow     FaultKind = "latency"  // performed after a while
	Fail     FaultKind = "fail"     // performed, and what it makes ends in the state FAILED or the like, where it has one
	Quota    FaultKind = "quota"    // refused for want of a quota, in the service's own words
	SCP      FaultKind = "scp"      // denied by a service control policy of the organization
	Expired  FaultKind = "expired"  // refused because the session is over
)

// A Fault happens to calls that it matches.
type Fault struct {
	Kind      FaultKind
	Service   string        // as IAM calls it; "" for all
	Operation string        // may have *; "" for all
	Count     int           // how many times; 0 for always
	After     int           // how many matching calls go well before
	Every     int           // every n-th matching call; 0 and 1 for each
	For       time.Duration // for how long after it first happened, by the double's clock; 0 for always
	Status    int           // of an error; 500 by default
	Delay     time.Duration // of latency
}

// FaultGrammar is how ParseFault wants a fault, for help texts.
const FaultGrammar = "KIND[:SERVICE[:OPERATION]][,count=N][,after=N][,every=N][,for=DURATION][,status=N][,delay=DURATION]"

// ParseFault reads FaultGrammar: "throttle:ec2,every=3", "lost:iam:Create*,count=1".
func ParseFault(text string) (Fault, error) {
	bad := func(format string, args ...any) (Fault, error) {
		return Fault{}, fmt.Errorf("fault %q: %s; write it as %s", text, fmt.Sprintf(format, args...), FaultGrammar)
	}
	head, rest, _ := strings.Cut(text, ",")
	kind, where, _ := strings.Cut(head, ":")
	f := Fault{Kind: FaultKind(kind)}
	f.Service, f.Operation, _ = strings.Cut(where, ":")
	switch f.Kind {
	case Throttle, Broken, Lost, Slow, Fail, Quota, SCP, Expired:
	default:
		return bad("%q is none of throttle, error, lost, latency, fail, quota, scp and expired", kind)
	}
	if _, err := path.Match(f.Operation, ""); err != nil || strings.Contains(f.Operation, ":") {
		return bad("%q is no operation", f.Operation)
	}
	if rest != "" {
		for option := range strings.SplitSeq(rest, ",") {
			name, value, _ := strings.Cut(option, "=")
			var err error
			switch name {
			case "count":
				f.Count, err = positive(value)
			case "after":
				f.After, err = positive(value)
			case "every":
				f.Every, err = positive(value)
			case "for":
				if f.For, err = time.ParseDuration(value); err == nil && f.For <= 0 {
					err = fmt.Errorf("it is not above 0")
				}
			case "status":
				if f.Status, err = strconv.Atoi(value); err == nil && (f.Status < 500 || f.Status > 599 || f.Kind != Broken) {
					err = fmt.Errorf("only an error has one, from 500 to 599")
				}
			case "delay":
				if f.Delay, err = time.ParseDuration(value); err == nil && (f.Delay <= 0 || f.Kind != Slow) {
					err = fmt.Errorf("only latency has one, above 0")
				}
			default:
				return bad("there is no option %q", name)
			}
			if err != nil {
				return bad("%s=%s cannot be used: %v", name, value, err)
			}
		}
	}
	if f.Kind == Slow && f.Delay == 0 {
		return bad("latency needs delay=, such as delay=200ms")
	}
	return f, nil
}

func positive(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("it is no whole number above 0")
	}
	return n, nil
}

// faults counts what has happened.
type faults struct {
	clock interface{ Now() time.Time }
	lock  sync.Mutex
	list  []armed
}

type armed struct {
	Fault
	seen, done int
	first      time.Time // when it happened
}

func arm(list []Fault, clock interface{ Now() time.Time }) *faults {
	f := &faults{clock: clock}
	for _, one := range list {
		f.list = append(f.list, armed{Fault: one})
	}
	return f
}

// Arm has faults happen from now on, beside those that do already.
func (d *Double) Arm(list ...Fault) {
	d.faults.lock.Lock()
	defer d.faults.lock.Unlock()
	for _, one := range list {
		d.faults.list = append(d.faults.list, armed{Fault: one})
	}
}

// strike says what happens to a call: how long it takes, whether its answer is
// lost, and how it is refused, if it is.
func (f *faults) strike(c *call) (delay time.Duration, lost bool, refused *refusal) {
	f.lock.Lock()
	defer f.lock.Unlock()
	now := f.clock.Now()
	for i := range f.list {
		one := &f.list[i]
		if one.Kind == Lost || !one.matches(c) || !one.due(now) {
			continue
		}
		switch one.Kind {
		case Slow:
			delay += one.Delay
		case Throttle:
			refused = &refusal{codeThrottled, "Rate exceeded", http.StatusBadRequest}
		case Broken:
			refused = &refusal{codeInternal, "An internal error occurred.", http.StatusInternalServerError}
			if one.Status != 0 && one.Status != http.StatusInternalServerError {
				refused = &refusal{"ServiceUnavailable", "The service is unavailable.", one.Status}
			}
		case Fail:
			c.fail = true
		case Quota:
			refused = exhausted(c)
		case SCP:
			refused = &refusal{codeDenied, "You are not authorized to perform: " + c.Service + ":" + c.Operation + " with an explicit deny in a service control policy", http.StatusForbidden}
		case Expired:
			refused = &refusal{"ExpiredToken", "The security token included in the request is expired", http.StatusForbidden}
		}
	}
	// An answer can only be lost where there is one: a call that is refused is not
	// one of those that a Lost counts.
	for i := range f.list {
		if one := &f.list[i]; refused == nil && one.Kind == Lost && one.matches(c) && one.due(now) {
			lost = true
		}
	}
	return delay, lost, refused
}

// exhausted is how a service says that a quota is used up: each has a code and words of
// its own (Amazon EC2 API Reference, Error codes; the errors of the calls in the others').
func exhausted(c *call) *refusal {
	thing := strings.TrimPrefix(c.Operation, "Create")
	code, message, status := "LimitExceededException", "The request was rejected because a quota was exceeded.", http.StatusBadRequest
	switch c.Service {
	case "ec2": // the thing and LimitExceeded
		names := map[string][2]string{"AllocateAddress": {"Address", "addresses"}, "CreateVpc": {"Vpc", "VPCs"}, "CreateInternetGateway": {"InternetGateway", "internet gateways"},
			"CreateSubnet": {"Subnet", "subnets"}, "CreateRouteTable": {"RouteTable", "route tables"}, "CreateSecurityGroup": {"SecurityGroup", "security groups"},
			"CreateVpcEndpoint": {"VpcEndpoint", "VPC endpoints"}}
		name, known := names[c.Operation]
		if !known {
			name = [2]string{thing, "things of this kind"}
		}
		code, message = name[0]+"LimitExceeded", "The maximum number of "+name[1]+" has been reached."
		switch c.Operation {
		case "CreateNatGateway":
			message = "Performing this operation would exceed the limit of 5 NAT gateways."
		case "RunInstances":
			code, message = "VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of 64 allows for the instance bucket that the specified instance type belongs to."
		}
	case "cloudformation":
		message = "Limit for stack has been exceeded"
	case "eks":
		code, message = "ResourceLimitExceededException", "You have encountered a service limit on the specified resource."
	case "iam":
		names := map[string]string{"CreateRole": "RolesPerAccount: 1000", "CreateOpenIDConnectProvider": "OpenIdConnectProvidersPerAccount: 100",
			"CreateInstanceProfile": "InstanceProfilesPerAccount: 1000", "CreatePolicy": "PoliciesPerAccount: 1500", "AttachRolePolicy": "PoliciesPerRole: 10"}
		name, known := names[c.Operation]
		if !known {
			name = thing + "sPerAccount: 1000"
		}
		code, message, status = "LimitExceeded", "Cannot exceed quota for "+name, http.StatusConflict
	case "s3":
		code, message = "TooManyBuckets", "You have attempted to create more buckets than allowed"
	case "elasticloadbalancing":
		code, message = "TooMany"+thing+"s", "You've reached the limit on the number of "+thing+"s for your AWS account."
	case "logs":
		message = "Resource limit exceeded."
	}
	return &refusal{code, message, status}
}

func (a *armed) matches(c *call) bool {
	if a.Service != "" && a.Service != c.Service && a.Service != c.signing {
		return false
	}
	if a.Operation == "" {
		return true
	}
	ok, err := path.Match(a.Operation, c.Operation)
	return err == nil && ok
}

func (a *armed) due(now time.Time) bool {
	if a.Count > 0 && a.done >= a.Count || a.For > 0 && a.done > 0 && !now.Before(a.first.Add(a.For)) {
		return false
	}
	a.seen++
	if a.seen <= a.After || a.Every > 1 && (a.seen-a.After)%a.Every != 0 {
		return false
	}
	if a.done++; a.done == 1 {
		a.first = now
	}
	return true
}
