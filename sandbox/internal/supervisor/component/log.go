package component

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// A log is two files at most, NAME.log and NAME.log.1, of this size each.
const logLimit = 8 << 20

// logFile is a component's log. It takes every write: a component must not
// stand still, or die, because its log cannot be written.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File // nil when it could not be opened; tried again at the next write
	size int64
	torn bool // the last line has no end yet
}

// OpenLog returns a log that is written to path, within the same bounds.
func OpenLog(path string) io.Writer { return openLog(path) }

func openLog(path string) *logFile { return &logFile{path: path} }

func (l *logFile) Write(content []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= logLimit && !l.torn {
		l.rotate()
	}
	if l.file == nil && !l.open() {
		return len(content), nil
	}
	n, _ := l.file.Write(content) // a full disk: the rest is lost, and the next may go
	l.size += int64(n)
	// A line is kept whole, unless it alone is a quarter of the limit.
	l.torn = !bytes.HasSuffix(content, []byte("\n")) && l.size < logLimit+logLimit/4
	return len(content), nil
}

func (l *logFile) open() bool {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return false
	}
	l.file = file
	if info, err := file.Stat(); err == nil {
		l.size = info.Size()
	}
	return true
}

// rotate makes the file the old one. Where that fails the file is emptied: the
// limit is a promise, the old lines are not.
func (l *logFile) rotate() {
	if l.file == nil {
		return
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		l.file.Truncate(0)
		l.size = 0
		return
	}
	l.file.Close()
	l.file, l.size = nil, 0
}

// marker begins what one process wrote.
const marker = "--- started by the supervisor at "

func (l *logFile) begin() {
	fmt.Fprintf(l, "%s%s\n", marker, time.Now().UTC().Format(time.RFC3339Nano))
}

// wordsOf are how a process says its last, gravest first: the levels of etcd's
// logs, which hold the cause where the panic that follows does not; a panic of
// Go; the levels of Kubernetes' and our own.
var wordsOf = [][]string{
	{`"level":"panic"`, `"level":"fatal"`},
	{"panic: ", "Error: ", "F1", "F0"},
	{`"level":"error"`, "level=ERROR", "E1", "E0"},
}

// lastWords is the line by which the last process most likely says why it ended.
func (l *logFile) lastWords() string {
	lines := l.tail(500)
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], marker) {
			lines = lines[i+1:]
			break
		}
	}
	for _, marks := range wordsOf {
		for i := len(lines) - 1; i >= 0; i-- {
			for _, mark := range marks {
				if strings.HasPrefix(lines[i], mark) || len(mark) > 4 && strings.Contains(lines[i], mark) {
					return plain(lines[i])
				}
			}
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// plain is what a line of JSON says to a person.
func plain(line string) string {
	var entry struct{ Msg, Error string }
	if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg == "" {
		return line
	}
	if entry.Error == "" {
		return entry.Msg
	}
	return entry.Msg + ": " + entry.Error
}

// tail is the last lines.
func (l *logFile) tail(lines int) []string {
	const most = 64 << 10
	file, err := os.Open(l.path)
	if err != nil {
		return nil
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > most {
		file.Seek(-most, io.SeekEnd)
	}
	content, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return nil
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return all[max(0, len(all)-lines):]
}
