package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked is the error of Lock while somebody else has the lock.
var ErrLocked = errors.New("the folder is locked")

// Lock takes the lock on a sandbox's folder, or returns ErrLocked. unlock gives
// it up. The file stays: to delete it would let two hold locks of one name.
func Lock(f Folder) (unlock func(), err error) {
	file, err := LockFile(f)
	if err != nil {
		return nil, err
	}
	return func() { file.Close() }, nil
}

// LockFile is Lock for who hands the lock on: it goes when the last process that
// has the file open does. Every component has, so who gets the lock knows that
// nothing of a former start is left, even of one whose supervisor was killed.
func LockFile(f Folder) (*os.File, error) {
	file, err := os.OpenFile(f.LockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of sandbox %s: %w", f.Name(), err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("locking sandbox %s: %w", f.Name(), err)
	}
	return file, nil
}
