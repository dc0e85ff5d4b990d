package identity

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
)

// Generation is a number in a file that grows whenever something was written
// that decisions depend on, before the writer is answered. An S3 server that
// keeps what it was told of an access key compares the number at each request,
// which costs a read of eight bytes and no question over the socket.
type Generation struct {
	file *os.File
	lock sync.Mutex
	last uint64
}

func generationFile(socket string) string { return socket + ".generation" }

// NewGeneration opens the file of a socket for writing, and begins with a number
// that it did not have before.
func NewGeneration(socket string) (*Generation, error) {
	file, err := os.OpenFile(generationFile(socket), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the generation: %w", err)
	}
	g := &Generation{file: file}
	if g.last, err = g.Read(); err != nil {
		g.last = 0 // a new file
	}
	g.Next()
	return g, nil
}

// OpenGeneration opens the file of a socket for reading.
func OpenGeneration(socket string) (*Generation, error) {
	file, err := os.Open(generationFile(socket))
	if err != nil {
		return nil, fmt.Errorf("opening the generation: %w", err)
	}
	return &Generation{file: file}, nil
}

// Next makes the number another one.
func (g *Generation) Next() {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.last++
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], g.last)
	// Eight bytes of a file that is there are written or the disk is gone, and
	// then the write that this is about failed before.
	if _, err := g.file.WriteAt(b[:], 0); err != nil {
		panic(fmt.Sprintf("identity: the generation cannot be written, so old decisions would be kept: %v", err))
	}
}

// Read is the number now.
func (g *Generation) Read() (uint64, error) {
	var b [8]byte
	if _, err := g.file.ReadAt(b[:], 0); err != nil {
		return 0, fmt.Errorf("reading the generation: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// Close closes the file and leaves it there.
func (g *Generation) Close() error { return g.file.Close() }
