package node

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Bounds of what a container may leave in its log: it is one file of logSize, and
// logFiles-1 full ones before it.
const (
	logSize  = 10 << 20
	logFiles = 5
)

// logFile is the log of one attempt of a container. When it is full it is
// renamed beside itself, and made anew under its own name, which is what readers
// of the kubelet's log format expect.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
}

func openLog(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of a log: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	return &logFile{path: path, file: file}, nil
}

// Write takes whole lines. What cannot be written, on a full disk, is lost: a
// container must not hang on its log.
func (l *logFile) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return len(lines), nil
	}
	if l.size > 0 && l.size+int64(len(lines)) > logSize {
		l.rotate()
	}
	n, _ := l.file.Write(lines)
	l.size += int64(n)
	return len(lines), nil
}

func (l *logFile) rotate() {
	for i := logFiles - 1; i > 0; i-- {
		older, newer := fmt.Sprintf("%s.%d", l.path, i), fmt.Sprintf("%s.%d", l.path, i-1)
		if i == 1 {
			newer = l.path
		}
		_ = os.Rename(newer, older)
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return // the full one is written on
	}
	l.file.Close()
	l.file, l.size = file, 0
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// removeLog removes an attempt's log with all that was rotated.
func removeLog(path string) {
	_ = os.Remove(path)
	for i := 1; i < logFiles; i++ {
		_ = os.Remove(fmt.Sprintf("%s.%d", path, i))
	}
}
