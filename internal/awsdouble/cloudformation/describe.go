package cloudformation

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// members is a list in an answer; its element is there when the list is empty.
type members[T any] struct {
	Member []T `xml:"member"`
}

func listOf[T any](list []T) members[T] { return members[T]{list} }

// optional is a list that is left out when it is empty.
func optional[T any](list []T) *members[T] {
	if len(list) == 0 {
		return nil
	}
	return &members[T]{list}
}

type xmlParameter struct{ ParameterKey, ParameterValue string }

func (t *makeup) shown() []xmlParameter {
	var all []xmlParameter
	for _, p := range t.Parameters {
		if p.NoEcho {
			p.Value = "****"
		}
		all = append(all, xmlParameter{p.Key, p.Value})
	}
	return all
}

type xmlOutput struct {
	OutputKey, OutputValue string
	Description            string `xml:",omitempty"`
	ExportName             string `xml:",omitempty"`
}

type xmlDrift struct {
	StackDriftStatus   string
	LastCheckTimestamp string `xml:",omitempty"`
}

type xmlStack struct {
	StackId, StackName          string
	ChangeSetId                 string                 `xml:",omitempty"`
	Description                 string                 `xml:",omitempty"`
	Parameters                  *members[xmlParameter] `xml:",omitempty"`
	CreationTime                string
	DeletionTime                string `xml:",omitempty"`
	LastUpdatedTime             string `xml:",omitempty"`
	RollbackConfiguration       struct{}
	StackStatus                 string
	StackStatusReason           string `xml:",omitempty"`
	DisableRollback             bool
	NotificationARNs            members[string]
	TimeoutInMinutes            int                 `xml:",omitempty"`
	Capabilities                *members[string]    `xml:",omitempty"`
	Outputs                     *members[xmlOutput] `xml:",omitempty"`
	RoleARN                     string              `xml:",omitempty"`
	Tags                        members[Tag]
	EnableTerminationProtection bool
	DriftInformation            xmlDrift
}

func (st *stack) drift() xmlDrift {
	if st.DriftedAs == "" {
		return xmlDrift{StackDriftStatus: notChecked}
	}
	return xmlDrift{st.DriftedAs, stamp(st.Checked)}
}

func (st *stack) shown() xmlStack {
	t := &st.makeup
	if op := st.Operation; op != nil && op.To != nil && (op.Phase == doing || op.Phase == cleaning) {
		t = op.To
	}
	var outputs []xmlOutput
	for _, o := range st.Outputs {
		outputs = append(outputs, xmlOutput{o.Key, o.Value, o.Description, o.ExportName})
	}
	return xmlStack{
		StackId: st.ID, StackName: st.Name, ChangeSetId: st.ChangeSetID, Description: t.Description, Parameters: optional(t.shown()),
		CreationTime: stamp(st.Created), DeletionTime: stamp(st.Deleted), LastUpdatedTime: stamp(st.Updated), StackStatus: st.Status, StackStatusReason: st.Reason,
		DisableRollback: st.DisableRollback || st.OnFailure == "DO_NOTHING", NotificationARNs: listOf(t.NotificationARNs), TimeoutInMinutes: st.Minutes,
		Capabilities: optional(t.Capabilities), Outputs: optional(outputs), RoleARN: t.RoleARN, Tags: listOf(t.Tags),
		EnableTerminationProtection: st.Protected, DriftInformation: st.drift(),
	}
}

func (c *call) describeStacks(context.Context) (any, error) {
	var all []xmlStack
	if c.in.one("StackName") != "" {
		st, err := c.existing(missingWithID)
		if err != nil {
			return nil, err
		}
		all = append(all, st.shown())
	} else {
		for _, st := range slices.Backward(c.stacks) {
			if st.Where == c.Where && st.Status != deleteComplete {
				all = append(all, st.shown())
			}
		}
	}
	part, next, err := page(c, all, pageSize)
	return struct {
		Stacks    members[xmlStack]
		NextToken string `xml:",omitempty"`
	}{listOf(part), next}, err
}

type xmlStackSummary struct {
	StackId, StackName  string
	TemplateDescription string `xml:",omitempty"`
	CreationTime        string
	LastUpdatedTime     string `xml:",omitempty"`
	DeletionTime        string `xml:",omitempty"`
	StackStatus         string
	StackStatusReason   string `xml:",omitempty"`
	DriftInformation    xmlDrift
}

func (c *call) listStacks(context.Context) (any, error) {
	wanted := c.in.list("StackStatusFilter")
	var all []xmlStackSummary
	for _, st := range slices.Backward(c.stacks) {
		if st.Where == c.Where && (len(wanted) == 0 || slices.Contains(wanted, st.Status)) {
			all = append(all, xmlStackSummary{st.ID, st.Name, st.Description, stamp(st.Created), stamp(st.Updated), stamp(st.Deleted), st.Status, st.Reason, st.drift()})
		}
	}
	part, next, err := page(c, all, pageSize)
	return struct {
		StackSummaries members[xmlStackSummary]
		NextToken      string `xml:",omitempty"`
	}{listOf(part), next}, err
}

type xmlEvent struct {
	StackId, EventId, StackName string
	LogicalResourceId           string
	PhysicalResourceId          string
	ResourceType                string
	Timestamp                   string
	ResourceStatus              string
	ResourceStatusReason        string `xml:",omitempty"`
	ResourceProperties          string `xml:",omitempty"`
	ClientRequestToken          string `xml:",omitempty"`
}

func (c *call) describeStackEvents(context.Context) (any, error) {
	st, err := c.existing(missingBracket)
	if err != nil {
		return nil, err
	}
	newest := slices.Clone(st.Events)
	slices.Reverse(newest)
	part, next, err := page(c, newest, pageSize)
	var all []xmlEvent
	for _, e := range part {
		all = append(all, xmlEvent{st.ID, e.ID, st.Name, e.LogicalID, e.Physical, e.Type, stamp(e.Time), e.Status, e.Reason, e.Properties, e.Token})
	}
	return struct {
		StackEvents members[xmlEvent]
		NextToken   string `xml:",omitempty"`
	}{listOf(all), next}, err
}

type xmlResourceDrift struct {
	StackResourceDriftStatus string
	LastCheckTimestamp       string `xml:",omitempty"`
}

func (r *stackResource) drift() xmlResourceDrift {
	if r.Drift == nil {
		return xmlResourceDrift{StackResourceDriftStatus: notChecked}
	}
	return xmlResourceDrift{r.Drift.Status, stamp(r.Drift.Time)}
}

// xmlResource is a resource in each of three answers, which differ in how they call the
// time, and in what they have besides.
type xmlResource struct {
	StackName            string `xml:",omitempty"`
	StackId              string `xml:",omitempty"`
	LogicalResourceId    string
	PhysicalResourceId   string `xml:",omitempty"`
	ResourceType         string
	Timestamp            string `xml:",omitempty"`
	LastUpdatedTimestamp string `xml:",omitempty"`
	ResourceStatus       string
	ResourceStatusReason string `xml:",omitempty"`
	Metadata             string `xml:",omitempty"`
	DriftInformation     xmlResourceDrift
}

func (st *stack) show(r *stackResource) xmlResource {
	return xmlResource{StackName: st.Name, StackId: st.ID, LogicalResourceId: r.LogicalID, PhysicalResourceId: r.Physical.ID, ResourceType: r.Type,
		ResourceStatus: r.Status, ResourceStatusReason: r.Reason, DriftInformation: r.drift()}
}

func (c *call) describeStackResource(context.Context) (any, error) {
	st, err := c.existing(missingQuoted)
	if err != nil {
		return nil, err
	}
	id := c.in.one("LogicalResourceId")
	r := st.resource(id)
	if r == nil {
		return nil, invalid("Resource %s does not exist for stack %s", id, st.Name)
	}
	shown := st.show(r)
	shown.LastUpdatedTimestamp = stamp(r.Updated)
	if r.Metadata != nil {
		text, err := json.Marshal(r.Metadata)
		if err != nil {
			return nil, err
		}
		shown.Metadata = string(text)
	}
	return struct{ StackResourceDetail xmlResource }{shown}, nil
}

func (c *call) describeStackResources(context.Context) (any, error) {
	name, logical, physical := c.in.one("StackName"), c.in.one("LogicalResourceId"), c.in.one("PhysicalResourceId")
	var st *stack
	switch {
	case name != "" && physical != "":
		return nil, invalid("Both StackName and PhysicalResourceId cannot be specified.")
	case name == "" && physical == "":
		return nil, invalid("Must specify either StackName or PhysicalResourceId.")
	case name != "":
		var err error
		if st, err = c.existing(missingWithID); err != nil {
			return nil, err
		}
	default:
		for _, other := range c.stacks {
			if other.Where == c.Where && slices.ContainsFunc(other.Resources, func(r *stackResource) bool { return r.Physical.ID == physical && r.there() }) {
				st = other
			}
		}
		if st == nil {
			return nil, invalid("Stack for %s does not exist", physical)
		}
	}
	var all []xmlResource
	for _, r := range st.Resources {
		if logical != "" && r.LogicalID != logical {
			continue
		}
		shown := st.show(r)
		shown.Timestamp = stamp(r.Updated)
		all = append(all, shown)
	}
	if logical != "" && len(all) == 0 {
		return nil, invalid("Resource %s does not exist for stack %s", logical, st.Name)
	}
	return struct{ StackResources members[xmlResource] }{listOf(sorted(all, func(r xmlResource) string { return r.LogicalResourceId }))}, nil
}

func (c *call) listStackResources(context.Context) (any, error) {
	st, err := c.existing(missingWithID)
	if err != nil {
		return nil, err
	}
	var all []xmlResource
	for _, r := range st.Resources {
		shown := st.show(r)
		shown.StackName, shown.StackId, shown.LastUpdatedTimestamp = "", "", stamp(r.Updated)
		all = append(all, shown)
	}
	part, next, err := page(c, sorted(all, func(r xmlResource) string { return r.LogicalResourceId }), pageSize)
	return struct {
		StackResourceSummaries members[xmlResource]
		NextToken              string `xml:",omitempty"`
	}{listOf(part), next}, err
}

func (c *call) getTemplate(ctx context.Context) (any, error) {
	var t *makeup
	if set := c.in.one("ChangeSetName"); set != "" {
		_, found, err := c.changeSet()
		if err != nil {
			return nil, err
		}
		t = &found.makeup
	} else {
		st, err := c.existing(missingWithID)
		if err != nil {
			return nil, err
		}
		t = &st.makeup
	}
	var bad checks
	bad.oneOf("templateStage", c.in.one("TemplateStage"), "Original", "Processed")
	return struct {
		TemplateBody    string
		StagesAvailable members[string]
	}{t.Template, listOf([]string{"Original", "Processed"})}, bad.err()
}

type xmlTemplateParameter struct {
	ParameterKey  string
	DefaultValue  *string `xml:",omitempty"`
	ParameterType string  `xml:",omitempty"`
	NoEcho        bool
	Description   string          `xml:",omitempty"`
	Constraints   *xmlConstraints `xml:"ParameterConstraints"`
}

type xmlConstraints struct {
	AllowedValues *members[string] `xml:",omitempty"`
}

func (c *call) validateTemplate(ctx context.Context) (any, error) {
	_, t, err := c.template(ctx, nil)
	if err != nil {
		return nil, err
	}
	s := t.Summary()
	var all []xmlTemplateParameter
	for _, p := range s.Parameters {
		all = append(all, xmlTemplateParameter{ParameterKey: p.Name, DefaultValue: p.Default, NoEcho: p.NoEcho, Description: p.Description})
	}
	return struct {
		Parameters         members[xmlTemplateParameter]
		Description        string           `xml:",omitempty"`
		Capabilities       *members[string] `xml:",omitempty"`
		CapabilitiesReason string           `xml:",omitempty"`
	}{listOf(all), s.Description, optional(s.Capabilities), s.CapabilitiesReason}, nil
}

func (c *call) getTemplateSummary(ctx context.Context) (any, error) {
	var t *Template
	if c.in.one("StackName") != "" {
		if c.in.one("TemplateBody") != "" || c.in.one("TemplateURL") != "" {
			return nil, invalid("Specify only one of StackName, TemplateBody and TemplateURL.")
		}
		st, err := c.existing(missingWithID)
		if err != nil {
			return nil, err
		}
		if st.Template == "" {
			return nil, invalid("Stack with id %s has no template", st.Name)
		}
		if t, err = Parse(st.Template); err != nil {
			return nil, err
		}
	} else {
		var err error
		if _, t, err = c.template(ctx, nil); err != nil {
			return nil, err
		}
	}
	s := t.Summary()
	var all []xmlTemplateParameter
	for _, p := range s.Parameters {
		all = append(all, xmlTemplateParameter{p.Name, p.Default, p.Type, p.NoEcho, p.Description, &xmlConstraints{optional(p.AllowedValues)}})
	}
	return struct {
		Parameters         members[xmlTemplateParameter]
		Description        string           `xml:",omitempty"`
		Capabilities       *members[string] `xml:",omitempty"`
		CapabilitiesReason string           `xml:",omitempty"`
		ResourceTypes      members[string]
		Version            string `xml:",omitempty"`
		Metadata           string `xml:",omitempty"`
	}{listOf(all), s.Description, optional(s.Capabilities), s.CapabilitiesReason, listOf(s.ResourceTypes), s.Version, strings.TrimSpace(s.Metadata)}, nil
}
