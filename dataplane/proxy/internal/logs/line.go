package logs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"time"
	"unicode/utf8"
)

// maxPiece of a line is held at a time. A container may write a line of any
// length; most of them end here. A piece ends between two characters.
const maxPiece = 16 << 10

// piece is a line, or one of several of it.
type piece struct {
	at   time.Time
	text []byte // valid until the next; with its newline
	ends bool   // the line
	line mark   // if it ends: the whole line
}

// mark is enough of a line to know it again.
type mark struct {
	at     time.Time
	length int64 // with its timestamp and newline
	sum    uint64
}

// reader takes lines with timestamps apart.
type reader struct {
	body  io.Closer
	lines *bufio.Reader
	after time.Time // if not zero: lines up to then are left out
	// stamped says that the first line must have a timestamp: what has none there
	// is not the log, but the kubelet's word that there is none.
	stamped bool

	sum    maphash.Hash
	at     time.Time
	length int64  // of what was read of this line
	begun  []byte // of a character, whose other bytes are in the next piece
}

// seed is one for all readers, for marks to be compared.
var seed = maphash.MakeSeed()

func newReader(body io.ReadCloser) *reader {
	r := &reader{body: body, lines: bufio.NewReaderSize(body, maxPiece)}
	r.sum.SetSeed(seed)
	return r
}

func (r *reader) close() { r.body.Close() }

// piece returns the next. With io.EOF comes the text of a line that has not
// ended.
func (r *reader) piece() (piece, error) {
	for {
		p, err := r.any()
		if err != nil && err != io.EOF || r.after.IsZero() || p.at.After(r.after) {
			return p, err
		}
		if err == io.EOF {
			p.text = nil
			return p, err
		}
	}
}

func (r *reader) any() (piece, error) {
	raw, err := r.lines.ReadSlice('\n')
	full := errors.Is(err, bufio.ErrBufferFull)
	if err != nil && !full && err != io.EOF {
		return piece{}, err
	}
	text := raw
	if r.length == 0 {
		stamp, rest, _ := bytes.Cut(raw, []byte{' '})
		switch at, bad := time.Parse(time.RFC3339Nano, string(stamp)); {
		case bad == nil:
			r.at, text = at, rest
		case r.stamped && r.at.IsZero() && len(raw) > 0:
			return piece{}, fmt.Errorf("%w: %.200s", ErrGone, raw)
		}
	}
	r.length += int64(len(raw))
	r.sum.Write(raw)
	p := piece{at: r.at, text: text}
	if err == nil {
		p.ends, p.line = true, mark{at: r.at, length: r.length, sum: r.sum.Sum64()}
		r.sum.Reset()
		r.length = 0
	}
	if len(r.begun) > 0 {
		p.text, r.begun = append(r.begun, p.text...), nil
	}
	if full {
		whole := len(p.text) - incomplete(p.text)
		r.begun = bytes.Clone(p.text[whole:])
		p.text, err = p.text[:whole], nil
	}
	return p, err
}

// incomplete counts the bytes at the end that begin a character and do not end it.
func incomplete(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if last := text[len(text)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}
