package taskpod

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
)

// placeholder is {{.name}} or {{$name}}, with spaces where one likes them.
var placeholder = regexp.MustCompile(`\{\{\s*[.$]\s*([A-Za-z0-9_]+(?:\.[A-Za-z0-9_-]+)?)\s*\}\}`)

const inputsPrefix = "inputs."

// NeedsInputs says whether the command or an argument contains {{.inputs.NAME}}.
func NeedsInputs(spec *task.TaskSpec) bool {
	return mentions(spec, func(name string) bool { return strings.HasPrefix(name, inputsPrefix) })
}

// NeedsTemplateFile says whether the command or an argument names the file of the
// task's template, which somebody has to write then: TemplateFile.
func NeedsTemplateFile(spec *task.TaskSpec) bool {
	return mentions(spec, func(name string) bool { return name == "tasktemplatepath" })
}

// TemplateFile is where {{.taskTemplatePath}} points to.
func TemplateFile(folder string) string { return folder + "/task.pb" }

func mentions(spec *task.TaskSpec, is func(lower string) bool) bool {
	for _, text := range Arguments(spec) {
		for _, match := range placeholder.FindAllStringSubmatch(text, -1) {
			if is(strings.ToLower(match[1])) {
				return true
			}
		}
	}
	return false
}

// Arguments are the command and arguments of every container of a task.
func Arguments(spec *task.TaskSpec) []string {
	var all []string
	switch target := spec.GetTaskTemplate().GetTarget().(type) {
	case *core.TaskTemplate_Container:
		all = append(append(all, target.Container.GetCommand()...), target.Container.GetArgs()...)
	case *core.TaskTemplate_K8SPod:
		for _, list := range []string{"containers", "initContainers"} {
			for _, container := range target.K8SPod.GetPodSpec().GetFields()[list].GetListValue().GetValues() {
				for _, words := range []string{"command", "args"} {
					for _, word := range container.GetStructValue().GetFields()[words].GetListValue().GetValues() {
						all = append(all, word.GetStringValue())
					}
				}
			}
		}
	}
	return all
}

// substitute replaces the placeholders in a container's command and arguments.
// What is no name of ours stays as it is: it may be meant for the program.
func (a *Attempt) substitute(container *corev1.Container) error {
	values := a.values()
	var missing string
	replace := func(words []string) []string {
		out := make([]string, len(words))
		for i, word := range words {
			out[i] = placeholder.ReplaceAllStringFunc(word, func(match string) string {
				name := placeholder.FindStringSubmatch(match)[1]
				if value, ok := values[strings.ToLower(name)]; ok {
					return value
				}
				if len(name) > len(inputsPrefix) && strings.EqualFold(name[:len(inputsPrefix)], inputsPrefix) {
					value, ok := inputValue(a.Inputs, name[len(inputsPrefix):])
					if !ok {
						missing = name[len(inputsPrefix):]
					}
					return value
				}
				return match
			})
		}
		return out
	}
	container.Command, container.Args = replace(container.Command), replace(container.Args)
	if missing != "" {
		return invalid("BadTaskSpecification", "the command names the input %q, which is no input of a simple type", missing)
	}
	return nil
}

// values by lower-case name.
func (a *Attempt) values() map[string]string {
	spec, folder := &a.Action.Spec, Folder(a.Action, a.Number)
	previous := `""` // an argument of its own must not be empty
	if a.Previous != "" {
		previous = checkpoint(a.Previous)
	}
	return map[string]string{
		"input":                  spec.InputURI,
		"inputprefix":            strings.TrimSuffix(spec.InputURI, "/inputs.pb"),
		"outputprefix":           folder,
		"rawoutputdataprefix":    a.rawData(folder),
		"checkpointoutputprefix": checkpoint(folder),
		"prevcheckpointprefix":   previous,
		"runname":                spec.Run,
		"actionname":             spec.Action,
		"runstarttime":           a.runStart().UTC().Format(time.RFC3339Nano),
		"perretryuniquekey":      Name(a.Action, a.Number),
		"tasktemplatepath":       TemplateFile(folder),
		"namespace":              a.Action.Namespace,
	}
}

func checkpoint(folder string) string { return folder + "/_flytecheckpoints" }

// rawData is where files of the author's go: a folder that is this attempt's alone.
func (a *Attempt) rawData(folder string) string {
	prefix := strings.TrimSuffix(a.Run.GetRawDataStorage().GetRawDataPrefix(), "/")
	if prefix == "" {
		return folder
	}
	spec := &a.Action.Spec
	return strings.Join([]string{prefix, spec.Project, spec.Domain, spec.Run, spec.Action, strconv.Itoa(int(a.Number))}, "/")
}

// runStart is the same for every attempt of every action of a run: the SDK hashes
// it into the names of children.
func (a *Attempt) runStart() time.Time {
	if at := a.Run.GetRunStartTime(); at != nil {
		return at.AsTime()
	}
	return time.Unix(0, 0)
}

// inputValue writes an input of a simple type as text.
func inputValue(inputs *task.Inputs, name string) (string, bool) {
	for _, literal := range inputs.GetLiterals() {
		if literal.GetName() != name {
			continue
		}
		switch value := literal.GetValue().GetScalar().GetPrimitive().GetValue().(type) {
		case *core.Primitive_Integer:
			return strconv.FormatInt(value.Integer, 10), true
		case *core.Primitive_FloatValue:
			return strconv.FormatFloat(value.FloatValue, 'g', -1, 64), true
		case *core.Primitive_StringValue:
			return value.StringValue, true
		case *core.Primitive_Boolean:
			return strconv.FormatBool(value.Boolean), true
		case *core.Primitive_Datetime:
			return value.Datetime.AsTime().Format(time.RFC3339Nano), true
		case *core.Primitive_Duration:
			return value.Duration.AsDuration().String(), true
		}
		if uri := literal.GetValue().GetScalar().GetBlob().GetUri(); uri != "" {
			return uri, true
		}
	}
	return "", false
}
