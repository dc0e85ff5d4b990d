package access

import "errors"

func (t *target) compat() (*Set, error) { return nil, errors.New("not yet") }
