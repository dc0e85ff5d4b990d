// Package inputs makes the inputs of a run out of what a client sent: those that
// it left out have the defaults of the task, all of them are of the task, and
// they are in the task's order, which is the SDK's own for the actions that a
// task starts. So both have the same hash.
//
// It keeps nothing anywhere: the proxy does. Start with Fill.
package inputs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/internal/sdkhash"
)

// Error says in one sentence why these are no inputs of the task.
type Error struct{ sentence string }

func (e *Error) Error() string { return e.sentence }

func refuse(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// Fill returns the inputs of a task, one for each of its variables. The error is
// an *Error.
func Fill(sent *task.Inputs, spec *task.TaskSpec) (*task.Inputs, error) {
	name := spec.GetTaskTemplate().GetId().GetName()
	variables := spec.GetTaskTemplate().GetInterface().GetInputs().GetVariables()

	given := make(map[string]*core.Literal, len(sent.GetLiterals()))
	for _, l := range sent.GetLiterals() {
		if !slices.ContainsFunc(variables, func(v *core.VariableEntry) bool { return v.GetKey() == l.GetName() }) {
			return nil, refuse("the task %s has no input %q; %s", name, short(l.GetName()), those(variables))
		}
		if given[l.GetName()] != nil {
			return nil, refuse("the input %q is given twice; give it once", short(l.GetName()))
		}
		if l.GetValue().GetValue() == nil && l.GetValue().GetHash() == "" {
			return nil, refuse("the input %q has no value; give it one, or leave it out to have its default", short(l.GetName()))
		}
		given[l.GetName()] = l.GetValue()
	}
	defaults := make(map[string]*core.Literal, len(spec.GetDefaultInputs()))
	for _, p := range spec.GetDefaultInputs() {
		if value := p.GetParameter().GetDefault(); value != nil {
			defaults[p.GetName()] = value
		}
	}

	filled := &task.Inputs{Context: sent.GetContext()}
	var missing []string
	for _, v := range variables {
		value := given[v.GetKey()]
		if value == nil {
			value = defaults[v.GetKey()]
		}
		if value == nil {
			missing = append(missing, fmt.Sprintf("%q", short(v.GetKey())))
			continue
		}
		filled.Literals = append(filled.Literals, &task.NamedLiteral{Name: v.GetKey(), Value: value})
	}
	if len(missing) > 0 {
		return nil, refuse("the task %s needs a value for %s, which has no default", name, strings.Join(missing[:min(len(missing), 10)], ", "))
	}
	return filled, nil
}

// Hash is what the run's cache key is made of. Like the SDK's, it is empty for a
// task without inputs.
func Hash(in *task.Inputs, spec *task.TaskSpec) string {
	return sdkhash.Inputs(in.GetLiterals(), spec.GetTaskTemplate().GetMetadata().GetCacheIgnoreInputVars())
}

// Marshal returns the file of the inputs, and a digest that names it by its
// contents. It is not Hash, by which inputs that differ may be the same.
func Marshal(in *task.Inputs) (file []byte, digest string, err error) {
	file, err = proto.MarshalOptions{Deterministic: true}.Marshal(in)
	if err != nil {
		return nil, "", fmt.Errorf("encoding the inputs: %w", err)
	}
	sum := sha256.Sum256(file)
	return file, hex.EncodeToString(sum[:]), nil
}

func those(variables []*core.VariableEntry) string {
	if len(variables) == 0 {
		return "it takes none"
	}
	var names []string
	for _, v := range variables[:min(len(variables), 20)] {
		names = append(names, short(v.GetKey()))
	}
	return "its inputs are " + strings.Join(names, ", ")
}

func short(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
