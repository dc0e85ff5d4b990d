package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"biplane.dev/biplane/internal/usererr"
)

// Key is an access key.
type Key struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

// ReadKey reads an access key from a file that nobody else can read.
func ReadKey(path string) (Key, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, usererr.New(usererr.NotFound, "the access key's file %s does not exist", path).WithHint("write it as {\"id\":…,\"secret\":…} with mode 0600")
	}
	if err != nil {
		return Key{}, fmt.Errorf("opening an access key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("looking at an access key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Key{}, usererr.New(usererr.Refused, "the access key's file %s can be read or changed by others: its mode is %04o, and should be 0600", path, info.Mode().Perm()).
			WithHint("run 'chmod 600 %s'; if somebody may have read it, make another key", path)
	}
	content, err := io.ReadAll(io.LimitReader(file, 64<<10))
	if err != nil {
		return Key{}, fmt.Errorf("reading the access key %s: %w", path, err)
	}
	var key Key
	if err := json.Unmarshal(content, &key); err != nil || key.ID == "" || key.Secret == "" {
		return Key{}, usererr.New(usererr.Invalid, "the access key's file %s has no id or no secret", path).WithHint("write it as {\"id\":…,\"secret\":…}")
	}
	return key, nil
}
