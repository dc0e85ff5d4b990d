package cloudformation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// A changeSet is what would become of a stack.
type changeSet struct {
	Name, ID        string
	Type            string // CREATE, UPDATE
	Description     string
	Created, Due    time.Time // when it was asked for, and when it is there
	Status, Reason  string    // as of Due
	ExecutionStatus string    // as of Due
	ClientToken     string
	OnStackFailure  string
	makeup
	Changes []change
}

// How a change set stands (API Reference, DescribeChangeSet).
const (
	setAvailable     = "AVAILABLE"
	setUnavailable   = "UNAVAILABLE"
	setObsolete      = "OBSOLETE"
	setExecuting     = "EXECUTE_IN_PROGRESS"
	setExecuted      = "EXECUTE_COMPLETE"
	setExecuteFailed = "EXECUTE_FAILED"
)

const noChanges = "The submitted information didn't contain changes. Submit different information to create a change set."

// A change of one resource.
type change struct {
	Action, LogicalID, Physical, Type string
	Replacement                       string // True, False, Conditional; "" but for Modify
	PolicyAction                      string
	Scope                             []string
	Details                           []detail
	Before, After                     map[string]any // properties
}

type detail struct {
	Attribute, Name            string // Properties and which one; Tags, Metadata, …
	Recreation                 string // Never, Conditionally, Always
	Evaluation, Source, Entity string
}

// plan is what an update would change, in the order in which it would.
func (st *stack) plan(to *makeup, bound *Bound) ([]change, error) {
	made := st.made()
	var all []change
	var retyped []string
	for _, b := range bound.Resources() {
		r := st.resource(b.LogicalID)
		properties, err := bound.Properties(b.LogicalID, made)
		if err != nil {
			return nil, err
		}
		if r == nil || !r.there() {
			all = append(all, change{Action: "Add", LogicalID: b.LogicalID, Type: b.Type, After: properties})
			continue
		}
		if r.Type != b.Type {
			retyped = append(retyped, b.LogicalID)
			continue
		}
		d := r.compare(b, properties)
		if !d.any() {
			continue
		}
		one := change{Action: "Modify", LogicalID: b.LogicalID, Physical: r.Physical.ID, Type: b.Type, Replacement: "False", Before: r.Properties, After: properties}
		tags := false
		for _, name := range d.changed {
			if name == "Tags" {
				tags = true
				continue
			}
			one.Details = append(one.Details, st.detail(to, bound, b.LogicalID, name, slices.Contains(d.replacing, name), properties[name])...)
		}
		if len(one.Details) > 0 {
			one.Scope = append(one.Scope, "Properties")
		}
		if tags {
			one.Scope = append(one.Scope, "Tags")
			one.Details = append(one.Details, detail{"Tags", "", "Never", "Static", "DirectModification", ""})
		}
		for _, name := range d.attributes {
			one.Scope = append(one.Scope, name)
			one.Details = append(one.Details, detail{name, "", "Never", "Static", "DirectModification", ""})
		}
		if d.replaces() {
			one.Replacement, one.PolicyAction = "Conditional", "ReplaceAndDelete"
			if b.UpdateReplacePolicy == "Retain" {
				one.PolicyAction = "ReplaceAndRetain"
			}
			for _, name := range d.replacing {
				if !unknown(properties[name]) {
					one.Replacement = "True"
				}
			}
			delete(made, b.LogicalID) // what refers to it will see another
		}
		all = append(all, one)
	}
	if len(retyped) > 0 {
		return nil, invalid("Update of resource type is not permitted. The new template modifies resource type of the following resources: [%s]", strings.Join(retyped, ", "))
	}
	for _, r := range st.without(bound) {
		one := change{Action: "Remove", LogicalID: r.LogicalID, Physical: r.Physical.ID, Type: r.Type, PolicyAction: "Delete", Before: r.Properties}
		if r.DeletionPolicy == "Retain" || r.DeletionPolicy == "RetainExceptOnCreate" {
			one.PolicyAction = "Retain"
		}
		all = append(all, one)
	}
	return all, nil
}

// detail says why a property changes: by the template, by a parameter of another value,
// or by another resource that is not known yet.
func (st *stack) detail(to *makeup, bound *Bound, logicalID, name string, recreates bool, value any) []detail {
	d := detail{Attribute: "Properties", Name: name, Recreation: "Never", Evaluation: "Static", Source: "DirectModification"}
	if recreates {
		d.Recreation = "Always"
	}
	if unknown(value) {
		d.Evaluation = "Dynamic"
	}
	expression := bound.template.resources[logicalID].properties[name]
	before, err := st.makeup.bind(st.env(&st.makeup))
	if err != nil || before.template.resources[logicalID] == nil || !reflect.DeepEqual(before.template.resources[logicalID].properties[name], expression) {
		return []detail{d}
	}
	// The template says the same as before.
	was := map[string]string{}
	for _, p := range st.Parameters {
		was[p.Key] = p.Value
	}
	var all []detail
	for _, reference := range references(expression) {
		one := d
		if old, is := was[reference]; is {
			if slices.ContainsFunc(to.Parameters, func(p parameterValue) bool { return p.Key == reference && p.Value != old }) {
				one.Source, one.Entity = "ParameterReference", reference
				all = append(all, one)
			}
			continue
		}
		if unknown(value) {
			one.Source, one.Entity = "ResourceReference", reference
			if strings.Contains(reference, ".") {
				one.Source = "ResourceAttribute"
			}
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return []detail{d}
	}
	return all
}

// references are what an expression of a template refers to: parameters and resources by
// name, attributes as NAME.ATTRIBUTE.
func references(v any) []string {
	var all []string
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			all = append(all, references(one)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			argument := v[key]
			list, isList := argument.([]any)
			text, isText := argument.(string)
			switch {
			case key == "Ref" && isText:
				all = append(all, text)
			case key == "Fn::GetAtt" && isText:
				all = append(all, text)
			case key == "Fn::GetAtt" && isList && len(list) == 2:
				all = append(all, fmt.Sprint(list[0])+"."+fmt.Sprint(list[1]))
			case key == "Fn::Sub":
				if isList && len(list) > 0 {
					text, _ = list[0].(string)
				}
				for _, m := range inText.FindAllStringSubmatch(text, -1) {
					all = append(all, m[1])
				}
				all = append(all, references(argument)...)
			default:
				all = append(all, references(argument)...)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

var inText = regexp.MustCompile(`\$\{([A-Za-z0-9.]+)\}`)

// unknown says whether a value has something in it that is known only later.
func unknown(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, Unknown)
	case []any:
		return slices.ContainsFunc(v, unknown)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), unknown)
	}
	return false
}

func (c *call) createChangeSet(ctx context.Context) (any, error) {
	name, of, kind := c.in.one("ChangeSetName"), c.in.one("StackName"), c.in.one("ChangeSetType")
	var bad checks
	bad.present("changeSetName", name)
	bad.form("changeSetName", name, nameForm, 128)
	bad.present("stackName", of)
	bad.form("stackName", of, nameOrIDForm, 0)
	bad.form("clientToken", c.in.one("ClientToken"), tokenForm, 128)
	bad.oneOf("changeSetType", kind, "CREATE", "UPDATE", "IMPORT")
	bad.oneOf("onStackFailure", c.in.one("OnStackFailure"), "DO_NOTHING", "ROLLBACK", "DELETE")
	if err := bad.err(); err != nil {
		return nil, err
	}
	st := c.find(of)
	if st != nil && st.Status == deleteComplete {
		st = nil
	}
	fresh := false
	switch {
	case kind == "IMPORT" || c.in.yes("ImportExistingResources"):
		return nil, &Error{"NotImplemented", "The AWS double's CloudFormation does not import resources into stacks.", http.StatusNotImplemented}
	case kind == "CREATE" && st == nil:
		if strings.HasPrefix(of, "arn:") {
			return nil, invalid(missingBracket, of)
		}
		var long checks
		long.form("stackName", of, nameForm, 128)
		if err := long.err(); err != nil {
			return nil, err
		}
		st, fresh = c.newStack(of), true
	case kind == "CREATE" && st.Status != reviewInProgress:
		return nil, invalid("Stack [%s] already exists and cannot be created again with the changeSet [%s].", st.Name, name)
	case kind != "CREATE" && st == nil:
		return nil, invalid(missingBracket, of)
	case kind != "CREATE":
		if err := st.updatable(); err != nil {
			return nil, err
		}
	}
	var previous *makeup
	if kind != "CREATE" {
		kind, previous = "UPDATE", &st.makeup
	}
	to, bound, err := c.aim(ctx, st, previous)
	if err != nil {
		return nil, err
	}
	type answer struct{ Id, StackId string }
	if have := st.set(name); have != nil && have.ExecutionStatus != setExecuted && have.ExecutionStatus != setExecuteFailed {
		if different := have.differs(to, c.in.one("ClientToken")); different != "" {
			return nil, &Error{"AlreadyExistsException", "ChangeSet " + name + " cannot be created due to a mismatch with existing attribute " + different, http.StatusBadRequest}
		}
		return answer{have.ID, st.ID}, nil
	}
	set := &changeSet{Name: name, ID: c.Where.arn("changeSet/" + name + "/" + newID()), Type: kind, Description: c.in.one("Description"), Created: c.now(),
		Status: createComplete, ExecutionStatus: setAvailable, ClientToken: c.in.one("ClientToken"), OnStackFailure: c.in.one("OnStackFailure"), makeup: *to}
	set.Due = set.Created.Add(typical.CreateChangeSet)
	if set.Changes, err = st.plan(to, bound); err != nil {
		return nil, err
	}
	switch {
	case c.Fail:
		set.Status, set.Reason, set.Changes = "FAILED", "An internal failure occurred.", nil
	case len(set.Changes) == 0 && kind == "UPDATE":
		set.Status, set.Reason = "FAILED", noChanges
	}
	if set.Status == "FAILED" {
		set.ExecutionStatus = setUnavailable
	}
	if fresh {
		c.stacks = append(c.stacks, st)
		st.become(c.now(), reviewInProgress, userInitiated)
	}
	st.ChangeSets = append(slices.DeleteFunc(st.ChangeSets, func(other *changeSet) bool { return other.Name == name }), set)
	return answer{set.ID, st.ID}, nil
}

func (st *stack) set(name string) *changeSet {
	for _, set := range st.ChangeSets {
		if set.Name == name || set.ID == name {
			return set
		}
	}
	return nil
}

// differs names what of a change set is not as it is asked for again.
func (set *changeSet) differs(to *makeup, token string) string {
	switch {
	case set.ClientToken != token:
		return "ClientToken"
	case set.Template != to.Template:
		return "Template"
	case !slices.Equal(set.Parameters, to.Parameters):
		return "Parameters"
	case !slices.Equal(set.Tags, to.Tags):
		return "Tags"
	}
	return ""
}

// stands says how a change set is at a time: it takes a moment to be made.
func (set *changeSet) stands(at time.Time) (status, reason, execution string) {
	if at.Before(set.Due) {
		return createInProgress, "", setUnavailable
	}
	return set.Status, set.Reason, set.ExecutionStatus
}

// changeSet finds that of a call.
func (c *call) changeSet() (*stack, *changeSet, error) {
	name, of := c.in.one("ChangeSetName"), c.in.one("StackName")
	var bad checks
	bad.present("changeSetName", name)
	if err := bad.err(); err != nil {
		return nil, nil, err
	}
	missing := &Error{"ChangeSetNotFound", "ChangeSet [" + name + "] does not exist", http.StatusNotFound}
	if strings.HasPrefix(name, "arn:") {
		for _, st := range c.stacks {
			if set := st.set(name); set != nil && st.Where == c.Where {
				return st, set, nil
			}
		}
		return nil, nil, missing
	}
	if of == "" {
		return nil, nil, invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
	}
	st := c.find(of)
	if st == nil {
		return nil, nil, invalid(missingBracket, of)
	}
	set := st.set(name)
	if set == nil {
		return nil, nil, missing
	}
	return st, set, nil
}

type xmlChange struct {
	Type           string
	ResourceChange xmlResourceChange
}

type xmlResourceChange struct {
	PolicyAction       string `xml:",omitempty"`
	Action             string
	LogicalResourceId  string
	PhysicalResourceId string `xml:",omitempty"`
	ResourceType       string
	Replacement        string `xml:",omitempty"`
	Scope              members[string]
	Details            members[xmlDetail]
	BeforeContext      string `xml:",omitempty"`
	AfterContext       string `xml:",omitempty"`
}

type xmlDetail struct {
	Target        xmlTarget
	Evaluation    string
	ChangeSource  string
	CausingEntity string `xml:",omitempty"`
}

type xmlTarget struct {
	Attribute           string
	Name                string `xml:",omitempty"`
	RequiresRecreation  string
	Path                string `xml:",omitempty"`
	BeforeValue         string `xml:",omitempty"`
	AfterValue          string `xml:",omitempty"`
	AttributeChangeType string `xml:",omitempty"`
}

// shown is a change as the answer has it; mask hides NoEcho's values where the
// properties are asked for.
func (one change) shown(values bool, mask func(string) string) xmlChange {
	x := xmlResourceChange{one.PolicyAction, one.Action, one.LogicalID, one.Physical, one.Type, one.Replacement, listOf(one.Scope), members[xmlDetail]{}, "", ""}
	text := func(v any) string {
		if s, ok := v.(string); ok {
			return mask(s)
		}
		if v == nil {
			return ""
		}
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return mask(string(b))
	}
	if values {
		if one.Before != nil {
			x.BeforeContext = text(map[string]any{"Properties": one.Before})
		}
		if one.After != nil {
			x.AfterContext = text(map[string]any{"Properties": one.After})
		}
	}
	for _, d := range one.Details {
		to := xmlTarget{Attribute: d.Attribute, Name: d.Name, RequiresRecreation: d.Recreation}
		if values && d.Attribute == "Properties" {
			to.Path, to.BeforeValue, to.AfterValue = "/Properties/"+d.Name, text(one.Before[d.Name]), text(one.After[d.Name])
			switch {
			case to.BeforeValue == "":
				to.AttributeChangeType = "Add"
			case to.AfterValue == "":
				to.AttributeChangeType = "Remove"
			default:
				to.AttributeChangeType = "Modify"
			}
		}
		x.Details.Member = append(x.Details.Member, xmlDetail{to, d.Evaluation, d.Source, d.Entity})
	}
	return xmlChange{"Resource", x}
}

func (c *call) describeChangeSet(context.Context) (any, error) {
	st, set, err := c.changeSet()
	if err != nil {
		return nil, err
	}
	status, reason, execution := set.stands(c.now())
	var changes []change
	if status == createComplete {
		changes = set.Changes
	}
	part, next, err := page(c, changes, pageSize)
	mask := func(text string) string { return set.mask(st.mask(text)) }
	var shown []xmlChange
	for _, one := range part {
		shown = append(shown, one.shown(c.in.yes("IncludePropertyValues"), mask))
	}
	return struct {
		ChangeSetName, ChangeSetId, StackId, StackName string
		Description                                    string                 `xml:",omitempty"`
		Parameters                                     *members[xmlParameter] `xml:",omitempty"`
		CreationTime                                   string
		ExecutionStatus, Status                        string
		StatusReason                                   string `xml:",omitempty"`
		NotificationARNs                               members[string]
		RollbackConfiguration                          struct{}
		Capabilities                                   *members[string] `xml:",omitempty"`
		Tags                                           *members[Tag]    `xml:",omitempty"`
		Changes                                        members[xmlChange]
		NextToken                                      string `xml:",omitempty"`
		IncludeNestedStacks                            bool
		OnStackFailure                                 string `xml:",omitempty"`
	}{set.Name, set.ID, st.ID, st.Name, set.Description, optional(set.shown()), stamp(set.Created), execution, status, reason,
		listOf(set.NotificationARNs), struct{}{}, optional(set.Capabilities), optional(set.Tags), listOf(shown), next, false, set.OnStackFailure}, err
}

type xmlChangeSet struct {
	StackId, StackName, ChangeSetId, ChangeSetName string
	ExecutionStatus, Status                        string
	StatusReason                                   string `xml:",omitempty"`
	CreationTime                                   string
	Description                                    string `xml:",omitempty"`
	IncludeNestedStacks                            bool
}

func (c *call) listChangeSets(context.Context) (any, error) {
	st, err := c.existing(missingBracket)
	if err != nil {
		return nil, err
	}
	var all []xmlChangeSet
	for _, set := range st.ChangeSets {
		status, reason, execution := set.stands(c.now())
		if execution != setExecuted && execution != setExecuteFailed { // those are found by their ID
			all = append(all, xmlChangeSet{st.ID, st.Name, set.ID, set.Name, execution, status, reason, stamp(set.Created), set.Description, false})
		}
	}
	part, next, err := page(c, all, pageSize)
	return struct {
		Summaries members[xmlChangeSet]
		NextToken string `xml:",omitempty"`
	}{listOf(part), next}, err
}

func (c *call) executeChangeSet(ctx context.Context) (any, error) {
	st, set, err := c.changeSet()
	if err != nil {
		return nil, err
	}
	what := c.Operation + " " + set.ID
	if same, err := c.again(st, what); err != nil || same {
		return struct{}{}, err
	}
	refused := func(format string, status string) error {
		return &Error{"InvalidChangeSetStatus", "ChangeSet [" + set.ID + "] cannot be executed in its current " + format + " of [" + status + "]", http.StatusBadRequest}
	}
	status, _, execution := set.stands(c.now())
	switch {
	case status != createComplete:
		return nil, refused("status", status)
	case execution != setAvailable:
		return nil, refused("execution status", execution)
	case set.Type == "UPDATE":
		if err := st.updatable(); err != nil {
			return nil, err
		}
	case st.Status != reviewInProgress:
		return nil, invalid("Stack [%s] already exists and cannot be created again with the changeSet [%s].", st.Name, set.Name)
	}
	if set.OnStackFailure != "" && c.in.Has("DisableRollback") {
		return nil, invalid("You cannot specify both OnStackFailure and DisableRollback.")
	}
	if err := c.act(ctx, set.RoleARN); err != nil {
		return nil, err
	}
	to := set.makeup
	to.bound = nil
	op := &operation{Kind: updating, To: &to, Policy: st.Policy, ChangeSet: set.ID}
	if set.Type == "CREATE" {
		op.Kind = creating
	}
	st.remember(c.in.one("ClientRequestToken"), what)
	st.DisableRollback, st.OnFailure, st.ChangeSetID = c.in.yes("DisableRollback"), set.OnStackFailure, set.ID
	if set.OnStackFailure == "DO_NOTHING" && set.Type == "UPDATE" {
		st.DisableRollback = true
	}
	set.ExecutionStatus = setExecuting
	st.ChangeSets = []*changeSet{set} // the others were made for what the stack is no more
	return struct{}{}, c.begin(st, op)
}

func (c *call) deleteChangeSet(context.Context) (any, error) {
	st, set, err := c.changeSet()
	if refused, ok := err.(*Error); ok && refused.Code == "ChangeSetNotFound" {
		return struct{}{}, nil // gone is gone, where there is the stack
	}
	if err != nil {
		return nil, err
	}
	switch status, _, execution := set.stands(c.now()); {
	case status == createInProgress:
		return nil, &Error{"InvalidChangeSetStatus", "An operation on this ChangeSet is currently in progress.  Please attempt this operation again later.", http.StatusBadRequest}
	case execution == setExecuting:
		return nil, &Error{"InvalidChangeSetStatus", "ChangeSet [" + set.ID + "] cannot be deleted in its current execution status of [" + execution + "]", http.StatusBadRequest}
	}
	st.ChangeSets = slices.DeleteFunc(st.ChangeSets, func(other *changeSet) bool { return other == set })
	return struct{}{}, nil
}
