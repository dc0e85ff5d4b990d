package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// childStreams are the streams of a new process: the ends that it gets, as
// descriptors of this process (0: /dev/null), and ours.
type childStreams struct {
	in, out, err          int
	ourIn, ourOut, ourErr *os.File

	tty     bool
	socket  fdSocket // the master of the terminal comes over it
	console *os.File

	proc int // where to send /proc; 0 is nowhere
}

func newChildStreams(tty, in, out, err bool) (*childStreams, error) {
	s := &childStreams{tty: tty}
	if tty {
		var failed error
		s.socket, failed = newFDSocket()
		return s, failed
	}
	for _, p := range []struct {
		wanted      bool
		ours        **os.File
		theirs      *int
		childWrites bool
	}{{in, &s.ourIn, &s.in, false}, {out, &s.ourOut, &s.out, true}, {err, &s.ourErr, &s.err, true}} {
		if !p.wanted {
			continue
		}
		// Not os.Pipe: the child's end would not block, which programs do not expect.
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			s.closeChild()
			return nil, errors.Join(err, s.closeOurs())
		}
		ours, theirs := fds[1], fds[0]
		if p.childWrites {
			ours, theirs = fds[0], fds[1]
		}
		unix.SetNonblock(ours, true)
		*p.ours, *p.theirs = os.NewFile(uintptr(ours), "pipe"), theirs
	}
	return s, nil
}

// install makes the streams the process's 0, 1 and 2.
func (s *childStreams) install(t *script) {
	const doing = "open the streams"
	dup := func(fd uintptr, to uintptr) { t.do(doing, unix.SYS_DUP3, fd, to, 0) }
	if s.tty {
		master := t.result(t.do(doing, unix.SYS_OPENAT, atCWD, t.str("/dev/pts/ptmx"), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))
		t.do(doing, unix.SYS_IOCTL, master, unix.TIOCSPTLCK, pointer(t, new(int32)))
		terminal := t.result(t.do(doing, unix.SYS_IOCTL, master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY))
		t.send(doing, s.socket.theirs, master)
		t.do(doing, unix.SYS_IOCTL, terminal, unix.TIOCSCTTY, 0)
		for to := range uintptr(3) {
			dup(terminal, to)
		}
		return
	}
	null := uintptr(0)
	for to, fd := range []int{s.in, s.out, s.err} {
		if fd != 0 {
			dup(uintptr(fd), uintptr(to))
			continue
		}
		if null == 0 {
			null = t.result(t.do(doing, unix.SYS_OPENAT, atCWD, t.str("/dev/null"), unix.O_RDWR|unix.O_CLOEXEC))
		}
		dup(null, uintptr(to))
	}
}

// closeChild closes the ends that are the child's, which has them now.
func (s *childStreams) closeChild() {
	for _, fd := range []*int{&s.in, &s.out, &s.err} {
		if *fd != 0 {
			unix.Close(*fd)
			*fd = 0
		}
	}
	s.socket.close()
}

// closeOurs closes the other ends. It does not matter when they are already.
func (s *childStreams) closeOurs() error {
	for _, f := range []*os.File{s.ourIn, s.ourOut, s.ourErr, s.console} {
		if f != nil {
			f.Close()
		}
	}
	return nil
}

func (s *childStreams) receiveConsole() (err error) {
	if s.tty {
		s.console, err = s.socket.receive("terminal")
	}
	return err
}

func (s *childStreams) stdin() io.WriteCloser {
	if s.console != nil {
		return keepOpen{s.console} // whose end is not that of the input alone
	}
	return s.ourIn
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// read has a container's output written to o.
func (s *childStreams) read(o *output) *sync.WaitGroup {
	readers := &sync.WaitGroup{}
	if s.console != nil {
		readers.Go(func() { o.read(s.console, 0) })
		return readers
	}
	readers.Go(func() { o.read(s.ourOut, 0) })
	readers.Go(func() { o.read(s.ourErr, 1) })
	return readers
}

// pump has an exec's output handed on.
func (s *childStreams) pump(out, err io.Writer) []*pump {
	if s.console != nil {
		if out == nil {
			out = io.Discard
		}
		return []*pump{startPump(s.console, out)}
	}
	var pumps []*pump
	if out != nil {
		pumps = append(pumps, startPump(s.ourOut, out))
	}
	if err != nil {
		pumps = append(pumps, startPump(s.ourErr, err))
	}
	return pumps
}

// An fdSocket carries a descriptor from a script to us.
type fdSocket struct{ ours, theirs int }

func newFDSocket() (fdSocket, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return fdSocket{fds[0], fds[1]}, err
}

func (f *fdSocket) close() {
	if f.ours != 0 {
		unix.Close(f.ours)
		unix.Close(f.theirs)
		*f = fdSocket{}
	}
}

// receive returns what was sent before the program was executed.
func (f *fdSocket) receive(name string) (*os.File, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(f.ours, data, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if name == "terminal" {
		unix.SetNonblock(fds[0], true)
	}
	return os.NewFile(uintptr(fds[0]), name), nil
}

// send sends a descriptor over a socket of ours. Its number has to be known
// when the script is written: 0, which is free until the streams are installed.
func (s *script) send(doing string, socket int, fd uintptr) {
	s.do(doing, unix.SYS_DUP3, fd, 0, 0)
	data, control := []byte{0}, unix.UnixRights(0)
	message := &unix.Msghdr{Iov: &unix.Iovec{Base: &data[0], Len: 1}, Iovlen: 1, Control: &control[0]}
	message.SetControllen(len(control))
	s.do(doing, unix.SYS_SENDMSG, uintptr(socket), pointer(s, message), 0)
}

// output is where a container's output goes: to its log, and to those who are
// attached.
type output struct {
	mu       sync.Mutex
	log      io.Writer
	ended    bool
	watchers map[*watcher]struct{}
}

func newOutput(log io.Writer) *output {
	if log == nil {
		log = io.Discard
	}
	return &output{log: log, watchers: map[*watcher]struct{}{}}
}

var streamNames = [2]string{"stdout", "stderr"}

// maxLine is the longest content of a line in the log; a longer one is cut in
// parts (tag P). It is the field's number.
const maxLine = 16 << 10

// buffers are shared: most containers are silent most of the time.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// read reads a stream to its end. Lines are written to the log once they are
// complete, several with one call.
func (o *output) read(from *os.File, stream int) {
	conn, err := from.SyscallConn()
	if err != nil {
		return
	}
	var pending []byte // of a line without an end yet
	for {
		var buffer *[]byte
		var n int
		var readErr error
		err := conn.Read(func(fd uintptr) bool {
			buffer = buffers.Get().(*[]byte)
			n, readErr = unix.Read(int(fd), *buffer)
			if readErr == unix.EAGAIN || readErr == unix.EINTR {
				buffers.Put(buffer)
				return false
			}
			return true
		})
		if err != nil || readErr != nil || n <= 0 { // EIO is the end of a terminal
			break
		}
		chunk := (*buffer)[:n]
		pending = o.writeLines(stream, pending, chunk)
		o.deliver(stream, chunk)
		buffers.Put(buffer)
	}
	if len(pending) > 0 {
		// A last line without its end is a part, or readers would add the end.
		o.writeLog(appendLine(nil, time.Now(), stream, "P", pending))
	}
}

// writeLines writes what is complete and returns what is not.
func (o *output) writeLines(stream int, pending, chunk []byte) []byte {
	now := time.Now()
	var lines []byte
	for len(chunk) > 0 {
		end := bytes.IndexByte(chunk, '\n')
		part := chunk
		if end >= 0 {
			part = chunk[:end]
		}
		if room := maxLine - len(pending); len(part) > room {
			lines = appendLine(lines, now, stream, "P", append(pending, part[:room]...))
			pending, chunk = pending[:0], chunk[room:]
			continue
		}
		if end < 0 {
			pending = append(pending, part...)
			break
		}
		// A terminal ends lines with both; containerd logs neither.
		lines = appendLine(lines, now, stream, "F", bytes.TrimSuffix(append(pending, part...), []byte("\r")))
		pending, chunk = pending[:0], chunk[end+1:]
	}
	if len(lines) > 0 {
		o.writeLog(lines)
	}
	if len(pending) == 0 {
		return nil
	}
	return pending
}

func appendLine(to []byte, now time.Time, stream int, tag string, content []byte) []byte {
	to = now.UTC().AppendFormat(to, "2006-01-02T15:04:05.000000000Z07:00")
	to = append(append(append(append(append(to, ' '), streamNames[stream]...), ' '), tag...), ' ')
	return append(append(to, content...), '\n')
}

func (o *output) writeLog(lines []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log.Write(lines) // a full disk must not stop the container
}

// A watcher is one who is attached.
type watcher struct {
	queue chan piece    // bounded: who reads slowly slows the container, as a slow terminal does
	gone  chan struct{} // closed by dropped
	once  sync.Once
}

type piece struct {
	stream int
	data   []byte
}

func (w *watcher) drop() { w.once.Do(func() { close(w.gone) }) }

func (o *output) deliver(stream int, chunk []byte) {
	o.mu.Lock()
	watchers := make([]*watcher, 0, len(o.watchers))
	for w := range o.watchers {
		watchers = append(watchers, w)
	}
	o.mu.Unlock()
	if len(watchers) == 0 {
		return
	}
	data := bytes.Clone(chunk)
	for _, w := range watchers {
		select {
		case w.queue <- piece{stream, data}:
		case <-w.gone:
		}
	}
}

func (o *output) watch() *watcher {
	w := &watcher{queue: make(chan piece, 16), gone: make(chan struct{})}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.watchers[w] = struct{}{}
	}
	return w
}

func (o *output) unwatch(w *watcher) {
	w.drop()
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.watchers, w)
}

func (o *output) dropWatchers() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for w := range o.watchers {
		w.drop()
	}
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

// Attach hands on the program's output from now on, and input to it, until the
// program ends, s.Out or s.Err fails, or ctx is done.
func (c *Container) Attach(ctx context.Context, s Streams) error {
	w := c.output.watch()
	defer c.output.unwatch(w)
	stopped := make(chan struct{})
	defer close(stopped)
	if c.console != nil {
		go resize(c.console, s.Resize, stopped)
	}
	if s.In != nil {
		go c.input(s.In)
		if c.spec.OnceIn {
			defer c.closeStdin()
		}
	}
	write := func(p piece) error {
		to := s.Out
		if p.stream == 1 {
			to = s.Err
		}
		if to == nil {
			return nil
		}
		_, err := to.Write(p.data)
		return err
	}
	for {
		select {
		case p := <-w.queue:
			if err := write(p); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			for { // nothing comes any more
				select {
				case p := <-w.queue:
					if err := write(p); err != nil {
						return err
					}
				default:
					return nil
				}
			}
		}
	}
}

// input copies to standard input, which several may do at once. It ends with
// from, or at the latest with the first byte after the container's end.
func (c *Container) input(from io.Reader) {
	c.stdinMu.Lock()
	stdin := c.stdin
	c.stdinMu.Unlock()
	if stdin == nil {
		return
	}
	if _, err := io.Copy(stdin, from); err == nil && c.spec.OnceIn {
		c.closeStdin()
	}
}

func (c *Container) closeStdin() {
	c.stdinMu.Lock()
	defer c.stdinMu.Unlock()
	if c.stdin != nil {
		c.stdin.Close()
		c.stdin = nil
	}
}
