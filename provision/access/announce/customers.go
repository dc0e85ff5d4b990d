package announce

import (
	"crypto/hmac"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/goccy/go-yaml/ast"

	"biplane.dev/biplane/internal/configfile"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
)

// Header is what the file of customers begins with.
var Header = configfile.Header{APIVersion: "biplane.dev/v1", Kind: "ExpectedCustomers"}

// Customer is one whom the vendor expects.
type Customer struct {
	Name string `yaml:"name"` // as the vendor calls it; it is in the line that is written
	// ExternalIDs are those that were made for the customer: one, or two while it is rotated.
	ExternalIDs []word `yaml:"externalIds"`
	// Account is the customer's, where it is known beforehand. Empty: whichever proves to have the external ID.
	Account word `yaml:"account"`
}

// word is a text as it is written, quoted or not: one of digits is no number.
type word string

// UnmarshalYAML takes the text of a scalar.
func (w *word) UnmarshalYAML(node ast.Node) error {
	scalar, ok := node.(ast.ScalarNode)
	if !ok {
		return fmt.Errorf("line %d: it must be one piece of text", node.GetToken().Position.Line)
	}
	*w = word(scalar.GetToken().Value)
	return nil
}

type customersFile struct {
	configfile.Header `yaml:",inline"`
	Customers         []Customer `yaml:"customers"`
}

// Customers are those of a file, read again when the file changes.
type Customers struct {
	file string

	lock    sync.Mutex
	size    int64
	changed time.Time
	list    []Customer
	wrong   error // of the last reading; list is what was read before
}

var (
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
)

// ReadCustomers reads the file, which nobody but its owner may read. Its errors are
// *usererr.Error.
func ReadCustomers(file string) (*Customers, error) {
	c := &Customers{file: file}
	if _, err := c.current(); err != nil {
		return nil, err
	}
	return c, nil
}

// current is the newest list that can be used. With it comes what is wrong with the file
// as it is now, where that is something.
func (c *Customers) current() ([]Customer, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	info, err := os.Stat(c.file)
	switch {
	case err != nil:
		return c.list, usererr.New(usererr.Invalid, "cannot read the expected customers %s: %v", c.file, err).
			WithHint("name a file that you can read with --expect").Because(err)
	case info.Mode().Perm()&0o077 != 0:
		return c.list, usererr.New(usererr.Invalid, "the expected customers %s can be read or changed by others than their owner (mode %04o)", c.file, info.Mode().Perm()).
			WithHint("run 'chmod 600 %s'", c.file)
	case info.Size() == c.size && info.ModTime().Equal(c.changed):
		return c.list, c.wrong
	}
	c.size, c.changed = info.Size(), info.ModTime()
	list, err := readCustomers(c.file)
	if c.wrong = err; err == nil {
		c.list = list
	}
	return c.list, err
}

func readCustomers(file string) ([]Customer, error) {
	var read customersFile
	if err := configfile.Load(file, Header, &read); err != nil {
		return nil, err
	}
	if len(read.Customers) == 0 {
		return nil, usererr.New(usererr.Invalid, "%s: there are no customers", file).
			WithHint("docs/access-announce.md has an example")
	}
	names, holders := map[string]bool{}, map[word]string{}
	for i, one := range read.Customers {
		switch {
		case !nameForm.MatchString(one.Name):
			return nil, usererr.New(usererr.Invalid, "%s: customers[%d].name cannot be %q", file, i, one.Name).
				WithHint("write up to 64 letters, digits, '.', '_' and '-'")
		case names[one.Name]:
			return nil, usererr.New(usererr.Invalid, "%s: there are two customers %q", file, one.Name).
				WithHint("give one customer all its externalIds in one entry")
		case one.Account != "" && !accountForm.MatchString(string(one.Account)):
			return nil, usererr.New(usererr.Invalid, "%s: account %q of customer %s is not an AWS account", file, one.Account, one.Name).
				WithHint("write its twelve digits, in quotes")
		case len(one.ExternalIDs) == 0:
			return nil, usererr.New(usererr.Invalid, "%s: customer %s has no externalIds", file, one.Name).
				WithHint("run 'biplane access new-external-id' to make one")
		}
		names[one.Name] = true
		for _, id := range one.ExternalIDs {
			if err := access.CheckExternalID(string(id)); err != nil {
				return nil, usererr.New(usererr.Invalid, "%s: an external ID of customer %s cannot be used: it must have 8 to 24 of A-Z a-z 0-9 _ + = , . @ : / -", file, one.Name).
					WithHint("run 'biplane access new-external-id' to make one").Because(err)
			}
			if other, taken := holders[id]; taken {
				return nil, usererr.New(usererr.Invalid, "%s: customers %s and %s have the same external ID", file, other, one.Name).
					WithHint("each customer needs one of its own; 'biplane access new-external-id' makes one")
			}
			holders[id] = one.Name
		}
	}
	return read.Customers, nil
}

// find returns the customer who has the external ID behind a MAC, and that ID; nil is
// nobody. It takes as long whoever it is.
func find(list []Customer, digest, mac string) (found *Customer, externalID string) {
	for i := range list {
		for _, id := range list[i].ExternalIDs {
			if hmac.Equal([]byte(MAC(string(id), digest)), []byte(mac)) {
				found, externalID = &list[i], string(id)
			}
		}
	}
	return found, externalID
}
