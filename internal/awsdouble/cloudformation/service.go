package cloudformation

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// World is the double around CloudFormation.
type World interface {
	Cloud
	// Object reads an object of S3 with the rights of who. A refusal is an *Error.
	Object(ctx context.Context, who Caller, w Where, bucket, key, version string) ([]byte, error)
	// Assume gives CloudFormation a session of a role that trusts it.
	Assume(ctx context.Context, role string) (Caller, error)
	// Endpoint says whether a host, as in a URL, is one of the double itself.
	Endpoint(host string) bool
}

// Options of a Service.
type Options struct {
	Clock interface{ Now() time.Time } // what the states go by
	World World
	File  string       // where the stacks are kept; "" keeps them nowhere
	Log   *slog.Logger // nothing by default
}

// Where is the account and region of a call.
type Where struct{ Partition, Account, Region string }

func (w Where) arn(resource string) string {
	return "arn:" + w.Partition + ":cloudformation:" + w.Region + ":" + w.Account + ":" + resource
}

// A Call is one request, decided already.
type Call struct {
	Operation string
	Where     Where
	Who       Caller
	Input     url.Values // of the Query protocol
	Fail      bool       // what the call begins shall end badly: for tests of faults
}

// Service is CloudFormation for any number of accounts and regions. Its methods may
// be called from many goroutines.
//
// Nothing runs in it: what is due by the clock happens when somebody looks, see
// Settle. The lock is not held while a resource is made, so that what a resource
// calls may call the service.
type Service struct {
	clock interface{ Now() time.Time }
	world World
	file  string
	log   *slog.Logger

	lock   sync.Mutex
	stacks []*stack      // oldest first, deleted ones too
	ahead  time.Duration // of the clock: no time is before one that was written down
}

// New returns a Service with the stacks that its file has.
func New(o Options) (*Service, error) {
	s := &Service{clock: o.Clock, world: o.World, file: o.File, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, s.load()
}

func (s *Service) now() time.Time { return s.clock.Now().Add(s.ahead).UTC() }

// A call under way.
type call struct {
	*Service
	Call
	in    input
	actor Caller // who makes the resources: the caller, or the stack's role
}

// operations are all that is answered, by the SDK's name. They are called with the
// lock held, after what was due has happened.
var operations = map[string]func(*call, context.Context) (any, error){
	"ValidateTemplate":   (*call).validateTemplate,
	"GetTemplateSummary": (*call).getTemplateSummary,
	"GetTemplate":        (*call).getTemplate,

	"CreateStack":                 (*call).createStack,
	"UpdateStack":                 (*call).updateStack,
	"DeleteStack":                 (*call).deleteStack,
	"CancelUpdateStack":           (*call).cancelUpdateStack,
	"ContinueUpdateRollback":      (*call).continueUpdateRollback,
	"UpdateTerminationProtection": (*call).updateTerminationProtection,
	"SetStackPolicy":              (*call).setStackPolicy,
	"GetStackPolicy":              (*call).getStackPolicy,

	"DescribeStacks":         (*call).describeStacks,
	"ListStacks":             (*call).listStacks,
	"DescribeStackEvents":    (*call).describeStackEvents,
	"DescribeStackResource":  (*call).describeStackResource,
	"DescribeStackResources": (*call).describeStackResources,
	"ListStackResources":     (*call).listStackResources,

	"CreateChangeSet":   (*call).createChangeSet,
	"DescribeChangeSet": (*call).describeChangeSet,
	"ListChangeSets":    (*call).listChangeSets,
	"ExecuteChangeSet":  (*call).executeChangeSet,
	"DeleteChangeSet":   (*call).deleteChangeSet,

	"DetectStackDrift":                  (*call).detectStackDrift,
	"DetectStackResourceDrift":          (*call).detectStackResourceDrift,
	"DescribeStackDriftDetectionStatus": (*call).describeStackDriftDetectionStatus,
	"DescribeStackResourceDrifts":       (*call).describeStackResourceDrifts,
}

// Namespace is that of the answers.
const Namespace = "http://cloudformation.amazonaws.com/doc/2010-05-15/"

// Serve performs a call and returns the answer's XML, without its envelope: the
// element NAMEResult, or nothing. Its errors are of type *Error where they are the
// caller's.
func (s *Service) Serve(ctx context.Context, c Call) ([]byte, error) {
	do, known := operations[c.Operation]
	if !known {
		return nil, &Error{"NotImplemented", "The AWS double's CloudFormation does not have " + c.Operation + ".", http.StatusNotImplemented}
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.settle(ctx)
	result, err := do(&call{Service: s, Call: c, in: input{c.Input}, actor: c.Who}, ctx)
	if err != nil {
		return nil, err
	}
	if !reads(c.Operation) {
		if err := s.save(); err != nil {
			return nil, err
		}
	}
	s.settle(ctx) // what takes no time is done
	if result == nil {
		return nil, nil
	}
	var b bytes.Buffer
	if err := xml.NewEncoder(&b).EncodeElement(result, xml.StartElement{Name: xml.Name{Local: c.Operation + "Result"}}); err != nil {
		return nil, fmt.Errorf("writing the answer of %s: %w", c.Operation, err)
	}
	return b.Bytes(), nil
}

// reads says whether an operation changes nothing.
func reads(operation string) bool {
	return slices.ContainsFunc([]string{"Describe", "List", "Get", "Validate"}, func(verb string) bool { return strings.HasPrefix(operation, verb) })
}

// find looks for a stack by its ID, or by its name among those that are not deleted.
func (c *call) find(nameOrID string) *stack {
	for _, st := range slices.Backward(c.stacks) {
		if st.Where == c.Where && (st.ID == nameOrID || st.Name == nameOrID && st.Status != deleteComplete) {
			return st
		}
	}
	return nil
}

// existing finds the stack of a call that needs one. missing is how AWS says that
// there is none, with %s for the name; operations differ in that.
func (c *call) existing(missing string) (*stack, error) {
	name := c.in.one("StackName")
	var found checks
	found.present("stackName", name)
	if err := found.err(); err != nil {
		return nil, err
	}
	st := c.find(name)
	if st == nil {
		return nil, invalid(missing, name)
	}
	return st, nil
}

// How operations say that a stack is missing.
const (
	missingWithID  = "Stack with id %s does not exist"
	missingBracket = "Stack [%s] does not exist"
	missingQuoted  = "Stack '%s' does not exist"
)

// live is existing for what changes a stack: a deleted one is none.
func (c *call) live() (*stack, error) {
	st, err := c.existing(missingBracket)
	if err == nil && st.Status == deleteComplete {
		return nil, invalid(missingBracket, c.in.one("StackName"))
	}
	return st, err
}

// again says whether a call is one that was made already: a token means the same
// thing for as long as the stack is there.
func (c *call) again(st *stack, what string) (bool, error) {
	token := c.in.one("ClientRequestToken")
	var bad checks
	bad.form("clientRequestToken", token, tokenForm, 128)
	if err := bad.err(); err != nil || token == "" {
		return false, err
	}
	switch st.Tokens[token] {
	case "":
		return false, nil
	case what:
		return true, nil
	}
	return false, &Error{"TokenAlreadyExistsException", "A client request token already exists for another operation: " + token, http.StatusBadRequest}
}

// page cuts out the part of a list that is asked for. A token is the place of the
// next one from the list's other end, so that what is added in front moves nothing.
func page[T any](c *call, all []T, most int) ([]T, string, error) {
	rest := len(all)
	if token := c.in.one("NextToken"); token != "" {
		if _, err := fmt.Sscanf(token, "rest-%d", &rest); err != nil || rest < 0 || rest > len(all) {
			return nil, "", invalid("Invalid NextToken: %s", token)
		}
	}
	all = all[len(all)-rest:]
	if len(all) <= most {
		return all, "", nil
	}
	return all[:most], fmt.Sprintf("rest-%d", len(all)-most), nil
}

// pageSize is how many members a list's page has.
const pageSize = 100

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// suffix is what the partition's names end in.
func (w Where) suffix() string {
	if w.Partition == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// env is where a stack is, for its template.
func (st *stack) env(t *makeup) Env {
	w := st.Where
	return Env{Account: w.Account, Region: w.Region, Partition: w.Partition, URLSuffix: w.suffix(), StackName: st.Name, StackID: st.ID, NotificationARNs: t.NotificationARNs, Tags: t.Tags}
}

// ARN is that of a stack, by its name or ID, or by a change set's ID; "" where there is
// none.
func (s *Service) ARN(w Where, nameOrID, changeSet string) string {
	s.lock.Lock()
	defer s.lock.Unlock()
	if nameOrID == "" && changeSet != "" {
		for _, st := range s.stacks {
			if st.Where == w && st.set(changeSet) != nil && strings.HasPrefix(changeSet, "arn:") {
				return st.ID
			}
		}
		return ""
	}
	if st := (&call{Service: s, Call: Call{Where: w}}).find(nameOrID); st != nil {
		return st.ID
	}
	return ""
}

// Tags are those of a stack, by its ID.
func (s *Service) Tags(id string) map[string]string {
	s.lock.Lock()
	defer s.lock.Unlock()
	all := map[string]string{}
	for _, st := range s.stacks {
		if st.ID == id {
			for _, tag := range st.Tags {
				all[tag.Key] = tag.Value
			}
		}
	}
	return all
}

// Pending says whether anything is under way, without waiting for it.
func (s *Service) Pending() bool {
	if !s.lock.TryLock() {
		return false // somebody is at it
	}
	defer s.lock.Unlock()
	return slices.ContainsFunc(s.stacks, func(st *stack) bool { return st.Operation != nil || st.detecting() })
}

// Settle has everything happen that is due by the clock.
func (s *Service) Settle(ctx context.Context) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.settle(ctx)
}

func (s *Service) settle(ctx context.Context) {
	ctx = context.WithoutCancel(ctx) // a resource is made whole, though nobody waits for it
	for _, st := range slices.Clone(s.stacks) {
		s.work(ctx, st)
		s.detect(ctx, st)
	}
	// Deleted stacks are shown for ninety days (DescribeStacks, ListStacks).
	s.stacks = slices.DeleteFunc(s.stacks, func(st *stack) bool {
		return st.Status == deleteComplete && s.now().Sub(st.Deleted) > 90*24*time.Hour
	})
}

// stamp is a time as in answers; "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// sorted orders things by a name.
func sorted[T any](list []T, name func(T) string) []T {
	slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return list
}
