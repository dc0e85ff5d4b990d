// Package awsdouble stands where AWS stands: one endpoint on the loopback
// interface that the unmodified AWS CLI and SDKs work through, for tests, for
// the demo and for trying things out. It checks the signature, finds the
// caller's session, maps the request to IAM's actions and ARNs, and evaluates
// the real policies before anything happens. IAM, STS (internal/awsidentity), EKS (eks)
// and CloudFormation (cloudformation) are our own; moto, an emulator in Python, stands behind the rest and is
// never asked whether something is allowed. What takes AWS time takes it here, by a
// clock, and what is in use cannot be removed.
//
// It has no more of a service than moto has and Biplane needs. And it is not for the
// internet: whoever can read its files has its keys.
//
// Start with Start. Where things are, in the order in which a request meets them:
//
//	double.go       Options, Start, URL, Env, Stop
//	accounts.go     the accounts, roles and profiles that a double starts with
//	serve.go        what happens to a request, step by step
//	protocol.go     a request to a call: service, operation, parameters
//	routes.go       the REST services' paths (routes.tsv)
//	params.go       parameters in one form for every protocol
//	fault.go        throttling, errors, latency, lost answers
//	mapping.go      a call to what IAM is asked (the table is operations.txt)
//	functions.go, s3.go, tags.go  what the table cannot say in a row
//	facts.go        what must be looked up for that
//	buckets.go      whose a bucket is, and its policy
//	refusal.go      errors in each protocol's form
//	forward.go      a decided call to what moto gets of it
//	typical/        how long AWS takes for what takes it time
//	eks/, eks.go    EKS, and the account around its clusters
//	cloudformation/, cloudformation.go  CloudFormation, and how its stacks call
//	network.go      what EC2 has besides moto's, by operation:
//	gateways.go     NAT and internet gateways, addresses, routes
//	endpoints.go, privatelink.go  VPC endpoints, endpoint services
//	loadbalancers.go, balancerarns.go, dependencies.go  and what refuses to be deleted
//	ecs.go, tasks.go  services whose tasks may be processes here
//	lambda.go, runs.go, stacklambda.go  functions, which are processes here, and a stack's
//	keys.go         what KMS refuses by a key's state
//	route53.go      what Route 53 refuses, and how long it takes
//	organizations.go  an organization around the customer's account
//	small.go        the little that is wanted of other services beyond moto's
//	xml.go          answers of moto's that are changed
//	backed.go       a sandbox behind the customer's account
//	tokens.go       who a principal of IAM is before the sandbox's API server
//	moto.go         the process behind, which sitecustomize.py spares work
//	calllog.go      a line for each call
//	run.go          the command biplane-awsdouble
package awsdouble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
	"biplane.dev/biplane/provision/vendor"
)

// Options of a Double. The zero value is useful.
type Options struct {
	// Dir keeps the identity store, the stacks and the profiles, and is made if need be.
	// "" is a directory that goes when the double stops. What moto holds (VPCs,
	// buckets) goes with it in any case.
	Dir  string
	Addr string // 127.0.0.1:0 by default, a free port; loopback only

	Region          string          // eu-central-1 by default; its partition is the double's
	CustomerAccount string          // 123456789012 by default
	Vendor          *vendor.Profile // vendor.Default() by default

	// Moto is the path of moto_server, which the first request that needs it
	// starts. "" leaves identity alone; other services answer 503.
	Moto string
	// Emulator is one that is there already, in the place of Moto's: it is emptied now, and
	// goes on when the double stops. It serves one double at a time.
	Emulator *Emulator

	// Clock is what states go by that take AWS time (a NAT gateway, a cluster), and
	// ConsistencyDelay. The zero Clock runs DefaultFactor times as fast as the
	// machine's, so that everything is ready within a second; clock.Scaled(1) is as
	// slow as AWS.
	Clock clock.Clock
	// Ahead is how far the time of IAM and STS, and of every answer's Date, is ahead of the
	// machine's; it is asked each time. nil is not at all.
	Ahead func() time.Duration
	// Tasks are the programs that stand for images in ECS: path by image reference. A
	// task with such an image is a process of this machine; no other image is run.
	Tasks map[string]string
	// LambdaPython is the path of the Python that runs functions of Lambda, with botocore
	// in it. "" runs none: what asks for one is refused.
	LambdaPython string
	// Sandbox is the folder of a sandbox that stands behind the customer's account,
	// whose number and region are the sandbox's then: its API server is every
	// cluster's, its S3 has the buckets, its IAM gets the roles. "" is none.
	Sandbox string

	// SCP are service control policies of an organization that the customer's account is a
	// member of; none is no organization. Where none of them allows anything, FullAWSAccess
	// is beside them. SCPReadable lets the account read them, as a delegated administrator.
	SCP         []awsidentity.PolicyText
	SCPReadable bool

	Faults           []Fault
	Latency          time.Duration // of every call, by the machine's clock
	ConsistencyDelay time.Duration // of IAM, by Clock; see internal/awsidentity

	Log     *slog.Logger // nothing by default
	CallLog io.Writer    // gets a line of JSON for each call, see calllog.go; nothing by default

	// Hook is asked just before a call is performed: after the decision, except
	// for IAM and STS, which decide while they perform. Observe is told of every
	// call just before its answer is sent. Both must bear being called at once.
	Hook    func(Call) Verdict
	Observe func(Call)
}

// DefaultFactor is how many times as fast as the machine's a double's clock runs:
// what AWS takes nine minutes for takes it half a second.
const DefaultFactor = 1000

// A Call is what one request asked for and what became of it.
type Call struct {
	N         int      // 1 for the first request of this double
	Service   string   // as IAM calls it
	Operation string   // as the SDKs call it
	Region    string   // of the signature
	Caller    string   // ARN; empty where nobody has signed, and in Hook for IAM and STS
	Via       string   // the service that calls in the caller's name: only the log has such calls
	Actions   []string // that IAM was asked about, each with the resource of the
	Resources []string // same index; empty in Hook for IAM and STS
	// Asked are the same questions as they were decided, complete with the keys of
	// the caller and the time, up to the first that was denied; nil in Hook.
	Asked    []iampolicy.Request
	Decision Decision // empty in Hook for IAM and STS
	Status   int      // of the answer; 0 in Hook
}

// Decision is what became of a call.
type Decision string

// The decisions.
const (
	Allowed   Decision = "allowed"
	Refused   Decision = "refused"   // by a policy, or for IAM and STS with status 403
	Undecided Decision = "undecided" // ended before that: a bad signature, a fault, no call at all
)

// Verdict is a hook's answer. The zero Verdict lets the call be performed.
type Verdict struct {
	drop    bool
	refusal *refusal
}

// Proceed performs the call.
func Proceed() Verdict { return Verdict{} }

// DropResponse performs the call and cuts the connection before the answer.
func DropResponse() Verdict { return Verdict{drop: true} }

// Refuse answers an error instead of performing the call. code is the Query
// protocol's; the service's own protocol may call it otherwise.
func Refuse(status int, code, message string) Verdict {
	return Verdict{refusal: &refusal{code, message, status}}
}

// A Double is one running endpoint.
type Double struct {
	dir      string
	region   string
	customer string
	log      *slog.Logger
	hook     func(Call) Verdict
	observe  func(Call)
	callLog  *callLog
	latency  time.Duration
	patience time.Duration // with a client that sends a call's parameters slowly
	faults   *faults
	routes   routes
	mapping  *mapping
	clock    clock.Clock
	ahead    func() time.Duration
	world    *world
	network  *network
	tasks    *tasks

	scpReadable bool // by the customer's account

	seenRuns atomic.Int64 // of moto
	identity *awsidentity.Service
	accounts *Accounts
	server   *http.Server
	url      string
	count    atomic.Int64

	stop    sync.Once
	stopErr error
	closing []func() error // in the order of opening
}

// ErrInUse is the directory of a double that runs already.
var ErrInUse = errors.New("another double runs on it")

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
)

// Start returns once the double answers. Its errors are one sentence for a
// person. ctx bounds the start only; Stop ends the double.
func Start(ctx context.Context, o Options) (_ *Double, err error) {
	var behind *backed
	if o.Sandbox != "" {
		if behind, err = openSandbox(ctx, o.Sandbox); err != nil {
			return nil, err
		}
		if o.Region != "" && o.Region != behind.region || o.CustomerAccount != "" && o.CustomerAccount != behind.account {
			return nil, fmt.Errorf("the sandbox has account %s in %s: name no other one", behind.account, behind.region)
		}
		o.Region, o.CustomerAccount = behind.region, behind.account
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Region == "" {
		o.Region = "eu-central-1"
	}
	if o.CustomerAccount == "" {
		o.CustomerAccount = "123456789012"
	}
	if o.Vendor == nil {
		o.Vendor = vendor.Default()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == (clock.Clock{}) {
		o.Clock = clock.Scaled(DefaultFactor)
	}
	if o.Ahead == nil {
		o.Ahead = func() time.Duration { return 0 }
	}
	if !accountForm.MatchString(o.CustomerAccount) {
		return nil, fmt.Errorf("account %q is not twelve digits", o.CustomerAccount)
	}
	if !regionForm.MatchString(o.Region) {
		return nil, fmt.Errorf("region %q is not one of AWS: write it like eu-central-1", o.Region)
	}
	d := &Double{
		region: o.Region, customer: o.CustomerAccount, log: o.Log, hook: o.Hook, observe: o.Observe,
		callLog: &callLog{to: o.CallLog}, clock: o.Clock, ahead: o.Ahead, latency: o.Latency, patience: time.Minute, faults: arm(o.Faults, o.Clock), routes: readRoutes(routesTSV),
	}
	defer func() {
		if err != nil {
			d.Stop()
		}
	}()
	if d.mapping, err = readMapping(operationsText, sar.Default()); err != nil {
		return nil, err
	}
	if err := d.openDir(o.Dir); err != nil {
		return nil, err
	}
	d.identity, err = awsidentity.Open(awsidentity.Options{
		File: filepath.Join(d.dir, "identity.db"), Partition: partitionOf(o.Region),
		ConsistencyDelay: o.Clock.Machine(o.ConsistencyDelay), Log: o.Log, Clock: d.now,
		SCP: map[string][]awsidentity.PolicyText{o.CustomerAccount: o.SCP},
	})
	if err != nil {
		return nil, err
	}
	d.scpReadable = o.SCPReadable
	d.closing = append(d.closing, d.identity.Close)
	if d.accounts, err = d.makeAccounts(o); err != nil {
		return nil, err
	}
	m, err := d.openMoto(ctx, o)
	if err != nil {
		return nil, err
	}
	d.world = &world{moto: m, identity: &insider{service: d.identity, now: d.now, keys: d.accounts.administrators(), region: awsidentity.IAMRegion(partitionOf(o.Region))}}

	d.world.backed = behind
	d.goBy(o.Clock)
	if err := d.openStacks(o.Clock); err != nil {
		return nil, err
	}
	if behind != nil {
		d.identity.SetKeys(behind.cluster.Issuer, behind.keys)
	}
	d.tasks = &tasks{double: d, programs: o.Tasks, services: map[string]*ecsService{}}
	d.closing = append(d.closing, d.tasks.close)
	if err := d.openLambdas(o.LambdaPython); err != nil {
		return nil, err
	}
	d.world.buckets.reset()
	m.started = d.world.buckets.reset

	listener, err := listen(ctx, o.Addr)
	if err != nil {
		return nil, err
	}
	d.url = "http://" + listener.Addr().String()
	if err := d.writeProfiles(); err != nil {
		listener.Close()
		return nil, err
	}
	if behind != nil {
		if err := d.answerTokens(); err != nil {
			listener.Close()
			return nil, err
		}
	}
	d.serveOn(listener)
	return d, nil
}

// goBy makes what has states, which go by a clock.
func (d *Double) goBy(c interface{ Now() time.Time }) {
	d.network = newNetwork(c, d.world)
	o := eks.Options{Clock: c, Cloud: eksCloud{d.world, d.network}, Log: d.log}
	if b := d.world.backed; b != nil {
		o.Backing = func(w eks.Where, _ string) (eks.Backing, bool) { return b.cluster, w.Account == b.account }
	}
	d.world.eks = eks.New(o)
}

// listen opens the port, on this machine only.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q cannot be listened on: write it like 127.0.0.1:4566", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("address %q is not on this machine alone: the double has nothing to protect it, use 127.0.0.1", addr)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		var cause *os.SyscallError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("address %s cannot be listened on: %w; choose another port, or 0 for a free one", addr, err)
	}
	return listener, nil
}

// openDir makes the directory and takes it for this process alone.
func (d *Double) openDir(dir string) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "biplane-awsdouble-")
		if err != nil {
			return fmt.Errorf("making a temporary directory: %w", err)
		}
		d.dir = temporary
		d.closing = append(d.closing, func() error { return os.RemoveAll(temporary) })
		return nil
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("directory %s cannot be used: %w", dir, err)
	}
	d.dir = absolute
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return fmt.Errorf("directory %s cannot be made: %w", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(absolute, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("directory %s cannot be used: %w", dir, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("directory %s cannot be used: %w; stop that one, or name another directory", dir, ErrInUse)
		}
		return fmt.Errorf("directory %s cannot be locked: %w", dir, err)
	}
	d.closing = append(d.closing, lock.Close)
	return nil
}

func (d *Double) serveOn(listener net.Listener) {
	d.server = &http.Server{
		Handler:           d,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := d.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("serving ended", "error", err)
		}
	}()
	d.closing = append(d.closing, func() error {
		// Those under way get a moment; whoever waits for longer is cut off.
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err := d.server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = d.server.Close()
		}
		<-ended
		return err
	})
}

// now is the time by AWS's clock.
func (d *Double) now() time.Time { return time.Now().Add(d.ahead()) }

// URL is what AWS_ENDPOINT_URL must be.
func (d *Double) URL() string { return d.url }

// Dir is where the double keeps what it keeps.
func (d *Double) Dir() string { return d.dir }

// Accounts are the accounts that the double started with, and their keys.
func (d *Double) Accounts() *Accounts { return d.accounts }

// Identity is the identity service, to seed it or to give it keys of tokens.
func (d *Double) Identity() *awsidentity.Service { return d.identity }

// Stop ends the double and all that it started, and returns when that is gone.
func (d *Double) Stop() error {
	d.stop.Do(func() {
		var all []error
		for i := len(d.closing) - 1; i >= 0; i-- {
			all = append(all, d.closing[i]())
		}
		d.stopErr = errors.Join(all...)
	})
	return d.stopErr
}
