package sdkhash

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// appendMessage writes a message as the SDK's protobuf does when it is asked to
// be deterministic: fields by their numbers, maps by their keys. Go's own
// deterministic form differs, since it puts any member of a oneof where the
// first one of them would be.
func appendMessage(b []byte, m protoreflect.Message) []byte {
	// Fields that are newer than our copy of the interface are old to the SDK
	// that sent them: they have their places between the others.
	type field struct {
		number protowire.Number
		known  protoreflect.FieldDescriptor
		value  protoreflect.Value
		raw    []byte
	}
	var fields []field
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		fields = append(fields, field{number: fd.Number(), known: fd, value: v})
		return true
	})
	for rest := m.GetUnknown(); len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break
		}
		fields = append(fields, field{number: number, raw: rest[:n]})
		rest = rest[n:]
	}
	slices.SortStableFunc(fields, func(a, b field) int { return cmp.Compare(a.number, b.number) })
	for _, f := range fields {
		if f.known == nil {
			b = append(b, f.raw...)
		} else {
			b = appendField(b, f.known, f.value)
		}
	}
	return b
}

func appendField(b []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch {
	case fd.IsMap():
		type entry struct {
			key   protoreflect.MapKey
			value protoreflect.Value
		}
		var entries []entry
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			entries = append(entries, entry{k, v})
			return true
		})
		slices.SortFunc(entries, func(a, b entry) int { return compareKeys(fd.MapKey().Kind(), a.key, b.key) })
		for _, e := range entries {
			b = protowire.AppendTag(b, fd.Number(), protowire.BytesType)
			b = appendSized(b, func(b []byte) []byte {
				return appendSingle(appendSingle(b, fd.MapKey(), e.key.Value()), fd.MapValue(), e.value)
			})
		}
	case fd.IsList() && fd.IsPacked():
		b = protowire.AppendTag(b, fd.Number(), protowire.BytesType)
		b = appendSized(b, func(b []byte) []byte {
			for i := range v.List().Len() {
				b = appendValue(b, fd, v.List().Get(i))
			}
			return b
		})
	case fd.IsList():
		for i := range v.List().Len() {
			b = appendSingle(b, fd, v.List().Get(i))
		}
	default:
		b = appendSingle(b, fd, v)
	}
	return b
}

// appendSized puts the length of what write appends before it, which is moved for
// that: megabytes are moved faster than they are allocated at every depth.
func appendSized(b []byte, write func([]byte) []byte) []byte {
	start := len(b)
	b = write(b)
	length := protowire.AppendVarint(nil, uint64(len(b)-start))
	b = append(b, length...)
	copy(b[start+len(length):], b[start:])
	copy(b[start:], length)
	return b
}

func appendSingle(b []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	return appendValue(protowire.AppendTag(b, fd.Number(), wireType(fd.Kind())), fd, v)
}

func appendValue(b []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protowire.AppendVarint(b, protowire.EncodeBool(v.Bool()))
	case protoreflect.EnumKind:
		return protowire.AppendVarint(b, uint64(v.Enum()))
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return protowire.AppendVarint(b, uint64(v.Int()))
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return protowire.AppendVarint(b, protowire.EncodeZigZag(v.Int()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return protowire.AppendVarint(b, v.Uint())
	case protoreflect.Sfixed32Kind:
		return protowire.AppendFixed32(b, uint32(v.Int()))
	case protoreflect.Fixed32Kind:
		return protowire.AppendFixed32(b, uint32(v.Uint()))
	case protoreflect.FloatKind:
		return protowire.AppendFixed32(b, math.Float32bits(float32(v.Float())))
	case protoreflect.Sfixed64Kind:
		return protowire.AppendFixed64(b, uint64(v.Int()))
	case protoreflect.Fixed64Kind:
		return protowire.AppendFixed64(b, v.Uint())
	case protoreflect.DoubleKind:
		return protowire.AppendFixed64(b, math.Float64bits(v.Float()))
	case protoreflect.StringKind:
		return protowire.AppendString(b, v.String())
	case protoreflect.BytesKind:
		return protowire.AppendBytes(b, v.Bytes())
	default: // Flyte's interface has no groups
		return appendSized(b, func(b []byte) []byte { return appendMessage(b, v.Message()) })
	}
}

func wireType(kind protoreflect.Kind) protowire.Type {
	switch kind {
	case protoreflect.Sfixed32Kind, protoreflect.Fixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Sfixed64Kind, protoreflect.Fixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	}
	return protowire.VarintType
}

func compareKeys(kind protoreflect.Kind, a, b protoreflect.MapKey) int {
	switch kind {
	case protoreflect.StringKind:
		// Of two keys of which one begins with the other, the SDK's protobuf writes
		// the longer one first. It is an accident of its (it sorts from behind), and
		// in every hash.
		one, other := a.String(), b.String()
		if strings.HasPrefix(one, other) || strings.HasPrefix(other, one) {
			return cmp.Compare(len(other), len(one))
		}
		return cmp.Compare(one, other)
	case protoreflect.BoolKind:
		return cmp.Compare(protowire.EncodeBool(a.Bool()), protowire.EncodeBool(b.Bool()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return cmp.Compare(a.Uint(), b.Uint())
	}
	return cmp.Compare(a.Int(), b.Int())
}
