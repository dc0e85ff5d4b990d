package sdkhash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"unicode/utf8"
)

// maxDepth of values within values that Python's msgpack packs.
const maxDepth = 511

var errMsgpack = errors.New("what Python does not read")

// canonicalMsgpack sorts the maps in data by their packed keys, at every depth,
// and packs everything as Python does, which reads it into values of its own and
// writes these. What Python cannot read, or not write again, stays as it is.
func canonicalMsgpack(data []byte) []byte {
	p := packing{rest: data}
	out, err := p.value(0)
	if err != nil || len(p.rest) > 0 {
		return data
	}
	return out
}

// packing reads what is left and returns each value as it is to be written.
type packing struct{ rest []byte }

func (p *packing) value(depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errMsgpack
	}
	head, err := p.take(1)
	if err != nil {
		return nil, err
	}
	switch c := head[0]; {
	case c <= 0x7f || c >= 0xe0: // small integers
		return []byte{c}, nil
	case c <= 0x8f:
		return p.dictionary(int(c&0x0f), depth)
	case c <= 0x9f:
		return p.array(int(c&0x0f), depth)
	case c <= 0xbf:
		return p.text(int(c & 0x1f))
	case c == 0xc0, c == 0xc2, c == 0xc3: // nil, false, true
		return []byte{c}, nil
	case c >= 0xc4 && c <= 0xc6:
		return p.sized(1<<(c-0xc4), p.blob)
	case c >= 0xc7 && c <= 0xc9:
		return p.sized(1<<(c-0xc7), p.extension)
	case c == 0xca:
		bits, err := p.number(4)
		return packFloat(float64(math.Float32frombits(uint32(bits)))), err
	case c == 0xcb:
		bits, err := p.number(8)
		return packFloat(math.Float64frombits(bits)), err
	case c >= 0xcc && c <= 0xcf:
		n, err := p.number(1 << (c - 0xcc))
		return packUint(n), err
	case c >= 0xd0 && c <= 0xd3:
		size := 1 << (c - 0xd0)
		n, err := p.number(size)
		shift := 64 - 8*size
		return packInt(int64(n<<shift) >> shift), err
	case c >= 0xd4 && c <= 0xd8:
		return p.extension(1 << (c - 0xd4))
	case c >= 0xd9 && c <= 0xdb:
		return p.sized(1<<(c-0xd9), p.text)
	case c == 0xdc || c == 0xdd:
		return p.sized(2<<(c-0xdc), func(n int) ([]byte, error) { return p.array(n, depth) })
	case c == 0xde || c == 0xdf:
		return p.sized(2<<(c-0xde), func(n int) ([]byte, error) { return p.dictionary(n, depth) })
	}
	return nil, errMsgpack
}

func (p *packing) array(n, depth int) ([]byte, error) {
	if n > len(p.rest) {
		return nil, errMsgpack
	}
	out := packHead(nil, n, 0x90, 16, 0, 0xdc)
	for range n {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return out, nil
}

// dictionary is read as Python's dict: keys that are equal there (1, 1.0 and True
// are) are one, the last of their values is theirs, and the first of them stays.
func (p *packing) dictionary(n, depth int) ([]byte, error) {
	if 2*n > len(p.rest) {
		return nil, errMsgpack
	}
	type entry struct{ key, value []byte }
	entries, seen := make([]entry, 0, n), make(map[string]int, n)
	for i := range n {
		key, identity, err := p.key()
		if err != nil {
			return nil, err
		}
		value, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if identity == "nan" { // equal to nothing, itself included
			identity += fmt.Sprint(i)
		}
		if at, ok := seen[identity]; ok {
			entries[at].value = value
			continue
		}
		seen[identity] = len(entries)
		entries = append(entries, entry{key, value})
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	out := packHead(nil, len(entries), 0x80, 16, 0, 0xde)
	for _, e := range entries {
		out = append(append(out, e.key...), e.value...)
	}
	return out, nil
}

// key reads a key: its packed form, and what it equals by. Python takes no list
// or map for a key.
func (p *packing) key() (packed []byte, identity string, err error) {
	if len(p.rest) == 0 {
		return nil, "", errMsgpack
	}
	before := p.rest
	c := before[0]
	if c >= 0x80 && c <= 0x9f || c >= 0xdc && c <= 0xdf {
		return nil, "", errMsgpack
	}
	if packed, err = p.value(0); err != nil {
		return nil, "", err
	}
	switch c := packed[0]; {
	case c >= 0x90 && c <= 0x9f:
		// An extension, which becomes a list as a value, but not as a key.
		packed = packExtension(before[:len(before)-len(p.rest)])
		return packed, "x" + string(packed), nil
	case c == 0xcb:
		f := math.Float64frombits(binary.BigEndian.Uint64(packed[1:]))
		switch {
		case math.IsNaN(f):
			return packed, "nan", nil
		case f == math.Trunc(f) && !math.IsInf(f, 0):
			whole, _ := big.NewFloat(f).Int(nil)
			return packed, "n" + whole.String(), nil
		}
		return packed, "f" + string(packed), nil
	case c == 0xc2:
		return packed, "n0", nil
	case c == 0xc3:
		return packed, "n1", nil
	case c <= 0x7f:
		return packed, fmt.Sprint("n", c), nil
	case c >= 0xe0:
		return packed, fmt.Sprint("n", int8(c)), nil
	case c >= 0xcc && c <= 0xcf:
		n, _ := (&packing{packed[1:]}).number(1 << (c - 0xcc))
		return packed, fmt.Sprint("n", n), nil
	case c >= 0xd0 && c <= 0xd3:
		size := 1 << (c - 0xd0)
		n, _ := (&packing{packed[1:]}).number(size)
		shift := 64 - 8*size
		return packed, fmt.Sprint("n", int64(n<<shift)>>shift), nil
	}
	return packed, "s" + string(packed), nil
}

func (p *packing) text(n int) ([]byte, error) {
	s, err := p.take(n)
	if err != nil || !utf8.Valid(s) {
		return nil, errMsgpack
	}
	return append(packHead(nil, n, 0xa0, 32, 0xd9, 0xda), s...), nil
}

func (p *packing) blob(n int) ([]byte, error) {
	s, err := p.take(n)
	if err != nil {
		return nil, err
	}
	return append(packHead(nil, n, 0, 0, 0xc4, 0xc5), s...), nil
}

// extension: Python's is a tuple of a code and bytes, and so the SDK makes a list
// of it. But the code -1 is a time, which stays one.
func (p *packing) extension(n int) ([]byte, error) {
	code, err := p.take(1)
	if err != nil {
		return nil, err
	}
	body, err := p.take(n)
	switch {
	case err != nil:
		return nil, err
	case code[0] == 0xff:
		return packTime(body)
	case code[0] > 0x7f:
		return nil, errMsgpack
	}
	out := []byte{0x92, code[0]}
	return append(packHead(out, n, 0, 0, 0xc4, 0xc5), body...), nil
}

// packExtension packs what was read as an extension, as one.
func packExtension(raw []byte) []byte {
	p := packing{rest: raw[1:]}
	n := 0
	if c := raw[0]; c <= 0xc9 {
		length, _ := p.number(1 << (c - 0xc7))
		n = int(length)
	} else {
		n = 1 << (c - 0xd4)
	}
	var out []byte
	switch n {
	case 1, 2, 4, 8, 16:
		out = []byte{0xd4 + byte(slices.Index([]int{1, 2, 4, 8, 16}, n))}
	default:
		out = packHead(nil, n, 0, 0, 0xc7, 0xc8)
	}
	return append(out, p.rest...)
}

func packTime(body []byte) ([]byte, error) {
	var seconds int64
	var nanos uint64
	switch len(body) {
	case 4:
		seconds = int64(binary.BigEndian.Uint32(body))
	case 8:
		both := binary.BigEndian.Uint64(body)
		nanos, seconds = both>>34, int64(both&(1<<34-1))
	case 12:
		nanos, seconds = uint64(binary.BigEndian.Uint32(body)), int64(binary.BigEndian.Uint64(body[4:]))
	default:
		return nil, errMsgpack
	}
	if nanos >= 1e9 {
		return nil, errMsgpack
	}
	if seconds>>34 != 0 {
		out := binary.BigEndian.AppendUint32([]byte{0xc7, 12, 0xff}, uint32(nanos))
		return binary.BigEndian.AppendUint64(out, uint64(seconds)), nil
	}
	if both := nanos<<34 | uint64(seconds); both>>32 != 0 {
		return binary.BigEndian.AppendUint64([]byte{0xd7, 0xff}, both), nil
	}
	return binary.BigEndian.AppendUint32([]byte{0xd6, 0xff}, uint32(seconds)), nil
}

// packHead writes a length: in the first byte where it is less than short, else
// behind the code for 8 bits (0: there is none), 16 or 32 bits.
func packHead(b []byte, n int, fixed byte, short int, code8, code16 byte) []byte {
	switch {
	case n < short:
		return append(b, fixed|byte(n))
	case n < 1<<8 && code8 != 0:
		return append(b, code8, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, code16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, code16+1), uint32(n))
}

func packFloat(f float64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0xcb}, math.Float64bits(f))
}

func packUint(n uint64) []byte {
	switch {
	case n < 1<<7:
		return []byte{byte(n)}
	case n < 1<<8:
		return []byte{0xcc, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{0xcd}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{0xce}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{0xcf}, n)
}

func packInt(n int64) []byte {
	switch {
	case n >= 0:
		return packUint(uint64(n))
	case n >= -1<<5:
		return []byte{byte(n)}
	case n >= math.MinInt8:
		return []byte{0xd0, byte(n)}
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16([]byte{0xd1}, uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32([]byte{0xd2}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{0xd3}, uint64(n))
}

// sized reads a length of so many bytes and then what is so long.
func (p *packing) sized(bytes int, read func(int) ([]byte, error)) ([]byte, error) {
	n, err := p.number(bytes)
	if err != nil {
		return nil, err
	}
	return read(int(n))
}

func (p *packing) number(bytes int) (uint64, error) {
	s, err := p.take(bytes)
	var n uint64
	for _, b := range s {
		n = n<<8 | uint64(b)
	}
	return n, err
}

func (p *packing) take(n int) ([]byte, error) {
	if n > len(p.rest) {
		return nil, errMsgpack
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken, nil
}
