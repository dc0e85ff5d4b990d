package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked is the error of Lock while somebody else has the lock.
var ErrLocked = errors.New("the folder is locked")

// Lock takes the folder's lock, which goes with the process that has it. The
// file stays: to delete it would let two hold locks of one name.
func Lock(f Folder) (unlock func(), err error) {
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
	return func() { file.Close() }, nil
}
