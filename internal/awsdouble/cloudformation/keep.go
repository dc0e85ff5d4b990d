package cloudformation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// kept is the file.
type kept struct {
	Now    time.Time // when it was written, by the clock that the states go by
	Stacks []*stack
}

// load reads the stacks that an earlier process has kept. Its clock may have run far
// ahead: the time goes on from where it was.
func (s *Service) load() error {
	if s.file == "" {
		return nil
	}
	text, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the stacks in %s cannot be read: %w", s.file, err)
	}
	var k kept
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // a property is the number that the template wrote
	if err := d.Decode(&k); err != nil {
		return fmt.Errorf("the stacks in %s are damaged; move the file away to start without: %w", s.file, err)
	}
	s.stacks, s.ahead = k.Stacks, max(0, k.Now.Sub(s.clock.Now()))
	return nil
}

// save writes the stacks, whole or not at all. NoEcho's values are among them, hence 0600.
func (s *Service) save() error {
	if s.file == "" {
		return nil
	}
	text, err := json.Marshal(kept{s.now(), s.stacks})
	if err != nil {
		return fmt.Errorf("keeping the stacks: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(s.file), ".stacks-") // mode 0600
	if err != nil {
		return fmt.Errorf("keeping the stacks: %w", err)
	}
	defer os.Remove(f.Name()) // of no effect once it has its name
	if _, err := f.Write(text); err != nil {
		f.Close()
		return fmt.Errorf("keeping the stacks: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("keeping the stacks: %w", err)
	}
	if err := os.Rename(f.Name(), s.file); err != nil {
		return fmt.Errorf("keeping the stacks: %w", err)
	}
	return nil
}

// keep is save where nobody can be told.
func (s *Service) keep() {
	if err := s.save(); err != nil {
		s.log.Error("the stacks were not kept", "error", err)
	}
}

// asKept is a value as JSON has it, so that two compare alike whether they were kept or not.
func asKept(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(text, &out) != nil {
		return v
	}
	return out
}
