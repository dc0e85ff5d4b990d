package awsidentity

import (
	"slices"
	"strings"
)

// tagged is a kind of thing that has tags: how a call finds the one that it
// names, to read and to change, where its tags are, and how it is kept.
type tagged[T any] struct {
	find   func(*call) (*T, error)
	change func(*call) (*T, error)
	tags   func(*T) *[]Tag
	save   func(*call, *T) error
}

var (
	taggedRole     = tagged[role]{(*call).role, (*call).changeable, func(r *role) *[]Tag { return &r.Tags }, (*call).save}
	taggedPolicy   = tagged[policy]{(*call).policy, (*call).ownPolicy, func(p *policy) *[]Tag { return &p.Tags }, (*call).savePolicy}
	taggedProfile  = tagged[profile]{(*call).profile, (*call).profile, func(p *profile) *[]Tag { return &p.Tags }, (*call).saveProfile}
	taggedProvider = tagged[provider]{(*call).provider, (*call).provider, func(p *provider) *[]Tag { return &p.Tags }, (*call).saveProvider}
	taggedUser     = tagged[user]{(*call).user, (*call).user, func(u *user) *[]Tag { return &u.Tags }, (*call).saveUser}
)

// add is every Tag… operation.
func (t tagged[T]) add(c *call) (any, error) {
	thing, err := t.change(c)
	if err != nil {
		return nil, err
	}
	tags := t.tags(thing)
	if *tags, err = c.addTags(*tags); err != nil {
		return nil, err
	}
	return nil, t.save(c, thing)
}

// remove is every Untag… operation.
func (t tagged[T]) remove(c *call) (any, error) {
	thing, err := t.change(c)
	if err != nil {
		return nil, err
	}
	tags := t.tags(thing)
	*tags = withoutTags(*tags, c.p.list("TagKeys"))
	return nil, t.save(c, thing)
}

// list is every List…Tags operation.
func (t tagged[T]) list(c *call) (any, error) {
	thing, err := t.find(c)
	if err != nil {
		return nil, err
	}
	return c.listTags(*t.tags(thing))
}

// addTags joins the tags of the call to those that a thing has.
func (c *call) addTags(have []Tag) ([]Tag, error) {
	add := c.p.tags("Tags")
	if err := checkTags(add, maxTags); err != nil {
		return nil, err
	}
	all := mergeTags(have, add)
	return all, checkTags(all, maxTags)
}

// listTags is a page of tags, by key.
func (c *call) listTags(tags []Tag) (any, error) {
	tags = slices.Clone(tags)
	slices.SortFunc(tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	tags, end, err := cut(c, tags, func(t Tag) string { return t.Key })
	if err != nil {
		return nil, err
	}
	return struct {
		Tags members[Tag]
		page
	}{members[Tag]{tags}, end}, nil
}
