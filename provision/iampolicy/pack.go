package iampolicy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Group is statements that a reader expects in one policy.
type Group struct {
	Name     string
	Document *Document
}

// Packed is one policy, within the limit.
type Packed struct {
	Name     string
	Document *Document
	Size     int
}

// TooLargeError says that a statement is larger than the limit and cannot be cut.
type TooLargeError struct {
	Name      string // of the document or group
	Statement int    // its index there
	Size      int    // of a document with nothing else in it
	Limit     int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("statement %d of %s takes %d characters and a policy holds %d; shorten its lists or give it fewer resources",
		e.Statement, e.Name, e.Size, e.Limit)
}

// Pack makes policies of groups, each of at most limit characters, so that
// their number and contents stay as they are while one statement changes. Use
// it for policies whose versions people compare; PackFewest for the fewest.
//
// A group that fits is one policy with the group's name. One that does not is
// halved, and each half that does not fit is halved again: a statement goes
// left or right by bits of a digest of its Sid, or without one of its first
// action and first resource, and by nothing else. So a statement that grows or
// comes can split the policy that it is in, one that shrinks or goes can have
// two halves joined, and no other policy ever changes. Halves are named after
// their group with -a and -b for each halving. Rejected: filling policies in
// order, where every statement after the changed one can move.
//
// Whether something fits is judged as if the names of region and partition
// were the longest that AWS has, so a group is packed in the same way
// everywhere; a policy has that much to spare in regions of shorter names. A
// statement too large for a policy of its own is cut into pieces. The error is
// a *TooLargeError.
func Pack(groups []Group, limit int) ([]Packed, error) {
	var out []Packed
	for _, g := range groups {
		whole := g.Document.clone()
		if longestSize(whole) <= limit {
			out = append(out, Packed{Name: g.Name, Document: whole, Size: whole.Size()})
			continue
		}
		pieces, err := cutAll(g.Name, whole, limit, longestSize)
		if err != nil {
			return nil, err
		}
		out = append(out, halve(g.Name, whole, placesOf(pieces), limit, 0)...)
	}
	for _, p := range out {
		p.Document.Name = p.Name
	}
	return out, nil
}

// PackFewest makes policies of a document, each of at most limit characters
// and as few as it finds: whole statements, the largest first, each into the
// first policy with room for it; where that takes more than the sum of sizes
// asks for, statements are cut to fill the policies if this saves one. The
// outcome can differ much for a small change, but not between regions: what fits
// is judged as Pack does. Minify first. The policies are called name-1 and so on;
// a single one is called name. The error is a *TooLargeError.
func PackFewest(name string, d *Document, limit int) ([]Packed, error) {
	whole := d.clone()
	pieces, err := cutAll(name, whole, limit, longestSize)
	if err != nil {
		return nil, err
	}
	base := longestSize(whole.holding())
	least, total := 1, 0
	for _, st := range pieces {
		total += longestStatement(&st) + len(",")
	}
	if room := limit - base + len(","); total > 0 {
		least = (total + room - 1) / room
	}
	bins := firstFit(whole, pieces, limit)
	if len(bins) > least {
		if filled := fill(whole, pieces, limit); len(filled) < len(bins) {
			bins = filled
		}
	}
	out := make([]Packed, 0, len(bins))
	for i, statements := range bins {
		p := Packed{Name: name, Document: whole.holding(statements...)}
		if len(bins) > 1 {
			p.Name += "-" + strconv.Itoa(i+1)
		}
		p.Document.Name, p.Size = p.Name, p.Document.Size()
		out = append(out, p)
	}
	return out, nil
}

// firstFit puts the largest statement first; within a policy they are in the
// document's order.
func firstFit(d *Document, statements []Statement, limit int) [][]Statement {
	order := make([]int, len(statements))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(longestStatement(&statements[b]), longestStatement(&statements[a]))
	})
	type bin struct {
		size    int
		members []int
	}
	empty := longestSize(d.holding())
	var bins []bin
	for _, i := range order {
		need := longestStatement(&statements[i])
		at := slices.IndexFunc(bins, func(b bin) bool { return b.size+len(",")+need <= limit })
		if at < 0 {
			bins = append(bins, bin{empty + need, []int{i}})
			continue
		}
		bins[at].size += len(",") + need
		bins[at].members = append(bins[at].members, i)
	}
	out := make([][]Statement, 0, max(1, len(bins)))
	for _, b := range bins {
		slices.Sort(b.members)
		var list []Statement
		for _, i := range b.members {
			list = append(list, statements[i])
		}
		out = append(out, list)
	}
	if len(out) == 0 {
		out = append(out, nil)
	}
	return out
}

// fill fills one policy after the other, cutting the statement that does not
// fit in full.
func fill(d *Document, statements []Statement, limit int) [][]Statement {
	empty := longestSize(d.holding())
	var out [][]Statement
	var now []Statement
	used := empty
	for _, st := range statements {
		for {
			separator := min(1, len(now))
			if used+separator+longestStatement(&st) <= limit {
				now = append(now, st)
				used += separator + longestStatement(&st)
				break
			}
			first, rest, ok := cutTo(st, limit-used-separator)
			if ok {
				now = append(now, first)
				st = rest
			}
			out = append(out, now)
			now, used = nil, empty
		}
	}
	return append(out, now)
}

// cutTo divides a statement so that the first piece has at most size
// characters and is as large as can be; false where no piece is that small.
func cutTo(st Statement, size int) (first, rest Statement, ok bool) {
	st = st.clone()
	for _, list := range []func(*Statement) *[]string{actionList, resourceList} {
		all := *list(&st)
		for n := len(all) - 1; n > 0; n-- {
			first, rest := st.clone(), st.clone()
			*list(&first), *list(&rest) = slices.Clone(all[:n]), slices.Clone(all[n:])
			if longestStatement(&first) <= size {
				rest.Sid = "" // Sids are unique
				return first, rest, true
			}
		}
	}
	return Statement{}, Statement{}, false
}

func actionList(st *Statement) *[]string   { return &st.Action }
func resourceList(st *Statement) *[]string { return &st.Resource }

// cutAll returns the statements of d, those that no policy holds in halves.
func cutAll(name string, d *Document, limit int, size func(*Document) int) ([]Statement, error) {
	var out []Statement
	for i, st := range d.Statements {
		queue := []Statement{st}
		for len(queue) > 0 {
			st := queue[0]
			queue = queue[1:]
			alone := size(d.holding(st))
			if alone <= limit {
				out = append(out, st)
				continue
			}
			list := actionList
			if len(st.Action) < 2 {
				list = resourceList
			}
			all := *list(&st)
			if len(all) < 2 {
				return nil, &TooLargeError{Name: name, Statement: i, Size: alone, Limit: limit}
			}
			first, rest := st.clone(), st.clone()
			*list(&first), *list(&rest) = slices.Clone(all[:len(all)/2]), slices.Clone(all[len(all)/2:])
			rest.Sid = ""
			queue = append([]Statement{first, rest}, queue...)
		}
	}
	return out, nil
}

// placed is a statement with the digest that decides where it goes.
type placed struct {
	statement Statement
	digest    uint64
}

// placesOf gives every statement the digest of what identifies it.
func placesOf(statements []Statement) []placed {
	seen := map[string]int{}
	out := make([]placed, 0, len(statements))
	for _, st := range statements {
		action, resource := first(st.Action, st.NotAction), first(st.Resource, st.NotResource)
		self := "sid " + st.Sid
		if st.Sid == "" {
			self = strings.ToLower(action) + " " + longest(resource)
		}
		seen[self]++
		if n := seen[self]; n > 1 {
			self += " " + strconv.Itoa(n)
		}
		sum := sha256.Sum256([]byte(self))
		out = append(out, placed{st, binary.BigEndian.Uint64(sum[:])})
	}
	return out
}

func first(lists ...[]string) string {
	for _, l := range lists {
		if len(l) > 0 {
			return l[0]
		}
	}
	return ""
}

// halve makes one policy of list if it fits, and otherwise of each half. Where
// one half is empty the other keeps the name.
func halve(name string, d *Document, list []placed, limit, depth int) []Packed {
	statements := make([]Statement, 0, len(list))
	for _, p := range list {
		statements = append(statements, p.statement)
	}
	if doc := d.holding(statements...); longestSize(doc) <= limit || len(list) == 1 {
		return []Packed{{Name: name, Document: doc, Size: doc.Size()}}
	}
	if depth == 64 { // statements of one digest: not to be expected
		half := len(list) / 2
		return slices.Concat(halve(name+"-a", d, list[:half], limit, depth), halve(name+"-b", d, list[half:], limit, depth))
	}
	var left, right []placed
	for _, p := range list {
		if p.digest>>(63-depth)&1 == 0 {
			left = append(left, p)
		} else {
			right = append(right, p)
		}
	}
	switch {
	case len(left) == 0:
		return halve(name, d, right, limit, depth+1)
	case len(right) == 0:
		return halve(name, d, left, limit, depth+1)
	}
	return slices.Concat(halve(name+"-a", d, left, limit, depth+1), halve(name+"-b", d, right, limit, depth+1))
}

// The longest names that AWS has for a partition and a region, in length.
const (
	longestPartition = "aws-us-gov"
	longestRegion    = "ap-northeast-1"
)

var (
	regionName   = regexp.MustCompile(`\b(?:af|ap|ca|cn|eu|eusc|il|me|mx|sa|us)(?:-[a-z]+)+-[0-9]\b`)
	arnPartition = regexp.MustCompile(`\barn:aws[a-z-]*:`)
)

// longest is s with region and partition in the longest names.
func longest(s string) string {
	s = arnPartition.ReplaceAllString(s, "arn:"+longestPartition+":")
	return regionName.ReplaceAllString(s, longestRegion)
}

func longestSize(d *Document) int { return LongestSize(d.Text()) }

func longestStatement(st *Statement) int { return LongestSize([]byte(statementText(st))) }

// LongestSize is how many characters text has where the names of region and
// partition are the longest that AWS has.
func LongestSize(text []byte) int { return utf8.RuneCountInString(longest(string(text))) }

// holding is the document with other statements.
func (d *Document) holding(statements ...Statement) *Document {
	return &Document{Name: d.Name, Version: d.Version, ID: d.ID, Statements: statements}
}

func (d *Document) clone() *Document {
	out := d.holding()
	for _, st := range d.Statements {
		out.Statements = append(out.Statements, st.clone())
	}
	return out
}
