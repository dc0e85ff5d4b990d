// Package sdkhash computes the hashes that Flyte's SDK computes, to the byte: of
// a task's inputs, of its interface, and of both with its version, which is the
// key that results are cached under. The SDK does it for the actions that a task
// starts, we for the root of a run; only if both agree is a result found again
// whichever way its task was called.
//
// It is not for hashes that are only ours. testdata/golden.json is what the SDK
// itself answers; testdata/golden.py makes it again. Start with Inputs.
package sdkhash

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
)

// Inputs is the hash of inputs, in their order, but for the ignored ones. It is
// empty where there are none, as the SDK has it, and that is not a mistake: the
// key of a task without inputs begins with its name.
func Inputs(literals []*task.NamedLiteral, ignored []string) string {
	sum, hashed := sha256.New(), false
	var b []byte
	for _, l := range literals {
		if slices.Contains(ignored, l.GetName()) {
			continue
		}
		b = append(append(b[:0], l.GetName()...), ':')
		b = append(appendLiteral(b, l.GetValue()), ';')
		sum.Write(b)
		hashed = true
	}
	if !hashed {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

// Interface is the hash of a task's inputs and outputs, whatever their order.
func Interface(i *core.TypedInterface) string {
	// The SDK hashes an empty message where there is no interface: to Python, a
	// message is true.
	sorted := &core.TypedInterface{}
	if i != nil {
		sorted = proto.CloneOf(i)
	}
	for _, m := range []*core.VariableMap{sorted.GetInputs(), sorted.GetOutputs()} {
		slices.SortStableFunc(m.GetVariables(), func(a, b *core.VariableEntry) int { return cmp.Compare(a.GetKey(), b.GetKey()) })
	}
	return digest(appendMessage(nil, sorted.ProtoReflect()))
}

// CacheKey is what a result of a task is cached under, of inputs whose hash is
// without the ignored ones.
func CacheKey(taskName, inputsHash string, i *core.TypedInterface, cacheVersion string) string {
	return digest([]byte(inputsHash + taskName + Interface(i) + cacheVersion))
}

// appendLiteral writes what the SDK takes to stand for a literal. A hash that the
// author gave stands for its value, at any depth of lists and maps.
func appendLiteral(b []byte, l *core.Literal) []byte {
	if l.GetHash() != "" {
		return append(b, l.GetHash()...)
	}
	switch value := l.GetValue().(type) {
	case *core.Literal_Collection:
		for _, nested := range value.Collection.GetLiterals() {
			b = appendLiteral(b, nested)
		}
		return b
	case *core.Literal_Map:
		literals := value.Map.GetLiterals()
		for _, key := range slices.Sorted(maps.Keys(literals)) {
			b = appendLiteral(append(b, key...), literals[key])
		}
		return b
	}
	if binary := l.GetScalar().GetBinary(); binary.GetTag() == "msgpack" {
		// Equal dictionaries may have been filled in different orders.
		if canonical := canonicalMsgpack(binary.GetValue()); !bytes.Equal(canonical, binary.GetValue()) {
			l = proto.CloneOf(l)
			l.GetScalar().GetBinary().Value = canonical
		}
	}
	return appendMessage(b, l.ProtoReflect())
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
