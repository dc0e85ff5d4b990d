package cloudformation

import (
	"fmt"
	"net/http"
)

// Error is a refusal in AWS's words, as the API answers it.
type Error struct {
	Code    string // mostly ValidationError
	Message string
	Status  int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func invalid(format string, args ...any) error {
	return &Error{Code: "ValidationError", Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

// Template is a template that was read and checked.
type Template struct {
	Version     string // of its format: "2010-09-09"
	Description string
	Parameters  []Parameter // in the template's order
	Metadata    string      // JSON, "" for none
}

// Parameter is a parameter that a template declares.
type Parameter struct {
	Name, Type, Description string
	Default                 *string
	NoEcho                  bool
	AllowedPattern          string
	AllowedValues           []string
	MinLength, MaxLength    *int
	MinValue, MaxValue      *float64
	ConstraintDescription   string
}

// Summary is what GetTemplateSummary and ValidateTemplate tell of a template.
type Summary struct {
	Version, Description string
	Parameters           []Parameter
	Capabilities         []string // CAPABILITY_NAMED_IAM or CAPABILITY_IAM, or none
	CapabilitiesReason   string
	ResourceTypes        []string // each once
	Metadata             string   // JSON
}

// Parse reads a template in JSON or YAML and checks all that can be checked
// before it has values for its parameters. Its errors are of type *Error.
func Parse(body string) (*Template, error) {
	return nil, invalid("Template format error: not read yet")
}

// Summary tells what a template wants.
func (t *Template) Summary() Summary { return Summary{} }

// Env is where a stack is: the values of the pseudo parameters.
type Env struct {
	Account, Region, Partition, URLSuffix string
	StackName, StackID                    string
	NotificationARNs                      []string
}

// Bound is a template with values for its parameters. It may be made again at
// any time from the same template, values and Env.
type Bound struct {
	template *Template
}

// Bind gives values to the parameters, checks them and evaluates the
// conditions. Its errors are of type *Error.
func (t *Template) Bind(given map[string]string, env Env) (*Bound, error) {
	return &Bound{template: t}, nil
}

// BoundResource is a resource whose condition holds.
type BoundResource struct {
	LogicalID, Type     string
	DependsOn           []string // by its DependsOn and by its references
	DeletionPolicy      string   // Delete, Retain or RetainExceptOnCreate
	UpdateReplacePolicy string   // Delete or Retain
	Metadata            any
}

// Resources are those that the stack has, in an order in which they can be made.
func (b *Bound) Resources() []BoundResource { return nil }

// Values are the values of the parameters, as given or by default.
func (b *Bound) Values() map[string]string { return nil }

// Physical is a resource that was made. It is kept as JSON.
type Physical struct {
	ID         string            // what Ref gives
	Attributes map[string]string // what Fn::GetAtt gives
}

// Properties are a resource's properties, with references resolved by what was
// made. Where one is to a resource that is not made yet, as in a change set, it
// is Unknown.
func (b *Bound) Properties(logicalID string, made map[string]Physical) (properties map[string]any, err error) {
	return nil, nil
}

// Unknown stands in properties for what is known only after something is made.
const Unknown = "{{changeSet:KNOWN_AFTER_APPLY}}"

// Output is an output of a stack.
type Output struct{ Key, Value, Description, ExportName string }

// Outputs are the outputs whose condition holds.
func (b *Bound) Outputs(made map[string]Physical) ([]Output, error) { return nil, nil }
