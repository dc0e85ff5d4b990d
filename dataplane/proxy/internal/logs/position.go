package logs

import (
	"errors"
	"io"
	"time"
)

// position is behind the last line that was given out.
//
// What the executor keeps is what it read at the kubelet, byte for byte, so an
// offset finds the place there. The kubelet knows no offsets but times, and those
// in seconds: there it is the number of lines since the latest full second. Both
// are believed only if the last line is found where it should be; what comes
// after its time is given out otherwise.
type position struct {
	offset int64 // in bytes, of whole lines
	last   mark

	second time.Time // the latest there was
	lines  int       // since it began
	inLine int64     // bytes of the next line's text that were given out
}

// next moves behind a line that was given out, whole.
func (at *position) next(line mark) {
	at.inLine = 0
	at.offset += line.length
	at.last = line
	if second := line.at.Truncate(time.Second); second.After(at.second) {
		at.second, at.lines = second, 0
	}
	if !line.at.Before(at.second) {
		at.lines++
	}
}

// skipLines moves a reader, which begins with the latest second, to the position.
func (at *position) skipLines(r *reader) (found bool, err error) {
	for n := 0; n < at.lines; {
		p, err := r.piece()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !p.ends {
			continue
		}
		if n++; n == at.lines {
			return p.line.sum == at.last.sum, nil
		}
	}
	return true, nil
}

// skipLast moves a reader, which begins with the last line, to the position.
func (at *position) skipLast(r *reader) (found bool, err error) {
	if at.offset == 0 {
		return true, nil
	}
	for {
		p, err := r.piece()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if p.ends {
			return p.line.sum == at.last.sum && p.line.length == at.last.length, nil
		}
	}
}
