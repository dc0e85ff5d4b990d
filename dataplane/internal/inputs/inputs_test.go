package inputs_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/internal/inputs"
	"biplane.dev/biplane/internal/sdkhash"
)

func integer(n int64) *core.Literal {
	return &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{
		Primitive: &core.Primitive{Value: &core.Primitive_Integer{Integer: n}}}}}}
}

func named(name string, value *core.Literal) *task.NamedLiteral {
	return &task.NamedLiteral{Name: name, Value: value}
}

// spec of a task of these inputs; those of defaults have one.
func spec(names []string, defaults map[string]int64) *task.TaskSpec {
	s := &task.TaskSpec{TaskTemplate: &core.TaskTemplate{
		Id:        &core.Identifier{Name: "env.main"},
		Interface: &core.TypedInterface{Inputs: &core.VariableMap{}},
	}}
	for _, name := range names {
		s.TaskTemplate.Interface.Inputs.Variables = append(s.TaskTemplate.Interface.Inputs.Variables, &core.VariableEntry{Key: name, Value: &core.Variable{}})
		p := &core.Parameter{Behavior: &core.Parameter_Required{Required: true}}
		if n, ok := defaults[name]; ok {
			p.Behavior = &core.Parameter_Default{Default: integer(n)}
		}
		s.DefaultInputs = append(s.DefaultInputs, &task.NamedParameter{Name: name, Parameter: p})
	}
	return s
}

func TestFill(t *testing.T) {
	t.Parallel()
	three := spec([]string{"z", "a", "m"}, map[string]int64{"m": 7})
	for _, test := range []struct {
		name string
		sent []*task.NamedLiteral
		spec *task.TaskSpec
		want []*task.NamedLiteral
		err  string
	}{
		{name: "it takes what is given, in the task's order", spec: three,
			sent: []*task.NamedLiteral{named("m", integer(3)), named("a", integer(2)), named("z", integer(1))},
			want: []*task.NamedLiteral{named("z", integer(1)), named("a", integer(2)), named("m", integer(3))}},
		{name: "it fills in defaults", spec: three,
			sent: []*task.NamedLiteral{named("a", integer(2)), named("z", integer(1))},
			want: []*task.NamedLiteral{named("z", integer(1)), named("a", integer(2)), named("m", integer(7))}},
		{name: "it takes nothing for a task without inputs", spec: spec(nil, nil)},
		{name: "it takes a value that is only a hash", spec: spec([]string{"x"}, nil),
			sent: []*task.NamedLiteral{named("x", &core.Literal{Hash: "h"})}, want: []*task.NamedLiteral{named("x", &core.Literal{Hash: "h"})}},
		{name: "it refuses an unknown name, and says those there are", spec: three,
			sent: []*task.NamedLiteral{named("y", integer(2))}, err: `the task env.main has no input "y"; its inputs are z, a, m`},
		{name: "it refuses any name where there are none", spec: spec(nil, nil),
			sent: []*task.NamedLiteral{named("y", integer(2))}, err: `the task env.main has no input "y"; it takes none`},
		{name: "it refuses a name that is given twice", spec: three,
			sent: []*task.NamedLiteral{named("a", integer(2)), named("a", integer(2))}, err: `the input "a" is given twice; give it once`},
		{name: "it refuses a name without value", spec: three,
			sent: []*task.NamedLiteral{named("m", nil)}, err: `the input "m" has no value; give it one, or leave it out to have its default`},
		{name: "it names what is missing", spec: three, err: `the task env.main needs a value for "z", "a", which has no default`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			context := []*core.KeyValuePair{{Key: "k", Value: "v"}}
			got, err := inputs.Fill(&task.Inputs{Literals: test.sent, Context: context}, test.spec)
			if test.err != "" {
				if refused := (*inputs.Error)(nil); !errors.As(err, &refused) || err.Error() != test.err {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if want := (&task.Inputs{Literals: test.want, Context: context}); err != nil || !proto.Equal(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	s := spec([]string{"a", "b"}, map[string]int64{"b": 7})
	s.TaskTemplate.Metadata = &core.TaskMetadata{CacheIgnoreInputVars: []string{"a"}}
	filled, err := inputs.Fill(&task.Inputs{Literals: []*task.NamedLiteral{named("a", integer(1))}}, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := inputs.Hash(filled, s), sdkhash.Inputs([]*task.NamedLiteral{named("b", integer(7))}, nil); got != want {
		t.Errorf("got %s, want %s, of what is not ignored", got, want)
	}
}

func TestMarshal(t *testing.T) {
	t.Parallel()
	large := func(last string) *task.Inputs {
		return &task.Inputs{Literals: []*task.NamedLiteral{named("a", &core.Literal{
			Hash: "same", Metadata: map[string]string{"z": strings.Repeat("1", 1000), "y": "2", "x": last}})}}
	}
	first, digest, err := inputs.Marshal(large("3"))
	if err != nil || len(digest) != 64 {
		t.Fatalf("got %q, %v, want a digest", digest, err)
	}
	for range 20 {
		if again, d, _ := inputs.Marshal(large("3")); string(again) != string(first) || d != digest {
			t.Fatalf("got other bytes or %s the next time, want %s", d, digest)
		}
	}
	if _, other, _ := inputs.Marshal(large("4")); other == digest {
		t.Errorf("got the digest %s for other contents of the same hash, want another", other)
	}
}
